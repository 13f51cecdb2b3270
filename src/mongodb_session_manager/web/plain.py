"""Stored values as JSON can say them, short enough to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from bson.binary import Binary

from ..schema.names import RESERVED_KEY
from ..schema.numbers import digits

SHOWN_CHARACTERS = 32 * 1024
"""Characters of one text that are shown; the rest is left out until it is asked for."""

SHOWN_ITEMS = 2_000
"""Most values inside one value that are shown."""

_SAFE_INTEGER = 2**53
_DEEPEST = 100


class Plain:
    """Turns values into what JSON can say.

    Attributes:
        cut: Whether anything was left out because of its size.
    """

    def __init__(
        self, *, whole: bool = False, characters: int = SHOWN_CHARACTERS, utf8: Callable[[str], str] | None = None
    ) -> None:
        """Shorten what is long, texts to so many characters, unless the whole value is wanted.

        Args:
            whole: Leave nothing out.
            characters: Most characters of one text.
            utf8: Turns a text into one that UTF-8 can encode; None for `storable_text`.
        """
        self._utf8 = utf8 or storable_text
        self._characters = None if whole else characters
        self._items = None if whole else SHOWN_ITEMS
        self.cut = False

    def text(self, value: object) -> tuple[str, int]:
        """Return a text, and how many of its characters are left out."""
        text = self._utf8(value if isinstance(value, str) else digits(value) if isinstance(value, int) else str(value))
        if self._characters is None or len(text) <= self._characters:
            return text, 0
        self.cut = True
        return text[: self._characters], len(text) - self._characters

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return any value; what JSON does not know is rendered as text."""
        match value:
            case None | bool():
                return value
            case str():
                text, left_out = self.text(value)
                return f"{text}… (+{left_out} characters)" if left_out else text
            case int():
                return int(value) if abs(value) <= _SAFE_INTEGER else self.text(digits(value))[0]
            case float():
                return value if math.isfinite(value) else str(value)
            case bytes() | bytearray():
                return str(UUID(bytes=bytes(value))) if is_uuid(value) else f"({len(value)} bytes)"
            case datetime():
                return utc_text(value)
            case Mapping():
                return self._object(value, depth)
            case list() | tuple() | set() | frozenset():
                return self._array(list(value), depth)
        return self.text(value)[0]

    def fields(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        """Return an object as one, also where it says that it stands for something else, as any object may."""
        return self._fields(value, 0)

    def _object(self, value: Mapping[Any, Any], depth: int) -> Any:
        if (size := offloaded_size(value)) is not None:
            return f"({size} bytes)"
        if depth >= _DEEPEST:
            self.cut = True
            return "…"
        return self._fields(value, depth)

    def _fields(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, item in value.items():
            if self._is_full():
                shown["…"] = f"+{len(value) - len(shown)} fields"
                break
            shown[self.text(key)[0]] = self.value(item, depth + 1)
        return shown

    def _array(self, value: list[Any], depth: int) -> Any:
        if depth >= _DEEPEST:
            self.cut = True
            return "…"
        shown: list[Any] = []
        for item in value:
            if self._is_full():
                shown.append(f"… (+{len(value) - len(shown)} items)")
                break
            shown.append(self.value(item, depth + 1))
        return shown

    def _is_full(self) -> bool:
        if self._items is None:
            return False
        if self._items == 0:
            self.cut = True
            return True
        self._items -= 1
        return False


def utc_text(moment: datetime) -> str:
    """Return a date in UTC with milliseconds and `Z`."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def storable_text(text: str) -> str:
    """Return the text without lone surrogates, which UTF-8 cannot encode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def findable_text(text: str) -> str:
    """Return the text with lone surrogates as escapes, a backslash, `u` and four digits, so that it can be sought."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_uuid(value: object) -> bool:
    """Tell whether a value is a UUID as BSON has it."""
    return isinstance(value, Binary) and value.subtype in (3, 4) and len(value) == 16


def offloaded_size(value: object) -> int | None:
    """Return the size of what a mark of bytes stored outside the document stands for, None for anything else."""
    if isinstance(value, Mapping) and value.get(RESERVED_KEY) in ("payload", "packed"):
        size = value.get("size")
        return size if isinstance(size, int) else 0
    return None


def number_or_none(value: object) -> int | float | None:
    """Return a number that JSON can say, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) <= _SAFE_INTEGER else None
    return value if math.isfinite(value) else None


def count_or_none(value: object) -> int | None:
    """Return a count, None for anything else."""
    number = number_or_none(value)
    return int(number) if number is not None and number >= 0 else None


def text_or_none(value: object) -> str | None:
    """Return a text, None for anything else."""
    return storable_text(value) if isinstance(value, str) else None
