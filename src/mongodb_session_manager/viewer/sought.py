"""What a value in a filter stands for: everything that the API shows as this value.

JSON knows fewer types than a database. What it cannot say, the API shows as text: ObjectIds, UUIDs, decimals, dates,
NaN and integers beyond 2**53. A text therefore finds the text itself and every value that is shown as it; a number or a
boolean finds its own kind only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from ..schema import values
from ..schema.moments import read_moment

_SAFE_INTEGER = 2**53
_LONGEST_NUMBER = 400
_is_integer = re.compile(r"[+-]?[0-9]+").fullmatch
_surrogate = re.compile(r"\\u(d[89a-f][0-9a-f]{2})")


def condition(value: str | int | float | bool, *, where: str, beyond_json_only: bool = False) -> dict[str, Any]:
    """Return the condition for a value.

    Args:
        value: As it came in a filter.
        where: The field, for errors.
        beyond_json_only: Let a text not find the numbers and booleans that JSON can say, as a person who types means.
    """
    if not isinstance(value, str):
        return {"$eq": values.encode(value, where=where)}
    found: list[Any] = []
    said_by_json = False
    for candidate in _candidates(value):
        if beyond_json_only and isinstance(candidate, int | float) and abs(candidate) <= _SAFE_INTEGER:
            said_by_json = True
            continue
        # Equal values of two types are two values to the database.
        if not any(type(one) is type(candidate) and one == candidate for one in found):
            found.append(candidate)
    condition: dict[str, Any] = {"$eq": found[0]} if len(found) == 1 else {"$in": found}
    # To the database a decimal equals numbers of other types.
    return condition | ({"$not": {"$type": ["int", "long", "double", "bool"]}} if said_by_json else {})


def number(text: str) -> int | float | Decimal128 | None:
    """Return the number that a text says, None when it says none or one that the database cannot compare."""
    for found in _numbers(text):
        if isinstance(found, int | float | Decimal128) and not isinstance(found, bool):
            return found
    return None


def _candidates(text: str) -> Iterator[Any]:
    yield values.encode(text)
    if _surrogate.search(text):
        yield values.encode(_surrogate.sub(lambda found: chr(int(found[1], 16)), text))
    yield from _numbers(text)
    if text in ("true", "false"):
        yield text == "true"
    if ObjectId.is_valid(text):
        yield ObjectId(text)
    yield from _uuids(text)
    yield from _dates(text)


def _numbers(text: str) -> Iterator[Any]:
    if not 0 < len(text) <= _LONGEST_NUMBER or text != text.strip() or not text.isascii() or "_" in text:
        return
    if _is_integer(text):
        yield values.encode(int(text))
    try:
        decimal = Decimal(text)
    except InvalidOperation:
        return
    if not _is_integer(text) or abs(decimal) < 2**53:
        yield float(text)
    with suppress(InvalidOperation):  # more digits than the database's decimals have
        yield Decimal128(decimal)
    yield values.encode(decimal)


def _uuids(text: str) -> Iterator[Any]:
    try:
        found = UUID(text)
    except ValueError:
        return
    if str(found) == text.lower():
        yield Binary(found.bytes, 4)
        yield Binary(found.bytes, 3)
        yield values.encode(found)


def _dates(text: str) -> Iterator[datetime]:
    if "T" not in text:
        return
    with suppress(ValueError, OverflowError):  # no date, or none that the API shows: those have a zone
        yield read_moment(text.replace(" ", "+"))[0]
