"""Finding sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ...web import invalid
from ..filters import parse_filters
from ..schemas import MetadataFields, SearchPage
from ..search import MOST_SKIPPED, SearchRequest
from .dependencies import Db, NeedsAll, Settings, errors

router = APIRouter(prefix="/api/v1", tags=["search"], dependencies=[NeedsAll])

_Text = Annotated[str | None, Query(max_length=1024)]


@router.get("/metadata-fields", responses=errors(401, 403, 503))
async def metadata_fields(database: Db) -> MetadataFields:
    """Return the fields that sessions can be filtered by: those with an index."""
    fields = await database.fields.fields()
    return MetadataFields(fields=list(fields.values()))


@router.get("/sessions/search", responses=errors(401, 403, 422, 503))
async def search(
    database: Db,
    settings: Settings,
    session_id: _Text = None,
    filters: Annotated[str | None, Query(description='JSON object, such as `{"priority": "high"}`')] = None,
    created_at_start: _Text = None,
    created_at_end: _Text = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int | None, Query(ge=0, le=MOST_SKIPPED)] = None,
    cursor: Annotated[str | None, Query(max_length=8192)] = None,
) -> SearchPage:
    """Return a page of sessions, newest first, without their messages."""
    if limit is not None and limit > settings.max_page_size:
        raise invalid("limit", f"at most {settings.max_page_size}")
    if cursor and offset:
        raise invalid("cursor", "give either a cursor or an offset")
    request = SearchRequest(
        session_id=session_id,
        filters=parse_filters(filters, await database.fields.fields()) if filters else {},
        created_at_start=created_at_start,
        created_at_end=created_at_end,
        limit=limit or settings.default_page_size,
        offset=offset or 0,
        cursor=cursor or None,
    )
    return await database.search.page(request)
