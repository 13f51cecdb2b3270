"""A process may be killed between any two commands: what is stored then resumes, and a strict model accepts it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from strands import tool
from strands.agent.conversation_manager import (
    ConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.types.exceptions import ContextWindowOverflowException

from mongodb_session_manager.session import FlushOn
from tests.fixtures.commands import Command
from tests.fixtures.sessions import SESSION_ID, Document, Sessions
from tests.support.agents import make_agent, model_of, streamed
from tests.support.models import ScriptedModel, blocked, calls, texts
from tests.support.resume import check_same_messages, resume

OVERFLOW = ContextWindowOverflowException("the input is too long")


@tool
def lookup(word: str) -> str:
    """Look something up."""
    return "begin " + "x" * 2000 + " end"


def conversation_manager(kind: str) -> ConversationManager:
    if kind == "summarizing":
        return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
    return SlidingWindowConversationManager(window_size=6, pin_first=1 if kind == "pinned" else None)


async def have_a_conversation(sessions: Sessions, kind: str, flush_on: FlushOn) -> None:
    """Have turns with parallel tools, an overflow, a guardrail and a failed model call, on two managers."""
    async with sessions.manager(flush_on=flush_on) as manager:
        overflow = [OVERFLOW, "the summary"] if kind == "summarizing" else [OVERFLOW]
        script = [
            *("Hello!", calls(("lookup", {"word": "a"}), ("lookup", {"word": "b"}), text="Let me see.")),
            *(*overflow, "Found."),
            *(calls(("lookup", {"word": "c"})), calls(("lookup", {"word": "d"})), "Found, too."),
        ]
        agent = make_agent(manager, *script, tools=[lookup], conversation_manager=conversation_manager(kind))
        for prompt in ("Hi.", "Look up a and b.", "Look up c and d."):
            await streamed(agent, prompt)
    async with sessions.manager(flush_on=flush_on) as manager:
        script = [blocked(user="[redacted]", text="no"), RuntimeError("overloaded"), "At last."]
        agent = make_agent(manager, *script, tools=[lookup], conversation_manager=conversation_manager(kind))
        await streamed(agent, "my secret")
        with pytest.raises(RuntimeError):
            await streamed(agent, "yes")
        await streamed(agent, "yes")


def written_by(command: Command) -> Document:
    """Return a recorded write as a command that may be sent again."""
    names = ("insert", "update", "documents", "updates", "ordered")
    return {name: command.document[name] for name in names if name in command.document}


async def check_goes_on(sessions: Sessions, kind: str) -> None:
    """Assert that a strict model accepts what is stored, that the turn is stored, and that it resumes as it was."""
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Going on.", tools=[lookup], conversation_manager=conversation_manager(kind))
        assert await streamed(agent, "Go on.") == "Going on."
        assert texts(model_of(agent).requests[-1])[-1] == "Go on."

        resumed = await resume(sessions, tools=[lookup], conversation_manager=conversation_manager(kind))
        stored = {message["tracking_id"] for message in sessions.messages()}
        made_up = [i for i, m in enumerate(agent.messages) if m["tracking_id"] not in stored]
        check_same_messages(agent.messages, resumed.messages, synthetic=made_up)


@pytest.mark.matrix
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("kind", ["sliding", "pinned", "summarizing"])
async def test_a_session_goes_on_after_a_kill_behind_any_command(
    sessions: Sessions, kind: str, flush_on: FlushOn
) -> None:
    await have_a_conversation(sessions, kind, flush_on)
    commands = [written_by(c) for c in sessions.recorder.commands if c.name in ("insert", "update")]
    whole = sessions.document()
    assert len(commands) > 5

    for count in range(1, len(commands) + 1):
        sessions.raw.delete_many({})
        for command in commands[:count]:
            sessions.raw.database.command(copy.deepcopy(command))
        if count == len(commands):
            assert sessions.document() == whole
        await check_goes_on(sessions, kind)


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["sliding", "pinned", "summarizing"])
async def test_a_session_goes_on_whichever_message_was_the_last(sessions: Sessions, kind: str) -> None:
    """As after a restore from a backup: fewer messages than the window and the counters speak of."""
    await have_a_conversation(sessions, kind, "message")
    whole = sessions.raw.find_one({"_id": SESSION_ID})
    assert whole is not None
    messages = whole["agents"]["assistant"]["messages"]

    for count in range(len(messages) + 1):
        for counter in (count, len(messages)):
            cut: Any = copy.deepcopy(whole)
            cut["agents"]["assistant"]["messages"] = messages[:count]
            cut["agents"]["assistant"]["next_message_id"] = counter
            cut["summary"]["messages"] = count
            sessions.raw.replace_one({"_id": SESSION_ID}, cut)

            agent = await resume(
                sessions,
                model=ScriptedModel("ok"),
                tools=[lookup],
                conversation_manager=conversation_manager(kind),
            )
            assert await streamed_without_a_manager(agent) == "ok"


async def streamed_without_a_manager(agent: Any) -> str:
    """Run a turn of what was resumed on an agent of its own, so that nothing is written."""
    alone = make_agent(None, model=agent.model, tools=[lookup], messages=agent.messages)
    return await streamed(alone, "Go on.")
