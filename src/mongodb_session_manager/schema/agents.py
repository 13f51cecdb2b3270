"""Stored agent <-> Strands agent: `agents.<key>` of a session document."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from strands.types.session import SessionAgent

from ..errors import CorruptMessageError, SessionStoreError
from . import paths, values
from .messages import flatten_message, iso_date, read_date
from .names import decode_name, encode_name
from .numbers import is_count, is_integer, stored_count
from .payloads import MissingPayloadError, restore
from .windows import contains, is_window

STATE_FIELDS = (paths.STATE, paths.MANAGER_STATE, paths.INTERNAL_STATE)
CONFIG_FIELDS = (paths.MODEL, paths.SYSTEM_PROMPT)
_ID_OF_AGENT = paths.agent_data(paths.AGENT_ID)
_AGENT_FIELDS = frozenset(
    {
        paths.AGENT_DATA,
        paths.MESSAGES,
        paths.CREATED_AT,
        paths.UPDATED_AT,
        paths.NEXT_MESSAGE_ID,
        paths.WINDOW,
        paths.WINDOW_HEAD,
        paths.REDACTIONS,
        paths.ARCHIVED_COUNT,
        paths.ARCHIVE,
        paths.USAGE,
    }
)


@dataclass
class StoredAgent:
    """One agent as it stands in a session document.

    Attributes:
        agent_id: The id as users know it.
        key: The field under `agents` that holds it.
        raw: The stored fields.
        next_message_id: Number of the next message.
        data: What `agent_data` holds.
        legacy: An older tool wrote it.
        payloads: Large bytes that it refers to, by name; None for an agent of a session without any.
    """

    agent_id: str
    key: str
    raw: dict[str, Any]
    next_message_id: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    legacy: bool = False
    payloads: dict[str, bytes] | None = None

    def __post_init__(self) -> None:
        """Derive what older documents lack."""
        self.data = dict(paths.object_at(self.raw, paths.AGENT_DATA))
        stored = self.raw.get(paths.NEXT_MESSAGE_ID)
        counter = stored if is_integer(stored) else None
        # Older documents do not hold that number.
        count = 0 if counter is not None and not self.legacy else max(self.message_numbers, default=-1) + 1
        self.next_message_id = max(counter or 0, count)

    @property
    def raw_messages(self) -> list[Any]:
        """The stored messages in whatever form they have; what should be a list and is none counts as one of them."""
        messages = self.raw.get(paths.MESSAGES)
        return messages if isinstance(messages, list) else [messages] if messages else []

    @property
    def message_numbers(self) -> list[int]:
        """The message ids, by position where an older tool left gaps in order, repeats or none at all."""
        found = [raw.get(paths.MESSAGE_ID) if isinstance(raw, Mapping) else None for raw in self.raw_messages]
        result: list[int] = []
        for number in found:
            if not is_integer(number) or number < 0 or (result and number <= result[-1]):
                first = max(found[0], 0) if is_integer(found[0]) else 0
                return list(range(first, first + len(found)))
            result.append(number)
        return result

    @property
    def window(self) -> list[list[int | None]] | None:
        """Ranges of the message ids that the agent held; None in documents without."""
        window = None if self.legacy else self.raw.get(paths.WINDOW)
        return window if is_window(window) else None

    @property
    def odd_field(self) -> str | None:
        """The path of a field of another kind than what is written there; None where there is none."""
        for name, is_right in _WRITTEN:
            value = self.raw.get(name)
            if value is not None and not self.legacy and not is_right(value):
                return paths.agent(self.key, name)
        return None

    @property
    def window_head(self) -> int:
        """How many stored messages stood before what the conversation manager put in."""
        return 0 if self.legacy else stored_count(self.raw.get(paths.WINDOW_HEAD))

    def messages(self, window: list[list[int | None]] | None = None) -> Iterator[dict[str, Any] | CorruptMessageError]:
        """Yield the stored messages, oldest first, in today's form; an error in place of one that cannot be read.

        Args:
            window: Only those whose number lies in one of these ranges; the others are not even looked at.
        """
        fallback = read_date(self.raw.get(paths.CREATED_AT))
        for raw, number in zip(self.raw_messages, self.message_numbers, strict=True):
            if window is not None and not contains(number, window):
                continue
            try:
                document = flatten_message(
                    raw, agent_id=self.agent_id, position=number, legacy=self.legacy, fallback_date=fallback
                )
            except CorruptMessageError as error:
                yield error
            else:
                document[paths.MESSAGE_ID] = number
                yield document

    def session_agent(self) -> SessionAgent:
        """Return Strands' record of the agent; `conversation_manager_state` is empty where an older tool left it so."""
        state, manager_state, internal = self.states()
        return SessionAgent(
            agent_id=self.agent_id,
            state=state,
            conversation_manager_state=manager_state,
            _internal_state=internal,
            created_at=iso_date(self.data.get(paths.CREATED_AT)),
            updated_at=iso_date(self.data.get(paths.UPDATED_AT)),
        )

    def states(self) -> list[dict[str, Any]]:
        """Return the values of `STATE_FIELDS`; what is missing or of another kind is empty.

        Raises:
            SessionStoreError: Large parts of one are missing.
        """
        return [self._state(name) for name in STATE_FIELDS]

    def _state(self, name: str) -> dict[str, Any]:
        stored = self.data.get(name) or {}
        if self.payloads is not None:
            try:
                stored = restore(stored, self.payloads)
            except MissingPayloadError:
                raise SessionStoreError(
                    f"agent {self.agent_id!r} cannot be restored: bytes of its {name} that are stored outside the "
                    "session document are missing or damaged"
                ) from None
        decoded = values.decode(stored)
        if self.legacy:
            decoded = values.decode_legacy_bytes(decoded)
        return decoded if isinstance(decoded, dict) else {}

    def config(self) -> dict[str, Any]:
        """Return the recorded configuration: `{agent_id, model, system_prompt, prompt_metadata}`."""
        return {
            paths.AGENT_ID: self.agent_id,
            paths.MODEL: values.decode(self.data.get(paths.MODEL)),
            paths.SYSTEM_PROMPT: values.decode(self.data.get(paths.SYSTEM_PROMPT)),
            paths.PROMPT_METADATA: values.decode(self.data.get(paths.PROMPT_METADATA)),
        }


