"""A session's lists, merged by time, in pages that cost the same wherever they are.

A cursor says how far each list was read, by position. Lists only grow at their end, so a cursor stays true whatever is
added or sealed in between, and the one after the last page is where a live view continues.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Any

from ..schema.messages import read_date
from ..web import invalid
from .items import ItemReader
from .limits import Room, in_its_own_time
from .reading import DATE_FIELDS, ItemList, ListMovedError, SessionReader, StoredHead, place_in
from .schemas import ErrorItem, FeedbackItem, GuardrailItem, MessageItem
from .traces import Traces

PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of sealed items that a page reads at once; one item may be more."""

_ATTEMPTS = 5
_LONGEST_CURSOR = 64 * 1024
_LARGEST_POSITION = 2**40
_DATES = {kind: (name,) for kind, name in DATE_FIELDS.items()}
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)

Item = MessageItem | FeedbackItem | GuardrailItem | ErrorItem


@dataclass(frozen=True)
class Position:
    """How far a timeline was read.

    Attributes:
        ascending: Oldest first.
        places: How many items of each list come before the place, by the list's name; a list that is not named has
            none. None for the beginning.
    """

    ascending: bool
    places: Mapping[str, int] | None = None

    def encoded(self) -> str:
        """Return it as a cursor."""
        text = json.dumps({"o": "a" if self.ascending else "d", "p": self.places or {}}, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str | None, *, ascending: bool) -> Position:
        """Return the position that a cursor stands for.

        Raises:
            ApiError: No page ended with it, or it is one of the other order.
        """
        if not cursor:
            return cls(ascending)
        try:
            if len(cursor) > _LONGEST_CURSOR:
                raise ValueError("too long")
            found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
            order, places = found["o"], found["p"]
            if order not in ("a", "d") or not isinstance(places, dict):
                raise ValueError("not a position")
            if not all(type(place) is int and 0 <= place <= _LARGEST_POSITION for place in places.values()):
                raise ValueError("not a position")
        except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
            raise invalid("cursor", "no page ended with it") from None
        if (order == "a") is not ascending:
            raise invalid("cursor", "it belongs to a page of the other order")
        return cls(ascending, places)

    def start(self, entry: ItemList) -> int:
        """Return how many items of a list come before the place."""
        if self.places is None:
            return entry.first if self.ascending else entry.count
        return min(max(self.places.get(list_name(entry), 0), entry.first), entry.count)


Place = tuple[datetime, str, int]
"""An item's date, the key of its list, and its position there."""


@dataclass(frozen=True)
class Page:
    """A page of a timeline.

    Attributes:
        head: The session.
        items: What happened, in the page's order.
        after: Where the next page begins.
        more: Whether there are items after the page.
    """

    head: StoredHead
    items: list[Item]
    after: Position
    more: bool


def end_of(head: StoredHead) -> Position:
    """Return the position after everything that is stored."""
    return Position(True, {list_name(entry): entry.count for entry in head.lists if entry.count})


