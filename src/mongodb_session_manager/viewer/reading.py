"""Reads stored sessions piece by piece: what is known of one, and stretches of its lists, sealed or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pymongo.errors import OperationFailure

from ..errors import SessionNotFoundError
from ..schema import paths
from ..schema.agents import StoredAgent, find_agents
from ..schema.archives import FEEDBACKS, GUARDRAIL_EVENTS, Archive, SealedList, SealedPart
from ..schema.messages import read_date
from ..schema.totals import usage_of_messages
from ..store.loaded import StoredSession
from ..store.older_counts import NO_SUCH_EXPRESSION
from ..store.sealing import SEGMENT_BYTES
from ..store.segments import MissingSegmentsError, Segments
from ..store.store import SessionStore
from ..store.updates import Document
from .limits import WHOLE_DOCUMENT, Room, in_its_own_time
from .packed import PackedItems
from .projections import HEAD, SESSION_FIELDS, slice_of

ListKind = Literal["message", "feedback", "guardrail", "error"]

DATE_FIELDS: Mapping[ListKind, str] = {
    "message": "created_at",
    "feedback": "created_at",
    "guardrail": "timestamp",
    "error": "timestamp",
}


class ListMovedError(Exception):
    """Items were sealed since the session was read: read it again."""


@dataclass(frozen=True)
class ItemList:
    """One of a session's lists.

    Attributes:
        kind: What it holds.
        entry: Where it stands in the document.
        archive: What is sealed of it.
        count: How many items it has, sealed ones included.
        agent: Whose messages they are.
        held: The items themselves, where the whole document had to be read.
        numbers: The numbers of those messages: only of today's documents are they positions.
        first: How many items were there that are stored no more: of failed turns only the last ones are kept.
    """

    kind: ListKind
    entry: SealedList
    archive: Archive
    count: int
    agent: StoredAgent | None = None
    held: Sequence[Any] | None = None
    numbers: Sequence[int] = ()
    first: int = 0

    @property
    def key(self) -> str:
        """What tells it from the session's other lists."""
        return self.entry.path


@dataclass
class StoredHead:
    """What is known of a session besides the items of its lists.

    Attributes:
        session_id: The session.
        document: Its fields, as stored.
        agents: Its agents by id, without messages.
        usages: The agents' running totals.
        lists: Its lists.
        is_whole: The lists hold their items: nothing more has to be read.
    """

    session_id: str
    document: Document
    agents: dict[str, StoredAgent]
    usages: dict[str, Mapping[str, Any]]
    lists: list[ItemList] = field(default_factory=list)
    is_whole: bool = False

    @property
    def identity(self) -> SessionIdentity:
        """What tells it from another session of its id."""
        return SessionIdentity(self.document.get(paths.INCARNATION), read_date(self.document.get("created_at")))


@dataclass(frozen=True)
class SessionIdentity:
    """What tells a session from one that was made anew under its id after it was deleted."""

    incarnation: Any
    created_at: datetime | None

    def continues(self, earlier: SessionIdentity) -> bool:
        """Tell whether this is still the session that was seen earlier."""
        # An older tool's document gets an incarnation with the first write of today's library.
        same = earlier.incarnation in (self.incarnation, None)
        return same and earlier.created_at == self.created_at


