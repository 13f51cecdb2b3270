"""Finding a text in one session, wherever it stands: the server looks, and returns places and excerpts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import ExecutionTimeout, OperationFailure

from ..errors import SessionNotFoundError
from ..schema import paths
from ..schema.expressions import Document
from ..schema.messages import read_date
from ..store.older_counts import NO_UTF8
from ..web import ApiError
from ..web.plain import count_or_none, storable_text
from ..web.sealed_messages import SEGMENT_FIELDS, archive_of, archives, segments_of
from ..web.stored_texts import agent_id, found_messages, literally, read_agent_id
from .schemas import FoundMessage, FoundMessages

MOST = 1_000
"""Messages that one answer names."""

_LIMIT_MS = 4_000
_NEVER = datetime.max.replace(tzinfo=UTC)


class SessionFinder:
    """Finds texts in sessions of one collection."""

    def __init__(self, collection: Any, segments: Any) -> None:
        """Ask the driver's collections of sessions and of their segments; no I/O."""
        self._collection = collection
        self._segments = segments

    async def find(self, session_id: str, text: str) -> FoundMessages:
        """Return the messages that say a text, oldest first.

        Raises:
            ApiError: It takes too long (503), or the session holds text that is no UTF-8 (422).
            SessionNotFoundError: No such session.
        """
        pattern = literally(text)
        try:
            session = await self._live(session_id, pattern)
            found = [(entry["agent_id"], message) for entry in session["moved"] for message in entry["found"]]
            if any(entry.get(paths.TOKEN) is not None for entry in session["moved"]):
                found = await self._sealed(session, pattern) + found
        except ExecutionTimeout:
            raise ApiError(503, "too_slow", f"looking through it takes more than {_LIMIT_MS // 1000} s") from None
        except OperationFailure as error:
            if error.code not in NO_UTF8:
                raise
            raise ApiError(
                422, "unreadable", "it holds text that is no UTF-8, so it cannot be looked through"
            ) from None
        shown = [_shown(agent, message) for agent, message in found]
        # Messages of one agent stay in their order: the sort is stable.
        shown.sort(key=lambda message: message.timestamp or _NEVER)
        return FoundMessages(found=shown[:MOST], complete=len(shown) <= MOST)

    async def _live(self, session_id: str, pattern: str) -> Document:
        per_agent = {
            "agent_id": agent_id(),
            "found": found_messages(f"$$agent.v.{paths.MESSAGES}", pattern, MOST + 1),
        }
        pipeline = [
            {"$match": {"_id": session_id}},
            {"$project": {paths.INCARNATION: 1, "moved": archives(**per_agent)}},
        ]
        rows: list[Document] = await self._collection.aggregate(pipeline, maxTimeMS=_LIMIT_MS).to_list(None)
        if not rows:
            raise SessionNotFoundError(session_id)
        return rows[0]

    async def _sealed(self, session: Document, pattern: str) -> list[tuple[Any, Document]]:
        pipeline = [
            {"$match": segments_of([session["_id"]])},
            {"$sort": {paths.AGENT: 1, paths.START: 1}},
            {"$project": {**SEGMENT_FIELDS, "found": found_messages(f"${paths.ITEMS}", pattern, MOST + 1)}},
            {"$match": {"found.0": {"$exists": True}}},
        ]
        found: list[tuple[Any, Document]] = []
        async for segment in self._segments.aggregate(pipeline, maxTimeMS=_LIMIT_MS):
            archive = archive_of(segment, session)
            if archive is not None:
                found += [(archive["agent_id"], message) for message in segment["found"]]
            if len(found) > MOST:
                break
        return found


def _shown(agent: Mapping[str, Any], message: Mapping[str, Any]) -> FoundMessage:
    return FoundMessage(
        agent_id=read_agent_id(agent),
        message_id=count_or_none(message.get("message_id")),
        timestamp=read_date(message.get("created_at")),
        excerpt=storable_text(message["excerpt"]),
    )