_WRITTEN: tuple[tuple[str, Callable[[object], bool]], ...] = (
    (paths.AGENT_DATA, lambda value: isinstance(value, Mapping)),
    (paths.NEXT_MESSAGE_ID, is_count),
    (paths.WINDOW, is_window),
)


def find_agents(raw_agents: object, *, legacy: bool = False) -> dict[str, StoredAgent]:
    """Return the agents of a document by their ids.

    Older tools stored agents under raw ids; one with dots became nested fields (`agents.sales.eu`), which are found
    by their shape.

    Args:
        raw_agents: The field `agents`.
        legacy: An older tool wrote it: ids are raw keys, and each agent is yet to move to an encoded one.
    """
    return split_agents(raw_agents, legacy=legacy)[0]


def split_agents(raw_agents: object, *, legacy: bool) -> tuple[dict[str, StoredAgent], dict[str, Any]]:
    """Return the agents, and what else stands among them."""
    if not isinstance(raw_agents, Mapping):
        return {}, {} if raw_agents is None else {paths.AGENTS: raw_agents}
    found: dict[str, StoredAgent] = {}
    rest: dict[str, Any] = {}
    for key, value in raw_agents.items():
        left = _take_agents((key,), value, found, legacy=legacy)
        if left is not None:
            rest[key] = left
    return found, rest


def _take_agents(path: tuple[str, ...], node: object, found: dict[str, StoredAgent], *, legacy: bool) -> object:
    """Move the agents in a node to `found`, and return what is left of it; None when nothing is."""
    if not isinstance(node, Mapping):
        return node
    is_agent = _is_agent(node)  # Which the caller knows of a node below another one.
    own: dict[str, Any] = {}
    holds_agents = False
    for key, value in node.items():
        if isinstance(value, Mapping) and not (is_agent and key in _AGENT_FIELDS) and _holds_agent((*path, key), value):
            holds_agents = True
            left = _take_agents((*path, key), value, found, legacy=legacy)
            if left is not None:
                own[key] = left
        else:
            own[key] = value
    # A child of `agents` is an agent, whatever it lacks, unless it only leads to others.
    if is_agent or (len(path) == 1 and not holds_agents):
        _add_agent(path, own, found, legacy=legacy)
        return None
    return own or None