class SessionReader:
    """Reads sessions of one collection."""

    def __init__(self, store: SessionStore, history: Segments, room: Room) -> None:
        """Read from a store and its segments, whole documents as far as there is room for them; no I/O."""
        self._store = store
        self._history = history
        self._room = room

    async def head(self, session_id: str) -> StoredHead:
        """Return what is known of a session.

        Raises:
            SessionNotFoundError: No such session.
        """
        found = await self._project(session_id, HEAD)
        if found.get("is_current") and not found.get("is_odd"):
            return _current_head(session_id, found)
        async with self._room.taken(WHOLE_DOCUMENT):
            return await in_its_own_time(self._whole(session_id))

    async def _whole(self, session_id: str) -> StoredHead:
        document = await self._store.find_one({"_id": session_id})
        if document is None:
            raise SessionNotFoundError(session_id)
        # Every message is looked at, and there may be thousands: not on the event loop.
        return await asyncio.to_thread(_whole_head, session_id, document)

    async def stretch(
        self, head: StoredHead, ranges: Mapping[str, tuple[int, int]], fields: Mapping[ListKind, Sequence[str]] | None
    ) -> dict[str, list[Any]]:
        """Return the items of some lists, from one position to before another one.

        Args:
            head: The session.
            ranges: The positions, by key of the list.
            fields: Which fields of the items to read, by kind; None for all.

        Raises:
            ListMovedError: Something was sealed since the head was read.
            SessionNotFoundError: The session is gone.
        """
        wanted = {entry.key: entry for entry in head.lists if entry.key in ranges}
        found = {
            key: list(entry.held[max(ranges[key][0] - entry.first, 0) : max(ranges[key][1] - entry.first, 0)])
            for key, entry in wanted.items()
            if entry.held is not None
        }
        stored = [entry for key, entry in wanted.items() if key not in found and ranges[key][0] < ranges[key][1]]
        tails = await self._tails(head.session_id, stored, ranges, fields)
        for entry in stored:
            start, stop = ranges[entry.key]
            names = None if fields is None else fields[entry.kind]
            stop = min(stop, entry.archive.count)
            sealed = await self._sealed(head, entry, start, stop, names) if start < stop else []
            if sealed is None:
                # Sealed anew since the tails were read, or not there at all, which the tails tell.
                tails = await self._tails(head.session_id, stored, ranges, fields)
                sealed = await self._what_is_there(head, entry, range(start, stop), names)
            found[entry.key] = [*sealed, *tails[entry.key]]
        return found

    async def _sealed(
        self, head: StoredHead, entry: ItemList, start: int, stop: int, names: Sequence[str] | None
    ) -> list[Any] | None:
        """Return sealed items, None when a segment that should hold some is not there."""
        if not isinstance(head.document.get(paths.INCARNATION), str):
            return None
        try:
            return await self._history.items(_sealed_part(head, entry), start, stop, names)
        except MissingSegmentsError:
            return None

    async def _what_is_there(
        self, head: StoredHead, entry: ItemList, positions: range, names: Sequence[str] | None
    ) -> list[Any]:
        """Return sealed items, None for each that is missing: a document may promise more than is stored."""
        found = await self._sealed(head, entry, positions.start, positions.stop, names)
        if found is not None:
            return found
        if len(positions) == 1 or not isinstance(head.document.get(paths.INCARNATION), str):
            return [None] * len(positions)
        middle = len(positions) // 2
        first = await self._what_is_there(head, entry, positions[:middle], names)
        return first + await self._what_is_there(head, entry, positions[middle:], names)

    async def weights(
        self, head: StoredHead, ranges: Mapping[str, tuple[int, int]]
    ) -> dict[str, list[tuple[range, int]]]:
        """Return what reading sealed items takes: bytes of each segment that the ranges touch, and its positions.

        Args:
            head: The session.
            ranges: The positions, by key of the list.
        """
        found: dict[str, list[tuple[range, int]]] = {}
        for entry in head.lists:
            start, stop = ranges.get(entry.key, (0, 0))
            stop = min(stop, entry.archive.count)
            if entry.held is not None or start >= stop:
                continue
            query = _sealed_part(head, entry).between(start, stop)
            fields = {"start": 1, "end": 1, "bytes": {"$bsonSize": "$$ROOT"}}
            try:
                segments = await self._history.segments.aggregate([{"$match": query}, {"$project": fields}])
            except OperationFailure as error:
                if error.code not in NO_SUCH_EXPRESSION:
                    raise
                # The server cannot tell sizes: as much as a segment may hold.
                parts = await self._history.segments.find(query, {"start": 1, "end": 1})
                segments = [{**part, "bytes": SEGMENT_BYTES} for part in parts]
            found[entry.key] = [(range(part["start"], part["end"]), part["bytes"]) for part in segments]
        return found

    async def _tails(
        self,
        session_id: str,
        lists: Sequence[ItemList],
        ranges: Mapping[str, tuple[int, int]],
        fields: Mapping[ListKind, Sequence[str]] | None,
    ) -> dict[str, list[Any]]:
        """Return what of the ranges stands in the session document."""
        projection: Document = {paths.INCARNATION: 1}
        for index, entry in enumerate(lists):
            start, stop = (max(position - entry.archive.count, 0) for position in ranges[entry.key])
            names = None if fields is None else fields[entry.kind]
            projection[f"items{index}"] = slice_of(entry.entry.path, start, stop - start, names)
            projection[f"sealed{index}"] = f"${entry.entry.noted(paths.ARCHIVED_COUNT)}"
            projection[f"archive{index}"] = f"${entry.entry.noted(paths.ARCHIVE_ID)}"
        if not lists:
            return {}
        found = await self._project(session_id, projection)
        tails: dict[str, list[Any]] = {}
        for index, entry in enumerate(lists):
            now = {
                paths.ARCHIVED_COUNT: found.get(f"sealed{index}"),
                paths.ARCHIVE: {paths.ID: found.get(f"archive{index}")},
            }
            archive = Archive.read(now)
            if (archive.count, archive.id) != (entry.archive.count, entry.archive.id):
                raise ListMovedError
            tails[entry.key] = found[f"items{index}"]
        return tails

    async def _project(self, session_id: str, projection: Document) -> Document:
        pipeline = [{"$match": {"_id": session_id}}, {"$project": projection}]
        found = await self._store.collection.aggregate(pipeline)
        if not found:
            raise SessionNotFoundError(session_id)
        return found[0]


