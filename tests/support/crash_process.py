"""A process that works on a session and is killed at one of the writes that it sends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands import Agent, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.types.content import Message

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.session import writer
from mongodb_session_manager.store import sealing
from tests.fixtures.sessions import COLLECTION, SESSION_ID
from tests.support.agents import make_agent, streamed
from tests.support.models import blocked, calls
from tests.support.segments import converse, said

When = Literal["before", "after"]

_WRITES = frozenset({"insert", "update", "delete", "findAndModify"})

FORKS = ("whole fork", "early fork")

IMAGE_BYTES = 300 * 1024
STATE_BYTES = 1200 * 1024


class Killer(CommandListener):
    """Kills its own process right before a write is sent, or right after it was answered."""

    def __init__(self, kill_at: int, when: When) -> None:
        """Count to `kill_at`, from 1; never reached: nobody is killed."""
        self._kill_at, self._when = kill_at, when
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {}
        self.count = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in _WRITES:
            return
        with self._lock:
            self.count += 1
            self._numbers[event.request_id] = self.count
            if self._when == "before" and self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if self._when == "after" and self._numbers.get(event.request_id) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def failed(self, event: CommandFailedEvent) -> None:
        """What fails is no step."""


Tell = Callable[..., None]
"""Tells the parent what was acknowledged, before the next step."""

Work = Callable[[Callable[[], AsyncMongoDBSessionManager], Tell], Awaitable[None]]


def keeping_all(manager: Any, *script: Any, **kwargs: Any) -> Agent:
    return make_agent(manager, *script, conversation_manager=NullConversationManager(), **kwargs)


@tool
def lookup(word: str) -> str:
    """Look something up."""
    return f"{word}: found"


async def have_turns(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Take turns with tools, a guardrail and feedback."""
    async with opened() as manager:
        script = [
            "Hello!",
            calls(("lookup", {"word": "a"}), ("lookup", {"word": "b"})),
            "Found.",
            blocked(user="[gone]"),
        ]
        agent = keeping_all(manager, *script, tools=[lookup])
        for number, prompt in enumerate(("Hi.", "Look up a and b.", "my secret")):
            await streamed(agent, prompt)
            tell("turns", number + 1)
        tell("redacted", "my secret")
        await manager.add_feedback({"rating": "up"})
        await manager.update_metadata({"topic": "weather"})
        tell("feedbacks", 1)


async def seal(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Let a conversation outgrow its tail again and again."""
    async with opened() as manager:
        agent = keeping_all(manager)
        for number in range(24):
            await converse(manager, agent, [number], size=300)
            tell("message", number)
    for number in range(8):
        async with opened() as manager:
            await manager.add_feedback({"number": number, "comment": "x" * 200})
            tell("feedbacks", number + 1)


async def redact(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Redact messages while others are sealed."""
    async with opened() as manager:
        agent = keeping_all(manager)
        for number in range(18):
            await converse(manager, agent, [number], size=300)
            tell("message", number)
            if number % 3 == 2:
                gone: Message = {"role": said(number)["role"], "content": [{"text": f"message {number} redacted"}]}
                text = said(number, 300)["content"][0]["text"]
                manager.redact_latest_message(gone, agent)
                await manager.flush()
                tell("redacted", text)


async def offload(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Store large contents, change them, and redact one."""
    async with opened() as manager:
        agent = keeping_all(manager)
        for number in range(4):
            message = said(number, 100)
            image = bytes([number]) * IMAGE_BYTES
            message["content"].append({"image": {"format": "png", "source": {"bytes": image}}})
            agent.messages.append(message)
            manager.append_message(message, agent)
            agent.state.set("large", "abcd"[number] * STATE_BYTES)
            manager.sync_agent(agent)
            await manager.flush()
            tell("message", number)
        gone: Message = {"role": "assistant", "content": [{"text": "message 3 redacted"}]}
        manager.redact_latest_message(gone, agent)
        await manager.flush()
        tell("redacted", "\3" * 1000)


async def delete(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Delete an agent and a session that outgrew one document, and begin both again."""
    for generation in range(2):
        async with opened() as manager:
            agent = keeping_all(manager)
            await converse(manager, agent, range(10), size=300)
        async with opened() as manager:
            repository = manager.repository
            if generation == 0:
                await repository.delete_agent(SESSION_ID, "assistant")
            else:
                await repository.delete_session(SESSION_ID)
    async with opened() as manager:
        await converse(manager, keeping_all(manager), range(10), size=300)


async def fork(opened: Callable[[], AsyncMongoDBSessionManager], tell: Tell) -> None:
    """Fork the session that there is, whole and up to a message."""
    async with opened() as manager:
        tell("opened", 1)
        await manager.fork(FORKS[0])
        tell("forks", 1)
        await manager.fork(FORKS[1], 13, "assistant")
        tell("forks", 2)


WORK: dict[str, Work] = {
    "turns": have_turns,
    "turns at once": have_turns,
    "seal": seal,
    "redact": redact,
    "offload": offload,
    "delete": delete,
}


def run(uri: str, database: str, name: str, kill_at: int, when: When, parent: Connection) -> None:
    """Work until killed; tell the parent what was acknowledged and, at the end, how many writes there were."""
    # Small, so that a few messages fill several segments.
    sealing.TAIL_BYTES, sealing.SIDE_BYTES, sealing.SEGMENT_BYTES = 1500, 600, 1200
    setattr(writer, "SEAL_AT_BYTES", 3000)  # noqa: B010 - it is that of sealing, imported by name
    killer = Killer(kill_at, when)

    def opened() -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(
            SESSION_ID,
            uri,
            database,
            COLLECTION,
            ensure_indexes=False,
            flush_on="invocation" if name.endswith("at once") else "message",
            event_listeners=[killer],
            serverSelectionTimeoutMS=5000,
        )

    async def work() -> None:
        await {**WORK, "fork": fork}[name](opened, lambda *told: parent.send(told))

    asyncio.run(work())
    parent.send(("writes", killer.count))
    parent.close()
