"""Waiting until what is under way is dealt with: for one session, or for all when the interpreter exits."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from . import portal
from .errors import describe

logger = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long a drain goes on without a delivery, in seconds."""

DRAIN_AT_MOST_S = 120.0
"""How long a drain goes on however much is delivered, in seconds."""


FORK_WAIT_S = 30.0
"""How long a fork waits for what is being prepared, in seconds."""


class Drainable(Protocol):
    """What holds messages."""

    def pending(self, session_id: str | None) -> int:
        """Return how many messages of a session, or of all, wait or are on their way."""

    def abandon(self, session_id: str | None, reason: str) -> int:
        """Drop what is pending of a session, or of all, and cut off what is on its way; returns how many."""

    def clear(self) -> None:
        """Forget everything, in a process that was just forked: what the parent holds the parent sends."""


class _Registry:
    """What this process knows of its outboxes; locks are made anew in a forked child."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.outboxes: weakref.WeakSet[Drainable] = weakref.WeakSet()
        self.drains: set[_Drain] = set()  # of the library's loop, and only touched there
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.knows_exit = False
        self.preparing = 0  # likewise
        self.prepared = threading.Condition()

    def pending(self, session_id: str | None) -> list[Drainable]:
        with self.lock:
            outboxes = list(self.outboxes)
        return [outbox for outbox in outboxes if outbox.pending(session_id)]


_registry = _Registry()


class _Drain:
    def __init__(self, session_id: str | None, wait_s: float) -> None:
        self.session_id = session_id
        self.changed = asyncio.Event()
        self._wait_s = wait_s
        now = asyncio.get_running_loop().time()
        self._until = now + wait_s
        self._at_most = now + max(DRAIN_AT_MOST_S, wait_s)

    def note(self, session_id: str, *, delivered: bool) -> None:
        if self.session_id in (None, session_id):
            if delivered:
                self.goes_on(anyhow=True)
            self.changed.set()

    def goes_on(self, *, anyhow: bool = False) -> bool:
        """Give more time when something is being prepared; tell whether there is time left."""
        now = asyncio.get_running_loop().time()
        if anyhow or _registry.preparing:
            self._until = min(now + self._wait_s, self._at_most)
        return now < self._until

    async def wait(self) -> None:
        """Wait for an end of a message.

        Raises:
            TimeoutError: The time is over.
        """
        async with asyncio.timeout_at(self._until):
            await self.changed.wait()
        self.changed.clear()


def register(outbox: Drainable) -> None:
    """Have an outbox drained with the others, as long as it is referenced."""
    with _registry.lock:
        _registry.outboxes.add(outbox)


def progress(session_id: str, *, delivered: bool) -> None:
    """Tell drains that a message of a session is dealt with; only on the library's loop."""
    for drain_ in _registry.drains:
        drain_.note(session_id, delivered=delivered)


async def drain(session_id: str | None, wait_s: float = DRAIN_S) -> int:
    """Wait until the messages of a session, or of all, are dealt with; from any loop.

    It goes on as long as something is delivered, at most `DRAIN_AT_MOST_S`.

    Args:
        session_id: Which session; None for all.
        wait_s: How long to wait without a delivery, in seconds. What is left then is dropped.

    Returns:
        How many messages were dropped.
    """
    if not _registry.pending(session_id):
        return 0
    return await asyncio.wrap_future(start(_drain, session_id, wait_s))


async def _drain(session_id: str | None, wait_s: float) -> int:
    this = _Drain(session_id, wait_s)
    _registry.drains.add(this)
    try:
        while _registry.pending(session_id):
            try:
                await this.wait()
            except TimeoutError:
                if not this.goes_on():
                    return await _give_up(this)
    finally:
        _registry.drains.discard(this)
    return 0


async def _give_up(drain_: _Drain) -> int:
    session_id = drain_.session_id
    dropped = [outbox.abandon(session_id, "not delivered in time") for outbox in _registry.pending(session_id)]
    # What was cut off ends on its own, moments later.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while _registry.pending(session_id):
                await drain_.changed.wait()
                drain_.changed.clear()
    return sum(dropped)


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """Stop the clock of drains, and let forks wait, while this process readies itself for sending.

    Only on the library's loop.
    """
    with _registry.prepared:
        _registry.preparing += 1
    try:
        yield
    finally:
        with _registry.prepared:
            _registry.preparing -= 1
            _registry.prepared.notify_all()
        for drain_ in _registry.drains:
            drain_.goes_on(anyhow=True)


def close_at_exit(closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have a coroutine function called on the library's loop, after the last drain, when the interpreter exits."""
    if closer not in _registry.closers:
        _registry.closers.append(closer)


def start(func: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Start a coroutine function on the library's loop, from any thread, and have what it does finished at exit."""
    # In a context of its own: a task that serves many would otherwise belong to the trace of its first caller.
    if not _registry.knows_exit:
        _registry.knows_exit = True
        portal.before_stop(_finish)
    return contextvars.Context().run(portal.start, func, *args)


def _finish() -> None:
    """Deliver what forgotten managers left, when the interpreter exits."""

    async def finish() -> None:
        try:
            await _drain(None, DRAIN_S)
        finally:
            for closer in _registry.closers:
                try:
                    await closer()
                except Exception as error:
                    logger.warning("error=<%s> | not closed in order", describe(error))

    if _registry.pending(None) or _registry.closers:
        # Bounded once more, because nothing else would end an exit whose loop is blocked.
        with contextlib.suppress(concurrent.futures.TimeoutError):
            portal.start(finish).result(DRAIN_AT_MOST_S + DRAIN_S)


def _before_fork() -> None:
    # A child that is forked in the middle of an import waits for ever for its end, once it needs the same.
    _registry.prepared.acquire()
    if not portal.is_current():
        _registry.prepared.wait_for(lambda: not _registry.preparing, FORK_WAIT_S)


def _after_fork_in_parent() -> None:
    _registry.prepared.release()


def _after_fork_in_child() -> None:
    # What the parent holds the parent sends.
    _registry.lock, _registry.prepared = threading.Lock(), threading.Condition()
    _registry.drains, _registry.preparing = set(), 0
    for outbox in list(_registry.outboxes):
        outbox.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
