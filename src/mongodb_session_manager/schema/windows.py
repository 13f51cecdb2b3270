"""The live window of an agent: every stored message but those that were taken out, as ranges of message ids.

A range is `[first, last]`, both included; the last one is open, `[first, None]`. The open end takes in what is appended
before the next window is stored, by whatever writer, so a turn that a crash cuts short resumes whole, and a
conversation that only grows never rewrites its window. The order of the ranges is the order in which the agent held the
messages.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from . import paths
from .numbers import is_integer

Ranges = Sequence[Sequence[int | None]]

EVERYTHING: Ranges = ((0, None),)

MOST_RANGES = 64
"""How many ranges a window has at most. It is written whenever it moves, so it must not grow with the conversation: a
message that code appends by hand in each turn of a sliding window would leave a range of its own for ever."""


def is_window(value: object) -> TypeGuard[list[list[int | None]]]:
    """Tell whether a stored value is a window; another tool may have left anything there."""
    return isinstance(value, list) and all(isinstance(part, list) and _is_range(part) for part in value)


def _is_range(part: Sequence[object]) -> bool:
    return len(part) == 2 and all(one is None or is_integer(one) for one in part)


def ranges(message_ids: Iterable[int], next_message_id: int) -> list[list[int | None]]:
    """Return message ids as ranges in their order, the last one open from `next_message_id` on at the latest."""
    result = _joined((message_id, message_id) for message_id in message_ids)
    if result and result[-1][1] == next_message_id - 1:
        result[-1][1] = None
    else:
        result.append([next_message_id, None])
    return result


def bounded(window: Ranges, held: Collection[int], most: int = MOST_RANGES) -> list[list[int | None]]:
    """Return a window of so many ranges at most, without the oldest of messages that an agent does not hold.

    Args:
        window: Ranges; the last one stays.
        held: Ids that the agent holds, which stay.
        most: How many ranges are enough. More are left only where the agent itself holds so many.
    """
    result = [list(part) for part in window]
    numbers = sorted(held)
    spare = [part for part in result[:-1] if not _holds(part, numbers)]
    for part in sorted(spare, key=lambda part: part[0] or 0)[: max(0, len(result) - most)]:
        result.remove(part)
    return _joined((first or 0, last) for first, last in result)


def _holds(part: Sequence[int | None], numbers: Sequence[int]) -> bool:
    first, last = part
    position = bisect_left(numbers, first or 0)
    return position < len(numbers) and (last is None or numbers[position] <= last)


def contains(message_id: int, window: Ranges) -> bool:
    """Tell whether a message id lies in one of the ranges."""
    # A loop, since resuming asks this for each message of the live tail.
    for first, last in window:
        if first is not None and first <= message_id and (last is None or message_id <= last):
            return True
    return False


def changed(window: Ranges, taken_out: Collection[int], put_back: Collection[int]) -> list[list[int | None]]:
    """Return a window without some messages and with some others; those put back stand by their number.

    Args:
        window: Ranges; what is out of order in them stays so.
        taken_out: Ids to leave out.
        put_back: Ids to have in it.
    """
    result = [part for first, last in window if first is not None for part in _without(first, last, taken_out)]
    for message_id in sorted(put_back):
        if not contains(message_id, result):
            position = next((i for i, (first, _) in enumerate(result) if first > message_id), len(result))
            result.insert(position, (message_id, message_id))
    return _joined(result)


def in_order(window: Ranges, held: Sequence[int], next_message_id: int) -> list[list[int | None]]:
    """Return a window whose messages stand in the order in which an agent holds them, the others before them."""
    present = set(held)
    others = (number for number in _numbers(window, next_message_id) if number not in present)
    return ranges([*others, *held], next_message_id)


def _numbers(window: Ranges, end: int) -> Iterator[int]:
    for first, last in window:
        if first is not None:
            yield from range(first, end if last is None else last + 1)


def _without(first: int, last: int | None, taken_out: Collection[int]) -> Iterator[tuple[int, int | None]]:
    for message_id in sorted(taken_out):
        if message_id >= first and (last is None or message_id <= last):
            if message_id > first:
                yield first, message_id - 1
            first = message_id + 1
    if last is None or first <= last:
        yield first, last


def _joined(parts: Iterable[tuple[int, int | None]]) -> list[list[int | None]]:
    result: list[list[int | None]] = []
    for first, last in parts:
        if result and result[-1][1] == first - 1:
            result[-1][1] = last
        else:
            result.append([first, last])
    return result


def arranged(documents: Iterable[Mapping[str, Any]], window: Ranges) -> list[dict[str, Any]]:
    """Return the messages of a window in the order of its ranges, each once."""
    by_id = {document[paths.MESSAGE_ID]: document for document in documents}
    held: dict[int, Any] = {}
    for first, last in window:
        if first is not None:
            end = math.inf if last is None else last
            held |= {number: document for number, document in by_id.items() if first <= number <= end}
    return list(held.values())
