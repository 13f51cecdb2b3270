"""Finding sessions: from indexes where there are some, and never for longer than a page may take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.min_key import MinKey
from pymongo.errors import ExecutionTimeout, OperationFailure

from ..schema import paths
from ..schema.messages import read_date
from ..store.listing import SHOWN_METADATA, SUMMARY_PROJECTION
from ..store.older_counts import NO_SUCH_EXPRESSION, OlderCounts
from ..web import ApiError, invalid
from ..web.orders import Order, Place
from ..web.plain import count_or_none, storable_text
from ..web.text_search import TextSearch
from ..web.unicode_forms import any_form
from .conditions import OlderDocuments, Rating, failed, rated, with_agent
from .filters import parse_moment
from .heads import session_card
from .search_schemas import FoundCard, Hit, SearchPage, SessionCard, TextPage
from .spans import Spans

PAGE_MS = 5_000
"""Milliseconds that the database may take for a page."""

COUNT_MS = 100
"""Milliseconds that it may take for a page and for counting together; then the total is a lower bound."""

COUNT_AT_LEAST_MS = 50
"""Milliseconds that it may count for in any case."""

MOST_SKIPPED = 1_000_000
_WHOLE = {**SUMMARY_PROJECTION, paths.INCARNATION: 1}
_SHOWN = {**_WHOLE, paths.METADATA: SHOWN_METADATA}


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for.

    Attributes:
        session_id: A part of the session's id.
        text: A part of what was said, or of the title.
        rating: How a person rated something in it.
        failed: Whether a turn failed.
        agent: An agent that takes part.
        filters: Conditions on fields, from `parse_filters`.
        created_at_start: First moment or day.
        created_at_end: Last moment or day.
        order: What comes first.
        limit: Most sessions to return.
        offset: Sessions to skip; without effect in a search for a text.
        cursor: Where the page before ended.
    """

    session_id: str | None = None
    text: str | None = None
    rating: Rating | None = None
    failed: bool | None = None
    agent: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    created_at_start: str | None = None
    created_at_end: str | None = None
    order: Order = field(default_factory=Order)
    limit: int = 20
    offset: int = 0
    cursor: str | None = None

    @property
    def looks_into_summaries(self) -> bool:
        """Whether older documents have to be looked into, which have no complete summary."""
        return self.rating is not None or self.failed is not None

    @property
    def is_by_id_only(self) -> bool:
        """Whether the index of dates is all that has to be read."""
        narrowed = self.filters or self.agent or self.looks_into_summaries
        return bool(self.session_id) and not narrowed and self.order.sort == "created"

    @property
    def has_to_be_sorted(self) -> bool:
        """Whether there may be no index that gives what is found in order."""
        ranges = any(isinstance(value, Mapping) and "$eq" not in value for value in self.filters.values())
        return self.order.sort != "created" or self.looks_into_summaries or ranges

    def query(self, *, older: bool = True) -> dict[str, Any]:
        """Return the conditions as MongoDB takes them.

        Args:
            older: Look into documents that do not count ratings and failed turns.

        Raises:
            ApiError: One of them is not valid.
        """
        query: dict[str, Any] = dict(self.filters)
        if self.session_id:
            if "\x00" in self.session_id:
                raise invalid("session_id", "it must not hold a NUL character")
            query["_id"] = {"$regex": any_form(self.session_id), "$options": "i"}
        created: dict[str, Any] = {}
        if self.created_at_start:
            created["$gte"], _ = parse_moment("created_at_start", self.created_at_start)
        if self.created_at_end:
            moment, next_day = parse_moment("created_at_end", self.created_at_end)
            created |= {"$lte": moment} if next_day is None else {"$lt": next_day}
        if created:
            query["created_at"] = created
        if "_id" in query and self.order.field not in query:
            # True of every session: with a condition on the index's first field, ids are compared in the index, else
            # in documents, each of which would be read.
            query[self.order.field] = {"$gte": MinKey()}
        if self.looks_into_summaries and not older:
            # Likewise for counting: the indexes of what is counted begin with the date.
            query.setdefault("created_at", {"$gte": MinKey()})
        more = []
        if self.rating is not None:
            more.append(rated(self.rating, older=older))
        if self.failed is not None:
            more.append(failed(self.failed, older=older))
        if self.agent is not None:
            more.append(with_agent(self.agent))
        for condition in more:
            if "$or" in condition:
                query.setdefault("$and", []).append(condition)
            else:
                query |= condition
        return query


