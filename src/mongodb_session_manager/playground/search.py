"""Conversations in which something was said: looked for as the session viewer does, three seconds a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mongodb_session_manager import AsyncMongoDBSessionRepository

from ..schema import paths
from ..store.related import SEGMENTS
from ..web.foreign_values import ANY_VALUE
from ..web.orders import Order
from ..web.text_search import TextSearch

_FIELDS = {"created_at": 1, "updated_at": 1, paths.SUMMARY_MESSAGES: 1}


@dataclass(frozen=True)
class Found:
    """The result of one look.

    Attributes:
        sessions: Id, dates, number of messages and an excerpt of each session.
        next_cursor: Where the next look goes on; None when there is nothing left to look through.
        searched_until: When the last session that was looked at was created; None when all were.
    """

    sessions: list[dict[str, Any]]
    next_cursor: str | None
    searched_until: datetime | None


async def find_sessions(
    repository: AsyncMongoDBSessionRepository, text: str, application_name: str, *, limit: int, cursor: str | None
) -> Found:
    """Return the newest sessions in whose title or messages a text occurs, in capitals or not.

    Args:
        repository: Where the sessions are.
        text: What to look for, literally.
        application_name: Whose sessions.
        limit: Most sessions to return.
        cursor: Where the look before it ended.

    Raises:
        ApiError: No look ended with this cursor.
    """
    order, collection = Order(), repository.collection.with_options(codec_options=ANY_VALUE)
    segments = collection.database[f"{collection.name}{SEGMENTS}"].with_options(codec_options=ANY_VALUE)
    search = TextSearch(collection, segments)
    after = None if cursor is None else order.place_of(cursor)
    looked = await search.look(text, {paths.APPLICATION_NAME: {"$eq": application_name}}, order, after, limit)
    hits = await search.hits(text, looked.found)
    documents = await collection.find({"_id": {"$in": looked.found}}, _FIELDS).to_list(len(looked.found) or 1)
    by_id = {document["_id"]: document for document in documents}
    goes_on = not looked.ended and looked.last is not None
    return Found(
        sessions=[_summary(by_id[found], hits.get(found)) for found in looked.found if found in by_id],
        next_cursor=order.cursor(order.place(looked.last)) if goes_on and looked.last is not None else None,
        searched_until=_moment(looked.last.get("created_at")) if goes_on and looked.last is not None else None,
    )


def _summary(document: Mapping[str, Any], hit: Mapping[str, Any] | None) -> dict[str, Any]:
    said = hit is not None and hit.get("agent_id") is not None
    return {
        "session_id": str(document["_id"]),
        "created_at": _moment(document.get("created_at")),
        "updated_at": _moment(document.get("updated_at")),
        "messages_count": paths.at(document, paths.SUMMARY_MESSAGES),
        "excerpt": hit["excerpt"] if said and hit is not None else None,
    }


def _moment(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value
