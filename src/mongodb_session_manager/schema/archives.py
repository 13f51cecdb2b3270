"""What stands where of a session's lists: the live tail in its document, what is sealed in segment documents.

A segment is a document of its own::

    {_id, session_id, incarnation, list, agent, archive, start, token, committed, redactions, created_at, expires_at?,
     end, items, first_id?, last_id?, applied?}

`archive` tells the segments of an agent from those of an earlier agent of the same id, `start` and `end` are positions
in the whole list, and `token` is what the session document names the latest segment by. One that is not `committed` nor
named by the document counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from . import paths
from .agents import StoredAgent
from .expressions import ROLE, SAID, is_a
from .messages import now
from .numbers import stored_count
from .sessions import belonging_to, identity, new_token

Document = dict[str, Any]


@dataclass(frozen=True)
class SealedList:
    """One list of a session document that may be sealed.

    Attributes:
        path: Where the list stands in the document.
        archive: Where what is sealed of it is noted: `archived_count` and `archive` below this path.
        agent: The key of the agent whose messages they are; None for lists of the session.
    """

    path: str
    archive: str
    agent: str | None = None

    @classmethod
    def of_agent(cls, key: str) -> SealedList:
        """Return the messages of an agent."""
        return cls(paths.messages(key), paths.agent(key), key)

    @property
    def name(self) -> str:
        """What segments call it."""
        return self.path.rpartition(".")[2]

    def noted(self, field: str) -> str:
        """Return the path of what is noted of the list: `archived_count`, `redactions`, or something of `archive`."""
        return f"{self.archive}.{field}"

    def may_hold(self, item: object) -> bool:
        """Tell whether an item is what belongs into the list; an older tool's may be anything."""
        return isinstance(item, Mapping) and (self.agent is None or isinstance(item.get(paths.MESSAGE_ID), int))

    def projection(self) -> Document:
        """Return the fields of a session document that `SealedPart.read` reads."""
        noted = map(self.noted, (paths.ARCHIVED_COUNT, paths.ARCHIVE, paths.REDACTIONS))
        return dict.fromkeys((paths.INCARNATION, *noted), 1)


FEEDBACKS = SealedList(paths.FEEDBACKS, paths.FEEDBACKS_SEALED)
GUARDRAIL_EVENTS = SealedList(paths.GUARDRAIL_EVENTS, paths.GUARDRAIL_EVENTS_SEALED)


@dataclass(frozen=True)
class Archive:
    """What is sealed of a list.

    Attributes:
        count: How many items.
        token: The last segment, None without one.
        id: Whose segments these are: a random value of the agent, None for lists of the session.
        redactions: How often stored items were changed, as guards see it.
    """

    count: int = 0
    token: str | None = None
    id: str | None = None
    redactions: int = 0

    @classmethod
    def read(cls, holder: object) -> Archive:
        """Read it from the document that holds it."""
        token, own_id = (_text(paths.at(holder, name)) for name in (paths.ARCHIVE_TOKEN, paths.ARCHIVE_ID))
        count, redactions = (stored_count(paths.at(holder, name)) for name in (paths.ARCHIVED_COUNT, paths.REDACTIONS))
        return cls(count, token, own_id, redactions)

    def committed(self) -> Document:
        """Return the condition for segments that count: marked, or named by the session document."""
        return {paths.ARCHIVE: self.id, "$or": [{paths.COMMITTED: True}, {paths.TOKEN: self.token}]}

    def refused(self) -> Document:
        """Return the condition for segments that no writer can commit any more.

        Commits match only what their sealer saw, and both counters only ever rise.
        """
        return {
            paths.COMMITTED: False,
            paths.TOKEN: {"$ne": self.token},
            "$or": [{paths.START: {"$lt": self.count}}, {paths.REDACTIONS: {"$lt": self.redactions}}],
        }


@dataclass(frozen=True)
class SealedPart:
    """What is sealed of a list of one session, and where its segments are.

    Attributes:
        session_id: The session.
        incarnation: Which session of that id.
        entry: The list.
        archive: What is sealed of it.
    """

    session_id: str
    incarnation: str
    entry: SealedList
    archive: Archive

    @classmethod
    def read(cls, document: Mapping[str, Any], entry: SealedList) -> SealedPart:
        """Read it from a session document, or from what was read of one."""
        archive = Archive.read(paths.at(document, entry.archive))
        return cls(document["_id"], document.get(paths.INCARNATION, ""), entry, archive)

    @property
    def session(self) -> Document:
        """The query for the session."""
        return identity(self.session_id, self.incarnation)

    def unchanged(self) -> Document:
        """Return the condition of the session document that nothing was sealed since."""
        count = self.archive.count or {"$in": [None, 0]}
        return {self.entry.noted(paths.ARCHIVED_COUNT): count, self.entry.noted(paths.ARCHIVE_ID): self.archive.id}

    def segments(self) -> Document:
        """Return the query for all segments of the list, those that count for nothing included."""
        return {
            **belonging_to(self.session_id, self.incarnation),
            paths.AGENT: self.entry.agent,
            paths.LIST: self.entry.name,
            paths.ARCHIVE: self.archive.id,
        }

    def between(self, start: int, stop: int) -> Document:
        """Return the query for the segments with items at the positions from `start` to before `stop`."""
        place = {paths.START: {"$lt": stop}, paths.END: {"$gt": start}}
        return {**self.segments(), **self.archive.committed(), **place}

    def holding(self, message_id: int) -> Document:
        """Return the query for the segment with a message."""
        place = {paths.FIRST_ID: {"$lte": message_id}, paths.LAST_ID: {"$gte": message_id}}
        return {**self.segments(), **self.archive.committed(), **place}

    def new_segment(self) -> Document:
        """Return the segment that comes next: still without items, and not committed."""
        token = new_token()
        return {
            "_id": self.segment_id(self.archive.count, token),
            **self.segments(),
            paths.START: self.archive.count,
            paths.TOKEN: token,
            paths.COMMITTED: False,
            paths.REDACTIONS: self.archive.redactions,
            paths.CREATED_AT: now(),
        }

    def segment_id(self, start: int, token: str) -> str:
        """Return the id of the segment that begins at a position of the list."""
        return f"{self.session_id}/{self.incarnation}/{self.entry.path}/{start}/{token}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def lists_of(document: Mapping[str, Any]) -> list[SealedList]:
    """Return the lists of a document."""
    agents = document.get(paths.AGENTS) or {}
    return [*(SealedList.of_agent(key) for key in agents), FEEDBACKS, GUARDRAIL_EVENTS]


