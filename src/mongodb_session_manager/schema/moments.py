"""Dates by which something is selected, as callers and users give them.

Without a time zone such a date would select other sessions than its writer means, everywhere but in Greenwich. So a
date with a time must say its zone; only a bare day, which users write, is a day in UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from .messages import bson_date

ZONE_RULE = "a date with a time must say its zone, such as Z or +01:00"


class NoZoneError(ValueError):
    """A text says a date and a time, and no zone."""

    def __init__(self) -> None:
        """Say the rule."""
        super().__init__(ZONE_RULE)


def read_moment(text: str) -> tuple[datetime, datetime | None]:
    """Return the moment that a text says; of a bare day its first moment in UTC, and the first of the next day.

    Args:
        text: In ISO 8601, such as `2026-01-31`, `2026-01-31T09:30:00Z` or `2026-01-31T09:30+01:00`.

    Raises:
        NoZoneError: It has a time and no zone.
        OverflowError: The moment, or the end of the day, lies outside the years 1 to 9999.
        ValueError: It is no date.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    else:
        start = datetime.combine(day, time(), UTC)
        return start, start + timedelta(days=1)
    if moment.utcoffset() is None:
        raise NoZoneError
    return bson_date(moment), None


def zoned(value: object, name: str) -> datetime:
    """Return a date that a caller gives, as BSON keeps it.

    Args:
        value: What was given.
        name: For what, for errors.

    Raises:
        TypeError: It is no date.
        ValueError: A date without a time zone, or a moment outside the years 1 to 9999.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"invalid {name}: it must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        advice = "a date must have a time zone, such as datetime.now(timezone.utc)"
        raise ValueError(f"invalid {name}: {advice}, got {value.isoformat()}")
    try:
        return bson_date(value)
    except OverflowError:
        raise _outside(name) from None


def cutoff(older_than: object) -> datetime:
    """Return the moment before which something counts as older.

    Raises:
        TypeError: Neither a date nor a time span.
        ValueError: A date without a time zone, a moment outside the years 1 to 9999, or a negative time span, before
            whose end everything is.
    """
    if not isinstance(older_than, datetime | timedelta):
        kind = type(older_than).__name__
        raise TypeError(f"invalid older_than: it must be a datetime or a timedelta, not {kind}")
    if isinstance(older_than, datetime):
        return zoned(older_than, "older_than")
    if older_than < timedelta():
        raise ValueError(f"invalid older_than: a time span must not be negative, got {older_than}")
    try:
        return bson_date(datetime.now(UTC) - older_than)
    except OverflowError:
        raise _outside("older_than") from None


def _outside(name: str) -> ValueError:
    return ValueError(f"invalid {name}: the moment lies outside the years 1 to 9999")
