"""For hooks that fit both faces: plain around a plain operation, awaitable around a coroutine function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from ..runtime.cancellation import outcome_of

Ended: TypeAlias = Callable[[BaseException | None, Any], object]
T = TypeVar("T")

# The event loop itself keeps only weak references to its tasks.
_under_way: set[asyncio.Future[Any]] = set()


def any_face(hook: T) -> T:
    """Mark a hook that need not leave the event loop: it returns what `original_func` returns, awaitable or not."""
    setattr(hook, "runs_on_any_face", True)  # noqa: B010
    return hook


def watched(operation: Callable[[], Any], ended: Ended) -> Any:
    """Run an operation of either face and return what it returns.

    Args:
        operation: Returns its result, or an awaitable.
        ended: Called when the operation is over, with its error (None without one) and its result.
    """
    try:
        result = operation()
    except BaseException as error:
        ended(error, None)
        raise
    if inspect.isawaitable(result):
        return _awaited(result, ended)
    ended(None, result)
    return result


def watched_to_its_end(operation: Callable[[], Any], ended: Ended) -> Any:
    """Run a write like `watched`, and see its end also when the caller is cancelled meanwhile.

    A write that is under way then may still be applied, so what follows from it has to follow.
    """
    outcome = watched(operation, ended)
    return _shielded(outcome) if inspect.isawaitable(outcome) else outcome


async def _shielded(pending: Awaitable[Any]) -> Any:
    task = asyncio.ensure_future(pending)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return await outcome_of(task)


async def _awaited(pending: Awaitable[Any], ended: Ended) -> Any:
    try:
        result = await pending
        while inspect.isawaitable(result):  # an async hook further in may return original_func(...) as it is
            result = await result
    except BaseException as error:
        ended(error, None)
        raise
    ended(None, result)
    return result
