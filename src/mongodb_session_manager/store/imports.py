"""Stores a session that comes from elsewhere: readable at once or not at all, in bounded memory whatever its length.

As with a fork, segments and payloads are stored first, under an incarnation that no session has yet; the document is
inserted last. A crash before that leaves what `OrphanSweep` removes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..schema import paths
from ..schema.archives import Archive, SealedList, SealedPart, filled
from ..schema.migrate import count_ratings, first_title
from ..schema.sessions import belonging_to, new_summary
from ..schema.titles import title_of
from ..schema.values import encoded_size
from . import sealing
from .head import SessionHead
from .payloads import PayloadStore
from .related import PAYLOADS, SEGMENTS
from .segments import Segments
from .store import SessionStore
from .updates import Document

_SEGMENT_BYTES = 64 * 1024
"""Bytes of messages in one segment, about what a conversation of today seals at a time."""

_LARGEST_IN_TAIL = 1024 * 1024


class SessionImport:
    """One session on its way into the database; its agents one after the other, messages oldest first.

    Attributes:
        incarnation: Tells it from other sessions of its id.
    """

    def __init__(
        self, store: SessionStore, segments: Segments, payloads: PayloadStore, session_id: str, *, agents: int
    ) -> None:
        """Prepare an import; no I/O.

        Args:
            store: The sessions.
            segments: Their segments.
            payloads: Their payloads.
            session_id: The session's id.
            agents: How many agents share its document.
        """
        self.incarnation = secrets.token_hex(8)
        self._store = store
        self._segments = segments
        self._payloads = payloads
        self._id = session_id
        self._share = sealing.TAIL_BYTES // max(agents, 1)
        self._has = {SEGMENTS: False, PAYLOADS: False}
        self._live_bytes = 0
        self._spoken: dict[str, list[Document]] = {}
        self.begin_agent("", "")

    def begin_agent(self, key: str, archive_id: str) -> None:
        """Begin with the messages of an agent: its field under `agents`, and the id of its archive."""
        self._entry, self._archive_id = SealedList.of_agent(key), archive_id
        self._items: list[Document] = []
        self._sizes: list[int] = []
        self._archived, self._token = 0, ""

    async def add_payloads(self, payloads: Mapping[str, bytes]) -> None:
        """Store large bytes by name; before what refers to them is added."""
        if payloads:
            await self._payloads.ensure(SessionHead(self._id, incarnation=self.incarnation), payloads)
            self._has[PAYLOADS] = True

    async def add_message(self, message: Document) -> None:
        """Add the next message of the agent in its stored form, number included."""
        size = encoded_size(message)
        key = self._entry.agent or ""
        if key not in self._spoken and title_of(message) is not None:
            self._spoken[key] = [message]
        self._items.append(message)
        self._sizes.append(size)
        while sum(self._sizes) > self._share + _SEGMENT_BYTES:
            await self._seal()

    async def end_agent(self) -> Document:
        """Return what the agent's part of the document holds of its messages: the tail, and what is sealed."""
        if self._items and sum(self._sizes) > self._share and max(self._sizes) > _LARGEST_IN_TAIL:
            await self._seal(keep_newest=self._sizes[-1] <= _LARGEST_IN_TAIL)
        self._live_bytes += sum(self._sizes)
        fields: Document = {paths.MESSAGES: self._items, paths.ARCHIVE: {paths.ID: self._archive_id}}
        if self._archived:
            fields[paths.ARCHIVED_COUNT], fields[paths.ARCHIVE][paths.TOKEN] = self._archived, self._token
        return fields

    async def _seal(self, *, keep_newest: bool = True) -> None:
        """Move the oldest messages into a segment, until only the tail is left or the segment is full."""
        count = min(sealing.overflow(self._sizes, self._share), len(self._items) - keep_newest)
        taken = max(min(count, sealing.fitting(self._sizes)), 1)
        items, self._items, self._sizes = self._items[:taken], self._items[taken:], self._sizes[taken:]
        archive = Archive(self._archived, id=self._archive_id)
        segment = SealedPart(self._id, self.incarnation, self._entry, archive).new_segment()
        segment |= {paths.COMMITTED: True, **filled(self._entry, self._archived, items)}
        await self._segments.insert(segment)
        self._archived, self._token = segment[paths.END], segment[paths.TOKEN]
        self._has[SEGMENTS] = True

    async def insert(self, document: Mapping[str, Any]) -> bool:
        """Insert the session's document, to which what belongs to the import is added; False when there is one."""
        stored: Document = {**document, paths.INCARNATION: self.incarnation}
        stored[paths.LIVE_BYTES] = self._live_bytes + encoded_size(
            [stored.get(paths.FEEDBACKS) or [], stored.get(paths.GUARDRAIL_EVENTS) or []]
        )
        stored |= first_title(self._spoken)
        ratings = count_ratings(stored.get(paths.FEEDBACKS) or [])
        stored[paths.SUMMARY] = {**new_summary(), **(stored.get(paths.SUMMARY) or {}), paths.RATINGS: ratings}
        if any(self._has.values()):
            stored[paths.HAS_RELATED] = True
        if self._has[PAYLOADS]:
            stored[paths.HAS_PAYLOADS] = True
        return await self._store.insert(stored)

    async def discard(self) -> None:
        """Remove the segments and payloads of a session that was not inserted, or is deleted again."""
        query = belonging_to(self._id, self.incarnation)
        for suffix, there in self._has.items():
            if there:
                await self._store.sibling(suffix).delete_many(query)
