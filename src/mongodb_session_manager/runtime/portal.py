"""The library's own event loop: one per process, in a daemon thread, started at first use.

Synchronous callers run coroutines on it (`call`), and work that must outlive its caller's loop is put on it (`start`).
A forked child gets a loop of its own, and the loop is stopped before the interpreter waits for its threads.

It is a plain asyncio loop: anyio's primitives work on it, but anyio's blocking portal is not used, because starting a
task on that one blocks the caller (perhaps another event loop) until the portal's loop has answered.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from pymongo.errors import PyMongoError

from ..advice import brief
from ..green_threads import check_threads

P = ParamSpec("P")
T = TypeVar("T")

EXIT_GRACE_S = 2.0
"""How long the interpreter's exit waits for cancelled tasks to end, in seconds."""


class LoopStoppedError(RuntimeError):
    """The library's loop has stopped, since the interpreter is shutting down."""


def _stopped() -> LoopStoppedError:
    return LoopStoppedError("the session manager's event loop has stopped: the interpreter is shutting down")


class LoopThread:
    """An event loop in a daemon thread of its own, from construction to `stop()`."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._stop_requested = asyncio.Event()
        self._stopping = False
        # Held while something is put on the loop, so that nothing is put behind the request to stop and lost.
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="mongodb-session-manager-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # The runner cancels what is left, and closes generators and the loop, when `_stop_requested` is set.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._wait_for_stop())

    async def _wait_for_stop(self) -> None:
        await self._stop_requested.wait()

    def is_current(self) -> bool:
        """Tell whether the caller runs in this loop's thread."""
        return threading.get_ident() == self._thread.ident

    def start(self, func: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a coroutine function, in a copy of the caller's context, without waiting for anything."""
        future: Future[T] = Future()

        async def run() -> None:
            try:
                result = await func(*args, **kwargs)
            except asyncio.CancelledError:
                future.cancel()
                future.set_running_or_notify_cancel()
                raise
            except BaseException as error:
                # A SystemExit belongs to the caller as well: left to asyncio, it would end this loop for everybody.
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            else:
                if future.set_running_or_notify_cancel():
                    future.set_result(result)

        def spawn() -> None:
            if future.cancelled():
                return
            task = self._loop.create_task(run())
            # The loop itself keeps only weak references to tasks.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            future.add_done_callback(lambda done: self._cancel(task) if done.cancelled() else None)

        self._schedule(spawn)
        return future

    def _schedule(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if self._stopping:
                raise _stopped()
            self._loop.call_soon_threadsafe(callback)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        # When the loop is stopping it cancels every task itself.
        with contextlib.suppress(RuntimeError):
            self._schedule(task.cancel)

    def stop(self, grace_s: float) -> None:
        """Cancel what still runs and wait for it to end, at most `grace_s` seconds."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._loop.call_soon_threadsafe(self._stop_requested.set)
        self._thread.join(grace_s)


class _Process:
    """What this process knows of its loop; a forked child starts from nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop_thread: LoopThread | None = None
        self.exit_hook_registered = False
        self.before_stop: list[Callable[[], None]] = []
        # Closing an inherited loop would take its wake-up pipe out of the epoll set that is shared with the parent,
        # so a child keeps what it inherited and never touches it.
        self.inherited: list[LoopThread] = []


_process = _Process()


def _loop_thread() -> LoopThread:
    current = _process.loop_thread
    if current is not None:
        return current
    if sys.is_finalizing():
        raise _stopped()  # A thread that is started now never runs, and its start would wait for it.
    with _process.lock:
        if _process.loop_thread is None:
            check_threads()
            _stop_at_exit()
            _process.loop_thread = LoopThread()
        return _process.loop_thread


def _stop_at_exit() -> None:
    if _process.exit_hook_registered:
        return
    # Plain atexit callbacks come too late: the interpreter joins non-daemon threads first, and anyio's worker threads
    # end only when their loop does. concurrent.futures has the same need and uses the same hook.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(_stop)
    _process.exit_hook_registered = True


def _stop() -> None:
    loop_thread = _process.loop_thread
    if loop_thread is not None:
        try:
            for callback in _process.before_stop:
                callback()
        finally:
            loop_thread.stop(EXIT_GRACE_S)


def before_stop(callback: Callable[[], None]) -> None:
    """Have a function called when the interpreter exits, while the loop still runs; only if it was ever started."""
    _process.before_stop.append(callback)


def _after_fork_in_child() -> None:
    _process.lock = threading.Lock()
    if _process.loop_thread is not None:
        _process.inherited.append(_process.loop_thread)
        _process.loop_thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def is_current() -> bool:
    """Tell whether the caller runs in the thread of the library's loop."""
    loop_thread = _process.loop_thread
    return loop_thread is not None and loop_thread.is_current()


def start(func: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Schedule a coroutine function on the library's loop and return at once.

    It runs in a copy of the caller's context, and may be called from any thread, the loop's own included. Cancelling
    the future cancels the task.

    Raises:
        RuntimeError: The interpreter is shutting down.
    """
    return _loop_thread().start(func, *args, **kwargs)


def call(func: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function on the library's loop and wait for its result.

    An interrupted wait (Ctrl-C) cancels the coroutine.

    Raises:
        RuntimeError: Called from the library's own loop, which it would block for ever, or at interpreter exit.
    """
    if is_current():
        raise RuntimeError(
            "a synchronous call from the session manager's own event loop would wait for itself; "
            "use the async class there and await it"
        )
    future = start(func, *args, **kwargs)
    try:
        return future.result()
    except PyMongoError as error:
        raise brief(error) from error.__cause__
    except BaseException:
        # No effect on a coroutine that has ended; one whose caller was interrupted is not left running.
        future.cancel()
        raise


def finish(func: Callable[P, Coroutine[Any, Any, object]], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Run what closes something, as `call` does; nothing when the loop has stopped, since the process ends then.

    Functions that `atexit` calls come after that.
    """
    with contextlib.suppress(LoopStoppedError):
        call(func, *args, **kwargs)
