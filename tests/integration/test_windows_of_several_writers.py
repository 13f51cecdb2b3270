"""An agent resumes with every stored message but those that were taken out: whoever stored them, and however."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from strands import tool
from strands.agent.conversation_manager import (
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.storage import InMemoryStorage
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException
from strands.types.session import SessionMessage
from strands.vended_plugins.context_offloader import ContextOffloader

from mongodb_session_manager.session import FlushOn
from mongodb_session_manager.session.record import Record
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import Scripted, ScriptedModel, blocked, calls, texts
from tests.support.resume import check_resumes_as, resume

LONG = " ".join(f"word{number}" for number in range(20_000))


@tool
def lookup(word: str) -> str:
    """Look something up."""
    return LONG


def said(role: Any, text: str) -> Message:
    return {"role": role, "content": [{"text": text}]}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_third_manager_resumes_what_two_said_in_turn(sessions: Sessions, flush_on: FlushOn) -> None:
    everything: list[str] = []
    async with sessions.manager(flush_on=flush_on) as one, sessions.manager(flush_on=flush_on) as two:
        agents = [make_agent(manager, model=ScriptedModel(otherwise="answer")) for manager in (one, two)]
        for number in range(10):
            await streamed(agents[number % 2], f"question {number}")
            everything += [f"question {number}", "answer"]
            assert texts((await resume(sessions)).messages) == everything

    assert sessions.texts() == everything


async def test_a_third_manager_resumes_without_what_one_of_two_took_out(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as two:
        few, many = (SlidingWindowConversationManager(window_size=size) for size in (2, 100))
        small = make_agent(one, model=ScriptedModel(otherwise="small"), conversation_manager=few)
        large = make_agent(two, model=ScriptedModel(otherwise="large"), conversation_manager=many)
        for number in range(3):
            await streamed(small, f"s{number}")
            await streamed(large, f"l{number}")

    resumed = await resume(sessions)
    assert texts(resumed.messages) == ["l0", "large", "l1", "large", "s2", "small", "l2", "large"]


async def by_the_manager(sessions: Sessions, manager: Any, agent: Any, count: int, first: int) -> None:
    for number in range(first, first + count):
        manager.append_message(said("user" if number % 2 == 0 else "assistant", f"by hand {number}"), agent)
    await manager.flush()


async def by_the_repository(sessions: Sessions, manager: Any, agent: Any, count: int, first: int) -> None:
    stored = len(sessions.texts())
    for number in range(first, first + count):
        message = said("user" if number % 2 == 0 else "assistant", f"by hand {number}")
        message_id = stored + number - first
        await manager.repository.create_message(SESSION_ID, AGENT_ID, SessionMessage(message, message_id))


@pytest.mark.matrix
@pytest.mark.parametrize("by_hand", [by_the_manager, by_the_repository])
async def test_messages_appended_by_hand_stay_before_and_after_turns(sessions: Sessions, by_hand: Any) -> None:
    expected = [f"by hand {number}" for number in range(402)]
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Fine.")
        await manager.flush()
        await by_hand(sessions, manager, agent, 402, 0)
        await streamed(agent, "Hi.")
        expected += ["Hi.", "Hello!"]
        resumed = await resume(sessions)
        assert texts(resumed.messages) == expected

        await by_hand(sessions, manager, agent, 4, 402)
        await streamed(agent, "And you?")
        expected += [*(f"by hand {number}" for number in range(402, 406)), "And you?", "Fine."]

    resumed = await resume(sessions)
    assert texts(resumed.messages) == expected
    assert sessions.texts() == expected

    async with sessions.manager() as manager:
        agent = make_agent(manager, "Bye.")
        await streamed(agent, "Bye!")
        assert len(agent.messages) <= 40
        assert texts((await resume(sessions)).messages) == texts(agent.messages)


Options = Callable[[Any], dict[str, Any]]
_KEPT = InMemoryStorage()


def offloading(_: Any) -> dict[str, Any]:
    return {"plugins": [ContextOffloader(_KEPT, max_result_tokens=100, preview_tokens=20)]}


def automatic(_: Any) -> dict[str, Any]:
    return {"context_manager": "auto", "storage": _KEPT}


def truncating(_: Any) -> dict[str, Any]:
    return {"conversation_manager": SlidingWindowConversationManager(window_size=40)}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("options", [offloading, automatic, truncating])
async def test_what_was_rewritten_in_place_resumes_so_and_is_written_once(
    sessions: Sessions, options: Options, flush_on: FlushOn
) -> None:
    overflow = [ContextWindowOverflowException("too long")] if options is truncating else []
    script: list[Scripted] = [calls(("lookup", {"word": "a"})), *overflow, "answer", "answer", "answer"]
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, *script, tools=[lookup], **options(manager))
        await streamed(live, "Look it up.")
        [result] = [b["toolResult"] for m in live.messages for b in m["content"] if "toolResult" in b]
        assert len(str(result["content"])) < len(LONG) / 2, "it was to be rewritten"
        await check_resumes_as(sessions, live, tools=[lookup], **options(manager))

        for prompt in ("And?", "Go on."):
            with sessions.recorder.counting() as commands:
                await streamed(live, prompt)
            assert not rewrites(commands), prompt
        await check_resumes_as(sessions, live, tools=[lookup], **options(manager))

    async with sessions.manager(flush_on=flush_on) as manager:
        resumed = make_agent(manager, "answer", tools=[lookup], **options(manager))
        with sessions.recorder.counting() as commands:
            manager.sync_agent(resumed)
            await manager.flush()
            assert commands.names == []
            await streamed(resumed, "Bye.")
        assert not rewrites(commands)


def rewrites(commands: Any) -> list[str]:
    """Return the fields of stored messages that commands change."""
    sets = [update["u"].get("$set", {}) for c in commands if c.name == "update" for update in c.document["updates"]]
    return [path for fields in sets for path in fields if ".messages." in path and "content" in path]


async def test_a_summary_of_what_was_rewritten_resumes(sessions: Sessions) -> None:
    def summarizing() -> SummarizingConversationManager:
        return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)

    model = ScriptedModel(
        calls(("lookup", {"word": "a"})),
        *("answer", "answer", ContextWindowOverflowException("too long"), "the summary"),
        otherwise="answer",
        strict=False,
    )
    async with sessions.manager() as manager:
        live = make_agent(manager, model=model, tools=[lookup], conversation_manager=summarizing())
        for number in range(4):
            await streamed(live, f"question {number}")
        assert "the summary" in texts(live.messages)
        await check_resumes_as(sessions, live, tools=[lookup], conversation_manager=summarizing())
        with sessions.recorder.counting() as commands:
            manager.sync_agent(live)
            await manager.flush()
        assert commands.names == []


def records(mark: str) -> int:
    """Return how many messages of a test are remembered in this process, by us and by Strands."""
    gc.collect()
    # By their own type: asking a proxy whether it is an instance asks what it stands for, which may be gone.
    found = [item for item in gc.get_objects() if issubclass(type(item), Record | SessionMessage)]
    return sum(mark in str(item.message) for item in found)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("few", "many", "by_hand"),
    [
        (20, 120, False),
        (20, 120, True),
        pytest.param(20, 2000, False, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
async def test_as_many_records_are_held_after_many_turns_as_after_few(
    sessions: Sessions, few: int, many: int, by_hand: bool
) -> None:
    async with sessions.manager(flush_on="invocation") as manager:
        window = SlidingWindowConversationManager(window_size=40)
        mark = uuid4().hex
        agent = make_agent(manager, model=ScriptedModel(otherwise=f"answer {mark}"), conversation_manager=window)

        async def talk(first: int, last: int) -> int:
            for number in range(first, last):
                if by_hand:
                    manager.append_message(said("user", f"note {number} {mark}"), agent)
                await streamed(agent, f"question {number} {mark}")
            await manager.flush()
            return records(mark)

        await talk(0, 25)
        after_few = await talk(25, 25 + few)
        after_many = await talk(25 + few, 25 + few + many)

    assert 40 <= after_few <= 42
    assert abs(after_many - after_few) <= 1  # One more while a message by hand is on its way in the background.


async def test_a_prompt_said_again_is_redacted_wherever_it_was_said(sessions: Sessions) -> None:
    prompt = [said("user", "my secret")]
    async with sessions.manager() as manager:
        agent = make_agent(
            manager,
            *("one", "two", "three", blocked(user="[redacted]")),
            conversation_manager=SlidingWindowConversationManager(window_size=2),
        )
        for _ in range(4):
            await agent.invoke_async(prompt)

    assert "my secret" not in str(sessions.document())


async def test_state_and_messages_changed_outside_are_stored_by_close(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agents = [make_agent(manager, "Hello!", agent_id=name) for name in ("a", "b")]
        await streamed(agents[0], "Hi.")
        for agent in agents:
            agent.state.set("mood", "good")
            agent.messages.append(said("user", f"noted for {agent.agent_id}"))

    for name in ("a", "b"):
        resumed = await resume(sessions, agent_id=name)
        assert resumed.state.get("mood") == "good"
        assert texts(resumed.messages)[-1] == f"noted for {name}"


async def test_messages_taken_out_outside_are_out_after_close(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Fine.")
        await streamed(agent, "Hi.")
        await streamed(agent, "And you?")
        del agent.messages[:2]

    assert texts((await resume(sessions)).messages) == ["And you?", "Fine."]
    assert len(sessions.texts()) == 4


async def test_what_is_synced_or_appended_outside_is_stored_in_the_background(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        await streamed(agent, "Hi.")

        agent.state.set("mood", "good")
        manager.sync_agent(agent)
        await eventually(lambda: "good" in str(sessions.document()["agents"][AGENT_ID]["agent_data"]["state"]))
        manager.append_message(said("user", "a note"), agent)
        await eventually(lambda: sessions.texts() == ["Hi.", "Hello!", "a note"])


async def test_agents_are_not_restored_again_for_what_their_own_manager_wrote(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Fine.", "Bye.")
        async with manager.turn():
            await streamed(agent, "Hi.")
        held = list(agent.messages)

        await manager.repository.update_metadata(SESSION_ID, {"topic": "tea"})
        await manager.repository.delete_metadata(SESSION_ID, ["topic"])
        await manager.repository.add_feedback(SESSION_ID, {"rating": "up"})
        await manager.repository.rename_session(SESSION_ID, "Tea")
        await manager.update_metadata({"topic": "coffee"})
        await manager.add_feedback({"rating": "down"})
        with sessions.recorder.counting() as commands:
            async with manager.turn():
                assert [a is b for a, b in zip(agent.messages, held, strict=True)] == [True, True]
                await streamed(agent, "And you?")
        assert commands.names.count("find") <= 1

        async with sessions.manager() as other:
            await streamed(make_agent(other, "Yes."), "Anyone?")
        async with manager.turn():
            assert texts(agent.messages)[-2:] == ["Anyone?", "Yes."]


@pytest.mark.parametrize("stored", [None, 60])
async def test_a_live_manager_keeps_up_the_time_to_live_that_another_one_set(
    sessions: Sessions, stored: float | None
) -> None:
    async with sessions.manager(ttl=stored) as live:
        agent = make_agent(live, model=ScriptedModel(otherwise="answer"))
        await streamed(agent, "Hi.")
        for ttl in (3600, 7200):
            async with sessions.manager(ttl=ttl) as other:
                await other.update_metadata({"set": ttl})
            for turn in (live.turn, None):
                before = sessions.document()["updated_at"]
                if turn is None:
                    await streamed(agent, "And?")
                else:
                    async with turn():
                        await streamed(agent, "And?")
                document = sessions.document()
                assert document["updated_at"] > before
                assert (document["expires_at"] - document["updated_at"]).total_seconds() == ttl
                await asyncio.sleep(0)
