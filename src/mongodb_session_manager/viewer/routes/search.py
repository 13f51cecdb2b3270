"""Finding sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ...web import invalid
from ...web.orders import Order, Sort
from ..conditions import Rating
from ..filters import parse_filters
from ..search import MOST_SKIPPED, SearchRequest
from ..search_schemas import MetadataFields, SearchPage, TextPage
from .dependencies import Db, NeedsAll, Settings, errors

router = APIRouter(prefix="/api/v1", tags=["search"], dependencies=[NeedsAll])

_Text = Annotated[str | None, Query(max_length=1024)]


async def _narrowed(
    database: Db,
    session_id: _Text = None,
    text: Annotated[str | None, Query(max_length=256, description="A part of what was said, or of the title")] = None,
    rating: Rating | None = None,
    failed: bool | None = None,
    agent: Annotated[str | None, Query(max_length=1024)] = None,
    filters: Annotated[
        str | None, Query(description='JSON object, such as `{"priority": "high", "score": {"min": 3, "max": 5}}`')
    ] = None,
    created_at_start: _Text = None,
    created_at_end: _Text = None,
    sort: Sort = "created",
) -> SearchRequest:
    """Return what the request narrows the sessions to."""
    if text is not None and "\x00" in text:
        raise invalid("text", "it must not hold a NUL character")
    return SearchRequest(
        session_id=session_id,
        text=text or None,
        rating=rating,
        failed=failed,
        agent=agent or None,
        filters=parse_filters(filters, await database.fields.fields()) if filters else {},
        created_at_start=created_at_start,
        created_at_end=created_at_end,
        order=Order(sort),
    )


Narrowed = Annotated[SearchRequest, Depends(_narrowed)]
"""The sessions that a request is about, by what they have in common."""


@router.get("/metadata-fields", responses=errors(401, 403, 503))
async def metadata_fields(database: Db) -> MetadataFields:
    """Return the fields that sessions can be filtered by: those with an index."""
    fields = await database.fields.fields()
    return MetadataFields(fields=list(fields.values()))


@router.get("/sessions/search", responses=errors(401, 403, 422, 503))
async def search(
    database: Db,
    settings: Settings,
    narrowed: Narrowed,
    limit: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int | None, Query(ge=0, le=MOST_SKIPPED)] = None,
    cursor: Annotated[str | None, Query(max_length=8192)] = None,
) -> TextPage | SearchPage:
    """Return a page of sessions without their messages: newest first, or in another order.

    With `text` the sessions are looked through, for at most three seconds; `next_cursor` goes on from there.
    """
    if limit is not None and limit > settings.max_page_size:
        raise invalid("limit", f"at most {settings.max_page_size}")
    if cursor and offset:
        raise invalid("cursor", "give either a cursor or an offset")
    if narrowed.text and offset:
        raise invalid("offset", "a search for text goes on with a cursor")
    request = replace(narrowed, limit=limit or settings.default_page_size, offset=offset or 0, cursor=cursor or None)
    return await database.search.page(request)
