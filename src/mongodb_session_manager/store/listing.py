"""Finding sessions: filters, and pages that cost the same wherever they are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from pymongo.errors import OperationFailure

from ..client import Collection
from ..schema import paths, values
from ..schema.expressions import is_a
from ..schema.fields import FIELDS
from ..schema.messages import parse_date
from ..schema.metadata import COUNTER
from ..schema.moments import zoned
from ..schema.names import check_agent_id, check_application_name, encode_name, is_path, metadata_path
from .older_counts import NO_SUCH_EXPRESSION, OlderCounts
from .session_data import metadata_of

NEWEST_FIRST = [(paths.CREATED_AT, -1), ("_id", -1)]
SUMMARY_PROJECTION: Final = {field.name: 1 for field in FIELDS if field.is_listed}

SHOWN_METADATA_BYTES = 64 * 1024
"""Metadata of more bytes are not loaded as a whole by a list of sessions, only their short fields."""

_SHORT_FIELD_BYTES = 1024
_SHORT_FIELDS = 64

_LONGEST_CURSOR = 64 * 1024

Interval = tuple[datetime | None, datetime | None]

Position = tuple[Any, str]
"""Where a page ended: the date of its last session, or what other tools left in its place, and its id."""

_ANY_DATE = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


def session_filter(
    metadata: Mapping[str, Any] | None,
    agent_id: str | None,
    application_name: str | None,
    created: Interval,
    updated: Interval,
) -> dict[str, Any]:
    """Return the query for sessions that fulfil all conditions given.

    Args:
        metadata: Fields and the values that they must have; dots address nested fields.
        agent_id: An agent that they must have.
        application_name: Their application.
        created: From which moment on, and before which, they must have been created; None for any.
        updated: Likewise for when they were last active.

    Raises:
        InvalidNameError: A metadata key is not allowed, or the application's name is no string.
        TypeError: A metadata value is not a plain one; operators are never accepted. Or a date is not
            a `datetime`.
        ValueError: A date without a time zone. Naive dates among metadata values are UTC, as they are stored.
    """
    query: dict[str, Any] = {}
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"invalid metadata: it must be a dict of fields and values, not {type(metadata).__name__}")
    for key, value in (metadata or {}).items():
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            raise TypeError(f"invalid metadata filter {key!r}: it must be a plain value, not {type(value).__name__}")
        path = metadata_path(key)
        query[path] = {"$eq": values.encode(value, where=path, native_dates=True)}
    if agent_id is not None:
        query |= _with_agent(check_agent_id(agent_id))
    if application_name is not None:
        query[paths.APPLICATION_NAME] = {"$eq": check_application_name(application_name)}
    for field, name, (start, end) in ((paths.CREATED_AT, "created", created), (paths.UPDATED_AT, "updated", updated)):
        if start is not None:
            query.setdefault(field, {})["$gte"] = zoned(start, f"{name}_from")
        if end is not None:
            query.setdefault(field, {})["$lt"] = zoned(end, f"{name}_before")
    return query


def _with_agent(agent_id: str) -> dict[str, Any]:
    """Return the condition that a session has an agent; older tools wrote ids as they are, dots as nested fields."""
    key = encode_name(agent_id)
    stored: dict[str, Any] = {paths.agent(key): {"$exists": True}}
    if key == agent_id or not is_path(agent_id):
        return stored
    return {"$or": [stored, {paths.agent(agent_id, paths.agent_data(paths.AGENT_ID)): agent_id}]}


def position_of(cursor: str) -> Position:
    """Return the position that a cursor stands for.

    Raises:
        ValueError: No page ended with this cursor.
    """
    if not isinstance(cursor, str) or len(cursor) > _LONGEST_CURSOR:
        raise _no_cursor(cursor)
    try:
        last: dict[str, Any] = bson.decode(base64.urlsafe_b64decode(cursor.encode()), _ANY_DATE)
        created_at, session_id = last["c"], last["i"]
        if not isinstance(created_at, datetime | DatetimeMS | str | int | float | None):
            raise ValueError("not a date, nor what other tools leave")
        if not isinstance(session_id, str):
            raise ValueError("not a session id")
    except (bson.errors.BSONError, binascii.Error, AttributeError, UnicodeError, KeyError, ValueError):
        raise _no_cursor(cursor) from None
    return created_at, session_id


def _no_cursor(cursor: object) -> ValueError:
    return ValueError(f"invalid cursor: {repr(cursor)[:80]} is not one that list_sessions() returned")


def cursor_after(document: Mapping[str, Any]) -> str:
    """Return the cursor that continues after a session."""
    position = {"c": document.get(paths.CREATED_AT), "i": document["_id"]}
    return base64.urlsafe_b64encode(bson.encode(position)).decode()


async def summaries(
    collection: Collection, segments: Collection, query: Mapping[str, Any], limit: int
) -> list[dict[str, Any]]:
    """Return at most `limit` sessions, newest first, with the fields that a list shows.

    Of metadata larger than `SHOWN_METADATA_BYTES` only short fields are read, and `metadata_left_out` is set.
    """
    try:
        found = await collection.find(query, _SHOWN, sort=NEWEST_FIRST, limit=limit)
    except (OperationFailure, ValueError) as error:  # the latter is the mock's way to say it
        if isinstance(error, OperationFailure) and error.code not in NO_SUCH_EXPRESSION:
            raise
        found = await _summaries_by_find(collection, query, limit)
    await OlderCounts(collection, segments).complete(found)
    return found


async def _summaries_by_find(collection: Collection, query: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Return them without `$bsonSize`, which servers before 4.4 lack: by what the documents count themselves."""
    head = {**{name: 1 for name in SUMMARY_PROJECTION if name != paths.METADATA}, COUNTER: 1}
    found = await collection.find(query, head, sort=NEWEST_FIRST, limit=limit)
    small = {"_id": {"$in": [document["_id"] for document in found]}, COUNTER: {"$lte": SHOWN_METADATA_BYTES}}
    whole = {document["_id"]: document for document in await collection.find(small, {paths.METADATA: 1})}
    for document in found:
        document["metadata_left_out"] = document["_id"] not in whole
        document[paths.METADATA] = whole.get(document["_id"], {}).get(paths.METADATA)
    return found


