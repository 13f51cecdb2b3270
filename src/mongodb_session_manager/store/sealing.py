"""Keeps a session's document small: moves the oldest items of its lists into sealed segments.

Each append to an embedded array costs more than the one before, and none succeeds at 16 MiB (measured with 1 KB
messages: 1 ms at 100, 25 ms at 13,000). So the oldest items move into documents of `<collection>_segments`:

1. insert a segment, under an id of its own, look whether anything was redacted meanwhile, and put the items in; it is
   not read yet;
2. commit it: one guarded update of the session document names its token, counts it and pulls its items. It matches
   only what the sealer saw, so a redaction or another sealer in between makes it fail, and the segment is removed;
3. mark the segment as committed, and remove others that can never be committed any more. So does a redaction of a
   message: no segment of a slow or dead sealer keeps the original.

A crash between any two steps leaves the session whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

from ..schema import paths
from ..schema.archives import SealedList, SealedPart, filled, lists_of, place_of
from ..schema.numbers import stored_count
from ..schema.sessions import identity
from ..schema.values import encoded_size
from .related import announcement, related_expiry
from .segments import Segments
from .store import SessionStore
from .updates import Document

SEAL_AT_BYTES = 96 * 1024
"""Bytes of messages, feedbacks and guardrail events in a session document that start a seal.

Measured with `benchmarks/growth.py --tails`, beside a session of 14 KB: at 54 KB, which is a window of 40 messages of
1 KB with their records, a message costs 1.1 times as much to add and the session 1.4 times as much to resume; at 106 KB
1.2 and 1.7 times, at 197 KB 1.5 and 2.3 times. Much lower and seals would cost more than they save: each takes about
ten commands in the background, at this threshold once in 32 such messages."""

TAIL_BYTES = 56 * 1024
"""What a seal leaves of the agents' messages together: such a window, so resuming needs one find."""

SIDE_BYTES = 8 * 1024
"""What a seal leaves of feedbacks, and of guardrail events."""

_COMMIT_ATTEMPTS = 20
_SEAL_ATTEMPTS = 10

SEGMENT_BYTES = 1024 * 1024
"""Most bytes of items in one segment; a document of an older tool takes several."""

CROWDED_BYTES = 12 * 1024 * 1024
"""Size at which a writer seals before it writes: the limit of a document, 16 MiB, is near."""


@dataclass(frozen=True)
class SealOutcome:
    """The result of a seal.

    Attributes:
        live_bytes: About how many bytes the lists still take.
        finished: Nothing more is to be sealed; else others changed the lists too often meanwhile.
        messages: How many messages were sealed.
        sealed_bytes: How many bytes were, those of feedbacks and guardrail events among them.
    """

    live_bytes: int
    finished: bool
    messages: int = 0
    sealed_bytes: int = 0


_Weighed = tuple[SealedList, list[Document], list[int]]


