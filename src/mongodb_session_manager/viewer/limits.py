"""How long a request may read, and how many bytes of stored sessions all requests work on at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from typing import Any, TypeVar

import pymongo

from ..web import ApiError

T = TypeVar("T")

READ_S = 5.0
"""Seconds that one request may read for."""

ROOM_BYTES = 32 * 1024 * 1024
"""Bytes, as stored, that all requests together turn into objects at once; these take several times as much."""

WHOLE_DOCUMENT = 16 * 1024 * 1024
"""Most bytes of one document."""

MOST_ONLOOKERS = 16
"""Event streams that read at the same time; the others wait, so that requests find a connection to MongoDB."""

_TOO_SMALL = 512 * 1024
_PATIENCE_S = 30.0


@contextmanager
def time_limit(seconds: float = READ_S) -> Iterator[None]:
    """Bound what the block asks of the database: each command tells the server how long it may take."""
    with pymongo.timeout(seconds):
        yield


async def in_its_own_time(reading: Coroutine[Any, Any, T]) -> T:
    """Read for as long as one request may, whatever was left of the caller's time: it had to wait for its turn."""

    async def limited() -> T:
        with time_limit():
            return await reading

    return await asyncio.create_task(limited(), context=Context())


class Room:
    """Lets large readings wait for each other, first come first served; small ones never wait. For one event loop.

    What waits is the server alone: a client that reads its answer slowly holds up no other.
    """

    def __init__(self, total: int = ROOM_BYTES) -> None:
        """Have room for so many bytes."""
        self._total = self._free = total
        self._line = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Take room for as long as the block lasts; more than there is at all counts as all of it.

        Raises:
            ApiError: There was none for half a minute.
        """
        size = 0 if size < _TOO_SMALL else min(size, self._total)
        if size:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._take(size)
            except TimeoutError:
                text = "too many large sessions are being read; try again in a moment"
                raise ApiError(503, "busy", text, headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self._free += size
            self._freed.set()

    async def _take(self, size: int) -> None:
        async with self._line:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
