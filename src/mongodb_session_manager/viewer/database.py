"""The viewer's connection to MongoDB, and everything that reads through it."""

from __future__ import annotations

import asyncio

from ..client import ClientHandle
from ..errors import SessionNotFoundError
from ..store import AsyncMongoDBSessionRepository
from ..store.older_counts import OlderCounts
from ..store.related import SEGMENTS
from ..store.segments import Segments
from ..store.store import SessionStore
from ..web.foreign_values import ANY_VALUE
from .feed import SessionFeed
from .filters import FieldCatalog
from .finding import SessionFinder
from .limits import MOST_ONLOOKERS, READ_S, Room, time_limit
from .live import ChangeHub
from .places import PlaceFinder
from .reading import SessionReader
from .search import SessionSearch
from .settings import ViewerSettings
from .timeline import TimelineReader
from .totals import Totals

_PING_S = 2.0
_COUNTING_MS = 1_500
"""Milliseconds that each of two commands may take to complete what a page shows of older documents."""


class Database:
    """Reads one collection of sessions; changes nothing."""

    def __init__(self, connection_string: str, settings: ViewerSettings, enum_fields: frozenset[str]) -> None:
        """Connect with the first operation; no I/O."""
        self._handle = ClientHandle(connection_string, options=settings.client_options())
        store = SessionStore(self._handle, settings.database_name, settings.collection_name, write_deadline_s=READ_S)
        collection = self._handle.user_collection(settings.database_name, settings.collection_name).with_options(
            codec_options=ANY_VALUE
        )
        self.repository = AsyncMongoDBSessionRepository(
            client=self._handle.client,
            database_name=settings.database_name,
            collection_name=settings.collection_name,
            write_deadline_s=READ_S,
        )
        self.fields = FieldCatalog(collection, enum_fields, settings.enum_max_values)
        segments = collection.database[f"{settings.collection_name}{SEGMENTS}"].with_options(
            codec_options=collection.codec_options
        )
        stored_segments = Segments(store)
        older_counts = OlderCounts(store.collection, stored_segments.segments, limit_ms=_COUNTING_MS)
        self.search = SessionSearch(collection, segments, older_counts)
        self.room = Room()
        self.onlookers = asyncio.Semaphore(MOST_ONLOOKERS)
        self.reader = SessionReader(store, stored_segments, self.room)
        self.timeline = TimelineReader(self.reader, settings.traces, self.room)
        self.places = PlaceFinder(self.reader)
        self.finder = SessionFinder(collection, segments)
        self.changes = ChangeHub(collection)
        self.feed = SessionFeed(self.changes, self.search.cards)
        self.totals = Totals(collection, settings.prices)

    def start(self) -> None:
        """Begin to find out what searches have to know; nothing waits for it."""
        self.search.start()

    async def ping(self) -> None:
        """Return when MongoDB answers.

        Raises:
            PyMongoError: It does not.
        """
        with time_limit(_PING_S):
            await self._handle.client.admin.command("ping")

    async def viewer_password(self, session_id: str) -> str | None:
        """Return a session's own password; None for a session that has none or does not exist."""
        try:
            with time_limit():
                found = await self.repository.get_session_viewer_password(session_id)
        except (SessionNotFoundError, ValueError):
            return None
        return found if isinstance(found, str) else None

    async def close(self) -> None:
        """End watching and looking, and give the client back."""
        await self.feed.close()
        await self.changes.close()
        await self.search.close()
        await self._handle.aclose()