class Sealer:
    """Seals the sessions of a collection."""

    def __init__(self, store: SessionStore, segments: Segments) -> None:
        """Take the sessions, and where the segments are; no I/O."""
        self._store = store
        self._segments = segments

    async def seal(self, session_id: str, incarnation: str, *, ttl_s: float | None = None) -> SealOutcome | None:
        """Move the oldest items of a session's lists into segments, until only the tails are left.

        Args:
            session_id: The session.
            incarnation: Which session of that id.
            ttl_s: Its time to live, which its segments outlive.

        Returns:
            The result, None when the session is gone.
        """
        refusals = messages = sealed_bytes = 0
        while True:
            document = await self._store.find_one(identity(session_id, incarnation))
            if document is None:
                return None
            lists = _weighed(document)
            live_bytes = sum(sum(sizes) for _, _, sizes in lists)
            choice = self._choose(lists, crowded=live_bytes > CROWDED_BYTES // 2)
            if choice is None:
                await self._recount(document, live_bytes)
                return SealOutcome(live_bytes, True, messages, sealed_bytes)
            entry, items, weight = choice
            # What was counted while writing is a little off; each seal counts anew.
            counted = stored_count(document.get(paths.LIVE_BYTES))
            sealed = SealedPart.read(document, entry)
            if not await self._seal_items(document, sealed, items, ttl_s, live_bytes - weight - counted):
                # Somebody else changed a message or sealed meanwhile. After many times the next write sees to it.
                refusals += 1
                if refusals == _SEAL_ATTEMPTS:
                    return SealOutcome(live_bytes, False, messages, sealed_bytes)
                continue
            messages += len(items) if entry.agent is not None else 0
            sealed_bytes += weight

    async def _recount(self, document: Document, live_bytes: int) -> None:
        """Correct the count of bytes in a session document where it is far off, after a deletion for instance."""
        counted = document.get(paths.LIVE_BYTES)
        if counted is None or abs(stored_count(counted) - live_bytes) > SIDE_BYTES:
            guard = {**identity(document["_id"], document[paths.INCARNATION]), paths.LIVE_BYTES: counted}
            await self._store.update(document["_id"], guard, {"$set": {paths.LIVE_BYTES: live_bytes}})

    def _choose(self, lists: Sequence[_Weighed], *, crowded: bool) -> tuple[SealedList, list[Document], int] | None:
        """Return the list with the most to seal, those items and their bytes; None when none is well over its share."""
        agents = sum(entry.agent is not None for entry, _, _ in lists)
        most, best = 0, None
        for entry, items, sizes in lists:
            share = SIDE_BYTES if entry.agent is None else TAIL_BYTES // agents
            # The newest item stays while there is room, whatever its size: it is the one that is redacted and measured.
            count = min(overflow(sizes, share), len(items) - (not crowded))
            excess = sum(sizes[:count])
            old = list(takewhile(entry.may_hold, items[: min(count, fitting(sizes))]))
            if old and excess > max(share // 2, most):
                most, best = excess, (entry, old, sum(sizes[: len(old)]))
        return best

    async def _seal_items(
        self, document: Document, sealed: SealedPart, items: list[Document], ttl_s: float | None, correction: int
    ) -> bool:
        """Seal the first items of a list and correct the count of bytes; False when the list changed meanwhile."""
        segment = sealed.new_segment()
        if (expires_at := related_expiry(ttl_s)) is not None:
            segment[paths.EXPIRES_AT] = expires_at
        await self._mark(sealed)
        if not document.get(paths.HAS_RELATED):
            # Redactions and expiry ask for that.
            await self._store.update(sealed.session_id, sealed.session, announcement(expires_at))
        await self._segments.insert(segment)
        # Only now what is sealed goes in: a redaction from here on finds the segment, and what was redacted before
        # shows in the document.
        done = (
            await self._segments.sealed(sealed.session, sealed.entry) == sealed
            and await self._fill(segment, sealed.entry, items)
            and await self._commit(document, sealed, segment, correction)
        )
        if not done:
            # A commit whose reply was lost may have been followed by another sealer's, which has marked it.
            await self._segments.delete(sealed.session_id, [segment["_id"]], committed=False)
            return False
        after = replace(sealed, archive=replace(sealed.archive, count=segment[paths.END], token=segment[paths.TOKEN]))
        await self._mark(after)
        await self._segments.remove_uncommittable(after)
        return True

    async def _fill(self, segment: Document, entry: SealedList, items: list[Document]) -> bool:
        """Put the items into the segment; False when it was removed, since something was redacted meanwhile."""
        fields = filled(entry, segment[paths.START], items)
        segment |= fields
        return bool((await self._segments.segments.update_one(place_of(segment), {"$set": fields})).matched_count)

    async def _commit(self, document: Document, sealed: SealedPart, segment: Document, correction: int) -> bool:
        entry, count, token = sealed.entry, segment[paths.END], segment[paths.TOKEN]
        guard: Document = {**sealed.session, **sealed.unchanged()}
        changes: Document = {**announcement(segment.get(paths.EXPIRES_AT)), "$inc": {paths.LIVE_BYTES: correction}}
        changes["$set"] |= {entry.noted(paths.ARCHIVED_COUNT): count, entry.noted(paths.ARCHIVE_TOKEN): token}
        redactions = entry.noted(paths.REDACTIONS)
        # Every change of a stored message raises this counter, so none can be undone by an older copy of it. Raising it
        # shuts out any commit that is still to come.
        guard[redactions] = paths.at(document, redactions)
        if entry.agent is not None:
            update: Document = {**changes, "$pull": {entry.path: {paths.MESSAGE_ID: {"$lte": segment[paths.LAST_ID]}}}}
            committed = await self._store.update(document["_id"], guard, update) > 0
        else:
            committed = await self._commit_first(guard, changes, entry, segment, paths.at(document, entry.path))
        # A reply may have been lost: then the document names this segment.
        if committed:
            return True
        found = await self._segments.sealed(sealed.session, entry)
        return found is not None and found.archive.token == token

    async def _commit_first(
        self, guard: Document, changes: Document, entry: SealedList, segment: Document, present: Sequence[Document]
    ) -> bool:
        """Commit the first items of a list without ids, which only `$slice` can remove: by how many are to stay."""
        length = len(present)
        for _ in range(_COMMIT_ATTEMPTS):
            kept = length - (segment[paths.END] - segment[paths.START])
            update = {**changes, "$push": {entry.path: {"$each": [], "$slice": -kept}}}
            if await self._store.update(segment[paths.SESSION_ID], {**guard, entry.path: {"$size": length}}, update):
                return True
            pipeline = [{"$match": guard}, {"$project": {"length": {"$size": f"${entry.path}"}}}]
            found = await self._store.collection.aggregate(pipeline)
            if not found:
                return False
            # Something was appended meanwhile, which leaves the first items as they are.
            length = found[0]["length"]
        return False

    async def _mark(self, sealed: SealedPart) -> None:
        """Mark the last segment that the document names; before it names the next one."""
        if (token := sealed.archive.token) is not None:
            query = {**sealed.segments(), paths.TOKEN: token}
            await self._segments.segments.update_one(query, {"$set": {paths.COMMITTED: True}})


def overflow(sizes: Sequence[int], share: int) -> int:
    """Return how many of the first items, of these sizes, are too many for a tail of so many bytes."""
    return len(sizes) - bisect_right([*accumulate(reversed(sizes))], share)


def fitting(sizes: Sequence[int]) -> int:
    """Return how many of the first items, of these sizes, fit one segment; at least one."""
    return max(bisect_right([*accumulate(sizes)], SEGMENT_BYTES), 1)


def _weighed(document: Document) -> list[_Weighed]:
    """Return the lists of a document that hold something, with the bytes of each item."""
    lists = [(entry, paths.at(document, entry.path) or []) for entry in lists_of(document)]
    return [(entry, items, [encoded_size(item) for item in items]) for entry, items in lists if items]
