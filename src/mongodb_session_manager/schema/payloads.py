"""Large bytes, kept out of the documents that hold them: taken out after encoding, put back before decoding.

What is taken out is named by its SHA-256 and leaves a mark in its place, one of those of `values`::

    {"__bson__": "payload", "value": <sha256>, "size": <bytes>, "subtype"?: <BSON subtype, where it is not 0>}
    {"__bson__": "packed", "value": <sha256>, "size": <bytes>, "payloads": [<sha256>, ...]}

A packed one stands for a whole value, as BSON, in which those payloads are marked in turn. `values.encode` never writes
such a mark, and escapes a dict of the user's that looks like one. A message lists all it refers to in its field
`payloads`, so that references are found without reading contents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import bson
from bson.binary import Binary
from bson.codec_options import CodecOptions

from ..errors import CorruptMessageError, SessionStoreError
from . import paths
from .names import RESERVED_KEY

PAYLOAD_BYTES = 256 * 1024
"""Bytes from this size on are taken out. Measured on one host: taking them out costs an append about 4 ms and a resume
0.8 ms, whatever their size; leaving them in makes each later append to the document dearer, by nothing at 128 KB, by
0.4 ms at 512 KB and by 1 ms at 1 MB."""

SMALL_PAYLOAD_BYTES = 16 * 1024
"""Bytes from this size on are taken out of a value in which the smaller ones are many, too."""

INLINE_BYTES = 1024 * 1024
"""Most smaller bytes that one value keeps."""

STATE_OFFLOAD_BYTES = 1024 * 1024
"""A state that is larger, without its large bytes, is packed: each change writes it whole, and all agents of a session
share the 16 MiB of its document."""

_MARK = RESERVED_KEY
_PAYLOAD, _PACKED = "payload", "packed"
_UNNAMED = "0" * 64
_is_name = re.compile("[0-9a-f]{64}").fullmatch
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


class MissingPayloadError(LookupError):
    """What a mark stands for is not there; the caller knows what it belongs to, and says so."""


@dataclass
class Taken:
    """Bytes taken out of a value: their marks, not named yet, since that takes reading all of them.

    Attributes:
        rest: Where smaller ones were left.
    """

    rest: list[tuple[Any, Any]] = field(default_factory=list)
    _marks: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)

    def take_rest(self) -> bool:
        """Take the smaller ones, too; False when there are none left."""
        places, self.rest = self.rest, []
        self._take(places)
        return bool(places)

    def _take(self, places: Iterable[tuple[Any, Any]]) -> None:
        for holder, key in places:
            data = holder[key]
            mark: dict[str, Any] = {_MARK: _PAYLOAD, "value": _UNNAMED, "size": len(data)}
            if subtype := getattr(data, "subtype", 0):
                mark["subtype"] = subtype
            holder[key] = mark
            self._marks.append((mark, data))

    def named(self) -> dict[str, bytes]:
        """Name the marks by what they stand for, and return that by name."""
        names: dict[int, str] = {}  # One image in many blocks is read once.
        found: dict[str, bytes] = {}
        for mark, data in self._marks:
            name = names.get(id(data)) or names.setdefault(id(data), sha256(data).hexdigest())
            mark["value"] = name
            found[name] = data
        return found


def take(value: Any) -> Taken:
    """Take the large bytes out of an encoded value, a dict or list of the caller's own, in place."""
    places = _places(value)
    taken = Taken()
    if places:
        taken._take(place for place in places if len(_at(place)) >= PAYLOAD_BYTES)
        taken.rest = [place for place in places if isinstance(_at(place), bytes)]
        if sum(len(_at(place)) for place in taken.rest) > INLINE_BYTES:
            taken.take_rest()
    return taken


