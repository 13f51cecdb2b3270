"""One session: its timeline, a message, an image, what it used."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from ...errors import SessionNotFoundError, SessionStoreError
from ...web import ApiError, invalid
from ..blocks import image_at, raster_type
from ..heads import session_head
from ..limits import WHOLE_DOCUMENT, time_limit
from ..schemas import FoundMessages, MessageAnswer, SessionDetail, UsageSeries
from ..timeline import Position, end_of
from ..usage import usage_series
from .dependencies import AllowedSession, Db, errors

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["sessions"])

_Agent = Annotated[str, Query(max_length=4096)]
_Number = Annotated[int, Query(ge=0, le=2**40)]
_CONTEXT = 3
"""Messages of the same agent that are shown before one that a page begins at."""

_IMAGE_HEADERS = {
    # What is stored was never looked at: shown as an image it is harmless, opened as a page it must stay so.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline",
}


@router.get("", responses=errors(401, 404, 422, 429, 503))
async def detail(
    session_id: AllowedSession,
    database: Db,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=65_536)] = None,
    order: Literal["asc", "desc"] = "asc",
    agent_id: Annotated[str | None, Query(max_length=4096)] = None,
    message_id: Annotated[int | None, Query(ge=0, le=2**40)] = None,
) -> SessionDetail:
    """Return a session with a page of its timeline; with `agent_id` and `message_id` one that begins just before it."""
    position = Position.of(cursor, ascending=order == "asc")
    previous = head = None
    with time_limit():
        if agent_id is not None and message_id is not None and not cursor:
            position, head = await database.places.before(session_id, agent_id, message_id, _CONTEXT)
            previous = Position(False, position.places).encoded() if position.places else None
        page = await database.timeline.page(session_id, position, limit, head=head)
    return SessionDetail(
        **dict(session_head(page.head)),
        timeline=page.items,
        previous_cursor=previous,
        next_cursor=page.after.encoded() if page.more else None,
        live_cursor=end_of(page.head).encoded(),
    )


@router.get("/find", responses=errors(401, 404, 422, 429, 503))
async def find(
    session_id: AllowedSession, database: Db, text: Annotated[str, Query(min_length=1, max_length=256)]
) -> FoundMessages:
    """Return which messages of a session say a text."""
    if "\x00" in text:
        raise invalid("text", "it must not hold a NUL character")
    return await database.finder.find(session_id, text)


@router.get("/message", responses=errors(401, 404, 422, 429, 503))
async def message(session_id: AllowedSession, database: Db, agent_id: _Agent, message_id: _Number) -> MessageAnswer:
    """Return one message, nothing left out."""
    with time_limit():
        found = await database.timeline.message(session_id, agent_id, message_id)
    if found is None:
        raise ApiError(404, "not_found", "there is no such message")
    return MessageAnswer(message=found)


@router.get(
    "/image",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "A PNG, JPEG, GIF or WebP image"},
        **errors(401, 404, 422, 429, 503),
    },
)
async def image(
    session_id: AllowedSession,
    database: Db,
    agent_id: _Agent,
    message_id: _Number,
    place: Annotated[str, Query(pattern=r"^[0-9]{1,5}(\.[0-9]{1,5}){0,9}$")],
) -> Response:
    """Return an image of a message; of a redacted one, those of the replacement."""
    found = None
    try:
        # Of an older tool's document this reads the whole of it, and a page may show many images at once.
        async with database.room.taken(WHOLE_DOCUMENT):
            with time_limit():
                stored = await database.repository.read_message(session_id, agent_id, message_id)
        if stored is not None:
            found = image_at(stored.to_message()["content"], place)
    except SessionNotFoundError:
        raise
    except SessionStoreError:
        pass  # the message, or the whole session, cannot be read
    media_type = raster_type(found[1]) if found is not None else None
    if found is None or media_type is None:
        raise ApiError(404, "not_found", "there is no PNG, JPEG, GIF or WebP image")
    return Response(found[1], media_type=media_type, headers=_IMAGE_HEADERS)


@router.get("/usage", responses=errors(401, 404, 429, 503))
async def usage(session_id: AllowedSession, database: Db) -> UsageSeries:
    """Return what the answers of a session used, over time."""
    with time_limit():
        return await usage_series(database.reader, session_id)
