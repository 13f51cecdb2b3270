"""Every MongoDB operation on sessions, by session id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

from pymongo.errors import PyMongoError
from strands.types.session import Session, SessionAgent, SessionMessage

from ..client import ClientHandle, MongoDBClient
from ..errors import (
    AgentExistsError,
    AgentNotFoundError,
    MessageNotFoundError,
    SessionExistsError,
    SessionNotFoundError,
    SessionStoreError,
)
from ..schema import paths, values
from ..schema.agents import checked_states
from ..schema.archives import FEEDBACKS, SealedPart, messages_pipeline
from ..schema.messages import now, session_message
from ..schema.metrics import summarize_usage
from ..schema.moments import cutoff
from ..schema.names import check_agent_id, check_application_name, check_place, check_session_id, encode_name
from ..schema.numbers import INT32_MAX, check_whole_number, is_message_number
from ..schema.payloads import names_in, offload_state, restored_graph
from ..schema.session_messages import encode_session_message
from ..schema.sessions import behind, new_session
from ..schema.totals import total_usage
from . import listing, session_data
from .executor import Applied, Conflict, UpdateExecutor
from .fork import SessionFork
from .head import SessionHead
from .lease import Lease
from .loaded import StoredSession
from .orphans import OrphanSweep
from .readers import AgentReader
from .refusals import Refusals
from .related import SEGMENTS
from .repair import repair_agent
from .sealing import SEAL_AT_BYTES
from .store import SessionStore
from .updates import AppendMessages, ChangeMessage, NewMessage, SetFields, Update
from .upgrade import bring_agents_up_to_date

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)

_NO_NUMBER = -1


class AsyncMongoDBSessionRepository:
    """Sessions with their agents and messages, one MongoDB document each.

    It has Strands' `SessionRepository` contract as coroutines, and everything else that can be done to a session
    by its id. Usable from any event loop that its client allows. A client that is given is borrowed and never closed.

    Each write is one update of one document: it is stored whole or not at all, and however often the driver or the
    repository has to send it, it counts once.

    Besides the errors that they name, all methods raise `InvalidNameError` for an id that breaks its rule, and the
    driver's `PyMongoError` unchanged. Those that update a session, which deleting or forking it is not, also raise
    `LeaseUnavailableError` while another holder has its turn, `SessionFullError` when its document has no room, and
    `SessionStoreError` when a newer version of this library wrote it, or when nothing in it says why it refuses.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        application_name: str | None = None,
        *,
        write_deadline_s: float = 30,
        **kwargs: Any,
    ) -> None:
        """Address a collection; nothing is sent before the first operation.

        Args:
            connection_string: MongoDB URI; also taken from `MONGODB_CONNECTION_STRING`.
            database_name: Database of the sessions.
            collection_name: Collection of the sessions.
            client: A client to borrow: Motor, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            application_name: Stored in sessions that this repository creates.
            write_deadline_s: How long a write or a read is sent again when the server fails over, and how long a silent
                server is waited for, in seconds. A server that was never reached is only waited for as long as the
                client is told to (`serverSelectionTimeoutMS`).
            **kwargs: MongoDB client options, checked by the driver.

        Raises:
            InvalidNameError: MongoDB takes no such database or collection, or the application's name is no string.
            ValueError: Neither client nor connection string, or client options together with a client.
            TypeError: The client is of another kind.
        """
        check_place(database_name, collection_name)
        application_name = check_application_name(application_name)
        handle = ClientHandle(connection_string, client=client, options=kwargs)
        self._setup(
            UpdateExecutor(SessionStore(handle, database_name, collection_name, write_deadline_s=write_deadline_s))
        )
        self._application_name = application_name

    def _setup(
        self,
        executor: UpdateExecutor,
        lease: Callable[[], Lease | None] = lambda: None,
        applied: Callable[[str, Update], None] = lambda session_id, update: None,
    ) -> None:
        self._executor = executor
        self._store = executor.store
        self._segments = executor.segments
        self._payloads = executor.payloads
        self._agents = AgentReader(self._store, self._segments, self._payloads)
        self._lease = lease
        self._applied = applied
        self._application_name = None

    @classmethod
    def _on(
        cls,
        executor: UpdateExecutor,
        lease: Callable[[], Lease | None],
        applied: Callable[[str, Update], None],
    ) -> AsyncMongoDBSessionRepository:
        """Return the repository of a manager, which owns the client, may hold the lease, and is told of each update."""
        repository = cls.__new__(cls)
        repository._setup(executor, lease, applied)
        return repository

    @property
    def collection(self) -> Any:
        """The driver's own async collection, for queries of your own."""
        return self._store.handle.user_collection(self._store.database_name, self._store.collection_name)

    @property
    def _namespace(self) -> Hashable:
        """Equal for repositories of one collection on one client, for what hooks keep of several sessions."""
        return self._store.handle.identity, self._store.database_name, self._store.collection_name

    async def close(self) -> None:
        """Close the client, unless it was borrowed or is used elsewhere. Idempotent."""
        await self._store.handle.aclose()

    async def __aenter__(self) -> Self:
        """Return the repository."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client that is owned."""
        await self.close()

    # -- sessions

    async def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session.

        Raises:
            SessionExistsError: It exists; nothing was overwritten.
            TypeError: The session type is not a non-empty string.
        """
        session_id = check_session_id(session.session_id)
        kind = _session_type(session.session_type)
        document = new_session(session_id, now(), session_type=kind, application_name=self._application_name)
        if not await self._store.insert(document):
            raise SessionExistsError(session_id)
        return StoredSession.from_document(document).session()

    async def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, None when there is none."""
        stored = await self._store.load(check_session_id(session_id), ())
        return None if stored is None else stored.session()

    async def check_session_exists(self, session_id: str) -> bool:
        """Tell whether a session exists."""
        return await self._store.find_one({"_id": check_session_id(session_id)}, {"_id": 1}) is not None

    async def rename_session(self, session_id: str, title: str) -> None:
        """Give a session another title, one line of at most 120 characters; longer ones are cut.

        Raises:
            SessionNotFoundError: No such session.
            TypeError: The title is not a string.
            ValueError: The title has nothing but blanks.
        """
        await self._apply(session_id, session_data.title_update(title))

    async def delete_session(self, session_id: str) -> int:
        """Delete a session with everything in it, and return how many were deleted: 1, or 0 when there was none."""
        return await self._delete(check_session_id(session_id))

    async def fork_session(
        self,
        session_id: str,
        new_session_id: str,
        *,
        up_to_message: int | None = None,
        agent_id: str | None = None,
        metadata: bool = True,
    ) -> Session:
        """Make a new session that holds what a session holds, whole or up to a message; that one stays as it is.

        The fork is there as a whole or not at all, whatever the length, and goes its own way from then on: under its
        own viewer password, with the application, the time to live and the agents' configurations of the session.
        Feedback and idempotency keys stay behind. Up to a message, the other agents come with what they had said by
        then, and an agent whose newest messages stay behind starts without state, since that belongs to them.

        Args:
            session_id: The session to fork.
            new_session_id: Id of the fork.
            up_to_message: Number of the last message that the fork holds; None for all.
            agent_id: The agent that has this message; may be left out in a session of one agent.
            metadata: Whether the fork takes the metadata along.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageNotFoundError: The agent has no such message.
            SessionExistsError: A session of the new id exists; it was not touched.
            SessionNotFoundError: No such session, or it was deleted meanwhile.
            TypeError: The number of the message is no integer.
            ValueError: The session has several agents, and none was named.
        """
        fork = SessionFork(
            self._store,
            self._segments,
            self._payloads,
            session_id,
            new_session_id,
            up_to_message=up_to_message,
            agent_id=agent_id,
            metadata=metadata,
        )
        return StoredSession.from_document(await fork.run()).session()

    # -- agents

    async def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent in a session.

        Raises:
            AgentExistsError: It exists; nothing was overwritten.
            SessionNotFoundError: No such session.
            TypeError: A state is no dict, or holds something that cannot be stored.
        """
        changes = _states(session_agent, create=True)
        if isinstance(await self._apply(session_id, Update(agents=[changes])), Conflict):
            raise AgentExistsError(session_id, changes.agent_id)

    async def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent, None when there is no such session or agent."""
        with suppress(SessionNotFoundError):
            if (agent := await self._agents.find(session_id, agent_id, with_states=True)) is not None:
                return agent.session_agent()
        return None

    async def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent's state; its recorded configuration stays as it is.

        Raises:
            AgentNotFoundError: The session has no such agent.
            SessionNotFoundError: No such session.
            TypeError: A state is no dict, or holds something that cannot be stored.
        """
        changes = _states(session_agent, create=False)
        fields = [paths.agent(changes.key, field) for field in changes.fields]
        changes.referred_before = await self._referred_to(session_id, fields)
        await self._change_agent(session_id, changes.agent_id, Update(agents=[changes]))

    async def delete_agent(self, session_id: str, agent_id: str) -> bool:
        """Delete an agent with its messages, and the title where it was taken from them; False when there is none.

        A live agent of that id goes on: what it says from then on is stored as a new agent's, with messages from 0 and
        the state that it has. What was deleted stays so.

        Raises:
            SessionNotFoundError: No such session.
            SessionStoreError: The document refuses it again and again, and nothing in it says why.
        """
        key = encode_name(check_agent_id(agent_id))
        # Nothing is counted of what has not today's form.
        await bring_agents_up_to_date(self._store, await self._head(session_id), [key])
        refusals = Refusals(session_id)
        while (totals := await self._agents.totals(session_id, agent_id)) is not None:
            head = await self._head(session_id)
            incarnation, titled = head.incarnation, head.title_of is not None and head.title_of[0] == key
            assert incarnation is not None
            payloads = await self._payloads.of_agent(session_id, incarnation, key)
            usage = total_usage([totals.usage] if isinstance(totals.usage, Mapping) else [])
            counted = {paths.summary_usage(name): -n for name, n in usage.items()}
            removal = SetFields(
                removed=[paths.agent(key), *((paths.TITLE, paths.TITLE_OF) if titled else ())],
                increments={paths.SUMMARY_AGENTS: -1, paths.SUMMARY_MESSAGES: -totals.messages, **counted},
                # Only what was counted: what arrived since would stay in the summary for ever.
                guard={
                    paths.agent(key, paths.NEXT_MESSAGE_ID): totals.next_message_id,
                    paths.agent(key, paths.USAGE): {"$eq": totals.usage},
                    **totals.sealed.unchanged(),
                    # What it said is gone from the title, too; the next thing that a person says gives another one.
                    f"{paths.TITLE_OF}.{paths.AGENT}": key if titled else {"$ne": key},
                },
            )
            if isinstance(await self._apply(session_id, Update(session=removal)), Applied):
                await self._segments.delete_all(totals.sealed)
                await self._payloads.remove_unreferred(session_id, incarnation, payloads)
                return True
            refusals.note(totals)
        return False

    async def list_agents(self, session_id: str) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents: `{agent_id, model, system_prompt, prompt_metadata}`.

        Raises:
            SessionNotFoundError: No such session.
        """
        return await self._agents.configs(session_id)

    async def get_agent_config(self, session_id: str, agent_id: str) -> dict[str, Any] | None:
        """Return an agent's recorded configuration, None when the session has no such agent.

        Raises:
            SessionNotFoundError: No such session.
        """
        agent = await self._agents.find(session_id, agent_id)
        return None if agent is None else agent.config()

    async def update_agent_config(
        self,
        session_id: str,
        agent_id: str,
        model: str | None = None,
        system_prompt: str | None = None,
        prompt_metadata: Any = None,
    ) -> None:
        """Change an agent's recorded configuration; None leaves a part as it is.

        Raises:
            AgentNotFoundError: The session has no such agent.
            SessionNotFoundError: No such session.
            TypeError: A value cannot be stored.
        """
        key = encode_name(check_agent_id(agent_id))
        given = {"model": model, "system_prompt": system_prompt, "prompt_metadata": prompt_metadata}
        await self._change_agent(session_id, agent_id, session_data.config_update(key, **given))

    async def set_prompt_metadata(self, session_id: str, agent_id: str, prompt_metadata: Any) -> None:
        """Record what describes an agent's prompt, such as its version; None deletes the record.

        Raises:
            AgentNotFoundError: The session has no such agent.
            SessionNotFoundError: No such session.
            TypeError: A value cannot be stored.
        """
        update = session_data.prompt_metadata_update(encode_name(check_agent_id(agent_id)), prompt_metadata)
        await self._change_agent(session_id, agent_id, update)

    # -- messages

    async def create_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Append a message; its `message_id` must be the agent's next.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageTooLargeError: The message is larger than a document may be, large bytes not counted.
            SessionNotFoundError: No such session.
            SessionStoreError: The number is not the next one.
            TypeError: The number is no integer, or the message holds something that cannot be stored.
            ValueError: The message is nested too deeply.
        """
        number = check_whole_number("message_id", session_message.message_id)
        document, size, payloads = encode_session_message(session_message, agent_id)
        # No message has the number that stands for one which cannot be stored: the session tells which is the next.
        expected = number if is_message_number(number) else _NO_NUMBER
        message = NewMessage(expected, document, size, payloads)
        key = encode_name(check_agent_id(agent_id))
        changes = AppendMessages(agent_id, key, create=False, expected=expected, messages=[message])
        result = await self._apply(session_id, Update(agents=[changes]))
        if isinstance(result, Applied):
            return
        if key not in result.next_ids:
            raise AgentNotFoundError(session_id, agent_id)
        raise SessionStoreError(
            f"message {number} of agent {agent_id!r} in session {session_id!r} cannot be appended: "
            f"its next message is number {result.next_ids[key]}"
        )

    async def read_message(
        self, session_id: str, agent_id: str, message_id: int, **kwargs: Any
    ) -> SessionMessage | None:
        """Return a message as it was said, None when there is no such session, agent or message.

        Raises:
            CorruptMessageError: It cannot be read.
            TypeError: The number is no integer.
        """
        number = check_whole_number("message_id", message_id)
        with suppress(SessionNotFoundError):
            if (found := await self._agents.message(session_id, agent_id, number)) is not None:
                return session_message(found, original=True)
        return None

    async def update_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Change a message's content or redact it; its metrics and guardrail record stay.

        Raises:
            MessageNotFoundError: The agent has no such message.
            MessageTooLargeError: The message is larger than a document may be, large bytes not counted.
            SessionNotFoundError: No such session.
            SessionStoreError: The message was redacted, and this would undo it.
            TypeError: The number of the message is no integer, or the message holds something that cannot be stored.
            ValueError: The message is nested too deeply.
        """
        key = encode_name(check_agent_id(agent_id))
        if not is_message_number(check_whole_number("message_id", session_message.message_id)):
            await self._head(session_id)
            raise MessageNotFoundError(session_id, agent_id, session_message.message_id)
        fields, _, payloads = encode_session_message(session_message, agent_id)
        for name in (paths.CREATED_AT, paths.UPDATED_AT):
            del fields[name]
        number = session_message.message_id
        change = ChangeMessage(
            key, NewMessage(number), fields, {paths.WINDOW_CONTENT} | ({paths.EXTRA} - fields.keys())
        )
        change.payloads = payloads
        head = await self._head(session_id)
        if head.has_payloads:
            _keep(change, await self._payloads.references_of(head, key, number))
        update = Update(message=change)
        if session_message.redact_message is None:
            redacted = {paths.MESSAGE_ID: number, paths.REDACT_MESSAGE: {"$exists": True}}
            update.session.guard = {"$nor": [{paths.messages(key): {"$elemMatch": redacted}}]}
        refusals = Refusals(session_id)
        while isinstance(result := await self._apply(session_id, update), Conflict):
            found = await self._agents.message(session_id, agent_id, number)
            if found is None and not result.message_found:
                raise MessageNotFoundError(session_id, agent_id, number)
            if not result.message_found:
                change.sealed, update.session.guard = True, {}
            elif update.session.guard and found is not None and paths.REDACT_MESSAGE in found:
                raise _redacted(session_id, agent_id, number)
            refusals.note()  # Else it was appended after it had been refused.
        if result.message == "redacted":
            raise _redacted(session_id, agent_id, number)
        if result.message == "missing":
            raise MessageNotFoundError(session_id, agent_id, number)

    async def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return messages as they were said, oldest first; only those are read.

        Args:
            session_id: The session.
            agent_id: The agent.
            limit: Most messages to return; None means all. 0 returns an empty list.
            offset: Messages to skip from the oldest; past the end gives an empty list.

        Raises:
            AgentNotFoundError: The session has no such agent.
            CorruptMessageError: One of them cannot be read.
            SessionNotFoundError: No such session.
            TypeError: The limit or the offset is no integer.
            ValueError: A negative limit or offset.
        """
        offset = check_whole_number("offset", offset)
        limit = None if limit is None else check_whole_number("limit", limit)
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError(
                f"invalid limit and offset: they must not be negative, got limit={limit!r}, offset={offset!r}"
            )
        found = await self._agents.messages(session_id, agent_id, limit, offset)
        if found is None:
            raise AgentNotFoundError(session_id, agent_id)
        return [session_message(message, original=True) for message in found]

    async def get_message_count(self, session_id: str, agent_id: str) -> int:
        """Return how many messages an agent has; 0 for an unknown agent.

        Raises:
            SessionNotFoundError: No such session.
        """
        return await self._agents.count_messages(session_id, agent_id)

    async def get_trace_id(self, session_id: str, agent_id: str, message_id: int) -> str | None:
        """Return the id of the trace that a message of the assistant came from; None for one that was not traced.

        Returns:
            32 hexadecimal digits. It is stored where `otel.instrument()` was called and the trace was sampled.

        Raises:
            MessageNotFoundError: The agent has no such message.
            SessionNotFoundError: No such session.
            TypeError: The number of the message is no integer.
        """
        number = check_whole_number("message_id", message_id)
        if (message := await self._agents.message(session_id, agent_id, number)) is None:
            await self._head(session_id)
            raise MessageNotFoundError(session_id, agent_id, number)
        trace_id = message.get(paths.TRACE_ID)
        return trace_id if isinstance(trace_id, str) else None

    async def messages_pipeline(self, session_id: str, agent_id: str | None = None) -> list[dict[str, Any]]:
        """Return an aggregation pipeline over `collection` that gives all messages of a session, for analytics.

        Each message is one document `{message_id, role, content, created_at, ..., session_id, agent}`, where `agent` is
        the field that holds the agent. Of a redacted message `content` is the replacement; what an older tool nested
        or stored as plain text comes in this form, too, and what is no message at all is left out. Old messages stand
        in segments of a collection of their own, which the pipeline joins with `$unionWith` (MongoDB 4.4 or later).
        What is sealed while it runs may be missing from its result.

        Raises:
            SessionNotFoundError: No such session.
        """
        key = None if agent_id is None else encode_name(check_agent_id(agent_id))
        incarnation, archives = await self._agents.archives(session_id)
        return messages_pipeline(session_id, incarnation, archives, f"{self._store.collection_name}{SEGMENTS}", key)

    async def repair_session(self, session_id: str, dry_run: bool = True) -> dict[str, Any]:
        """Find tool uses without results and results without uses among the stored messages, and repair them.

        Args:
            session_id: The session.
            dry_run: Only report.

        Returns:
            `{"session_id", "dry_run", "broken": int, "mended": int, "agents": {agent_id: [{"message_id", "kind",
            "tool_use_ids"}]}}`, agents with broken pairs only. Repairing is idempotent.

        Raises:
            SessionNotFoundError: No such session.
        """
        if not dry_run:
            await self._head(session_id)  # also brings it into today's form
        report: dict[str, list[dict[str, Any]]] = {}
        mended = 0
        for config in await self.list_agents(session_id):
            agent_id = config[paths.AGENT_ID]
            broken, changes = repair_agent(await self.list_messages(session_id, agent_id))
            if broken:
                report[agent_id] = broken
            for change in () if dry_run else changes:
                await self.update_message(session_id, agent_id, change)
                mended += 1
        count = sum(len(broken) for broken in report.values())
        return {"session_id": session_id, "dry_run": dry_run, "broken": count, "mended": mended, "agents": report}

    # -- graphs and swarms

    async def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of a graph or swarm.

        Raises:
            SessionNotFoundError: No such session.
        """
        await self.update_multi_agent(session_id, multi_agent)

    async def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of a graph or swarm, None when there is no such session or state."""
        key = _graph_key(multi_agent_id)
        with suppress(SessionNotFoundError):
            document = await self._store.find(
                check_session_id(session_id),
                {paths.INCARNATION: 1, paths.HAS_PAYLOADS: 1, paths.multi_agent(key): 1},
            )
            if (state := (document.get(paths.MULTI_AGENTS) or {}).get(key)) is not None:
                if document.get(paths.HAS_PAYLOADS):
                    payloads = await self._payloads.fetch(session_id, document[paths.INCARNATION], names_in(state))
                    state = restored_graph(state, payloads, multi_agent_id)
                return cast("dict[str, Any]", values.decode(state))
        return None

    async def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of a graph or swarm.

        Raises:
            SessionNotFoundError: No such session.
        """
        state = values.encode(multi_agent.serialize_state(), where=f"multi-agent {multi_agent.id!r}", foreign=True)
        state, payloads = offload_state(state)
        path = paths.multi_agent(_graph_key(multi_agent.id))
        referred_before = await self._referred_to(session_id, [path])
        fields = SetFields(fields={path: state}, payloads=payloads, referred_before=referred_before)
        await self._apply(session_id, Update(session=fields))

    # -- metadata, feedback, records

    async def update_metadata(self, session_id: str, metadata: dict[str, Any]) -> None:
        """Set some metadata fields, the others stay; dots in a key address nested fields.

        Naive dates in it are stored as UTC.

        Raises:
            InvalidNameError: A key is not allowed, leads into a plain value, or would lengthen a list by more than it
                holds plus one.
            MetadataTooLargeError: The update is larger than 256 KB, or all metadata with it than 1 MB.
            SessionNotFoundError: No such session.
            TypeError: Not a dict, or a value cannot be stored.
        """
        submit = partial(self._is_applied, session_id)
        await session_data.update_metadata(self._store, check_session_id(session_id), metadata, submit)

    async def get_metadata(self, session_id: str) -> dict[str, Any]:
        """Return `{"metadata": {...}}`; dates are UTC.

        Raises:
            SessionNotFoundError: No such session.
        """
        return session_data.metadata_of(await self._store.find(check_session_id(session_id), {paths.METADATA: 1}))

    async def delete_metadata(self, session_id: str, metadata_keys: Sequence[str]) -> None:
        """Delete some metadata fields.

        Raises:
            InvalidNameError: A key is not allowed.
            SessionNotFoundError: No such session.
            TypeError: Not a list of keys.
        """
        submit = partial(self._is_applied, session_id)
        await session_data.delete_metadata(self._store, check_session_id(session_id), metadata_keys, submit)

    async def _remove_metadata(self, session_id: str, key: str, value: object) -> None:
        """Delete a metadata field, unless it has another value by now."""
        await self._apply(session_id, session_data.metadata_removal(key, value))

    async def add_feedback(
        self, session_id: str, feedback: dict[str, Any], *, idempotency_key: str | None = None
    ) -> None:
        """Add a feedback; `created_at` is added.

        Args:
            session_id: The session.
            feedback: What is stored.
            idempotency_key: Names the request, the same for each of its retries; at most 256 characters. A session
                remembers the last 200 keys, and stores nothing for a key that it remembers.

        Raises:
            SessionNotFoundError: No such session.
            TypeError: Not a dict, or a value cannot be stored.
            ValueError: The key is empty or too long.
        """
        # A conflict is the key that the session remembers.
        await self._apply(session_id, session_data.feedback_addition(feedback, idempotency_key))

    async def get_feedbacks(self, session_id: str) -> list[dict[str, Any]]:
        """Return the feedbacks in order of submission.

        Raises:
            SessionNotFoundError: No such session.
        """
        projection = {FEEDBACKS.path: 1, FEEDBACKS.archive: 1, paths.INCARNATION: 1}
        document = await self._store.find(check_session_id(session_id), projection)
        sealed = SealedPart.read(document, FEEDBACKS)
        items = await self._segments.items(sealed, 0, sealed.archive.count)
        return session_data.feedbacks_of(items, document.get(FEEDBACKS.path))

    async def get_session_viewer_password(self, session_id: str) -> str | None:
        """Return the password that opens this session in the viewer, None for documents without.

        Raises:
            SessionNotFoundError: No such session.
        """
        document = await self._store.find(check_session_id(session_id), {paths.VIEWER_PASSWORD: 1})
        return cast("str | None", document.get(paths.VIEWER_PASSWORD))

    async def get_application_name(self, session_id: str) -> str | None:
        """Return the application that created the session.

        Raises:
            SessionNotFoundError: No such session.
        """
        document = await self._store.find(check_session_id(session_id), {paths.APPLICATION_NAME: 1})
        return cast("str | None", document.get(paths.APPLICATION_NAME))

    async def get_metrics_summary(self, session_id: str, agent_id: str | None = None) -> dict[str, Any]:
        """Return totals over the whole session, or one agent of it; what no model reported is None, not 0.

        Returns:
            `{"tokens": {"input", "output", "total", "cache_read", "cache_write"}, "latency_ms", "model_calls",
            "tool_calls": {tool: {"call_count", "success_count", "error_count", "total_time"}}}`, times of tools in s.

        Raises:
            AgentNotFoundError: The session has no such agent.
            SessionNotFoundError: No such session.
        """
        agent_id = None if agent_id is None else check_agent_id(agent_id)
        agents = await self._agents.usages(session_id)
        if agent_id is not None and agent_id not in agents:
            raise AgentNotFoundError(session_id, agent_id)
        return summarize_usage(list(agents.values()) if agent_id is None else [agents[agent_id]])

    # -- many sessions

    async def list_sessions(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        agent_id: str | None = None,
        application_name: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        updated_from: datetime | None = None,
        updated_before: datetime | None = None,
    ) -> dict[str, Any]:
        """Return a page of sessions, newest first, without their messages; every page costs the same.

        Args:
            limit: Most sessions to return.
            cursor: `next_cursor` of the page before.
            metadata: Fields and the values that they must have; dots address nested fields.
            agent_id: Only sessions with this agent.
            application_name: Only sessions of this application.
            created_from: Only sessions created then or later.
            created_before: Only sessions created before then.
            updated_from: Only sessions active then or later.
            updated_before: Only sessions not active since.

        Returns:
            `{"sessions": [{"session_id", "title", "application_name", "created_at", "updated_at", "expires_at",
            "metadata", "agents_count", "messages_count", "feedbacks_count", "ratings", "errors_count", "usage"}],
            "next_cursor": str | None}`; what is not known of an older document is None. Of metadata larger than 64 KB
            only short fields are there, and `"metadata_left_out": True`; `get_metadata` has all.

        Raises:
            InvalidNameError: A metadata key is not allowed, or the application's name is no string.
            TypeError: A metadata value is not a plain one, or a date is not a `datetime`.
            ValueError: A limit below 1, a cursor that no page ended with, or a date without a time zone. Naive dates
                among the values in `metadata` are UTC, as they are stored.
        """
        limit = min(check_whole_number("limit", limit), INT32_MAX - 1)
        if limit < 1:
            raise ValueError(f"invalid limit: it must be at least 1, got {limit}")
        created, updated = (created_from, created_before), (updated_from, updated_before)
        query = listing.session_filter(metadata, agent_id, application_name, created, updated)
        if cursor is not None:
            query = behind(query, paths.CREATED_AT, *listing.position_of(cursor))
        found = await listing.summaries(self._store.collection, self._segments.segments, query, limit + 1)
        page = found[:limit]
        more = len(found) > limit
        return {
            "sessions": [listing.session_summary(document) for document in page],
            "next_cursor": listing.cursor_after(page[-1]) if more else None,
        }

    async def count_sessions(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        agent_id: str | None = None,
        application_name: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        updated_from: datetime | None = None,
        updated_before: datetime | None = None,
    ) -> int:
        """Return how many sessions fulfil the conditions; these, and their errors, are those of `list_sessions`."""
        created, updated = (created_from, created_before), (updated_from, updated_before)
        query = listing.session_filter(metadata, agent_id, application_name, created, updated)
        return await self._store.collection.count_documents(query)

    async def delete_sessions(self, *, older_than: datetime | timedelta, dry_run: bool = True) -> int:
        """Delete sessions without activity since then, each with everything in it.

        Args:
            older_than: A moment, with a time zone, or how long ago.
            dry_run: Only count.

        Returns:
            How many sessions were deleted, or would be.

        Raises:
            TypeError: Neither a date nor a time span.
            ValueError: A date without a time zone, or a moment outside the years 1 to 9999.
        """
        query = {paths.UPDATED_AT: {"$lt": cutoff(older_than)}}
        if dry_run:
            return await self._store.collection.count_documents(query)
        deleted = 0
        async for document in self._store.collection.iterate(query, {"_id": 1}):
            # Asked again with the condition: a session that woke up meanwhile stays.
            deleted += await self._delete(document["_id"], query)
        return deleted

    async def sweep_orphans(
        self, *, older_than: datetime | timedelta = timedelta(hours=1), dry_run: bool = True
    ) -> dict[str, int]:
        """Remove what a process that died left in the collections beside this one, which no reader finds.

        Segments that no session counts, payloads that nothing in their session refers to, and both of sessions that are
        gone; with the payloads, what is left of values in `manager.storage`. Reads all of them, of all sessions, so it
        is for now and then, not for requests.

        Args:
            older_than: A moment, with a time zone, or how long ago; what was written since may be about to be used.
            dry_run: Only count.

        Returns:
            How many were removed, or would be: `{"segments": n, "payloads": n}`.

        Raises:
            TypeError: Neither a date nor a time span.
            ValueError: A date without a time zone, or a moment outside the years 1 to 9999.
        """
        sweep = OrphanSweep(self._store, self._segments, self._payloads, cutoff(older_than), dry_run=dry_run)
        return await sweep.run()

    # -- inside

    async def _head(self, session_id: str) -> SessionHead:
        return await self._executor.head(check_session_id(session_id))

    async def _apply(self, session_id: str, update: Update) -> Applied | Conflict:
        """Apply an update once; a `Conflict` when its own guard refused it."""
        result = await self._executor.apply(await self._head(session_id), update, own_lease=self._lease)
        if isinstance(result, Applied):
            self._applied(session_id, update)
            if result.head.live_bytes >= SEAL_AT_BYTES and update.size:
                await self._seal(result.head)
        return result

    async def _change_agent(self, session_id: str, agent_id: str, update: Update) -> None:
        """Apply an update that only fits a session with this agent."""
        if isinstance(await self._apply(session_id, update), Conflict):
            raise AgentNotFoundError(session_id, agent_id)

    async def _is_applied(self, session_id: str, update: Update) -> bool:
        return isinstance(await self._apply(session_id, update), Applied)

    async def _seal(self, head: SessionHead) -> None:
        try:
            await self._executor.seal(head)
        except PyMongoError as error:
            # What the caller asked for is stored; the next write starts it again.
            logger.warning(
                "session_id=<%r>, error=<%s> | old messages not sealed yet", head.session_id, type(error).__name__
            )

    async def _referred_to(self, session_id: str, fields: Sequence[str]) -> set[str]:
        """Return the names of the payloads that fields of a session document refer to."""
        query = {"_id": check_session_id(session_id), paths.HAS_PAYLOADS: True}
        document = await self._store.find_one(query, dict.fromkeys(fields, 1))
        return set() if document is None else names_in([paths.at(document, field) for field in fields])

    async def _delete(self, session_id: str, condition: Mapping[str, Any] | None = None) -> int:
        # The session first: what is left when this is cut short belongs to no session, and the next call removes it.
        deleted = await self._store.delete(session_id, condition)
        if deleted or condition is None:
            await self._executor.related.delete(session_id)
        return deleted


