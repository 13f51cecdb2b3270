"""What the handlers share: the services, the errors that they describe, and the streams of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Path, Request

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
)

from ...web import ApiError, ErrorBody, EventStream, ServerSentEvent, Stopping
from ...web.once import Once
from ..agents import Agents
from ..conversations import Conversations
from ..events import as_sse
from ..schemas import SESSION_ID
from ..turn import Turn
from ..turns import Turns

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in ((422, "Bad input"), (503, "MongoDB does not answer"))
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "No such session"}}
BUSY: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody, "description": "The session is answering"}}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `token`, `tool_call`, `tool_result`, `metrics`, `error` and, always last, `done`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@dataclass
class Services:
    """What the handlers work with, for the life of the app."""

    factory: AsyncMongoDBSessionManagerFactory
    repository: AsyncMongoDBSessionRepository
    turns: Turns
    conversations: Conversations
    agents: Agents
    stopping: Stopping
    once: Once = field(default_factory=Once)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Ready = Annotated[Services, Depends(_services)]
SessionIdPath = Annotated[str, Path(pattern=SESSION_ID)]


def busy() -> ApiError:
    """Return the error for a conversation that is answering already."""
    message = "this conversation is answering another message; wait for the end of the reply, or stop it"
    return ApiError(409, "busy", message, headers={"Retry-After": "2"})


def follow(services: Services, turn: Turn, after: int) -> EventStream:
    """Return the events of a turn after a number, as they come."""

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for event in turn.log.follow(after):
            yield as_sse(turn.turn_id, event)

    return EventStream(events(), stopping=services.stopping)
