"""What a value in a filter stands for: everything that the API shows as this value.

JSON knows fewer types than a database. What it cannot say, the API shows as text: ObjectIds, UUIDs, decimals, dates,
NaN and integers beyond 2**53. A text therefore finds the text itself and every value that is shown as it; a number or a
boolean finds its own kind only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from ..schema import values
from ..schema.moments import read_moment
from ..schema.names import RESERVED_KEY

_SAFE_INTEGER = 2**53
_LONGEST_NUMBER = 400
_is_integer = re.compile(r"[+-]?[0-9]+").fullmatch
_is_long_integer = re.compile(r"-?0x[0-9a-f]+").fullmatch
_is_timestamp = re.compile(r"Timestamp\(([0-9]{1,10}), ([0-9]{1,10})\)").fullmatch
_is_far_date = re.compile(r"DatetimeMS\((-?[0-9]{1,19})\)").fullmatch
_KEYS = {"MinKey()": MinKey(), "MaxKey()": MaxKey()}
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
    yield from _by_name(text)


def _numbers(text: str) -> Iterator[Any]:
    if not 0 < len(text) <= _LONGEST_NUMBER or text != text.strip() or not text.isascii() or "_" in text:
        return
    if _is_integer(text):
        yield values.encode(int(text))
    try:
        decimal = Decimal(text)
    except InvalidOperation:
        return
    if not decimal.is_snan() and (not _is_integer(text) or abs(decimal) < 2**53):
        yield float(decimal)
    with suppress(ArithmeticError, ValueError):  # more digits than the database's decimals have
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


def _dates(text: str) -> Iterator[Any]:
    if "T" not in text:
        with suppress(ValueError):
            yield values.encode(date.fromisoformat(text))
        return
    with suppress(ValueError, OverflowError):  # no date, or none that the API shows: those have a zone
        yield read_moment(text.replace(" ", "+"))[0]


def _by_name(text: str) -> Iterator[Any]:
    """Yield what has no other form than the name of its kind."""
    if text in _KEYS:
        yield _KEYS[text]
    elif found := _is_timestamp(text):
        seconds, number = int(found[1]), int(found[2])
        if max(seconds, number) < 2**32:
            yield Timestamp(seconds, number)
    elif (found := _is_far_date(text)) and -(2**63) <= int(found[1]) < 2**63:
        yield DatetimeMS(int(found[1]))
    elif _is_long_integer(text):
        yield {RESERVED_KEY: "int", "value": text}
