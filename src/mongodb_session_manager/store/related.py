"""Documents that belong to a session but stand in collections of their own: they live and go with it, as one unit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pymongo import ASCENDING, IndexModel

from ..schema import paths
from ..schema.messages import now
from ..schema.sessions import belonging_to, identity
from ..storage.values import CHUNKS_SUFFIX, SESSION_SUFFIX
from .head import SessionHead
from .store import SessionStore
from .updates import Document

SEGMENTS = "_segments"
PAYLOADS = "_payloads"
STORAGE = SESSION_SUFFIX
STORAGE_CHUNKS = f"{SESSION_SUFFIX}{CHUNKS_SUFFIX}"

INDEXED = (SEGMENTS, PAYLOADS)
"""Those whose indexes `related_index_specs` returns, in this order; a storage makes its own."""

_ALL = (*INDEXED, STORAGE, STORAGE_CHUNKS)

LIFETIMES = 2
"""How many times to live ahead related documents expire; the session itself one, so it always goes first."""


def expiry_index() -> IndexModel:
    """Return the index that lets the documents of a collection expire."""
    return IndexModel([(paths.EXPIRES_AT, ASCENDING)], expireAfterSeconds=0)


def related_index_specs() -> dict[str, list[IndexModel]]:
    """Return the indexes of the collections beside a sessions collection, by the suffix of their names."""
    position = IndexModel([paths.SESSION_ID, paths.AGENT, paths.LIST, paths.START])
    content = IndexModel([paths.SESSION_ID, paths.SHA256, paths.NUMBER])
    return dict(zip(INDEXED, ([position, expiry_index()], [content, expiry_index()]), strict=True))


def related_expiry(ttl_s: float | None) -> datetime | None:
    """Return when a related document that is written now expires, None for never."""
    return None if ttl_s is None else now() + timedelta(seconds=LIFETIMES * ttl_s)


def announcement(expires_at: datetime | None, *kinds: str) -> Document:
    """Return the update that notes in a session that related documents belong to it: readers and writers ask for that.

    Args:
        expires_at: When they may expire, None for never.
        kinds: The fields that tell of the kind of documents: of payloads, of values of its storage.
    """
    update: Document = {"$set": dict.fromkeys((paths.HAS_RELATED, *kinds), True)}
    if expires_at is not None:
        update["$min"] = {paths.RELATED_EXPIRE_AT: expires_at}
    return update


class RelatedDocuments:
    """The segments, payloads and storage values of a collection's sessions, whatever they hold."""

    def __init__(self, store: SessionStore) -> None:
        """Take the sessions, beside which the collections stand; no I/O."""
        self._store = store

    def expire_too_early(self, head: SessionHead, lifetimes: float = 1) -> bool:
        """Tell whether related documents may expire within so many times to live of a session that is written now."""
        if head.ttl_s is None or not head.has_related:
            return False
        expire_at = head.related_expire_at
        return expire_at is None or expire_at < now() + timedelta(seconds=lifetimes * head.ttl_s)

    async def postpone(self, head: SessionHead) -> SessionHead:
        """Let all related documents of a session expire two times to live from now."""
        session_id, incarnation, moment = head.session_id, head.incarnation, related_expiry(head.ttl_s)
        assert moment is not None
        related = belonging_to(session_id, incarnation)
        suffixes = _ALL if head.has_storage else INDEXED
        await self._set_expiry(suffixes, related, moment)
        # After the related documents: a crash in between only means that this is done again.
        session = identity(session_id, incarnation)
        if not head.has_storage:
            session[paths.HAS_STORAGE] = {"$ne": True}
        found = await self._store.update(session_id, session, {"$set": {paths.RELATED_EXPIRE_AT: moment}})
        if not found and not head.has_storage:
            return await self.postpone(head.but(has_storage=True))  # Another manager has stored values meanwhile.
        # One that somebody began to write before that, and of which the session may not say so any more.
        await self._set_expiry(suffixes, {**related, paths.EXPIRES_AT: {"$lt": moment}}, moment)
        return head.but(related_expire_at=moment)

    async def _set_expiry(self, suffixes: Iterable[str], query: Document, moment: datetime) -> None:
        for suffix in suffixes:
            await self._store.sibling(suffix).update_many(query, {"$set": {paths.EXPIRES_AT: moment}})

    async def delete(self, session_id: str) -> None:
        """Delete the related documents of a session that is gone, and none of one created anew under the same id."""
        for suffix in _ALL:
            target = self._store.sibling(suffix)
            pipeline = [{"$match": {paths.SESSION_ID: session_id}}, {"$group": {"_id": f"${paths.INCARNATION}"}}]
            found = await target.aggregate(pipeline)
            # Read after the incarnations: one that appears later belongs to a session that appeared later, too.
            present = await self._store.find_one({"_id": session_id}, {paths.INCARNATION: 1})
            living = None if present is None else present.get(paths.INCARNATION)
            gone = sorted(entry["_id"] for entry in found if entry["_id"] != living)
            if gone:
                await target.delete_many({paths.SESSION_ID: session_id, paths.INCARNATION: {"$in": gone}})
