"""Whole numbers that callers give: what MongoDB can hold of them."""

from __future__ import annotations

INT32_MAX = 2**31 - 1
"""Largest limit of a query."""

INT64_MAX = 2**63 - 1


def check_whole_number(name: str, value: object) -> int:
    """Return the value if it is an int, of any size.

    Raises:
        TypeError: It is anything else, `True` and `1.0` included.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"invalid {name}: it must be an integer, not {type(value).__name__}")
    return int(value)


def is_message_number(value: int) -> bool:
    """Tell whether a message can have this number: after it comes another one, which has to be stored, too."""
    return 0 <= value < INT64_MAX
