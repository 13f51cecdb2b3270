"""Expressions of aggregations that read stored documents of any age; what is odd in them counts as nothing."""

from __future__ import annotations

from typing import Any

from . import paths

Document = dict[str, Any]

_REDACTION = f"$$message.{paths.REDACT_MESSAGE}"
SAID: Document = {
    "$switch": {
        "branches": [
            {"case": {"$eq": [{"$type": _REDACTION}, "string"]}, "then": _REDACTION},
            {"case": {"$gt": [_REDACTION, None]}, "then": f"{_REDACTION}.content"},
        ],
        "default": {"$ifNull": ["$$message.content", "$$message.message.content"]},
    }
}
"""The content of `$$message`: of a redacted one what stands in its place, of an older tool's what is nested in it."""

ROLE: Document = {"$ifNull": ["$$message.role", "$$message.message.role"]}
"""The role of `$$message`."""


def is_a(value: Any, kind: str) -> Document:
    """Return whether a value is of a BSON type."""
    return {"$eq": [{"$type": value}, kind]}


def array(value: Any) -> Document:
    """Return a value if it is an array, else an empty one."""
    return {"$cond": [{"$isArray": value}, value, []]}


def agents(value: str = f"${paths.AGENTS}") -> Document:
    """Return the agents as pairs of key and agent."""
    return {"$cond": [is_a(value, "object"), {"$objectToArray": value}, []]}


def rating_counts(items: Any) -> Document:
    """Return the feedbacks of an array by rating."""

    def count(condition: Any) -> Document:
        return {"$size": {"$filter": {"input": array(items), "as": "feedback", "cond": condition}}}

    rating = f"$$feedback.{paths.RATING}"
    return {
        "up": count({"$eq": [rating, "up"]}),
        "down": count({"$eq": [rating, "down"]}),
        "other": count({"$not": [{"$in": [rating, ["up", "down"]]}]}),
    }
