"""Sessions as files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from ...errors import SessionNotFoundError
from ...web import invalid
from ..archive import MOST_SESSIONS, archive
from ..export import MEDIA_TYPES, Format, export, file_name, first_page
from .dependencies import AllowedSession, Db, NeedsAll, errors

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])


@router.get(
    "/archive",
    response_class=StreamingResponse,
    dependencies=[NeedsAll],
    responses={
        200: {"content": {"application/zip": {}}, "description": "The archive"},
        **errors(401, 403, 404, 422, 503),
    },
)
async def export_sessions(
    database: Db,
    session_id: Annotated[list[str], Query(min_length=1, description="May be given several times")],
    format_: Annotated[Format, Query(alias="format")] = "json",
) -> StreamingResponse:
    """Return several sessions as one ZIP archive, while they are read."""
    if len(session_id) > MOST_SESSIONS:
        raise invalid("session_id", f"at most {MOST_SESSIONS} sessions in one archive")
    known = {card.session_id for card in await database.search.cards({"_id": {"$in": session_id}})}
    if not known:
        raise SessionNotFoundError(session_id[0])
    return StreamingResponse(
        archive(database, session_id, format_),
        media_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="sessions.zip"'},
    )


@router.get(
    "/{session_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {name.partition(";")[0]: {} for name in MEDIA_TYPES.values()}, "description": "The file"},
        **errors(401, 404, 422, 429, 503),
    },
)
async def export_session(
    session_id: AllowedSession, database: Db, format_: Annotated[Format, Query(alias="format")] = "json"
) -> StreamingResponse:
    """Return a whole session as a file, while it is read."""
    first = await first_page(database, session_id)
    return StreamingResponse(
        export(database, session_id, format_, first),
        media_type=MEDIA_TYPES[format_],
        headers={"Content-Disposition": f'attachment; filename="{file_name(session_id, format_)}"'},
    )
