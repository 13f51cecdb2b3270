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
        raise TypeError(f"fields must be a list of names, such as [{fields!r}], not a plain string")
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


def _restored(passed_on: Any, shown: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """Return what the inner hook passed on, with the whole value for each field that it left as it was shown."""
    if not isinstance(passed_on, Mapping):
        return passed_on
    return {key: whole[key] if key in whole and value == shown[key] else value for key, value in passed_on.items()}


class _Mask:
    """Copies of dicts with some fields masked."""

    def __init__(self, fields: list[str], mask: Any) -> None:
        if not fields:
            raise ValueError("name at least one field to redact")
        for field in fields:
            if not isinstance(field, str):
                raise TypeError(f"a field must be a string, not {type(field).__name__}")
            if "" in field.split("."):
                raise ValueError(
                    f"{field!r} is no field: dots separate the names of nested fields, and each needs a name"
                )
        self._names = frozenset(field for field in fields if "." not in field)
        self._paths = [_path(field) for field in fields if "." in field]
        self._mask = mask

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a deep copy of the containers in `values`, masked."""
        return {key: self._value(value, _path(str(key))) for key, value in values.items()}

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        if not self._names.isdisjoint(path) or any(path[: len(field)] == field for field in self._paths):
            return self._mask
        if isinstance(value, Mapping):
            return {key: self._value(inner, (*path, str(key))) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(inner, path) for inner in value]
        return value


def _path(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    # Without positions in lists: `orders.0.card` is a card of the orders, too.
    return tuple(part for part in parts if not part.isdecimal()) or parts
