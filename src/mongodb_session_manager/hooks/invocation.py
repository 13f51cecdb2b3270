"""One operation on its way through its hooks, on an event loop and in plain threads."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .worker import Bridge, LoopBridge, run_in_worker, running_loop

logger = logging.getLogger(__name__)

Hook: TypeAlias = Callable[..., Any]
"""``hook(original_func, action, session_id, **kwargs)``, a plain or an ``async`` function or such an object."""


def is_async(hook: Hook) -> bool:
    """Tell whether calling the hook gives a coroutine, as far as can be known before calling it."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


def fits_any_face(hook: Hook) -> bool:
    """Tell whether the hook is plain around a plain operation and gives an awaitable around a coroutine function."""
    return getattr(hook, "runs_on_any_face", False) is True


def takes_session_manager(hook: Hook) -> bool:
    """Tell whether the hook has a parameter named ``session_manager``; ``**kwargs`` alone does not count."""
    try:
        parameter = inspect.signature(hook).parameters.get("session_manager")
    except (TypeError, ValueError):  # callables written in C may have no signature
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The hooks of one call, the operation inside them, and two drivers that may hand over to each other.

    `run` drives on an event loop, `run_blocking` in a thread. Both take the position in the chain (the number of
    hooks is the operation itself) and the argument as a tuple of none or one.
    """

    hooks: tuple[Hook, ...]
    operation: Callable[..., Any]
    action: str
    session_id: str
    parameter: str | None
    operation_blocks: bool
    session_manager: object | None

    async def run(self, index: int, argument: tuple[Any, ...]) -> Any:
        """Run the rest of the chain from the event loop, without blocking it."""
        if index < len(self.hooks):
            if is_async(self.hooks[index]) or fits_any_face(self.hooks[index]):
                return await _settled(self._call(index, self._awaitable_rest(index + 1), argument))
        elif not self.operation_blocks:
            return await self.operation(*argument)
        work = functools.partial(self._run_in_thread, index, argument)
        return await _settled(await run_in_worker(work))

    def run_blocking(self, index: int, argument: tuple[Any, ...], bridge: Bridge | None) -> Any:
        """Run the rest of the chain in this thread; `bridge` leads to a loop for what must be awaited.

        Without a bridge, nothing in the chain may need a loop.
        """
        if index == len(self.hooks):
            if self.operation_blocks or bridge is None:
                return self.operation(*argument)
            return bridge.call(self._run_if_wanted, index, argument, bridge)
        if bridge is not None and is_async(self.hooks[index]):
            return bridge.call(self._run_if_wanted, index, argument, bridge)

        result = self._call(index, self._blocking_rest(index + 1, bridge), argument)
        # A wrapped or partial async function shows what it is only now. A task or future already has its loop.
        if bridge is not None and inspect.isawaitable(result) and not asyncio.isfuture(result):
            return bridge.call(self._finish, result, bridge)
        return result

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return the argument of a call of ``original_func``.

        Raises:
            TypeError: It was called with anything but the one argument of its action, or none for ``get``.
        """
        if self.parameter is None:
            if args or kwargs:
                raise TypeError(f"original_func() takes no arguments for the action {self.action!r}")
            return ()
        if len(args) == 1 and not kwargs:
            return args
        if not args and kwargs.keys() == {self.parameter}:
            return (kwargs[self.parameter],)
        raise TypeError(
            f"original_func() takes one argument for the action {self.action!r}: "
            f"{self.parameter}, by position or by keyword"
        )

    def _call(self, index: int, original_func: Callable[..., Any], argument: tuple[Any, ...]) -> Any:
        hook = self.hooks[index]
        kwargs: dict[str, Any] = {} if self.parameter is None else {self.parameter: argument[0]}
        if self.session_manager is not None and takes_session_manager(hook):
            kwargs["session_manager"] = self.session_manager
        return hook(original_func, self.action, self.session_id, **kwargs)

    def _awaitable_rest(self, index: int) -> Callable[..., Awaitable[Any]]:
        async def original_func(*args: Any, **kwargs: Any) -> Any:
            return await self.run(index, self.bind(args, kwargs))

        return original_func

    def _blocking_rest(self, index: int, bridge: Bridge | None) -> Callable[..., Any]:
        def original_func(*args: Any, **kwargs: Any) -> Any:
            argument = self.bind(args, kwargs)
            if bridge is not None and bridge.loop is not None and running_loop() is bridge.loop:
                # Called by the coroutine of a hook that looked plain: blocking its loop here would wait for itself.
                return self.run(index, argument)
            return self.run_blocking(index, argument, bridge)

        return original_func

    def _run_in_thread(self, index: int, argument: tuple[Any, ...], bridge: LoopBridge) -> Any:
        try:
            return self.run_blocking(index, argument, bridge)
        except Exception as error:
            if bridge.abandoned:  # no other code will ever see it
                logger.warning(
                    "session_id=<%r>, action=<%s>, error=<%s> | hook failed after its caller was cancelled",
                    self.session_id,
                    self.action,
                    type(error).__name__,
                )
            raise

    async def _run_if_wanted(self, index: int, argument: tuple[Any, ...], bridge: Bridge) -> Any:
        # Checked on the loop that cancels, so nothing starts after the caller was told that it is over.
        if bridge.abandoned:
            raise asyncio.CancelledError("the caller was cancelled before the operation started")
        return await self.run(index, argument)

    async def _finish(self, result: Awaitable[Any], bridge: Bridge) -> Any:
        bridge.loop = asyncio.get_running_loop()
        return await _settled(result)


async def _settled(result: Any) -> Any:
    # Repeated, because an async hook may return original_func(...) without awaiting it.
    while inspect.isawaitable(result):
        result = await result
    return result
