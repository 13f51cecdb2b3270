"""The threads that run a client's operations, one for each connection at most."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, NetworkTimeout, PyMongoError, WaitQueueTimeoutError

from ..advice import hosts_of_client, with_advice
from .together import Outcome, SentTogether

T = TypeVar("T")

UNLIMITED_WORKERS = 1000
"""Most workers of a client whose pool has no limit (`maxPoolSize=0`)."""

FEW = 4
"""Threads that work at once in a process that is busy."""

LOOK_S = 0.01
"""Time over which a process is looked at to tell whether it is busy, in seconds."""

BUSY = 0.85
"""Processor time for each second from which on it is: the interpreter runs one thread at a time."""

LATE_S = 0.002
"""How late its event loops hear of outcomes, on average, from which on it is, too: it may get less than a processor."""

HELD_UP_S = 0.1
"""Time after which an operation is taken to wait for the server, however busy the process is, in seconds."""

EXIT_WAIT_S = 5.0
"""How long the interpreter's exit waits for operations that are under way, in seconds."""

LOOKED_THROUGH = 64
"""Waiting operations that are looked at for those that can go together."""

MOST_TOGETHER = 16
"""Commands that go to the server as one, at most: the first of them waits for the last."""


class OperationTogether:
    """An operation that takes along others of its kind that wait."""

    __slots__ = ("command", "native")

    def __init__(self, command: SentTogether, native: Any) -> None:
        """Take a command, and the driver's collection."""
        self.command = command
        self.native = native

    def __call__(self) -> Any:
        """Send the command by itself."""
        return self.command(self.native)

    def joins(self, other: object) -> bool:
        """Tell whether another operation can be run along with it."""
        return (
            isinstance(other, OperationTogether) and other.native is self.native and self.command.joins(other.command)
        )

    def run_with(self, others: Sequence[OperationTogether]) -> list[Outcome] | None:
        """Run it and others as one; None where that does not tell what became of each."""
        return self.command.send_with([other.command for other in others], self.native)


