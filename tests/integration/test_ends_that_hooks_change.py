"""An invocation that a hook breaks off or has the last word in is stored as it ended; so is a tool called directly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from strands import tool
from strands.hooks import (
    AfterInvocationEvent,
    AfterMultiAgentInvocationEvent,
    BeforeInvocationEvent,
    HookOrder,
)
from strands.multiagent import GraphBuilder
from strands.types.content import Message

from mongodb_session_manager import SessionClosedError
from mongodb_session_manager.session import FlushOn
from mongodb_session_manager.session.lifecycle import ANSWER_WAIT_S
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import ScriptedModel, calls
from tests.support.resume import check_resumes_as, held, resume

FLUSH_ON = ["message", "invocation"]
ORDERS = [HookOrder.SDK_FIRST, HookOrder.SDK_LAST]


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


def broken(event: Any) -> None:
    event.agent.state.set("reached", True)
    raise ValueError("a hook of the user's")


@pytest.mark.parametrize("flush_on", FLUSH_ON)
@pytest.mark.parametrize("event", [BeforeInvocationEvent, AfterInvocationEvent])
async def test_what_code_changes_after_a_hook_raised_is_stored_by_closing(
    sessions: Sessions, event: Any, flush_on: FlushOn
) -> None:
    note: Message = {"role": "user", "content": [{"text": "By the way."}], "tracking_id": "note"}

    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "Hello.", "Never said, or not heard of.")
        await streamed(live, "Hi.")
        live.add_hook(broken, event)
        with pytest.raises(ValueError, match="of the user's"):
            await streamed(live, "How are you?")
        live.state.set("afterwards", 1)
        live.messages.append(note)

    await check_resumes_as(sessions, live)


@pytest.mark.matrix
@pytest.mark.parametrize("flush_on", FLUSH_ON)
@pytest.mark.parametrize("order", ORDERS)
async def test_a_turn_whose_end_a_hook_breaks_off_is_stored_without_closing(
    sessions: Sessions, order: float, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "Hello.")
        live.add_hook(broken, AfterInvocationEvent, order=order)
        with pytest.raises(ValueError, match="of the user's"):
            await streamed(live, "Hi.")

        async def is_stored() -> bool:
            return held(await resume(sessions)) == held(live)

        await eventually(is_stored, "the background flush")


async def test_a_turn_that_failed_leaves_its_trace_where_a_hook_breaks_off_its_end(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, LookupError("of the model"))
        agent.add_hook(broken, AfterInvocationEvent)
        with pytest.raises(ValueError, match="of the user's"):
            await streamed(agent, "Hi.")

    assert [error["error"] for error in sessions.document()["errors"]] == ["LookupError"]


@pytest.mark.parametrize("flush_on", FLUSH_ON)
@pytest.mark.parametrize("is_left", [False, True], ids=["broken off by a hook", "left by its reader"])
async def test_closing_leaves_nothing_to_be_done_later(sessions: Sessions, is_left: bool, flush_on: FlushOn) -> None:
    loop, problems = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, problem: problems.append(problem))
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, "Hello.")
        stream: Any = agent.stream_async("Hi.")
        if is_left:
            while "message" not in await anext(stream):
                pass
        else:
            agent.add_hook(broken, AfterInvocationEvent)
            with pytest.raises(ValueError, match="of the user's"):
                await streamed(agent, "Hi.")
    much_later = asyncio.Event()
    loop.call_later(ANSWER_WAIT_S, much_later.set)  # After all timers that were set before.
    await much_later.wait()

    assert problems == []
    assert sessions.texts() == ["Hi.", "Hello."]
    if is_left:
        await stream.aclose()


async def test_a_cancellation_stays_one_when_the_session_is_closed_before(sessions: Sessions) -> None:
    begun = asyncio.Event()

    class Silent(ScriptedModel):
        async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
            begun.set()
            await asyncio.Event().wait()
            yield {}

    manager = await sessions.manager()
    answering = asyncio.create_task(make_agent(manager, model=Silent()).invoke_async("Hi."))
    await begun.wait()
    await manager.close()
    answering.cancel()
    await asyncio.wait([answering])

    assert answering.cancelled()
    assert sessions.texts() == ["Hi."]


@pytest.mark.parametrize("flush_on", FLUSH_ON)
async def test_closing_stores_what_a_turn_took_whose_end_a_hook_breaks_off(
    sessions: Sessions, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, "Hello.")
        agent.add_hook(broken, AfterInvocationEvent)
        with pytest.raises(ValueError, match="of the user's"):
            await streamed(agent, "Hi.")

    stored = sessions.document()["agents"][AGENT_ID]
    assert stored["usage"]["totalTokens"] == agent.event_loop_metrics.accumulated_usage["totalTokens"]
    assert stored["usage"]["modelCalls"] == 1
    assert "event_loop_metrics" in stored["messages"][-1]


async def test_closing_stores_the_rest_where_code_left_something_that_cannot_be_stored(sessions: Sessions) -> None:
    odd: Any = {"role": "user", "content": [{"text": object()}]}
    manager = await sessions.manager()
    first, second = (make_agent(manager, "Hello.", agent_id=name) for name in ("first", "second"))
    first.messages.append(odd)
    second.state.set("mood", "good")
    with pytest.raises(TypeError, match="cannot store"):
        await manager.close()

    assert "closed" in repr(manager)
    agents = sessions.document()["agents"]
    assert len(agents["first"]["messages"]) == 1
    assert (await resume(sessions, agent_id="second")).state.get("mood") == "good"


async def test_other_hooks_hear_of_the_end_also_when_the_session_is_closed(sessions: Sessions) -> None:
    heard: list[Any] = []
    async with sessions.manager() as manager:

        @tool
        async def leave() -> str:
            """Close the session."""
            await manager.close()
            return "closed"

        agent = make_agent(manager, calls(("leave", {})), tools=[leave])
        agent.add_hook(lambda event: heard.append(event), AfterInvocationEvent)
        with pytest.raises(SessionClosedError):
            await streamed(agent, "Leave.")

    assert len(heard) == 1


@pytest.mark.parametrize("flush_on", FLUSH_ON)
async def test_what_the_last_of_all_hooks_changes_at_the_end_is_stored(sessions: Sessions, flush_on: FlushOn) -> None:
    def last_word(event: AfterInvocationEvent) -> None:
        event.agent.state.set("turns", 1)
        event.agent.messages[0]["content"][0] = {"text": "[masked]"}

    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "Hello.")
        live.add_hook(last_word, AfterInvocationEvent, order=HookOrder.SDK_LAST)
        await streamed(live, "Hi.")
        await check_resumes_as(sessions, live)


async def test_a_tool_that_code_calls_directly_is_stored_when_the_call_returns(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, tools=[double])
        live.tool.double(number=3)

        assert [message["role"] for message in sessions.messages()] == ["user", "assistant", "user", "assistant"]
        await check_resumes_as(sessions, live)


async def test_a_tool_that_code_calls_directly_waits_for_no_invocation(sessions: Sessions) -> None:
    async with sessions.manager(flush_on="invocation") as manager:
        live = make_agent(manager, tools=[double])
        live.tool.double(number=3)

        await eventually(lambda: len(sessions.document()["agents"].get(AGENT_ID, {}).get("messages", ())) == 4)
        await check_resumes_as(sessions, live)


@pytest.mark.parametrize("flush_on", FLUSH_ON)
async def test_a_graph_whose_end_a_hook_breaks_off_is_stored_as_it_ended(sessions: Sessions, flush_on: FlushOn) -> None:
    def broken_off(event: AfterMultiAgentInvocationEvent) -> None:
        raise ValueError("a hook of the user's")

    async with sessions.manager(flush_on=flush_on) as manager:
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "Done."), "only")
        builder.set_graph_id("graph").set_execution_timeout(300).set_session_manager(manager)
        graph = builder.build()
        graph.hooks.add_callback(AfterMultiAgentInvocationEvent, broken_off)
        with pytest.raises(ValueError, match="of the user's"):
            await graph.invoke_async("Go.")

        await eventually(
            lambda: sessions.document().get("multi_agents", {}).get("graph", {}).get("status") == "completed",
            "the background flush",
        )
