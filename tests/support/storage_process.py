"""A process that writes to a storage and is killed at one of the commands that it sends."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any

from mongodb_session_manager import MongoDBStorage
from mongodb_session_manager.storage import chunks, values
from tests.support.crash_process import Killer, When

STORAGE = "values"
CHUNK_BYTES = 1000

OLD = b"old" * CHUNK_BYTES
NEW = b"new!" * CHUNK_BYTES
SMALL = b"small"

WORK = {
    "overwrite": (OLD, NEW),
    "overwrite a small one": (SMALL, NEW),
    "overwrite with a small one": (OLD, SMALL),
    "delete": (OLD, None),
    "write for the first time": (None, NEW),
}


def make_chunks_small() -> None:
    """Let values of a few kilobytes have chunks."""
    chunks.CHUNK_BYTES = CHUNK_BYTES
    setattr(values, "INLINE_BYTES", CHUNK_BYTES)  # noqa: B010 - it is that of the chunks, by another name


def run(uri: str, database: str, key: str, work: str, kill_at: int, when: When, parent: Connection) -> None:
    """Do one thing until killed; tell the parent how many writes there were when not."""
    make_chunks_small()
    killer = Killer(kill_at, when)

    async def do() -> None:
        before, after = WORK[work]
        async with MongoDBStorage(uri, database, STORAGE, ensure_indexes=False) as storage:
            if before is not None:
                await storage.write(key, before)
        options: dict[str, Any] = {"event_listeners": [killer], "serverSelectionTimeoutMS": 5000}
        async with MongoDBStorage(uri, database, STORAGE, ensure_indexes=False, **options) as storage:
            if after is None:
                await storage.delete(key)
            else:
                await storage.write(key, after)

    asyncio.run(do())
    parent.send(killer.count)
    parent.close()
