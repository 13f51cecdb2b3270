"""Values that one document should not hold, as chunk documents under a generation of their own.

A generation is written before the head that names it, read by its name, and deleted after no head names it any more.
Its name is random and never used again, so nothing here can touch another value than the one that is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from bson.binary import Binary
from pymongo.errors import DuplicateKeyError

from ..client import Collection
from ..schema import paths
from ..schema.messages import now
from .keys import key_range
from .owner import Expiry, Scope

Document = dict[str, Any]

CHUNK_BYTES = 4 * 1024 * 1024
"""Size of the chunks, all but the last."""

SWEEP_AFTER = timedelta(hours=1)
"""Age from which a generation without a head counts as left behind by a process that died."""

_CHUNKS_PER_READ = 3
_NUMBER_DIGITS = 6


class Generation:
    """The chunks of one value, about to be written or stored."""

    def __init__(self, chunks: Collection, scope: Scope, head_id: str, token: str) -> None:
        """Address them; no I/O.

        Args:
            chunks: Their collection.
            scope: Whose they are.
            head_id: The `_id` of the head that names them, or is about to.
            token: Name of the generation.
        """
        self._chunks = chunks
        self._head_id = head_id
        self._fields = dict(scope.fields)
        self._marks = dict(scope.marks)
        self._token = token
        self._range = {**self._fields, "_id": key_range(f"{token}/")}

    async def write(self, data: bytes, expiry: Expiry) -> int:
        """Insert the chunks and return how many there are; may be repeated."""
        for identity, rest in self._documents(data, expiry):
            try:
                await self._chunks.insert_one({**identity, **rest})
            except DuplicateKeyError:
                continue  # From an attempt whose reply was lost.
        return _count(data)

    async def is_whole(self, data: bytes) -> bool:
        """Tell whether all chunks of a value are there."""
        return await self._chunks.count_documents(self._range) == _count(data)

    async def restore(self, data: bytes, expiry: Expiry) -> None:
        """Write the chunks that are missing, and keep a sweep from removing the others; may be repeated."""
        for identity, rest in self._documents(data, expiry):
            try:
                update = {"$setOnInsert": rest, "$unset": {paths.DOOMED: ""}}
                await self._chunks.update_one(identity, update, upsert=True)
            except DuplicateKeyError:
                continue

    async def read(self, count: object, size: object) -> bytes | None:
        """Return the value, None when chunks of it are missing: it was overwritten or deleted meanwhile."""

        async def collect(chunks: Collection) -> list[bytes]:
            found = chunks.iterate(self._range, {paths.DATA: 1}, sort=[("_id", 1)], batch_size=_CHUNKS_PER_READ)
            return [bytes(chunk[paths.DATA]) async for chunk in found]

        parts = await self._chunks.gather(collect, {paths.SESSION_ID: self._fields.get(paths.SESSION_ID)})
        if len(parts) != count or sum(map(len, parts)) != size:
            return None
        return b"".join(parts)

    async def delete(self) -> None:
        """Delete the chunks, unless the generation is another head's, of which this one is a copy."""
        await self._chunks.delete_many({**self._range, paths.KEY: self._head_id})

    def _documents(self, data: bytes, expiry: Expiry) -> Iterator[tuple[Document, Document]]:
        """Yield for each chunk what it is found by, and the rest of it; one copy of its bytes at a time."""
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            identity = {**self._fields, "_id": f"{self._token}/{number:0{_NUMBER_DIGITS}d}"}
            rest = {
                **self._marks,
                paths.KEY: self._head_id,
                paths.GENERATION: self._token,
                # Of each chunk: what takes long to write is young as long as it is being written.
                paths.CREATED_AT: now(),
                paths.DATA: Binary(data[start : start + CHUNK_BYTES]),
                **expiry.fields(expiry.chunks),
            }
            yield identity, rest


def _count(data: bytes) -> int:
    return -(-len(data) // CHUNK_BYTES)
