"""Keeps fields out of what notifying hooks send, and in what is stored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .chain import chain_hooks, flatten
from .invocation import Hook, fits_any_face, is_async, takes_session_manager
from .watching import any_face

REDACTED = "[redacted]"
"""What stands in the place of a redacted value, unless another mask is given."""


def redact_fields(hook: Hook | Sequence[Hook], fields: Iterable[str], *, mask: Any = REDACTED) -> Hook:
    """Make a hook out of one that sends things away, such that some fields leave the process masked.

    The inner hook sees metadata and feedback with the mask in the place of the values; what it passes on to
    ``original_func`` is stored whole. What it changes or adds itself is stored as well. Keys of deletions and the
    results of reads are not touched::

        metadata_hook=redact_fields(create_metadata_sqs_hook(queue_url), ["email", "customer.phone"])

    Args:
        hook: A notifying hook, or several.
        fields: Names without dots are masked wherever they occur, at any depth; a name with dots is a path from the
            top, and also meets lists of objects on its way. What lies inside a masked field is masked with it.
        mask: What to send instead.

    Raises:
        TypeError: A hook is none, or `fields` is a plain string.
        ValueError: There are no fields, or one of them is empty.
    """
    if isinstance(fields, str):
        raise TypeError(f"invalid fields: it must be a list of names, such as [{fields!r}], not a plain string")
    masked = _Mask(list(fields), mask)
    return chain_hooks(*(_redacting(single, masked) for single in flatten(hook)))


def _redacting(hook: Hook, masked: _Mask) -> Hook:
    def call(
        original_func: Callable[..., Any],
        action: str,
        session_id: str,
        *,
        session_manager: object | None = None,
        **payload: Any,
    ) -> Any:
        if session_manager is not None and takes_session_manager(hook):
            extra: dict[str, Any] = {"session_manager": session_manager}
        else:
            extra = {}
        [(name, whole)] = payload.items() or [("", None)]
        if not isinstance(whole, Mapping):
            return hook(original_func, action, session_id, **payload, **extra)
        shown = masked.applied(whole)

        def store_whole(*args: Any, **kwargs: Any) -> Any:
            given = (_restored(value, shown, whole) for value in args)
            return original_func(*given, **{key: _restored(value, shown, whole) for key, value in kwargs.items()})

        return hook(store_whole, action, session_id, **{name: masked.applied(whole)}, **extra)

    if not is_async(hook):
        return any_face(call) if fits_any_face(hook) else call

    @functools.wraps(call)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return awaited


def _restored(passed_on: Any, shown: Any, whole: Any) -> Any:
    """Return what the inner hook passed on, with the whole value wherever it left what it was shown."""
    if passed_on == shown:
        return whole
    # Changed beside a masked field, which must not be stored as its mask.
    if isinstance(passed_on, Mapping) and isinstance(whole, Mapping):
        return {
            key: _restored(value, shown[key], whole[key]) if key in whole else value for key, value in passed_on.items()
        }
    if isinstance(passed_on, list) and isinstance(whole, list | tuple) and len(passed_on) == len(whole):
        return [_restored(*values) for values in zip(passed_on, shown, whole, strict=True)]
    return passed_on


class _Mask:
    """Copies of dicts with some fields masked."""

    def __init__(self, fields: list[str], mask: Any) -> None:
        if not fields:
            raise ValueError("invalid fields: there must be at least one to redact")
        for field in fields:
            if not isinstance(field, str):
                raise TypeError(f"invalid field: it must be a string, not {type(field).__name__}")
            if "" in field.split("."):
                raise ValueError(
                    f"invalid field: dots separate the names of nested fields, and each needs a name, got {field!r}"
                )
        self._names = frozenset(field for field in fields if "." not in field)
        paths = [tuple(field.split(".")) for field in fields if "." in field]
        # Without positions in lists, too: `orders.0.card` is a card of the orders. What is a position and what is a
        # name made of digits cannot be told apart, so either reading masks.
        self._paths = frozenset(filter(None, (*paths, *map(_without_positions, paths))))
        self._mask = mask

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a deep copy of the containers in `values`, masked."""
        return self._entries(values, ())

    def _entries(self, values: Mapping[Any, Any], path: tuple[str, ...]) -> dict[Any, Any]:
        return {key: self._value(value, (*path, *str(key).split("."))) for key, value in values.items()}

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        if not self._names.isdisjoint(path) or self._is_masked(path) or self._is_masked(_without_positions(path)):
            return self._mask
        if isinstance(value, Mapping):
            return self._entries(value, path)
        if isinstance(value, list | tuple):
            return [self._value(inner, path) for inner in value]
        return value

    def _is_masked(self, path: tuple[str, ...]) -> bool:
        return any(path[: len(field)] == field for field in self._paths)


def _without_positions(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if not part.isdecimal())
