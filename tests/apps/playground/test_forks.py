from __future__ import annotations

from typing import Any

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import PausingModel, kinds, playground, read_events, said
from tests.fixtures.sessions import Sessions
from tests.support.models import Reply, ScriptedModel, calls

OWN = {"_id", "session_id", "incarnation", "session_viewer_password", "archive", "updated_at"}
"""What no two sessions share: ids and passwords that are made anew, and when a session was last changed."""


def _comparable(value: Any) -> Any:
    """Return a session, or a part of one, without what is its own."""
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items() if name not in OWN}
    return [_comparable(item) for item in value] if isinstance(value, list) else value


async def test_a_fork_equals_that_of_the_library_and_leaves_the_first_alone(sessions: Sessions) -> None:
    model = ScriptedModel(
        "Hello, Ada.",
        calls(("set_state", {"key": "theme", "value": "dark"}), ("calculator", {"expression": "six"})),
        "It is dark.",
        Reply(error=ConnectionError("away")),
        otherwise="Ada.",
    )
    async with playground(sessions, model) as app:
        for text in ("My name is Ada.", "Set theme to dark.", "Are you there?", "What is my name?"):
            await app.chat("s-1", text)
        await app.client.post("/api/sessions/s-1/feedback", json={"rating": "up", "message_id": 1})
        before, ours = sessions.document("s-1"), ""
        assert (len(before["errors"]), len(before["feedbacks"])) == (1, 1)
        for up_to in (1, 2, 5, None):
            answer = await app.client.post("/api/sessions/s-1/fork", json={"up_to_message": up_to})
            assert answer.status_code == 201
            ours = answer.json()["session_id"]
            await app.app.state.services.repository.fork_session(
                "s-1", f"theirs-{up_to}", up_to_message=up_to, agent_id=None if up_to is None else AGENT_ID
            )
            mine, theirs = sessions.document(ours), sessions.document(f"theirs-{up_to}")
            shown, other = await app.read(ours), await app.read(f"theirs-{up_to}")

            for document in (mine, theirs):
                assert document.pop("created_at") > before["created_at"]
            assert _comparable(mine) == _comparable(theirs)
            for name in ("title", "metadata", "state", "metrics", "feedbacks", "messages", "messages_count", "tuning"):
                assert shown[name] == other[name], name
            assert shown["messages_count"] == len(sessions.messages(AGENT_ID, ours))
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
