"""Noticing that sessions changed: one change stream for all who look on, or polling where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal

from pymongo.errors import OperationFailure, PyMongoError

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Seconds between two looks at a server without change streams, and between two attempts to reach one that is gone."""

_POLL_MS = 5_000
_PIPELINE = [{"$project": {"documentKey": 1, "operationType": 1}}]
# CommandNotFound, CommandNotSupported, Unauthorized, and "only supported on replica sets".
_NO_CHANGE_STREAMS = frozenset({13, 59, 115, 40573, 303, 8000})

Mode = Literal["change_stream", "polling"]


class Watch:
    """One onlooker of a session."""

    def __init__(self, session_id: str) -> None:
        """Look at a session."""
        self.session_id = session_id
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Say that the session may have changed."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait until the session may have changed since the last time."""
        await self._changed.wait()
        self._changed.clear()


class ChangeHub:
    """Tells onlookers when their session may have changed; for one event loop.

    It watches only while somebody looks on. While the server is gone, everybody is told once per second, and finds out
    by reading.
    """

    def __init__(self, collection: Any, *, poll_s: float = POLL_S) -> None:
        """Watch the driver's `collection`, later.

        Args:
            collection: The sessions.
            poll_s: Seconds between two looks where there are no change streams.
        """
        self._collection = collection
        self._poll_s = poll_s
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None
        self._settled: asyncio.Event | None = None
        self.mode: Mode = "change_stream"

    @contextlib.asynccontextmanager
    async def watch(self, session_id: str) -> AsyncIterator[Watch]:
        """Look at a session for as long as the block lasts. What changes from here on is noticed."""
        watch = Watch(session_id)
        self._watches.add(watch)
        if self._task is None or self._settled is None:
            self._settled = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._settled), name="viewer-changes")
        try:
            await self._settled.wait()
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches:
                await self.close()

    async def close(self) -> None:
        """Stop watching."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, settled: asyncio.Event) -> None:
        try:
            while True:
                try:
                    if self.mode == "polling":
                        await self._poll(settled)
                    else:
                        await self._follow(settled)
                except OperationFailure as error:
                    if self.mode == "change_stream" and error.code in _NO_CHANGE_STREAMS:
                        logger.info("code=<%s> | no change streams on this server, polling", error.code)
                        self.mode = "polling"
                        continue
                    await self._wait_for_server(error, settled)
                except PyMongoError as error:
                    await self._wait_for_server(error, settled)
        finally:
            settled.set()

    async def _wait_for_server(self, error: PyMongoError, settled: asyncio.Event) -> None:
        logger.warning("error=<%s> | changes are not noticed for now", type(error).__name__)
        settled.set()
        self._notify_all()
        await asyncio.sleep(self._poll_s)

    async def _follow(self, settled: asyncio.Event) -> None:
        async with self._collection.watch(_PIPELINE, max_await_time_ms=1_000) as stream:
            # The first answer opens it; from there on nothing is missed.
            change = await stream.try_next()
            settled.set()
            # What changed while there was no stream.
            self._notify_all()
            while stream.alive:
                if change is not None:
                    self._notify(change)
                change = await stream.try_next()

    def _notify(self, change: dict[str, Any]) -> None:
        session_id = (change.get("documentKey") or {}).get("_id")
        for watch in list(self._watches):
            # Without a document it is the collection that was dropped or renamed.
            if session_id is None or watch.session_id == session_id:
                watch.notify()

    def _notify_all(self) -> None:
        for watch in list(self._watches):
            watch.notify()

    async def _poll(self, settled: asyncio.Event) -> None:
        """Look for what changed, by the moment and the number of the last write."""
        known: dict[str, Any] = {}
        while True:
            ids = Counter(watch.session_id for watch in self._watches)
            query = {"_id": {"$in": list(ids)}}
            found = await self._collection.find(query, {"updated_at": 1, "revision": 1}, max_time_ms=_POLL_MS).to_list(
                None
            )
            present = {document["_id"]: (document.get("updated_at"), document.get("revision")) for document in found}
            settled.set()
            for watch in list(self._watches):
                if known.get(watch.session_id, ()) != present.get(watch.session_id):
                    watch.notify()
            known = {session_id: present.get(session_id) for session_id in ids}
            await asyncio.sleep(self._poll_s)
