"""Messages on their way to one receiver: queued within bounds, sent in order, counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from . import draining, portal
from .errors import describe

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_IN_FLIGHT = 16
"""Sessions that one outbox sends for at the same time; also the number of its tasks."""

MAX_PENDING = 2_000
"""Messages that one outbox holds."""

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Size of the messages that one outbox holds, in bytes."""

MAX_LATE = 1_000
"""Messages that may wait for room in a full outbox."""

ROOM_WAIT_S = 1.0
"""How long such a message waits for room before it is dropped, in seconds."""

SEND_TIMEOUT_S = 15.0
"""How long one message may take to be sent, in seconds."""

Outcome: TypeAlias = Exception | None


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the messages of an outbox.

    Attributes:
        sent: Accepted by the other end.
        failed: Refused by the other end, out of reach, too late, or impossible to send.
        dropped: Not tried, or cut off: there was no room, or the time to drain was over.
        pending: Still waiting or on its way.
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    pending: int = 0


class SkippedError(Exception):
    """The outcome of a message without a receiver: it counts as neither sent nor failed."""


@dataclass(frozen=True, slots=True)
class _Message(Generic[T]):
    session_id: str
    content: T
    size: int
    deadline: float


class Outbox(Generic[T]):
    """Messages to one receiver: in order per session, side by side for different sessions.

    Usable from any thread. A message whose sending fails is counted and logged once, with its session; nothing is
    raised. Sending again is the sender's business.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[T]], Coroutine[Any, Any, Sequence[Outcome]]],
        *,
        most: int = 1,
        most_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        """Name it, for logs and tasks.

        Args:
            name: What it is, for logs and the names of tasks.
            send: Sends messages of one session, on the library's loop, and returns what became of each: None, or the
                error. What it raises holds for all of them.
            most: Messages that `send` takes at a time.
            most_bytes: And how many bytes.
        """
        self.name = name
        self._deliver, self._most, self._most_bytes = send, most, most_bytes
        self.clear()
        draining.register(self)

    def clear(self) -> None:
        """Forget everything: at the start, and in a forked child."""
        # Held for moments only, never while something is awaited.
        self._lock = threading.Lock()
        self._lanes: dict[str, deque[_Message[T]]] = {}
        self._ready: deque[str] = deque()
        self._late: deque[_Message[T]] = deque()
        self._sending: dict[str, tuple[asyncio.Timeout, int]] = {}
        self._cut_off: set[str] = set()
        self._workers = 0
        self._watches_late = False
        self._pending_by_session: Counter[str] = Counter()
        self._held = self._held_bytes = 0
        self._sent = self._failed = self._dropped = 0

    @property
    def counters(self) -> Counters:
        """What became of the messages so far."""
        with self._lock:
            return Counters(self._sent, self._failed, self._dropped, self._pending_by_session.total())

    def pending(self, session_id: str | None) -> int:
        """Return how many messages of a session, or of all, wait or are on their way."""
        with self._lock:
            if session_id is None:
                return self._pending_by_session.total()
            return self._pending_by_session[session_id]

    # -- from any thread

    def put(self, session_id: str, content: T, size: int = 0) -> None:
        """Take a message, without waiting and without raising.

        Args:
            session_id: Whose message it is; those of one session are sent one after the other.
            content: What `send` gets.
            size: What it holds, in bytes.
        """
        message = _Message(session_id, content, size, time.monotonic() + ROOM_WAIT_S)
        start_worker = start_watch = full = False
        with self._lock:
            if not self._late and self._has_room(size):
                self._pending_by_session[session_id] += 1
                start_worker = self._enqueue(message)
            elif len(self._late) < MAX_LATE:
                self._pending_by_session[session_id] += 1
                self._late.append(message)
                start_watch, self._watches_late = not self._watches_late, True
            else:
                self._dropped += 1
                full = True
        if full:
            self._log_drop(session_id, "the queue is full")
        try:
            if start_worker:
                draining.start(self._work)
            if start_watch:
                draining.start(self._watch_late)
        except RuntimeError:  # the interpreter is shutting down, or the system has no thread for the loop
            with self._lock:
                self._workers -= start_worker
                self._watches_late &= not start_watch
            self.abandon(None, "the library's event loop cannot be started, or has ended")

    def refuse(self, session_id: str, error: BaseException) -> None:
        """Count and log a message that could not even be made."""
        with self._lock:
            self._failed += 1
        self._log_failure(session_id, error)

    # -- on the library's loop

    def _has_room(self, size: int) -> bool:
        return self._held < MAX_PENDING and (not self._held or self._held_bytes + size <= MAX_PENDING_BYTES)

    def _enqueue(self, message: _Message[T]) -> bool:
        """Put a message in its session's lane; True when a further worker is needed."""
        self._held += 1
        self._held_bytes += message.size
        lane = self._lanes.get(message.session_id)
        if lane is None:
            self._lanes[message.session_id] = deque([message])
            self._ready.append(message.session_id)
        else:  # waiting already, or a worker comes back to it
            lane.append(message)
        if self._workers >= (MAX_IN_FLIGHT if lane is None else 1):
            return False
        self._workers += 1
        return True

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while messages := self._next():
                task.set_name(f"notify:{self.name}:{messages[0].session_id}")
                await self._send(messages, task)
        except BaseException:
            self._replace_worker()
            raise

    def _replace_worker(self) -> None:
        """Start a worker in the place of one that failed: what waits is not to wait for one that is gone."""
        with self._lock:
            is_needed = bool(self._ready)
            self._workers -= not is_needed
        if is_needed:
            with contextlib.suppress(RuntimeError):  # the loop is stopping
                draining.start(self._work)

    def _next(self) -> list[_Message[T]]:
        """Take messages of the session whose turn it is; none when there are none, and the worker ends."""
        with self._lock:
            while self._ready:
                session_id = self._ready.popleft()
                lane = self._lanes[session_id]
                if not lane:
                    del self._lanes[session_id]
                    continue
                messages = [lane.popleft()]
                size = messages[0].size
                while lane and len(messages) < self._most and (size := size + lane[0].size) <= self._most_bytes:
                    messages.append(lane.popleft())
                return messages
            self._workers -= 1
            return []

    async def _send(self, messages: list[_Message[T]], task: asyncio.Task[Any]) -> None:
        session_id = messages[0].session_id
        outcomes: Sequence[BaseException | None] = []
        is_stopping = False
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S) as limit:
                self._sending[session_id] = limit, len(messages)
                outcomes = await self._deliver([message.content for message in messages])
        except BaseException as error:
            outcomes = [error] * len(messages)
            # A cancellation that is not ours is that of what was waited for, on another loop that ended for instance.
            is_stopping = not isinstance(error, Exception | asyncio.CancelledError) or task.cancelling() > 0
            if is_stopping:
                raise
        finally:
            del self._sending[session_id]
            self._note_outcomes(messages, outcomes, is_stopping=is_stopping)

    def _note_outcomes(
        self, messages: list[_Message[T]], outcomes: Sequence[BaseException | None], *, is_stopping: bool
    ) -> None:
        session_id = messages[0].session_id
        sent = sum(outcome is None for outcome in outcomes)
        errors = [error for error in outcomes if error is not None and not isinstance(error, SkippedError)]
        cut_off = session_id in self._cut_off
        cut = [error for error in errors if is_stopping or (cut_off and isinstance(error, TimeoutError))]
        with self._lock:
            self._cut_off.discard(session_id)
            self._sent += sent
            self._failed += len(errors) - len(cut)
            self._dropped += len(cut)
            for message in messages:
                self._forget(message)
                self._held -= 1
                self._held_bytes -= message.size
            if self._lanes[session_id]:
                self._ready.append(session_id)
            else:
                del self._lanes[session_id]
            workers = self._admit_late()
        for _ in range(workers):
            draining.start(self._work)
        draining.progress(session_id, delivered=bool(sent))
        if len(errors) > len(cut):  # those that were cut off were logged then
            self._log_failure(session_id, errors[0], len(errors) - len(cut))

    def _forget(self, message: _Message[T]) -> None:
        self._pending_by_session[message.session_id] -= 1
        if not self._pending_by_session[message.session_id]:
            del self._pending_by_session[message.session_id]

    def _admit_late(self) -> int:
        """Move late messages to where there is room now; returns how many workers are needed."""
        workers = 0
        while self._late and self._has_room(self._late[0].size):
            workers += self._enqueue(self._late.popleft())
        return workers

    async def _watch_late(self) -> None:
        while True:
            expired: list[_Message[T]] = []
            with self._lock:
                now = time.monotonic()
                while self._late and self._late[0].deadline <= now:
                    expired.append(self._late.popleft())
                    self._forget(expired[-1])
                    self._dropped += 1
                if not self._late:
                    self._watches_late = False
                pause = self._late[0].deadline - now if self._late else None
            for message in expired:
                self._log_drop(message.session_id, "the queue stayed full")
                draining.progress(message.session_id, delivered=False)
            if pause is None:
                return
            await asyncio.sleep(pause)

    def abandon(self, session_id: str | None, reason: str) -> int:
        """Drop what is pending of a session, or of all, and cut off what is on its way; returns how many."""
        with self._lock:
            dropped: Counter[str] = Counter()
            for lane_id, lane in self._lanes.items():
                if session_id is None or lane_id == session_id:
                    for message in lane:
                        self._held -= 1
                        self._held_bytes -= message.size
                        self._forget(message)
                    dropped[lane_id] += len(lane)
                    lane.clear()
            late = list(self._late)
            self._late.clear()
            for message in late:
                if session_id is None or message.session_id == session_id:
                    self._forget(message)
                    dropped[message.session_id] += 1
                else:
                    self._late.append(message)
            self._dropped += dropped.total()
            workers = self._admit_late()
            if portal.is_current():
                for sending_id, (limit, count) in self._sending.items():
                    if (session_id is None or sending_id == session_id) and not limit.expired():
                        self._cut_off.add(sending_id)
                        limit.reschedule(0)
                        dropped[sending_id] += count
        for _ in range(workers):
            draining.start(self._work)
        if portal.is_current():
            for dropped_id in dropped:
                draining.progress(dropped_id, delivered=False)
        for dropped_id, count in dropped.items():
            if count:
                self._log_drop(dropped_id, reason, count)
        return dropped.total()

    # -- logs

    def _log_failure(self, session_id: str, error: BaseException, count: int = 1) -> None:
        logger.warning(
            "session_id=<%r>, hook=<%s>, count=<%d>, error=<%s> | notification failed",
            session_id,
            self.name,
            count,
            describe(error),
        )

    def _log_drop(self, session_id: str, reason: str, count: int = 1) -> None:
        logger.warning(
            "session_id=<%r>, hook=<%s>, count=<%d>, reason=<%s> | notifications dropped",
            session_id,
            self.name,
            count,
            reason,
        )
