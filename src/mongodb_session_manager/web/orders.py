"""In which order sessions are listed, and where a page of that order ended."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS

from ..schema import paths
from ..schema.sessions import behind
from .errors import invalid

Sort = Literal["created", "updated", "messages", "tokens"]

FIELDS: Mapping[Sort, str] = {
    "created": "created_at",
    "updated": "updated_at",
    "messages": paths.SUMMARY_MESSAGES,
    "tokens": paths.summary_usage("totalTokens"),
}
"""Where a session document says what it is listed by. An index that begins with the field, `_id` next, serves it."""

_ANY_DATE = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


@dataclass(frozen=True)
class Place:
    """Where a page ended.

    Attributes:
        value: What its last session is listed by, or what other tools left in its place.
        session_id: That session.
    """

    value: Any
    session_id: str


@dataclass(frozen=True)
class Order:
    """One of the orders, the largest or newest first; sessions that lack the field come last."""

    sort: Sort = "created"

    @property
    def field(self) -> str:
        """What sessions are listed by."""
        return FIELDS[self.sort]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The order as MongoDB takes it."""
        return [(self.field, -1), ("_id", -1)]

    def place(self, document: Mapping[str, Any]) -> Place:
        """Return where a session stands."""
        value: Any = document
        for name in self.field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return Place(value, document["_id"])

    def after(self, query: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Return the query for what comes after a place."""
        return behind(query, self.field, place.value, place.session_id)

    def cursor(self, place: Place) -> str:
        """Return the cursor that continues after a place."""
        order = {} if self.sort == "created" else {"s": self.sort}
        return base64.urlsafe_b64encode(bson.encode({"c": place.value, "i": place.session_id, **order})).decode()

    def place_of(self, cursor: str) -> Place:
        """Return the place that a cursor stands for.

        Raises:
            ApiError: No page ended with it, or it is one of another order.
        """
        try:
            last: dict[str, Any] = bson.decode(base64.urlsafe_b64decode(cursor.encode()), _ANY_DATE)
            value, session_id, sort = last["c"], last["i"], last.get("s", "created")
            if not isinstance(value, datetime | DatetimeMS | str | int | float | None) or not isinstance(
                session_id, str
            ):
                raise ValueError("not a place")
        except (bson.errors.BSONError, binascii.Error, AttributeError, UnicodeError, KeyError, ValueError):
            raise invalid("cursor", "no page ended with it") from None
        if sort != self.sort:
            raise invalid("cursor", "it belongs to a page of another order")
        return Place(value, session_id)