def _session_type(given: object) -> str:
    """Return a session type as it is stored: any string, that of Strands' `SessionType` included."""
    kind = given.value if isinstance(given, Enum) else given
    if not isinstance(kind, str) or not kind:
        raise TypeError(f"invalid session type: it must be a non-empty string, not {type(given).__name__}")
    return kind


def _redacted(session_id: str, agent_id: str, number: int) -> SessionStoreError:
    return SessionStoreError(
        f"message {number} of agent {agent_id!r} in session {session_id!r} was redacted, "
        "which cannot be undone; read it again to change the redacted message"
    )


def _graph_key(multi_agent_id: object) -> str:
    return encode_name(check_agent_id(multi_agent_id, "multi-agent id"))


def _states(session_agent: SessionAgent, *, create: bool) -> AppendMessages:
    """Return the change of an agent that stores its states."""
    agent_id = check_agent_id(session_agent.agent_id)
    changes = AppendMessages(agent_id, encode_name(agent_id), create=create)
    for name, state in checked_states(session_agent).items():
        encoded = values.encode(state, where=f"agent {agent_id!r} {name}", foreign=True)
        changes.fields[paths.agent_data(name)], found = offload_state(encoded)
        changes.payloads |= found
    return changes


def _keep(change: ChangeMessage, references: Mapping[str, frozenset[str]]) -> None:
    """Let a change of a message list what the fields that it leaves alone refer to."""
    left_alone = references.keys() - change.fields.keys() - change.removed
    names = set(change.fields.get(paths.PAYLOADS, ())).union(*(references[field] for field in left_alone))
    if names:
        change.fields[paths.PAYLOADS] = sorted(names)
    else:
        change.removed.add(paths.PAYLOADS)
