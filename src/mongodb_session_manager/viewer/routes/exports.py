"""A session as a file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from ..export import MEDIA_TYPES, Format, export, file_name, first_page
from .dependencies import AllowedSession, Db, errors

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["sessions"])


@router.get(
    "/export",
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
