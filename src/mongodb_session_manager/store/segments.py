"""The sealed segments of conversations: everything older than the tail that the session document holds.

Readers take a session document first, then segments that are marked as committed or that the document names, so they
see one gap-free history. `store/sealing.py` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ..client import Collection
from ..errors import SessionStoreError
from ..schema import paths
from ..schema.archives import Archive, SealedList, SealedPart, gaps, is_contiguous, place_of
from ..schema.messages import now
from ..schema.sessions import TOKEN_RING, belonging_to, identity
from .loaded import StoredSession
from .related import SEGMENTS
from .store import SessionStore
from .updates import ChangeMessage, Document

Outcome = Literal["changed", "redacted", "missing"]


class MissingSegmentsError(SessionStoreError):
    """Sealed items that a session document counts were not found: it changed meanwhile, or they are lost."""

    def __init__(self, session_id: str) -> None:
        """Name the session."""
        super().__init__(
            f"session {session_id!r}: some of its older messages are missing from the collection of segments; restore "
            "that from the same backup as the sessions"
        )


class Segments:
    """The segments of a collection's sessions."""

    def __init__(self, store: SessionStore) -> None:
        """Address `<collection>_segments`; no I/O."""
        self._store = store

    @property
    def segments(self) -> Collection:
        """The collection of segments."""
        return self._store.sibling(SEGMENTS)

    # -- reading

    async def sealed(self, session: Document, entry: SealedList) -> SealedPart | None:
        """Return what is sealed of a list by now, None when the session is gone."""
        found = await self._store.find_one(session, entry.projection())
        return None if found is None else SealedPart.read(found, entry)

    async def items(
        self, sealed: SealedPart, start: int, stop: int, fields: Sequence[str] | None = None
    ) -> list[Document]:
        """Return the sealed items at the positions from `start` to before `stop`; with `fields` only those of each."""
        stop = min(stop, sealed.archive.count)
        if start >= stop:
            return []
        wanted = [paths.ITEMS] if fields is None else [f"{paths.ITEMS}.{name}" for name in fields]
        projection = dict.fromkeys((paths.START, *wanted), 1)
        segments = await self._find(sealed.between(start, stop), projection, sort=[(paths.START, 1)])
        found = [
            item
            for segment in segments
            for position, item in enumerate(segment[paths.ITEMS], segment[paths.START])
            if start <= position < stop
        ]
        if len(found) != stop - start:
            raise MissingSegmentsError(sealed.session_id)
        return found

    async def complete(self, session: StoredSession) -> None:
        """Load what the windows of a session's agents need of its segments: with one find, or none."""
        if session.head.incarnation is None or not session.head.has_related:
            return  # A document of an older tool has no segments, nor has a new one.
        wanted = {agent.key: (agent, needed) for agent in session.agents.values() if (needed := gaps(agent))}
        if not wanted:
            return
        conditions = [
            {
                paths.AGENT: key,
                paths.FIRST_ID: {"$lte": last},
                paths.LAST_ID: {"$gte": first},
                **Archive.read(agent.raw).committed(),
            }
            for key, (agent, needed) in wanted.items()
            for first, last in needed
        ]
        query = {**belonging_to(session.session_id, session.head.incarnation), paths.LIST: paths.MESSAGES}
        projection = dict.fromkeys((paths.AGENT, paths.START, paths.END, paths.FIRST_ID, paths.LAST_ID, paths.ITEMS), 1)
        found = await self._find({**query, "$or": conditions}, projection, sort=[(paths.START, 1)])
        for key, (agent, needed) in wanted.items():
            count = Archive.read(agent.raw).count
            held: list[Document] = []
            for first, last in needed:
                mine = (s for s in found if s[paths.AGENT] == key)
                segments = [s for s in mine if s[paths.FIRST_ID] <= last and s[paths.LAST_ID] >= first]
                if not is_contiguous(segments, first, last, count):
                    raise MissingSegmentsError(session.session_id)
                held += (item for s in segments for item in s[paths.ITEMS] if first <= item[paths.MESSAGE_ID] <= last)
            agent.raw[paths.MESSAGES] = sorted(held, key=_number) + agent.raw_messages

    async def find_message(self, sealed: SealedPart, message_id: int) -> Document | None:
        """Return a sealed message, None when the segments hold none of that number."""
        if sealed.archive.token is None:
            return None
        only = {paths.ITEMS: {"$elemMatch": {paths.MESSAGE_ID: message_id}}}
        segments = await self._find(sealed.holding(message_id), only, limit=1)
        items = segments[0].get(paths.ITEMS) if segments else None
        return items[0] if items else None

    async def change_message(self, session_id: str, change: ChangeMessage, token: str) -> Outcome:
        """Change fields of a sealed message, once per token.

        What was redacted stays so: its content only changes along with its redaction.

        Raises:
            SessionNotFoundError: No such session.
        """
        entry = SealedList.of_agent(change.key)
        sealed = SealedPart.read(await self._store.find(session_id, entry.projection()), entry)
        if sealed.archive.token is None:
            return "missing"
        item: Document = {paths.MESSAGE_ID: change.message.message_id}
        if "content" in change.fields and paths.REDACT_MESSAGE not in change.fields:
            item[paths.REDACT_MESSAGE] = {"$exists": False}
        query = sealed.holding(change.message.message_id)
        fields = {**change.fields, paths.UPDATED_AT: now()}
        update: Document = {"$set": {paths.matched(paths.ITEMS, name): value for name, value in fields.items()}}
        if change.removed:
            update["$unset"] = {paths.matched(paths.ITEMS, name): "" for name in change.removed}
        # Last: the mock forgets what `$` stands for after a push.
        update["$push"] = {paths.APPLIED: {"$each": [token], "$slice": -TOKEN_RING}}

        guard = {paths.APPLIED: {"$ne": token}, paths.ITEMS: {"$elemMatch": item}}
        changed = (await self.segments.update_one({**query, **guard}, update)).matched_count
        if "content" in change.fields:
            await self.remove_uncommittable(sealed)
        if changed:
            return "changed"
        segments = await self._find(query, {paths.APPLIED: 1}, limit=1)
        if not segments:
            return "missing"
        return "changed" if token in segments[0].get(paths.APPLIED, ()) else "redacted"

    async def _find(self, query: Document, projection: Document, **options: Any) -> list[Document]:
        return await self.segments.find(query, projection, **options, bounded=False)

    # -- adding

    async def insert(self, segment: Document) -> None:
        """Insert a segment; may be repeated."""
        place = place_of(segment)
        fields = {name: value for name, value in segment.items() if name not in place}
        # An upsert that changes nothing where it exists: the same insert may be sent twice.
        await self.segments.update_one(place, {"$setOnInsert": fields}, upsert=True)

    # -- removing

    async def remove_uncommittable(self, sealed: SealedPart) -> None:
        """Remove segments that no writer can commit any more: they may hold what was redacted since."""
        await self.segments.delete_many({**sealed.segments(), **sealed.archive.refused()})

    async def remove_refused(self, session_id: str, incarnation: str, key: str) -> None:
        """Remove copies of an agent's messages that no writer can commit any more: after one of them was redacted."""
        sealed = await self.sealed(identity(session_id, incarnation), SealedList.of_agent(key))
        if sealed is not None:
            await self.remove_uncommittable(sealed)

    async def delete_all(self, sealed: SealedPart) -> None:
        """Delete the segments of an agent that is gone, and none of one created anew under the same id."""
        await self.segments.delete_many(sealed.segments())

    async def delete(self, session_id: str, ids: Sequence[str], *, committed: bool) -> int:
        """Delete segments by id, those that are still marked as committed or not as they were; return how many."""
        query = {paths.SESSION_ID: session_id, "_id": {"$in": list(ids)}, paths.COMMITTED: committed}
        result = await self.segments.delete_many(query)
        return int(result.deleted_count)


def _number(item: Document) -> int:
    return int(item[paths.MESSAGE_ID])