def session_summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a list shows of a session: no messages. What is not known of an older document is None."""
    summary = paths.object_at(document, paths.SUMMARY)
    title, ratings = document.get(paths.TITLE), summary.get(paths.RATINGS)
    return {
        paths.SESSION_ID: document["_id"],
        paths.TITLE: title if isinstance(title, str) else None,
        paths.APPLICATION_NAME: document.get(paths.APPLICATION_NAME),
        paths.CREATED_AT: _date_or_none(document.get(paths.CREATED_AT)),
        paths.UPDATED_AT: _date_or_none(document.get(paths.UPDATED_AT)),
        paths.EXPIRES_AT: document.get(paths.EXPIRES_AT),
        **metadata_of(document),
        **({"metadata_left_out": True} if document.get("metadata_left_out") else {}),
        "agents_count": summary.get(paths.AGENTS),
        "messages_count": summary.get(paths.MESSAGES),
        "feedbacks_count": summary.get(paths.FEEDBACKS),
        paths.RATINGS: dict(ratings) if isinstance(ratings, Mapping) else None,
        "errors_count": summary.get(paths.ERRORS),
        paths.USAGE: summary.get(paths.USAGE) or {},
    }


def _if_object(value: Any, then: Any, otherwise: Any) -> dict[str, Any]:
    return {"$cond": [is_a(value, "object"), then, otherwise]}


_IS_SHORT = {"$lte": [{"$bsonSize": {"v": "$$field.v"}}, _SHORT_FIELD_BYTES]}
_FIELDS = {"$filter": {"input": {"$objectToArray": f"${paths.METADATA}"}, "as": "field", "cond": _IS_SHORT}}
_PART = {"$arrayToObject": {"$slice": [_FIELDS, _SHORT_FIELDS]}}
_IS_SMALL = {"$lte": [{"$bsonSize": {"v": {"$ifNull": [f"${paths.METADATA}", None]}}}, SHOWN_METADATA_BYTES]}
SHOWN_METADATA = {
    "$cond": [_IS_SMALL, f"${paths.METADATA}", _if_object(f"${paths.METADATA}", _PART, "(too large to show)")]
}
"""Expression for what a list shows of metadata, also where another tool left something that is no object."""
_SHOWN = {
    **SUMMARY_PROJECTION,
    paths.METADATA: SHOWN_METADATA,
    "metadata_left_out": _if_object(f"${paths.METADATA}", {"$not": [_IS_SMALL]}, False),
}


def _date_or_none(value: object) -> datetime | None:
    return None if value is None else parse_date(value)
