"""Noticing that sessions changed: one change stream for all who look on, or polling where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

from pymongo.errors import OperationFailure, PyMongoError

from ..schema import paths

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Seconds between two looks at a server without change streams, and between two attempts to reach one that is gone."""

_POLL_MS = 5_000
_LOOKED_AT = 200
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


Change = Literal["new", "changed", "deleted"]

_KINDS: Mapping[str, Change] = {"insert": "new", "delete": "deleted"}


class ListWatch:
    """An onlooker of all sessions."""

    def __init__(self) -> None:
        """Look at all sessions."""
        self._changes: dict[str, Change] = {}
        self._missed = False
        self._happened = asyncio.Event()

    def note(self, session_id: object, kind: Change) -> None:
        """Say that a session changed."""
        if not isinstance(session_id, str):
            return
        # What is new stays so until it was told.
        self._changes[session_id] = "new" if kind == "changed" and self._changes.get(session_id) == "new" else kind
        self._happened.set()

    def miss(self) -> None:
        """Say that anything may have changed."""
        self._missed = True
        self._happened.set()

    def begin(self) -> None:
        """Forget that anything may have changed before the stream was there; what the stream told since then stays."""
        self._missed = False
        if not self._changes:
            self._happened.clear()

    async def changed(self) -> None:
        """Wait until something changed since the last time."""
        await self._happened.wait()

    def take(self) -> tuple[dict[str, Change], bool]:
        """Return what changed since the last time, by session, and whether there may be more."""
        self._happened.clear()
        taken = self._changes, self._missed
        self._changes, self._missed = {}, False
        return taken


class NewestSessions:
    """Looks at the sessions that were active last, where there are no change streams; deletions are not noticed."""

    def __init__(self, collection: Any) -> None:
        """Look at the driver's `collection`; no I/O."""
        self._collection = collection
        self._known: dict[str, Any] | None = None
        self._created_until: Any = None

    async def changes(self) -> dict[str, Change]:
        """Return what changed since the last look; nothing at the first one."""
        fields = {"updated_at": 1, paths.REVISION: 1, "created_at": 1}
        keys = [("updated_at", -1), ("_id", -1)]
        found = await self._collection.find({}, fields, sort=keys, limit=_LOOKED_AT, max_time_ms=_POLL_MS).to_list(None)
        present = {document["_id"]: (document.get("updated_at"), document.get(paths.REVISION)) for document in found}
        known, self._known = self._known, present
        created = [date for document in found if isinstance(date := document.get("created_at"), datetime)]
        until, self._created_until = self._created_until, max(created, default=self._created_until)
        if known is None:
            return {}
        changes: dict[str, Change] = {}
        for document in found:
            session_id = document["_id"]
            if known.get(session_id) == present[session_id]:
                continue
            date = document.get("created_at")
            is_new = session_id not in known and isinstance(date, datetime) and (until is None or date > until)
            changes[session_id] = "new" if is_new else "changed"
        return changes


class ChangeHub:
    """Tells onlookers when their session may have changed; for one event loop.

    It watches only while there are onlookers. While the server is gone, each is told once per second, and finds out by
    reading.
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
        self._list_watches: set[ListWatch] = set()
        self._task: asyncio.Task[None] | None = None
        self._settled: asyncio.Event | None = None
        self._is_away = False
        self.mode: Mode = "change_stream"

    @contextlib.asynccontextmanager
    async def watch(self, session_id: str) -> AsyncIterator[Watch]:
        """Look at a session for as long as the block lasts. What changes from here on is noticed."""
        watch = Watch(session_id)
        self._watches.add(watch)
        try:
            await self._started()
            yield watch
        finally:
            self._watches.discard(watch)
            await self._end_if_unwatched()

    @contextlib.asynccontextmanager
    async def watch_list(self) -> AsyncIterator[ListWatch]:
        """Look at all sessions for as long as the block lasts."""
        watch = ListWatch()
        self._list_watches.add(watch)
        try:
            await self._started()
            watch.begin()
            yield watch
        finally:
            self._list_watches.discard(watch)
            await self._end_if_unwatched()

    async def _started(self) -> None:
        if self._task is None or self._settled is None:
            self._settled = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._settled), name="viewer-changes")
        await self._settled.wait()

    async def _end_if_unwatched(self) -> None:
        if not self._watches and not self._list_watches:
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
        if not self._is_away:
            self._is_away = True
            logger.warning("error=<%s> | changes are not noticed for now", type(error).__name__)
        settled.set()
        self._notify_all()
        await asyncio.sleep(self._poll_s)

    def _note_answer(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("mode=<%s> | changes are noticed again", self.mode)

    async def _follow(self, settled: asyncio.Event) -> None:
        async with self._collection.watch(_PIPELINE, max_await_time_ms=1_000) as stream:
            # The first answer opens it; from there on nothing is missed.
            change = await stream.try_next()
            self._note_answer()
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
        for every in list(self._list_watches):
            if session_id is None:
                every.miss()
            else:
                every.note(session_id, _KINDS.get(change.get("operationType", ""), "changed"))

    def _notify_all(self) -> None:
        for watch in list(self._watches):
            watch.notify()
        for every in list(self._list_watches):
            every.miss()

    async def _poll(self, settled: asyncio.Event) -> None:
        """Look for what changed, by the moment and the number of the last write."""
        known: dict[str, Any] = {}
        newest = NewestSessions(self._collection)
        while True:
            if self._list_watches:
                changes = await newest.changes()
                for every in list(self._list_watches):
                    for session_id, kind in changes.items():
                        every.note(session_id, kind)
            ids = Counter(watch.session_id for watch in self._watches)
            query = {"_id": {"$in": list(ids)}}
            found = await self._collection.find(
                query, {"updated_at": 1, paths.REVISION: 1}, max_time_ms=_POLL_MS
            ).to_list(None)
            present = {
                document["_id"]: (document.get("updated_at"), document.get(paths.REVISION)) for document in found
            }
            self._note_answer()
            settled.set()
            for watch in list(self._watches):
                if known.get(watch.session_id, ()) != present.get(watch.session_id):
                    watch.notify()
            known = {session_id: present.get(session_id) for session_id in ids}
            await asyncio.sleep(self._poll_s)
