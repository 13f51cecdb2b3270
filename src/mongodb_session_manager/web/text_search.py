"""Looking through what was said: the server scans sessions slice by slice and returns a line for each slice.

No index finds a part of a text. What can be promised is how long one call takes and that the next one goes on where it
ended: slices grow while they are quick, and one that is not done in time counts for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import ExecutionTimeout, OperationFailure

from ..schema import paths
from ..schema.expressions import Document, agents, array, is_a
from ..store.older_counts import NO_UTF8
from .orders import Order, Place
from .sealed_messages import SEGMENT_FIELDS, archive_of, archives, segments_of
from .stored_texts import (
    agent_id,
    any_of,
    excerpt,
    found_messages,
    literally,
    matches,
    read_agent_id,
    says,
)

LOOK_S = 3.0
"""Seconds that one call looks."""

SPARE_S = 0.4
"""Seconds of those that are kept for reading what was found."""

_FIRST_SLICE = 8
_LARGEST_SLICE = 4_096
_GOOD_SLICE_S = 0.15
_LEAST_S = 0.05
_SHOW_MS = 2_000


@dataclass
class Looked:
    """The result of one call.

    Attributes:
        found: Ids of the sessions that say it, in order.
        last: The last session that was looked at.
        sessions: How many were.
        size: Bytes of them.
        skipped: Sessions that could not be looked through: in the time of a call, or since a text in them is no UTF-8.
        ended: Whether there are no more.
    """

    found: list[str] = field(default_factory=list)
    last: Document | None = None
    sessions: int = 0
    size: int = 0
    skipped: int = 0
    ended: bool = False


class TextSearch:
    """Looks through one collection and its segments."""

    def __init__(self, collection: Any, segments: Any) -> None:
        """Ask the driver's collections; no I/O."""
        self._collection = collection
        self._segments = segments

    async def look(self, text: str, query: Mapping[str, Any], order: Order, after: Place | None, most: int) -> Looked:
        """Look for a text until `most` sessions are found, the time is over, or there are no more sessions.

        Raises:
            PyMongoError: MongoDB does not answer.
        """
        pattern = literally(text)
        looked = Looked()
        until = time.monotonic() + LOOK_S - SPARE_S
        size = _FIRST_SLICE
        while len(looked.found) < most and not looked.ended:
            left = until - time.monotonic()
            if looked.sessions and left < _LEAST_S:
                break
            started = time.monotonic()
            try:
                rows = await self._slice(pattern, query, order, after, size, max(left, _LEAST_S))
            except OperationFailure as error:
                is_slow = isinstance(error, ExecutionTimeout)
                if not is_slow and error.code not in NO_UTF8:
                    raise
                if is_slow and looked.sessions:
                    break
                if size == 1:
                    rows = await self._pass_over(query, order, after)
                    looked.skipped += len(rows)
                else:
                    size = 1
                    until = time.monotonic() + LOOK_S - SPARE_S if is_slow else until
                    continue
            if not rows:
                looked.ended = True
                break
            after = self._take(looked, rows, order, most)
            looked.ended = len(rows) < size and len(looked.found) <= most and after == order.place(rows[-1])
            if time.monotonic() - started < _GOOD_SLICE_S:
                size = min(size * 4, _LARGEST_SLICE)
        return looked

    @staticmethod
    def _take(looked: Looked, rows: Sequence[Document], order: Order, most: int) -> Place:
        """Count a slice, up to the session that fills the page; return where to go on."""
        for row in rows:
            looked.sessions += 1
            looked.size += row["size"]
            looked.last = row
            if row["hit"]:
                looked.found.append(row["_id"])
                if len(looked.found) == most:
                    break
        assert looked.last is not None
        return order.place(looked.last)

    async def _slice(
        self, pattern: str, query: Mapping[str, Any], order: Order, after: Place | None, size: int, limit_s: float
    ) -> list[Document]:
        in_agent = any_of(array(f"$$agent.v.{paths.MESSAGES}"), "message", says(pattern))
        hit = {"$or": [matches(f"${paths.TITLE}", pattern), any_of(agents(), "agent", in_agent)]}
        moved = {
            "$filter": {"input": archives(), "as": "moved", "cond": is_a(f"$$moved.{paths.TOKEN}", "string")},
        }
        pipeline = [
            {"$match": dict(query) if after is None else order.after(query, after)},
            {"$sort": dict(order.keys)},
            {"$limit": size},
            {
                "$project": {
                    order.field: 1,
                    paths.INCARNATION: 1,
                    "size": {"$bsonSize": "$$ROOT"},
                    "hit": hit,
                    "moved": moved,
                }
            },
        ]
        started = time.monotonic()
        cursor = self._collection.aggregate(pipeline, maxTimeMS=int(limit_s * 1000) + 1)
        rows: list[Document] = await cursor.to_list(None)
        # What is old is in segments.
        unsure = {row["_id"]: row for row in rows if not row["hit"] and row["moved"]}
        if unsure:
            left = max(limit_s - (time.monotonic() - started), _LEAST_S)
            for session_id in await self._in_segments(pattern, unsure, left):
                unsure[session_id]["hit"] = True
        return rows

    async def _in_segments(self, pattern: str, sessions: Mapping[str, Document], limit_s: float) -> set[str]:
        pipeline = [
            {"$match": segments_of(list(sessions))},
            {"$match": {"$expr": any_of(array(f"${paths.ITEMS}"), "message", says(pattern))}},
            {"$project": SEGMENT_FIELDS},
        ]
        cursor = self._segments.aggregate(pipeline, maxTimeMS=int(limit_s * 1000) + 1)
        return {item[paths.SESSION_ID] async for item in cursor if archive_of(item, sessions[item[paths.SESSION_ID]])}

    async def _pass_over(self, query: Mapping[str, Any], order: Order, after: Place | None) -> list[Document]:
        asked = dict(query) if after is None else order.after(query, after)
        found = await self._collection.find_one(asked, {order.field: 1}, sort=order.keys, max_time_ms=_SHOW_MS)
        return [] if found is None else [{**found, "size": 0, "hit": False}]

    async def hits(self, text: str, session_ids: Sequence[str]) -> dict[str, Document]:
        """Return where each session says a text: `agent_id`, `message_id` and an excerpt."""
        if not session_ids:
            return {}
        pattern = literally(text)
        try:
            live, sealed = await asyncio.gather(self._live(pattern, session_ids), self._sealed(pattern, session_ids))
        except ExecutionTimeout:
            return {}
        return {
            session_id: hit for session_id in session_ids if (hit := sealed.get(session_id) or live.get(session_id))
        }

    async def _live(self, pattern: str, session_ids: Sequence[str]) -> dict[str, Document]:
        per_agent = {
            "agent_id": agent_id(),
            "found": found_messages(f"$$agent.v.{paths.MESSAGES}", pattern, 1),
        }
        titled = {"$let": {"vars": {"message": {"content": f"${paths.TITLE}"}}, "in": excerpt(pattern, 50, 150)}}
        pipeline = [
            {"$match": {"_id": {"$in": list(session_ids)}}},
            {"$project": {"title": titled, "agents": {"$map": {"input": agents(), "as": "agent", "in": per_agent}}}},
        ]
        hits: dict[str, Document] = {}
        async for item in self._collection.aggregate(pipeline, maxTimeMS=_SHOW_MS):
            said = [
                {"agent_id": read_agent_id(entry["agent_id"]), **found}
                for entry in item["agents"]
                for found in entry["found"]
            ]
            if said:
                hits[item["_id"]] = said[0]
            elif item["title"]:
                hits[item["_id"]] = {"agent_id": None, "message_id": None, "excerpt": item["title"]}
        return hits

    async def _sealed(self, pattern: str, session_ids: Sequence[str]) -> dict[str, Document]:
        moved = archives(agent_id=agent_id())
        query = {"$match": {"_id": {"$in": list(session_ids)}}}
        heads = [query, {"$project": {paths.INCARNATION: 1, "moved": moved}}]
        known = {row["_id"]: row async for row in self._collection.aggregate(heads, maxTimeMS=_SHOW_MS)}
        pipeline = [
            {"$match": segments_of(list(known))},
            {"$sort": {paths.START: 1}},
            {"$project": {**SEGMENT_FIELDS, "found": found_messages(f"${paths.ITEMS}", pattern, 1)}},
            {"$match": {"found.0": {"$exists": True}}},
        ]
        hits: dict[str, Document] = {}
        async for item in self._segments.aggregate(pipeline, maxTimeMS=_SHOW_MS):
            session_id = item[paths.SESSION_ID]
            archive = archive_of(item, known[session_id])
            if archive and session_id not in hits:
                hits[session_id] = {"agent_id": read_agent_id(archive["agent_id"]), **item["found"][0]}
        return hits
