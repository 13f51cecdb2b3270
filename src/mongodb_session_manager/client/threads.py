"""Threads that take operations, as many as the process keeps up with, and tell event loops what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import Any

from pymongo.errors import NetworkTimeout

from .load import LOOK_S, Load
from .together import OperationTogether

FEW = 4
"""Threads that work at once in a process that is busy."""

HELD_UP_S = 0.1
"""Time after which an operation is taken to wait for the server, however busy the process is, in seconds."""

LOOKED_THROUGH = 64
"""Waiting operations that are looked at for those that can go together."""

MOST_TOGETHER = 16
"""Commands that go to the server as one, at most: the first of them waits for the last."""


def no_answer(timeout_s: float) -> NetworkTimeout:
    """Return the error for a command that was not answered in time."""
    return NetworkTimeout(f"no answer from the server within {timeout_s:.1f} s")


class Job:
    """One operation, and the future on an event loop that gets its outcome."""

    __slots__ = ("_end", "_is_over", "context", "future", "load", "loop", "operation", "submitted_at")

    def __init__(self, operation: Callable[[], Any], loop: asyncio.AbstractEventLoop, load: Load) -> None:
        self.operation: Any = operation
        self.load = load
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        # What the caller has set holds for the driver, too: a time limit (`pymongo.timeout`), a trace.
        self.context = contextvars.copy_context()
        self.submitted_at = time.monotonic()
        self._is_over = False
        self._end: asyncio.Future[None] | None = None

    async def end(self) -> None:
        """Wait until no thread is at it any more, which may be after its future was cancelled."""
        if not self._is_over:
            self._end = self.loop.create_future()
            await self._end

    def tell(self, result: Any, error: BaseException | None) -> None:
        """Tell the loop what it came to."""
        self.tell_with((), [(result, error)])

    def tell_with(self, others: Sequence[Job], outcomes: Sequence[tuple[Any, BaseException | None]]) -> None:
        """Tell it and others of the same loop, at once."""
        told_at = time.monotonic()

        def set_all() -> None:
            self.load.heard(time.monotonic() - told_at)
            for job, (result, error) in zip((self, *others), outcomes, strict=True):
                job._set(result, error)
                job._finish()

        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile, and with it everything that waited.
            self.loop.call_soon_threadsafe(set_all)

    def tell_given_up(self) -> None:
        """Tell the loop that no thread is at it, and none will be: its future was done while it waited."""
        self.tell(None, None)

    def expire(self, timeout_s: float) -> None:
        """Give it up, on its loop, after so many seconds; a thread may be at it."""
        self._set(None, no_answer(timeout_s))

    def _finish(self) -> None:
        self._is_over = True
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _set(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class _Thread:
    """One thread, and the queue that it waits at."""

    def __init__(self, threads: Threads, number: int) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = threads
        name = f"mongodb-session-manager_{number}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.join = self._thread.join
        # An empty context: the thread outlives the caller that needed it first.
        contextvars.Context().run(self._thread.start)

    def _work(self) -> None:
        job = self.jobs.get()
        while job is not None:
            self._threads.run(job)
            del job  # An idle thread holds no arguments.
            job = self._threads.next_for(self) or self.jobs.get()


class Threads:
    """Threads that take jobs: the one that became idle last comes first, so that few are used and stay warm.

    Where operations wait for the server, each gets a thread. Where the process computes all the time, more threads than
    a few only wait for the interpreter, and each change from one to the other costs: a job waits its turn then.
    """

    def __init__(self, size: int, run: Callable[[Job], None]) -> None:
        self.waiting: deque[Job] = deque()
        self.all: list[_Thread] = []
        self.run = run
        self._size = size
        self._idle: list[_Thread] = []
        self._busy: dict[_Thread, float] = {}
        self.load = Load()
        self._is_ending = False
        self._lock = threading.Lock()

    def put(self, job: Job) -> None:
        """Take a job; raises `RuntimeError` where the system has no thread at all."""
        with self._lock:
            self.waiting.append(job)
            self._give_out(job)

    def withdraw(self, job: Job) -> bool:
        """Take a job back that no thread has yet; tell whether it was one."""
        with self._lock:
            if job not in self.waiting:
                return False
            self.waiting.remove(job)
            return True

    def _give_out(self, job: Job) -> None:
        """Give what waits to threads, as many as may work now; look again when that is not all."""
        moment = time.monotonic()
        while self.waiting and len(self._busy) < self._size and self._has_room(moment):
            thread = self._idle.pop() if self._idle else self._started()
            if thread is None:
                break
            self._busy[thread] = moment
            thread.jobs.put(self.waiting.popleft())
        if self.waiting and len(self._busy) < self._size:
            job.loop.call_later(LOOK_S, self._look_again, job)

    def _started(self) -> _Thread | None:
        """Return a new thread; None where the system has none left, and those that there are have to do."""
        try:
            thread = _Thread(self, len(self.all))
        except RuntimeError:
            if self.all:
                return None
            self.waiting.clear()
            raise
        self.all.append(thread)
        return thread

    def _look_again(self, job: Job) -> None:
        with self._lock:
            if job in self.waiting:
                self._give_out(job)

    def _has_room(self, moment: float) -> bool:
        """Tell whether one more thread may work."""
        if len(self._busy) < FEW or not self.load.is_busy(moment):
            return True
        return sum(moment - since < HELD_UP_S for since in self._busy.values()) < FEW

    def taken_along(self, job: Job) -> list[Job]:
        """Take what waits, is not given up, and can be run along with a job."""
        operation = job.operation
        if not self.waiting or not isinstance(operation, OperationTogether):
            return []
        taken: dict[str, Job] = {}
        with self._lock:
            for other in islice(self.waiting, LOOKED_THROUGH):
                if other.loop is job.loop and not other.future.done() and operation.joins(other.operation):
                    taken.setdefault(other.operation.command.document_id, other)
                    if len(taken) == MOST_TOGETHER - 1:
                        break
            taken.pop(operation.command.document_id, None)
            for other in taken.values():
                self.waiting.remove(other)
        return list(taken.values())

    def next_for(self, thread: _Thread) -> Job | None:
        """Return the next job for a thread that has done one; None when it is to wait at its queue."""
        with self._lock:
            moment = time.monotonic()
            was_full = len(self._busy) == self._size
            del self._busy[thread]
            if self.waiting and self._has_room(moment):
                self._busy[thread] = moment
                return self.waiting.popleft()
            if self.waiting and was_full:
                job = self.waiting[0]  # It came when no thread was free, and is not looked at again so far.
                with contextlib.suppress(RuntimeError):
                    job.loop.call_soon_threadsafe(self._look_again, job)
            self._idle.append(thread)
            if self._is_ending:
                self._end_idle()
            return None

    def end(self) -> None:
        """Let each thread end when what waits is done."""
        with self._lock:
            self._is_ending = True
            self._end_idle()

    def _end_idle(self) -> None:
        while self._idle and not self.waiting:
            self._idle.pop().jobs.put(None)
