from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import PausingModel, playground
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import eventually
from tests.support.models import ScriptedModel, blocked


async def test_conversations_are_listed_newest_first_page_by_page(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        for number in range(5):
            await app.chat(f"s-{number}", f"This is number {number}.\nAnd more.")
        pages: list[list[dict[str, Any]]] = []
        cursor: str | None = None
        while not pages or cursor:
            query: dict[str, Any] = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
            page = (await app.client.get("/api/sessions", params=query)).json()
            pages.append(page["sessions"])
            cursor = page["next_cursor"]

    found = [session["session_id"] for page in pages for session in page]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert found == ["s-4", "s-3", "s-2", "s-1", "s-0"]
    assert pages[0][0]["title"] == "This is number 4. And more."
    assert pages[0][0]["messages_count"] == 2
    assert pages[0][0]["running"] is False


async def test_bad_questions_are_refused(sessions: Sessions) -> None:
    paths = [
        "/api/sessions?limit=0",
        "/api/sessions?limit=101",
        "/api/sessions?limit=many",
        "/api/sessions?cursor=x",
        "/api/sessions?cursor=" + "x" * 2000,
        "/api/sessions/s-1?limit=501",
        "/api/sessions/s-1?before=-1",
    ]
    async with playground(sessions) as app:
        statuses = [(await app.client.get(path)).status_code for path in paths]

    assert statuses == [422] * len(paths)


async def test_events_of_finished_replies_are_forgotten(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongodb_session_manager.playground.turns.MOST_FINISHED", 2)
    async with playground(sessions) as app:
        for number in range(4):
            await app.chat(f"s-{number}", "Hello")
        turns = app.app.state.services.turns
        await eventually(lambda: turns.kept == 2, "forgetting")
        statuses = [(await app.client.get(f"/api/sessions/s-{number}/turn")).status_code for number in range(4)]
        counted = (await app.client.get("/metrics")).json()["turns"]

        monkeypatch.setattr("mongodb_session_manager.playground.turns.KEEP_FINISHED_S", 0)
        await app.chat("s-4", "Hello")
        await eventually(lambda: turns.get("s-4") is None, "forgetting")

    assert statuses == [204, 204, 200, 200]
    assert counted == {"running": 0, "kept": 2}


async def test_a_reply_in_the_making_shows_in_the_list(sessions: Sessions) -> None:
    model = PausingModel("One.")
    async with playground(sessions, model) as app, app.stream("s-1", "x" * 500) as events:
        await anext(events)
        listed = (await app.client.get("/api/sessions")).json()["sessions"]
        model.resume.set()

    assert [(session["running"], len(session["title"])) for session in listed] == [(True, 120)]


async def test_sessions_of_other_applications_are_left_alone(sessions: Sessions) -> None:
    async with sessions.manager("theirs", application_name="shop") as manager:
        await manager.update_metadata({"order": 7})
    async with playground(sessions) as app:
        client = app.client
        listed = (await client.get("/api/sessions")).json()
        read = await client.get("/api/sessions/theirs")
        rated = await client.post("/api/sessions/theirs/feedback", json={"rating": "up"})
        deleted = await client.delete("/api/sessions/theirs")
        said = await client.post("/api/chat", json={"session_id": "theirs", "message": "Hello"})

    assert listed == {"sessions": [], "next_cursor": None}
    assert [answer.status_code for answer in (read, rated, deleted, said)] == [404, 404, 404, 409]
    assert said.json()["error"]["code"] == "other_application"
    document = sessions.document("theirs")
    assert (document["metadata"], document["feedbacks"], document["agents"]) == ({"order": 7}, [], {})


async def test_long_conversations_come_in_pages(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        for number in range(4):
            await app.chat("s-1", f"Number {number}")
        newest = await app.read("s-1", limit=3)
        earlier = await app.read("s-1", limit=3, before=newest["first"])
        none = await app.read("s-1", limit=3, before=0)

    assert (newest["messages_count"], newest["first"], earlier["first"]) == (8, 5, 2)
    ids = [message["message_id"] for message in earlier["messages"] + newest["messages"]]
    assert ids == [2, 3, 4, 5, 6, 7]
    assert none["messages"] == []


async def test_feedback_is_stored_with_what_it_is_about(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        given = {"rating": "down", "comment": "  Too short. ", "message_id": 1}
        answer = await app.client.post("/api/sessions/s-1/feedback", json=given)
        await app.client.post("/api/sessions/s-1/feedback", json={"rating": "up"})
        shown = await app.read("s-1")
        bad = [
            await app.client.post("/api/sessions/s-1/feedback", json=body)
            for body in ({}, {"rating": "so-so"}, {"rating": "up", "comment": "x" * 2001}, {"rating": "up", "x": 1})
        ]
        missing = await app.client.post("/api/sessions/nobody/feedback", json={"rating": "up"})

    assert answer.status_code == 201
    stored = [{key: value for key, value in f.items() if key != "created_at"} for f in sessions.document()["feedbacks"]]
    assert stored == [
        {"rating": "down", "comment": "Too short.", "message_id": 1},
        {"rating": "up", "comment": ""},
    ]
    assert [(f["rating"], f["comment"], f["message_id"]) for f in shown["feedbacks"]] == [
        ("down", "Too short.", 1),
        ("up", "", None),
    ]
    assert [response.status_code for response in bad] == [422] * 4
    assert missing.status_code == 404


async def test_feedback_can_be_given_while_a_reply_is_made(sessions: Sessions) -> None:
    model = PausingModel("One.", otherwise="Two.")
    async with playground(sessions, model) as app, app.stream("s-1", "Hello") as events:
        await anext(events)
        answer = await app.client.post("/api/sessions/s-1/feedback", json={"rating": "up"})
        model.resume.set()
        _ = [event async for event in events]

    assert answer.status_code == 201
    assert len(sessions.document()["feedbacks"]) == 1
    assert app.stored("s-1")[-1] == ("assistant", "One.")


async def test_a_deleted_conversation_leaves_nothing(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        deleted = await app.client.delete("/api/sessions/s-1")
        again = await app.client.delete("/api/sessions/s-1")
        read = await app.client.get("/api/sessions/s-1")
        followed = await app.client.get("/api/sessions/s-1/turn")

    statuses = [answer.status_code for answer in (deleted, again, read, followed)]
    assert statuses == [204, 404, 404, 204]
    assert sessions.raw.count_documents({}) == 0


async def test_a_redacted_message_shows_its_replacement_only(sessions: Sessions) -> None:
    async with playground(sessions, ScriptedModel(blocked(user="[withdrawn]", text="I cannot help."))) as app:
        await app.chat("s-1", "the secret thing")
        shown = await app.read("s-1")
        listed = (await app.client.get("/api/sessions")).json()

    assert shown["messages"][0]["redacted"] is True
    assert shown["messages"][0]["blocks"] == [{"type": "text", "text": "[withdrawn]"}]
    assert "secret" not in str(shown) + str(listed)


async def test_odd_things_in_a_session_are_shown_as_far_as_json_can(sessions: Sessions) -> None:
    odd = {
        "when": datetime(2026, 11, 21, tzinfo=UTC),
        "bytes": b"\x00\x01",
        "nan": float("nan"),
        "big": 2**60,
        "half": "\ud83d",
        "<script>": {"deep": [1, {"$set": 2}]},
    }
    content = [
        {"text": "Look"},
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
        {"toolUse": {"toolUseId": "t-1", "name": "<b>tool</b>", "input": {"data": b"xyz"}}},
    ]
    answer = {"toolUseId": "t-1", "status": "error", "content": [{"json": {"n": 2**60}}, {"text": "no"}]}
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        async with sessions.manager("s-1") as manager:
            await manager.update_metadata({"odd": odd})
        messages = sessions.messages(AGENT_ID, "s-1")
        more = [
            {**messages[1], "message_id": 2, "content": content},
            {**messages[0], "message_id": 3, "content": [{"toolResult": answer}]},
        ]
        path = f"agents.{AGENT_ID}"
        update = {"$push": {f"{path}.messages": {"$each": more}}, "$set": {f"{path}.next_message_id": 4}}
        sessions.raw.update_one({"_id": "s-1"}, update)
        shown = await app.read("s-1")

    assert shown["metadata"]["odd"] == {
        "when": "2026-11-21T00:00:00.000Z",
        "bytes": "(2 bytes)",
        "nan": "nan",
        "big": str(2**60),
        "half": "?",
        "<script>": {"deep": [1, {"$set": 2}]},
    }
    assert shown["messages"][2]["blocks"] == [
        {"type": "text", "text": "Look"},
        {"type": "image", "format": "png", "size": 4},
        {"type": "tool_call", "id": "t-1", "name": "<b>tool</b>", "input": {"data": "(3 bytes)"}},
    ]
    [result] = shown["messages"][3]["blocks"]
    assert (result["type"], result["id"], result["status"]) == ("tool_result", "t-1", "error")
    assert str(2**60) in result["content"]
    assert result["content"].endswith("no")


async def test_a_server_that_starts_anew_goes_on_where_the_last_one_stopped(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "My name is Ada. Set theme to dark.")
    async with playground(sessions) as app:
        events = await app.chat("s-1", "What is my name?")
        shown = await app.read("s-1")
        parallel = await asyncio.gather(*(app.read("s-1") for _ in range(10)))

    assert "Ada" in "".join(event.data.get("text", "") for event in events)
    assert shown["state"] == {"theme": "dark"}
    assert all(again == shown for again in parallel)
