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
from .messages import now
from .numbers import stored_count
from .sessions import belonging_to, new_token

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

    def unsealed_since(self, archive: Archive) -> Document:
        """Return the condition that nothing was sealed since an archive was read."""
        count = archive.count or {"$in": [None, 0]}
        return {self.noted(paths.ARCHIVED_COUNT): count, self.noted(paths.ARCHIVE_ID): archive.id}

    def archive_fields(self) -> Document:
        """Return the projection of an aggregation that `Archive.read` reads, without `redactions`."""
        return {name: f"${self.noted(name)}" for name in (paths.ARCHIVED_COUNT, paths.ARCHIVE)}


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
        if not isinstance(holder, Mapping):
            return cls()
        archive = holder.get(paths.ARCHIVE)
        if not isinstance(archive, Mapping):
            archive = {}
        count, redactions = (stored_count(holder.get(name)) for name in (paths.ARCHIVED_COUNT, paths.REDACTIONS))
        token, own_id = (_text(archive.get(name)) for name in (paths.TOKEN, paths.ID))
        return cls(count, token, own_id, redactions)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def lists_of(document: Mapping[str, Any]) -> list[SealedList]:
    """Return the lists of a document."""
    agents = document.get(paths.AGENTS) or {}
    return [*(SealedList.of_agent(key) for key in agents), FEEDBACKS, GUARDRAIL_EVENTS]


def segments_of(session_id: str, incarnation: str, entry: SealedList, archive: Archive) -> Document:
    """Return the query for all segments of a list, those that count for nothing included."""
    return {
        **belonging_to(session_id, incarnation),
        paths.AGENT: entry.agent,
        paths.LIST: entry.name,
        paths.ARCHIVE: archive.id,
    }


def segment_id(session_id: str, incarnation: str, entry: SealedList, start: int, token: str) -> str:
    """Return the id of the segment that begins at a position of a list."""
    return f"{session_id}/{incarnation}/{entry.path}/{start}/{token}"


def new_segment(session_id: str, incarnation: str, entry: SealedList, archive: Archive) -> Document:
    """Return the segment that follows what is sealed of a list: still without items, and not committed."""
    token = new_token()
    return {
        "_id": segment_id(session_id, incarnation, entry, archive.count, token),
        **segments_of(session_id, incarnation, entry, archive),
        paths.START: archive.count,
        paths.TOKEN: token,
        paths.COMMITTED: False,
        paths.REDACTIONS: archive.redactions,
        paths.CREATED_AT: now(),
    }


def place_of(segment: Document) -> Document:
    """Return the query for one segment."""
    return {"_id": segment["_id"], paths.SESSION_ID: segment[paths.SESSION_ID]}


def filled(entry: SealedList, start: int, items: Sequence[Document]) -> Document:
    """Return the fields of a segment that tell what is in it and where that stands in its list."""
    fields: Document = {paths.START: start, paths.END: start + len(items), paths.ITEMS: list(items)}
    if entry.agent is not None:
        fields |= {paths.FIRST_ID: items[0][paths.MESSAGE_ID], paths.LAST_ID: items[-1][paths.MESSAGE_ID]}
    return fields


def committed(archive: Archive) -> Document:
    """Return the condition for segments that count: marked, or named by the session document."""
    return {paths.ARCHIVE: archive.id, "$or": [{paths.COMMITTED: True}, {paths.TOKEN: archive.token}]}


def refused(archive: Archive) -> Document:
    """Return the condition for segments that no writer can commit any more.

    Commits match only what their sealer saw, and both counters only ever rise.
    """
    return {
        paths.COMMITTED: False,
        paths.TOKEN: {"$ne": archive.token},
        "$or": [{paths.START: {"$lt": archive.count}}, {paths.REDACTIONS: {"$lt": archive.redactions}}],
    }


def holding(document: Mapping[str, Any], entry: SealedList, archive: Archive, message_id: int) -> Document:
    """Return the query for the segment with a message."""
    return {
        **segments_of(document["_id"], document[paths.INCARNATION], entry, archive),
        **committed(archive),
        paths.FIRST_ID: {"$lte": message_id},
        paths.LAST_ID: {"$gte": message_id},
    }


def gaps(agent: StoredAgent) -> list[tuple[int, int]]:
    """Return the ranges of message ids that an agent's window needs of the segments."""
    if not Archive.read(agent.raw).count:
        return []
    tail = agent.raw.get(paths.MESSAGES) or []
    tail_start = tail[0][paths.MESSAGE_ID] if tail else agent.next_message_id
    window = agent.window if agent.window is not None else [[0, None]]
    found: list[tuple[int, int]] = []
    for first, last in window:
        if first is not None and first < tail_start:
            found.append((first, tail_start - 1 if last is None else min(last, tail_start - 1)))
    return found


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
    flat = {"$mergeObjects": ["$message", {paths.SESSION_ID: f"${paths.SESSION_ID}", paths.AGENT: f"${paths.AGENT}"}]}
    sealed = {
        **belonging_to(session_id, incarnation),
        paths.LIST: paths.MESSAGES,
        "$or": [{paths.AGENT: name, **committed(archive)} for name, archive in archives.items()],
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
        {"$replaceRoot": {"newRoot": flat}},
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
