"""Lifetimes as callers give them."""

from __future__ import annotations

from datetime import timedelta

from ..schema.numbers import check_seconds


def seconds(ttl: timedelta | float | None) -> float | None:
    """Return a time to live in seconds, None for ever.

    Raises:
        TypeError: Neither a time span nor a number.
        ValueError: Not more than 0 seconds, or longer than 1,000 years.
    """
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        return float(check_seconds("ttl", ttl.total_seconds(), zero=False, given=ttl))
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"invalid ttl: it must be a timedelta or a number of seconds, not {type(ttl).__name__}")
    return float(check_seconds("ttl", ttl, zero=False))
