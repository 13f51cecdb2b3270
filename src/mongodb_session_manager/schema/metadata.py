"""Updates of a session's metadata: what they may hold, and what they make of what is stored.

A model may write metadata, so an update has limits: its own size, the size of all metadata together, and by how much it
may lengthen a list. An update of fields that lie in no list is judged by its document alone (`guard`): the document
counts in `metadata_bytes` what was ever added, which is never less than what is there. Where that does not decide,
`applied_to` works out what the update would make of the metadata that was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson

from ..errors import InvalidNameError, MetadataTooLargeError
from . import paths, values
from .names import RESERVED_KEY, check_metadata_update, parents

MAX_UPDATE_BYTES = 256 * 1024
"""Most bytes of one update."""

MAX_METADATA_BYTES = 1024 * 1024
"""Most bytes of all metadata of a session."""

COUNTER = paths.METADATA_BYTES
"""Field of a session document: bytes of its metadata, or more."""

_ROOT = paths.METADATA
_POSITION = re.compile("0|[1-9][0-9]*").fullmatch
_MOST_DIGITS = 9
_MOST_CONDITIONS = 100
"""Conditions of one guard: the server takes a second for 20,000, which one update can name."""

_OBJECT = {"$type": "object", "$not": {"$type": "array"}}
# What BSON cannot hold is stored as an object with a mark, into which a path must not lead.
_UNMARKED = {"$exists": False}


@dataclass(frozen=True)
class MetadataUpdate:
    """Fields of the metadata to set.

    Attributes:
        session_id: The session, for errors.
        fields: Encoded values by field path, `metadata.` included.
        growth: The bytes that it adds to the metadata at most, where it lengthens no list.
    """

    session_id: str
    fields: dict[str, Any]
    growth: int

    @classmethod
    def parse(cls, session_id: str, metadata: object) -> MetadataUpdate | None:
        """Return the update that callers ask for as keys and values; None when there is nothing to set.

        Raises:
            InvalidNameError: A key is not allowed, or two keys lie inside each other.
            MetadataTooLargeError: It is larger than `MAX_UPDATE_BYTES`.
            TypeError: Not a dict, or a value cannot be stored.
        """
        paths = check_metadata_update(metadata)
        fields = {path: values.encode(value, where=path, native_dates=True) for path, value in paths.items()}
        if not fields:
            return None
        size = sum(_size_alone(path, value) for path, value in fields.items())
        if size > MAX_UPDATE_BYTES:
            raise MetadataTooLargeError(session_id, "an update of the metadata", size, MAX_UPDATE_BYTES)
        return cls(session_id, fields, size)

    def guard(self) -> dict[str, Any]:
        """Return a condition under which the update keeps all limits, whatever else the document holds.

        It refuses too much rather than too little: a field inside a list, for one.
        """
        above = dict.fromkeys(parent for path in self.fields for parent in parents(path))
        if len(above) > _MOST_CONDITIONS:
            return {COUNTER: {"$lt": 0}}  # never: what is read will decide
        conditions: list[dict[str, Any]] = [
            {"$or": [{path: {"$exists": False}}, {path: _OBJECT, f"{path}.{RESERVED_KEY}": _UNMARKED}]}
            for path in above
        ]
        return {COUNTER: {"$lte": MAX_METADATA_BYTES - self.growth}, "$and": conditions}

    def applied_to(self, stored: Any) -> int:
        """Apply the update to metadata as it is stored, in place, and return the bytes that it takes then.

        Raises:
            InvalidNameError: A key leads into something that has no fields, or lengthens a list by too much.
            MetadataTooLargeError: The metadata would be larger than `MAX_METADATA_BYTES`.
        """
        if not isinstance(stored, dict):
            raise _refused(next(iter(self.fields)), "what is stored as the session's metadata is no object")
        before = metadata_size(stored)
        lengths: dict[int, int] = {}
        for path, value in self.fields.items():
            _set({_ROOT: stored}, path, value, lengths)
        size = metadata_size(stored)
        # What is too large already, as other tools leave it, may still become smaller.
        if size > max(MAX_METADATA_BYTES, before - 1):
            raise MetadataTooLargeError(self.session_id, "all metadata", size, MAX_METADATA_BYTES)
        return size


def deletion_guard(fields: Iterable[str]) -> dict[str, Any]:
    """Return a condition under which no path leads into a marked value; it refuses too much rather than too little."""
    above = dict.fromkeys(parent for path in fields for parent in parents(path) if parent != _ROOT)
    if len(above) > _MOST_CONDITIONS:
        return {COUNTER: {"$lt": 0}}
    return {f"{path}.{RESERVED_KEY}": _UNMARKED for path in above}


def deletable(fields: Iterable[str], stored: object) -> list[str]:
    """Return the paths that lead to fields, or to nothing, and not into a marked value of the metadata as stored."""
    return [path for path in fields if _leads_to_a_field(path.split(".")[1:], stored)]


def _leads_to_a_field(segments: Sequence[str], target: Any) -> bool:
    for segment in segments:
        if isinstance(target, list):
            target = target[int(segment)] if _POSITION(segment) and int(segment) < len(target) else None
        elif isinstance(target, Mapping):
            if not values.is_field_of(segment, target):
                return False
            target = target.get(segment)
    return True


def metadata_size(stored: object) -> int:
    """Return the bytes of metadata as it is stored."""
    return len(bson.encode(stored)) if isinstance(stored, Mapping) else 0


def _size_alone(path: str, value: Any) -> int:
    *parents, name = path.split(".")
    document = {name: value}
    for parent in reversed(parents):
        document = {parent: document}
    return len(bson.encode(document))


def _set(document: dict[str, Any], path: str, value: Any, lengths: dict[int, int]) -> None:
    """Set a field as the server does. `lengths` are those that lists had before the update, by identity."""
    *parents, name = path.split(".")
    target: Any = document
    for depth, segment in enumerate(parents):
        if isinstance(target, list):
            position = _make_room(target, segment, path, lengths)
            target[position] = {} if target[position] is _NEW else target[position]
            target = target[position]
        else:
            target = target.setdefault(segment, {})
        following = [*parents, name][depth + 1]
        if not isinstance(target, list) and not (isinstance(target, dict) and values.is_field_of(following, target)):
            above = ".".join(parents[: depth + 1])
            raise _refused(path, f"{_key(above)!r} holds a plain value, in which there are no fields")
    if isinstance(target, list):
        target[_make_room(target, name, path, lengths)] = value
    else:
        target[name] = value


_NEW = object()


def _make_room(items: list[Any], segment: str, path: str, lengths: dict[int, int]) -> int:
    """Return the position in a list that a part of a path names, lengthening the list as far as that is allowed."""
    if not _POSITION(segment):
        raise _refused(path, f"it leads into a list, where {segment[:40]!r} is no position")
    length = lengths.setdefault(id(items), len(items))
    longest = 2 * length + 1
    if len(segment) > _MOST_DIGITS or int(segment) >= longest:
        raise _refused(
            path, f"position {segment[:40]} would lengthen a list of {length} to more than {longest}, the most at once"
        )
    position = int(segment)
    if position >= len(items):
        items.extend([None] * (position - len(items)))
        items.append(_NEW)
    return position


def _refused(path: str, rule: str) -> InvalidNameError:
    return InvalidNameError("metadata key", _key(path), rule)


def _key(path: str) -> str:
    return path.removeprefix(f"{_ROOT}.")
