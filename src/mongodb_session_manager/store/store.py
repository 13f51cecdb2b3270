"""Session documents in one collection: found, loaded, created, updated and deleted.

Everything addresses one session by `_id`. No operation needs a transaction, a pipeline-form update or `$$NOW`, so
standalone servers and compatible databases work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from pymongo.errors import DuplicateKeyError

from ..client import ClientHandle, Collection
from ..errors import SessionNotFoundError
from ..schema import paths
from ..schema.messages import now
from ..schema.numbers import check_seconds
from ..schema.sessions import identity, load_projection, new_session, version_of
from .loaded import StoredSession
from .refusals import explained
from .updates import Document

Prepare = Callable[[StoredSession], None]


class SessionStore:
    """Sessions of one collection. Borrows its client handle; usable from any loop that the client allows."""

    def __init__(
        self, handle: ClientHandle, database_name: str, collection_name: str, *, write_deadline_s: float = 30
    ) -> None:
        """Address a collection; no I/O."""
        self.handle = handle
        self.database_name = database_name
        self.collection_name = collection_name
        self.write_deadline_s = check_seconds("write_deadline_s", write_deadline_s, endless=True)
        self._collections: dict[str, Collection] = {}

    @property
    def collection(self) -> Collection:
        """The engine's view of the sessions: primary reads, UTC dates, commands sent again within the deadline."""
        return self.sibling("")

    def sibling(self, suffix: str) -> Collection:
        """Return the collection beside this one that holds what belongs to its sessions."""
        if suffix not in self._collections:
            name = f"{self.collection_name}{suffix}"
            made = self.handle.collection(self.database_name, name, deadline_s=self.write_deadline_s)
            self._collections[suffix] = made
        return self._collections[suffix]

    async def find_one(
        self, filter_: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> Document | None:
        """Return one session document, None when none matches. The filter names its `_id`."""
        return await self.collection.find_one(filter_, projection)

    async def load(
        self, session_id: str, agent_ids: Iterable[str] | None = None, *, prepare: Prepare | None = None
    ) -> StoredSession | None:
        """Load a session with one find; None when there is none.

        Args:
            session_id: Which session.
            agent_ids: Agents to load; None loads all.
            prepare: Called with the session before it is returned, on a worker thread where the client has them.
        """
        names = None if agent_ids is None else list(agent_ids)

        def read(document: Document, names: list[str] | None = names) -> StoredSession | Literal[False]:
            if names is not None and not version_of(document):
                return False  # Older tools may keep an agent anywhere under its raw id: narrowing has to wait.
            stored = StoredSession.from_document(document, names)
            if prepare is not None:
                prepare(stored)
            return stored

        stored = await self.collection.read_by_id(session_id, load_projection(names), read)
        if stored is False:
            stored = await self.collection.read_by_id(session_id, load_projection(None), partial(read, names=None))
        return stored or None

    async def load_or_create(
        self,
        session_id: str,
        agent_ids: Iterable[str] | None = None,
        *,
        application_name: str | None = None,
        ttl_s: float | None = None,
        prepare: Prepare | None = None,
    ) -> tuple[StoredSession, bool]:
        """Load a session, or create it; any number of processes may do so at once.

        Returns:
            The session, and whether this call created it.
        """
        names = None if agent_ids is None else list(agent_ids)
        while True:
            stored = await self.load(session_id, names, prepare=prepare)
            if stored is not None:
                return stored, False
            document = new_session(session_id, now(), application_name=application_name, ttl_s=ttl_s)
            if await self.insert(document):
                return StoredSession.from_document(document, names), True

    async def insert(self, document: Document) -> bool:
        """Insert a session document; False when the session exists."""
        try:
            with explained(document["_id"]):
                await self.collection.insert_one(document)
        except DuplicateKeyError:
            # It may be this very document: inserted by an attempt whose reply was lost.
            own = identity(document["_id"], document[paths.INCARNATION])
            return await self.find_one(own, {"_id": 1}) is not None
        return True

    async def update(self, session_id: str, filter_: Mapping[str, Any], update: Mapping[str, Any]) -> int:
        """Send one update that may be repeated, and return how many documents matched."""
        with explained(session_id):
            return int((await self.collection.update_one(filter_, update)).matched_count)

    async def find(self, session_id: str, projection: Mapping[str, Any]) -> Document:
        """Return some fields of a session.

        Raises:
            SessionNotFoundError: No such session.
        """
        document = await self.find_one({"_id": session_id}, projection)
        if document is None:
            raise SessionNotFoundError(session_id)
        return document

    async def delete(self, session_id: str, condition: Mapping[str, Any] | None = None) -> int:
        """Delete a session, where it fulfils the condition; 0 when there is none."""
        return int((await self.collection.delete_one({**(condition or {}), "_id": session_id})).deleted_count)
