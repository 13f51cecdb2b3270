"""The API: one message in, its reply as events; conversations from MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    LeaseUnavailableError,
    SessionNotFoundError,
    __version__,
)

from ..web import ApiError, ErrorBody, EventStream, ServerSentEvent, Stopping, invalid
from .conversations import Conversations
from .events import as_sse, position
from .schemas import (
    SESSION_ID,
    ChatRequest,
    Conversation,
    ConversationPage,
    FeedbackRequest,
    Health,
    PoolMetrics,
    Stopped,
)
from .turns import TooManyTurnsError, Turn, TurnRunningError, Turns

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in ((422, "Bad input"), (503, "MongoDB does not answer"))
}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "No such session"}}
_BUSY: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody, "description": "The session is answering"}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `token`, `tool_call`, `tool_result`, `metrics`, `error` and, always last, `done`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

router = APIRouter(responses=_ERRORS)


@dataclass
class Services:
    """What the handlers work with, for the life of the app."""

    factory: AsyncMongoDBSessionManagerFactory
    repository: AsyncMongoDBSessionRepository
    turns: Turns
    conversations: Conversations
    stopping: Stopping
    model: str


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Ready = Annotated[Services, Depends(_services)]
SessionIdPath = Annotated[str, Path(pattern=SESSION_ID)]


@router.post("/api/chat", status_code=200, response_class=EventStream, responses={**_STREAM, **_BUSY})
async def chat(body: ChatRequest, services: Ready) -> EventStream:
    """Say something, and follow the reply.

    The reply is made and stored to its end whoever is listening. A connection that was lost is taken up again at
    `/api/sessions/{session_id}/turn`.
    """
    await _check_own(services, body.session_id)
    try:
        turn = services.turns.start(body.session_id, body.message)
    except TurnRunningError:
        raise _busy() from None
    except TooManyTurnsError:
        message = "the server is making as many replies as it may; try again in a moment"
        raise ApiError(503, "too_many_turns", message, headers={"Retry-After": "5"}) from None
    try:
        await turn.wait_started()
    except LeaseUnavailableError:
        raise _busy() from None
    return _follow(services, turn, 0)


async def _check_own(services: Services, session_id: str) -> None:
    """Refuse the session of another application; one that does not exist yet is fine."""
    try:
        await services.conversations.check(session_id)
    except SessionNotFoundError:
        if await services.repository.check_session_exists(session_id):
            message = "this session id is taken by another application; choose another one"
            raise ApiError(409, "other_application", message) from None


def _busy() -> ApiError:
    message = "this conversation is answering another message; wait for the end of the reply, or stop it"
    return ApiError(409, "busy", message, headers={"Retry-After": "2"})


def _follow(services: Services, turn: Turn, after: int) -> EventStream:
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in turn.log.follow(after):
            yield as_sse(turn.turn_id, event)

    return EventStream(events(), stopping=services.stopping)


@router.get("/api/sessions")
async def list_sessions(
    services: Ready,
    limit: Annotated[int, Query(ge=1, le=100)] = 30,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> ConversationPage:
    """Return the conversations, newest first."""
    try:
        return await services.conversations.page(limit, cursor)
    except ValueError:
        raise invalid("cursor", "it is not the next_cursor of a page") from None


@router.get("/api/sessions/{session_id}", responses=_MISSING)
async def read_session(
    session_id: SessionIdPath,
    services: Ready,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> Conversation:
    """Return a conversation as it is stored: newest messages, metadata, state, feedback and metrics."""
    return await services.conversations.read(session_id, limit=limit, before=before)


@router.get(
    "/api/sessions/{session_id}/turn",
    status_code=200,
    response_class=EventStream,
    responses={**_STREAM, 204: {"description": "No reply is being made, and none ended just now"}},
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
    return _follow(services, turn, position(turn.turn_id, last_event_id or after))


@router.post("/api/sessions/{session_id}/stop")
async def stop_turn(session_id: SessionIdPath, services: Ready) -> Stopped:
    """End the reply that is being made; what was said so far is stored before this returns."""
    turn = services.turns.running_in(session_id)
    if turn is not None:
        await turn.stop()
    return Stopped(stopped=turn is not None)


@router.post("/api/sessions/{session_id}/feedback", status_code=201, responses={**_MISSING, **_BUSY})
async def add_feedback(session_id: SessionIdPath, body: FeedbackRequest, services: Ready) -> FeedbackRequest:
    """Store what the user thinks of a reply."""
    await services.conversations.check(session_id)
    feedback = body.model_dump(exclude_none=True)
    turn = services.turns.running_in(session_id)
    try:
        if turn is None or not await turn.add_feedback(feedback):
            await services.repository.add_feedback(session_id, feedback)
    except LeaseUnavailableError:
        raise _busy() from None
    return body


@router.delete("/api/sessions/{session_id}", status_code=204, responses=_MISSING)
async def delete_session(session_id: SessionIdPath, services: Ready) -> None:
    """Stop the reply that is being made, and delete the conversation with everything in it."""
    await services.conversations.check(session_id)
    turn = services.turns.running_in(session_id)
    if turn is not None:
        await turn.stop()
    services.turns.forget(session_id)
    await services.repository.delete_session(session_id)


@router.get("/health", responses={503: {"model": Health, "description": "MongoDB does not answer"}})
async def health(services: Ready) -> JSONResponse:
    """Tell whether the playground can work."""
    stats = await services.factory.get_connection_stats()
    works = stats["status"] in ("connected", "external_client")
    answer = Health(
        status="ok" if works else "unavailable",
        mongodb="connected" if works else "unreachable",
        version=__version__,
        model=services.model,
    )
    return JSONResponse(answer.model_dump(), 200 if works else 503)


@router.get("/metrics")
async def metrics(services: Ready) -> PoolMetrics:
    """Return statistics of the connection pool and of the turns."""
    turns = {"running": services.turns.running, "kept": services.turns.kept}
    return PoolMetrics(pool=await services.factory.get_connection_stats(), turns=turns)
