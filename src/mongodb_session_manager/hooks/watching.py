"""For hooks that fit both faces: plain around a plain operation, awaitable around a coroutine function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

Ended: TypeAlias = Callable[[BaseException | None, Any], object]
T = TypeVar("T")


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
