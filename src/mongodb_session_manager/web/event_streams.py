"""Server-sent events: a stream that says so while nothing happens, and ends when the server does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pydantic_core
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from fastapi.sse import ServerSentEvent as ServerSentEvent
from starlette.responses import StreamingResponse

PING_S = 15.0
"""Seconds of silence after which a comment is sent: proxies end connections that look idle, often after 60."""


class Stopping:
    """Tells the streams of a server that it is about to end; they would keep it waiting."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """End all streams; on the server's loop."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until the server is about to end."""
        await self._event.wait()


def event_frame(event: ServerSentEvent) -> bytes:
    """Return an event as it goes over the wire; data as JSON, of one line whatever it holds."""
    data = event.raw_data
    if event.data is not None:
        data = pydantic_core.to_json(event.data).decode()
    return format_sse_event(data_str=data, event=event.event, id=event.id, retry=event.retry, comment=event.comment)


class EventStream(StreamingResponse):
    """An answer of type `text/event-stream`.

    The iterator is closed when the client leaves, when the server ends, or when it is exhausted.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[ServerSentEvent],
        *,
        stopping: Stopping | None = None,
        ping_s: float | None = None,
        still_holds: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Stream events.

        Args:
            events: What to send.
            stopping: Ends the stream when the server is about to end.
            ping_s: Seconds of silence after which a comment is sent; None for `PING_S`.
            still_holds: Tells whether the access that opened the stream still holds. Asked before each event and each
                ping; when it does not, the stream ends with an event `access_ended`.
        """
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_frames(events, stopping, PING_S if ping_s is None else ping_s, still_holds), headers=headers)


async def _frames(
    events: AsyncIterator[ServerSentEvent],
    stopping: Stopping | None,
    ping_s: float,
    still_holds: Callable[[], Awaitable[bool]] | None,
) -> AsyncIterator[bytes]:
    """Yield frames, with a ping whenever none came for a while."""
    stop: asyncio.Future[None] = asyncio.ensure_future((stopping or Stopping()).wait())
    upcoming: asyncio.Future[ServerSentEvent | None] | None = None
    try:
        while True:
            # A task of its own: a ping must not cancel what the iterator is waiting for.
            upcoming = upcoming or asyncio.ensure_future(_next(events))
            await asyncio.wait((upcoming, stop), timeout=ping_s, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if still_holds is not None and not await still_holds():
                yield event_frame(ServerSentEvent(event="access_ended", data={}))
                return
            if not upcoming.done():
                yield KEEPALIVE_COMMENT
                continue
            event, upcoming = upcoming.result(), None
            if event is None:
                return
            yield event_frame(event)
    finally:
        stop.cancel()
        if upcoming is not None:
            upcoming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await upcoming
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def _next(events: AsyncIterator[ServerSentEvent]) -> ServerSentEvent | None:
    return await anext(events, None)
