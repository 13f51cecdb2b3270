from __future__ import annotations

import asyncio

import pytest

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import PausingModel, kinds, playground, said
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls


async def test_a_reply_is_streamed_and_stored_as_it_was_shown(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        events = await app.chat("s-1", "My name is Ada.")
        again = await app.chat("s-1", "What is my name?")

    assert kinds(events) == ["token", "metrics", "done"]
    assert events[-1].data["stop_reason"] == "end_turn"
    assert app.stored("s-1")[:2] == [("user", "My name is Ada."), ("assistant", said(events))]
    assert "Ada" in said(again)
    assert sessions.document("s-1")["application_name"] == "playground"


async def test_tools_are_called_and_their_results_shown(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        events = await app.chat("s-1", "What is 6 * 7? Set theme to dark. Please remember that my dog is Rex.")
        shown = await app.read("s-1")

    assert kinds(events) == ["tool_call", "tool_result", "token", "metrics", "done"]
    asked = {event.data["name"]: event.data for event in events if event.kind == "tool_call"}
    answered = {event.data["id"]: event.data for event in events if event.kind == "tool_result"}
    assert answered[asked["calculator"]["id"]]["content"] == "Result: 42"
    assert {answer["status"] for answer in answered.values()} == {"success"}
    assert asked["set_state"]["input"] == {"key": "theme", "value": "dark"}
    assert shown["state"] == {"theme": "dark"}
    assert shown["metadata"] == sessions.document("s-1")["metadata"] == {"dog": "Rex"}


async def test_the_panel_shows_what_mongodb_holds(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        events = await app.chat("s-1", "What is 2 + 2?")
        await app.chat("s-1", "Hello")
        shown = await app.read("s-1")

    document = sessions.document("s-1")
    agent, stored = document["agents"][AGENT_ID], sessions.messages(AGENT_ID, "s-1")
    usage = agent["usage"]
    assert shown["metrics"]["tokens"]["input"] == usage["inputTokens"] == document["summary"]["usage"]["inputTokens"]
    assert shown["metrics"]["tokens"]["output"] == usage["outputTokens"]
    assert shown["metrics"]["model_calls"] == usage["modelCalls"] == 3
    assert shown["messages_count"] == len(shown["messages"]) == len(stored) == 6
    for message, raw in zip(shown["messages"], stored, strict=True):
        assert (message["message_id"], message["role"]) == (raw["message_id"], raw["role"])
        if raw["role"] == "assistant":
            assert message["usage"]["total"] == raw["metadata"]["usage"]["totalTokens"]
    turn = next(event.data["turn"] for event in events if event.kind == "metrics")
    first_two = [message["usage"]["total"] for message in shown["messages"][:4] if message["usage"]]
    assert turn["total_tokens"] == sum(first_two)
    assert turn["model_calls"] == 2


async def test_a_reply_whose_reader_left_is_stored_whole(sessions: Sessions) -> None:
    model = PausingModel("A long answer that nobody waits for.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Tell me") as events:
            assert (await anext(events)).kind == "token"
        model.resume.set()
        await app.ended("s-1")
        shown = await app.read("s-1")

    assert app.stored("s-1") == [("user", "Tell me"), ("assistant", "A long answer that nobody waits for.")]
    assert [block["text"] for message in shown["messages"] for block in message["blocks"]][1].startswith("A long")
    assert shown["turn"] is None


async def test_a_reader_who_comes_back_gets_the_rest_and_a_new_one_all_of_it(sessions: Sessions) -> None:
    model = PausingModel("One two three four.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Count") as events:
            first = await anext(events)
        shown = await app.read("s-1")
        joins = [asyncio.create_task(app.rejoin("s-1", since)) for since in (first.event_id, None, "other-7")]
        await asyncio.sleep(0)
        model.resume.set()
        rest, whole, foreign = await asyncio.gather(*joins)
        after_the_end = await app.rejoin("s-1", rest[-2].event_id)

    turn_id = first.event_id.rpartition("-")[0]
    assert shown["turn"] == {"turn_id": turn_id, "prompt": "Count", "files": [], "messages_before": 0}
    assert first.data["text"] + said(rest) == said(whole) == said(foreign) == "One two three four."
    assert rest[-1].kind == whole[-1].kind == "done"
    assert after_the_end == rest[-1:]


async def test_without_a_reply_in_the_making_there_is_nothing_to_follow(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        assert (await app.client.get("/api/sessions/s-1/turn")).status_code == 204


async def test_stopping_stores_what_was_said(sessions: Sessions) -> None:
    model = PausingModel("First half, second half.", "Next.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Talk") as events:
            first = await anext(events)
            await model.paused.wait()
            stopping = asyncio.create_task(app.client.post("/api/sessions/s-1/stop"))
            await app.told_to_stop("s-1")
            model.resume.set()
            rest = [event async for event in events]
        assert (await stopping).json() == {"stopped": True}
        assert rest[-1].data["stop_reason"] == "cancelled"
        assert app.stored("s-1") == [("user", "Talk"), ("assistant", first.data["text"])]

        assert (await app.client.post("/api/sessions/s-1/stop")).json() == {"stopped": False}
        await app.chat("s-1", "Go on")  # The model refuses a history that is not whole.

    assert app.stored("s-1")[2:] == [("user", "Go on"), ("assistant", "Next.")]


async def test_a_model_that_does_not_notice_is_cut_off(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongodb_session_manager.playground.turn.STOP_GRACE_S", 0.05)
    model = PausingModel("First half, second half.", "Next.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Talk") as events:
            first = await anext(events)
            assert (await app.client.post("/api/sessions/s-1/stop")).json() == {"stopped": True}
            rest = [event async for event in events]
        model.resume.set()
        await app.chat("s-1", "Go on")

    assert rest[-1].data["stop_reason"] == "cancelled"
    assert app.stored("s-1") == [
        ("user", "Talk"),
        ("assistant", first.data["text"]),
        ("user", "Go on"),
        ("assistant", "Next."),
    ]


async def test_a_second_message_is_refused_while_the_first_is_answered(sessions: Sessions) -> None:
    model = PausingModel("One.", otherwise="More.")
    async with playground(sessions, model) as app, app.stream("s-1", "First") as events:
        await anext(events)
        second = await app.client.post("/api/chat", json={"session_id": "s-1", "message": "Second"})
        model.resume.set()
        elsewhere = await app.chat("s-2", "Other conversation")
        rest = [event async for event in events]

    assert (second.status_code, second.json()["error"]["code"]) == (409, "busy")
    assert second.headers["retry-after"]
    assert rest[-1].kind == elsewhere[-1].kind == "done"
    assert app.stored("s-1") == [("user", "First"), ("assistant", "One.")]


async def test_of_many_messages_at_once_one_is_answered(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        bodies = [{"session_id": "s-1", "message": f"My name is N{number}"} for number in range(8)]
        answers = await asyncio.gather(*(app.client.post("/api/chat", json=body) for body in bodies))

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409}
    assert statuses.count(200) >= 1
    assert len(app.stored("s-1")) == 2 * statuses.count(200)


async def test_a_turn_of_another_process_is_waited_for_and_then_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongodb_session_manager.playground.turn.LEASE_WAIT_S", 0.1)
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        async with sessions.manager("s-1") as manager, manager.turn():
            refused = await app.client.post("/api/chat", json={"session_id": "s-1", "message": "Me, too"})
            feedback = await app.client.post("/api/sessions/s-1/feedback", json={"rating": "up"})
        accepted = await app.chat("s-1", "Now?")

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "busy")
    assert (feedback.status_code, feedback.json()["error"]["code"]) == (409, "busy")
    assert accepted[-1].data["stop_reason"] == "end_turn"


async def test_the_number_of_replies_in_the_making_is_bounded(sessions: Sessions) -> None:
    model = PausingModel("One.", "Two.")
    async with playground(sessions, model, max_turns=1) as app, app.stream("s-1", "First") as events:
        await anext(events)
        second = await app.client.post("/api/chat", json={"session_id": "s-2", "message": "Second"})
        model.resume.set()

    assert (second.status_code, second.json()["error"]["code"]) == (503, "too_many_turns")
    assert sessions.raw.count_documents({}) == 1


async def test_a_model_that_fails_is_an_error_event_in_its_own_words(sessions: Sessions) -> None:
    model = ScriptedModel(Reply(error=RuntimeError("key sk-secret is wrong")), "Better.")
    async with playground(sessions, model) as app:
        events = await app.chat("s-1", "Hello")
        shown = await app.read("s-1")
        again = await app.chat("s-1", "Hello?")

    assert kinds(events) == ["error", "done"]
    assert events[0].data["code"] == "model"
    assert events[0].data["kind"] == "RuntimeError"
    assert events[0].data["message"] == "key sk-secret is wrong"
    assert [message["role"] for message in shown["messages"]] == ["user"]
    assert said(again) == "Better."


async def test_a_running_reply_is_finished_when_the_server_ends(sessions: Sessions) -> None:
    model = PausingModel("Said until the very end.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Talk") as events:
            await anext(events)
        model.resume.set()

    assert app.stored("s-1") == [("user", "Talk"), ("assistant", "Said until the very end.")]


async def test_a_reply_that_takes_too_long_is_stored_as_far_as_it_came_when_the_server_ends(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongodb_session_manager.playground.turn.STOP_GRACE_S", 0.05)
    model = PausingModel("First half, second half.")
    async with playground(sessions, model, shutdown_grace_s=0) as app, app.stream("s-1", "Talk") as events:
        first = await anext(events)

    assert app.stored("s-1") == [("user", "Talk"), ("assistant", first.data["text"])]
    assert "lease" not in sessions.document("s-1")


async def test_a_conversation_that_is_deleted_in_mid_reply_stays_deleted(sessions: Sessions) -> None:
    model = PausingModel("First half, second half.")
    async with playground(sessions, model) as app:
        async with app.stream("s-1", "Talk") as events:
            await anext(events)
            deleting = asyncio.create_task(app.client.delete("/api/sessions/s-1"))
            await app.told_to_stop("s-1")
            model.resume.set()
            rest = [event async for event in events]
        assert (await deleting).status_code == 204
        assert (await app.client.get("/api/sessions/s-1")).status_code == 404
        assert (await app.client.delete("/api/sessions/s-1")).status_code == 404

    assert rest[-1].kind == "done"
    assert sessions.raw.count_documents({}) == 0


async def test_a_reply_that_never_ends_is_bounded(sessions: Sessions) -> None:
    model = ScriptedModel(otherwise=calls(("get_state", {"key": "all"})))
    async with playground(sessions, model) as app:
        events = await app.chat("s-1", "Go round in circles")

    assert events[-1].data["stop_reason"] == "limit_turns"
    assert len(model.requests) == 25


async def test_bad_input_is_refused_with_its_name(sessions: Sessions) -> None:
    good: dict[str, object] = {"session_id": "s-1", "message": "Hi"}
    ids: list[object] = ["", {"$ne": None}, 7, "../etc", "a/b", "s-1\n", "-x", "x" * 129]
    texts: list[object] = ["", " \n ", "x" * 20_001, ["Hi"], None]
    cases = [
        *(({**good, "session_id": session_id}, "session_id") for session_id in ids),
        *(({**good, "message": text}, "message") for text in texts),
        ({"message": "Hi"}, "session_id"),
        ({"session_id": "s-1"}, "message"),
        ({**good, "model": "other"}, "model"),
    ]
    async with playground(sessions) as app:
        for body, field in cases:
            answer = await app.client.post("/api/chat", json=body)
            problems = [problem["field"] for problem in answer.json()["error"]["fields"]]
            assert (answer.status_code, problems) == (422, [field]), body
        for content in (b"{", b"", b"[1]", b"null"):
            headers = {"Content-Type": "application/json"}
            answer = await app.client.post("/api/chat", content=content, headers=headers)
            assert answer.status_code == 422, content

    assert sessions.raw.count_documents({}) == 0


async def test_a_tool_that_could_not_do_its_work_is_stored_as_failed(sessions: Sessions) -> None:
    """The model reads what is wrong, and who looks at the session sees that it failed."""
    right = [("calculator", {"expression": "6 * 7"}), ("set_state", {"key": "a", "value": "1"})]
    wrong = [("calculator", {"expression": "six"}), ("set_state", {"key": " ", "value": "1"})]
    long = ("set_state", {"key": "a", "value": "x" * 2_001})
    async with playground(sessions, ScriptedModel(calls(*right, *wrong, long), "Done.")) as app:
        events = await app.chat("s-1", "Try all of them")

    told = [event.data["status"] for event in events if event.kind == "tool_result"]
    blocks = [block for message in sessions.messages(AGENT_ID, "s-1") for block in message["content"]]
    stored = [block["toolResult"] for block in blocks if "toolResult" in block]
    assert told == [result["status"] for result in stored] == ["success"] * 2 + ["error"] * 3
    assert all(result["content"][0]["text"].startswith("Error: invalid ") for result in stored[2:])
