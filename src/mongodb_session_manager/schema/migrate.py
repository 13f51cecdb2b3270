"""How a session document of an older form becomes one of today's.

Version 0 is what other tools wrote, and what is only partly this library's; version 1 lacks a title, the errors of
failed turns, and the counts of ratings and errors.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import bson
from strands.types.session import SessionType

from ..errors import CorruptMessageError
from . import values
from .agents import STATE_FIELDS, StoredAgent, new_archive, split_agents
from .messages import dated, encode_content, iso_date, parse_date, read_date, set_aside, stable_tracking_id
from .metadata import COUNTER, metadata_size
from .names import decode_name, encode_name
from .sessions import RATINGS, SCHEMA_VERSION, new_password, new_summary, rating_of, ttl_of
from .titles import title_of

T = TypeVar("T")

_SESSION_FIELDS = (
    "incarnation",
    "applied",
    "revision",
    "summary",
    "lease",
    "last_lease",
    "legacy",
    "live_bytes",
    "title",
    "title_of",
    "errors",
    "idempotency_keys",
    "feedbacks_sealed",
    "guardrail_events_sealed",
    "has_children",
    "has_payloads",
    "has_storage",
    "children_expire_at",
)
"""Fields of a session whose names another tool may have used for something else."""

_AGENT_FIELDS = ("window", "window_head", "redactions", "archived_count", "archive", "usage", "legacy")
_TOOL_COUNTS = ("call_count", "success_count", "error_count", "total_time")


def upgrade(document: Mapping[str, Any], now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the guard and the update that bring an older tool's document into today's form.

    Fields that the library does not know stay as they are; those of a name that means something else today move into
    the field `legacy`. The guard matches only the version that was read, so what another writer adds meanwhile is
    never overwritten.
    """
    session_id = str(document["_id"])
    agents, other_agents = _upgraded_agents(document.get("agents"), session_id, now)
    metadata: dict[str, Any] = _kind(document, "metadata", dict)
    graphs: dict[str, Any] = _kind(document, "multi_agents", dict)
    feedbacks: list[Any] = _kind(document, "feedbacks", list)
    events: list[Any] = _kind(document, "guardrail_events", list)
    aside = _meaning_something_else(document) | ({"agents": other_agents} if other_agents else {})
    fields = {
        "session_id": session_id,
        "schema_version": SCHEMA_VERSION,
        "incarnation": secrets.token_hex(8),
        "applied": [],
        "session_type": _kind(document, "session_type", str) or SessionType.AGENT.value,
        "application_name": document.get("application_name"),
        "session_viewer_password": document.get("session_viewer_password") or new_password(),
        "created_at": parse_date(document.get("created_at") or now),
        "metadata": metadata,
        COUNTER: metadata_size(metadata),
        "feedbacks": [dated(item, "created_at") for item in feedbacks],
        "guardrail_events": [dated(item, "timestamp") for item in events],
        "multi_agents": {
            encode_name(decode_name(key)): values.encode(values.decode(state), where="multi-agent state", foreign=True)
            for key, state in graphs.items()
        },
        "agents": agents,
        "summary": {
            **new_summary(),
            "agents": len(agents),
            "messages": sum(len(agent["messages"]) for agent in agents.values()),
            "feedbacks": len(feedbacks),
            "ratings": count_ratings(feedbacks),
            "usage": _total(agent["usage"] for agent in agents.values()),
        },
        "errors": [],
        **first_title({key: agent["messages"] for key, agent in agents.items()}),
        **({"legacy": aside} if aside else {}),
    }
    read = ("updated_at", "schema_version", "incarnation")
    seen = {name: document.get(name, {"$exists": False}) for name in read}
    fields["live_bytes"] = len(bson.encode({"": [agents, fields["feedbacks"], fields["guardrail_events"]]}))
    names = _SESSION_FIELDS if ttl_of(document) is not None else (*_SESSION_FIELDS, "ttl_s")
    gone = {name: "" for name in names if name in document and name not in fields}
    update: dict[str, Any] = {"$set": {**fields, "updated_at": now}}
    return {"_id": document["_id"], **seen}, {**update, "$unset": gone} if gone else update


