"""One message in, its reply as events."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from mongodb_session_manager import LeaseUnavailableError, SessionNotFoundError

from ...web import ApiError, EventStream, invalid
from ..attachments import content_blocks
from ..events import position
from ..schemas import ChatRequest, Stopped
from ..turn import Asked
from ..turns import TooManyTurnsError, TurnRunningError
from .dependencies import BUSY, ERRORS, MISSING, STREAM, Ready, Services, SessionIdPath, busy, follow

router = APIRouter(responses=ERRORS)


@router.post("/api/chat", status_code=200, response_class=EventStream, responses={**STREAM, **BUSY})
async def chat(body: ChatRequest, services: Ready) -> EventStream:
    """Say something, and follow the reply.

    The reply is made and stored to its end with or without listeners. A connection that was lost is taken up again at
    `/api/sessions/{session_id}/turn`.
    """
    try:
        # Megabytes of base64 are decoded and looked at: not on the event loop.
        files = await asyncio.to_thread(content_blocks, [(file.name, file.data) for file in body.attachments])
    except ValueError as error:
        raise invalid("attachments", str(error)) from None
    if not body.message and not files:
        raise invalid("message", "it is empty")
    if not body.message and any("document" in block for block in files):
        raise invalid("message", "beside a document, models want a text")
    await _check_own(services, body.session_id)
    return await _started(services, body.session_id, Asked(body.message, files, body.tuning))


@router.post(
    "/api/sessions/{session_id}/answer",
    status_code=200,
    response_class=EventStream,
    responses={**STREAM, **BUSY, **MISSING},
)
async def answer(session_id: SessionIdPath, services: Ready) -> EventStream:
    """Answer the last message, which has no reply yet, and follow the reply as that of a chat."""
    await services.conversations.check(session_id)
    return await _started(services, session_id, Asked(None))


async def _started(services: Services, session_id: str, asked: Asked) -> EventStream:
    try:
        turn = services.turns.start(session_id, asked)
    except TurnRunningError:
        raise busy() from None
    except TooManyTurnsError:
        message = "the server is making as many replies as it may; try again in a moment"
        raise ApiError(503, "too_many_turns", message, headers={"Retry-After": "5"}) from None
    try:
        await turn.wait_started()
    except LeaseUnavailableError:
        raise busy() from None
    return follow(services, turn, 0)


async def _check_own(services: Services, session_id: str) -> None:
    """Refuse the session of another application; one that does not exist yet is fine."""
    try:
        await services.conversations.check(session_id)
    except SessionNotFoundError:
        if await services.repository.check_session_exists(session_id):
            message = "this session id is taken by another application; choose another one"
            raise ApiError(409, "other_application", message) from None


@router.get(
    "/api/sessions/{session_id}/turn",
    status_code=200,
    response_class=EventStream,
    responses={**STREAM, 204: {"description": "No reply is being made, and none ended just now"}},
)
async def follow_turn(
    session_id: SessionIdPath,
    services: Ready,
    after: Annotated[str | None, Query(max_length=100, description="Id of the last event that was received")] = None,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Follow the reply that is being made, or ended just now, from where the connection was lost."""
    turn = services.turns.get(session_id)
    if turn is None:
        return Response(status_code=204)
    return follow(services, turn, position(turn.turn_id, last_event_id or after))


@router.post("/api/sessions/{session_id}/stop")
async def stop_turn(session_id: SessionIdPath, services: Ready) -> Stopped:
    """End the reply that is being made; what was said so far is stored before this returns."""
    turn = services.turns.running_in(session_id)
    if turn is not None:
        await turn.stop()
    return Stopped(stopped=turn is not None)
