"""Values of any shape, as what BSON can hold, and back.

What BSON holds is stored as it is, so that users can query it. Anything else is marked by the field `__bson__`:

- `{"__bson__": "int", "value": "0x..."}` and likewise `str`, `datetime`, `date`, `decimal`, `uuid`, `tuple`;
- `{"__bson__": "keys", ...}`: an object of which some key is no field name; its keys are escaped, its values are where
  they would be without the mark;
- `{"__bson__": "pairs", "value": [[key, value], ...]}`: a dict of which some key is no string;
- `{"__bson__": "dataclass", "name": "Weather", "value": {...}}`: the fields of a dataclass's instance, read back as a
  dict, and `{"__bson__": "deep", "value": [...]}`: a value nested deeper than BSON allows, flat (`nested`). Only where
  that is asked for;
- `{"__bson__": "payload", ...}` and `{"__bson__": "packed", ...}`: what is stored outside the document. Neither written
  nor read here, but by `payloads`, between `encode` and the document.

No stored key is empty, holds a dot or a NUL, or starts with `$`, which servers before 5.0 refuse.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import bson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from . import nested
from .names import RESERVED_KEY, decode_name, encode_name

MAX_DEPTH = 150
"""Most levels of nesting of an encoded value. The server stores 180, of which the field it lies in takes its share."""

_MARK = RESERVED_KEY
_ESCAPED_MARK = f"%{RESERVED_KEY}"  # `encode_name` never writes a `%` before a `_`
_FIELD_NAME = re.compile("[^$.\x00\ud800-\udfff][^.\x00\ud800-\udfff]*").fullmatch
_INT64 = 1 << 63
_UUID_BYTES = 16

_ROOM_OF_ITEM = 2
_ROOM_OF_FLAT = nested.LEVELS + 1 + _ROOM_OF_ITEM
"""Levels of nesting of what is flat: its nodes in a mark, and what one item takes, such as a marked date."""

_DEEPEST_STEP = 3
"""Most levels of nesting between a container and what lies in it: in pairs."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_NATIVE = (ObjectId, Decimal128, Int64, Binary, Regex, Timestamp, DatetimeMS, MinKey, MaxKey)
_TOO_DEEP = "nested too deeply to be stored, or inside itself"
_LEGACY_BYTES = frozenset({"__bytes_encoded__", "data"})


def encode(
    value: Any,
    *,
    where: str = "value",
    max_depth: int = MAX_DEPTH,
    native_dates: bool = False,
    foreign: bool = False,
    flattens: bool = False,
) -> Any:
    """Return a fresh copy of the value that BSON can hold and that `decode` turns into an equal value.

    Bytes-like objects become bytes, and subclasses of plain types (enums among them) the plain value.

    Args:
        value: Anything made of dicts, lists, tuples, text, bytes, numbers, dates, `Decimal`, `UUID` and BSON types.
        where: What the value is, for errors.
        max_depth: Most levels of nesting in the encoded form, where a mark takes a level of its own.
        native_dates: Store every datetime as a BSON date, which is UTC in milliseconds. A naive one is taken as UTC.
            Without it a datetime that BSON would change is marked.
        foreign: The value comes from code that does not know of its storage, such as a tool: take whatever Strands' own
            session managers take. That is instances of dataclasses, and up to `nested.MAX_DEPTH` levels.
        flattens: Store what has no room for its levels flat, which a foreign value that needs it gets by itself.

    Raises:
        TypeError: A value of another type. The message says where it sits, not what it holds.
        ValueError: Nested deeper than `max_depth`, or cyclic, or a date that UTC cannot express.
    """
    try:
        return _Encoder(native_dates, foreign, flattens=flattens).encode(value, max_depth)
    except _UnstorableError as refusal:
        may_flatten = foreign and not flattens and max_depth >= _ROOM_OF_FLAT + _DEEPEST_STEP
        if may_flatten and isinstance(refusal, _TooDeepError):
            return encode(
                value, where=where, max_depth=max_depth, native_dates=native_dates, foreign=True, flattens=True
            )
        raise refusal.error(f"invalid {where}{refusal.path()}: {refusal}") from None
    except RecursionError:  # an ordinary value, met by a caller that has used up Python's stack itself
        raise ValueError(f"invalid {where}: {_TOO_DEEP}") from None


