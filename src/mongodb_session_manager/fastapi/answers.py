"""What clients are told of an error: a status, or the code with which a WebSocket is closed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pymongo.errors import ConnectionFailure, DocumentTooLarge, PyMongoError, WTimeoutError
from strands.types.exceptions import EventLoopException, StorageError

from .. import errors
from ..advice import is_away, told
from ..client import is_transient
from ..extras import needs

with needs("fastapi"):
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket, WebSocketState

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2
"""What clients are told to wait while MongoDB does not answer, in seconds."""

_STATUS: dict[type[Exception], int] = {
    errors.InvalidNameError: 422,
    errors.SessionNotFoundError: 404,
    errors.AgentNotFoundError: 404,
    errors.MessageNotFoundError: 404,
    errors.SessionExistsError: 409,
    errors.AgentExistsError: 409,
    errors.StorageConflictError: 409,
    errors.LeaseUnavailableError: 409,
    errors.LeaseLostError: 409,
    errors.MessageTooLargeError: 413,
    errors.MetadataTooLargeError: 413,
    errors.SessionFullError: 413,
}


def answers() -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """Return what answers each kind of error, for an application's `exception_handlers`."""
    # The last two stand for what they were raised for.
    kinds: list[int | type[Exception]] = [*_STATUS, PyMongoError, DocumentTooLarge, EventLoopException, StorageError]
    return dict.fromkeys(kinds, _answer)


async def _answer(connection: Request | WebSocket, error: Exception) -> Response:
    """Answer for an error, or raise it again where nothing can be said about it."""
    found = _known(error)
    if found is None:
        raise error
    answer = _response(found)
    if isinstance(connection, WebSocket):
        # The framework has no use for an answer here, and would leave the client waiting.
        await _refuse(connection, answer)
    return answer


_CLOSE_CODES = {413: 1009, 500: 1011, 503: 1013}
_POLICY = 1008
_REASON_BYTES = 123
"""Bytes of a reason in a WebSocket's close frame."""


async def _refuse(socket: WebSocket, answer: Response) -> None:
    if WebSocketState.DISCONNECTED in (socket.application_state, socket.client_state):
        return
    accepted = socket.application_state is WebSocketState.CONNECTED
    if not accepted and "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(answer)
        return
    reason = json.loads(bytes(answer.body))["detail"].encode()[:_REASON_BYTES].decode(errors="ignore")
    await socket.close(_CLOSE_CODES.get(answer.status_code, _POLICY), reason)


def _response(found: Exception) -> Response:
    if isinstance(found, DocumentTooLarge):
        return _said(413, "what was to be stored is larger than a MongoDB document may be")
    if not isinstance(found, PyMongoError):
        return _said(next(status for kind, status in _STATUS.items() if isinstance(found, kind)), str(found))
    # The text of a driver's error may name hosts and users.
    code = getattr(found, "code", None)
    known = told(found) or "request failed in the database"
    logger.warning("error=<%s>, code=<%s> | %s", type(found).__name__, code, known)
    if isinstance(found, ConnectionFailure | WTimeoutError) or found.timeout or is_away(found) or is_transient(found):
        answer = _said(503, "the database does not answer; try again in a moment")
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer
    return _said(500, "the database refused the operation; the server's log has its code")


def _known(error: BaseException | None) -> Exception | None:
    """Return the error of this library or of the driver that an error is, or that it was raised for."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, PyMongoError | DocumentTooLarge) or (
            isinstance(error, Exception) and isinstance(error, tuple(_STATUS))
        ):
            return error
        error = getattr(error, "original_exception", None) or error.__cause__ or error.__context__
    return None


def _said(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
