"""Threads for plain hooks, and the ways back from them to an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

MAX_WORKERS = 40
"""Outermost hook threads per event loop."""

LOOP_CHECK_S = 1.0
"""How often a waiting thread looks whether its event loop still exists."""

# An own limiter, not anyio's default: a web framework may hold all of the default's tokens in threads that wait for us.
_limiter: RunVar[CapacityLimiter] = RunVar("mongodb_session_manager_hook_workers")
_inside_worker: ContextVar[bool] = ContextVar("mongodb_session_manager_inside_hook_worker", default=False)


class Bridge(Protocol):
    """A way from a thread to an event loop."""

    loop: asyncio.AbstractEventLoop | None
    """The loop at the other end, None as long as it is not known."""

    abandoned: bool
    """Whether the caller stopped waiting for this thread; written on its loop only."""

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> Any:
        """Run a coroutine function on the loop and wait for its result."""


class CallerBridge:
    """From the thread of a blocking caller to the library's own loop."""

    def __init__(self, call_async: Callable[..., Any]) -> None:
        """Use `call_async(function, *args)`; it blocks until the coroutine is done."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.abandoned = False
        self._call_async = call_async

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> Any:
        """Run a coroutine function on the library's loop and wait for its result."""
        return self._call_async(function, *args)


class LoopBridge:
    """From a worker thread back to the loop that started it.

    What it starts is a task of its own there, outside the caller's cancel scopes: it ends by itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lead to `loop`."""
        self.loop: asyncio.AbstractEventLoop | None = loop
        self.abandoned = False
        self._home = loop

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> Any:
        """Run a coroutine function on the loop and wait for its result.

        Raises:
            asyncio.CancelledError: It was cancelled, for instance with its loop.
            RuntimeError: The loop ended before it could run.
        """
        attempt = _attempt(function, *args)
        try:
            future = asyncio.run_coroutine_threadsafe(attempt, self._home)
            self._wait(future)
        except RuntimeError:
            if inspect.getcoroutinestate(attempt) == inspect.CORO_CREATED:
                attempt.close()
            raise
        try:
            result, error = future.result()
        except concurrent.futures.CancelledError:
            # In this thread's own terms, or the caller would see another exception than the operation raised.
            raise asyncio.CancelledError("the operation was cancelled") from None
        if error is not None:
            raise error
        return result

    def _wait(self, future: concurrent.futures.Future[Any]) -> None:
        while not concurrent.futures.wait([future], timeout=LOOP_CHECK_S).done:
            # A loop that ended drops what was scheduled last without a word; waiting on would hold up the exit.
            ended = self._home.is_closed()
            if ended or not (self._home.is_running() or threading.main_thread().is_alive()):
                raise RuntimeError("the event loop ended before the operation could run")


async def run_in_worker(work: Callable[[LoopBridge], Any]) -> Any:
    """Run `work` in a thread and return its result; cancelling ends the waiting, not the thread."""
    bridge = LoopBridge(asyncio.get_running_loop())
    try:
        return await to_thread.run_sync(_work, work, bridge, abandon_on_cancel=True, limiter=_slots())
    except asyncio.CancelledError:
        bridge.abandoned = True
        raise


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _attempt(
    function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any
) -> tuple[Any, None] | tuple[None, Exception]:
    # The error travels as a value: asyncio hands a TimeoutError on as a bare copy, without cause and attributes.
    try:
        return await function(*args), None
    except Exception as error:
        return None, error


def _work(work: Callable[[LoopBridge], Any], bridge: LoopBridge) -> Any:
    _inside_worker.set(True)
    return work(bridge)


def _slots() -> CapacityLimiter:
    if _inside_worker.get():
        # A thread further out waits for this one and keeps its slot: asking the same limiter could wait for ever.
        return CapacityLimiter(1)
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(MAX_WORKERS)
        _limiter.set(limiter)
        return limiter
