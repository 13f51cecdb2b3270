from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from bson import Int64
from pymongo import MongoClient
from strands import tool

from mongodb_session_manager.viewer.samples.pictures import bar_chart
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent
from tests.support.models import blocked, calls
from tests.support.segments import converse, segments

Document = dict[str, Any]

URL = "/api/v1/sessions/s-1"


def texts(items: list[Document]) -> list[str]:
    """Return what each item says, in short."""
    return [
        "".join(block.get("text", "") for block in item["content"]) if item["type"] == "message" else item["type"]
        for item in items
    ]


async def test_messages_of_all_agents_feedback_and_guardrail_events_are_merged_by_time(
    viewer: Viewer, sessions: Sessions
) -> None:
    document = session(
        "s-1",
        agents={
            "sales.eu": [message("user", "one", minute=1), message("assistant", "three", minute=3)],
            "support": [message("user", "two", minute=2), message("assistant", "six", minute=6)],
        },
    )
    document["feedbacks"] = [{"rating": "up", "comment": "good", "page": 4, "created_at": START + timedelta(minutes=4)}]
    document["guardrail_events"] = [
        {"agent_id": "support", "message_id": 0, "action": "BLOCKED", "timestamp": START + timedelta(minutes=5)}
    ]
    sessions.raw.insert_one(document)

    detail = await viewer.get(URL)

    assert texts(detail["timeline"]) == ["one", "two", "three", "feedback", "guardrail", "six"]
    assert detail["next_cursor"] is None
    assert detail["counts"] == {"messages": 4, "feedbacks": 1, "guardrails": 1}
    assert [agent["agent_id"] for agent in detail["agents_summary"]] == ["sales.eu", "support"]
    assert detail["timeline"][3] == {
        "type": "feedback",
        "timestamp": "2026-03-01T12:04:00.000Z",
        "rating": "up",
        "comment": "good",
        "extra": {"page": 4},
        "problem": None,
    }
    assert detail["timeline"][4]["action"] == "BLOCKED"
    newest = await viewer.get(URL, order="desc")
    assert newest["timeline"] == detail["timeline"][::-1]


