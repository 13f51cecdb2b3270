"""Numbers that callers and models give: what MongoDB can hold of them, and what makes sense as a count or a time."""

from __future__ import annotations

import math
from typing import TypeGuard

INT32_MAX = 2**31 - 1
"""Largest limit of a query."""

INT64_MAX = 2**63 - 1

LONGEST_S = 1_000 * 366 * 86_400
"""1,000 years in seconds: a longer time is a mistake, and dates end in the year 9999."""

COUNT_MAX = 2**53
"""Largest count that is added to a total: JSON holds it, and a thousand of them fit into 64 bits."""


def check_whole_number(name: str, value: object) -> int:
    """Return the value if it is an int, of any size.

    Raises:
        TypeError: It is anything else, `True` and `1.0` included.
    """
    if not is_integer(value):
        raise TypeError(f"invalid {name}: it must be an integer, not {type(value).__name__}")
    return int(value)


def is_message_number(value: int) -> bool:
    """Tell whether a message can have this number: after it comes another one, which has to be stored, too."""
    return 0 <= value < INT64_MAX


def check_count(name: str, value: object) -> int:
    """Return the value if it can be added to a total.

    Raises:
        TypeError: It is no integer.
        ValueError: It is negative, or larger than `COUNT_MAX`.
    """
    count = check_whole_number(name, value)
    if count < 0:
        raise ValueError(f"invalid {name}: it must not be negative, got {shown(count)}")
    if count > COUNT_MAX:
        raise ValueError(f"invalid {name}: it must be at most 2**53, got {shown(count)}")
    return count


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is an integer, which a bool is for Python alone."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a value is an integer that counts something."""
    return is_integer(value) and 0 <= value <= COUNT_MAX


def is_measure(value: object) -> bool:
    """Tell whether something that was reported as a count or a time is one: it is added to totals, which are kept."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX


def is_total(value: object) -> TypeGuard[float]:
    """Tell whether a stored value is a total, which may be more than what is added to one at a time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def stored_count(value: object) -> int:
    """Return a count out of a document, 0 for what is none: a copied or hand-written one may hold anything there."""
    return int(value) if isinstance(value, int | float) and is_measure(value) and value == int(value) else 0


def check_seconds(name: str, value: object, *, zero: bool = True, endless: bool = False, given: object = None) -> float:
    """Return the value if it is a length of time in seconds.

    Args:
        name: What it is, for errors.
        value: What the caller gave.
        zero: Whether 0 is one.
        endless: Whether infinity is one.
        given: What the caller gave where that was no number, for errors.

    Raises:
        TypeError: It is no number, or a bool.
        ValueError: It is negative, not a number, or longer than 1,000 years.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"invalid {name}: it must be a number of seconds, not {type(value).__name__}")
    if (not 0 <= value <= LONGEST_S and not (endless and value == math.inf)) or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        got = shown(value) if given is None else repr(given)
        raise ValueError(f"invalid {name}: it must be {least} seconds and at most 1,000 years, got {got}")
    return value


_MOST_BITS = 14_000
"""Most bits of an integer that Python writes out in decimal without being told to."""


def is_too_long(number: int) -> bool:
    """Tell whether Python refuses to write out an integer: it has thousands of digits."""
    return number.bit_length() > _MOST_BITS


def digits(number: int) -> str:
    """Return an integer as text, in hexadecimal where it is too long for Python to write out in decimal."""
    return hex(number) if is_too_long(number) else str(number)


def shown(number: float) -> str:
    """Return a number for an error message; of one that would fill pages, how long it is."""
    if isinstance(number, int) and abs(number) > 2**128:
        return f"a number of about {math.ceil(number.bit_length() * math.log10(2))} digits"
    return repr(number)
