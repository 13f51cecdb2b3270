"""Ages and lifetimes as callers give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def moment(older_than: datetime | timedelta) -> datetime:
    """Return the moment before which something counts as older.

    Raises:
        TypeError: Neither a date nor a time span.
        ValueError: A date without a time zone.
    """
    if isinstance(older_than, timedelta):
        return datetime.now(UTC) - older_than
    if not isinstance(older_than, datetime):
        raise TypeError(f"invalid older_than: it must be a datetime or a timedelta, not {type(older_than).__name__}")
    if older_than.tzinfo is None:
        raise ValueError("invalid older_than: a date must have a time zone, such as datetime.now(UTC)")
    return older_than


def seconds(ttl: timedelta | float | None) -> float | None:
    """Return a time to live in seconds, None for ever.

    Raises:
        TypeError: Neither a time span nor a number.
        ValueError: Not more than 0 seconds, or without an end.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, timedelta | int | float):
        raise TypeError(f"invalid ttl: it must be a timedelta or a number of seconds, not {type(ttl).__name__}")
    found = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
    if not 0 < found < float("inf"):
        raise ValueError(f"invalid ttl: it must be more than 0 seconds, got {ttl!r}")
    return found
