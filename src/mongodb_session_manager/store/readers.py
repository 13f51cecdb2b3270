"""Reads parts of stored agents: only what is asked for of today's documents, older tools' as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from ..errors import CorruptMessageError, SessionNotFoundError
from ..schema import paths
from ..schema.agents import StoredAgent, find_agents
from ..schema.archives import Archive, SealedList, SealedPart
from ..schema.expressions import array
from ..schema.names import check_agent_id, check_session_id, encode_name
from ..schema.numbers import is_message_number, stored_count
from ..schema.payloads import names_in, payloads_of, restored_message
from ..schema.sessions import version_of
from ..schema.totals import usage_of_messages
from .payloads import PayloadStore, only_message
from .segments import MissingSegmentsError, Segments
from .store import SessionStore
from .updates import Document

_LOOKS = 3
_LARGEST_SLICE = 2**31 - 1
"""`$slice` takes 32 bits, as its place and as its length."""

_AGENT_PAIRS = {paths.AGENTS: {"$objectToArray": {"$ifNull": [f"${paths.AGENTS}", {}]}}}
_NO_OBJECT = 40390
"""Code of the server's error about something else in the place of the agents."""


@dataclass(frozen=True)
class AgentTotals:
    """What the session's summary counts of one agent, and the number of its next message.

    Attributes:
        messages: How many messages it has.
        sealed: What is sealed of them.
        next_message_id: The number of the next one.
        usage: Its running totals, None when it has none.
    """

    messages: int
    sealed: SealedPart
    next_message_id: int
    usage: Mapping[str, Any] | None


_Tail = list[Document | CorruptMessageError]


