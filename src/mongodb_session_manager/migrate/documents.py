"""MongoDB collections of other session managers: one document per session, or one document per message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from ..client import ClientHandle, Collection, MongoDBClient
from ..errors import CorruptMessageError
from ..schema import paths
from ..schema.agents import STATE_FIELDS, find_agents
from ..schema.messages import now, read_date
from ..schema.migrate import upgrade
from ..schema.names import check_place
from ..schema.payloads import offload_state
from .records import (
    UNSTORABLE,
    Document,
    FoundSession,
    Problem,
    Source,
    SourceAgent,
    SourceMessage,
    SourceSession,
    UnreadableSourceError,
    agent_of,
    message_from,
    message_of,
    newest,
)


class _CollectionSource(Source):
    """A collection, on a client of its own or a borrowed one."""

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        **kwargs: Any,
    ) -> None:
        """Address a collection; the arguments are those of `AsyncMongoDBSessionRepository`."""
        check_place(database_name, collection_name)
        self._handle = ClientHandle(connection_string, client=client, options=kwargs)
        self._place = database_name, collection_name
        self._collection: Collection = self._handle.collection(database_name, collection_name)

    async def close(self) -> None:
        """Close the client, unless it was borrowed or is used elsewhere."""
        await self._handle.aclose()

    def check_apart_from(self, target: Any) -> None:
        """Raise `ValueError` where the source is the very collection that is migrated to."""
        if target == (self._handle.identity, *self._place):
            raise ValueError(
                "invalid target: it must be another collection than the source. A collection in place needs no "
                "migration: its documents are read as they are, and brought into today's form by their first write"
            )


class OlderDocumentSource(_CollectionSource):
    """Documents of older MongoDB session managers, one per session, with the agents and messages nested in it."""

    kind = "documents"

    async def count(self) -> int | None:
        """Return how many sessions there are."""
        return await self._collection.count_documents({paths.SCHEMA_VERSION: {"$exists": False}})

    async def sessions(self) -> AsyncIterator[FoundSession]:
        """Yield its sessions, each once."""
        query = {paths.SCHEMA_VERSION: {"$exists": False}}
        async for document in self._collection.iterate(query, {"_id": 1}, sort=[("_id", 1)]):
            session_id = str(document["_id"])
            yield FoundSession(session_id, partial(self._read, session_id))

    async def _read(self, session_id: str) -> SourceSession:
        document = await self._collection.find_one({"_id": session_id})
        if document is None:
            raise UnreadableSourceError("its document is gone, or its _id is not text")
        _, update = upgrade(document, now())
        fields = {**document, **update["$set"]}
        fields.pop("lease", None)
        upgraded: dict[str, Document] = fields.pop("agents")
        updated_at = newest(document.get("updated_at"), fields["created_at"])
        session = SourceSession(session_id, fields["created_at"], updated_at, str(fields[paths.SESSION_TYPE]))
        moved: dict[tuple[str, int], int] = {}
        for agent_id, stored in find_agents(document.get("agents"), legacy=True).items():
            raw = upgraded[stored.key]
            messages: list[SourceMessage | Problem] = []
            position = 0
            for flat, whole in zip(stored.messages(), raw.pop("messages"), strict=True):
                if isinstance(flat, CorruptMessageError):
                    messages.append(Problem(session_id, str(flat), agent_id, flat.number))
                    continue
                moved[agent_id, flat["message_id"]] = position
                messages.append(message_from(dict(whole), position, encode=False))
                position += 1
            payloads: dict[str, bytes] = {}
            for name in STATE_FIELDS:
                raw[paths.AGENT_DATA][name], found = offload_state(raw[paths.AGENT_DATA][name])
                payloads |= found
            session.agents.append(SourceAgent(agent_id, raw, payloads, stored.states(), _given(messages)))
        fields[paths.GUARDRAIL_EVENTS] = [_renumbered(event, moved) for event in fields[paths.GUARDRAIL_EVENTS]]
        session.fields = fields
        return session


def _given(messages: list[SourceMessage | Problem]) -> Any:
    async def give() -> AsyncIterator[SourceMessage | Problem]:
        for message in messages:
            yield message

    return give


def _renumbered(event: Any, moved: Mapping[tuple[str, int], int]) -> Any:
    if not isinstance(event, Mapping):
        return event
    place = str(event.get("agent_id")), event.get("message_id")
    return {**event, "message_id": moved[place]} if place in moved else event  # type: ignore[index]


class MessageDocumentSource(_CollectionSource):
    """One document per message, as the package `strands-mongodb-session-manager` stores them.

    ::

        {pk: "SESSION#<session id>", sk: "META", data: <Strands' session as JSON text>}
        {pk: "SESSION#<session id>", sk: "AGENT#<agent id>", data: <Strands' agent as JSON text>}
        {pk: "SESSION#<session id>#AGENT#<agent id>", sk: "MSG#<20 digits>", data: <Strands' message as JSON text>}
    """

    kind = "message documents"

    async def count(self) -> int | None:
        """Return how many sessions there are."""
        return await self._collection.count_documents({"sk": "META", "pk": {"$regex": "^SESSION#"}})

    async def sessions(self) -> AsyncIterator[FoundSession]:
        """Yield its sessions, each once."""
        # Sessions whose own document is missing are found by their agents.
        query = {"pk": {"$regex": "^SESSION#"}, "$or": [{"sk": "META"}, {"sk": {"$regex": "^AGENT#"}}]}
        last = None
        async for document in self._collection.iterate(query, {"pk": 1}, sort=[("pk", 1), ("sk", 1)]):
            if document["pk"] != last:
                last = document["pk"]
                session_id = last.removeprefix("SESSION#")
                yield FoundSession(session_id, partial(self._read, session_id))

    async def _read(self, session_id: str) -> SourceSession:
        pk = f"SESSION#{session_id}"
        session = SourceSession(session_id)
        meta = await self._collection.find_one({"pk": pk, "sk": "META"})
        try:
            record = _record(meta)
            session.created_at, session.updated_at = newest(record.get("created_at")), newest(record.get("updated_at"))
            session.session_type = str(record.get(paths.SESSION_TYPE) or "AGENT")
        except UnreadableSourceError as error:
            session.problems.append(Problem(session_id, f"its own document: {error}"))
        query = {"pk": pk, "sk": {"$gte": "AGENT#", "$lt": "AGENT$"}}
        async for document in self._collection.iterate(query, sort=[("sk", 1)]):
            agent_id = document["sk"].removeprefix("AGENT#")
            try:
                agent = agent_of(_record(document), agent_id)
            except (UnreadableSourceError, *UNSTORABLE) as error:
                reason = str(error) if isinstance(error, UnreadableSourceError) else "its state cannot be stored"
                session.problems.append(Problem(session_id, reason, agent_id))
                agent = agent_of({}, agent_id)
            agent.messages = lambda agent_id=agent_id: self._messages(session_id, agent_id)  # type: ignore[misc]
            session.agents.append(agent)
            session.updated_at = newest(session.updated_at, agent.fields["updated_at"])
        return session

    async def _messages(self, session_id: str, agent_id: str) -> AsyncIterator[SourceMessage | Problem]:
        query = {"pk": f"SESSION#{session_id}#AGENT#{agent_id}", "sk": {"$gte": "MSG#", "$lt": "MSG$"}}
        position = 0
        async for document in self._collection.iterate(query, sort=[("sk", 1)], batch_size=64):
            try:
                found = message_of(_record(document), session_id, agent_id, position, document["sk"])
            except UnreadableSourceError as error:
                found = Problem(session_id, str(error), agent_id, document["sk"])
            position += isinstance(found, SourceMessage)
            yield found


def _record(document: Mapping[str, Any] | None) -> Document:
    if document is None:
        raise UnreadableSourceError("it is missing")
    data = document.get("data")
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            raise UnreadableSourceError("its data is not JSON") from None
    if not isinstance(data, dict):
        raise UnreadableSourceError("its data is not a JSON object")
    if read_date(data.get("created_at")) is None:
        data.pop("created_at", None)
    return data
