"""Session ids in the addresses of the API.

An id may hold anything: slashes, dots only, the name of an endpoint. What a path segment cannot say, or proxies change
on the way, is written as `~` and the id in base64url without padding; every other id stands there as it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes, urlencode

from fastapi import Depends, Path
from starlette.types import ASGIApp, Receive, Scope, Send

from ..web import ApiError

SESSIONS_URL = "/api/v1/sessions"
_RESERVED = frozenset({"search", "events", "totals", "archive"})
_is_plain = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:@-]*").fullmatch


def encode_segment(session_id: str) -> str:
    """Return the path segment that stands for a session."""
    if _is_plain(session_id) and session_id not in _RESERVED:
        return quote(session_id, safe="")
    return _packed(session_id.encode("utf-8", "surrogatepass"))


def _packed(name: bytes) -> str:
    return "~" + base64.urlsafe_b64encode(name).decode().rstrip("=")


def decode_segment(segment: str) -> str:
    """Return the session id that a path segment stands for.

    Raises:
        ApiError: It begins with `~` and what follows is no base64url of UTF-8 text.
    """
    if not segment.startswith("~"):
        return segment
    packed = segment[1:]
    try:
        session_id = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        session_id = ""
    if not session_id:
        raise ApiError(404, "not_found", "there is no such session")
    return session_id


def session_url(session_id: str, *parts: str, **query: str | int) -> str:
    """Return the address of something of a session."""
    path = "/".join((SESSIONS_URL, encode_segment(session_id), *parts))
    return f"{path}?{urlencode(query, errors='replace')}" if query else path


def _from_path(session_id: Annotated[str, Path(max_length=4096)]) -> str:
    return decode_segment(session_id)


SessionId = Annotated[str, Depends(_from_path)]
"""The session that a request is about."""


class EncodedSlashes:
    """Lets `%2F` in a session id stand for a slash: servers decode it before routes are looked up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        raw: bytes = scope.get("raw_path") or b""
        if scope["type"] == "http" and b"%2f" in raw.lower():
            segments = raw.partition(b"?")[0].split(b"/")
            # "", "api", "v1", "sessions", the session, the rest
            if b"/".join(segments[:4]) == SESSIONS_URL.encode() and len(segments) > 4:
                decoded = [unquote_to_bytes(segment).decode("utf-8", "replace") for segment in segments]
                decoded[4] = _packed(unquote_to_bytes(segments[4]))
                scope = {**scope, "path": "/".join(decoded)}
        await self._app(scope, receive, send)
