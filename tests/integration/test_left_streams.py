"""A stream that its reader leaves before its end, along with the session or the turn: what belongs to it is stored."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeModelCallEvent,
    MessageAddedEvent,
)

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.fastapi import SessionTurn, streamed
from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Document, Sessions
from tests.support.agents import AGENT_ID, make_agent
from tests.support.models import Scripted, calls

Leave = Literal["break", "break, held", "return", "raise", "aclose", "read to its end"]
LEAVES: tuple[Leave, ...] = ("break", "break, held", "return", "raise", "aclose", "read to its end")


class ReaderError(Exception):
    """What a reader raises of its own accord."""


def noting_agent(manager: AsyncMongoDBSessionManager) -> Agent:
    """Return an agent of which more than its answer is to be stored: its state, which a hook changes, and its usage."""
    agent = make_agent(manager, "Hello!")

    def note(event: AfterModelCallEvent) -> None:
        event.agent.state.set("answers", 1)

    agent.hooks.add_callback(AfterModelCallEvent, note)
    return agent


def is_answer(event: dict[str, Any]) -> bool:
    message = event.get("message")
    return message is not None and message["role"] == "assistant"


async def read(agent: Agent, leave: Leave, held: list[object]) -> AsyncIterator[dict[str, Any]]:
    events = agent.stream_async("Hi.")
    if leave == "break, held":
        held.append(events)  # so that nothing closes it
    async for event in events:
        if is_answer(event):
            if leave == "return":
                return
            if leave == "raise":
                raise ReaderError
            if leave.startswith("break"):
                break
            yield event


async def leave_stream(events: AsyncIterator[dict[str, Any]], leave: Leave) -> None:
    async with aclosing(events) as reading:  # type: ignore[type-var]
        try:
            async for _ in reading:
                if leave == "aclose":
                    break
        except ReaderError:
            assert leave == "raise"


def kept(sessions: Sessions) -> Document:
    """Return what is stored of an agent's turn, but what differs from one run to the next."""
    stored = sessions.document()["agents"][AGENT_ID]
    usage = {name: value for name, value in stored["usage"].items() if name != "toolMetrics"}
    metrics = [message["event_loop_metrics"]["accumulated_usage"] for message in stored["messages"][1:]]
    return {
        "texts": sessions.texts(),
        "state": stored["agent_data"]["state"],
        "usage": usage,
        "metrics": metrics,
        "window": stored["window"],
    }


WHOLE = {
    "texts": ["Hi.", "Hello!"],
    "state": {"answers": 1},
    "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "latencyMs": 20, "modelCalls": 1},
    "metrics": [{"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}],
    "window": [[0, None]],
}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("leave", LEAVES)
async def test_a_reader_that_leaves_at_the_answer_and_closes_the_session_has_stored_the_turn(
    sessions: Sessions, leave: Leave, flush_on: FlushOn
) -> None:
    held: list[object] = []

    async def reply() -> AsyncIterator[dict[str, Any]]:
        async with sessions.manager(flush_on=flush_on) as manager:
            async for event in read(noting_agent(manager), leave, held):
                yield event

    await leave_stream(reply(), leave)

    assert kept(sessions) == WHOLE


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("leave", LEAVES)
async def test_a_reader_that_leaves_at_the_answer_and_ends_the_turn_has_stored_it_before_others_have_the_turn(
    sessions: Sessions, leave: Leave, flush_on: FlushOn
) -> None:
    held: list[object] = []
    async with sessions.manager(flush_on=flush_on) as manager, AsyncExitStack() as stack:
        agent = noting_agent(manager)

        async def reply() -> AsyncIterator[dict[str, Any]]:
            async with manager.turn():
                async for event in read(agent, leave, held):
                    yield event

        await leave_stream(reply(), leave)

        assert "lease" not in sessions.document()
        other = await stack.enter_async_context(sessions.manager())
        await stack.enter_async_context(other.turn())
        assert kept(sessions) == WHOLE


@pytest.mark.parametrize("drop", [True, False])
async def test_the_agent_of_an_answer_that_is_not_read_to_its_end_ends_inside_of_the_turn(
    sessions: Sessions, drop: bool
) -> None:
    leases: list[bool] = []
    async with sessions.manager() as manager:
        agent = make_agent(manager, "A long answer. " * 10)
        agent.hooks.add_callback(AfterInvocationEvent, lambda _: leases.append("lease" in sessions.document()))
        async with aclosing(SessionTurn(manager).stream(agent, "Hi.")) as pieces:
            if drop:
                await anext(pieces)
            else:
                answer = await streamed(pieces)
                await answer._source.close()  # type: ignore[attr-defined]
    assert leases == [True]
    assert "lease" not in sessions.document()


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_stream_that_is_left_at_any_event_resumes_as_it_was_left(sessions: Sessions, flush_on: FlushOn) -> None:
    @tool(context=True)
    def look(word: str, tool_context: ToolContext) -> str:
        """Look for a word."""
        tool_context.agent.state.set("looked for", word)
        return f"found {word}"

    def counting_agent(manager: AsyncMongoDBSessionManager, *script: Scripted) -> Agent:
        agent = make_agent(
            manager, *script, tools=[look], conversation_manager=SlidingWindowConversationManager(window_size=4)
        )

        def count(event: Any) -> None:
            event.agent.state.set("events", (event.agent.state.get("events") or 0) + 1)

        for kind in (BeforeModelCallEvent, AfterModelCallEvent, AfterToolCallEvent, MessageAddedEvent):
            agent.hooks.add_callback(kind, count)
        return agent

    was_left, position, differing = True, 0, []
    while was_left:
        was_left = False
        session_id = f"s-{position}"
        async with sessions.manager(session_id, flush_on=flush_on) as manager:
            agent = counting_agent(manager, calls(("look", {"word": "a"})), calls(("look", {"word": "b"})), "Done.")
            seen = 0
            stream = agent.stream_async("Hi.")
            async for _ in stream:
                if was_left := seen == position:
                    break
                seen += 1
            left_with = contents_of(agent), agent.state.get()
        async with sessions.manager(session_id) as manager:
            resumed = counting_agent(manager)
            # A call without its result gets one that says so.
            resumes_with = contents_of(resumed)[: len(left_with[0])], resumed.state.get()
        if resumes_with != left_with:
            differing.append((position, left_with, resumes_with))
        await stream.aclose()  # type: ignore[attr-defined]
        position += 1

    assert not differing
    assert position > 30


def contents_of(agent: Agent) -> list[tuple[str, object]]:
    return [(message["role"], message["content"]) for message in copy.deepcopy(agent.messages)]