async def test_pages_of_a_session_with_segments_show_everything_once_in_either_order(
    viewer: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager() as manager:
        left = make_agent(manager, agent_id="left")
        right = make_agent(manager, agent_id="right")
        for start in range(0, 60, 10):
            await converse(manager, left, range(start, start + 10), at_once=True)
            await converse(manager, right, range(100 + start, 100 + start + 10), at_once=True)
            await manager.add_feedback({"rating": "up", "comment": f"after {start}"})
    sealed = segments(mongo_client[sessions.database_name])

    whole = await viewer.timeline(URL, limit=200)
    forwards = await viewer.timeline(URL, limit=7)
    backwards = await viewer.timeline(URL, limit=7, order="desc")

    assert {segment["agent"] for segment in sealed} == {"left", "right"}
    assert len(whole) == 126
    assert forwards == whole
    assert backwards == whole[::-1]
    for name in ("left", "right"):
        numbers = [item["message_id"] for item in whole if item.get("agent_id") == name]
        assert numbers == list(range(60))
    assert [item["comment"] for item in whole if item["type"] == "feedback"] == [f"after {n}" for n in range(0, 60, 10)]
    one = await viewer.get(f"{URL}/message", agent_id="left", message_id=3)
    assert one["message"]["content"][0]["text"].startswith("message 3 ")


async def test_a_cursor_stays_true_while_the_session_goes_on_and_is_sealed(
    viewer: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager)
        await converse(manager, agent, range(20), at_once=True)
        first = await viewer.get(URL, limit=15)
        newest = await viewer.get(URL, limit=5, order="desc")
        await converse(manager, agent, range(20, 80), at_once=True)
    assert segments(mongo_client[sessions.database_name])

    rest = await viewer.timeline(URL, limit=50, cursor=first["next_cursor"])
    live = await viewer.timeline(URL, limit=50, cursor=first["live_cursor"])
    older = await viewer.get(URL, limit=50, order="desc", cursor=newest["next_cursor"])

    assert [item["message_id"] for item in rest] == list(range(15, 80))
    assert [item["message_id"] for item in live] == list(range(20, 80))
    assert [item["message_id"] for item in older["timeline"]] == list(range(14, -1, -1))


async def test_what_a_real_agent_stored_is_shown_with_its_tools_tokens_and_totals(
    viewer: Viewer, sessions: Sessions
) -> None:
    def look_up(city: str) -> str:
        """Look a city up.

        Args:
            city: Its name.
        """
        return f"{city} has rain"

    async with sessions.manager() as manager:
        agent = make_agent(manager, calls(("look_up", {"city": "Lisbon"})), "It rains.", tools=[tool(look_up)])
        await agent.invoke_async("How is the weather?")

    detail = await viewer.get(URL)
    question, call, result, reply = detail["timeline"]

    assert (question["role"], texts([question])) == ("user", ["How is the weather?"])
    assert call["content"] == [
        {
            "type": "tool_use",
            "tool_use_id": call["content"][0]["tool_use_id"],
            "name": "look_up",
            "input": {"city": "Lisbon"},
        }
    ]
    assert result["content"][0]["status"] == "success"
    assert result["content"][0]["content"] == [{"type": "text", "text": "Lisbon has rain", "cut": 0}]
    assert texts([reply]) == ["It rains."]
    # Strands measures it itself where that takes a millisecond, as on a busy machine.
    first_byte_ms = agent.messages[-1]["metadata"]["metrics"]["timeToFirstByteMs"]
    assert (reply["metrics"]["input_tokens"], reply["metrics"]["time_to_first_byte_ms"]) == (10, first_byte_ms)
    assert reply["metrics"]["accumulated"] is False
    assert detail["usage"]["total_tokens"] == 30
    assert detail["usage"]["tools"]["look_up"]["call_count"] == 1
    series = await viewer.get(f"{URL}/usage")
    assert series["complete"]
    assert [(point["message_id"], point["input_tokens"], point["latency_ms"]) for point in series["points"]] == [
        (1, 10, 20),
        (3, 10, 20),
    ]


async def test_of_a_redacted_message_only_the_replacement_is_shown_anywhere(viewer: Viewer, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, blocked(user="[removed]", text="I cannot take that."))
        await agent.invoke_async("my card is 4000 1234")
    # An older tool kept the original beside the replacement.
    old = session("s-2", agents={"a": [message("user", "my card is 4000 1234")]})
    old["agents"]["a"]["messages"][0]["redact_message"] = {"role": "user", "content": [{"text": "[removed]"}]}
    broken = {"message_id": 1, "role": 5, "content": "card 4000 1234", "redact_message": {"content": "[removed]"}}
    old["agents"]["a"]["messages"].append(broken)
    sessions.raw.insert_one(old)

    for name in ("s-1", "s-2"):
        url = f"/api/v1/sessions/{name}"
        detail = await viewer.get(url)
        agent_id = detail["agents_summary"][0]["agent_id"]
        answers = [
            json.dumps(detail),
            json.dumps(await viewer.get(f"{url}/message", agent_id=agent_id, message_id=0)),
            *[(await viewer.client.get(f"{url}/export?format={kind}")).text for kind in ("json", "jsonl", "markdown")],
        ]
        assert detail["timeline"][0]["redacted"] is True
        assert texts(detail["timeline"])[0] == "[removed]"
        assert not any("4000 1234" in answer for answer in answers)


async def test_images_come_from_an_address_of_their_own_that_gives_raster_images_only(
    viewer: Viewer, sessions: Sessions
) -> None:
    picture = bar_chart((0.5, 1.0))
    large = bar_chart((0.5,)) + bytes(300 * 1024)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

    def image(data: bytes, kind: str = "png") -> Document:
        return {"image": {"format": kind, "source": {"bytes": data}}}

    @tool
    def draw() -> Document:
        """Draw."""
        return {"status": "success", "content": [{"text": "see"}, image(picture)]}

    content = [image(picture), image(large), image(svg, "svg"), image(svg), image(b"GIF89a", "gif")]
    content.append({"image": {"format": "png", "source": {"location": {"type": "s3", "uri": "s3://bucket/key"}}}})
    async with sessions.manager() as manager:
        agent = make_agent(manager, calls(("draw", {})), "ok", tools=[draw])
        await agent.invoke_async(content)  # type: ignore[arg-type]

    items = (await viewer.get(URL))["timeline"]
    blocks, result = items[0]["content"], items[2]["content"][0]
    urls = [block.get("url") for block in blocks]
    shown = await viewer.client.get(urls[0])

    assert blocks[0] == {"type": "image", "format": "png", "size": len(picture), "url": urls[0], "source": None}
    assert shown.content == picture
    assert shown.headers["Content-Type"] == "image/png"
    assert "sandbox" in shown.headers["Content-Security-Policy"]
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Cache-Control"] == "no-store"
    assert (await viewer.client.get(result["content"][1]["url"])).content == picture
    # Stored outside the document.
    assert blocks[1]["size"] == len(large)
    assert (await viewer.client.get(urls[1])).content == large
    # Neither by what it says it is nor by what it is.
    assert urls[2] is None
    assert (await viewer.client.get(urls[0].replace("place=0", "place=2"))).status_code == 404
    assert (await viewer.client.get(urls[3])).status_code == 404
    assert (await viewer.client.get(urls[4])).headers["Content-Type"] == "image/gif"
    assert (urls[5], blocks[5]["source"]) == (None, "s3://bucket/key")


async def test_long_texts_are_cut_until_they_are_asked_for(viewer: Viewer, sessions: Sessions) -> None:
    long = "x" * 100_000
    use = {"toolUse": {"toolUseId": "t", "name": "n", "input": {"text": long, "list": list(range(5000))}}}
    sessions.raw.insert_one(session("s-1", agents={"a": [message("assistant", [{"text": long}, use])]}))

    answer = await viewer.client.get(URL)
    item = answer.json()["timeline"][0]
    whole = (await viewer.get(f"{URL}/message", agent_id="a", message_id=0))["message"]

    assert len(answer.content) < 100_000
    assert item["cut"] is True
    assert item["content"][0]["cut"] == 100_000 - len(item["content"][0]["text"]) > 0
    assert item["content"][1]["input"]["text"].endswith(" characters)")
    assert len(item["content"][1]["input"]["list"]) <= 2001
    assert whole["cut"] is False
    assert whole["content"][0]["text"] == long
    assert whole["content"][1]["input"] == use["toolUse"]["input"]


ODD: list[Any] = [
    message("user", "fine", minute=1),
    "just text",
    None,
    {"role": "user"},
    {"role": "martian", "content": "unknown role", "created_at": START},
    {"role": "assistant", "content": [{"text": 5}, 7, {"hologram": b"123"}, {"text": "no date"}]},
    {"role": "user", "content": [{"text": "long ago"}], "created_at": "a while ago"},
    {"message": {"role": "user", "content": "nested"}, "message_id": 7, "created_at": "2026-03-01T12:02:00"},
    {
        "role": "assistant",
        "content": [{"toolResult": "broken"}, {"toolUse": None}, {"image": 1}, {"reasoningContent": {}}],
    },
    message("assistant", "metrics", minute=9, metadata={"usage": {"inputTokens": "many"}}, event_loop_metrics="none"),
    message("user", "event", minute=10, guardrail_event={"action": 5, "policies_triggered": {"p": 7, "q": ["a", 2]}}),
]


@pytest.mark.parametrize("current", [True, False], ids=["today's document", "an older tool's"])
async def test_odd_messages_are_shown_as_such(viewer: Viewer, sessions: Sessions, current: bool) -> None:
    document = session("s-1", agents={"a": ODD})
    document["feedbacks"] = ["text", {"rating": {"deep": True}, "comment": 5, "created_at": "never"}, None]
    document["guardrail_events"] = [7, {"message_id": "x", "timestamp": None, "agent_id": ["a"]}]
    if not current:
        for name in ("schema_version", "incarnation", "applied", "summary"):
            del document[name]
    sessions.raw.insert_one(document)

    items = await viewer.timeline(URL, limit=3)

    assert len(items) == len(ODD) + 5
    messages = [item for item in items if item["type"] == "message"]
    assert [item["message_id"] for item in messages] == list(range(len(ODD)))
    problems = {item["message_id"] for item in messages if item["problem"]}
    assert problems == {1, 2, 3, 5}
    said = {item["message_id"]: texts([item])[0] for item in messages}
    assert (said[0], said[4], said[6], said[7]) == ("fine", "unknown role", "long ago", "nested")
    assert messages[4]["role"] == "martian"
    assert messages[6]["timestamp"] is None
    assert messages[7]["timestamp"] == "2026-03-01T12:02:00.000Z"
    assert {block["type"] for block in messages[8]["content"]} == {"unknown"}
    assert messages[9]["metrics"] is None
    assert messages[10]["guardrail"]["policies_triggered"] == {"p": ["7"], "q": ["a", "2"]}
    assert (await viewer.get(f"{URL}/usage"))["points"] == []
    for kind in ("json", "jsonl", "markdown"):
        assert (await viewer.client.get(f"{URL}/export?format={kind}")).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"agents": "text"},
        {"agents": {"a": 5, "b": {"messages": "text"}, "c": {"agent_data": []}}},
        {"agents": [1, 2]},
        {"feedbacks": {"rating": "up"}},
        {"guardrail_events": "text"},
        {"metadata": ["x"], "summary": 5, "application_name": {"x": 1}},
        {"created_at": "long ago", "updated_at": 5},
        {"schema_version": "two"},
        {"feedbacks_sealed": "x", "guardrail_events_sealed": {"archived_count": 0}},
    ],
    ids=lambda change: ",".join(change),
)
async def test_a_document_that_somebody_changed_by_hand_still_opens(
    viewer: Viewer, sessions: Sessions, change: Document
) -> None:
    sessions.raw.insert_one(session("s-1", agents={"a": [message("user", "hi")]}) | change)

    detail = await viewer.get(URL)

    assert detail["session_id"] == "s-1"
    assert (await viewer.search())["sessions"][0]["session_id"] == "s-1"
    await viewer.get(f"{URL}/usage")


