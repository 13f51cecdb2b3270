"""Where the background work of a session runs: on its own event loop, or on the library's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from . import portal
from .cancellation import look, outcome_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
Job = asyncio.Task[Any] | Future[Any]


class Home:
    """Starts the background work of one session, keeps it, and waits for it.

    Work runs on the library's loop where the client can be used there, since a task on the caller's loop would end with
    that loop; else on the running loop. Nothing else asks which.
    """

    def __init__(self, session_id: str, *, on_portal: bool) -> None:
        """Start nothing.

        Args:
            session_id: For names and the log.
            on_portal: Whether the session's client can be used on the library's loop.
        """
        self.on_portal = on_portal
        self._session_id = session_id
        self._jobs: set[Job] = set()
        self._busy: set[str] = set()

    def start(self, kind: str, work: Callable[[], Coroutine[Any, Any, T]], *, here: bool = False) -> Job:
        """Start work, and keep it until it ends; who started it looks at its outcome.

        Args:
            kind: What it is, for names.
            work: The coroutine function.
            here: On the running loop, although the client could be used on the library's.

        Raises:
            RuntimeError: There is no loop for it: none runs, and the client cannot be used on the library's.
        """
        job: Job
        if self.on_portal and not here:
            job = portal.start(work)
        else:
            job = asyncio.get_running_loop().create_task(work(), name=f"{kind}:{self._session_id}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def leave(
        self,
        kind: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        here: bool = False,
        repeats: bool = False,
    ) -> None:
        """Start work that nothing waits for; a failure is a warning in the log.

        Args:
            kind: What it is. Nothing is started while work of this kind runs, unless it `repeats`.
            work: The coroutine function.
            here: On the running loop, although the client could be used on the library's.
            repeats: Each call has to be worked through.
        """
        if kind in self._busy and not repeats:
            return
        self._busy.add(kind)
        try:
            job = self.start(kind, work, here=here)
        except BaseException:
            self._busy.discard(kind)
            raise
        job.add_done_callback(lambda job: self._ended(kind, job))

    def _ended(self, kind: str, job: Job) -> None:
        self._busy.discard(kind)
        look(job, partial(self._log_failure, kind))

    def _log_failure(self, kind: str, error: BaseException) -> None:
        logger.warning(
            "session_id=<%r>, work=<%s>, error=<%s> | work in the background failed, it is tried again later",
            self._session_id,
            kind,
            type(error).__name__,
        )

    async def undisturbed(self, kind: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for work that goes on when the caller is cancelled, since its outcome would be unknown otherwise."""
        result: T = await self.outcome_of(kind, self.start(kind, work))
        return result

    async def outcome_of(self, kind: str, job: Job) -> Any:
        """Wait for started work, which goes on when the caller is cancelled; a failure is a line of the log then."""
        return await outcome_of(awaitable(job), partial(self._log_failure, kind))

    def inherit(self) -> None:
        """Forget, in a forked process, what runs in the one that started it."""
        self._jobs.clear()
        self._busy.clear()

    async def wait(self) -> None:
        """Wait for what runs, whatever comes of it."""
        await wait_for(self._jobs)


async def wait_for(jobs: Iterable[Job], wait_s: float | None = None) -> None:
    """Wait for work, whatever comes of it, as far as the running loop can, and for at most so many seconds."""
    loop = asyncio.get_running_loop()
    waited = [awaitable(job) for job in tuple(jobs) if isinstance(job, Future) or job.get_loop() is loop]
    if waited:
        await asyncio.wait(waited, timeout=wait_s)


def awaitable(job: Job) -> asyncio.Future[Any]:
    """Return work as something that the running loop can wait for."""
    if not isinstance(job, Future):
        return job
    future = asyncio.wrap_future(job)
    # For those who wait for its end alone: an error that is not looked at is a traceback in asyncio's log.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
