"""Ages and lifetimes as callers give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..schema.numbers import check_seconds


def moment(older_than: datetime | timedelta) -> datetime:
    """Return the moment before which something counts as older.

    Raises:
        TypeError: Neither a date nor a time span.
        ValueError: A date without a time zone, or a moment outside the years 1 to 9999.
    """
    if isinstance(older_than, timedelta):
        try:
            return datetime.now(UTC) - older_than
        except OverflowError:
            raise ValueError("invalid older_than: the moment lies outside the years 1 to 9999") from None
    if not isinstance(older_than, datetime):
        raise TypeError(f"invalid older_than: it must be a datetime or a timedelta, not {type(older_than).__name__}")
    if older_than.utcoffset() is None:
        raise ValueError("invalid older_than: a date must have a time zone, such as datetime.now(UTC)")
    return older_than


def seconds(ttl: timedelta | float | None) -> float | None:
    """Return a time to live in seconds, None for ever.

    Raises:
        TypeError: Neither a time span nor a number.
        ValueError: Not more than 0 seconds, or longer than 1,000 years.
    """
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    elif isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"invalid ttl: it must be a timedelta or a number of seconds, not {type(ttl).__name__}")
    return float(check_seconds("ttl", ttl, zero=False))