async def test_values_that_json_cannot_say_are_rendered_as_text(viewer: Viewer, sessions: Sessions) -> None:
    odd = {"nan": float("nan"), "big": Int64(2**62), "bytes": b"1234", "date": START, "surrogate": "a\ud800b", "n": 5}
    deep: Any = "bottom"
    for _ in range(150):
        deep = [deep]
    document = session("s-1", metadata={"odd": odd, "deep": deep}, agents={"a\ud800": [message("user", "hi")]})
    sessions.raw.insert_one(document)

    metadata = (await viewer.get(URL))["metadata"]

    assert metadata["odd"] == {
        "nan": "nan",
        "big": str(2**62),
        "bytes": "(4 bytes)",
        "date": "2026-03-01T12:00:00.000Z",
        "surrogate": "a\\ud800b",
        "n": 5,
    }
    assert "…" in json.dumps(metadata["deep"], ensure_ascii=False)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"cursor": "x"}, "cursor: no page ended with it"),
        ({"cursor": "eyJvIjoiYSIsInAiOnsieCI6LTF9fQ"}, "cursor: no page ended with it"),
        ({"cursor": "eyJvIjoiZCIsInAiOnt9fQ"}, "cursor: it belongs to a page of the other order"),
        ({"limit": "201"}, "limit:"),
        ({"order": "sideways"}, "order:"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    viewer: Viewer, sessions: Sessions, params: Document, said: str
) -> None:
    sessions.raw.insert_one(session("s-1"))

    assert said in await viewer.problem(URL, **params)


async def test_what_is_not_there_is_not_found(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1", agents={"a": [message("user", "hi")]}))

    for path in (
        "/api/v1/sessions/nobody",
        "/api/v1/sessions/nobody/usage",
        "/api/v1/sessions/nobody/export",
        "/api/v1/sessions/nobody/events",
        "/api/v1/sessions/~%%%",
        f"{URL}/message?agent_id=b&message_id=0",
        f"{URL}/message?agent_id=a&message_id=1",
        f"{URL}/image?agent_id=a&message_id=0&place=0",
        f"{URL}/image?agent_id=a&message_id=9&place=0.1",
        f"{URL}/nothing",
        "/api/v1/nothing",
    ):
        answer = await viewer.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
