"""Answers that are sent piece by piece, and begin only when there is a first piece."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from ..extras import needs

with needs("fastapi"):
    from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_CLOSE_S = 10.0

_begun: ContextVar[weakref.WeakSet[_Source] | None] = ContextVar("mongodb_session_manager_streams", default=None)
"""The answers that the present request has begun; None where no dependency of `Sessions` asks for them."""


async def streamed(
    chunks: AsyncIterator[str | bytes],
    *,
    media_type: str = "text/plain",
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a response that is sent piece by piece, once there is a first piece.

    What fails before that is an error with its status, as it would be in a handler that does not stream. What fails
    later cuts the answer off, so that the client does not take it for whole. When the client leaves, the generator is
    ended at once, before the request's dependencies are; so is that of an answer which is never sent, since the
    handler failed after it or returned another one.

    Args:
        chunks: The pieces, usually of an async generator: `return await streamed(reply())`.
        media_type: Such as `text/event-stream`.
        headers: More headers of the answer.
    """
    source = _Source(chunks)
    if (begun := _begun.get()) is not None:
        begun.add(source)
    await source.start()
    return _StreamedResponse(source, media_type=media_type, headers=headers)


@asynccontextmanager
async def ending_streams() -> AsyncGenerator[None]:
    """End what `streamed` began in the block and was not sent by its end.

    A generator that waits for a reader it will never have may hold the turn that the end of the request waits for.
    """
    begun: weakref.WeakSet[_Source] = weakref.WeakSet()
    # Not put back: a framework may end a dependency in another context than it began it in.
    _begun.set(begun)
    try:
        yield
    finally:
        for source in list(begun):
            await source.close()


class _Source:
    """Runs a generator in one task from its first piece to its end, as generators with context variables need it."""

    def __init__(self, chunks: AsyncIterator[str | bytes]) -> None:
        self._chunks = chunks
        self._pieces: asyncio.Queue[str | bytes | None] = asyncio.Queue(1)
        self._waiting: str | bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_left = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="streamed answer")
        try:
            self._waiting = await self._next()
        except BaseException:
            await self.close()
            raise

    async def _run(self) -> None:
        try:
            async for piece in self._chunks:
                if self._is_left:
                    break  # A generator that goes on all the same, say to tell of an error, has no reader any more.
                await self._pieces.put(piece)
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()

    async def _next(self) -> str | bytes | None:
        """Return the next piece, None at the end; raises what the generator raised."""
        assert self._task is not None
        piece = asyncio.ensure_future(self._pieces.get())
        try:
            await asyncio.wait({piece, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if piece.done():
                return piece.result()
            await self._task
            # The end may have come with the last piece.
            return self._pieces.get_nowait() if not self._pieces.empty() else None
        finally:
            piece.cancel()

    async def __aiter__(self) -> AsyncGenerator[str | bytes]:
        while self._waiting is not None:
            yield self._waiting
            self._waiting = await self._next()

    def end_with(self, response: object) -> None:
        """Cancel the task when the response is collected, on whatever thread that happens."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._cancel)

        weakref.finalize(response, end).atexit = False

    def _cancel(self) -> None:
        # Once: what the generator still stores on its way out is not to be cut off.
        assert self._task is not None
        if not self._is_left:
            self._is_left = True
            self._task.cancel()

    async def close(self) -> None:
        assert self._task is not None
        self._cancel()
        # A client that left cancels every await of its request, this one included.
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await asyncio.wait({self._task})


class _StreamedResponse(StreamingResponse):
    def __init__(self, source: _Source, **options: Any) -> None:
        super().__init__(source, **options)
        self._source = source
        # For an answer that is dropped where no dependency ends it.
        source.end_with(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.close()