def decode(value: Any) -> Any:
    """Return a fresh copy of an encoded value as it was before `encode`; BSON dates are in UTC.

    What looks like a mark but was not written by `encode` is returned as it is stored.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        if _MARK in value:
            return _decode_marked(value)
        return {key: item if type(item) is str else decode(item) for key, item in value.items()}
    if kind is list:
        return [decode(item) for item in value]
    return _decode_other(value)


def decode_legacy_bytes(value: Any) -> Any:
    """Return a fresh copy with `{"__bytes_encoded__": true, "data": <base64>}`, Strands' file form of bytes, as bytes.

    Only for documents of other tools: in a value that `encode` made, such an object is the user's own.
    """
    if isinstance(value, dict):
        if value.keys() == _LEGACY_BYTES and value["__bytes_encoded__"] is True and isinstance(value["data"], str):
            try:
                return base64.b64decode(value["data"], validate=True)
            except (binascii.Error, ValueError):
                return dict(value)
        return {key: decode_legacy_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode_legacy_bytes(item) for item in value]
    return value


def encoded_size(value: Any) -> int:
    """Return the bytes that an encoded value takes as a document of its own, which is a few more than inside one."""
    return len(bson.encode({"v": value}))


class _UnstorableError(Exception):
    """Why a value was refused, and the keys that lead to it, innermost first."""

    def __init__(self, error: type[Exception], reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.keys: list[Any] = []

    def path(self) -> str:
        return "".join(_path_part(key) for key in reversed(self.keys))


class _TooDeepError(_UnstorableError):
    """There is no level of nesting left."""

    def __init__(self) -> None:
        super().__init__(ValueError, _TOO_DEEP)


class _Encoder:
    """One walk over a value; `room` is how many levels of nesting are left below.

    With `flattens`, what would need more room than there is becomes flat.
    """

    def __init__(self, native_dates: bool, foreign: bool, *, flattens: bool = False) -> None:
        self._native_dates = native_dates
        self._foreign = foreign
        self._flattens = flattens

    def encode(self, value: Any, room: int) -> Any:
        kind = type(value)
        if self._flattens and room < _ROOM_OF_FLAT + _DEEPEST_STEP and nested.is_container(value):
            return self._flat(value, room)
        if kind is str:
            return value if value.isascii() else _encode_text(value, room)
        if kind is dict:
            return self._object(value, room)
        if kind is list:
            return self._array(value, room)
        if kind is bool or value is None or kind is float or kind is bytes:
            return value
        if kind is int:
            return value if -_INT64 <= value < _INT64 else _marked("int", hex(value), room)
        return self._other(value, room)

    def _object(self, value: dict[Any, Any], room: int) -> dict[str, Any]:
        _check_room(room)
        for key in value:
            if type(key) is not str or not _FIELD_NAME(key) or key == _MARK:
                return self._odd_object(value, room)
        return self._fields(value, room)

    def _fields(self, value: dict[str, Any], room: int) -> dict[str, Any]:
        encoded = {}
        for key, item in value.items():
            try:
                encoded[key] = self.encode(item, room - 1)
            except _UnstorableError as refusal:
                refusal.keys.append(key)
                raise
        return encoded

    def _odd_object(self, value: dict[Any, Any], room: int) -> dict[str, Any]:
        if not all(isinstance(key, str) for key in value):
            return self._pairs(value, room)
        plain = {str.__str__(key): item for key, item in value.items()}
        encoded = self._fields(plain, room)
        if all(_FIELD_NAME(key) and key != _MARK for key in plain):
            return encoded  # enum members and the like, as keys
        return {_MARK: "keys"} | {_escape_key(key): item for key, item in encoded.items()}

    def _pairs(self, value: dict[Any, Any], room: int) -> dict[str, Any]:
        _check_room(room - 2)
        pairs = []
        for key, item in value.items():
            try:
                pairs.append([self.encode(key, room - 3), self.encode(item, room - 3)])
            except _UnstorableError as refusal:
                refusal.keys.append(key)
                raise
        _check_distinct([key for key, _ in pairs])
        return {_MARK: "pairs", "value": pairs}

    def _array(self, value: list[Any] | tuple[Any, ...], room: int) -> list[Any]:
        _check_room(room)
        encoded = []
        for index, item in enumerate(value):
            try:
                encoded.append(self.encode(item, room - 1))
            except _UnstorableError as refusal:
                refusal.keys.append(index)
                raise
        return encoded

    def _other(self, value: Any, room: int) -> Any:
        match value:
            case datetime():
                moment = _plain_datetime(value)
                return _utc_milliseconds(moment) if self._native_dates else _encode_datetime(moment, room)
            case tuple():
                return _marked("tuple", self._array(value, room - 1), room)
            case bytearray() | memoryview():
                return bytes(value)
            case Binary() if value.subtype == 0:
                return bytes(value)
            case _ if isinstance(value, _NATIVE):
                return value
            case Enum():
                return self.encode(value.value, room)
            case dict():
                return self._object(value, room)
            case list():
                return self._array(value, room)
            case str():
                return self.encode(str.__str__(value), room)
            case int():
                return self.encode(int(value), room)
            case float():
                return float(value)
            case bytes():
                return bytes(value)
            case _ if self._foreign and is_dataclass(value) and not isinstance(value, type):
                name, fields = nested.dataclass_fields(value)
                return _marked("dataclass", self._object(fields, room - 1), room) | {"name": name}
            case date():
                return _marked("date", value.isoformat(), room)
            case Decimal():
                return _marked("decimal", str(value), room)
            case UUID():
                return _marked("uuid", str(value), room)
        raise _UnstorableError(TypeError, f"cannot store a {type(value).__name__}; {_instead(value)}")

    def _flat(self, value: Any, room: int) -> dict[str, Any]:
        """Return a value of any depth in `_ROOM_OF_FLAT` levels."""
        plain = _Encoder(self._native_dates, foreign=False)
        try:
            nodes = nested.flatten(value, lambda item: plain.encode(item, room - _ROOM_OF_FLAT + _ROOM_OF_ITEM))
        except nested.TooDeepError:
            raise _TooDeepError from None
        return _marked("deep", nodes, room)


def _check_room(room: int) -> None:
    if room < 1:
        raise _TooDeepError


def _check_distinct(keys: list[Any]) -> None:
    try:
        distinct = {decode(key) for key in keys}
    except TypeError:
        raise _UnstorableError(TypeError, "cannot store a dict with such keys") from None
    if len(distinct) < len(keys):
        raise _UnstorableError(TypeError, "cannot store a dict of which two keys would be stored alike")


def _marked(kind: str, value: Any, room: int) -> dict[str, Any]:
    _check_room(room)
    return {_MARK: kind, "value": value}


def _encode_text(value: str, room: int) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return _marked("str", value.encode("utf-8", "surrogatepass"), room)
    return value


def _instead(value: Any) -> str:
    """Say what can be stored in the place of a value."""
    if isinstance(value, type):
        return "store an instance's values, or the name of the class"
    if hasattr(value, "model_dump"):
        return "store what its .model_dump() returns"
    if is_dataclass(value):
        return "store what dataclasses.asdict() returns for it"
    if isinstance(value, set | frozenset):
        return "store a list"
    return "store None, bool, int, float, str, bytes, dates, Decimal, UUID, or dicts, lists and tuples of them"


def _plain_datetime(value: datetime) -> datetime:
    if type(value) is datetime:
        return value
    return datetime.combine(value.date(), value.timetz())


def _encode_datetime(value: datetime, room: int) -> Any:
    if value.microsecond % 1000 == 0 and _is_utc(value):
        return value.replace(tzinfo=UTC)
    marked = _marked("datetime", value.isoformat(), room)
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        # An offset alone would not compare equal in the hour that a zone's clocks repeat.
        marked["zone"] = value.tzinfo.key
    if value.fold:
        marked["fold"] = value.fold
    return marked


def _is_utc(value: datetime) -> bool:
    return value.tzinfo is UTC or (value.tzname() == "UTC" and not value.utcoffset())


def _utc_milliseconds(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC) if value.utcoffset() is not None else value.replace(tzinfo=UTC)
    except OverflowError:
        raise _UnstorableError(ValueError, "the date lies outside the years 1 to 9999 in UTC") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000, fold=0)


def _escape_key(key: str) -> str:
    return _ESCAPED_MARK if key == _MARK else encode_name(key)


def _unescape_key(key: str) -> str:
    return _MARK if key == _ESCAPED_MARK else decode_name(key)


def _path_part(key: Any) -> str:
    if isinstance(key, int):
        return f"[{key:d}]"
    if isinstance(key, str) and len(key) <= 40:
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    # What is no short name may be content, which an error must not spill.
    return f"[<{type(key).__name__} key>]"


def _decode_other(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, Int64):
        return int(value)
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == _UUID_BYTES:
        return value.as_uuid(UuidRepresentation.STANDARD)
    if isinstance(value, dict):
        return decode(dict(value))
    return value


def _decode_marked(value: dict[str, Any]) -> Any:
    kind = value[_MARK]
    if kind == "keys":
        return {_unescape_key(key): decode(item) for key, item in value.items() if key != _MARK}
    decoder = _DECODERS.get(kind) if isinstance(kind, str) and "value" in value else None
    if decoder is not None and (kind == "pairs" or value.keys() <= _MARK_FIELDS):
        try:
            return decoder(value)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
            pass  # not written by `encode`: what is stored must stay readable
    return {key: decode(item) for key, item in value.items()}


def _decode_pairs(value: dict[str, Any]) -> dict[Any, Any]:
    pairs = {decode(key): decode(item) for key, item in value["value"]}
    # Fields beside the mark were set later, by a path into the dict.
    return pairs | {key: decode(item) for key, item in value.items() if key not in (_MARK, "value")}


def _decode_datetime(value: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(value["value"]).replace(fold=value.get("fold", 0))
    try:
        return moment.replace(tzinfo=ZoneInfo(value["zone"])) if "zone" in value else moment
    except (ValueError, KeyError, OSError):  # this machine does not know the zone: the offset tells the same moment
        return moment


_MARK_FIELDS = frozenset({_MARK, "value", "zone", "fold", "name"})
_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "int": lambda marked: int(marked["value"], 16),
    "str": lambda marked: str(marked["value"], "utf-8", "surrogatepass"),
    "tuple": lambda marked: tuple(decode(marked["value"])),
    "pairs": _decode_pairs,
    "datetime": _decode_datetime,
    "date": lambda marked: date.fromisoformat(marked["value"]),
    "decimal": lambda marked: Decimal(marked["value"]),
    "uuid": lambda marked: UUID(marked["value"]),
    "dataclass": lambda marked: decode(marked["value"]),
    "deep": lambda marked: nested.rebuild(marked["value"], decode),
}


def is_field_of(segment: str, value: Mapping[str, Any]) -> bool:
    """Tell whether a part of a path names a field of the dict that a stored object is, and not of a marked value."""
    mark = value.get(_MARK)
    return mark == "keys" or (segment != "value" if mark == "pairs" else mark not in _DECODERS)
