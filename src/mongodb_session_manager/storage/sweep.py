"""Removes chunks that no head names: what processes that died in the middle of a write or a deletion left behind.

A chunk that is about to be named must not be taken for one of them, so who sweeps marks a generation as doomed first,
then looks at the heads again, then deletes what is still doomed; who has written for long restores its chunks, and
lifts the mark, once its head names them.
"""

from __future__ import annotations

import logging
from datetime import datetime

from ..client import Collection
from ..schema import paths
from ..schema.sessions import new_token
from .chunks import Document
from .keys import key_range

logger = logging.getLogger(__name__)

_BATCH = 500


class StorageSweep:
    """One pass over the chunks of a storage."""

    def __init__(self, heads: Collection, chunks: Collection, cutoff: datetime, *, dry_run: bool) -> None:
        """Prepare a sweep; no I/O.

        Args:
            heads: The collection of the heads.
            chunks: The collection of the chunks.
            cutoff: What was written since then is left alone.
            dry_run: Only count.
        """
        self._heads = heads
        self._chunks = chunks
        self._cutoff = cutoff
        self._dry_run = dry_run

    async def run(self, prefix: str = "") -> int:
        """Remove the chunks that no head names, and return how many, or how many there are.

        Args:
            prefix: Only those whose keys, as they are stored, begin with it.
        """
        removed = 0
        query: Document = {paths.KEY: key_range(prefix)} if prefix else {}
        fields = {"_id": 0, paths.KEY: 1, paths.GENERATION: 1, paths.SESSION_ID: 1, paths.CREATED_AT: 1}
        young: set[str] = set()
        old: dict[str, Document] = {}
        key: str | None = None
        # In the order of an index that holds all of these fields, so that no chunk is read.
        order = [(paths.KEY, 1), (paths.GENERATION, 1), (paths.CREATED_AT, 1)]
        async for chunk in self._chunks.iterate(query, fields, sort=order):
            if not _is_ours(chunk):
                continue
            if chunk[paths.KEY] != key and len(old) >= _BATCH:
                removed += await self._judge(old, young)
                young, old = set(), {}
            key = chunk[paths.KEY]
            if chunk[paths.CREATED_AT] >= self._cutoff:
                young.add(chunk[paths.GENERATION])
            old.setdefault(chunk[paths.GENERATION], chunk)
        removed += await self._judge(old, young)
        logger.info("chunks=<%d>, dry_run=<%s> | swept a storage", removed, self._dry_run)
        return removed

    async def _judge(self, found: dict[str, Document], young: set[str]) -> int:
        candidates = {token: chunk for token, chunk in found.items() if token not in young}
        orphans = await self._unnamed(candidates)
        if not orphans:
            return 0
        if self._dry_run:
            return sum([await self._chunks.count_documents(_of(chunk)) for chunk in orphans.values()])
        mark = new_token()
        for chunk in orphans.values():
            await self._chunks.update_many(_of(chunk), {"$set": {paths.DOOMED: mark}})
        removed = 0
        for chunk in (await self._unnamed(orphans)).values():
            removed += int((await self._chunks.delete_many({**_of(chunk), paths.DOOMED: mark})).deleted_count)
        return removed

    async def _unnamed(self, candidates: dict[str, Document]) -> dict[str, Document]:
        """Return those generations that no head names."""
        keys = sorted({chunk[paths.KEY] for chunk in candidates.values()})
        named: set[str] = set()
        for start in range(0, len(keys), _BATCH):
            query = {"_id": {"$in": keys[start : start + _BATCH]}, paths.GENERATION: {"$type": "string"}}
            named |= {head[paths.GENERATION] for head in await self._heads.find(query, {paths.GENERATION: 1})}
        return {token: chunk for token, chunk in candidates.items() if token not in named}


def _is_ours(chunk: Document) -> bool:
    """Tell whether a document is a chunk: what another tool left in the collection stays."""
    kinds = {paths.KEY: str, paths.GENERATION: str, paths.CREATED_AT: datetime}
    return all(isinstance(chunk.get(name), kind) for name, kind in kinds.items())


def _of(chunk: Document) -> Document:
    owner = {paths.SESSION_ID: chunk[paths.SESSION_ID]} if paths.SESSION_ID in chunk else {}
    return {**owner, "_id": key_range(f"{chunk[paths.GENERATION]}/")}
