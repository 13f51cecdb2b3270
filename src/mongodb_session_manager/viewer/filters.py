"""By which metadata fields sessions can be filtered: those that an index of the collection begins with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pymongo.errors import ExecutionTimeout, OperationFailure

from ..errors import InvalidNameError
from ..schema import paths, values
from ..schema.moments import NoZoneError, read_moment
from ..schema.names import metadata_path
from ..web import invalid
from ..web.plain import Plain, findable_text, is_uuid, storable_text
from . import sought
from .search_schemas import FieldType, MetadataField

APPLICATION_NAME = paths.APPLICATION_NAME

_FRESH_S = 30.0
"""Seconds that fields and their values are remembered."""

_COUNTED = 1_000
_DISTINCT_MS = 2_000
_LOOK_MS = 2_000
_LONGEST_FILTERS = 16 * 1024
_BSON_TYPES: Sequence[tuple[FieldType, str]] = (
    ("string", "string"),
    ("number", "number"),
    ("boolean", "bool"),
    ("date", "date"),
)


class FieldCatalog:
    """The fields of one collection that sessions can be filtered by."""

    def __init__(self, collection: Any, enum_fields: frozenset[str], enum_max_values: int) -> None:
        """Look at the driver's `collection`; no I/O.

        Args:
            collection: The sessions.
            enum_fields: Fields to offer the stored values of.
            enum_max_values: Most values that are offered.
        """
        self._collection = collection
        self._enum_fields = enum_fields
        self._enum_max_values = enum_max_values
        self._lock = asyncio.Lock()
        self._fields: dict[str, MetadataField] = {}
        self._fresh_until = 0.0

    async def fields(self) -> dict[str, MetadataField]:
        """Return the fields by name, as they were at most half a minute ago."""
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._fields = await self._look()
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._fields

    async def _look(self) -> dict[str, MetadataField]:
        information = await self._collection.index_information()
        paths = sorted({path for index in information.values() if (path := _filterable(index)) is not None})
        found = await asyncio.gather(*(self._describe(path) for path in paths))
        return {field.field: field for field in found}

    async def _describe(self, path: str) -> MetadataField:
        name = path.removeprefix(paths.metadata(""))
        if name in self._enum_fields:
            offered = await self._values(path)
            if offered is not None:
                return MetadataField(field=name, type="enum", values=offered)
        counts = await self._counts(path)
        # One odd value among many is no reason to show all of them in another way; it can be found all the same.
        most: FieldType = max(counts, key=lambda kind: counts[kind], default="string")
        return MetadataField(field=name, type=most, types=tuple(counts))

    async def _counts(self, path: str) -> dict[FieldType, int]:
        """Return how many values there are of each type that occurs, up to as many as tell which are most."""
        counts: dict[FieldType, int] = {}
        for name, bson_type in _BSON_TYPES:
            query = {path: {"$type": bson_type}}
            try:
                count = await self._collection.count_documents(query, limit=_COUNTED, maxTimeMS=_LOOK_MS)
            except OperationFailure:
                continue  # too slow, or not allowed: the field can be filtered by all the same
            if count:
                counts[name] = count
        return counts

    async def _values(self, path: str) -> list[str | int | float | bool] | None:
        """Return the distinct values, None when there are too many or some that are not plain."""
        pipeline: list[dict[str, Any]] = [
            {"$sort": {path: 1}},
            {"$group": {"_id": f"${path}"}},
            {"$limit": self._enum_max_values + 2},
        ]
        try:
            groups = await self._collection.aggregate(pipeline, maxTimeMS=_DISTINCT_MS).to_list(None)
        except (ExecutionTimeout, OperationFailure):
            return None
        found: dict[tuple[type, Any], str | int | float | bool] = {}
        for group in groups:
            value = values.decode(group["_id"])
            if value is None:
                continue
            shown = Plain(utf8=findable_text).value(value)
            if not isinstance(shown, str | int | float) or (isinstance(value, bytes) and not is_uuid(value)):
                return None
            found[type(shown), shown] = shown
        if len(found) > self._enum_max_values:
            return None
        return sorted(found.values(), key=lambda item: (isinstance(item, str), item))


def _filterable(index: Mapping[str, Any]) -> str | None:
    """Return the field that an index finds sessions by, None when it finds not all, or none by plain values."""
    path, direction = index["key"][0]
    if direction not in (1, -1) or "partialFilterExpression" in index or "collation" in index or "$**" in path:
        return None
    return path if path == APPLICATION_NAME or path.startswith(paths.metadata("")) else None


def parse_filters(text: str | None, fields: Mapping[str, MetadataField]) -> dict[str, Any]:
    """Return the query for filters that came with a request: fields that have an index, and plain values only.

    Raises:
        ApiError: They are something else; it says what.
    """
    query: dict[str, Any] = {}
    for key, value in _loaded(text).items():
        name = key.removeprefix(paths.metadata(""))
        shown = storable_text(key)[:200]
        is_range = isinstance(value, dict) and bool(value) and set(value) <= {"min", "max"}
        if isinstance(value, dict | list) and not is_range:
            kind = "an object" if isinstance(value, dict) else "a list"
            raise invalid("filters", f"the value of {shown!r} must be text, a number or true or false, not {kind}")
        if value is None:
            raise invalid("filters", f"the value of {shown!r} must be text, a number or true or false, not null")
        field = fields.get(name)
        if field is None or (name == APPLICATION_NAME and key != name):
            known = ", ".join(sorted(fields)) or "none"
            raise invalid("filters", f"{shown!r} cannot be filtered by; fields with an index: {known}")
        path = APPLICATION_NAME if name == APPLICATION_NAME else _path(name)
        if path in query:
            raise invalid("filters", f"{shown!r} is given twice")
        query[path] = _range(field, value) if is_range else _condition(field, value)
    return query


def _loaded(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    if len(text) > _LONGEST_FILTERS:
        raise invalid("filters", f"more than {_LONGEST_FILTERS} characters")

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise invalid("filters", 'they must be a JSON object, such as {"priority": "high"}') from None
    if not isinstance(found, dict):
        raise invalid("filters", 'they must be a JSON object, such as {"priority": "high"}')
    return found


def _path(name: str) -> str:
    try:
        return metadata_path(name)
    except InvalidNameError as error:
        raise invalid("filters", str(error)) from None


def _condition(field: MetadataField, value: str | int | float | bool) -> dict[str, Any]:
    if field.types == ("date",) and isinstance(value, str):
        start, end = parse_moment("filters", value)
        return {"$gte": start, "$lt": end} if end is not None else {"$eq": start}
    if "date" in field.types and isinstance(value, str) and _is_day(value):
        start, end = parse_moment("filters", value)
        return {"$gte": start, "$lt": end}
    # Where all values are numbers, or booleans, a text that says one is another value.
    of_one_kind = field.types in (("number",), ("boolean",))
    return sought.condition(value, where=field.field, beyond_json_only=of_one_kind)


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text.strip()))
    except ValueError:
        return False


def _range(field: MetadataField, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition for values between two limits, both included; one of them may be left out."""
    shown = storable_text(field.field)[:200]
    condition: dict[str, Any] = {}
    for name, operator in (("min", "$gte"), ("max", "$lte")):
        limit = limits.get(name)
        if name not in limits:
            continue
        if isinstance(limit, bool) or not isinstance(limit, str | int | float):
            raise invalid("filters", f"the {name} of {shown!r} must be a number, a date or text")
        if field.type == "number" and isinstance(limit, str):
            # As text, since JavaScript's numbers have 53 bits.
            limit = sought.number(limit)
            if limit is None:
                raise invalid("filters", f"the {name} of {shown!r} must be a number")
        if field.type == "date":
            moment, next_day = parse_moment("filters", str(limit))
            # A whole day is included.
            until_next_day = name == "max" and next_day is not None
            condition["$lt" if until_next_day else operator] = next_day if until_next_day else moment
        else:
            condition[operator] = values.encode(limit, where=field.field)
    return condition


def parse_moment(name: str, text: str) -> tuple[datetime, datetime | None]:
    """Return the moment that a text stands for; of a bare date its first moment in UTC, and the first of the next day.

    Raises:
        ApiError: It is neither a date nor a date with time and zone, or lies outside the calendar.
    """
    # A plus of an offset that was not encoded arrives as a space.
    cleaned = text.strip().replace(" ", "+") if "T" in text else text.strip()
    try:
        return read_moment(cleaned)
    except NoZoneError as error:
        raise invalid(name, f"{storable_text(text)[:200]!r}: {error}") from None
    except (ValueError, OverflowError):
        advice = "it must be a date such as 2026-11-21 or 2026-11-21T09:30:00Z"
        raise invalid(name, advice) from None