def _at(place: tuple[Any, Any]) -> Any:
    return place[0][place[1]]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return where bytes sit that are not small: what holds them, and under which key."""
    found: list[tuple[Any, Any]] = []
    holders = [value]
    for holder in holders:
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(item, str):
                continue
            if isinstance(item, dict | list):
                holders.append(item)
            elif isinstance(item, bytes) and len(item) >= SMALL_PAYLOAD_BYTES:
                found.append((holder, key))
    return found


def offload_state(encoded: Any) -> tuple[Any, dict[str, bytes]]:
    """Take the large bytes out of an encoded state; where the rest of it is large, pack that, too.

    Returns:
        What to store, and what was taken out, by name.
    """
    holder = {"v": encoded}
    found = take(holder).named()
    packed = bson.encode(holder)
    if len(packed) > STATE_OFFLOAD_BYTES:
        name = sha256(packed).hexdigest()
        holder["v"] = {_MARK: _PACKED, "value": name, "size": len(packed), paths.PAYLOADS: sorted(found)}
        found[name] = packed
    return holder["v"], found


def names_in(value: Any) -> set[str]:
    """Return the names of all payloads that a stored value refers to."""
    return set(_names(value))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if _is_mark(value):
            yield value["value"]
            yield from (name for name in value.get(paths.PAYLOADS) or () if isinstance(name, str))
            return
        value = value.values()
    elif not isinstance(value, list):
        return
    for item in value:
        if not isinstance(item, str):
            yield from _names(item)


def _is_mark(value: Mapping[str, Any]) -> bool:
    name = value.get("value")
    return value.get(_MARK) in (_PAYLOAD, _PACKED) and isinstance(name, str) and _is_name(name) is not None


def restore(value: Any, payloads: Mapping[str, bytes]) -> Any:
    """Return a stored value with what its marks stand for, still encoded.

    Raises:
        MissingPayloadError: One of them is not among the payloads.
    """
    kind = type(value)
    if kind is dict:
        if _MARK in value and _is_mark(value):
            return _restored(value, payloads)
        return {key: item if type(item) is str else restore(item, payloads) for key, item in value.items()}
    if kind is list:
        return [restore(item, payloads) for item in value]
    return value


def _restored(mark: Mapping[str, Any], payloads: Mapping[str, bytes]) -> Any:
    try:
        data = payloads[mark["value"]]
    except KeyError:
        raise MissingPayloadError(mark["value"]) from None
    if mark[_MARK] == _PACKED:
        return restore(bson.decode(data, _CODEC)["v"], payloads)
    return Binary(data, mark["subtype"]) if "subtype" in mark else data


def payloads_of(document: Mapping[str, Any]) -> set[str]:
    """Return the names of what a stored message refers to, as it lists them itself."""
    listed = document.get(paths.PAYLOADS)
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


def names_by_field(document: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return what a stored message refers to, by field; empty for one that lists nothing."""
    if not payloads_of(document):
        return {}
    return {name: frozenset(found) for name, value in document.items() if (found := names_in(value))}


def restored_message(document: dict[str, Any], payloads: Mapping[str, bytes], agent_id: str) -> dict[str, Any]:
    """Return a stored message with what its marks stand for; the same object where it lists none.

    Raises:
        CorruptMessageError: Something is missing.
    """
    if not payloads_of(document):
        return document
    try:
        return {name: restore(value, payloads) for name, value in document.items()}
    except MissingPayloadError:
        reason = "bytes of it that are stored outside the session document are missing or damaged"
        raise CorruptMessageError(agent_id, document.get(paths.MESSAGE_ID), reason) from None


def restored_graph(state: Any, payloads: Mapping[str, bytes], multi_agent_id: str) -> Any:
    """Return the stored state of a graph or swarm with what its marks stand for.

    Raises:
        SessionStoreError: Something is missing.
    """
    try:
        return restore(state, payloads)
    except MissingPayloadError:
        raise SessionStoreError(
            f"the state of multi-agent {multi_agent_id!r} cannot be read: bytes of it that are stored outside the "
            "session document are missing or damaged"
        ) from None
