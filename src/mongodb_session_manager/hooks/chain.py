"""Several hooks as one, and the two ways to run them around an operation."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, KeysView, Sequence
from typing import Any

from .invocation import Hook, Invocation, is_async
from .worker import CallerBridge


class ChainedHook:
    """Hooks that run one inside the other, the first outermost, for every action.

    A session manager runs each of them the way it needs (plain or ``async``). Called directly, the chain is itself a
    hook: with a plain ``original_func`` it returns the result, with a coroutine function it returns an awaitable.
    """

    def __init__(self, hooks: tuple[Hook, ...]) -> None:
        """Keep the hooks; `chain_hooks` checks them."""
        self.hooks = hooks

    def __call__(
        self,
        original_func: Callable[..., Any],
        action: str,
        session_id: str,
        *,
        session_manager: object | None = None,
        **payload: Any,
    ) -> Any:
        """Run the hooks around `original_func`.

        Raises:
            TypeError: `original_func` is a plain function, and one of the hooks is ``async`` and could only be
                started, not finished. Give the chain itself to the session manager instead.
        """
        awaitable = inspect.iscoroutinefunction(original_func)
        if not awaitable:
            _refuse_async(self.hooks)
        invocation = Invocation(
            self.hooks,
            original_func,
            action,
            session_id,
            parameter=_parameter(payload),
            operation_blocks=not awaitable,
            session_manager=session_manager,
        )
        argument = tuple(payload.values())
        if awaitable:
            return invocation.run(0, argument)
        return invocation.run_blocking(0, argument, None)

    def __repr__(self) -> str:
        """Show how many hooks there are, not what they hold."""
        return f"<chain of {len(self.hooks)} hooks>"


def chain_hooks(*hooks: Hook) -> Hook:
    """Make one hook out of several; the first is outermost, for every action.

    Plain and ``async`` hooks may be mixed, on either manager.

    Raises:
        TypeError: One of them is not a hook.
    """
    return ChainedHook(flatten(hooks))


def flatten(hook: Hook | Sequence[Hook] | None) -> tuple[Hook, ...]:
    """Return the single hooks of what a user may give: a hook, a chain, a list or tuple of them, or None.

    Raises:
        TypeError: Something among them cannot be called as a hook. The message names its type, never its value.
    """
    if hook is None:
        return ()
    if isinstance(hook, ChainedHook):
        return hook.hooks
    if isinstance(hook, list | tuple):
        return tuple(single for entry in hook for single in flatten(_not_none(entry)))
    if isinstance(hook, type):
        raise TypeError(
            f"invalid hook: it must be a callable object, got the class {hook.__name__}; make an instance of it"
        )
    if not callable(hook):
        raise TypeError(
            "invalid hook: it must be callable as hook(original_func, action, session_id, **kwargs), "
            f"got an object of type {type(hook).__name__}"
        )
    return (hook,)


async def apply(
    hooks: Hook | Sequence[Hook] | None,
    operation: Callable[..., Awaitable[Any]],
    action: str,
    session_id: str,
    *,
    session_manager: object | None = None,
    **payload: Any,
) -> Any:
    """Run a coroutine operation inside its hooks and return what the outermost hook returns.

    ``async`` hooks are awaited here. Plain ones run in a worker thread, neighbours in the same one, with an
    ``original_func`` that blocks that thread until the rest is done. Cancelling the caller ends its waiting at once;
    an operation that such a thread has started by then runs to its end, one that it has not is refused.

    Args:
        hooks: Anything that `flatten` accepts.
        operation: Called with the payload's value by position, or with nothing.
        action: ``update``, ``get``, ``delete`` or ``add``.
        session_id: Passed to the hooks.
        session_manager: Passed to hooks that have a parameter of this name.
        payload: At most one: ``metadata``, ``keys`` or ``feedback``. Hooks get a shallow copy, which they may change.
    """
    chain = flatten(hooks)
    if not chain:
        return await operation(*payload.values())
    invocation = Invocation(
        chain,
        operation,
        action,
        session_id,
        parameter=_parameter(payload),
        operation_blocks=False,
        session_manager=session_manager,
    )
    return await invocation.run(0, _copied(payload))


def apply_blocking(
    hooks: Hook | Sequence[Hook] | None,
    operation: Callable[..., Any],
    action: str,
    session_id: str,
    *,
    call_async: Callable[..., Any],
    session_manager: object | None = None,
    **payload: Any,
) -> Any:
    """Run a blocking operation inside its hooks and return what the outermost hook returns.

    Plain hooks run in the caller's thread. An ``async`` hook runs on the loop behind `call_async`; what is inside it
    (plain hooks and the operation) then runs in a worker thread, so that this loop stays free.

    Args:
        hooks: Anything that `flatten` accepts.
        operation: Called with the payload's value by position, or with nothing.
        action: ``update``, ``get``, ``delete`` or ``add``.
        session_id: Passed to the hooks.
        call_async: ``call_async(func, *args)`` runs a coroutine function on another thread's loop and waits for it.
        session_manager: Passed to hooks that have a parameter of this name.
        payload: At most one: ``metadata``, ``keys`` or ``feedback``. Hooks get a shallow copy, which they may change.
    """
    chain = flatten(hooks)
    if not chain:
        return operation(*payload.values())
    invocation = Invocation(
        chain,
        operation,
        action,
        session_id,
        parameter=_parameter(payload),
        operation_blocks=True,
        session_manager=session_manager,
    )
    return invocation.run_blocking(0, _copied(payload), CallerBridge(call_async))


def _not_none(entry: Hook | None) -> Hook:
    # None alone means "no hook"; inside a list it is nearly always a factory that forgot to return its hook.
    if entry is None:
        raise TypeError("invalid hooks: a list of them must hold callables only, got None")
    return entry


def _parameter(payload: dict[str, Any]) -> str | None:
    if len(payload) > 1:
        raise TypeError(
            f"invalid operation: it takes at most one of metadata, keys and feedback, got {', '.join(payload)}"
        )
    return next(iter(payload), None)


def _copied(payload: dict[str, Any]) -> tuple[Any, ...]:
    # Validation hooks add fields in place; the caller's own dict or list must not change under its feet.
    return tuple(_own(value) for value in payload.values())


def _own(value: Any) -> Any:
    if isinstance(value, KeysView):
        return list(value)
    try:
        return copy.copy(value)
    except (TypeError, copy.Error):
        return value  # A proxy, which cannot be changed either, or what the operation refuses in its own words.


def _refuse_async(hooks: tuple[Hook, ...]) -> None:
    for hook in hooks:
        if is_async(hook):
            name = getattr(hook, "__name__", type(hook).__name__)
            raise TypeError(
                f"invalid original_func: the chain holds the async hook {name}, and this function is plain; give the "
                "chain to the session manager, or call it with a coroutine function and await the result"
            )
