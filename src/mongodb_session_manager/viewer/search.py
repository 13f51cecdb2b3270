"""Finding sessions: every answer comes from an index, and every page costs the same."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bson.min_key import MinKey
from pymongo.errors import ExecutionTimeout

from ..store.listing import NEWEST_FIRST, SUMMARY_PROJECTION, Position, after_position, cursor_after, position_of
from ..web import invalid
from .filters import parse_moment
from .heads import session_card
from .schemas import SearchPage
from .spans import Spans

PAGE_MS = 5_000
"""Milliseconds that the database may take for a page."""

COUNT_MS = 100
"""Milliseconds that it may take for a page and for counting together; then the total is a lower bound."""

COUNT_AT_LEAST_MS = 50
"""Milliseconds that it may count for in any case."""

_POSITION = {"_id": 1, "created_at": 1}
MOST_SKIPPED = 1_000_000


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for.

    Attributes:
        session_id: A part of the session's id.
        filters: Conditions on fields, from `parse_filters`.
        created_at_start: First moment or day.
        created_at_end: Last moment or day.
        limit: Most sessions to return.
        offset: Sessions to skip.
        cursor: Where the page before ended.
    """

    session_id: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    created_at_start: str | None = None
    created_at_end: str | None = None
    limit: int = 20
    offset: int = 0
    cursor: str | None = None

    def query(self) -> dict[str, Any]:
        """Return the conditions as MongoDB takes them.

        Raises:
            ApiError: One of them is not valid.
        """
        query: dict[str, Any] = dict(self.filters)
        if self.session_id:
            if "\x00" in self.session_id:
                raise invalid("session_id", "it must not hold a NUL character")
            query["_id"] = {"$regex": re.escape(self.session_id), "$options": "i"}
        created: dict[str, Any] = {}
        if self.created_at_start:
            created["$gte"], _ = parse_moment("created_at_start", self.created_at_start)
        if self.created_at_end:
            moment, next_day = parse_moment("created_at_end", self.created_at_end)
            created |= {"$lte": moment} if next_day is None else {"$lt": next_day}
        if "_id" in query and not created:
            # True of every session: with a condition on the index's first field, ids are compared in the index, else
            # in documents, each of which would be read.
            created["$gte"] = MinKey()
        return query | ({"created_at": created} if created else {})


class SessionSearch:
    """Searches one collection."""

    def __init__(self, collection: Any) -> None:
        """Search the driver's `collection`; no I/O."""
        self._collection = collection
        self._spans = Spans(collection)

    async def page(self, request: SearchRequest) -> SearchPage:
        """Return a page, newest first.

        Raises:
            ApiError: The request is not valid.
        """
        query = request.query()
        started = time.monotonic()
        after = None
        if request.cursor is not None:
            after = _position(request.cursor)
        elif request.offset:
            # Looked up in the index alone: skipping sessions would read each of them.
            last = await self._session_at(query, request.offset - 1)
            if last is None:
                return await self._answer(request, query, [], started)
            # By way of a cursor, so that what a page cannot end with is refused alike.
            after = _position(cursor_after(last))
        found = await self._newest(request, query, after)
        return await self._answer(request, query, found, started)

    async def _newest(
        self, request: SearchRequest, query: dict[str, Any], after: Position | None
    ) -> list[dict[str, Any]]:
        limit = request.limit + 1
        if request.session_id and not request.filters:
            found = await self._spans.newest(query, SUMMARY_PROJECTION, after=after, limit=limit, limit_ms=PAGE_MS)
            if found is not None:
                return found
        page = query if after is None else after_position(query, after)
        cursor = self._collection.find(page, SUMMARY_PROJECTION, sort=NEWEST_FIRST, limit=limit, max_time_ms=PAGE_MS)
        whole: list[dict[str, Any]] = await cursor.to_list(None)
        return whole

    async def _session_at(self, query: Mapping[str, Any], place: int) -> dict[str, Any] | None:
        cursor = self._collection.find(query, _POSITION, sort=NEWEST_FIRST, skip=place, limit=1, max_time_ms=PAGE_MS)
        found: list[dict[str, Any]] = await cursor.to_list(None)
        return found[0] if found else None

    async def _answer(
        self,
        request: SearchRequest,
        query: Mapping[str, Any],
        found: list[dict[str, Any]],
        started: float,
    ) -> SearchPage:
        page, has_more = found[: request.limit], len(found) > request.limit
        seen = request.offset + len(page) if page or not request.offset else 0
        if request.cursor is None and not has_more and (page or not request.offset):
            total: int | None = seen
        else:
            # A page that took long, as one that compares every id does, leaves less time to count in.
            spent_ms = int((time.monotonic() - started) * 1000)
            total = await self._count(query, max(COUNT_MS - spent_ms, COUNT_AT_LEAST_MS))
        return SearchPage(
            sessions=[session_card(document) for document in page],
            total=max(seen + has_more if total is None else total, seen),
            total_exact=total is not None,
            limit=request.limit,
            offset=request.offset,
            has_more=has_more,
            next_cursor=cursor_after(page[-1]) if has_more else None,
        )

    async def _count(self, query: Mapping[str, Any], limit_ms: int) -> int | None:
        """Return how many sessions there are, None when counting them takes too long."""
        try:
            if not query:
                count: int = await self._collection.estimated_document_count(maxTimeMS=limit_ms)
            else:
                count = await self._collection.count_documents(query, maxTimeMS=limit_ms)
        except ExecutionTimeout:
            return None
        return count


def _position(cursor: str) -> Position:
    try:
        return position_of(cursor)
    except ValueError:
        raise invalid("cursor", "it is none that a page ended with") from None
