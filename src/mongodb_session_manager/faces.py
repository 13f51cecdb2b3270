"""The two faces of the API know of each other: what belongs to one says so when it is used like the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

C = TypeVar("C", bound=type)


def asynchronous(kind: C) -> C:
    """Let a public async class be named by Python's own warnings, and refuse `with` with advice."""
    name, other = kind.__name__, kind.__name__.removeprefix("Async")
    _refuse(
        kind, ("__enter__", "__exit__"), f"{name} is asynchronous: use `async with`, or {other} with a plain `with`"
    )
    _own_names(kind)
    return kind


def synchronous(kind: C) -> C:
    """Let a public synchronous class refuse `async with` with advice."""
    name = kind.__name__
    _refuse(kind, ("__aenter__", "__aexit__"), f"{name} is synchronous: use `with`, or Async{name} with `async with`")
    return kind


def _refuse(kind: type, methods: tuple[str, ...], advice: str) -> None:
    # Set at run time, so that type checkers go on to refuse it before that.
    def refused(self: object, *_: object) -> NoReturn:
        raise TypeError(advice)

    for method in methods:
        setattr(kind, method, refused)


def _own_names(kind: type) -> None:
    """Let inherited coroutines have the class's name: "coroutine 'AsyncX.flush' was never awaited"."""
    for base in kind.__mro__[1:]:
        if not base.__module__.startswith(f"{__package__}."):
            continue
        for method in vars(base).values():
            function: Callable[..., Any] | None = method if inspect.iscoroutinefunction(method) else None
            if function is not None and not function.__name__.startswith("_"):
                function.__qualname__ = f"{kind.__name__}.{function.__name__}"
