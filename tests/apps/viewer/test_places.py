"""Finding a text in a session, and pages that begin at a message."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent
from tests.support.segments import converse

Document = dict[str, Any]

URL = "/api/v1/sessions/s-1"


def places(items: list[Document]) -> list[tuple[str, int | None]]:
    return [(item.get("agent_id") or item["type"], item.get("message_id")) for item in items]


def two_agents() -> Document:
    """Return a session of two agents that speak in turns, with a feedback and an error in between."""
    messages = {
        agent: [message("user", f"{agent} {number}", minute=2 * number + late) for number in range(20)]
        for agent, late in (("a", 0), ("b.c", 1))
    }
    document = session("s-1", agents=messages)
    document["feedbacks"] = [{"rating": "up", "created_at": START + timedelta(minutes=20.5)}]
    document["errors"] = [{"timestamp": START + timedelta(minutes=21.5), "agent_id": "a", "error": "ValueError"}]
    document["summary"]["errors"] = 1
    return document


async def test_a_page_begins_just_before_a_message_and_goes_on_both_ways(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(two_agents())
    whole = await viewer.timeline(URL)

    page = await viewer.get(URL, agent_id="a", message_id=10, limit=10)
    before = await viewer.timeline(URL, cursor=page["previous_cursor"], order="desc", limit=5)
    after = await viewer.timeline(URL, cursor=page["next_cursor"], limit=5)

    assert places(page["timeline"])[:7] == [("a", 7), ("b.c", 7), ("a", 8), ("b.c", 8), ("a", 9), ("b.c", 9), ("a", 10)]
    assert [*reversed(before), *page["timeline"], *after] == whole


async def test_the_first_message_has_nothing_before_it(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(two_agents())

    page = await viewer.get(URL, agent_id="a", message_id=0, limit=5)

    assert places(page["timeline"])[0] == ("a", 0)
    assert page["previous_cursor"] is None


async def test_there_is_no_place_for_a_message_that_does_not_exist(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(two_agents())

    assert "no such message" in await viewer.problem(URL, 404, agent_id="a", message_id=20)
    assert "no such message" in await viewer.problem(URL, 404, agent_id="z", message_id=0)
    assert "session" in await viewer.problem("/api/v1/sessions/s-2", 404, agent_id="a", message_id=0)


async def test_messages_of_older_tools_have_places_too(viewer: Viewer, sessions: Sessions) -> None:
    messages = [
        {"message_id": 5 * number, "message": {"role": "user", "content": f"hello {number}"}} for number in range(9)
    ]
    agent = {"agent_data": {"agent_id": "a"}, "messages": messages}
    sessions.raw.insert_one({"_id": "s-1", "created_at": START, "agents": {"a": agent}})

    page = await viewer.get(URL, agent_id="a", message_id=30, limit=4)
    found = await viewer.get(f"{URL}/find", text="HELLO 6")

    assert places(page["timeline"]) == [("a", 15), ("a", 20), ("a", 25), ("a", 30)]
    assert [(item["agent_id"], item["message_id"]) for item in found["found"]] == [("a", 30)]


async def test_sealed_messages_are_found_and_have_places(viewer: Viewer, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(120), at_once=True, size=1500)
    stored = await viewer.timeline(URL, limit=200)
    assert sessions.raw.find_one({"_id": "s-1"})["agents"]["a"]["archived_count"] > 20  # type: ignore[index]
    said = [json.dumps(item["content"]) for item in stored]
    text = stored[4]["content"][0]["text"][:12]

    page = await viewer.get(URL, agent_id="a", message_id=4, limit=3)
    found = await viewer.get(f"{URL}/find", text=text)

    assert places(page["timeline"]) == [("a", 1), ("a", 2), ("a", 3)]
    expected = [number for number, content in enumerate(said) if text in content]
    assert [item["message_id"] for item in found["found"]] == expected
    assert found["complete"]


async def test_what_is_found_is_in_the_order_in_which_it_was_said(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(two_agents())

    found = (await viewer.get(f"{URL}/find", text="1"))["found"]

    assert [item["excerpt"] for item in found][:4] == ["a 1", "b.c 1", "a 10", "b.c 10"]
    assert "NUL" in await viewer.problem(f"{URL}/find", text="\x00")
    await viewer.get(f"{URL}/find", 422)
    await viewer.get("/api/v1/sessions/s-2/find", 404, text="x")


async def test_failed_turns_stand_in_the_timeline_the_last_ones(viewer: Viewer, sessions: Sessions) -> None:
    document = session("s-1", agents={"a": [message("user", f"m{number}", minute=number) for number in range(130)]})
    document["errors"] = [
        {"timestamp": START + timedelta(minutes=number + 0.5), "agent_id": "a", "error": f"Error{number}"}
        for number in range(30, 130)
    ]
    document["summary"]["errors"] = 130
    sessions.raw.insert_one(document)

    forwards = await viewer.timeline(URL, limit=17)
    backwards = await viewer.timeline(URL, limit=17, order="desc")
    detail = await viewer.get(URL)

    errors = [item for item in forwards if item["type"] == "error"]
    assert [item["error"] for item in errors] == [f"Error{number}" for number in range(30, 130)]
    assert errors[0] == {
        "type": "error",
        "timestamp": "2026-03-01T12:30:30.000Z",
        "agent_id": "a",
        "error": "Error30",
        "problem": None,
    }
    assert forwards == backwards[::-1]
    assert detail["errors_count"] == 130
    markdown = (await viewer.client.get(f"{URL}/export", params={"format": "markdown"})).text
    assert markdown.count("### Failed turn") == 100


async def test_what_is_no_failed_turn_breaks_nothing(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1") | {"errors": ["text", {"error": 5}, None]})
    sessions.raw.insert_one(session("s-2") | {"errors": "text"})

    assert [item["problem"] for item in await viewer.timeline(URL)] == ["it does not say which error"] * 3
    assert await viewer.timeline("/api/v1/sessions/s-2") == []
