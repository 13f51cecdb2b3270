"""The segments and payloads of a fork, copied from those of the session that is forked."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pymongo.errors import BulkWriteError, DuplicateKeyError

from ..errors import SessionStoreError
from ..schema import paths
from ..schema.archives import SealedPart, filled, place_of
from ..schema.forks import Course
from ..schema.messages import now
from ..schema.payloads import payloads_of
from ..schema.sessions import belonging_to, new_token
from .related import PAYLOADS, SEGMENTS, related_expiry
from .segments import MissingSegmentsError
from .store import SessionStore
from .updates import Document

SEGMENTS_PER_READ = 8
"""Segments that are copied at a time: a segment takes about 40 KB, that of a document of an older tool 1 MB."""

_RENEW_AFTER_S = 600.0
"""Age from which copies are given a new date before the fork is inserted, so that no sweep takes them for orphans."""

_DUPLICATE_KEY = 11000


class LostCopiesError(SessionStoreError):
    """Copies were removed before the fork was there, by a sweep or by the deletion of a session of the fork's id."""

    def __init__(self, session_id: str) -> None:
        """Name the fork."""
        super().__init__(
            f"session {session_id!r} cannot be made: what was copied for it was removed meanwhile, by a deletion of a "
            "session of that id or by a sweep of orphans without an age; repeat it"
        )


@dataclass
class Copying:
    """How far the sealed items of one list are copied.

    Attributes:
        course: Takes note of the messages that are copied; None where nothing has to be known of them.
        archive_id: Whose segments they are.
        position: Where in the source's list the next segment begins.
        count: How many items the copies hold.
        token: The last segment that was copied.
        cut_token: Names the copy of the segment in which the cut lies.
        is_cut: Whether there is such a copy.
    """

    archive_id: str | None
    course: Course | None = None
    position: int = 0
    count: int = 0
    token: str | None = None
    cut_token: str = field(default_factory=new_token)
    is_cut: bool = False


