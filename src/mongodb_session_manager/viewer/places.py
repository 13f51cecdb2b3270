"""Where in a timeline a message stands, so that a page can begin there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..web import ApiError
from .reading import DATE_FIELDS, ItemList, ListMovedError, SessionReader, StoredHead, place_in
from .timeline import Position, date_of, list_name

_ATTEMPTS = 5


class PlaceFinder:
    """Finds places in timelines, by the dates of a few items of each list."""

    def __init__(self, reader: SessionReader) -> None:
        """Read with `reader`; no I/O."""
        self._reader = reader

    async def before(
        self, session_id: str, agent_id: str, message_id: int, context: int
    ) -> tuple[Position, StoredHead]:
        """Return the position some items before a message, for a page that begins there, and the session.

        Args:
            session_id: The session.
            agent_id: Whose message it is.
            message_id: Its number.
            context: How many messages of the same agent come before it.

        Raises:
            ApiError: There is no such message.
            SessionNotFoundError: No such session.
        """
        for attempt in range(_ATTEMPTS):
            head = await self._reader.head(session_id)
            try:
                return await self._before(head, agent_id, message_id, context), head
            except ListMovedError:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # the last attempt returned or raised

    async def _before(self, head: StoredHead, agent_id: str, message_id: int, context: int) -> Position:
        own = next((e for e in head.lists if e.agent is not None and e.agent.agent_id == agent_id), None)
        place = None if own is None else place_in(own, message_id)
        if own is None or place is None:
            raise ApiError(404, "not_found", "there is no such message")
        first = max(place - context, 0)
        moment = (await self._dates(head, {own.key: (own, first)}))[own.key]
        others = [entry for entry in head.lists if entry.key != own.key]
        places = {own.key: first} | await self._places(head, others, moment)
        return Position(True, {list_name(entry): places[entry.key] for entry in head.lists if places[entry.key]})

    async def _places(self, head: StoredHead, entries: list[ItemList], moment: datetime | None) -> dict[str, int]:
        """Return how many items of each list are older than a moment; all lists are halved at once."""
        if moment is None:
            return {entry.key: entry.first for entry in entries}
        low = {entry.key: entry.first for entry in entries}
        high = {entry.key: entry.count for entry in entries}
        while True:
            open_ = {e.key: (e, (low[e.key] + high[e.key]) // 2) for e in entries if low[e.key] < high[e.key]}
            if not open_:
                return low
            dates = await self._dates(head, open_)
            for key, (_, middle) in open_.items():
                date = dates[key]
                if date is not None and date >= moment:
                    high[key] = middle
                else:
                    low[key] = middle + 1

    async def _dates(self, head: StoredHead, places: Mapping[str, tuple[ItemList, int]]) -> dict[str, datetime | None]:
        ranges = {key: (place, place + 1) for key, (_, place) in places.items()}
        fields = {kind: (name,) for kind, name in DATE_FIELDS.items()}
        found = await self._reader.stretch(head, ranges, fields)
        return {key: date_of(entry, found[key][0]) if found[key] else None for key, (entry, _) in places.items()}
