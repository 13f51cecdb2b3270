"""How a session document of an older form becomes one of today's.

Version 0 is what other tools wrote, and what is only partly this library's; version 1 lacks a title, the errors of
failed turns, and the counts of ratings and errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ..errors import CorruptMessageError
from . import paths, values
from .agents import STATE_FIELDS, StoredAgent, is_of_an_older_tool, new_agent, split_agents
from .fields import FIELDS
from .messages import dated, encode_content, iso_date, parse_date, read_date, set_aside, stable_tracking_id
from .metadata import COUNTER, metadata_size
from .names import decode_name, encode_name
from .sessions import RATINGS, SCHEMA_VERSION, new_session, rating_of, ttl_of
from .titles import title_of
from .totals import total_usage, usage_of_messages

_NEW_FIELDS: Final = tuple(field.name for field in FIELDS if field.is_new)
"""Fields of a session whose names another tool may have used for something else."""

_KINDS: Final = {
    paths.SESSION_TYPE: str,
    paths.METADATA: dict,
    paths.FEEDBACKS: list,
    paths.GUARDRAIL_EVENTS: list,
    paths.MULTI_AGENTS: dict,
}
"""What a document of an older tool holds under names that still mean the same."""

_AGENT_FIELDS = (
    paths.WINDOW,
    paths.WINDOW_HEAD,
    paths.REDACTIONS,
    paths.ARCHIVED_COUNT,
    paths.ARCHIVE,
    paths.USAGE,
    paths.LEGACY,
)


def upgrade(document: Mapping[str, Any], now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the guard and the update that bring an older tool's document into today's form.

    Fields that the library does not know stay as they are; those of a name that means something else today move into
    the field `legacy`. The guard matches only the version that was read, so what another writer adds meanwhile is
    never overwritten.
    """
    session_id = str(document["_id"])
    found, other_agents = split_agents(document.get(paths.AGENTS), legacy=True)
    agents = {agent.key: _upgraded_agent(agent, session_id, now) for agent in found.values()}
    metadata, graphs = (paths.object_at(document, name) for name in (paths.METADATA, paths.MULTI_AGENTS))
    feedbacks, events = (paths.list_at(document, name) for name in (paths.FEEDBACKS, paths.GUARDRAIL_EVENTS))
    session_type = document.get(paths.SESSION_TYPE)
    aside = _meaning_something_else(document) | ({paths.AGENTS: other_agents} if other_agents else {})
    new = new_session(session_id, now, application_name=document.get(paths.APPLICATION_NAME))
    fields = {
        **{name: value for name, value in new.items() if name != "_id"},
        paths.SESSION_TYPE: session_type if session_type and isinstance(session_type, str) else new[paths.SESSION_TYPE],
        paths.VIEWER_PASSWORD: document.get(paths.VIEWER_PASSWORD) or new[paths.VIEWER_PASSWORD],
        paths.CREATED_AT: parse_date(document.get(paths.CREATED_AT) or now),
        paths.METADATA: metadata,
        COUNTER: metadata_size(metadata),
        paths.FEEDBACKS: [dated(item, paths.CREATED_AT) for item in feedbacks],
        paths.GUARDRAIL_EVENTS: [dated(item, paths.TIMESTAMP) for item in events],
        paths.MULTI_AGENTS: {
            encode_name(decode_name(key)): values.encode(values.decode(state), where="multi-agent state", foreign=True)
            for key, state in graphs.items()
        },
        paths.AGENTS: agents,
        paths.SUMMARY: {
            **new[paths.SUMMARY],
            paths.AGENTS: len(agents),
            paths.MESSAGES: sum(len(agent[paths.MESSAGES]) for agent in agents.values()),
            paths.FEEDBACKS: len(feedbacks),
            paths.RATINGS: count_ratings(feedbacks),
            paths.USAGE: total_usage(agent[paths.USAGE] for agent in agents.values()),
        },
        **first_title({key: agent[paths.MESSAGES] for key, agent in agents.items()}),
        **({paths.LEGACY: aside} if aside else {}),
    }
    read = (paths.UPDATED_AT, paths.SCHEMA_VERSION, paths.INCARNATION)
    seen = {name: document.get(name, {"$exists": False}) for name in read}
    fields[paths.LIVE_BYTES] = values.encoded_size([agents, fields[paths.FEEDBACKS], fields[paths.GUARDRAIL_EVENTS]])
    names = _NEW_FIELDS if ttl_of(document) is not None else (*_NEW_FIELDS, paths.TTL_S)
    gone = {name: "" for name in names if name in document and name not in fields}
    return {"_id": document["_id"], **seen}, {"$set": fields, **({"$unset": gone} if gone else {})}