class _Job:
    """One operation, and the future on an event loop that gets its outcome."""

    __slots__ = ("context", "future", "load", "loop", "operation", "submitted_at")

    def __init__(self, operation: Callable[[], Any], loop: asyncio.AbstractEventLoop, load: _Load) -> None:
        self.operation: Any = operation
        self.load = load
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        # What the caller has set holds for the driver, too: a time limit (`pymongo.timeout`), a trace.
        self.context = contextvars.copy_context()
        self.submitted_at = time.monotonic()

    def tell(self, result: Any, error: BaseException | None) -> None:
        self.tell_with((), [(result, error)])

    def tell_with(self, others: Sequence[_Job], outcomes: Sequence[tuple[Any, BaseException | None]]) -> None:
        """Tell it and others of the same loop, at once."""
        told_at = time.monotonic()

        def set_all() -> None:
            self.load.heard(time.monotonic() - told_at)
            for job, (result, error) in zip((self, *others), outcomes, strict=True):
                job._set(result, error)

        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile, and with it everything that waited.
            self.loop.call_soon_threadsafe(set_all)

    def expire(self, timeout_s: float) -> None:
        self._set(None, no_answer(timeout_s))

    def _set(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def no_answer(timeout_s: float) -> NetworkTimeout:
    """Return the error for a command that was not answered in time."""
    return NetworkTimeout(f"no answer from the server within {timeout_s:.1f} s")


class _Load:
    """Tells whether the process has more to do than it keeps up with."""

    def __init__(self) -> None:
        self._since = self._cpu = -1.0
        self._was_busy = True
        self._late_s = 0.0

    def heard(self, late_s: float) -> None:
        """Take how late an event loop heard of an outcome; the last dozen or so count."""
        self._late_s += (late_s - self._late_s) / 8

    def is_busy(self, moment: float) -> bool:
        """Tell it of the last while; unknown is busy."""
        passed = moment - self._since
        if passed >= LOOK_S:
            cpu = time.process_time()
            if passed > 3 * LOOK_S:
                self._was_busy, self._late_s = True, 0.0  # What was heard before says nothing of now.
            else:
                self._was_busy = cpu - self._cpu > BUSY * passed or self._late_s > LATE_S
            self._since, self._cpu = moment, cpu
        return self._was_busy


class _Thread:
    """One thread, and the queue that it waits at."""

    def __init__(self, threads: _Threads, number: int) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
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


class _Threads:
    """Threads that take jobs: the one that became idle last comes first, so that few are used and stay warm.

    Where operations wait for the server, each gets a thread. Where the process computes all the time, more threads than
    a few only wait for the interpreter, and each change from one to the other costs: a job waits its turn then.
    """

    def __init__(self, size: int, run: Callable[[_Job], None]) -> None:
        self.waiting: deque[_Job] = deque()
        self.all: list[_Thread] = []
        self.run = run
        self._size = size
        self._idle: list[_Thread] = []
        self._busy: dict[_Thread, float] = {}
        self.load = _Load()
        self._is_ending = False
        self._lock = threading.Lock()

    def put(self, job: _Job) -> None:
        with self._lock:
            self.waiting.append(job)
            self._give_out(job)

    def _give_out(self, job: _Job) -> None:
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

    def _look_again(self, job: _Job) -> None:
        with self._lock:
            if job in self.waiting:
                self._give_out(job)

    def _has_room(self, moment: float) -> bool:
        """Tell whether one more thread may work."""
        if len(self._busy) < FEW or not self.load.is_busy(moment):
            return True
        return sum(moment - since < HELD_UP_S for since in self._busy.values()) < FEW

    def taken_along(self, job: _Job) -> list[_Job]:
        """Take what waits and can be run along with a job."""
        operation = job.operation
        if not self.waiting or not isinstance(operation, OperationTogether):
            return []
        taken: dict[str, _Job] = {}
        with self._lock:
            for other in islice(self.waiting, LOOKED_THROUGH):
                if other.loop is job.loop and operation.joins(other.operation):
                    taken.setdefault(other.operation.command.document_id, other)
                    if len(taken) == MOST_TOGETHER - 1:
                        break
            taken.pop(operation.command.document_id, None)
            for other in taken.values():
                self.waiting.remove(other)
        return list(taken.values())

    def next_for(self, thread: _Thread) -> _Job | None:
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


class Workers:
    """The worker threads of one client, at most one for each of its connections; started as they are needed.

    Operations beyond that wait in a queue here, so `waitQueueTimeoutMS` is applied here too. Idle workers do not keep
    the interpreter from exiting, and a forked child starts with none.

    `concurrent.futures` would do, at twice the price of a command for the event loop: it keeps a future of its own
    behind each one of the loop's, with a lock and a condition for threads that wait, of which there are none here.
    """

    def __init__(self, client: MongoClient[Any]) -> None:
        """Take size and queue time limit from the client's pool; start nothing."""
        pool = client.options.pool_options
        # An unlimited pool is None, 0 or infinite, depending on the driver's version.
        size = pool.max_pool_size
        self._size = int(size) if size and size < UNLIMITED_WORKERS else UNLIMITED_WORKERS
        self._queue_timeout_s = pool.wait_queue_timeout
        # Weakly: the workers of a borrowed client are kept for as long as the client lives.
        self._client = weakref.ref(client)
        self._reset()
        _all_workers.add(self)

    def _reset(self) -> None:
        self._threads = _Threads(self._size, self._run)

    @property
    def queued(self) -> int:
        """Operations that wait for a worker."""
        return len(self._threads.waiting)

    def start(
        self, operation: Callable[[], T], loop: asyncio.AbstractEventLoop, timeout_s: float | None = None
    ) -> asyncio.Future[T]:
        """Run an operation on a worker thread, in a copy of the caller's context.

        Args:
            operation: Called on the thread; never when its future was cancelled before a thread was free.
            loop: The event loop of the future that is returned.
            timeout_s: Seconds after which the future fails; the operation goes on all the same.

        Returns:
            Its outcome: the result, an error, or `NetworkTimeout` when it took too long.
        """
        job = _Job(operation, loop, self._threads.load)
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, job.expire, timeout_s)
            job.future.add_done_callback(lambda _: timer.cancel())
        self._threads.put(job)
        return job.future

    def _run(self, job: _Job) -> None:
        if job.future.done():
            return  # Given up while it waited.
        waited_s = time.monotonic() - job.submitted_at
        if self._queue_timeout_s is not None and waited_s > self._queue_timeout_s:
            message = (
                f"waited {waited_s:.1f} s for one of {self._size} connections, which were all in use; "
                "nothing was sent (see maxPoolSize and waitQueueTimeoutMS)"
            )
            job.tell(None, self._advised(WaitQueueTimeoutError(message)))
        elif others := [other for other in self._threads.taken_along(job) if not other.future.done()]:
            self._run_together(job, others)
        else:
            self._run_alone(job)

    def _run_together(self, job: _Job, others: list[_Job]) -> None:
        """Run jobs as one, and where that does not tell what became of each, one after the other."""
        first: OperationTogether = job.operation
        try:
            outcomes = job.context.run(first.run_with, [other.operation for other in others])
        except AutoReconnect as error:
            # Each caller sends its own again when it is time.
            outcomes = [(None, self._advised(copy(error))) for _ in (job, *others)]
        except Exception:
            outcomes = None
        if outcomes is not None:
            job.tell_with(others, outcomes)
            return
        for each in (job, *others):
            if not each.future.done():
                self._run_alone(each)

    def _run_alone(self, job: _Job) -> None:
        try:
            result = job.context.run(job.operation)
        except BaseException as error:
            job.tell(None, self._advised(error) if isinstance(error, PyMongoError) else error)
            del job  # The error's traceback holds this frame.
        else:
            job.tell(result, None)

    def _advised(self, error: PyMongoError) -> PyMongoError:
        error = with_advice(error, hosts_of_client(self._client()))
        error.__suppress_context__ = True
        return error

    def shutdown(self) -> None:
        """Let the threads end with what they are doing and what is queued, without waiting for them."""
        threads = self._threads
        self._reset()
        threads.end()

    def finish(self, wait_s: float) -> None:
        """Let the threads end, and wait for them for at most so many seconds."""
        threads = self._threads
        self.shutdown()
        until = time.monotonic() + wait_s
        for thread in threads.all:
            thread.join(max(0.0, until - time.monotonic()))


_all_workers: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    # After the library's own loop, which writes what is left: it ends before these callbacks.
    for workers in list(_all_workers):
        workers.finish(EXIT_WAIT_S)


def _after_fork_in_child() -> None:
    # The threads stayed in the parent, and its locks may be held for ever.
    for workers in list(_all_workers):
        workers._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
