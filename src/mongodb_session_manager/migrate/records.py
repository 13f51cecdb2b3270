"""What a source gives: sessions, their agents, and messages one by one, in the stored form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..errors import CorruptMessageError
from ..schema import paths, values
from ..schema.agents import STATE_FIELDS, new_agent
from ..schema.messages import (
    MESSAGE_LIMIT_BYTES,
    flatten_message,
    iso_date,
    now,
    parse_date,
    read_date,
    session_message,
    stable_tracking_id,
)
from ..schema.payloads import offload_state, take
from .digests import Digest

Document = dict[str, Any]

UNSTORABLE = (TypeError, ValueError, RecursionError)
"""Errors about a value that cannot be stored; the last is about one that is nested deeper than Python's stack."""


@dataclass(frozen=True)
class Problem:
    """Something that could not be taken.

    Attributes:
        session_id: The session.
        reason: Why; never content.
        agent_id: The agent; None for the session as a whole.
        message: Which message: its number or its place in the source; None for the agent as a whole.
    """

    session_id: str
    reason: str
    agent_id: str | None = None
    message: str | None = None


class UnreadableSourceError(Exception):
    """Something in the source is not what it should be; the reason never holds content."""


@dataclass
class SourceMessage:
    """A message in its stored form, the number that it has in the source included.

    Attributes:
        document: Its stored form.
        payloads: Large bytes that it refers to, by name.
        digested: What is compared after it was stored.
    """

    document: Document
    payloads: dict[str, bytes]
    digested: Any


@dataclass
class SourceAgent:
    """An agent of a source.

    Attributes:
        agent_id: Its id.
        fields: Its stored form without messages.
        payloads: Large bytes that its states refer to, by name.
        states: Its states as they were read.
        messages: Yields its messages, oldest first; a `Problem` in place of one that cannot be read.
    """

    agent_id: str
    fields: Document
    payloads: dict[str, bytes]
    states: list[Any]
    messages: Callable[[], AsyncIterator[SourceMessage | Problem]]


@dataclass
class SourceSession:
    """A session of a source.

    Attributes:
        session_id: Its id.
        created_at: When it was created, None where the source does not say.
        updated_at: When it was last active.
        session_type: Its type.
        agents: Its agents.
        multi_agents: States of graphs and swarms by id.
        fields: What else belongs into its document.
        problems: What could not be read of it.
    """

    session_id: str
    created_at: datetime | None = None
    updated_at: datetime | None = None
    session_type: str = "AGENT"
    agents: list[SourceAgent] = field(default_factory=list)
    multi_agents: dict[str, Any] = field(default_factory=dict)
    fields: Document = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class FoundSession:
    """A session that a source has found, to be read.

    Attributes:
        session_id: Its id.
        read: Returns the session, without its messages; raises `UnreadableSourceError` where it cannot be read.
    """

    session_id: str
    read: Callable[[], Awaitable[SourceSession]]


class Source(ABC):
    """Where sessions come from. Only read, never written.

    Attributes:
        kind: What the source is called in what is stored.
    """

    kind: str

    @abstractmethod
    def sessions(self) -> AsyncIterator[FoundSession]:
        """Yield its sessions, each once."""

    async def count(self) -> int | None:
        """Return how many sessions there are, None where only reading them would tell."""
        return None

    async def close(self) -> None:
        """Close what the source has opened."""
        return

    def check_apart_from(self, target: Any) -> None:
        """Raise `ValueError` where the source is the very collection that is migrated to."""
        return


def agent_of(record: Mapping[str, Any], agent_id: str) -> SourceAgent:
    """Return an agent out of Strands' record of it (`SessionAgent` as JSON), without messages yet."""
    agent = new_agent(agent_id, parse_date(record.get("created_at") or now()))
    agent["updated_at"] = parse_date(record.get("updated_at") or now())
    data = agent[paths.AGENT_DATA]
    states: list[Any] = []
    payloads: dict[str, bytes] = {}
    for name in STATE_FIELDS:
        state = values.decode_legacy_bytes(record.get(name) or {})
        states.append(state if isinstance(state, dict) else {})
        data[name], found = offload_state(values.encode(states[-1], where=f"agent {agent_id!r} {name}"))
        payloads |= found
    for name in ("created_at", "updated_at"):
        data[name] = iso_date(record.get(name) or data[name])
    return SourceAgent(agent_id, agent, payloads, states, nothing)


async def nothing() -> AsyncIterator[SourceMessage | Problem]:
    """Yield no messages."""
    found: tuple[SourceMessage | Problem, ...] = ()
    for message in found:
        yield message


def message_of(raw: object, session_id: str, agent_id: str, position: int, place: str) -> SourceMessage | Problem:
    """Return a message out of Strands' record of it (`SessionMessage` as JSON)."""
    try:
        flat = flatten_message(raw, agent_id=agent_id, position=position, legacy=True)
        flat.setdefault("tracking_id", stable_tracking_id(session_id, agent_id, position))
        if not flat["tracking_id"]:
            flat["tracking_id"] = stable_tracking_id(session_id, agent_id, position)
        return message_from(flat, position, encode=True)
    except CorruptMessageError as error:
        return Problem(session_id, str(error), agent_id, place)
    except UNSTORABLE as error:
        return Problem(session_id, f"{type(error).__name__}: it cannot be stored", agent_id, place)


def message_from(flat: Document, position: int, *, encode: bool) -> SourceMessage:
    """Return a message out of its flat form; `encode` says that its values are plain, not encoded yet."""
    if encode:
        for name in ("content", "metadata", "extra"):
            if name in flat:
                flat[name] = values.encode(flat[name], where=name)
        if paths.REDACT_MESSAGE in flat:
            flat[paths.REDACT_MESSAGE] = values.encode(flat[paths.REDACT_MESSAGE], where=paths.REDACT_MESSAGE)
    flat["message_id"] = position
    digested = Digest.message(session_message(flat, original=True))
    taken = take(flat)
    size = values.encoded_size(flat)
    if size > MESSAGE_LIMIT_BYTES and taken.take_rest():
        size = values.encoded_size(flat)
    if size > MESSAGE_LIMIT_BYTES:
        raise ValueError(f"it takes {size} bytes, and the limit is {MESSAGE_LIMIT_BYTES}")
    payloads = taken.named()
    if payloads:
        flat["payloads"] = sorted(payloads)
    return SourceMessage(flat, payloads, digested)


def newest(*dates: object) -> datetime | None:
    """Return the latest of some dates, of whatever form; None without any."""
    found = [date for date in map(read_date, dates) if date is not None]
    return max(found, default=None)
