"""Answers that are sent piece by piece, and begin only when there is a first piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from ..extras import needs

with needs("fastapi"):
    from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_CLOSE_S = 10.0


async def streamed(
    chunks: AsyncIterator[str | bytes],
    *,
    media_type: str = "text/plain",
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a response that is sent piece by piece, once there is a first piece.

    What fails before that is an error with its status, as it would be in a handler that does not stream. What fails
    later cuts the answer off, so that the client does not take it for whole. When the client leaves, the generator is
    ended at once, before the request's dependencies are.

    Args:
        chunks: The pieces, usually of an async generator: `return await streamed(reply())`.
        media_type: Such as `text/event-stream`.
        headers: More headers of the answer.
    """
    source = _Source(chunks)
    await source.start()
    return _StreamedResponse(source, media_type=media_type, headers=headers)


class _Source:
    """Runs a generator in one task from its first piece to its end, as generators with context variables need it."""

    def __init__(self, chunks: AsyncIterator[str | bytes]) -> None:
        self._chunks = chunks
        self._pieces: asyncio.Queue[str | bytes | None] = asyncio.Queue(1)
        self._waiting: str | bytes | None = None
        self._task: asyncio.Task[None] | None = None

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

    async def close(self) -> None:
        assert self._task is not None
        self._task.cancel()
        # A client that left cancels every await of its request, this one included.
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await asyncio.wait({self._task})


class _StreamedResponse(StreamingResponse):
    def __init__(self, source: _Source, **options: Any) -> None:
        super().__init__(source, **options)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.close()
