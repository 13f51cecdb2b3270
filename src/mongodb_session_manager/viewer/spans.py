"""Reading the index of dates in several spans at once, for searches that must compare every session's id.

No index finds a part of an id, so each key is compared, at about a microsecond each. One query is read by one core of
the server; several spans of the index are read by several.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.errors import OperationFailure

from ..store.listing import NEWEST_FIRST, Position
from ..store.older_counts import NO_SUCH_EXPRESSION

SPANS = 4
"""Spans that are read at once."""

LEAST_SESSIONS = 20_000
"""Sessions from which on a search is worth more than one query."""

_SAMPLE = 8 * SPANS - 1
_FRESH_S = 600.0
_SAMPLE_MS = 2_000
_INDEX = [("created_at", 1), ("_id", 1)]
_BAD_VALUE = 2


class Spans:
    """Reads one collection in spans of `created_at` that hold about as many sessions each."""

    def __init__(self, collection: Any) -> None:
        """Read the driver's `collection`; no I/O."""
        self._collection = collection
        self._lock = asyncio.Lock()
        self._bounds: Sequence[datetime] = ()
        self._fresh_until = 0.0

    async def newest(
        self,
        query: Mapping[str, Any],
        projection: Mapping[str, Any],
        *,
        after: Position | None,
        limit: int,
        limit_ms: int,
    ) -> list[dict[str, Any]] | None:
        """Return what a query finds, newest first; None when it should be asked as a whole.

        Args:
            query: Conditions on `_id` and `created_at` only, for which the index of dates is all that has to be read.
            projection: Fields to return.
            after: Where the page before ended.
            limit: Most documents to return.
            limit_ms: Milliseconds that the database may take for each span.

        Raises:
            PyMongoError: A span could not be read.
        """
        bounds = await self._fresh_bounds()
        if not bounds or (after is not None and not isinstance(after[0], datetime)):
            return None
        # Without the hint the server tries other plans first, for longer than a span takes.
        cursors = [
            self._collection.find(
                {"$and": [query, condition]},
                projection,
                sort=NEWEST_FIRST,
                limit=limit,
                hint=_INDEX,
                max_time_ms=limit_ms,
            )
            for condition in _conditions(bounds, after)
        ]
        try:
            found = await asyncio.gather(*(cursor.to_list(None) for cursor in cursors))
        except OperationFailure as error:
            if error.code != _BAD_VALUE and error.code not in NO_SUCH_EXPRESSION:
                raise
            self._bounds = ()  # no such index or expression, which the next searches need not find out again
            return None
        return [document for span in found for document in span][:limit]

    async def _fresh_bounds(self) -> Sequence[datetime]:
        """Return where spans meet, newest first; nothing when one query is enough.

        The dates decide only how evenly the work is shared: each session is in exactly one span.
        """
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                dates = await self._sampled_dates()
                quantiles = {dates[len(dates) * place // SPANS] for place in range(1, SPANS)} if dates else set()
                self._bounds = sorted(quantiles, reverse=True)
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._bounds

    async def _sampled_dates(self) -> list[datetime]:
        pipeline = [{"$sample": {"size": _SAMPLE}}, {"$project": {"created_at": 1}}]
        try:
            if await self._collection.estimated_document_count(maxTimeMS=_SAMPLE_MS) < LEAST_SESSIONS:
                return []
            documents = await self._collection.aggregate(pipeline, maxTimeMS=_SAMPLE_MS).to_list(None)
        except OperationFailure:  # too slow, or not known to a compatible database
            return []
        return sorted(date for document in documents if isinstance(date := document.get("created_at"), datetime))


def _conditions(bounds: Sequence[datetime], after: Position | None) -> list[dict[str, Any]]:
    """Return the condition of each span, newest first."""
    conditions: list[dict[str, Any]] = []
    upper: datetime | None = None
    if after is not None:
        upper, last_id = after
        conditions.append({"created_at": upper, "_id": {"$lt": last_id}})
    for lower in bounds:
        if upper is None or lower < upper:
            below = {} if upper is None else {"$lt": upper}
            conditions.append({"created_at": {"$gte": lower, **below}})
            upper = lower
    # Also has what other tools wrote in place of a date: a comparison finds values of its own type only.
    return [*conditions, {"created_at": {"$not": {"$gte": upper}}}]
