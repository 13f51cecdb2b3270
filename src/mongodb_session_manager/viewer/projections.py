"""What the server is asked to return of a session's document: its head without messages, and stretches of its lists."""

from __future__ import annotations

from collections.abc import Sequence

from ..store.updates import Document

_AGENT_DATA = ("agent_id", "model", "system_prompt", "prompt_metadata", "state", "created_at", "updated_at")
_AGENT_FIELDS = ("archived_count", "archive", "redactions", "usage", "created_at", "updated_at", "next_message_id")
_SESSION_FIELDS = (
    "application_name",
    "created_at",
    "updated_at",
    "expires_at",
    "metadata",
    "incarnation",
    "feedbacks_sealed",
    "guardrail_events_sealed",
    "title",
    "errors",
)
_LARGEST_SLICE = 2**31 - 1


def _is(path: str, *kinds: str) -> Document:
    return {"$in": [{"$type": path}, list(kinds)]}


def array(path: str) -> Document:
    """Return a value if it is an array, else an empty one."""
    return {"$cond": [{"$isArray": path}, path, []]}


def slice_of(path: str, start: int, length: int, names: Sequence[str] | None) -> Document:
    """Return a stretch of a list, whole items or only the named fields of them."""
    if length <= 0 or start > _LARGEST_SLICE:
        return {"$literal": []}
    part: Document = {"$slice": [array(f"${path}"), start, min(length, _LARGEST_SLICE)]}
    if names is None:
        return part
    # One that is no document has no such fields, and stays in its place.
    return {"$map": {"input": part, "as": "item", "in": {name: f"$$item.{name}" for name in names}}}


_AGENTS = {"$cond": [_is("$agents", "object"), {"$objectToArray": "$agents"}, []]}
HEAD: Document = {
    **dict.fromkeys(_SESSION_FIELDS, 1),
    "is_current": _is("$schema_version", "int", "long", "double"),
    "is_odd": {
        "$or": [
            {"$not": [_is("$agents", "object", "missing")]},
            {"$not": [_is("$feedbacks", "array", "missing")]},
            {"$not": [_is("$guardrail_events", "array", "missing")]},
            {
                "$anyElementTrue": {
                    "$map": {
                        "input": _AGENTS,
                        "as": "agent",
                        "in": {
                            "$or": [
                                {"$not": [_is("$$agent.v", "object")]},
                                {"$not": [_is("$$agent.v.agent_data", "object")]},
                                {"$not": [_is("$$agent.v.messages", "array", "missing")]},
                                {"$not": [_is("$$agent.v.archived_count", "int", "long", "missing", "null")]},
                                {"$not": [_is("$$agent.v.archive", "object", "missing", "null")]},
                                # What no path can address.
                                {"$regexMatch": {"input": "$$agent.k", "regex": r"[.$]|^$"}},
                            ]
                        },
                    }
                }
            },
        ]
    },
    "summary": {"errors": "$summary.errors"},
    "feedbacks": {"$size": array("$feedbacks")},
    "guardrail_events": {"$size": array("$guardrail_events")},
    "agents": {
        "$map": {
            "input": _AGENTS,
            "as": "agent",
            "in": {
                "k": "$$agent.k",
                "count": {"$size": array("$$agent.v.messages")},
                "v": {
                    **{name: f"$$agent.v.{name}" for name in _AGENT_FIELDS},
                    "agent_data": {name: f"$$agent.v.agent_data.{name}" for name in _AGENT_DATA},
                },
            },
        }
    },
}
