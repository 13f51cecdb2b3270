"""Finding sessions by what was said in them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from mongodb_session_manager.web import text_search
from tests.apps.viewer.conftest import SEARCH, Viewer
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Sessions

Document = dict[str, Any]


def said(session_id: str, *texts: str, hour: float = 0, **fields: Any) -> Document:
    """Return a session in which that was said, by user and assistant in turns."""
    messages = [message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]
    return {**session(session_id, created=START + timedelta(hours=hour), agents={"a": messages}), **fields}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lamp", ["title", "answer", "question"]),
        ("LAMP", ["title", "answer", "question"]),
        ("l.mp", []),
        ("costs (20 €)*", ["signs"]),
        ("COSTS (20", ["signs"]),
        ("straße", ["signs"]),
        ("Café", ["composed", "decomposed"]),
        ("Cafe\u0301", ["composed", "decomposed"]),
        ("text", []),
        ("support", []),
    ],
)
async def test_a_text_is_found_literally_whatever_its_case(
    viewer: Viewer, sessions: Sessions, text: str, expected: list[str]
) -> None:
    sessions.raw.insert_many(
        [
            said("question", "Which lamp?", "None.", hour=1),
            said("answer", "Which one?", "The LAMP with the shade.", hour=2),
            said("title", "Hm", hour=3, title="Lamps"),
            said("signs", "it costs (20 €)* in the Straße", hour=4),
            said("decomposed", "the cafe\u0301 there", hour=5),
            said("composed", "the café there", hour=6),
        ]
    )

    page = await viewer.search(text=text)

    assert [entry["session_id"] for entry in page["sessions"]] == expected
    assert (page["searched"], page["has_more"], page["next_cursor"]) == (6, False, None)
    assert page["searched_until"] == "2026-03-01T13:00:00.000Z"
    assert page["searched_bytes"] > 1000


async def test_a_hit_says_where_it_stands(viewer: Viewer, sessions: Sessions) -> None:
    long = "x" * 300 + " the needle is here " + "y" * 300
    document = session(
        "s", agents={"a": [message("user", "hay")], "b.c": [message("user", "hay"), message("user", long)]}
    )
    sessions.raw.insert_many([document, said("t", "hay", title="A Needle")])

    found = {entry["session_id"]: entry["hit"] for entry in (await viewer.search(text="NEEDLE"))["sessions"]}

    assert (found["s"]["agent_id"], found["s"]["message_id"]) == ("b.c", 1)
    assert "the needle is here" in found["s"]["excerpt"]
    assert len(found["s"]["excerpt"]) < 250
    assert found["t"] == {"agent_id": None, "message_id": None, "excerpt": "A Needle"}


async def test_every_form_that_older_tools_left_is_looked_through(viewer: Viewer, sessions: Sessions) -> None:
    def stored(session_id: str, messages: Any) -> Document:
        agent = {"agent_data": {"agent_id": "a"}, "messages": messages}
        return {"_id": session_id, "created_at": START, "agents": {"a": agent}}

    sessions.raw.insert_many(
        [
            stored("nested", [{"message_id": 0, "message": {"role": "user", "content": [{"text": "needle"}]}}]),
            stored("plain", [{"message_id": 0, "message": {"role": "user", "content": "a needle"}}]),
            stored("odd", ["needle", None, {"content": 5}, {"content": [None, "x", {"text": 7}]}]),
            stored("none", "needle"),
            {"_id": "no agents", "agents": "needle"},
            {"_id": "nothing"},
        ]
    )

    assert sorted(await viewer.found(text="needle")) == ["nested", "plain"]


@pytest.mark.parametrize(
    "replaced",
    [{"role": "user", "content": [{"text": "[removed]"}]}, {"content": "[removed]"}, "[removed]"],
    ids=["blocks", "text", "nothing but text"],
)
async def test_what_was_redacted_is_not_found_but_its_replacement(
    viewer: Viewer, sessions: Sessions, replaced: Any
) -> None:
    sessions.raw.insert_one(session("s", agents={"a": [message("user", "my card is 4111", redact_message=replaced)]}))

    assert await viewer.found(text="4111") == []
    assert await viewer.found(text="[removed]") == ["s"]


@pytest.mark.parametrize("replaced", [{"role": "user"}, {}, 7])
async def test_a_redaction_without_a_replacement_hides_the_original_too(
    viewer: Viewer, sessions: Sessions, replaced: Any
) -> None:
    sessions.raw.insert_one(session("s", agents={"a": [message("user", "my card is 4111", redact_message=replaced)]}))

    assert await viewer.found(text="4111") == []


async def test_sealed_messages_are_looked_through_those_that_count(viewer: Viewer, sessions: Sessions) -> None:
    document = session("long", agents={"a": [message("user", "the end")]})
    document["agents"]["a"] |= {"archived_count": 3, "archive": {"id": "x", "token": "t2"}}
    sessions.raw.insert_many([document, said("short", "the end")])
    common = {"session_id": "long", "incarnation": document["incarnation"], "list": "messages", "agent": "a"}

    def segment(start: int, text: str, **fields: Any) -> Document:
        items = [{"message_id": start, **message("user", text)}]
        return {
            **common,
            "archive": "x",
            "start": start,
            "token": f"t{start}",
            "committed": True,
            "items": items,
            **fields,
        }

    # As another tool may have left them.
    of_no_agent, without_token = segment(6, "of no agent"), segment(7, "without a token", committed=False)
    del of_no_agent["agent"], without_token["token"]
    sessions.raw.database[f"{COLLECTION}_segments"].insert_many(
        [
            of_no_agent,
            without_token,
            segment(0, "committed"),
            segment(2, "named by the document", committed=False),
            segment(3, "abandoned", committed=False),
            segment(4, "of another agent", archive="y"),
            segment(5, "of another incarnation", incarnation="z"),
        ]
    )

    (entry,) = (await viewer.search(text="committed"))["sessions"]
    assert entry["hit"] == {"agent_id": "a", "message_id": 0, "excerpt": "committed"}
    assert await viewer.found(text="named by") == ["long"]
    for text in ("abandoned", "of another agent", "of another incarnation", "of no agent", "without a token"):
        assert await viewer.found(text=text) == []


async def test_a_search_goes_on_where_it_ended(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many(
        said(f"s-{number:03}", "a needle" if number % 7 == 0 else "hay", hour=number) for number in range(100)
    )
    expected = [f"s-{number:03}" for number in reversed(range(0, 100, 7))]
    found: list[str] = []
    searched = 0
    params: Document = {}
    while True:
        page = await viewer.search(text="needle", limit=4, **params)
        found += [entry["session_id"] for entry in page["sessions"]]
        searched += page["searched"]
        if page["next_cursor"] is None:
            break
        assert page["has_more"]
        params = {"cursor": page["next_cursor"]}

    assert found == expected
    assert searched == 100


async def test_the_other_conditions_narrow_what_is_looked_through(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many(said(f"s-{number}", "needle", hour=number) for number in range(9))

    page = await viewer.search(text="needle", session_id="s-", created_at_start="2026-03-01T18:00:00Z", sort="updated")

    assert [entry["session_id"] for entry in page["sessions"]] == ["s-8", "s-7", "s-6"]
    assert page["searched"] == 3


async def test_a_call_ends_in_time_and_says_how_far_it_came(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "LOOK_S", text_search.SPARE_S)  # over before it begins: one slice each
    sessions.raw.insert_many(said(f"s-{number:03}", "hay", hour=number) for number in range(20))

    first = await viewer.search(text="needle")
    second = await viewer.search(text="needle", cursor=first["next_cursor"])

    assert (first["searched"], first["searched_until"]) == (8, "2026-03-02T00:00:00.000Z")
    assert (second["searched"], second["searched_until"]) == (8, "2026-03-01T16:00:00.000Z")
    assert first["has_more"]
    assert first["sessions"] == []


async def test_a_session_too_large_for_a_call_is_passed_over_and_counted(
    viewer: Viewer, sessions: Sessions, mongo_client: Any
) -> None:
    sessions.raw.insert_many([said("a", "needle", hour=1), said("b", "needle")])

    with fail_point(mongo_client, {"times": 2}, {"failCommands": ["aggregate"], "errorCode": 50}):
        page = await viewer.search(text="needle")

    assert [entry["session_id"] for entry in page["sessions"]] == ["b"]
    assert (page["skipped"], page["searched"]) == (1, 2)


async def test_bad_input_is_refused(viewer: Viewer) -> None:
    assert "NUL" in await viewer.problem(SEARCH, text="a\x00")
    assert "text" in json.dumps(await viewer.get(SEARCH, 422, text="x" * 257))
    assert "cursor" in await viewer.problem(SEARCH, text="x", cursor="nonsense")
    assert "cursor" in await viewer.problem(SEARCH, text="x", offset=3)
