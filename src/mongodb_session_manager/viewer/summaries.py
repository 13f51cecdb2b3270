"""What a list shows of older documents, which have no title and do not count everything: worked out by the server.

Only for the sessions of a page, in two queries that return a line each; what takes too long stays unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from ..schema import paths
from ..web.stored_texts import Document, agents, array, first_said, rating_counts

_LIMIT_MS = 1_500
_TITLE_CHARACTERS = 400
_AGENTS = {"$map": {"input": agents(), "as": "agent", "in": "$$agent.v"}}
_NAMES = ("agents", "messages", "feedbacks", "ratings", "errors")


class Summaries:
    """Works out what older documents lack."""

    def __init__(self, collection: Any, segments: Any) -> None:
        """Ask the driver's collections of sessions and of their segments; no I/O."""
        self._collection = collection
        self._segments = segments

    async def completed(self, documents: Sequence[Document]) -> list[Document]:
        """Return the documents of a list with a title and every count."""
        lacking = [document["_id"] for document in documents if _lacks(document)]
        if not lacking:
            return list(documents)
        try:
            found, sealed = await asyncio.gather(self._live(lacking), self._sealed(lacking))
        except OperationFailure:  # it takes too long, or is not known to a compatible database
            return list(documents)
        return [_complete(document, found.get(document["_id"]), sealed) for document in documents]

    async def _live(self, session_ids: Sequence[str]) -> dict[str, Document]:
        title = {
            "$reduce": {
                "input": _AGENTS,
                "initialValue": None,
                "in": {"$ifNull": ["$$value", first_said(f"$$this.{paths.MESSAGES}", _TITLE_CHARACTERS)]},
            }
        }
        sizes = {"$map": {"input": _AGENTS, "as": "agent", "in": {"$size": array(f"$$agent.{paths.MESSAGES}")}}}
        pipeline = [
            {"$match": {"_id": {"$in": list(session_ids)}}},
            {
                "$project": {
                    "title": title,
                    "agents": {"$size": _AGENTS},
                    "messages": {"$sum": sizes},
                    "feedbacks": {"$size": array(f"${paths.FEEDBACKS}")},
                    "ratings": rating_counts(f"${paths.FEEDBACKS}"),
                    "errors": {"$size": array(f"${paths.ERRORS}")},
                }
            },
        ]
        return {item["_id"]: item async for item in self._collection.aggregate(pipeline, maxTimeMS=_LIMIT_MS)}

    async def _sealed(self, session_ids: Sequence[str]) -> dict[tuple[str, Any], Document]:
        """Return what segments hold, by session and incarnation."""
        pipeline = [
            {
                "$match": {
                    "session_id": {"$in": list(session_ids)},
                    paths.COMMITTED: True,
                    "$or": [{"list": "messages", "start": 0}, {"list": "feedbacks"}],
                }
            },
            {
                "$project": {
                    "session_id": 1,
                    paths.INCARNATION: 1,
                    "list": 1,
                    "title": {
                        "$cond": [
                            {"$eq": [f"${paths.LIST}", "messages"]},
                            first_said(f"${paths.ITEMS}", _TITLE_CHARACTERS),
                            None,
                        ]
                    },
                    "ratings": rating_counts(f"${paths.ITEMS}"),
                }
            },
        ]
        found: dict[tuple[str, Any], Document] = {}
        async for item in self._segments.aggregate(pipeline, maxTimeMS=_LIMIT_MS):
            known = found.setdefault((item["session_id"], item.get(paths.INCARNATION)), {"title": None, "ratings": {}})
            known["title"] = known["title"] or item["title"]
            if item["list"] == "feedbacks":
                known["ratings"] = _sum(known["ratings"], item["ratings"])
        return found


def _lacks(document: Mapping[str, Any]) -> bool:
    summary = document.get(paths.SUMMARY)
    counted = summary if isinstance(summary, Mapping) else {}
    # A session without a message has no title either.
    untitled = not isinstance(document.get("title"), str) and counted.get("messages") != 0
    return untitled or any(name not in counted for name in _NAMES)


def _complete(document: Document, found: Document | None, sealed: Mapping[tuple[str, Any], Document]) -> Document:
    if found is None:
        return document
    summary = document.get(paths.SUMMARY)
    counted = dict(summary) if isinstance(summary, Mapping) else {}
    incarnation = document.get(paths.INCARNATION)
    moved = sealed.get((document["_id"], incarnation), {}) if isinstance(incarnation, str) else {}
    found["ratings"] = _sum(found["ratings"], moved.get("ratings", {}))
    title = document.get("title")
    if not isinstance(title, str):
        title = moved.get("title") or found["title"]
    return {**document, "title": title, paths.SUMMARY: {name: found[name] for name in _NAMES} | counted}


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in ("up", "down", "other")}
