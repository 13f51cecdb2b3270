"""Turns as background tasks: a reply is made and stored whether or not anybody is still reading it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pymongo.errors import PyMongoError
from strands import Agent
from strands.types.content import Message

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    LeaseUnavailableError,
    SessionClosedError,
    SessionNotFoundError,
)

from .._strands import cancel
from ..web.plain import storable_text
from .agent import AGENT_ID
from .blocks import shown_blocks
from .events import EventLog
from .schemas import RunningTurn

logger = logging.getLogger(__name__)

BuildAgent = Callable[[AsyncMongoDBSessionManager], Agent]

STOPPED = "(stopped)"
"""Stored as the reply when it was stopped before its first word."""

_MOST_MODEL_CALLS = 25
# A process that was killed in the middle of a turn keeps others out for the first; the second lets them wait for that.
LEASE_S = 8.0
LEASE_WAIT_S = 12.0
STOP_GRACE_S = 5.0
KEEP_FINISHED_S = 60.0
MOST_FINISHED = 100


class TurnRunningError(Exception):
    """The session is busy with a turn already."""


class TooManyTurnsError(Exception):
    """The server is busy with as many turns as it may run."""


class Turn:
    """One message and its reply, from the moment it was accepted until all of it is stored.

    Attributes:
        turn_id: Names it in event ids.
        session_id: Its session.
        prompt: What the user said.
        log: What happened so far.
        stopping: Set when it was told to stop.
    """

    def __init__(
        self, factory: AsyncMongoDBSessionManagerFactory, build_agent: BuildAgent, session_id: str, prompt: str
    ) -> None:
        """Begin at once, as a task of the running loop."""
        self.turn_id = uuid.uuid4().hex[:16]
        self.session_id = session_id
        self.prompt = prompt
        self.log = EventLog()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may have left by the time it fails.
        self._started.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._factory = factory
        self._build_agent = build_agent
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
            turn_id=self.turn_id, prompt=storable_text(self.prompt), messages_before=self._messages_before
        )

    async def wait_started(self) -> None:
        """Wait until the session's turn was taken; the turn goes on when the caller is cancelled.

        Raises:
            LeaseUnavailableError: Another process has the session's turn, and kept it.
        """
        await asyncio.wait([self._started])
        if not self._started.cancelled() and isinstance(error := self._started.exception(), LeaseUnavailableError):
            raise error

    async def add_feedback(self, feedback: dict[str, Any]) -> bool:
        """Store a feedback within the turn, which alone may write to its session; False when it has ended."""
        if self._manager is None:
            return False
        try:
            await self._manager.add_feedback(feedback)
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
                self._messages_before = await manager.get_message_count(AGENT_ID)
                agent = self._agent = self._build_agent(manager)
                self._manager = manager
                self._started.set_result(None)
                try:
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
            await manager.open(agents=[AGENT_ID])
            await stack.enter_async_context(manager.turn(wait_s=LEASE_WAIT_S, lease_s=LEASE_S))
            yield manager

    async def _reply(self, agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
        events = agent.stream_async(self.prompt, limits={"turns": _MOST_MODEL_CALLS})
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
        code, message = _described(error)
        kind = type(error).__name__
        logger.error("session_id=<%r>, error=<%s> | turn failed", self.session_id, kind)
        # Errors of providers may quote the conversation or parts of a key.
        logger.debug("session_id=<%r> | turn failed", self.session_id, exc_info=error)
        self.log.add("error", code=code, message=message)
        if not self._started.done():
            self._started.set_exception(error)


def _described(error: Exception) -> tuple[str, str]:
    """Return a code and what the user should know, without what the error quotes."""
    match error:
        case LeaseUnavailableError():
            return "busy", "This conversation is answering another message; try again when it is done."
        case SessionNotFoundError():
            return "deleted", "This conversation was deleted meanwhile."
        case PyMongoError():
            return "database", f"MongoDB did not take the message ({type(error).__name__}); try again in a moment."
    return "model", f"The reply failed with {type(error).__name__}; the server's debug log says more."


class Turns:
    """The turns of this process: at most one per session, and so many altogether. Lives on one event loop."""

    def __init__(
        self, factory: AsyncMongoDBSessionManagerFactory, build_agent: BuildAgent, *, most_running: int
    ) -> None:
        """Have no turns.

        Args:
            factory: Makes the managers.
            build_agent: Makes an agent on an opened manager.
            most_running: Turns that may run at the same time.
        """
        self._factory = factory
        self._build_agent = build_agent
        self._most_running = most_running
        # A finished turn stays for a while: a reader who lost the connection wants its end, and its error is stored
        # nowhere else.
        self._turns: dict[str, Turn] = {}
        self._forgetting: dict[str, asyncio.TimerHandle] = {}

    @property
    def running(self) -> int:
        """Number of turns that are running."""
        return sum(1 for _ in self._unfinished())

    @property
    def kept(self) -> int:
        """Number of finished turns whose events can still be read."""
        return len(self._turns) - self.running

    def _unfinished(self) -> Iterator[Turn]:
        return (turn for turn in self._turns.values() if turn.running)

    def get(self, session_id: str) -> Turn | None:
        """Return the session's turn, running or just finished."""
        return self._turns.get(session_id)

    def running_in(self, session_id: str) -> Turn | None:
        """Return the session's turn if it is running."""
        turn = self._turns.get(session_id)
        return turn if turn is not None and turn.running else None

    def start(self, session_id: str, prompt: str) -> Turn:
        """Begin a turn.

        Raises:
            TooManyTurnsError: As many are running as may be.
            TurnRunningError: The session has one already.
        """
        if self.running_in(session_id) is not None:
            raise TurnRunningError(session_id)
        if self.running >= self._most_running:
            raise TooManyTurnsError(session_id)
        self.forget(session_id)
        turn = self._turns[session_id] = Turn(self._factory, self._build_agent, session_id, prompt)
        turn.on_end(self._keep_a_while)
        return turn

    def forget(self, session_id: str) -> None:
        """Drop the events of a finished turn."""
        if (timer := self._forgetting.pop(session_id, None)) is not None:
            timer.cancel()
        self._turns.pop(session_id, None)

    def _keep_a_while(self, turn: Turn) -> None:
        if self._turns.get(turn.session_id) is not turn:
            return
        loop = asyncio.get_running_loop()
        self._forgetting[turn.session_id] = loop.call_later(KEEP_FINISHED_S, self.forget, turn.session_id)
        while len(self._forgetting) > MOST_FINISHED:
            self.forget(next(iter(self._forgetting)))

    async def close(self, grace_s: float) -> None:
        """Let running turns finish, stop those that take longer, and store what they said.

        Args:
            grace_s: Seconds that they have to finish.
        """
        if running := list(self._unfinished()):
            logger.info("turns=<%d>, grace_s=<%s> | waiting for running turns", len(running), grace_s)
            await asyncio.gather(*(turn.wait(grace_s) for turn in running))
            await asyncio.gather(*(turn.stop() for turn in running if turn.running))
        for session_id in list(self._turns):
            self.forget(session_id)
