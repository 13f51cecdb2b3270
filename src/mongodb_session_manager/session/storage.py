"""The storage of a session: values that are deleted with it and expire with it."""

from __future__ import annotations

from ..errors import SessionNotFoundError
from ..schema import paths
from ..storage import MongoDBStorage
from ..storage.owner import Expiry, Scope
from ..storage.values import SESSION_SUFFIX
from ..store.executor import UpdateExecutor
from ..store.related import announcement, related_expiry
from .lifetime import SessionLifetime


class SessionOwner:
    """An open session, as the owner of values.

    They are told from those of an earlier session of the same id by its incarnation, so nothing of a deleted session
    comes back.
    """

    def __init__(self, lifetime: SessionLifetime, executor: UpdateExecutor) -> None:
        """Own values on behalf of a session, which need not be open yet; no I/O."""
        self._lifetime = lifetime
        self._executor = executor
        self._brought_up_to_date: str | None = None

    async def _incarnation(self) -> str:
        incarnation = self._lifetime.session.head.incarnation or self._brought_up_to_date
        if incarnation is None:  # The session was opened on a document of an older tool.
            head = await self._executor.head(self._lifetime.session_id)
            incarnation = self._brought_up_to_date = head.incarnation
            assert incarnation is not None
        return incarnation

    async def scope(self) -> Scope:
        """Return where the session's values are.

        Raises:
            SessionClosedError: The session was closed.
            SessionNotOpenError: It was not opened.
        """
        incarnation = await self._incarnation()
        return Scope(f"{incarnation}/", {paths.SESSION_ID: self._lifetime.session_id}, {paths.INCARNATION: incarnation})

    async def admit(self) -> Expiry:
        """Have the session know that values belong to it, before the first is written.

        Raises:
            PyMongoError: The server did not answer.
            SessionNotFoundError: The session was deleted.
        """
        session_id, incarnation = self._lifetime.session_id, await self._incarnation()
        # Asked for each time: another manager may have given the session another time to live.
        head = await self._executor.head(session_id)
        if head.incarnation != incarnation:
            raise SessionNotFoundError(session_id)
        expires_at = related_expiry(head.ttl_s)
        if not head.has_storage or (expires_at is not None and head.related_expire_at is None):
            update = announcement(expires_at, paths.HAS_STORAGE)
            identity = {"_id": session_id, paths.INCARNATION: incarnation}
            if not await self._lifetime.store.update(session_id, identity, update):
                raise SessionNotFoundError(session_id)
        return Expiry(expires_at, expires_at)

    async def confirm(self, scope: Scope) -> None:
        """Return when the session is still there, after a write; also when it was closed meanwhile.

        Raises:
            PyMongoError: The server did not answer.
            SessionNotFoundError: The session was deleted, perhaps before what was written was there.
        """
        session_id = self._lifetime.session_id
        if await self._lifetime.store.find_one({"_id": session_id, **scope.marks}, {"_id": 1}) is None:
            raise SessionNotFoundError(session_id)


def session_storage(
    lifetime: SessionLifetime, executor: UpdateExecutor, *, on_library_loop: bool, ensure_indexes: bool
) -> MongoDBStorage:
    """Return the storage of a session, which need not be open yet."""
    store = lifetime.store
    return MongoDBStorage._of_owner(
        store.handle,
        store.database_name,
        f"{store.collection_name}{SESSION_SUFFIX}",
        SessionOwner(lifetime, executor),
        deadline_s=store.write_deadline_s,
        on_library_loop=on_library_loop,
        ensure_indexes=ensure_indexes,
    )
