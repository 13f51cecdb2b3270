"""What happens to a session while a page shows it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from ...web import EventStream
from ..limits import time_limit
from ..live_events import live_events
from ..timeline import Position
from .dependencies import AllowedForNow, Db, ServerStopping, errors

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["sessions"])

_Cursor = Annotated[str | None, Query(max_length=65_536)]


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"},
        **errors(401, 404, 422, 429, 503),
    },
)
async def events(
    access: AllowedForNow,
    database: Db,
    stopping: ServerStopping,
    cursor: _Cursor = None,
    last_event_id: Annotated[str | None, Header(max_length=65_536)] = None,
) -> EventStream:
    """Stream new items of the timeline, and what else changes of a session, for as long as the access lasts."""
    with time_limit():
        await database.reader.head(access.session_id)  # 404 as an answer, not as an event
    # A browser that lost its connection says how far it was.
    given = last_event_id or cursor
    position = Position.of(given, ascending=True) if given else None
    return EventStream(
        live_events(database, access.session_id, position), stopping=stopping, still_holds=access.still_holds
    )