class RelatedCopies:
    """Copies what one session holds outside its document into another incarnation, a page at a time.

    Attributes:
        copied: How far each list is copied, by its path.
        expires_at: The moment from which copies may expire; None for never.
        outdated: Names of payloads that were copied for what was changed since.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        source: tuple[str, str],
        target: tuple[str, str],
        ttl_s: float | None,
    ) -> None:
        """Prepare to copy; no I/O. `source` and `target` are session id and incarnation each."""
        self._segments, self._chunks = store.sibling(SEGMENTS), store.sibling(PAYLOADS)
        self._source, self._target = belonging_to(*source), belonging_to(*target)
        self._ttl_s = ttl_s
        self._counts = {SEGMENTS: 0, PAYLOADS: 0}
        self._begun = time.monotonic()
        self.copied: dict[str, Copying] = {}
        self.expires_at = related_expiry(ttl_s)
        self.outdated: set[str] = set()

    def fields(self) -> Document:
        """Return the fields by which a session document tells of the copies."""
        if not any(self._counts.values()):
            return {}
        told: Document = {paths.HAS_RELATED: True, **({paths.HAS_PAYLOADS: True} if self._counts[PAYLOADS] else {})}
        return told if self.expires_at is None else {**told, paths.RELATED_EXPIRE_AT: self.expires_at}

    # -- segments

    async def copy(self, sealed: SealedPart, keeps: Callable[[Document], bool]) -> Document | None:
        """Copy the segments of a list that are not copied yet.

        Args:
            sealed: What is sealed of the list.
            keeps: Tells what goes into the copy: of an agent's messages the first ones, of other lists any.

        Returns:
            The segment in which an agent's messages end, which is not copied; None where all of them are.

        Raises:
            MissingSegmentsError: The list is another one by now, or lost something.
        """
        archive, copying = sealed.archive, self.copied[sealed.entry.path]
        if copying.archive_id != archive.id and (copying.position or archive.count):
            if copying.position:
                raise MissingSegmentsError(sealed.session_id)
            copying.archive_id = archive.id
        while copying.position < archive.count:
            page = await self._page(sealed, {"$gte": copying.position, "$lt": archive.count})
            copies: list[Document] = []
            for segment in page:
                if segment[paths.START] != copying.position:
                    raise MissingSegmentsError(sealed.session_id)
                kept = [item for item in segment[paths.ITEMS] if keeps(item)]
                if sealed.entry.agent is not None and len(kept) < len(segment[paths.ITEMS]):
                    await self._insert(copies)
                    return segment
                if kept:
                    copies.append(self._copy_of(segment, sealed, kept, copying.count))
                    copying.token = segment[paths.TOKEN]
                    copying.count += len(kept)
                copying.position = segment[paths.END]
                if copying.course is not None:
                    for item in kept:
                        copying.course.note(item[paths.MESSAGE_ID], item)
            if not page:
                raise MissingSegmentsError(sealed.session_id)
            await self._insert(copies)
        return None

    async def copy_cut(self, segment: Document, sealed: SealedPart, items: Sequence[Document]) -> None:
        """Copy the first items of the segment in which an agent's messages end; may be repeated."""
        copying = self.copied[sealed.entry.path]
        copied = self._copy_of(segment, sealed, items, copying.count, token=copying.cut_token)
        await self.copy_payloads(_payloads_of(items))
        place = place_of(copied)
        before = await self._segments.find_one(place, {paths.ITEM_PAYLOADS: 1})
        self.outdated |= _payloads_of((before or {}).get(paths.ITEMS) or ())
        fields = {name: value for name, value in copied.items() if name not in place}
        await self._segments.update_one(place, {"$set": fields}, upsert=True)
        self._counts[SEGMENTS] += not copying.is_cut
        copying.is_cut = True

    def _copy_of(
        self, segment: Document, sealed: SealedPart, items: Sequence[Document], start: int, *, token: str | None = None
    ) -> Document:
        token = token or segment[paths.TOKEN]
        return {
            **{name: value for name, value in segment.items() if name != paths.EXPIRES_AT},
            **self._target,
            "_id": self._copies(sealed).segment_id(start, token),
            paths.TOKEN: token,
            **filled(sealed.entry, start, items),
            # Whether it counts is decided by the document, which is not there yet.
            paths.COMMITTED: True,
            **self._dates(paths.CREATED_AT),
        }

    def _dates(self, name: str) -> Document:
        return {name: now(), **({} if self.expires_at is None else {paths.EXPIRES_AT: self.expires_at})}

    async def _insert(self, copies: list[Document]) -> None:
        if not copies:
            return
        await self.copy_payloads({name for segment in copies for name in _payloads_of(segment[paths.ITEMS])})

        async def send() -> None:
            try:
                await self._segments.insert_many(copies, ordered=False)
            except BulkWriteError as error:
                # Those are there already: inserted by an attempt whose reply was lost.
                details = error.details or {}
                failed = details.get("writeErrors") or []
                if details.get("writeConcernErrors") or any(one.get("code") != _DUPLICATE_KEY for one in failed):
                    raise

        await self._segments.gather(lambda _: send(), self._target)
        self._counts[SEGMENTS] += len(copies)

    async def _page(
        self, sealed: SealedPart, start: Mapping[str, int], projection: Document | None = None, **more: Any
    ) -> list[Document]:
        query: Document = {**sealed.segments(), **sealed.archive.committed(), paths.START: start, **more}
        order = [(paths.START, 1)]
        return await self._segments.find(query, projection, sort=order, limit=SEGMENTS_PER_READ, bounded=False)

    # -- what changed since

    async def refresh(self, sealed: SealedPart) -> None:
        """Change copied messages as the source's were changed since; redactions above all."""
        copying = self.copied[sealed.entry.path]
        stop = copying.position + copying.is_cut
        start = 0
        while start < stop:
            fields, rewritten = {paths.START: 1, paths.APPLIED: 1}, {paths.APPLIED: {"$exists": True}}
            changed = await self._page(sealed, {"$gte": start, "$lt": stop}, fields, **rewritten)
            for segment in changed:
                query = {**self._copies(sealed).segments(), paths.START: segment[paths.START]}
                copied = await self._segments.find_one(query, {paths.APPLIED: 1})
                if copied is not None and not set(segment[paths.APPLIED]) <= set(copied.get(paths.APPLIED) or ()):
                    await self._refresh_segment(sealed, segment[paths.START], copied["_id"])
            if len(changed) < SEGMENTS_PER_READ:
                return
            start = changed[-1][paths.START] + 1

    async def _refresh_segment(self, sealed: SealedPart, start: int, copy_id: str) -> None:
        found = await self._page(sealed, {"$gte": start, "$lt": start + 1})
        if not found:
            raise MissingSegmentsError(sealed.session_id)
        for item in found[0][paths.ITEMS]:
            await self.change_copy(sealed, item, {"_id": copy_id})
        tokens = {"$addToSet": {paths.APPLIED: {"$each": found[0].get(paths.APPLIED) or []}}}
        identity = {"_id": copy_id, paths.SESSION_ID: self._target[paths.SESSION_ID]}
        await self._segments.update_one(identity, tokens)

    async def change_copy(self, sealed: SealedPart, item: Document, query: Document | None = None) -> None:
        """Put a message in the place of its older copy in a segment, where there is one that is older."""
        number, target = item.get(paths.MESSAGE_ID), {**(query or {}), **self._copies(sealed).segments()}
        target |= {paths.FIRST_ID: {"$lte": number}, paths.LAST_ID: {"$gte": number}}
        held = await self._segments.find_one(target, {paths.ITEMS: {"$elemMatch": {paths.MESSAGE_ID: number}}})
        copied = (held or {}).get(paths.ITEMS) or [item]
        if held is None or not is_newer(item, copied[0]):
            return
        await self.copy_payloads(payloads_of(item))
        older = {paths.MESSAGE_ID: number, paths.UPDATED_AT: copied[0].get(paths.UPDATED_AT)}
        guard = {**target, "_id": held["_id"], paths.ITEMS: {"$elemMatch": older}}
        await self._segments.update_one(guard, {"$set": {f"{paths.ITEMS}.$": item}})
        self.outdated |= payloads_of(copied[0])

    def _copies(self, sealed: SealedPart) -> SealedPart:
        """Return where the copies of what is sealed of a list are."""
        return replace(sealed, **self._target)

    # -- payloads

    async def copy_payloads(self, names: Collection[str]) -> None:
        """Copy the chunks of payloads that are not copied yet, one at a time."""
        if not names:
            return
        named = {paths.SHA256: {"$in": sorted(names)}}
        wanted = await self._find_chunks({**self._source, **named})
        present = {(one[paths.SHA256], one[paths.NUMBER]) for one in await self._find_chunks({**self._target, **named})}
        for chunk in wanted:
            if (chunk[paths.SHA256], chunk[paths.NUMBER]) not in present:
                await self._copy_chunk(chunk["_id"])

    async def _find_chunks(self, query: Document) -> list[Document]:
        return await self._chunks.find(query, {paths.SHA256: 1, paths.NUMBER: 1}, bounded=False)

    async def _copy_chunk(self, chunk_id: str) -> None:
        query = {**self._source, "_id": chunk_id}
        chunk = await self._chunks.find_one(query, bounded=False)
        if chunk is None:
            return  # What it belonged to was changed meanwhile, which is seen to when all is copied.
        place = "/".join((*self._target.values(), chunk[paths.SHA256], str(chunk[paths.NUMBER])))
        copied = {**chunk, **self._target, "_id": place, **self._dates(paths.USED_AT)}
        copied.pop(paths.DOOMED, None)
        copied[paths.CREATED_AT] = copied[paths.USED_AT]
        # Inserted by an attempt whose reply was lost.
        with suppress(DuplicateKeyError):
            await self._chunks.insert_one(copied)
        self._counts[PAYLOADS] += 1

    # -- all of them

    async def renew(self) -> None:
        """Give copies that took long a new date, and let them expire later where they would expire at all."""
        patience_s = _RENEW_AFTER_S if self._ttl_s is None else min(_RENEW_AFTER_S, self._ttl_s / 4)
        if time.monotonic() - self._begun < patience_s:
            return
        self.expires_at = related_expiry(self._ttl_s)
        self._begun = time.monotonic()
        for collection, name in ((self._segments, paths.CREATED_AT), (self._chunks, paths.USED_AT)):
            update = {"$set": self._dates(name)}
            await collection.update_many(self._target, update, bounded=False)

    async def check_there(self) -> None:
        """Make sure that none of the copies was removed.

        Raises:
            LostCopiesError: One of them was.
        """
        for suffix, collection in ((SEGMENTS, self._segments), (PAYLOADS, self._chunks)):
            count = await collection.count_documents(self._target)
            if count < self._counts[suffix]:
                raise LostCopiesError(self._target[paths.SESSION_ID])

    async def discard(self) -> None:
        """Remove all copies."""
        for collection in (self._segments, self._chunks):
            await collection.delete_many(self._target)


def is_newer(item: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether a stored message was changed since its copy was made, and the copy not since then."""
    if item == other:
        return False
    changed, copied = item.get(paths.UPDATED_AT), other.get(paths.UPDATED_AT)
    return not (isinstance(changed, datetime) and isinstance(copied, datetime)) or changed >= copied


def _payloads_of(items: Sequence[Mapping[str, Any]]) -> set[str]:
    return {name for item in items for name in payloads_of(item)}
