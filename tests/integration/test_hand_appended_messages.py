"""Code that appends messages by hand, as nobody has to, does not store them twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.types.content import Message, Messages

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, stream_of, streamed
from tests.support.models import Scripted, calls, texts
from tests.support.resume import check_accepted, check_resumes_as, resume


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


def plain(role: str, text: str) -> Any:
    """Return a message with plain-string content, as older code writes it."""
    return {"role": role, "content": text}


def in_blocks(role: Any, text: str) -> Message:
    return {"role": role, "content": [{"text": text}]}


async def by_the_streaming_pattern(
    manager: AsyncMongoDBSessionManager, agent: Agent, prompt: str, make: Any = plain, flush_between: bool = False
) -> None:
    """Append the prompt, stream, append the whole answer, sync."""
    manager.append_message(make("user", prompt), agent)
    if flush_between:
        await manager.flush()
    chunks = [chunk async for chunk in stream_of(agent, prompt)]
    manager.append_message(make("assistant", "".join(chunks)), agent)
    manager.sync_agent(agent)
    await manager.flush()


@pytest.mark.parametrize("make", [plain, in_blocks])
@pytest.mark.parametrize("flush_between", [False, True])
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_the_streaming_pattern_stores_each_message_once(
    sessions: Sessions, make: Any, flush_between: bool, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, "Hello!", "Sure?", "ok")
        for prompt in ("Hi.", "yes", "yes"):
            await by_the_streaming_pattern(manager, agent, prompt, make, flush_between)
            await check_resumes_as(sessions, agent)

    assert sessions.texts() == ["Hi.", "Hello!", "yes", "Sure?", "yes", "ok"]
    assert all("extra" not in message for message in sessions.messages())


async def test_the_streaming_pattern_around_tool_calls_stores_each_message_once(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        first = calls(("double", {"number": 4}), text="Let me see. ")
        script: list[Scripted] = [first, calls(("double", {"number": 8})), "Eight."]
        agent = make_agent(manager, *script, tools=[double])
        await by_the_streaming_pattern(manager, agent, "Double four.")

        await check_resumes_as(sessions, agent, tools=[double])

    assert sessions.texts() == ["Double four.", "Let me see. ", "", "", "", "Eight."]


async def test_appending_what_the_agent_holds_already_stores_nothing(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "ok")
        result = await agent.invoke_async("Hi.")
        manager.append_message(result.message, agent)
        manager.append_message(agent.messages[0], agent)
        await streamed(agent, "yes")

        await check_resumes_as(sessions, agent)

    assert sessions.texts() == ["Hi.", "Hello!", "yes", "ok"]


async def test_a_prompt_whose_model_call_failed_is_stored_as_often_as_it_was_said(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, RuntimeError("overloaded"), "Hello!")
        manager.append_message(plain("user", "Hi."), agent)
        with pytest.raises(RuntimeError, match="overloaded"):
            await streamed(agent, "Hi.")
        await by_the_streaming_pattern(manager, agent, "Hi.")

        await check_resumes_as(sessions, agent)

    assert sessions.texts() == ["Hi.", "Hi.", "Hello!"]


async def test_a_note_that_strands_never_adds_is_stored_and_resumes(sessions: Sessions) -> None:
    note: Any = plain("user", "The customer called.")
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "ok")
        await streamed(agent, "Hi.")
        manager.append_message(note, agent)
        await manager.flush()
        await streamed(agent, "Go on.")

    assert note == plain("user", "The customer called.")
    said = ["Hi.", "Hello!", "The customer called.", "Go on.", "ok"]
    assert sessions.texts() == said
    resumed = await resume(sessions)
    assert texts(resumed.messages) == said
    check_accepted(resumed.messages)


def as_it_was(history: Messages) -> Messages:
    return history


def without_tool_calls(history: Messages) -> Messages:
    return [message for message in history if "text" in message["content"][0]]


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("kept", [as_it_was, without_tool_calls])
async def test_a_history_that_another_program_kept_without_ids_is_not_stored_again(
    sessions: Sessions, kept: Callable[[Messages], Messages], flush_on: FlushOn
) -> None:
    said = 0
    for _ in range(3):
        async with sessions.manager(flush_on=flush_on) as manager:
            agent = make_agent(manager, calls(("double", {"number": 2})), "Yes.", "Yes.", tools=[double])
            history = [Message(role=m["role"], content=copy.deepcopy(m["content"])) for m in agent.messages]
            agent.messages = kept(history)
            await streamed(agent, "Again?")
            await streamed(agent, "Again?")
            said += 6
            resumed = await resume(sessions, tools=[double])
            assert [(m["role"], m["content"]) for m in resumed.messages] == [
                (m["role"], m["content"]) for m in agent.messages
            ]
        assert len(sessions.messages()) == said


async def test_a_history_without_ids_that_a_tool_puts_there_is_not_stored_again(sessions: Sessions) -> None:
    @tool(context=True)
    def rewrite(tool_context: ToolContext) -> str:
        """Put copies in the place of all messages."""
        agent = tool_context.agent
        agent.messages = [Message(role=m["role"], content=copy.deepcopy(m["content"])) for m in agent.messages]
        return "done"

    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello.", calls(("rewrite", {})), "Done.", tools=[rewrite])
        await streamed(agent, "Hi.")
        await streamed(agent, "Rewrite.")

    assert [message["role"] for message in sessions.messages()] == ["user", "assistant"] * 3


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (None, "invalid message: it must be a dict with role and content, not NoneType"),
        ("Hi.", "invalid message: it must be a dict with role and content, not str"),
        ({}, "invalid message: it must have a role"),
        ({"role": "user"}, "invalid message: it must have content"),
        ({"content": [{"text": "Hi."}]}, "invalid message: it must have a role"),
    ],
)
@pytest.mark.parametrize("call", ["append_message", "redact_latest_message"])
async def test_what_is_no_message_is_refused_and_the_conversation_goes_on(
    sessions: Sessions, call: str, message: Any, rule: str
) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Bye!")
        await streamed(agent, "Hi.")
        with pytest.raises(TypeError, match=f"^{rule}$"):
            getattr(manager, call)(message, agent)
        await streamed(agent, "Bye.")
        await check_resumes_as(sessions, agent)

    assert [m["content"][0]["text"] for m in sessions.messages()] == ["Hi.", "Hello!", "Bye.", "Bye!"]
