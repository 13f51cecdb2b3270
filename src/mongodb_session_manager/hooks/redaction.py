"""Keeps fields out of what notifying hooks send, and in what is stored."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..schema.names import check_names
from .chain import chain_hooks, flatten
from .invocation import Hook, fits_any_face, is_async, takes_session_manager
from .watching import any_face

REDACTED = "[redacted]"
"""What stands in the place of a redacted value, unless another mask is given."""


def redact_fields(hook: Hook | Sequence[Hook], fields: Iterable[str], *, mask: Any = REDACTED) -> Hook:
    """Make a hook out of one that sends things away, such that some fields leave the process masked.

    The inner hook sees metadata and feedback with the mask in the place of the values; what it passes on to
    ``original_func`` is stored whole, wherever it moved a masked value to; in a copy by way of JSON, and with a mask
    that is neither a text of several letters nor an object or a list, only where it stayed. What it changes or adds
    itself is stored as well. Keys of deletions and the results of reads are not touched::

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
    masked = _Mask(check_names("fields", fields), mask)
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
        known = masked.applied(whole)
        places = {id(place.shown): place for place in _places(known) if place.is_one_of_a_kind}

        def store_whole(*args: Any, **kwargs: Any) -> Any:
            given = (_restored(value, known, places) for value in args)
            return original_func(*given, **{key: _restored(value, known, places) for key, value in kwargs.items()})

        return hook(store_whole, action, session_id, **{name: _shown(known)}, **extra)

    if not is_async(hook):
        return any_face(call) if fits_any_face(hook) else call

    @functools.wraps(call)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return awaited


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A value that is masked, and what is shown in its place."""

    whole: Any
    shown: Any
    is_one_of_a_kind: bool
    """Whether `shown` is an object of its own, by which the value is found where the hook moves it."""

    @classmethod
    def of(cls, whole: Any, mask: Any) -> _Place:
        if type(mask) is str and len(mask) > 1:
            # Equal to the mask, and another object: Python shares texts of one letter only.
            return cls(whole, f"{mask[:1]}{mask[1:]}", True)
        if isinstance(mask, dict | list):
            return cls(whole, copy.deepcopy(mask), True)
        return cls(whole, mask, False)


def _places(known: Any) -> Iterator[_Place]:
    if isinstance(known, _Place):
        yield known
    elif isinstance(known, dict | list | tuple):
        for inner in known.values() if isinstance(known, dict) else known:
            yield from _places(inner)


def _shown(known: Any) -> Any:
    """Return what the inner hook sees, in containers that it may change."""
    if isinstance(known, _Place):
        return known.shown
    if isinstance(known, dict):
        return {key: _shown(value) for key, value in known.items()}
    if isinstance(known, list | tuple):
        return type(known)(_shown(value) for value in known)
    return known


def _restored(passed_on: Any, known: Any, places: Mapping[int, _Place]) -> Any:
    """Return what the inner hook passed on, with the whole value wherever it left what it was shown."""
    if (place := places.get(id(passed_on))) is not None:
        return place.whole
    if isinstance(known, _Place):
        is_left = type(passed_on) is type(known.shown) and passed_on == known.shown
        return known.whole if is_left else passed_on
    if isinstance(passed_on, Mapping):
        inside = known if isinstance(known, dict) else {}
        return {key: _restored(value, inside.get(key), places) for key, value in passed_on.items()}
    if isinstance(passed_on, list | tuple):
        is_as_long = isinstance(known, list | tuple) and len(known) == len(passed_on)
        beside = known if is_as_long else [None] * len(passed_on)
        items = [_restored(value, inner, places) for value, inner in zip(passed_on, beside, strict=True)]
        return tuple(items) if isinstance(passed_on, tuple) else items
    return passed_on


class _Mask:
    """Finds what is to be masked."""

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
        """Return a deep copy of the containers in `values`, with a `_Place` for each value that is masked."""
        return self._entries(values, ())

    def _entries(self, values: Mapping[Any, Any], path: tuple[str, ...]) -> dict[Any, Any]:
        return {key: self._value(value, (*path, *str(key).split("."))) for key, value in values.items()}

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        if not self._names.isdisjoint(path) or self._is_masked(path) or self._is_masked(_without_positions(path)):
            return _Place.of(value, self._mask)
        if isinstance(value, Mapping):
            return self._entries(value, path)
        if isinstance(value, list | tuple):
            inside = [self._value(inner, path) for inner in value]
            return tuple(inside) if isinstance(value, tuple) else inside
        return value

    def _is_masked(self, path: tuple[str, ...]) -> bool:
        return any(path[: len(field)] == field for field in self._paths)


def _without_positions(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if not part.isdecimal())
