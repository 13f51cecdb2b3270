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

from .agents import StoredAgent

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
        return cls(f"agents.{key}.messages", f"agents.{key}", key)

    @property
    def name(self) -> str:
        """What segments call it."""
        return self.path.rpartition(".")[2]


FEEDBACKS = SealedList("feedbacks", "feedbacks_sealed")
GUARDRAIL_EVENTS = SealedList("guardrail_events", "guardrail_events_sealed")


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
        archive = holder.get("archive")
        if not isinstance(archive, Mapping):
            archive = {}
        count, redactions = int(holder.get("archived_count") or 0), int(holder.get("redactions") or 0)
        return cls(count, archive.get("token"), archive.get("id"), redactions)


def at(document: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path of a document, None where there is nothing."""
    node: Any = document
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def lists_of(document: Mapping[str, Any]) -> list[SealedList]:
    """Return the lists of a document."""
    agents = document.get("agents") or {}
    return [*(SealedList.of_agent(key) for key in agents), FEEDBACKS, GUARDRAIL_EVENTS]


def segments_of(session_id: str, incarnation: str, entry: SealedList, archive: Archive) -> Document:
    """Return the query for all segments of a list, those that count for nothing included."""
    return {
        "session_id": session_id,
        "incarnation": incarnation,
        "agent": entry.agent,
        "list": entry.name,
        "archive": archive.id,
    }


def committed(archive: Archive) -> Document:
    """Return the condition for segments that count: marked, or named by the session document."""
    return {"archive": archive.id, "$or": [{"committed": True}, {"token": archive.token}]}


def refused(archive: Archive) -> Document:
    """Return the condition for segments that no writer can commit any more.

    Commits match only what their sealer saw, and both counters only ever rise.
    """
    return {
        "committed": False,
        "token": {"$ne": archive.token},
        "$or": [{"start": {"$lt": archive.count}}, {"redactions": {"$lt": archive.redactions}}],
    }


def holding(document: Mapping[str, Any], entry: SealedList, archive: Archive, message_id: int) -> Document:
    """Return the query for the segment with a message."""
    return {
        **segments_of(document["_id"], document["incarnation"], entry, archive),
        **committed(archive),
        "first_id": {"$lte": message_id},
        "last_id": {"$gte": message_id},
    }


def gaps(agent: StoredAgent) -> list[tuple[int, int]]:
    """Return the ranges of message ids that an agent's window needs of the segments."""
    if not Archive.read(agent.raw).count:
        return []
    tail = agent.raw.get("messages") or []
    tail_start = tail[0]["message_id"] if tail else agent.next_message_id
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
    of_agent = {} if key is None else {"agent": key}
    archives = {name: archive for name, archive in archives.items() if key in (None, name)}
    flat = {"$mergeObjects": ["$message", {"session_id": "$session_id", "agent": "$agent"}]}
    sealed = {
        "session_id": session_id,
        "incarnation": incarnation,
        "list": "messages",
        "$or": [{"agent": name, **committed(archive)} for name, archive in archives.items()],
    }
    if not archives:
        return [{"$match": {"_id": {"$in": []}}}]
    return [
        {"$match": {"_id": session_id}},
        {"$project": {"session_id": "$_id", "agents": {"$objectToArray": {"$ifNull": ["$agents", {}]}}}},
        {"$unwind": "$agents"},
        {"$project": {"session_id": 1, "agent": "$agents.k", "message": "$agents.v.messages"}},
        {"$match": of_agent},
        {"$unwind": "$message"},
        {
            "$unionWith": {
                "coll": segments_name,
                "pipeline": [
                    {"$match": sealed},
                    {"$unwind": "$items"},
                    {"$project": {"session_id": 1, "agent": 1, "message": "$items"}},
                ],
            }
        },
        {"$replaceRoot": {"newRoot": flat}},
        {"$sort": {"agent": 1, "message_id": 1}},
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
    joined = all(one["end"] == other["start"] for one, other in pairwise(segments))
    begins = segments[0]["start"] == 0 or segments[0]["first_id"] <= first
    ends = segments[-1]["end"] == count or segments[-1]["last_id"] >= last
    return joined and begins and ends
