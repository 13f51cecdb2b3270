"""A turn as a background task: a reply is made and stored whether or not a page still reads it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from strands import Agent
from strands.types.content import ContentBlock, Message

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    LeaseUnavailableError,
    SessionClosedError,
)

from .._strands import cancel
from ..web.logs import where_it_failed
from ..web.plain import storable_text
from .agents import Agents
from .blocks import shown_blocks
from .events import EventLog
from .failures import NothingToAnswerError, described
from .schemas import RunningTurn
from .tuning import Tuning, tune

logger = logging.getLogger(__name__)

STOPPED = "(stopped)"
"""Stored as the reply when it was stopped before its first word."""

_MOST_MODEL_CALLS = 25
# A process that was killed in the middle of a turn keeps others out for the first; the second lets them wait for that.
LEASE_S = 8.0
LEASE_WAIT_S = 12.0
STOP_GRACE_S = 5.0


@dataclass(frozen=True)
class Asked:
    """What a turn is to do.

    Attributes:
        text: What the user said; None answers what they said before, which has no reply.
        files: Blocks of the files that they attached.
        tuning: A new choice for the conversation; None leaves the one it has.
    """

    text: str | None
    files: list[dict[str, Any]] = field(default_factory=list)
    tuning: Tuning | None = None

    def content(self) -> list[ContentBlock] | None:
        """Return the prompt as the agent takes it; None to answer what was said before."""
        if self.text is None:
            return None
        texts: list[Any] = [{"text": self.text}] if self.text else []
        return [*texts, *self.files]


class Turn:
    """One message and its reply, from the moment it was accepted until all of it is stored.

    Attributes:
        turn_id: Names it in event ids.
        session_id: Its session.
        asked: What it is to do.
        log: What happened so far.
        stopping: Set when it was told to stop.
    """

    def __init__(
        self, factory: AsyncMongoDBSessionManagerFactory, agents: Agents, session_id: str, asked: Asked
    ) -> None:
        """Begin at once, as a task of the running loop."""
        self.turn_id = uuid.uuid4().hex[:16]
        self.session_id = session_id
        self.asked = asked
        self.log = EventLog()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The client that asked may have left by the time it fails.
        self._started.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._factory = factory
        self._agents = agents
        self._manager: AsyncMongoDBSessionManager | None = None
        self._agent: Agent | None = None
        self._messages_before: int | None = None
        self._said = ""
        self.stopping = asyncio.Event()
        self._stop_reason: str | None = None
        self._task = asyncio.create_task(self._run(), name=f"turn:{session_id}")

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return not self._task.done()

    def summary(self) -> RunningTurn:
        """Say which turn it is and what was asked."""
        return RunningTurn(
            turn_id=self.turn_id,
            prompt=None if self.asked.text is None else storable_text(self.asked.text),
            files=shown_blocks(self.asked.files),
            messages_before=self._messages_before,
        )

    async def wait_started(self) -> None:
        """Wait until the session's turn was taken; the turn goes on when the caller is cancelled.

        Raises:
            LeaseUnavailableError: Another process has the session's turn, and kept it.
        """
        await asyncio.wait([self._started])
        if not self._started.cancelled() and isinstance(error := self._started.exception(), LeaseUnavailableError):
            raise error

    async def add_feedback(self, feedback: dict[str, Any], key: str | None) -> bool:
        """Store a feedback within the turn, which alone may write to its session; False when it has ended."""
        if self._manager is None:
            return False
        try:
            await self._manager.add_feedback(feedback, idempotency_key=key)
        except SessionClosedError:
            return False
        return True

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False when it did not come in time. The turn goes on when the caller is cancelled."""
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        return bool(done)

    def on_end(self, callback: Callable[[Turn], object]) -> None:
        """Call back when it has ended."""
        self._task.add_done_callback(lambda _: callback(self))

    async def stop(self, grace_s: float | None = None) -> None:
        """End the reply here, and wait until what was said so far is stored.

        Args:
            grace_s: Seconds that the model has to notice, then it is cut off; None for `STOP_GRACE_S`.
        """
        self.stopping.set()
        if self._agent is None:
            self._task.cancel()
        else:
            cancel(self._agent, self._said or STOPPED)
            if not await self.wait(STOP_GRACE_S if grace_s is None else grace_s):
                self._task.cancel()
        await self.wait()

    async def _run(self) -> None:
        try:
            async with self._opened() as manager:
                agent = self._agent = await self._agents.build(manager)
                self._messages_before = await manager.get_message_count(agent.agent_id)
                self._manager = manager
                self._started.set_result(None)
                try:
                    await tune(agent, manager, self.asked.tuning)
                    await self._reply(agent, manager)
                    await self._report_metrics(agent, manager)
                finally:
                    self._manager = None
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            self._stop_reason = "cancelled"
        except Exception as error:
            self._fail(error)
        finally:
            # A finished turn is kept for its events; the history that its agent holds may be large.
            self._agent = None
            if not self._started.done():
                self._started.cancel()
            self.log.add("done", turn_id=self.turn_id, stop_reason=self._stop_reason or "error")
            self.log.close()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[AsyncMongoDBSessionManager]:
        async with AsyncExitStack() as stack:
            manager = self._factory.create_session_manager(self.session_id)
            stack.push_async_callback(manager.close)
            # Other agents of the session, with all they remember, are of no use here.
            await manager.open(agents=None if self._agents.agent_id is None else [self._agents.agent_id])
            await stack.enter_async_context(manager.turn(wait_s=LEASE_WAIT_S, lease_s=LEASE_S))
            yield manager

    async def _reply(self, agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
        content = self.asked.content()
        if content is None and (not agent.messages or agent.messages[-1]["role"] != "user"):
            raise NothingToAnswerError
        events = agent.stream_async(content, limits={"turns": _MOST_MODEL_CALLS})
        try:
            async for event in events:
                if "data" in event:
                    self._said += event["data"]
                    self.log.add("token", text=storable_text(event["data"]))
                elif "message" in event:
                    self._said = ""
                    self._report_tools(event["message"])
                elif "result" in event:
                    self._stop_reason = event["result"].stop_reason
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            # The model did not notice that it was stopped. What it said is kept all the same.
            reply: Message = {"role": "assistant", "content": [{"text": self._said or STOPPED}]}
            agent.messages.append(reply)
            manager.append_message(reply, agent)
            self._stop_reason = "cancelled"

    def _report_tools(self, message: Mapping[str, Any]) -> None:
        for block in shown_blocks(message.get("content")):
            match block["type"]:
                case "tool_call":
                    self.log.add("tool_call", id=block["id"], name=block["name"], input=block["input"])
                case "tool_result":
                    self.log.add("tool_result", id=block["id"], status=block["status"], content=block["content"])

    async def _report_metrics(self, agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
        """Tell what the reply took and what the session took so far; the latter from what is stored."""
        used, took = agent.event_loop_metrics.accumulated_usage, agent.event_loop_metrics.accumulated_metrics
        turn = {
            "input_tokens": used["inputTokens"],
            "output_tokens": used["outputTokens"],
            "total_tokens": used["totalTokens"],
            "latency_ms": took["latencyMs"],
            "model_calls": agent.event_loop_metrics.cycle_count,
        }
        self.log.add("metrics", turn=turn, session=await manager.get_metrics_summary())

    def _fail(self, error: Exception) -> None:
        failure = described(error)
        kind = type(error).__name__
        advice = f": {failure.hint}" if failure.code == "database" and failure.hint else ""
        logger.error("session_id=<%r>, error=<%s> | turn failed%s", self.session_id, kind, advice)
        # Not what it says: errors of providers may quote the conversation or parts of a key.
        logger.debug("session_id=<%r> | turn failed: %s", self.session_id, where_it_failed(error))
        self.log.add("error", **asdict(failure))
        if not self._started.done():
            self._started.set_exception(error)
