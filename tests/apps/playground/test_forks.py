from __future__ import annotations

from typing import Any

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import PausingModel, kinds, playground, read_events, said
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel


def _told(sessions: Sessions, session_id: str) -> list[tuple[Any, ...]]:
    return [(m["message_id"], m["role"], m["content"]) for m in sessions.messages(AGENT_ID, session_id)]


async def test_a_fork_equals_that_of_the_library_and_leaves_the_first_alone(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        for text in ("My name is Ada.", "Set theme to dark.", "What is my name?"):
            await app.chat("s-1", text)
        before, ours = sessions.document("s-1"), ""
        for up_to in (1, 3, None):
            answer = await app.client.post("/api/sessions/s-1/fork", json={"up_to_message": up_to})
            assert answer.status_code == 201
            ours = answer.json()["session_id"]
            await app.app.state.services.repository.fork_session(
                "s-1", f"theirs-{up_to}", up_to_message=up_to, agent_id=None if up_to is None else AGENT_ID
            )
            shown = await app.read(ours)

            assert _told(sessions, ours) == _told(sessions, f"theirs-{up_to}")
            mine, other = sessions.document(ours), sessions.document(f"theirs-{up_to}")
            own = {"_id", "session_id", "incarnation", "session_viewer_password", "created_at", "updated_at"}
            for name in mine.keys() - own - {"agents"}:
                assert mine[name] == other[name], name
            assert mine["agents"][AGENT_ID]["usage"] == other["agents"][AGENT_ID]["usage"]
            assert shown["messages_count"] == len(_told(sessions, ours))
        again = await app.chat(ours, "What is my name?")

        assert sessions.document("s-1") == before
    assert "Ada" in said(again)


async def test_bad_forks_are_refused(sessions: Sessions) -> None:
    async with sessions.manager("theirs", application_name="shop"):
        pass
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        bodies: list[Any] = [{"up_to_message": 99}, {"up_to_message": -1}, {"up_to_message": "x"}, {"upto": 1}]
        bad = [await app.client.post("/api/sessions/s-1/fork", json=body) for body in bodies]
        missing = [await app.client.post(f"/api/sessions/{name}/fork", json={}) for name in ("nobody", "theirs")]

    assert [answer.status_code for answer in bad] == [422] * 4
    assert [answer.status_code for answer in missing] == [404, 404]
    assert sessions.raw.count_documents({}) == 2


async def test_a_message_without_a_reply_is_answered_once_and_not_said_again(sessions: Sessions) -> None:
    model = ScriptedModel("One.", "Another one.", Reply(error=RuntimeError("away")), "Back.")
    async with playground(sessions, model) as app:
        await app.chat("s-1", "Say something")
        fork = (await app.client.post("/api/sessions/s-1/fork", json={"up_to_message": 0})).json()["session_id"]
        async with app.client.stream("POST", f"/api/sessions/{fork}/answer") as response:
            events = [event async for event in read_events(response)]
        async with app.client.stream("POST", f"/api/sessions/{fork}/answer") as response:
            refused = [event async for event in read_events(response)]
        failed = await app.chat("s-2", "Are you there?")
        async with app.client.stream("POST", "/api/sessions/s-2/answer") as response:
            retried = [event async for event in read_events(response)]
        missing = await app.client.post("/api/sessions/nobody/answer")

    assert app.stored("s-1") == [("user", "Say something"), ("assistant", "One.")]
    assert app.stored(fork) == [("user", "Say something"), ("assistant", "Another one.")]
    assert kinds(events) == ["token", "metrics", "done"]
    assert (kinds(refused), refused[0].data["code"]) == (["error", "done"], "nothing_to_answer")
    assert kinds(failed) == ["error", "done"]
    assert said(retried) == "Back."
    assert app.stored("s-2") == [("user", "Are you there?"), ("assistant", "Back.")]
    assert missing.status_code == 404


async def test_an_answer_in_the_making_says_that_nothing_was_asked_anew(sessions: Sessions) -> None:
    model = PausingModel(Reply(error=RuntimeError("away")), "First half, second half.")
    async with playground(sessions, model) as app:
        await app.chat("s-1", "Talk")
        async with app.client.stream("POST", "/api/sessions/s-1/answer") as response:
            await anext(read_events(response))
            turn = (await app.read("s-1"))["turn"]
        model.resume.set()
        await app.ended("s-1")

    assert (turn["prompt"], turn["messages_before"]) == (None, 1)
