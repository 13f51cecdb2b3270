"""The title and the counts of documents that were stored without them, worked out by the server for a list.

Of messages only the beginning of the first texts is sent, of feedbacks only how many have which rating.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from pymongo.errors import OperationFailure

from ..client import Collection
from ..schema import paths
from ..schema.archives import FEEDBACKS, Archive
from ..schema.expressions import ROLE, SAID, Document, agents, array, is_a, rating_counts
from ..schema.migrate import first_title
from ..schema.sessions import RATINGS, belonging_to

NO_SUCH_EXPRESSION = frozenset({2, 115, 168, 303, 31325})
"""Codes of servers that do not know an expression, or not with such operands."""

NO_UTF8 = frozenset({34459, 51156})
"""Codes of the errors for looking into text that is no UTF-8, as tools on other drivers may have stored it."""

_COUNTED = (paths.AGENTS, paths.MESSAGES, paths.FEEDBACKS, paths.RATINGS, paths.ERRORS)
_LOOKED_AT = 20
_TITLE_CHARACTERS = 400


class _UnreadableError(Exception):
    """Something that was looked into holds text that is no UTF-8."""


class OlderCounts:
    """Completes what a list shows of documents of older forms, sealed items included."""

    def __init__(self, sessions: Collection, segments: Collection, *, limit_ms: int | None = None) -> None:
        """Ask the collections of sessions and of their segments; no I/O.

        Args:
            sessions: The sessions.
            segments: Their segments.
            limit_ms: Milliseconds that each of the two commands may take; what takes longer, or is refused, stays
                unknown. None waits, and lets errors pass.
        """
        self._sessions = sessions
        self._segments = segments
        self._limit_ms = limit_ms

    async def complete(self, documents: Sequence[Document]) -> None:
        """Complete in place the title and the summary of those documents that lack a part of them.

        One command for the documents, and one for the segments of those that have some. What the server cannot read of
        a document stays unknown, of that one alone.
        """
        lacking = {document["_id"]: document for document in documents if _lacks(document)}
        if not lacking:
            return
        found = {one["_id"]: one for one in await self._live(list(lacking)) if one["_id"] in lacking}
        sealed = await self._sealed(found.values())
        for session_id, one in found.items():
            _complete(lacking[session_id], one, sealed.get(session_id, ()))

    async def _live(self, session_ids: Sequence[Any]) -> Sequence[Document]:
        """Return what counts of documents, without those that hold text which the server cannot read."""
        match = {"$match": {"_id": {"$in": list(session_ids)}}}
        try:
            return await self._aggregated(self._sessions, [match, {"$project": _PROJECTION}]) or ()
        except _UnreadableError:
            if len(session_ids) == 1:
                return ()
            middle = len(session_ids) // 2
            return [*await self._live(session_ids[:middle]), *await self._live(session_ids[middle:])]

    async def _sealed(self, found: Iterable[Document]) -> Mapping[Any, list[Document] | None]:
        """Return what counts of the segments, by session that has some; None where those could not be read."""
        wanted = {one["_id"]: conditions for one in found if (conditions := _sealed_lists(one))}
        if not wanted:
            return {}
        match = {"$match": {"$or": [*chain.from_iterable(wanted.values())]}}
        try:
            segments = await self._aggregated(self._segments, [match, {"$project": _SEALED}])
        except _UnreadableError:
            segments = None
        if segments is None:
            return dict.fromkeys(wanted)
        read: defaultdict[Any, list[Document]] = defaultdict(list)
        for segment in segments:
            read[segment[paths.SESSION_ID]].append(segment)
        return {session_id: read[session_id] for session_id in wanted}

    async def _aggregated(self, collection: Collection, pipeline: list[Document]) -> list[Document] | None:
        """Return what comes out of a pipeline, None where the server does not know its expressions."""
        options: dict[str, Any] = {} if self._limit_ms is None else {"maxTimeMS": self._limit_ms}
        try:
            return await collection.aggregate(pipeline, **options)
        except NotImplementedError:  # the mock's way to say it
            return None
        except OperationFailure as error:
            if error.code in NO_UTF8:
                raise _UnreadableError from None
            if self._limit_ms is None and error.code is not None and error.code not in NO_SUCH_EXPRESSION:
                raise
            return None


def _lacks(document: Mapping[str, Any]) -> bool:
    summary = document.get(paths.SUMMARY)
    if not isinstance(summary, Mapping):
        return True
    is_untitled = not isinstance(document.get(paths.TITLE), str) and not isinstance(summary.get(paths.RATINGS), Mapping)
    return is_untitled or any(name not in summary for name in _COUNTED)


def _sealed_lists(found: Mapping[str, Any]) -> list[Document]:
    """Return the conditions for the segments that tell what a document lacks."""
    if not isinstance(found.get(paths.INCARNATION), str):
        return []
    session, wanted = belonging_to(found["_id"], found[paths.INCARNATION]), []
    feedbacks = Archive.read(paths.at(found, FEEDBACKS.archive))
    if any(agent[paths.ARCHIVED_COUNT] for agent in found["opening"]):
        wanted.append({**session, paths.LIST: paths.MESSAGES, paths.START: 0})
    if feedbacks.count:
        wanted.append({**session, paths.LIST: FEEDBACKS.name, **feedbacks.committed()})
    return wanted


def _complete(document: Document, found: Mapping[str, Any], sealed: Sequence[Document] | None) -> None:
    """Complete a document by what was found in it and in its segments; None where those could not be read."""
    counts = {name: found[name] for name in _COUNTED}
    counts[paths.MESSAGES] += sum(agent[paths.ARCHIVED_COUNT] for agent in found["opening"])
    feedbacks = Archive.read(paths.at(found, FEEDBACKS.archive)).count
    counts[paths.FEEDBACKS] += feedbacks
    if feedbacks:
        counts[paths.RATINGS] = _all_ratings(counts[paths.RATINGS], sealed, feedbacks)
        if counts[paths.RATINGS] is None:
            del counts[paths.RATINGS]
    document[paths.SUMMARY] = counts | dict(paths.object_at(document, paths.SUMMARY))
    if not isinstance(document.get(paths.TITLE), str):
        first = {agent["key"]: _first_of(agent, sealed or ()) for agent in found["opening"]}
        document[paths.TITLE] = first_title(first).get(paths.TITLE)


def _all_ratings(live: Mapping[str, int], sealed: Sequence[Document] | None, count: int) -> dict[str, int] | None:
    """Return all ratings, None where not every sealed feedback was found: a part of them would be a wrong count."""
    of_segments = [one[paths.RATINGS] for one in sealed or () if one[paths.LIST] == FEEDBACKS.name]
    if sum(sum(ratings.values()) for ratings in of_segments) != count:
        return None
    return {name: live[name] + sum(ratings[name] for ratings in of_segments) for name in RATINGS}


def _first_of(agent: Mapping[str, Any], sealed: Sequence[Document]) -> list[Document]:
    """Return the first messages of an agent, numbered; none where they are sealed and could not be read."""
    first: list[Document] = agent["first"]
    if agent[paths.ARCHIVED_COUNT]:
        archive = Archive.read(agent)
        beginnings = [
            one["first"]
            for one in sealed
            if one[paths.LIST] == paths.MESSAGES
            and (one.get(paths.AGENT), one.get(paths.ARCHIVE)) == (agent["key"], archive.id)
            and (one.get(paths.COMMITTED) is True or one.get(paths.TOKEN) == archive.token)
        ]
        if not beginnings:
            return []
        first = [*beginnings[0], *first]
    # Older tools number nothing.
    return [{paths.MESSAGE_ID: place, **message} for place, message in enumerate(first[:_LOOKED_AT])]


def _size(value: str) -> dict[str, Any]:
    return {"$size": array(value)}


def _number(value: str) -> dict[str, Any]:
    return {"$convert": {"input": value, "to": "int", "onError": 0, "onNull": 0}}


def _map(values: Any, name: str, into: Any) -> dict[str, Any]:
    return {"$map": {"input": values, "as": name, "in": into}}


def _beginning(text: str) -> dict[str, Any]:
    return {"$cond": [is_a(text, "string"), {"$substrCP": [text, 0, _TITLE_CHARACTERS]}, "$$REMOVE"]}


def _opening(content: str) -> dict[str, Any]:
    """Return the beginnings of the texts of a content, and which of its blocks are results of tools."""
    block = {
        "text": _beginning("$$block.text"),
        "toolResult": {"$cond": [is_a("$$block.toolResult", "missing"), "$$REMOVE", {}]},
    }
    return {"$cond": [{"$isArray": content}, _map({"$slice": [content, 8]}, "block", block), _beginning(content)]}


def _first(messages: str) -> dict[str, Any]:
    return _map(
        {"$slice": [array(messages), _LOOKED_AT]},
        "message",
        {
            paths.MESSAGE_ID: f"$$message.{paths.MESSAGE_ID}",
            paths.CREATED_AT: f"$$message.{paths.CREATED_AT}",
            "role": ROLE,
            "content": {"$let": {"vars": {"said": SAID}, "in": _opening("$$said")}},
        },
    )


_OPENING = {
    "key": "$$agent.k",
    "first": _first(f"$$agent.v.{paths.MESSAGES}"),
    paths.ARCHIVED_COUNT: _number(f"$$agent.v.{paths.ARCHIVED_COUNT}"),
    paths.ARCHIVE: f"$$agent.v.{paths.ARCHIVE}",
}
_PROJECTION = {
    paths.AGENTS: {"$size": agents()},
    paths.MESSAGES: {"$sum": _map(agents(), "agent", _size(f"$$agent.v.{paths.MESSAGES}"))},
    paths.FEEDBACKS: _size(f"${paths.FEEDBACKS}"),
    paths.RATINGS: rating_counts(f"${paths.FEEDBACKS}"),
    paths.ERRORS: _size(f"${paths.ERRORS}"),
    "opening": _map(agents(), "agent", _OPENING),
    FEEDBACKS.archive: {
        paths.ARCHIVED_COUNT: _number(f"${FEEDBACKS.noted(paths.ARCHIVED_COUNT)}"),
        paths.ARCHIVE: f"${FEEDBACKS.noted(paths.ARCHIVE)}",
    },
    paths.INCARNATION: 1,
}
_IS_OF_MESSAGES = {"$eq": [f"${paths.LIST}", paths.MESSAGES]}
_SEALED = {
    **dict.fromkeys((paths.SESSION_ID, paths.LIST, paths.AGENT, paths.ARCHIVE, paths.TOKEN, paths.COMMITTED), 1),
    "first": {"$cond": [_IS_OF_MESSAGES, _first(f"${paths.ITEMS}"), []]},
    paths.RATINGS: {"$cond": [_IS_OF_MESSAGES, None, rating_counts(f"${paths.ITEMS}")]},
}
