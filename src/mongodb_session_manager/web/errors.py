"""One error body for everything that goes wrong, and the handlers that make it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pymongo.errors import OperationFailure, PyMongoError
from starlette.exceptions import HTTPException

from ..advice import told
from ..client import is_transient
from ..errors import CorruptSessionError, SessionNotFoundError, SessionStoreError
from .plain import storable_text

logger = logging.getLogger(__name__)

MOST_FAULTS = 10
"""Most faults of a request that an error names."""

_LONGEST_NAME = 100
_LONGEST_TEXT = 500


class FieldProblem(BaseModel):
    """What is wrong with one part of a request."""

    field: str
    message: str


class ErrorDetail(BaseModel):
    """What went wrong: a code for programs, a sentence for people."""

    code: str
    message: str
    fields: list[FieldProblem] = []


class ErrorBody(BaseModel):
    """The body of every answer with an error status."""

    error: ErrorDetail


class ApiError(Exception):
    """Ends a request with an error body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say what went wrong.

        Args:
            status: HTTP status.
            code: For programs, such as `not_found`.
            message: For people: what is wrong and what to do; nothing secret.
            fields: Problems of parts of the request, by their names.
            headers: More headers of the answer.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields or {}
        self.headers = headers


def error_response(error: ApiError) -> JSONResponse:
    """Return the answer for an error."""
    problems = [FieldProblem(field=name, message=message) for name, message in error.fields.items()]
    body = ErrorBody(error=ErrorDetail(code=error.code, message=error.message, fields=problems))
    return JSONResponse(body.model_dump(mode="json"), error.status, headers=dict(error.headers or {}))


def invalid(field: str, message: str) -> ApiError:
    """Return the error for one part of a request that cannot be used."""
    return ApiError(422, "invalid_request", f"{field}: {message}", fields={field: message})


def install_errors(app: FastAPI) -> None:
    """Let every error of an app end in an `ErrorBody`, without anything that is secret or internal.

    What is unexpected ends in the middleware that `install_security` adds.
    """
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(SessionNotFoundError, _no_session)
    app.add_exception_handler(SessionStoreError, _store_error)
    app.add_exception_handler(PyMongoError, _database_error)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    try:
        code = HTTPStatus(error.status_code).name.lower()
    except ValueError:
        code = "error"
    return error_response(ApiError(error.status_code, code, str(error.detail), headers=error.headers))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields: dict[str, str] = {}
    problems = error.errors()
    for problem in problems[:MOST_FAULTS]:
        place = problem.get("loc") or ()
        if place[:1] == ("body",) and (len(place) == 1 or problem.get("type") == "json_invalid"):
            # Of the body as a whole. FastAPI names the place where JSON breaks off as if it were a field.
            fields.setdefault("body", _BODY_RULE)
            continue
        # The first part says where in the request it stands: query, path, body.
        name = ".".join(_shortened(part) for part in place[1:]) or "request"
        # pydantic puts this before what a validator of ours said.
        said = str(problem.get("msg", "is not valid")).removeprefix("Value error, ")
        fields.setdefault(_shortened(name), said[:_LONGEST_TEXT])
    message = "; ".join(f"{name}: {text}" for name, text in fields.items())
    if len(problems) > MOST_FAULTS:
        message += "; and more"
    return error_response(ApiError(422, "invalid_request", message, fields=fields))


_BODY_RULE = "it must be a JSON object, sent as application/json"


def _shortened(part: object) -> str:
    """Return the name of a part of a request, which a client chose."""
    text = storable_text(str(part))
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


async def _no_session(request: Request, error: Exception) -> JSONResponse:
    return error_response(ApiError(404, "not_found", "there is no such session"))


async def _store_error(request: Request, error: Exception) -> JSONResponse:
    # Its text names the session and the place, never content.
    logger.warning("error=<%s> | %s", type(error).__name__, error)
    code = "not_changeable" if isinstance(error, CorruptSessionError) else "unreadable"
    return error_response(ApiError(409, code, str(error)))


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    # The text of a driver's error may name hosts and users.
    code = getattr(error, "code", None)
    logger.warning("error=<%s>, code=<%s> | %s", type(error).__name__, code, told(error) or "database error")
    if getattr(error, "timeout", False) and code == _MAX_TIME_EXPIRED:
        return error_response(ApiError(503, "too_slow", "the database took too long; narrow the request"))
    if code in _UNKNOWN_TO_THE_SERVER:
        message = "this database does not know an operator that this needs; see the page on MongoDB versions"
        return error_response(ApiError(501, "not_supported", message))
    if isinstance(error, OperationFailure) and not (error.timeout or is_transient(error) or code in _ENDED_EARLY):
        return error_response(ApiError(500, "database_refused", "the database refused this; the log has its code"))
    message = "the database does not answer; try again in a moment"
    return error_response(ApiError(503, "database_unavailable", message, headers={"Retry-After": "2"}))


_MAX_TIME_EXPIRED = 50
_UNKNOWN_TO_THE_SERVER = frozenset({115, 168, 303, 31325, 40324})
_ENDED_EARLY = frozenset({43, 175, 237, 11601})
"""Codes of cursors and queries that the server gave up, as it does when it steps down or ends."""

INTERNAL_ERROR = ApiError(500, "internal_error", "something went wrong; the server's log has the details")