class AgentReader:
    """Agents of the sessions in one store. Without the session every method raises `SessionNotFoundError`."""

    def __init__(self, store: SessionStore, segments: Segments, payloads: PayloadStore) -> None:
        """Read from a store, its segments and its payloads; no I/O."""
        self._store = store
        self._segments = segments
        self._payloads = payloads

    async def find(self, session_id: str, agent_id: str, *, with_states: bool = False) -> StoredAgent | None:
        """Return an agent without its messages, None when the session has none of that id.

        Args:
            session_id: The session.
            agent_id: The agent.
            with_states: Load the large bytes that its states refer to, too.
        """
        key = encode_name(check_agent_id(agent_id))
        wanted = (paths.agent(key, paths.AGENT_DATA), paths.SCHEMA_VERSION, paths.INCARNATION, paths.HAS_PAYLOADS)
        document = await self._store.find(check_session_id(session_id), dict.fromkeys(wanted, 1))
        if not version_of(document):
            return (await self._older(session_id)).get(agent_id)
        raw = paths.at(document, paths.agent(key))
        if not raw or not isinstance(raw, dict):
            return None
        agent = StoredAgent(agent_id, key, raw)
        if with_states and document.get(paths.HAS_PAYLOADS):
            agent.payloads = await self._payloads.fetch(session_id, document[paths.INCARNATION], names_in(agent.data))
        return agent

    async def configs(self, session_id: str) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents."""
        agents = await self._all(session_id, [paths.AGENT_DATA])
        if agents is None:
            agents = await self._older(session_id)
        return [agent.config() for agent in agents.values()]

    async def usages(self, session_id: str) -> dict[str, Mapping[str, Any]]:
        """Return the running totals of all agents by agent id."""
        agents = await self._all(session_id, [paths.USAGE, paths.agent_data(paths.AGENT_ID)])
        if agents is not None:
            return {agent_id: paths.object_at(agent.raw, paths.USAGE) for agent_id, agent in agents.items()}
        return {agent_id: usage_of_messages(agent) for agent_id, agent in (await self._older(session_id)).items()}

    async def totals(self, session_id: str, agent_id: str) -> AgentTotals | None:
        """Return what is counted of one agent, of a document in today's form; None when it has no such agent."""
        agent, entry = _agent(agent_id), SealedList.of_agent(encode_name(agent_id))
        found = await self._project(
            session_id,
            {
                paths.MESSAGES: _live(agent),
                **entry.projection(),
                "number": f"{agent}.{paths.NEXT_MESSAGE_ID}",
                paths.USAGE: f"{agent}.{paths.USAGE}",
            },
        )
        if "number" not in found:
            return None
        sealed = SealedPart.read(found, entry)
        count = found[paths.MESSAGES] + sealed.archive.count
        return AgentTotals(count, sealed, found["number"], found.get(paths.USAGE))

    async def count_messages(self, session_id: str, agent_id: str) -> int:
        """Return how many messages an agent has; 0 when the session has no such agent."""
        agent = _agent(agent_id)
        found = await self._project(session_id, {"live": _live(agent), "sealed": f"{agent}.{paths.ARCHIVED_COUNT}"})
        if version_of(found):
            return int(found["live"]) + stored_count(found.get("sealed"))
        older = (await self._older(session_id)).get(agent_id)
        return 0 if older is None else len(list(older.messages()))

    async def message(self, session_id: str, agent_id: str, message_id: int) -> Document | None:
        """Return a message of an agent, None when there is none of that number; nothing is sent where none can be."""
        check_session_id(session_id)
        check_agent_id(agent_id)
        if not is_message_number(message_id):
            return None
        tail, sealed = await self._messages(session_id, agent_id, lambda items: only_message(items, message_id))
        items = (_readable(item) for item in tail or ())
        message = next((message for message in items if message[paths.MESSAGE_ID] == message_id), None)
        if message is None and sealed is not None:
            message = await self._segments.find_message(sealed, message_id)
        if message is None or sealed is None:
            return message
        return (await self._restored(sealed, agent_id, [message]))[0]

    async def messages(
        self, session_id: str, agent_id: str, limit: int | None, offset: int
    ) -> Sequence[Document] | None:
        """Return messages of an agent, oldest first; None when the session has no such agent."""
        for _ in range(_LOOKS - 1):
            with suppress(MissingSegmentsError):  # What was read first is out of date: the agent was deleted meanwhile.
                return await self._page(session_id, agent_id, limit, offset)
        return await self._page(session_id, agent_id, limit, offset)

    async def _page(self, session_id: str, agent_id: str, limit: int | None, offset: int) -> Sequence[Document] | None:
        length = _LARGEST_SLICE if limit is None else min(limit, _LARGEST_SLICE)
        archived = {"$ifNull": [f"{_agent(agent_id)}.{paths.ARCHIVED_COUNT}", 0]}

        def part(messages: Document) -> Document:
            # Of a sealed conversation the whole tail, which is short. `$slice` takes no length of 0.
            page = {"$slice": [messages, min(offset, _LARGEST_SLICE), max(length, 1)]}
            return {"$cond": [{"$gt": [archived, 0]}, messages, page]}

        tail, sealed = await self._messages(session_id, agent_id, part)
        if tail is None:
            return None
        if sealed is None:
            return [_readable(item) for item in tail[offset:][:length]]
        older, count = await self._segments.items(sealed, offset, offset + length), sealed.archive.count
        live = tail[max(offset - count, 0) :] if count else tail
        page = [*older, *(_readable(item) for item in live[: max(length - len(older), 0)])]
        return await self._restored(sealed, agent_id, page)

    async def _restored(self, sealed: SealedPart, agent_id: str, messages: Sequence[Document]) -> list[Document]:
        """Return messages with the large bytes that are stored outside the session document."""
        names = set().union(*(payloads_of(message) for message in messages))
        payloads = await self._payloads.fetch(sealed.session_id, sealed.incarnation, names)
        return [restored_message(message, payloads, agent_id) for message in messages]

    async def _messages(
        self, session_id: str, agent_id: str, wanted: Callable[[Document], Document]
    ) -> tuple[_Tail | None, SealedPart | None]:
        """Return what `wanted` makes of the live tail of an agent, None where there is no such agent, and the rest.

        An older tool's document has no segments, and is returned whole.
        """
        key = encode_name(check_agent_id(agent_id))
        agent, entry = _agent(agent_id), SealedList.of_agent(key)
        fields = {
            paths.MESSAGES: wanted(array(f"{agent}.{paths.MESSAGES}")),
            "number": f"{agent}.{paths.NEXT_MESSAGE_ID}",
            "said_id": f"{agent}.{paths.agent_data(paths.AGENT_ID)}",
            **entry.projection(),
        }
        found = await self._project(session_id, fields)
        if not version_of(found):
            older = (await self._older(session_id)).get(agent_id)
            return None if older is None else list(older.messages()), None
        if not found.keys() & {"number", "said_id"} and not found[paths.MESSAGES]:
            return None, None
        raw = {paths.MESSAGES: found[paths.MESSAGES], paths.NEXT_MESSAGE_ID: found.get("number")}
        return list(StoredAgent(agent_id, key, raw).messages()), SealedPart.read(found, entry)

    async def archives(self, session_id: str) -> tuple[str | None, dict[str, Archive]]:
        """Return the session's incarnation, and what is sealed of its agents by key."""
        wanted = {f"{paths.AGENTS}.k": 1, f"{paths.AGENTS}.v.{paths.ARCHIVE}": 1}
        found = await self._of_all_agents(session_id, wanted)
        archives = {entry["k"]: Archive.read(entry.get("v")) for entry in found.get(paths.AGENTS) or []}
        return found.get(paths.INCARNATION), archives

    async def _all(self, session_id: str, fields: Iterable[str]) -> dict[str, StoredAgent] | None:
        """Return all agents with some of their fields; None for a document of an older tool."""
        wanted = {f"{paths.AGENTS}.k": 1, **{f"{paths.AGENTS}.v.{name}": 1 for name in fields}}
        found = await self._of_all_agents(session_id, wanted)
        if not version_of(found):
            return None
        return find_agents({entry["k"]: entry["v"] for entry in found[paths.AGENTS] if "v" in entry})

    async def _of_all_agents(self, session_id: str, wanted: Document) -> Document:
        try:
            return await self._project(session_id, _AGENT_PAIRS, wanted)
        except OperationFailure as error:
            if error.code != _NO_OBJECT:
                raise
        return {**await self._project(session_id, {}), paths.AGENTS: []}

    async def _older(self, session_id: str) -> dict[str, StoredAgent]:
        stored = await self._store.load(session_id)
        if stored is None:
            raise SessionNotFoundError(session_id)
        return stored.agents

    async def _project(self, session_id: str, *stages: Document) -> Document:
        pipeline: list[Document] = [{"$match": {"_id": check_session_id(session_id)}}]
        pipeline += [{"$project": {**stage, paths.SCHEMA_VERSION: 1, paths.INCARNATION: 1}} for stage in stages]
        found = await self._store.collection.aggregate(pipeline)
        if not found:
            raise SessionNotFoundError(session_id)
        return found[0]


def _agent(agent_id: str) -> str:
    return f"${paths.agent(encode_name(check_agent_id(agent_id)))}"


def _live(agent: str) -> Document:
    return {"$size": array(f"{agent}.{paths.MESSAGES}")}


def _readable(item: Document | CorruptMessageError) -> Document:
    if isinstance(item, CorruptMessageError):
        raise item
    return item
