"""Finds and removes segments, payloads and storage values that nothing uses: what processes that died left behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime

from ..client import Collection
from ..schema.archives import FEEDBACKS, GUARDRAIL_EVENTS, Archive, SealedList, at
from ..storage.sweep import StorageSweep
from .payloads import PayloadStore
from .related import STORAGE, STORAGE_CHUNKS
from .segments import Segments
from .store import SessionStore
from .updates import Document

logger = logging.getLogger(__name__)

_SIDE_LISTS = {entry.path: entry for entry in (FEEDBACKS, GUARDRAIL_EVENTS)}


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
        fields = ("session_id", "incarnation", "list", "agent", "archive", "start", "token", "committed")
        projection = dict.fromkeys(fields, 1)
        removed = 0
        async for run in _runs(self._segments.segments, {"created_at": {"$lt": self._cutoff}}, projection):
            document = await self._document(run[0], {"agents": 1, FEEDBACKS.archive: 1, GUARDRAIL_EVENTS.archive: 1})
            orphans = [segment for segment in run if _is_orphan(segment, document)]
            if self._dry_run:
                removed += len(orphans)
                continue
            orphans = [segment for segment in orphans if await self._shut_out(segment, document)]
            for committed in (True, False):
                # Not one that was committed since it was read here.
                ids = [segment["_id"] for segment in orphans if segment["committed"] is committed]
                removed += await self._segments.delete(run[0]["session_id"], ids, committed=committed)
        return removed

    async def _shut_out(self, segment: Document, document: Document | None) -> bool:
        """See to it that a segment cannot be committed any more; False when somebody else was at its list meanwhile."""
        entry = _list_of(segment)
        if document is None or (entry.agent is not None and at(document, entry.archive) is None):
            return True  # Commits name fields that are not there.
        archive = Archive.read(at(document, entry.archive))
        if segment["start"] < archive.count or segment.get("archive") != archive.id:
            return True
        guard: Document = {
            "_id": document["_id"],
            "incarnation": document["incarnation"],
            f"{entry.archive}.archived_count": archive.count or None,
            f"{entry.archive}.archive.id": archive.id,
        }
        if entry.agent is not None:
            guard[f"{entry.archive}.agent_data"] = {"$exists": True}
        update = {"$inc": {f"{entry.archive}.redactions": 1}}
        return await self._store.update(document["_id"], guard, update) > 0

    # -- payloads

    async def _sweep_payloads(self) -> int:
        removed = 0
        projection = {"session_id": 1, "incarnation": 1, "sha256": 1}
        async for run in _runs(self._payloads.chunks, {"used_at": {"$lt": self._cutoff}}, projection):
            session_id, incarnation = run[0]["session_id"], run[0]["incarnation"]
            names = {chunk["sha256"] for chunk in run}
            if self._dry_run:
                removed += len(names - await self._payloads.references(session_id, incarnation, names))
            else:
                removed += len(await self._payloads.release(session_id, incarnation, names, unused_since=self._cutoff))
        return removed

    # -- storages of sessions

    async def _sweep_storage(self) -> int:
        heads, chunks = self._store.sibling(STORAGE), self._store.sibling(STORAGE_CHUNKS)
        removed = 0
        # In the order of an index that holds both fields, so that no value is read.
        order = [("session_id", 1), ("_id", 1)]
        last: tuple[str, str] | None = None
        async for head in heads.iterate({}, {"session_id": 1}, sort=order):
            session_id, incarnation = head["session_id"], head["_id"].partition("/")[0]
            if (session_id, incarnation) == last:
                continue
            last = session_id, incarnation
            session = {"session_id": session_id, "incarnation": incarnation}
            if await self._document(session, {}) is None:  # And never comes back.
                for target in (heads, chunks):
                    removed += await self._remove(target, session)
        return removed + await StorageSweep(heads, chunks, self._cutoff, dry_run=self._dry_run).run()

    async def _remove(self, target: Collection, query: Document) -> int:
        if self._dry_run:
            return await target.count_documents(query)
        return int((await target.delete_many(query)).deleted_count)

    async def _document(self, child: Document, projection: Document) -> Document | None:
        identity = {"_id": child["session_id"], "incarnation": child["incarnation"]}
        fields = {**projection, "incarnation": 1}
        return await self._store.find_one(identity, fields)


async def _runs(children: Collection, query: Document, projection: Document) -> AsyncIterator[list[Document]]:
    """Yield the matching children, those of one session together."""
    run: list[Document] = []
    async for child in children.iterate(query, projection, sort=[("_id", 1)]):
        if run and any(run[0][name] != child[name] for name in ("session_id", "incarnation")):
            yield run
            run = []
        run.append(child)
    if run:
        yield run


def _list_of(segment: Document) -> SealedList:
    key = segment["agent"]
    return _SIDE_LISTS[segment["list"]] if key is None else SealedList.of_agent(key)


def _is_orphan(segment: Document, document: Document | None) -> bool:
    if document is None:
        return True
    archive = Archive.read(at(document, _list_of(segment).archive))
    counts = segment["committed"] or segment["token"] == archive.token
    return not counts or segment["start"] >= archive.count or segment.get("archive") != archive.id
