"""Finds and removes segments, payloads and storage values that nothing uses: what processes that died left behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from ..client import Collection
from ..schema import paths
from ..schema.archives import FEEDBACKS, GUARDRAIL_EVENTS, Archive, SealedList, SealedPart
from ..schema.sessions import belonging_to, identity
from ..storage.sweep import StorageSweep
from .payloads import PayloadStore
from .related import STORAGE, STORAGE_CHUNKS
from .segments import Segments
from .store import SessionStore
from .updates import Document

logger = logging.getLogger(__name__)

_ARCHIVES = {paths.AGENTS: 1, FEEDBACKS.archive: 1, GUARDRAIL_EVENTS.archive: 1}
_SIDE_LISTS = {entry.path: entry for entry in (FEEDBACKS, GUARDRAIL_EVENTS)}

# What is of no such kinds another tool left there, and it stays.
_OWNED: dict[str, Any] = {paths.SESSION_ID: str, paths.INCARNATION: str}
_OF_SEGMENT = {
    **_OWNED,
    paths.LIST: str | None,
    paths.AGENT: str | None,
    paths.START: int | float,
    paths.COMMITTED: bool,
}
_OF_PAYLOAD = {**_OWNED, paths.SHA256: str}


class OrphanSweep:
    """One pass over the segments and payloads of all sessions of a collection."""

    def __init__(
        self,
        store: SessionStore,
        segments: Segments,
        payloads: PayloadStore,
        cutoff: datetime,
        *,
        dry_run: bool,
    ) -> None:
        """Prepare a sweep; no I/O.

        Args:
            store: The sessions.
            segments: Their segments.
            payloads: Their payloads.
            cutoff: What was written since then is left alone.
            dry_run: Only count.
        """
        self._store = store
        self._segments = segments
        self._payloads = payloads
        self._cutoff = cutoff
        self._dry_run = dry_run

    async def run(self) -> dict[str, int]:
        """Remove what is unused, or only count it: `{"segments": n, "payloads": n}`, the latter with storage values."""
        # Segments first: what an orphan among them refers to is an orphan, too.
        removed = {"segments": await self._sweep_segments(), "payloads": await self._sweep_payloads()}
        removed["payloads"] += await self._sweep_storage()
        logger.info(
            "collection=<%s>, segments=<%s>, payloads=<%s>, dry_run=<%s> | swept orphans",
            self._store.collection_name,
            removed["segments"],
            removed["payloads"],
            self._dry_run,
        )
        return removed

    # -- segments

    async def _sweep_segments(self) -> int:
        removed = 0
        old = {paths.CREATED_AT: {"$lt": self._cutoff}}
        async for run in _runs(self._segments.segments, old, _OF_SEGMENT, (paths.ARCHIVE, paths.TOKEN)):
            document = await self._document(run[0], _ARCHIVES)
            orphans = [segment for segment in run if _is_orphan(segment, document)]
            if self._dry_run:
                removed += len(orphans)
                continue
            orphans = [segment for segment in orphans if await self._shut_out(segment, document)]
            for committed in (True, False):
                # Not one that was committed since it was read here.
                ids = [segment["_id"] for segment in orphans if segment[paths.COMMITTED] is committed]
                removed += await self._segments.delete(run[0][paths.SESSION_ID], ids, committed=committed)
        return removed

    async def _shut_out(self, segment: Document, document: Document | None) -> bool:
        """Keep a segment from being committed from now on; False when its list was changed meanwhile."""
        entry = _list_of(segment)
        if document is None or entry is None or (entry.agent is not None and paths.at(document, entry.archive) is None):
            return True  # Commits name fields that are not there.
        sealed = SealedPart.read(document, entry)
        if segment[paths.START] < sealed.archive.count or segment.get(paths.ARCHIVE) != sealed.archive.id:
            return True
        guard = {**sealed.session, **sealed.unchanged()}
        if entry.agent is not None:
            guard[entry.noted(paths.AGENT_DATA)] = {"$exists": True}
        update = {"$inc": {entry.noted(paths.REDACTIONS): 1}}
        return await self._store.update(document["_id"], guard, update) > 0

    # -- payloads

    async def _sweep_payloads(self) -> int:
        removed = 0
        old = {paths.USED_AT: {"$lt": self._cutoff}}
        async for run in _runs(self._payloads.chunks, old, _OF_PAYLOAD):
            session_id, incarnation = run[0][paths.SESSION_ID], run[0][paths.INCARNATION]
            names = {chunk[paths.SHA256] for chunk in run}
            if self._dry_run:
                removed += len(names - await self._payloads.references(session_id, incarnation, names))
            else:
                removed += len(
                    await self._payloads.remove_unreferred(session_id, incarnation, names, unused_since=self._cutoff)
                )
        return removed

    # -- storages of sessions

    async def _sweep_storage(self) -> int:
        heads, chunks = self._store.sibling(STORAGE), self._store.sibling(STORAGE_CHUNKS)
        removed = 0
        # In the order of an index that holds both fields, so that no value is read.
        order = [(paths.SESSION_ID, 1), ("_id", 1)]
        last: tuple[str, str] | None = None
        async for head in heads.iterate({}, {paths.SESSION_ID: 1}, sort=order):
            if not _has(head, {paths.SESSION_ID: str, "_id": str}):
                continue
            session_id, incarnation = head[paths.SESSION_ID], head["_id"].partition("/")[0]
            if (session_id, incarnation) == last:
                continue
            last = session_id, incarnation
            session = belonging_to(session_id, incarnation)
            if await self._document(session, {}) is None:  # And never comes back.
                for target in (heads, chunks):
                    removed += await self._remove(target, session)
        return removed + await StorageSweep(heads, chunks, self._cutoff, dry_run=self._dry_run).run()

    async def _remove(self, target: Collection, query: Document) -> int:
        if self._dry_run:
            return await target.count_documents(query)
        return int((await target.delete_many(query)).deleted_count)

    async def _document(self, one: Document, projection: Document) -> Document | None:
        query = identity(one[paths.SESSION_ID], one[paths.INCARNATION])
        return await self._store.find_one(query, {**projection, paths.INCARNATION: 1})


async def _runs(
    related: Collection, query: Document, kinds: Document, more: Sequence[str] = ()
) -> AsyncIterator[list[Document]]:
    """Yield the matching documents with fields of these kinds and some more, those of one session together."""
    run: list[Document] = []
    async for one in related.iterate(query, dict.fromkeys((*kinds, *more), 1), sort=[("_id", 1)]):
        if not _has(one, kinds):
            continue
        if run and any(run[0][name] != one[name] for name in (paths.SESSION_ID, paths.INCARNATION)):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _has(one: Document, kinds: Document) -> bool:
    return all(isinstance(one.get(name), kind) for name, kind in kinds.items())


def _list_of(segment: Document) -> SealedList | None:
    key = segment.get(paths.AGENT)
    return _SIDE_LISTS.get(segment.get(paths.LIST, "")) if key is None else SealedList.of_agent(key)


def _is_orphan(segment: Document, document: Document | None) -> bool:
    if (entry := _list_of(segment)) is None or document is None:
        return entry is not None  # What is of no list that there is another tool left there.
    archive = Archive.read(paths.at(document, entry.archive))
    counts = segment[paths.COMMITTED] or segment.get(paths.TOKEN) == archive.token
    return not counts or segment[paths.START] >= archive.count or segment.get(paths.ARCHIVE) != archive.id
