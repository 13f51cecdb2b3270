"""Managers that opened a session long ago: what others stored of it meanwhile stands."""

from __future__ import annotations

from typing import Any

import pytest
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.session import SessionMessage

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import ScriptedModel, texts
from tests.support.resume import resume


def talker(manager: Any, agent_id: str = AGENT_ID, width: int = 40, says: str = "Yes.") -> Any:
    window = SlidingWindowConversationManager(window_size=width)
    return make_agent(
        manager, agent_id=agent_id, model=ScriptedModel(otherwise=says, strict=False), conversation_manager=window
    )


def a_message(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_title_is_given_once(sessions: Sessions, flush_on: FlushOn) -> None:
    async with sessions.manager(flush_on=flush_on) as one, sessions.manager(flush_on=flush_on) as two:
        await streamed(talker(one, "a"), "First.")
        await streamed(talker(two, "b"), "Second.")

    assert sessions.document()["title"] == "First."
    assert sessions.document()["title_of"] == {"agent": "a", "message_id": 0}


async def test_a_name_that_was_given_stands_whatever_stale_managers_do(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as two:
        first = talker(one, "a")
        await streamed(first, "First.")
        await two.repository.rename_session(SESSION_ID, "A name")
        await streamed(talker(two, "b"), "Second.")
        assert sessions.document()["title"] == "A name"

        # The first one still takes its own message for the title's.
        await one.repository.update_message(SESSION_ID, "a", SessionMessage(a_message("Corrected."), 0))
        one.redact_latest_message(a_message("[redacted]"), first)
        await one.flush()

    assert sessions.document()["title"] == "A name"


async def test_a_stale_manager_brings_back_nothing_that_another_one_took_out(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as two:
        agents = [talker(one, width=2, says="one"), talker(two, width=4, says="two")]
        for number in range(6):
            await streamed(agents[number % 2], f"q{number}")

    assert texts((await resume(sessions)).messages) == ["q3", "two", "q4", "one", "q5", "two"]


async def test_an_agent_that_is_built_late_leaves_the_state_of_the_first_alone(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as two:
        first = talker(one)
        first.state.set("mood", "good")
        await streamed(first, "Hi.")
        late = talker(two)
        await streamed(late, "Hello.")
        assert (await resume(sessions)).state.get() == {"mood": "good"}

        late.state.set("mood", "bad")
        await streamed(late, "Well.")
    assert (await resume(sessions)).state.get() == {"mood": "bad"}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("again", [0, 1, 2])
async def test_an_agent_that_was_deleted_goes_on_as_a_new_one(
    sessions: Sessions, flush_on: FlushOn, again: int
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = talker(manager, width=4)
        agent.state.set("mood", "good")
        for number in range(4):
            await streamed(agent, f"before {number}")
        await manager.repository.delete_agent(SESSION_ID, AGENT_ID)
        assert "before" not in str(sessions.document())
        async with sessions.manager() as another:
            talks: Any = talker(another) if again else None
            for number in range(again):
                await streamed(talks, f"another {number}")

        await streamed(agent, "after 0")
        manager.redact_latest_message(a_message("[redacted]"), agent)
        await streamed(agent, "after 1")
        stored = sessions.texts()
        assert stored[2 * again :] == ["after 0", "[redacted]", "after 1", "Yes."]
        assert "before" not in str(sessions.document()), "what was deleted is back"
        assert texts((await resume(sessions)).messages)[-2:] == ["after 1", "Yes."]

    assert again or (await resume(sessions)).state.get() == {"mood": "good"}
    assert sessions.document()["title"] == ("another 0" if again else "after 0")


async def test_a_new_one_in_the_place_of_a_deleted_agent_has_its_state_and_window_at_once(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager, width=4)
        agent.state.set("mood", "good")
        await streamed(agent, "before")
        await manager.repository.delete_agent(SESSION_ID, AGENT_ID)

        await streamed(agent, "after 0")
        assert (await resume(sessions)).state.get() == {"mood": "good"}
        for number in range(1, 4):
            await streamed(agent, f"after {number}")
            assert texts((await resume(sessions)).messages) == texts(agent.messages)


@pytest.mark.parametrize("speaks", [False, True])
async def test_an_agent_that_came_after_the_last_message_of_a_fork_is_not_in_it(
    sessions: Sessions, speaks: bool
) -> None:
    async with sessions.manager() as manager:
        await streamed(talker(manager), "Hi.")
        later = talker(manager, "later")
        later.state.set("mood", "good")
        if speaks:
            await streamed(later, "Hello.")
        manager.sync_agent(later)
        await manager.flush()
        await manager.fork("s-2", up_to_message=0, agent_id=AGENT_ID)

    assert set(sessions.document("s-2")["agents"]) == {AGENT_ID}
