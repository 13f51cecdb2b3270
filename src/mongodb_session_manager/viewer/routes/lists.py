"""Many sessions: what happens to them, and what they add up to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from ...web import EventStream, invalid
from ..totals_schemas import TotalsPage
from .dependencies import AllForNow, Db, NeedsAll, ServerStopping, errors
from .search import Narrowed

router = APIRouter(prefix="/api/v1/sessions", tags=["search"], dependencies=[NeedsAll])


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"},
        **errors(401, 403, 422, 503),
    },
)
async def list_events(
    database: Db, stopping: ServerStopping, narrowed: Narrowed, still_holds: AllForNow
) -> EventStream:
    """Stream sessions that are new or changed, of those that a search finds; a text counts for nothing here."""
    query = await database.search.query(narrowed)
    return EventStream(database.feed.events(query), stopping=stopping, still_holds=still_holds)


@router.get("/totals", responses=errors(401, 403, 422, 503))
async def totals(
    database: Db,
    narrowed: Narrowed,
    zone: Annotated[str, Query(max_length=64, description="Time zone in which days begin")] = "UTC",
) -> TotalsPage:
    """Return what the sessions of a search add up to, in all and over time; not of a search for text."""
    if narrowed.text:
        raise invalid("text", "totals of a search for text would have to look through every session")
    return await database.totals.of(await database.search.query(narrowed), zone)
