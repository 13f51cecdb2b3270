"""Conversations from MongoDB, and what is done to them."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from mongodb_session_manager import AgentNotFoundError, LeaseUnavailableError, MessageNotFoundError

from ...web import ApiError, invalid
from ..attachments import IMAGES
from ..attachments import MEDIA_TYPES as FILE_TYPES
from ..export import MEDIA_TYPES, Format, export, file_name
from ..schemas import (
    Conversation,
    ConversationPage,
    FeedbackRequest,
    Forked,
    ForkRequest,
    FoundPage,
    SessionChange,
)
from .dependencies import BUSY, ERRORS, MISSING, Ready, SessionIdPath, busy

router = APIRouter(responses=ERRORS)


@router.get("/api/sessions")
async def list_sessions(
    services: Ready,
    limit: Annotated[int, Query(ge=1, le=100)] = 30,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    text: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = "",
) -> ConversationPage | FoundPage:
    """Return the conversations, newest first; of a text, those in which it occurs."""
    if text.strip():
        return await services.conversations.search(text.strip(), limit, cursor)
    try:
        return await services.conversations.page(limit, cursor)
    except ValueError:
        raise invalid("cursor", "it is not the next_cursor of a page") from None


@router.get("/api/sessions/{session_id}", responses=MISSING)
async def read_session(
    session_id: SessionIdPath,
    services: Ready,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> Conversation:
    """Return a conversation as it is stored: newest messages, metadata, state, feedback and metrics."""
    return await services.conversations.read(session_id, limit=limit, before=before)


@router.patch("/api/sessions/{session_id}", status_code=204, responses={**MISSING, **BUSY})
async def change_session(session_id: SessionIdPath, body: SessionChange, services: Ready) -> None:
    """Rename a conversation, or choose its system prompt and temperature."""
    try:
        if body.title is not None:
            await services.conversations.rename(session_id, body.title)
        if body.tuning is not None:
            await services.conversations.tune(session_id, body.tuning)
    except LeaseUnavailableError:
        raise busy() from None
    except AgentNotFoundError:
        raise invalid("tuning", "nothing was said in this conversation yet; send it with the first message") from None


@router.post("/api/sessions/{session_id}/fork", status_code=201, responses=MISSING)
async def fork_session(session_id: SessionIdPath, body: ForkRequest, services: Ready) -> Forked:
    """Make a new conversation that holds what this one holds up to a message; this one stays as it is."""
    forked = Forked(session_id=f"chat-{secrets.token_hex(8)}")
    try:
        await services.conversations.fork(session_id, forked.session_id, body.up_to_message)
    except (AgentNotFoundError, MessageNotFoundError):
        raise invalid("up_to_message", "there is no such message") from None
    return forked


@router.get(
    "/api/sessions/{session_id}/export",
    response_class=StreamingResponse,
    responses={**MISSING, 200: {"description": "The conversation as a file"}},
)
async def export_session(
    session_id: SessionIdPath, services: Ready, format: Annotated[Format, Query()] = "markdown"
) -> StreamingResponse:
    """Return a conversation as a file: all messages, and what is known of them."""
    head = await services.conversations.read(session_id, limit=1, before=0)
    headers = {"Content-Disposition": f'attachment; filename="{file_name(session_id, format)}"'}
    return StreamingResponse(
        export(services.conversations, head, format), media_type=MEDIA_TYPES[format], headers=headers
    )


@router.get(
    "/api/sessions/{session_id}/messages/{message_id}/files/{place}",
    response_class=Response,
    responses={**MISSING, 200: {"description": "The file", "content": {"application/octet-stream": {}}}},
)
async def read_file(
    session_id: SessionIdPath,
    message_id: Annotated[int, Path(ge=0, le=2**53)],
    place: Annotated[int, Path(ge=0, le=10_000)],
    services: Ready,
) -> Response:
    """Return an image, or a document as a download, out of a message; `place` is the block's position."""
    found = await services.conversations.file(session_id, message_id, place)
    if found is None:
        raise ApiError(404, "not_found", "there is no such file")
    name, format_, data = found
    if format_ in IMAGES:
        return Response(data, media_type=FILE_TYPES[format_])
    # What somebody attached is never shown as a page of this origin.
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}.{quote(format_)}"}
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.post("/api/sessions/{session_id}/feedback", status_code=201, responses={**MISSING, **BUSY})
async def add_feedback(session_id: SessionIdPath, body: FeedbackRequest, services: Ready) -> FeedbackRequest:
    """Store what the user thinks of a reply, once for each key."""
    await services.conversations.check(session_id)
    feedback = body.model_dump(exclude_none=True)

    async def store() -> None:
        turn = services.turns.running_in(session_id)
        if turn is None or not await turn.add_feedback(feedback, body.key):
            await services.repository.add_feedback(session_id, feedback, idempotency_key=body.key)

    try:
        if body.key is None:
            await store()
        else:
            await services.once.run((session_id, body.key), store)
    except LeaseUnavailableError:
        raise busy() from None
    return body


@router.delete("/api/sessions/{session_id}", status_code=204, responses=MISSING)
async def delete_session(session_id: SessionIdPath, services: Ready) -> None:
    """Stop the reply that is being made, and delete the conversation with everything in it."""
    await services.conversations.check(session_id)
    turn = services.turns.running_in(session_id)
    if turn is not None:
        await turn.stop()
    services.turns.forget(session_id)
    await services.repository.delete_session(session_id)
