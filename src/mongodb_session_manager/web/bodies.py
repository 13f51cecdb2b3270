"""Request bodies, limited in size and time before anything is made of them."""

from __future__ import annotations

import asyncio
import time

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, error_response

MOST_BODY_BYTES = 64 * 1024
"""Bytes that a request's body may have, unless an app says otherwise."""

BODY_S = 20.0
"""Seconds that a client has to send its whole body."""

_DRAINED_BYTES = 16 * 1024 * 1024
_DRAIN_S = 2.0


class BodyLimit:
    """Refuses bodies that are too large, declared or in chunks, those that do not arrive in time, and unclear ones."""

    def __init__(self, app: ASGIApp, most_bytes: int = MOST_BODY_BYTES, seconds: float = BODY_S) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._most_bytes, self._seconds)
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and ("content-length" in headers or scope.get("http_version") == "1.0"):
            # A proxy may take something else for the end, and what follows for a request that it has checked.
            body.refused = True
            text = "a body has either a length or, in HTTP/1.1, chunks"
            await error_response(ApiError(400, "bad_request", text))(scope, receive, body.send)
            return
        declared = headers.get("content-length", "")
        # A server that lets something else through as a length counts for itself, and so does `_Body`.
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > self._most_bytes):
            body.refused = True
            await error_response(_too_large(self._most_bytes))(scope, receive, body.send)
            return
        await self._app(scope, body.receive, body.send)


class _Body:
    """The body of one request on its way in, and what has to be done after a refusal on the way out."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._bytes = 0
        self._complete = False
        self.refused = False

    async def receive(self) -> Message:
        """Return the next part.

        Raises:
            HTTPException: 413 for a body that is too large, 408 for one that does not arrive; FastAPI, which reads it,
                lets this class of errors alone pass.
        """
        if self._complete:
            return await self._receive()  # from here on it only waits for the client to leave
        try:
            async with asyncio.timeout(max(self._deadline - time.monotonic(), 0)):
                message = await self._receive()
        except TimeoutError:
            self.refused = True
            text = f"the body did not arrive within {self._seconds:g} s"
            raise HTTPException(408, text) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        else:
            self._complete = True
        if self._bytes > self._most_bytes:
            self.refused = True
            raise HTTPException(413, _too_large(self._most_bytes).message)
        return message

    async def send(self, message: Message) -> None:
        """Send the answer; after a refusal the connection ends with it."""
        if not self.refused:
            await self._send(message)
            return
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
            await self._send(message)
            return
        if message.get("more_body", False):
            await self._send(message)
            return
        # A connection that is closed while the client still sends is reset, and the answer may be lost with it.
        await self._send({**message, "more_body": True})
        await self._drain()
        await self._send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        left = _DRAINED_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while left > 0 and not self._complete:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            return


def _too_large(most_bytes: int) -> ApiError:
    return ApiError(413, "content_too_large", f"the body has more than the {most_bytes} bytes that are allowed")
