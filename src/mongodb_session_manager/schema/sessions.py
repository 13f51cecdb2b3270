"""Session documents: how a new one looks, how any stored one is read, and how an older one becomes today's."""

from __future__ import annotations

import os
import random
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import bson
from strands.types.session import Session, SessionType

from . import values
from .agents import StoredAgent, find_agents, upgraded_agents
from .messages import iso_date, parse_date, read_date
from .metadata import COUNTER, metadata_size
from .names import decode_name, encode_name

T = TypeVar("T")

SCHEMA_VERSION = 1
TOKEN_RING = 100
"""How many batch tokens a document remembers: a batch may be overtaken by so many later ones and still count once."""

KEY_RING = 200
"""How many idempotency keys a document remembers."""

_PASSWORD_ALPHABET = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32
_HEAVY_FIELDS = (
    "metadata",
    "feedbacks",
    "guardrail_events",
    "applied",
    "session_viewer_password",
    "idempotency_keys",
    "legacy",
)
LOAD_PROJECTION: dict[str, Any] = dict.fromkeys(_HEAVY_FIELDS, 0)
"""What a session manager needs of a document; not what only grows."""

_NEW_FIELDS = ("incarnation", "applied", "summary", "lease", "legacy", "live_bytes")
_SESSION_FIELDS = (
    "session_id",
    "schema_version",
    "incarnation",
    "session_type",
    "application_name",
    "created_at",
    "updated_at",
    "ttl_s",
    "multi_agents",
    "summary",
    "feedbacks_sealed",
    "guardrail_events_sealed",
    "revision",
    "live_bytes",
    "has_children",
    "has_payloads",
    "children_expire_at",
)


def load_projection(agent_ids: Iterable[str] | None) -> dict[str, Any]:
    """Return the projection that loads a session, with all agents (None) or only some."""
    if agent_ids is None:
        return LOAD_PROJECTION
    return dict.fromkeys((*_SESSION_FIELDS, *(f"agents.{encode_name(agent_id)}" for agent_id in agent_ids)), 1)


@dataclass
class StoredSession:
    """A session document as loaded.

    Attributes:
        session_id: Its id.
        incarnation: Random value that tells it from an earlier session of the same id; None in older documents.
        ttl_s: Seconds that it lives after its last activity, None for ever.
        agents: Its agents by id, those that were loaded.
        multi_agents: State of graphs and swarms by id, encoded.
        is_current: Whether the document has today's form.
        agent_ids: The ids that loading was narrowed to, None when all agents were loaded.
        live_bytes: About how many bytes of messages, feedbacks and guardrail events stand in the document.
        revision: How many writes there were.
        has_children: Whether segments or payloads may belong to it.
        has_payloads: Whether payloads may.
        payloads: Large bytes that its graphs and swarms refer to, by name.
        children_expire_at: The moment from which they may expire; None for never.
    """

    session_id: str
    session_type: str
    incarnation: str | None
    created_at: datetime
    updated_at: datetime
    application_name: str | None = None
    ttl_s: float | None = None
    agents: dict[str, StoredAgent] = field(default_factory=dict)
    multi_agents: dict[str, Any] = field(default_factory=dict)
    is_current: bool = True
    agent_ids: frozenset[str] | None = None
    live_bytes: int = 0
    revision: int = 0
    has_children: bool = False
    has_payloads: bool = False
    payloads: dict[str, bytes] = field(default_factory=dict)
    children_expire_at: datetime | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], agent_ids: Iterable[str] | None = None) -> StoredSession:
        """Read a stored document of any age."""
        raw_graphs = document.get("multi_agents")
        graphs = raw_graphs if isinstance(raw_graphs, Mapping) else {}
        return cls(
            session_id=str(document["_id"]),
            session_type=str(document.get("session_type") or SessionType.AGENT.value),
            incarnation=document.get("incarnation") if "schema_version" in document else None,
            created_at=parse_date(document.get("created_at")),
            updated_at=parse_date(document.get("updated_at")),
            application_name=document.get("application_name"),
            ttl_s=document.get("ttl_s"),
            agents=find_agents(document.get("agents"), legacy="schema_version" not in document),
            multi_agents={decode_name(key): value for key, value in graphs.items()},
            is_current="schema_version" in document,
            agent_ids=None if agent_ids is None else frozenset(agent_ids),
            live_bytes=_live_bytes(document),
            revision=int(document.get("revision") or 0),
            has_children=bool(document.get("has_children")),
            has_payloads=bool(document.get("has_payloads")) and "schema_version" in document,
            children_expire_at=document.get("children_expire_at"),
        )

    def session(self) -> Session:
        """Return Strands' record of the session."""
        return Session(self.session_id, SessionType.AGENT, iso_date(self.created_at), iso_date(self.updated_at))


