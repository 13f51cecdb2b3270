"""What the server is asked to return of a session's document: its head without messages, and stretches of its lists."""

from __future__ import annotations

from collections.abc import Sequence

from ..schema import paths
from ..schema.archives import FEEDBACKS, GUARDRAIL_EVENTS
from ..schema.expressions import Document, agents, array
from ..store.listing import SUMMARY_PROJECTION

_AGENT_DATA = (
    paths.AGENT_ID,
    paths.MODEL,
    paths.SYSTEM_PROMPT,
    paths.PROMPT_METADATA,
    paths.STATE,
    paths.CREATED_AT,
    paths.UPDATED_AT,
)
_AGENT_FIELDS = (
    paths.ARCHIVED_COUNT,
    paths.ARCHIVE,
    paths.REDACTIONS,
    paths.USAGE,
    paths.CREATED_AT,
    paths.UPDATED_AT,
    paths.NEXT_MESSAGE_ID,
)
SESSION_FIELDS = (
    *(name for name in SUMMARY_PROJECTION if name != paths.SUMMARY),
    paths.INCARNATION,
    FEEDBACKS.archive,
    GUARDRAIL_EVENTS.archive,
    paths.ERRORS,
)
"""Fields of a session that are shown, or needed to read its lists."""

_LARGEST_SLICE = 2**31 - 1


def _is(path: str, *kinds: str) -> Document:
    return {"$in": [{"$type": path}, list(kinds)]}


def slice_of(path: str, start: int, length: int, names: Sequence[str] | None) -> Document:
    """Return a stretch of a list, whole items or only the named fields of them."""
    if length <= 0 or start > _LARGEST_SLICE:
        return {"$literal": []}
    part: Document = {"$slice": [array(f"${path}"), start, min(length, _LARGEST_SLICE)]}
    if names is None:
        return part
    # One that is no document has no such fields, and stays in its place.
    return {"$map": {"input": part, "as": "item", "in": {name: f"$$item.{name}" for name in names}}}


HEAD: Document = {
    **dict.fromkeys(SESSION_FIELDS, 1),
    "is_current": _is(f"${paths.SCHEMA_VERSION}", "int", "long", "double"),
    "is_odd": {
        "$or": [
            {"$not": [_is(f"${paths.AGENTS}", "object", "missing")]},
            {"$not": [_is(f"${paths.FEEDBACKS}", "array", "missing")]},
            {"$not": [_is(f"${paths.GUARDRAIL_EVENTS}", "array", "missing")]},
            {
                "$anyElementTrue": {
                    "$map": {
                        "input": agents(),
                        "as": "agent",
                        "in": {
                            "$or": [
                                {"$not": [_is("$$agent.v", "object")]},
                                {"$not": [_is(f"$$agent.v.{paths.AGENT_DATA}", "object")]},
                                {"$not": [_is(f"$$agent.v.{paths.MESSAGES}", "array", "missing")]},
                                {"$not": [_is(f"$$agent.v.{paths.ARCHIVED_COUNT}", "int", "long", "missing", "null")]},
                                {"$not": [_is(f"$$agent.v.{paths.ARCHIVE}", "object", "missing", "null")]},
                                # What no path can address.
                                {"$regexMatch": {"input": "$$agent.k", "regex": r"[.$]|^$"}},
                            ]
                        },
                    }
                }
            },
        ]
    },
    paths.SUMMARY: {paths.ERRORS: f"${paths.SUMMARY_ERRORS}"},
    paths.FEEDBACKS: {"$size": array(f"${paths.FEEDBACKS}")},
    paths.GUARDRAIL_EVENTS: {"$size": array(f"${paths.GUARDRAIL_EVENTS}")},
    paths.AGENTS: {
        "$map": {
            "input": agents(),
            "as": "agent",
            "in": {
                "k": "$$agent.k",
                "count": {"$size": array(f"$$agent.v.{paths.MESSAGES}")},
                "v": {
                    **{name: f"$$agent.v.{name}" for name in _AGENT_FIELDS},
                    paths.AGENT_DATA: {name: f"$$agent.v.{paths.AGENT_DATA}.{name}" for name in _AGENT_DATA},
                },
            },
        }
    },
}
