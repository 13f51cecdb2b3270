"""The title and the counts of documents that were stored without them, worked out by the server for a list.

Of messages only the beginning of the first texts is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from ..client import Collection
from ..schema import paths
from ..schema.archives import FEEDBACKS, Archive, at
from ..schema.migrate import first_title

NO_SUCH_EXPRESSION = frozenset({2, 115, 168, 303, 31325})
"""Codes of servers that do not know an expression, or not with such operands."""

_COUNTED = (paths.AGENTS, paths.MESSAGES, paths.FEEDBACKS, paths.RATINGS, paths.ERRORS)
_LOOKED_AT = 20
_TITLE_CHARACTERS = 400


async def count_older(collection: Collection, documents: Sequence[dict[str, Any]]) -> None:
    """Complete the title and the summary of those documents that lack a part of them, in one command.

    What is sealed is not counted again: a document that lacks a count of sealed items goes without that count until
    it is written to the next time, which brings it up to date.
    """
    lacking = {document["_id"]: document for document in documents if _lacks(document)}
    if not lacking:
        return
    pipeline: list[dict[str, Any]] = [{"$match": {"_id": {"$in": list(lacking)}}}, {"$project": _PROJECTION}]
    for found in await _aggregated(collection, pipeline) or ():
        _complete(lacking[found["_id"]], found)


def _lacks(document: Mapping[str, Any]) -> bool:
    summary = document.get(paths.SUMMARY)
    if not isinstance(summary, Mapping):
        return True
    is_untitled = not isinstance(document.get(paths.TITLE), str) and not isinstance(summary.get(paths.RATINGS), Mapping)
    return is_untitled or any(name not in summary for name in _COUNTED)


def _complete(document: dict[str, Any], found: Mapping[str, Any]) -> None:
    stored = document.get(paths.SUMMARY)
    summary = dict(stored) if isinstance(stored, Mapping) else {}
    counts = {name: found[name] for name in _COUNTED}
    if Archive.read(at(found, FEEDBACKS.archive)).count:
        del counts[paths.RATINGS]
    document[paths.SUMMARY] = counts | summary
    if not isinstance(document.get(paths.TITLE), str):
        first = {agent["key"]: agent["first"] for agent in found["opening"]}
        document[paths.TITLE] = first_title(first).get(paths.TITLE)


async def _aggregated(collection: Collection, pipeline: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return what comes out of a pipeline, None where the server does not know its expressions."""
    try:
        return await collection.aggregate(pipeline)
    except NotImplementedError:  # the mock's way to say it
        return None
    except OperationFailure as error:
        if error.code is not None and error.code not in NO_SUCH_EXPRESSION:
            raise
        return None


def _array(value: str) -> dict[str, Any]:
    return {"$cond": [{"$isArray": value}, value, []]}


def _size(value: str) -> dict[str, Any]:
    return {"$size": _array(value)}


def _rated(rating: str) -> dict[str, Any]:
    condition = {"$eq": [f"$$feedback.{paths.RATING}", rating]}
    return {"$size": {"$filter": {"input": _array(f"${paths.FEEDBACKS}"), "as": "feedback", "cond": condition}}}


def _map(values: Any, name: str, into: Any) -> dict[str, Any]:
    return {"$map": {"input": values, "as": name, "in": into}}


def _beginning(text: str) -> dict[str, Any]:
    is_text = {"$eq": [{"$type": text}, "string"]}
    return {"$cond": [is_text, {"$substrCP": [text, 0, _TITLE_CHARACTERS]}, "$$REMOVE"]}


def _opening(content: str) -> dict[str, Any]:
    """Return the beginnings of the texts of a content, and which of its blocks are results of tools."""
    block = {
        "text": _beginning("$$block.text"),
        "toolResult": {"$cond": [{"$eq": [{"$type": "$$block.toolResult"}, "missing"]}, "$$REMOVE", {}]},
    }
    return {"$cond": [{"$isArray": content}, _map({"$slice": [content, 8]}, "block", block), _beginning(content)]}


_IS_NESTED = {"$eq": [{"$type": "$$message.message"}, "object"]}
_IS_REDACTED = {"$eq": [{"$type": f"$$message.{paths.REDACT_MESSAGE}"}, "object"]}
_CONTENT = {
    "$switch": {
        "branches": [
            {"case": _IS_REDACTED, "then": _opening(f"$$message.{paths.REDACT_MESSAGE}.content")},
            {"case": _IS_NESTED, "then": _opening("$$message.message.content")},
        ],
        "default": _opening("$$message.content"),
    }
}
_FIRST = _map(
    {"$slice": [_array(f"$$agent.v.{paths.MESSAGES}"), _LOOKED_AT]},
    "message",
    {
        paths.MESSAGE_ID: f"$$message.{paths.MESSAGE_ID}",
        paths.CREATED_AT: f"$$message.{paths.CREATED_AT}",
        "role": {"$cond": [_IS_NESTED, "$$message.message.role", "$$message.role"]},
        "content": _CONTENT,
    },
)
_IS_WHOLE = {"$eq": [{"$ifNull": [f"$$agent.v.{paths.ARCHIVED_COUNT}", 0]}, 0]}
_AGENTS = {"$objectToArray": {"$cond": [{"$eq": [{"$type": f"${paths.AGENTS}"}, "object"]}, f"${paths.AGENTS}", {}]}}
_UP, _DOWN = _rated("up"), _rated("down")
_PROJECTION = {
    paths.AGENTS: {"$size": _AGENTS},
    paths.MESSAGES: {"$sum": _map(_AGENTS, "agent", _size(f"$$agent.v.{paths.MESSAGES}"))},
    paths.FEEDBACKS: _size(f"${paths.FEEDBACKS}"),
    paths.RATINGS: {
        "up": _UP,
        "down": _DOWN,
        "other": {"$subtract": [_size(f"${paths.FEEDBACKS}"), {"$add": [_UP, _DOWN]}]},
    },
    paths.ERRORS: _size(f"${paths.ERRORS}"),
    "opening": _map(_AGENTS, "agent", {"key": "$$agent.k", "first": {"$cond": [_IS_WHOLE, _FIRST, []]}}),
    FEEDBACKS.archive: 1,
}
