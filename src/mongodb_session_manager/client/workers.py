"""The threads that run a client's operations, one for each connection at most."""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError, WaitQueueTimeoutError

from ..advice import hosts_of_client, with_advice
from .threads import Job, Threads
from .together import OperationTogether

T = TypeVar("T")

UNLIMITED_WORKERS = 1000
"""Most workers of a client whose pool has no limit (`maxPoolSize=0`)."""

EXIT_WAIT_S = 5.0
"""How long the interpreter's exit waits for operations that are under way, in seconds."""


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
        self._threads = Threads(self._size, self._run)

    @property
    def queued(self) -> int:
        """Operations that wait for a worker."""
        return len(self._threads.waiting)

    def start(
        self, operation: Callable[[], T], loop: asyncio.AbstractEventLoop, timeout_s: float | None = None
    ) -> asyncio.Future[T]:
        """Run an operation on a worker thread, in a copy of the caller's context; see `submit`."""
        return self.submit(operation, loop, timeout_s).future

    def submit(
        self, operation: Callable[[], Any], loop: asyncio.AbstractEventLoop, timeout_s: float | None = None
    ) -> Job:
        """Run an operation on a worker thread, in a copy of the caller's context.

        Args:
            operation: Called on the thread; never when its future was cancelled before a thread was free.
            loop: The event loop of the future that is returned.
            timeout_s: Seconds after which the future fails; the operation goes on all the same.

        Returns:
            The job, whose future is the outcome: the result, an error, or `NetworkTimeout` when it took too long.
        """
        job = Job(operation, loop, self._threads.load)
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, job.expire, timeout_s)
            job.future.add_done_callback(lambda _: timer.cancel())
        self._threads.put(job)
        return job

    def withdraw(self, job: Job) -> bool:
        """Take a job back that no thread has yet; tell whether it was one."""
        return self._threads.withdraw(job)

    def _run(self, job: Job) -> None:
        if job.future.done():
            job.tell_given_up()
            return
        waited_s = time.monotonic() - job.submitted_at
        if self._queue_timeout_s is not None and waited_s > self._queue_timeout_s:
            message = (
                f"waited {waited_s:.1f} s for one of {self._size} connections, which were all in use; "
                "nothing was sent (see maxPoolSize and waitQueueTimeoutMS)"
            )
            job.tell(None, self._advised(WaitQueueTimeoutError(message)))
        elif others := self._threads.taken_along(job):
            self._run_together(job, others)
        else:
            self._run_alone(job)

    def _run_together(self, job: Job, others: list[Job]) -> None:
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
            if each.future.done():
                each.tell_given_up()
            else:
                self._run_alone(each)

    def _run_alone(self, job: Job) -> None:
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
