"""What endpoints ask for: the database, the gate, and the session that a request may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from pymongo.errors import PyMongoError

from ...web import ErrorBody, Stopping
from ..access import Gate, StillHolds
from ..addresses import SessionId
from ..database import Database
from ..settings import ViewerSettings


@dataclass(frozen=True)
class LastingAccess:
    """A session, and what tells whether the access to it still holds."""

    session_id: str
    still_holds: StillHolds


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _gate(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


def _settings(request: Request) -> ViewerSettings:
    settings: ViewerSettings = request.app.state.settings
    return settings


def _stopping(request: Request) -> Stopping:
    stopping: Stopping = request.app.state.stopping
    return stopping


Db = Annotated[Database, Depends(_database)]
TheGate = Annotated[Gate, Depends(_gate)]
Settings = Annotated[ViewerSettings, Depends(_settings)]
ServerStopping = Annotated[Stopping, Depends(_stopping)]


async def _everything(request: Request, gate: TheGate) -> None:
    await gate.require_all(request)


async def _session(request: Request, gate: TheGate, session_id: SessionId) -> str:
    await gate.require_session(request, session_id)
    return session_id


async def _lasting(request: Request, gate: TheGate, session_id: SessionId) -> LastingAccess:
    still_holds = await gate.require_session(request, session_id)

    async def as_far_as_is_known() -> bool:
        try:
            return await still_holds()
        except PyMongoError:
            # While the database does not answer nothing is read that could be seen; the next event asks again.
            return True

    return LastingAccess(session_id, as_far_as_is_known)


async def _everything_for_now(request: Request, gate: TheGate) -> StillHolds:
    return await gate.require_all(request)


NeedsAll = Depends(_everything)
"""For endpoints that show more than one session."""

AllowedSession = Annotated[str, Depends(_session)]
"""The session that the request is about, which it may see."""

AllForNow = Annotated[StillHolds, Depends(_everything_for_now)]
"""For answers that last: tells whether everything may still be seen."""

AllowedForNow = Annotated[LastingAccess, Depends(_lasting)]
"""For answers that last: their session, and whether it may still be seen."""

_ERRORS = {
    401: "Log in, or give a password",
    403: "Not allowed",
    404: "No such session, or nothing there",
    422: "The request is not valid; the answer says what",
    429: "Too many wrong passwords",
    503: "MongoDB does not answer",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of errors that an endpoint may answer with."""
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in statuses}