class SessionSearch:
    """Searches one collection."""

    def __init__(self, collection: Any, segments: Any, older_counts: OlderCounts) -> None:
        """Search the driver's collections of sessions and of their segments; no I/O.

        Args:
            collection: The sessions.
            segments: Their segments.
            older_counts: Completes what a list shows of documents of older forms.
        """
        self._collection = collection
        self._spans = Spans(collection)
        self._older = OlderDocuments(collection)
        self._shown: Mapping[str, Any] = _SHOWN
        self._older_counts = older_counts
        self._texts = TextSearch(collection, segments)

    def start(self) -> None:
        """Begin to find out what searches have to know of the collection."""
        self._older.start()

    async def close(self) -> None:
        """Stop finding out."""
        await self._older.close()

    async def query(self, request: SearchRequest) -> dict[str, Any]:
        """Return the conditions of a request as MongoDB takes them.

        Raises:
            ApiError: The request is not valid.
        """
        older = request.looks_into_summaries and await self._older.may_exist()
        return request.query(older=older)

    async def page(self, request: SearchRequest) -> SearchPage:
        """Return a page, in the order that is asked for.

        Raises:
            ApiError: The request is not valid.
        """
        query = await self.query(request)
        if request.text is not None:
            return await self._text_page(request, query)
        started = time.monotonic()
        after = None
        if request.cursor is not None:
            after = request.order.place_of(request.cursor)
        elif request.offset:
            # Looked up in the index alone: skipping sessions would read each of them.
            last = await self._places(request.order, query, 1, request.offset - 1)
            if not last:
                return await self._answer(request, query, [], started)
            # By way of a cursor, so that what a page cannot end with is refused alike.
            after = request.order.place_of(request.order.cursor(request.order.place(last[0])))
        try:
            found = await self._found(request, query, after)
        except ExecutionTimeout:
            raise _too_slow(request.order) from None
        return await self._answer(request, query, found, started)

    async def cards(self, query: Mapping[str, Any]) -> list[SessionCard]:
        """Return the cards of the sessions that a query finds, in no order; for a few named sessions."""
        return await self._cards(await self._documents(query))

    async def _cards(self, documents: list[dict[str, Any]]) -> list[SessionCard]:
        await self._older_counts.complete(documents)
        return [session_card(document) for document in documents]

    async def _found(self, request: SearchRequest, query: dict[str, Any], after: Place | None) -> list[dict[str, Any]]:
        limit, order = request.limit + 1, request.order
        if request.is_by_id_only:
            position = None if after is None else (after.value, after.session_id)
            found = await self._spans.newest(query, self._shown, after=position, limit=limit, limit_ms=PAGE_MS)
            if found is not None:
                return found
        page = query if after is None else order.after(query, after)
        if request.has_to_be_sorted:
            # Sorting what a range or another order finds takes keys only, as long as no document is asked for.
            places = await self._places(order, page, limit)
            return await self._read([place["_id"] for place in places])
        return await self._documents(page, sort=order.keys, limit=limit)

    async def _documents(self, query: Mapping[str, Any], **options: Any) -> list[dict[str, Any]]:
        """Return what cards are made of; of large metadata only short fields, where the database can tell its size."""
        try:
            cursor = self._collection.find(query, self._shown, max_time_ms=PAGE_MS, **options)
            found: list[dict[str, Any]] = await cursor.to_list(None)
        except OperationFailure as error:
            if error.code not in NO_SUCH_EXPRESSION or self._shown is _WHOLE:
                raise
            self._shown = _WHOLE
            return await self._documents(query, **options)
        return found

    async def _read(self, session_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return sessions in that order; one that is gone meanwhile is left out."""
        query = {"_id": {"$in": list(session_ids)}}
        found = await self._documents(query) if session_ids else []
        documents = {document["_id"]: document for document in found}
        return [documents[session_id] for session_id in session_ids if session_id in documents]

    async def _places(self, order: Order, query: Mapping[str, Any], limit: int, skip: int = 0) -> list[dict[str, Any]]:
        cursor = self._collection.find(
            query, {"_id": 1, order.field: 1}, sort=order.keys, skip=skip, limit=limit, max_time_ms=PAGE_MS
        )
        try:
            found: list[dict[str, Any]] = await cursor.to_list(None)
        except ExecutionTimeout:
            raise _too_slow(order) from None
        return found

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
            sessions=await self._cards(page),
            total=max(seen + has_more if total is None else total, seen),
            total_exact=total is not None,
            limit=request.limit,
            offset=request.offset,
            has_more=has_more,
            next_cursor=request.order.cursor(request.order.place(page[-1])) if has_more else None,
        )

    async def _text_page(self, request: SearchRequest, query: dict[str, Any]) -> TextPage:
        """Return what a look through the sessions found; an offset counts nothing here."""
        assert request.text is not None
        order = request.order
        after = None if request.cursor is None else order.place_of(request.cursor)
        looked = await self._texts.look(request.text, query, order, after, request.limit)
        hits = await self._texts.hits(request.text, looked.found)
        documents = await self._read(looked.found)
        cards = []
        for document, card in zip(documents, await self._cards(documents), strict=True):
            hit = hits.get(document["_id"])
            shown = None if hit is None else _hit(hit)
            cards.append(FoundCard(**dict(card), hit=shown))
        goes_on = not looked.ended and looked.last is not None
        place = None if looked.last is None else order.place(looked.last)
        return TextPage(
            sessions=cards,
            total=len(cards),
            total_exact=looked.ended and request.cursor is None,
            limit=request.limit,
            offset=0,
            has_more=goes_on,
            next_cursor=order.cursor(place) if goes_on and place is not None else None,
            searched=looked.sessions,
            searched_bytes=looked.size,
            searched_until=None if place is None or order.sort in ("messages", "tokens") else read_date(place.value),
            skipped=looked.skipped,
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


def _hit(found: Mapping[str, Any]) -> Hit:
    return Hit(
        agent_id=found["agent_id"],
        message_id=count_or_none(found.get("message_id")),
        excerpt=storable_text(found["excerpt"]),
    )


def _too_slow(order: Order) -> ApiError:
    return ApiError(
        503,
        "too_slow",
        f"finding these sessions takes more than {PAGE_MS // 1000} s; narrow the search, or create an index on "
        f"{order.field} and _id",
    )
