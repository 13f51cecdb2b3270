"""What was said is stored before anything acts on it, and whatever becomes of whoever reads the answer."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import BeforeModelCallEvent, HookOrder

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import eventually
from tests.support import resume as resuming
from tests.support.agents import make_agent, streamed
from tests.support.killed_process import note, window
from tests.support.models import Scripted, ScriptedModel, calls
from tests.support.resume import check_resumes_as, resume


class Watched(ScriptedModel):
    """A model that notes what a second client sees whenever it is called."""

    def __init__(self, sessions: Sessions, *script: Any) -> None:
        super().__init__(*script)
        self.sessions = sessions
        self.seen: list[list[str]] = []

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.seen.append([shape(message) for message in self.sessions.messages()])
        async for event in super().stream(*args, **kwargs):
            yield event


def shape(message: dict[str, Any]) -> str:
    """Return what a stored message is: its role, and the kinds of its blocks."""
    kinds = [next(iter(block)) for block in message["content"]]
    return f"{message['role']}: {', '.join(kinds)}"


USER, ANSWER, CALL, RESULT = "user: text", "assistant: text", "assistant: toolUse", "user: toolResult"


@pytest.mark.parametrize("window_size", [40, 2])
async def test_a_second_client_sees_everything_said_from_inside_models_and_tools(
    sessions: Sessions, window_size: int
) -> None:
    in_tool: list[list[str]] = []

    @tool
    def look(word: str) -> str:
        """Look at what is stored by now."""
        in_tool.append([shape(message) for message in sessions.messages()])
        return word

    script = [calls(("look", {"word": "a"})), calls(("look", {"word": "b"})), "Done.", "Bye."]
    async with sessions.manager() as manager:
        model = Watched(sessions, *script)
        agent = make_agent(
            manager,
            model=model,
            tools=[look],
            conversation_manager=SlidingWindowConversationManager(window_size=window_size),
        )
        await streamed(agent, "Look.")
        await streamed(agent, "Bye.")

    said = [USER, CALL, RESULT, CALL, RESULT, ANSWER, USER]
    assert model.seen == [said[:1], said[:3], said[:5], said[:7]]
    assert in_tool == [said[:2], said[:4]]


async def test_a_second_client_sees_what_a_hook_put_there_for_the_model(sessions: Sessions) -> None:
    def advise(event: BeforeModelCallEvent) -> None:
        event.agent.messages.append({"role": "user", "content": [{"text": "Be brief."}]})

    async with sessions.manager() as manager:
        model = Watched(sessions, "Done.", "Bye.")
        agent = make_agent(manager, model=model)
        agent.add_hook(advise, BeforeModelCallEvent, order=HookOrder.SDK_LAST)
        await streamed(agent, "Look.")
        await streamed(agent, "Bye.")
        await check_resumes_as(sessions, agent)

    said = [USER, USER, ANSWER, USER, USER]
    assert model.seen == [said[:2], said]


@pytest.mark.matrix
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_kill_right_after_the_invocation_loses_nothing(sessions: Sessions, flush_on: FlushOn) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.killed_process", sessions.uri, sessions.database_name, flush_on),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert process.returncode == -9
    live = json.loads(output)
    resumed = await resume(sessions, tools=[note], conversation_manager=window())
    assert json.loads(json.dumps(resuming.held(resumed))) == live
    assert resumed.state.get("word") == "blue"
    document = sessions.document()
    assert document["summary"]["messages"] == len(sessions.messages()) == 8
    assert document["agents"]["assistant"]["usage"]["modelCalls"] == 4
    assert ["event_loop_metrics" in message for message in sessions.messages()] == [
        *(False, True),
        *(False, False, False, True),
        *(False, True),
    ]


Leave = Callable[[Agent], Awaitable[object]]


async def at_the_break(agent: Agent) -> None:
    async for event in agent.stream_async("Hi."):
        if "message" in event and event["message"]["role"] == "assistant":
            break


async def at_aclose(agent: Agent) -> None:
    stream = agent.stream_async("Hi.")
    async for event in stream:
        if "message" in event and event["message"]["role"] == "assistant":
            await stream.aclose()  # type: ignore[attr-defined]
            break


async def dropped(agent: Agent) -> None:
    stream = agent.stream_async("Hi.")
    async for event in stream:
        if "message" in event and event["message"]["role"] == "assistant":
            break
    del stream, event
    gc.collect()


async def cancelled(agent: Agent) -> None:
    answered = asyncio.Event()

    async def read() -> None:
        async for event in agent.stream_async("Hi."):
            if "message" in event and event["message"]["role"] == "assistant":
                answered.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await answered.wait()
    task.cancel()
    await asyncio.wait([task])


async def in_a_scope_that_is_cancelled(agent: Agent) -> None:
    """As a web server does whose client went: every await from then on is cancelled, too."""
    with anyio.CancelScope() as scope:
        async for event in agent.stream_async("Hi."):
            if "message" in event and event["message"]["role"] == "assistant":
                scope.cancel()


async def not_at_all(agent: Agent) -> object:
    """As a slow client does: the stream is held at the answer, and never left."""
    stream = agent.stream_async("Hi.")
    async for event in stream:
        if "message" in event and event["message"]["role"] == "assistant":
            break
    return stream


async def at_the_last_event(agent: Agent) -> object:
    """As a reader that has what it wants: the result is taken, and the stream is held."""
    stream = agent.stream_async("Hi.")
    async for event in stream:
        if "result" in event:
            break
    return stream


@pytest.mark.parametrize(
    "leave",
    [
        *(at_the_break, at_aclose, dropped, cancelled),
        *(in_a_scope_that_is_cancelled, not_at_all, at_the_last_event),
    ],
)
async def test_a_stream_that_is_left_early_has_stored_what_was_said(sessions: Sessions, leave: Leave) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        stream = await leave(agent)

        # While the manager is open: nothing but the stream itself makes it store the answer.
        await eventually(lambda: sessions.texts() == ["Hi.", "Hello!"], "storing the answer")

        async with sessions.manager() as other:
            assert await streamed(make_agent(other, "Fine."), "And you?") == "Fine."
        if stream is not None:
            await stream.aclose()  # type: ignore[attr-defined]

    assert sessions.texts() == ["Hi.", "Hello!", "And you?", "Fine."]


@pytest.mark.parametrize(
    ("flush_on", "plain", "with_tool"), [("message", 2, 4), ("invocation", 1, 1)], ids=["message", "invocation"]
)
async def test_a_full_window_takes_as_many_commands(
    sessions: Sessions, flush_on: FlushOn, plain: int, with_tool: int
) -> None:
    @tool
    def look(word: str) -> str:
        """Look at nothing."""
        return word

    script: list[Scripted] = ["a", "b", "c", calls(("look", {"word": "x"})), "d", "e"]
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(
            manager, *script, tools=[look], conversation_manager=SlidingWindowConversationManager(window_size=4)
        )
        for prompt, most in (("1", plain), ("2", plain), ("3", plain), ("4", with_tool), ("5", plain)):
            with sessions.recorder.counting() as commands:
                await streamed(agent, prompt)
            assert commands.names == ["update"] * most, prompt
        with sessions.recorder.counting() as commands:
            manager.sync_agent(agent)
            await manager.flush()
        assert commands.names == []

    with sessions.recorder.counting() as commands:
        async with sessions.manager(flush_on=flush_on) as manager:
            agent = make_agent(
                manager, "f", tools=[look], conversation_manager=SlidingWindowConversationManager(window_size=4)
            )
            await streamed(agent, "6")
    assert commands.names == ["find"] + ["update"] * plain