def _live_bytes(document: Mapping[str, Any]) -> int:
    counted = document.get("live_bytes")
    # Older documents do not count them; what they hold beside them weighs little.
    return counted if isinstance(counted, int) and "schema_version" in document else len(bson.encode(document))


def new_session(
    session_id: str,
    now: datetime,
    *,
    session_type: str = SessionType.AGENT.value,
    application_name: str | None = None,
    ttl_s: float | None = None,
) -> dict[str, Any]:
    """Return the document of a new session."""
    return {
        "_id": session_id,
        "session_id": session_id,
        "schema_version": SCHEMA_VERSION,
        "incarnation": secrets.token_hex(8),
        "applied": [],
        "session_type": session_type,
        "application_name": application_name,
        "session_viewer_password": new_password(),
        "created_at": now,
        "updated_at": now,
        **expiry(now, ttl_s),
        **({} if ttl_s is None else {"ttl_s": ttl_s}),
        "metadata": {},
        COUNTER: 0,
        "summary": {"agents": 0, "messages": 0, "feedbacks": 0, "usage": {}},
        "live_bytes": 0,
        "feedbacks": [],
        "guardrail_events": [],
        "multi_agents": {},
        "agents": {},
    }


def expiry(now: datetime, ttl_s: float | None) -> dict[str, Any]:
    """Return the field that lets the session expire `ttl_s` seconds from now; nothing for one that is kept for ever."""
    return {} if ttl_s is None else {"expires_at": now + timedelta(seconds=ttl_s)}


# Reading the system's randomness gives up the interpreter lock, which under load costs a turn in the queue for it.
# A token has to be unique, not secret, so a generator of our own does (users may seed the shared one of `random`).
_token_source = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_token_source.seed)


def new_token() -> str:
    """Return the random token that makes a batch count once."""
    return f"{_token_source.getrandbits(72):018x}"


def new_password() -> str:
    """Return a session viewer password: 32 letters and digits."""
    # One draw from the system for all of them, each still as likely as any other.
    number = secrets.randbelow(len(_PASSWORD_ALPHABET) ** _PASSWORD_LENGTH)
    letters = []
    for _ in range(_PASSWORD_LENGTH):
        number, index = divmod(number, len(_PASSWORD_ALPHABET))
        letters.append(_PASSWORD_ALPHABET[index])
    return "".join(letters)


def upgrade(document: Mapping[str, Any], now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the guard and the update that bring an older tool's document into today's form.

    Fields that the library does not know stay as they are; those of a name that means something else today move into
    the field `legacy`. The guard matches only the version that was read, so what another writer adds meanwhile is
    never overwritten.
    """
    session_id = str(document["_id"])
    agents, other_agents = upgraded_agents(document.get("agents"), session_id, now)
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
        "session_type": SessionType.AGENT.value,
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
            "agents": len(agents),
            "messages": sum(len(agent["messages"]) for agent in agents.values()),
            "feedbacks": len(feedbacks),
            "usage": _total(agent["usage"] for agent in agents.values()),
        },
        **({"legacy": aside} if aside else {}),
    }
    seen = {"updated_at": document["updated_at"]} if "updated_at" in document else {"updated_at": {"$exists": False}}
    fields["live_bytes"] = len(bson.encode({"": [agents, fields["feedbacks"], fields["guardrail_events"]]}))
    return {"_id": document["_id"], "schema_version": {"$exists": False}, **seen}, {
        "$set": {**fields, "updated_at": now},
        **({"$unset": {"lease": ""}} if "lease" in document else {}),
    }


def _meaning_something_else(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an older tool's document whose names, or whose kinds of value, are taken today."""
    found = {name: document[name] for name in _NEW_FIELDS if document.get(name) is not None}
    kind = document.get("session_type")
    if kind not in (None, SessionType.AGENT.value, "default"):
        found["session_type"] = kind
    for name, expected in (("metadata", dict), ("feedbacks", list), ("guardrail_events", list), ("multi_agents", dict)):
        if document.get(name) is not None and not isinstance(document[name], expected):
            found[name] = document[name]
    if document.get("created_at") is not None and read_date(document["created_at"]) is None:
        found["created_at"] = document["created_at"]
    return found


def _kind(document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document.get(name)
    return value if isinstance(value, kind) else kind()


def dated(item: Any, name: str) -> Any:
    """Return a feedback or guardrail event with the ISO string that older tools stored there as a date."""
    if not isinstance(item, Mapping) or not isinstance(item.get(name), str):
        return item
    return {**item, name: read_date(item[name]) or item[name]}


def _total(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            if isinstance(count, int | float):
                total[name] = total.get(name, 0) + count
    return total