def upgrade_agent(
    session_id: str, key: str, raw: Mapping[str, Any], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the guard and the update that bring an agent into today's form, in a document that has that form.

    An older tool that still runs may add one. The guard matches only what was read of it. Agents in it, whose ids have
    dots, stay where they are.
    """
    messages = raw.get(paths.MESSAGES)
    guard = {
        paths.agent(key, paths.NEXT_MESSAGE_ID): {"$exists": False},
        paths.agent(key, paths.ARCHIVE): {"$exists": False},
        paths.agent(key, paths.UPDATED_AT): raw.get(paths.UPDATED_AT, {"$exists": False}),
        paths.messages(key): {"$size": len(messages)} if isinstance(messages, list) else messages,
    }
    return guard, _agent_update(session_id, key, raw, now)


def move_agent(
    session_id: str, key: str, top: tuple[str, Mapping[str, Any]], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return what `upgrade_agent` does, of an agent whose id has dots: an older tool made nested fields of its parts.

    Args:
        session_id: The session.
        key: The key that the agent is to have.
        top: The name of the field that the parts begin with, and what stands there.
        now: The present time.

    Returns:
        None where there is no such agent.
    """
    name, raw = top
    below = decode_name(key).removeprefix(f"{name}.").split(".")
    nested = paths.at(raw, ".".join(below))
    if not isinstance(nested, Mapping) or not is_of_an_older_tool(nested):
        return None
    # What only led to it goes with it, or it would be an agent by itself.
    while below and len(paths.at(raw, ".".join(below[:-1])) if below[1:] else raw) == 1:
        below.pop()
    gone = ".".join([paths.AGENTS, name, *below])
    guard = {paths.agent(key): {"$exists": False}, f"{paths.AGENTS}.{name}": {"$eq": raw}}
    return guard, {**_agent_update(session_id, key, nested, now), "$unset": {gone: ""}}


def _agent_update(session_id: str, key: str, raw: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the update that stores an agent of an older tool in today's form, and counts it."""
    agent = _upgraded_agent(StoredAgent(decode_name(key), key, {**raw}, legacy=True), session_id, now)
    usage = {paths.summary_usage(name): n for name, n in total_usage([agent[paths.USAGE]]).items()}
    counts = {paths.SUMMARY_AGENTS: 1, paths.SUMMARY_MESSAGES: len(agent[paths.MESSAGES]), paths.REVISION: 1}
    increments = {**counts, **usage, paths.LIVE_BYTES: values.encoded_size(agent[paths.MESSAGES])}
    return {"$set": {paths.agent(key): agent}, "$inc": increments}


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
    guard = {name: document.get(name) for name in ("_id", paths.INCARNATION, paths.SCHEMA_VERSION, paths.REVISION)}
    fields = {paths.SCHEMA_VERSION: SCHEMA_VERSION, paths.ERRORS: [], paths.SUMMARY_ERRORS: 0, **first_title(messages)}
    return guard, {"$set": {**fields, paths.SUMMARY_RATINGS: count_ratings(feedbacks)}}


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
            if not isinstance(message, Mapping) or not isinstance(message.get(paths.MESSAGE_ID), int):
                continue
            if (title := title_of(message)) is not None:
                found.append((parse_date(message.get(paths.CREATED_AT)), key, message[paths.MESSAGE_ID], title))
                break
    if not found:
        return {}
    _, key, message_id, title = min(found)
    return {paths.TITLE: title, paths.TITLE_OF: {paths.AGENT: key, paths.MESSAGE_ID: message_id}}


def _meaning_something_else(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an older tool's document whose names, or whose kinds of value, are taken today."""
    kept = {name: value for name, value in document.items() if value is not None}
    return {
        name: value
        for name, value in kept.items()
        if name in _NEW_FIELDS
        or not isinstance(value, _KINDS.get(name, object))
        or (name == paths.TTL_S and ttl_of(document) is None)
        or (name == paths.CREATED_AT and read_date(value) is None)
    }


def _upgraded_agent(agent: StoredAgent, session_id: str, now: datetime) -> dict[str, Any]:
    messages: list[Any] = []
    for raw, message in zip(agent.raw_messages, agent.messages(), strict=True):
        if isinstance(message, CorruptMessageError):
            messages.append(raw)
        else:
            messages.append(
                _reencoded(message, stable_tracking_id(session_id, agent.agent_id, message[paths.MESSAGE_ID]))
            )
    new = new_agent(agent.agent_id, now)
    data = {**new[paths.AGENT_DATA], **agent.data, paths.AGENT_ID: values.encode(agent.agent_id)}
    for name, state in zip(STATE_FIELDS, agent.states(), strict=True):
        data[name] = values.encode(state, where=name, foreign=True)
    for name in (paths.CREATED_AT, paths.UPDATED_AT):
        data[name] = iso_date(data.get(name) or now)
    others = dict(agent.raw)
    set_aside(others, _AGENT_FIELDS)
    if paths.AGENT_DATA in agent.raw and not isinstance(agent.raw[paths.AGENT_DATA], Mapping | None):
        others[paths.LEGACY] = {**others.get(paths.LEGACY, {}), paths.AGENT_DATA: agent.raw[paths.AGENT_DATA]}
    return {
        **others,
        **new,
        paths.AGENT_DATA: data,
        paths.CREATED_AT: parse_date(agent.raw.get(paths.CREATED_AT) or now),
        paths.UPDATED_AT: parse_date(agent.raw.get(paths.UPDATED_AT) or now),
        paths.NEXT_MESSAGE_ID: agent.next_message_id,
        paths.USAGE: usage_of_messages(agent),
        paths.MESSAGES: messages,
    }


def _reencoded(message: dict[str, Any], tracking_id: str) -> dict[str, Any]:
    for key in ("content", "metadata", paths.EXTRA):
        if key in message:
            value = values.decode(message[key])
            message[key] = encode_content(value) if key == "content" else values.encode(value, where=key, foreign=True)
    if paths.REDACT_MESSAGE in message:
        redact = message[paths.REDACT_MESSAGE]
        message[paths.REDACT_MESSAGE] = {**redact, "content": encode_content(values.decode(redact["content"]))}
    # Strands gives an id to each message that has none when the agent is next invoked; a resumed one needs the same.
    if not message.get("tracking_id"):
        message["tracking_id"] = tracking_id
    return message