def _sealed_part(head: StoredHead, entry: ItemList) -> SealedPart:
    return SealedPart(head.session_id, head.document.get(paths.INCARNATION, ""), entry.entry, entry.archive)


def _current_head(session_id: str, found: Document) -> StoredHead:
    """Return the head of a document in today's form."""
    entries = {entry["k"]: entry for entry in found["agents"]}
    agents = find_agents({key: entry["v"] for key, entry in entries.items()})
    lists = [
        _list("message", SealedList.of_agent(agent.key), agent.raw, entries[agent.key]["count"], agent)
        for agent in agents.values()
    ]
    lists.append(
        _list("guardrail", GUARDRAIL_EVENTS, found.get(GUARDRAIL_EVENTS.archive), found[paths.GUARDRAIL_EVENTS])
    )
    lists.append(_list("feedback", FEEDBACKS, found.get(FEEDBACKS.archive), found["feedbacks"]))
    lists += _errors(found)
    usages = {agent_id: _mapping(agent.raw.get("usage")) for agent_id, agent in agents.items()}
    return StoredHead(session_id, found, agents, usages, lists)


def _list(kind: ListKind, entry: SealedList, holder: object, live: int, agent: StoredAgent | None = None) -> ItemList:
    archive = Archive.read(holder)
    return ItemList(kind, entry, archive, archive.count + live, agent)


def _whole_head(session_id: str, document: Document) -> StoredHead:
    """Return the head of a document that has to be read whole: an older tool's, or one that was changed by hand."""
    agents = StoredSession.from_document(document).agents
    usages: dict[str, Mapping[str, Any]] = {agent_id: usage_of_messages(agent) for agent_id, agent in agents.items()}
    lists = [_whole_list(agent) for agent in agents.values()]
    for kind, entry in (("guardrail", GUARDRAIL_EVENTS), ("feedback", FEEDBACKS)):
        items = document.get(entry.path)
        held = PackedItems(items if isinstance(items, list) else [items] if items else [])
        lists.append(ItemList(kind, entry, Archive(), len(held), held=held))  # type: ignore[arg-type]
    lists += _errors(document)
    # The messages themselves are let go of: what is packed takes a fraction.
    fields = {name: value for name, value in document.items() if name in SESSION_FIELDS and name != paths.ERRORS}
    bare = {agent_id: _without_messages(agent) for agent_id, agent in agents.items()}
    return StoredHead(session_id, fields, bare, usages, lists, is_whole=True)


def _whole_list(agent: StoredAgent) -> ItemList:
    numbers: Sequence[int] = agent.message_numbers
    if numbers:
        following = range(numbers[0], numbers[0] + len(numbers))
        numbers = following if list(following) == numbers else numbers
    held = PackedItems(agent.raw_messages)
    entry = SealedList.of_agent(agent.key)
    return ItemList("message", entry, Archive(), len(held), _without_messages(agent), held, numbers)


def _without_messages(agent: StoredAgent) -> StoredAgent:
    return replace(agent, raw={name: value for name, value in agent.raw.items() if name != paths.MESSAGES})


def _errors(document: Document) -> list[ItemList]:
    """Return the list of failed turns, if there are any."""
    held = document.get("errors")
    if not isinstance(held, list) or not held:
        return []
    total = _mapping(document.get(paths.SUMMARY)).get("errors")
    count = total if isinstance(total, int) and total >= len(held) else len(held)
    entry = SealedList(paths.ERRORS, "")
    return [ItemList("error", entry, Archive(), count, held=PackedItems(held), first=count - len(held))]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def place_in(entry: ItemList, message_id: int) -> int | None:
    """Return the position of a message; numbers are positions, but in an older tool's document."""
    if entry.held is None:
        return message_id if message_id < entry.count else None
    return entry.numbers.index(message_id) if message_id in entry.numbers else None