def _add_agent(path: tuple[str, ...], raw: dict[str, Any], found: dict[str, StoredAgent], *, legacy: bool) -> None:
    stored_id = values.decode(paths.at(raw, _ID_OF_AGENT))
    if isinstance(stored_id, str):
        stored_id = str.__str__(stored_id)  # code is a string for PyMongo, and no key of a dict
    fallback = ".".join(path) if legacy else decode_name(".".join(path))
    base = agent_id = stored_id if isinstance(stored_id, str) and stored_id else fallback
    copy_number = 2
    while agent_id in found:
        agent_id, copy_number = f"{base} ({copy_number})", copy_number + 1
    key = encode_name(agent_id) if legacy or len(path) > 1 else path[0]
    found[agent_id] = StoredAgent(agent_id, key, raw, legacy=legacy or is_of_an_older_tool(raw))


def is_of_an_older_tool(raw: Mapping[str, Any]) -> bool:
    """Tell whether an older tool stored an agent, in whatever document."""
    return paths.NEXT_MESSAGE_ID not in raw and paths.ARCHIVE not in raw


def _is_agent(value: Mapping[str, Any]) -> bool:
    return paths.AGENT_DATA in value or isinstance(value.get(paths.MESSAGES), list)


def _holds_agent(path: tuple[str, ...], value: Mapping[str, Any]) -> bool:
    """Tell whether there is an agent here or further down whose id has dots, which made its parts nested fields."""
    if isinstance(stored_id := paths.at(value, _ID_OF_AGENT), str):
        # What only looks like an agent, such as a copy that somebody keeps inside another one, has another id.
        if stored_id == ".".join(path):
            return True
    elif _is_agent(value):
        return True
    return any(isinstance(item, Mapping) and _holds_agent((*path, key), item) for key, item in value.items())


def checked_states(session_agent: SessionAgent) -> dict[str, dict[str, Any]]:
    """Return the values of `STATE_FIELDS` by their names; None counts as an empty one.

    Raises:
        TypeError: One is no dict, which could not be restored.
    """
    states = {name: getattr(session_agent, name) for name in STATE_FIELDS}
    for name, state in states.items():
        if state is not None and not isinstance(state, Mapping):
            raise TypeError(f"invalid {name}: it must be a dict, not {type(state).__name__}")
    return {name: state or {} for name, state in states.items()}


def new_agent(agent_id: str, now: datetime) -> dict[str, Any]:
    """Return the fields of an agent that is not stored yet, without state and messages."""
    return {
        paths.AGENT_DATA: {
            paths.AGENT_ID: values.encode(agent_id),
            paths.STATE: {},
            paths.MANAGER_STATE: {},
            paths.INTERNAL_STATE: {},
            paths.CREATED_AT: iso_date(now),
            paths.UPDATED_AT: iso_date(now),
            paths.MODEL: None,
            paths.SYSTEM_PROMPT: None,
        },
        paths.CREATED_AT: now,
        paths.UPDATED_AT: now,
        paths.NEXT_MESSAGE_ID: 0,
        paths.REDACTIONS: 0,
        paths.ARCHIVE: new_archive(),
        paths.USAGE: {},
        paths.MESSAGES: [],
    }


def new_archive() -> dict[str, str]:
    """Return what tells the segments of an agent from those of an earlier one of the same id."""
    return {paths.ID: secrets.token_hex(8)}


def digest(value: object) -> str:
    """Return a short fingerprint of a configuration value, to tell whether the live one changed since."""
    return _digest_of_text(value) if type(value) is str else _digest(value)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


# Every request of an application asks for the same prompts and models.
_digest_of_text = lru_cache(maxsize=64)(_digest)