def upgrade_from_1(
    document: Mapping[str, Any], feedbacks: Iterable[Any], messages: Mapping[str, Iterable[Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the guard and the update that bring a document of version 1 into today's form.

    The guard matches only the revision that was read.

    Args:
        document: The document.
        feedbacks: All its feedbacks, sealed ones included.
        messages: The first messages of its agents, by their keys.
    """
    guard = {name: document.get(name) for name in ("_id", "incarnation", "schema_version", "revision")}
    fields = {"schema_version": SCHEMA_VERSION, "errors": [], "summary.errors": 0, **first_title(messages)}
    return guard, {"$set": {**fields, "summary.ratings": count_ratings(feedbacks)}}


def count_ratings(feedbacks: Iterable[Any]) -> dict[str, int]:
    """Return how many feedbacks have which rating: `{"up": n, "down": n, "other": n}`."""
    counts = dict.fromkeys(RATINGS, 0)
    for feedback in feedbacks:
        counts[rating_of(feedback) if isinstance(feedback, Mapping) else "other"] += 1
    return counts


def first_title(messages: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """Return the fields of the title that stored messages give a session: of the earliest that a person said.

    Args:
        messages: The first messages of the agents, by their keys.
    """
    found: list[tuple[datetime, str, int, str]] = []
    for key, items in messages.items():
        for message in items:
            if not isinstance(message, Mapping) or not isinstance(message.get("message_id"), int):
                continue
            if (title := title_of(message)) is not None:
                found.append((parse_date(message.get("created_at")), key, message["message_id"], title))
                break
    if not found:
        return {}
    _, key, message_id, title = min(found)
    return {"title": title, "title_of": {"agent": key, "message_id": message_id}}


def _meaning_something_else(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an older tool's document whose names, or whose kinds of value, are taken today."""
    found = {name: document[name] for name in _SESSION_FIELDS if document.get(name) is not None}
    for name, expected in (
        ("session_type", str),
        ("metadata", dict),
        ("feedbacks", list),
        ("guardrail_events", list),
        ("multi_agents", dict),
    ):
        if document.get(name) is not None and not isinstance(document[name], expected):
            found[name] = document[name]
    if document.get("ttl_s") is not None and ttl_of(document) is None:
        found["ttl_s"] = document["ttl_s"]
    if document.get("created_at") is not None and read_date(document["created_at"]) is None:
        found["created_at"] = document["created_at"]
    return found


def _kind(document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document.get(name)
    return value if isinstance(value, kind) else kind()


def _total(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            if isinstance(count, int | float):
                total[name] = total.get(name, 0) + count
    return total


def _upgraded_agents(raw_agents: object, session_id: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an older tool's agents in today's form, and what stood among them and is none."""
    agents, rest = split_agents(raw_agents, legacy=True)
    return {agent.key: _upgraded_agent(agent, session_id, now) for agent in agents.values()}, rest


def _upgraded_agent(agent: StoredAgent, session_id: str, now: datetime) -> dict[str, Any]:
    messages: list[Any] = []
    for raw, message in zip(agent.raw_messages, agent.messages(), strict=True):
        if isinstance(message, CorruptMessageError):
            messages.append(raw)
        else:
            messages.append(_reencoded(message, stable_tracking_id(session_id, agent.agent_id, message["message_id"])))
    data = {**agent.data, "agent_id": values.encode(agent.agent_id)}
    for name, state in zip(STATE_FIELDS, agent.states(), strict=True):
        data[name] = values.encode(state, where=name, foreign=True)
    data.setdefault("model", None)
    data.setdefault("system_prompt", None)
    for name in ("created_at", "updated_at"):
        data[name] = iso_date(data.get(name) or now)
    others = dict(agent.raw)
    set_aside(others, _AGENT_FIELDS)
    if "agent_data" in agent.raw and not isinstance(agent.raw["agent_data"], Mapping | None):
        others["legacy"] = {**others.get("legacy", {}), "agent_data": agent.raw["agent_data"]}
    return {
        **others,
        "agent_data": data,
        "created_at": parse_date(agent.raw.get("created_at") or now),
        "updated_at": parse_date(agent.raw.get("updated_at") or now),
        "next_message_id": agent.next_message_id,
        "redactions": 0,
        "archive": new_archive(),
        "usage": usage_of_messages(agent),
        "messages": messages,
    }


def _reencoded(message: dict[str, Any], tracking_id: str) -> dict[str, Any]:
    for key in ("content", "metadata", "extra"):
        if key in message:
            value = values.decode(message[key])
            message[key] = encode_content(value) if key == "content" else values.encode(value, where=key, foreign=True)
    if "redact_message" in message:
        redact = message["redact_message"]
        message["redact_message"] = {**redact, "content": encode_content(values.decode(redact["content"]))}
    # Strands gives an id to each message that has none when the agent is next invoked; a resumed one needs the same.
    if not message.get("tracking_id"):
        message["tracking_id"] = tracking_id
    return message


def usage_of_messages(agent: StoredAgent) -> dict[str, Any]:
    """Return running totals out of the metrics that older tools stored with messages.

    Strands accumulates over the life of an Agent object, so within one run the last message holds the total, and a
    count that falls marks the next run. Flat counts are those of their message.
    """
    totals: dict[str, Any] = {}
    previous: dict[tuple[str, ...], float] = {}
    for raw, message in zip(agent.raw_messages, agent.messages(), strict=True):
        if isinstance(message, CorruptMessageError):
            continue
        accumulates = "event_loop_metrics" in raw
        for path, count in metric_counts(message.get("event_loop_metrics")):
            before = previous.get(path, 0) if accumulates else 0
            *parents, name = path
            target = totals
            for parent in parents:
                target = target.setdefault(parent, {})
            target[name] = target.get(name, 0) + (count - before if count >= before else count)
            if accumulates:
                previous[path] = count
    return totals


def metric_counts(metrics: object) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the counts of a message's metrics, by their path in an agent's totals."""
    usage, latency, cycles = (
        _section(metrics, name) for name in ("accumulated_usage", "accumulated_metrics", "cycle_metrics")
    )
    named = {**usage, "latencyMs": latency.get("latencyMs"), "modelCalls": cycles.get("cycle_count")}
    for name, count in named.items():
        if _is_number(count):
            yield (name,), count
    for tool, counts in _section(metrics, "tool_usage").items():
        for name in _TOOL_COUNTS if isinstance(counts, Mapping) else ():
            if _is_number(counts.get(name)):
                yield ("tools", encode_name(decode_name(tool)), name), counts[name]


def _section(metrics: object, name: str) -> Mapping[str, Any]:
    section = metrics.get(name) if isinstance(metrics, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