class TimelineReader:
    """Reads timelines of sessions."""

    def __init__(self, reader: SessionReader, traces: Traces, room: Room) -> None:
        """Read with `reader`, as far as there is `room`; no I/O. `traces` says where traces of answers are seen."""
        self._reader = reader
        self._traces = traces
        self._room = room

    async def page(
        self,
        session_id: str,
        position: Position,
        limit: int,
        *,
        whole: bool = False,
        head: StoredHead | None = None,
    ) -> Page:
        """Return a page. Only what it shows is read, and the dates of as many items of each list.

        Args:
            session_id: The session.
            position: Where the page begins.
            limit: Most items.
            whole: Leave nothing out because of its size.
            head: The session as it was read before; what is not in it is read now.

        Raises:
            ApiError: There is no room for it.
            SessionNotFoundError: No such session.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._page(head or await self._reader.head(session_id), position, limit, whole)
            except ListMovedError:
                head = None
        return await self._page(await self._reader.head(session_id), position, limit, whole)

    async def message(self, session_id: str, agent_id: str, message_id: int) -> MessageItem | None:
        """Return one message, nothing left out; None when there is none.

        Raises:
            SessionNotFoundError: No such session.
        """
        for attempt in range(_ATTEMPTS):
            head = await self._reader.head(session_id)
            entry = next((e for e in head.lists if e.agent is not None and e.agent.agent_id == agent_id), None)
            if entry is None:
                return None
            place = place_in(entry, message_id)
            if place is None:
                return None
            part = (place, place + 1)
            try:
                found = await self._reader.stretch(head, {entry.key: part}, None)
            except ListMovedError:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            items = ItemReader(session_id, self._traces, whole=True).items(entry, found.get(entry.key, []), part[0])
            return next((m for m in items if isinstance(m, MessageItem) and m.message_id == message_id), None)
        return None

    async def _page(self, head: StoredHead, position: Position, limit: int, whole: bool) -> Page:
        order, weight = await self._affordable(head, await self._order(head, position, limit))
        if not weight:
            return await self._read(head, position, order, whole)
        async with self._room.taken(weight):
            return await in_its_own_time(self._read(head, position, order, whole))

    async def _read(self, head: StoredHead, position: Position, order: list[Place], whole: bool) -> Page:
        ranges = _ranges(order)
        found = await self._reader.stretch(head, ranges, None)
        reader = ItemReader(head.session_id, self._traces, whole=whole)
        shown: dict[tuple[str, int], Item] = {}
        places: dict[str, int] = {}
        for entry in head.lists:
            start = position.start(entry)
            if entry.key in ranges:
                first, stop = ranges[entry.key]
                items = reader.items(entry, found[entry.key], first)
                shown |= {(entry.key, first + index): item for index, item in enumerate(items)}
                start = stop if position.ascending else first
            if start:
                places[list_name(entry)] = start
        more = any(
            places.get(list_name(entry), 0) < entry.count
            if position.ascending
            else places.get(list_name(entry), 0) > entry.first
            for entry in head.lists
        )
        items = [shown[key, place] for _, key, place in order if (key, place) in shown]
        return Page(head, items, Position(position.ascending, places), more)

    async def _affordable(self, head: StoredHead, order: list[Place]) -> tuple[list[Place], int]:
        """Return as much of a page's beginning as may be read at once, and its bytes: few items can be many."""
        weights = await self._reader.weights(head, _ranges(order))
        counted: set[tuple[str, int]] = set()
        taken = 0
        for number, (_, key, place) in enumerate(order):
            before = taken
            for positions, size in weights.get(key, ()):
                if place in positions and (key, positions.start) not in counted:
                    counted.add((key, positions.start))
                    taken += size
            if taken > PAGE_BYTES and number:
                return order[:number], before
        return order, taken

    async def _order(self, head: StoredHead, position: Position, limit: int) -> list[Place]:
        """Return what comes next: its date, list and position there."""
        ranges: dict[str, tuple[int, int]] = {}
        for entry in head.lists:
            start = position.start(entry)
            ends = (
                (start, min(start + limit, entry.count))
                if position.ascending
                else (max(start - limit, entry.first), start)
            )
            if ends[0] < ends[1]:
                ranges[entry.key] = ends
        if len(ranges) == 1:
            # Nothing to merge.
            [(key, (start, stop))] = ranges.items()
            places = range(start, stop) if position.ascending else range(stop - 1, start - 1, -1)
            return [(_BEGINNING, key, place) for place in places]
        found = await self._reader.stretch(head, ranges, _DATES)
        merged = heapq.merge(
            *(
                _dated(entry, found[entry.key], ranges[entry.key][0], position.ascending)
                for entry in head.lists
                if entry.key in ranges
            ),
            reverse=not position.ascending,
        )
        return list(islice(merged, limit))


def _ranges(order: list[Place]) -> dict[str, tuple[int, int]]:
    """Return the positions that a page takes, by key of the list, from the first to before the end."""
    taken: dict[str, tuple[int, int]] = {}
    for _, key, place in order:
        first, stop = taken.get(key, (place, place + 1))
        taken[key] = (min(first, place), max(stop, place + 1))
    return taken


def _dated(entry: ItemList, items: list[Any], start: int, ascending: bool) -> Iterator[tuple[datetime, str, int]]:
    """Yield dates and positions of a list in its own order: one without a date, or an odd one, stays in its place."""
    numbered = list(enumerate(items, start))
    reached = _BEGINNING if ascending else _END
    for place, item in numbered if ascending else reversed(numbered):
        date = date_of(entry, item)
        if date is not None:
            reached = max(reached, date) if ascending else min(reached, date)
        yield reached, entry.key, place


def date_of(entry: ItemList, item: object) -> datetime | None:
    """Return the date of an item, None for one without."""
    if not isinstance(item, Mapping):
        return None
    nested = item.get("message")
    date = read_date(item.get(DATE_FIELDS[entry.kind]))
    if date is None and isinstance(nested, Mapping):
        date = read_date(nested.get("created_at"))
    return date


def list_name(entry: ItemList) -> str:
    """Return a short name of a list: an agent's id may be long."""
    return blake2b(entry.key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