def place_of(segment: Document) -> Document:
    """Return the query for one segment."""
    return {"_id": segment["_id"], paths.SESSION_ID: segment[paths.SESSION_ID]}


def filled(entry: SealedList, start: int, items: Sequence[Document]) -> Document:
    """Return the fields of a segment that tell what is in it and where that stands in its list."""
    fields: Document = {paths.START: start, paths.END: start + len(items), paths.ITEMS: list(items)}
    if entry.agent is not None:
        fields |= {paths.FIRST_ID: items[0][paths.MESSAGE_ID], paths.LAST_ID: items[-1][paths.MESSAGE_ID]}
    return fields


def gaps(agent: StoredAgent) -> list[tuple[int, int]]:
    """Return the ranges of message ids that an agent's window needs of the segments."""
    sealed = Archive.read(agent.raw).count
    if not sealed:
        return []
    tail, entry = agent.raw_messages, SealedList.of_agent(agent.key)
    # What is no message stands in the place of one, and none has a number below that of its place.
    starts = (item[paths.MESSAGE_ID] - place for place, item in enumerate(tail) if entry.may_hold(item))
    tail_start = max(next(starts, agent.next_message_id - len(tail)), sealed)
    window = agent.window if agent.window is not None else [[0, None]]
    found: list[tuple[int, int]] = []
    for first, last in window:
        if first is not None and first < tail_start:
            found.append((first, tail_start - 1 if last is None else min(last, tail_start - 1)))
    return found


# As older tools store them, too: nested, as plain text, with the original beside its redaction.
_IN_BLOCKS: Document = {
    "$let": {
        "vars": {"said": SAID},
        "in": {"$cond": [is_a("$$said", "string"), [{"text": "$$said"}], "$$said"]},
    }
}
_NESTED: Document = {"$cond": [is_a("$$message.message", "object"), "$$message.message", {}]}


def messages_pipeline(
    session_id: str,
    incarnation: str | None,
    archives: Mapping[str, Archive],
    segments_name: str,
    key: str | None,
) -> list[Document]:
    """Return the stages that give all messages of a session, sealed or not, one document each.

    Args:
        session_id: The session.
        incarnation: Which session of that id.
        archives: What is sealed of its agents, by key.
        segments_name: The collection of segments.
        key: Only this agent's; None for all.
    """
    of_agent = {} if key is None else {paths.AGENT: key}
    archives = {name: archive for name, archive in archives.items() if key in (None, name)}
    address = {paths.SESSION_ID: f"${paths.SESSION_ID}", paths.AGENT: f"${paths.AGENT}"}
    parts = [_NESTED, "$$message", {"role": ROLE, "content": _IN_BLOCKS}, address]
    flat = {"$let": {"vars": {"message": "$message"}, "in": {"$mergeObjects": parts}}}
    sealed = {
        **belonging_to(session_id, incarnation),
        paths.LIST: paths.MESSAGES,
        "$or": [{paths.AGENT: name, **archive.committed()} for name, archive in archives.items()],
    }
    if not archives:
        return [{"$match": {"_id": {"$in": []}}}]
    pairs = {"$objectToArray": {"$ifNull": [f"${paths.AGENTS}", {}]}}
    message = {paths.SESSION_ID: 1, paths.AGENT: f"${paths.AGENTS}.k", "message": f"${paths.AGENTS}.v.{paths.MESSAGES}"}
    return [
        {"$match": {"_id": session_id}},
        {"$project": {paths.SESSION_ID: "$_id", paths.AGENTS: pairs}},
        {"$unwind": f"${paths.AGENTS}"},
        {"$project": message},
        {"$match": of_agent},
        {"$unwind": "$message"},
        {
            "$unionWith": {
                "coll": segments_name,
                "pipeline": [
                    {"$match": sealed},
                    {"$unwind": f"${paths.ITEMS}"},
                    {"$project": {paths.SESSION_ID: 1, paths.AGENT: 1, "message": f"${paths.ITEMS}"}},
                ],
            }
        },
        {"$match": {"message": {"$type": "object", "$not": {"$type": "array"}}}},
        {"$replaceRoot": {"newRoot": flat}},
        {"$project": {"message": 0}},
        {"$sort": {paths.AGENT: 1, paths.MESSAGE_ID: 1}},
    ]


def is_contiguous(segments: Sequence[Mapping[str, Any]], first: int, last: int, count: int) -> bool:
    """Tell whether segments, in order, hold every message from one number to another one.

    Args:
        segments: Those that overlap the range.
        first: The first number.
        last: The last number.
        count: How many messages are sealed.
    """
    if not segments:
        return False
    joined = all(one[paths.END] == other[paths.START] for one, other in pairwise(segments))
    begins = segments[0][paths.START] == 0 or segments[0][paths.FIRST_ID] <= first
    ends = segments[-1][paths.END] == count or segments[-1][paths.LAST_ID] >= last
    return joined and begins and ends
