"""The open session in memory, as the synchronous `SessionRepository` that Strands' contract promises."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from operator import is_
from typing import TYPE_CHECKING, Any

from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage

from ..errors import AgentExistsError, AgentNotFoundError, MessageNotFoundError, SessionExistsError, SessionStoreError
from ..schema import paths
from ..schema.agents import STATE_FIELDS, checked_states
from ..schema.messages import iso_date, now, session_message, with_tracking_id
from ..schema.names import check_agent_id, check_session_id
from ..schema.numbers import check_whole_number
from ..schema.session_messages import encode_session_message
from ..store import AsyncMongoDBSessionRepository
from .conversations import Conversations
from .lifetime import SessionLifetime
from .pending_agent import PendingAgent
from .record import Origin, Record

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent


class SessionView(SessionRepository):
    """What an open async manager holds of its session in memory; it reads without I/O, and what it changes is noted.

    A flush in the background writes what was changed, and so does the next one. It knows the manager's own session
    alone, and of that the agents and messages that were loaded: the messages that live agents hold, and the window of
    those that were not built. Everything else is a `SessionStoreError` that names `manager.repository`.

    What it returns are copies. Like every repository it leaves live agents alone: what it changes of them in the
    database stands until they change the same thing.
    """

    def __init__(
        self, lifetime: SessionLifetime, conversations: Conversations, repository: AsyncMongoDBSessionRepository
    ) -> None:
        """Look at a session, which need not be open yet.

        Args:
            lifetime: The session.
            conversations: Its live agents, graphs and swarms.
            repository: What reads and writes the database.
        """
        self._lifetime = lifetime
        self._conversations = conversations
        self._repository = repository
        self._messages: dict[Record, tuple[SessionMessage, tuple[object, ...]]] = {}
        self._agents: dict[str, tuple[SessionAgent, SessionAgent | None]] = {}
        self._graphs: dict[str, dict[str, Any]] = {}

    @property
    def collection(self) -> Any:
        """The driver's own async collection, for queries of your own."""
        return self._repository.collection

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(AsyncMongoDBSessionRepository, name):
            raise AttributeError(
                f"session_repository of an async manager is a view of the open session in memory and has no {name!r}; "
                f"use `await manager.repository.{name}(...)`"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- the session

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Refuse: the manager's own session exists, and others are the repository's.

        Raises:
            SessionExistsError: It is the manager's own.
            SessionStoreError: It is another one.
        """
        self._check(session.session_id, "create_session")
        raise SessionExistsError(session.session_id)

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return the session."""
        self._check(session_id, "read_session")
        return self._lifetime.session.session()

    # -- agents

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Add an agent. A manager that is opened later builds an `Agent` on it; this one holds it as a record only.

        Raises:
            AgentExistsError: It exists; nothing was overwritten.
            TypeError: A state is no dict.
        """
        self._check(session_id, "create_agent")
        agent_id = check_agent_id(session_agent.agent_id)
        states = checked_states(session_agent)
        changes = self._lifetime.changes
        with changes.lock:
            if self._is_known(agent_id, "create_agent"):
                raise AgentExistsError(session_id, agent_id)
            pending = PendingAgent(agent_id)
            for name, state in states.items():
                pending.capture_state(name, state)
            changes.agents[agent_id] = pending
            self._agents[agent_id] = copy.deepcopy(session_agent), None
        self._lifetime.writer.flush_soon()

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent with its states as they are now, None when the session has none of that id."""
        self._check(session_id, "read_agent")
        with self._lifetime.changes.lock:
            if not self._is_known(agent_id, "read_agent"):
                return None
            pending, stored = self._lifetime.changes.agents.get(agent_id), self._lifetime.session.agents.get(agent_id)
            if pending is None and stored is not None:
                return copy.deepcopy(stored.session_agent())
            live = self._live(agent_id)
            given, seen = self._agents.get(agent_id, (None, None))
            if given is not None and (live is None or (seen is not None and _states(live) == _states(seen))):
                return copy.deepcopy(given)
            if live is None:
                raise self._not_loaded(f"agent {agent_id!r}", "read_agent")
            return live

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Note an agent's states; a live agent keeps its own, and overwrites them with what it changes.

        Raises:
            AgentNotFoundError: The session has no such agent.
            TypeError: A state is no dict.
        """
        self._check(session_id, "update_agent")
        agent_id = session_agent.agent_id
        states = checked_states(session_agent)
        with self._lifetime.changes.lock:
            pending = self._pending(agent_id, "update_agent")
            for name, state in states.items():
                pending.capture_state(name, state)
            self._agents[agent_id] = copy.deepcopy(session_agent), self._live(agent_id)
        self._lifetime.writer.flush_soon()

    # -- messages

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Append a message, which the live agent does not hold; its `message_id` must be the agent's next.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageTooLargeError: It is larger than a document may be.
            SessionStoreError: The number is not the next one.
            TypeError: The number is no integer, or the message cannot be stored.
        """
        self._check(session_id, "create_message")
        number = check_whole_number("message_id", session_message.message_id)
        with self._lifetime.changes.lock:
            pending = self._pending(agent_id, "create_message")
            if number != pending.next_id:
                raise SessionStoreError(
                    f"message {number} of agent {agent_id!r} in session {session_id!r} cannot be appended: "
                    f"its next message is number {pending.next_id}"
                )
            given = copy.deepcopy(session_message)
            message = given.to_message()
            with_tracking_id(message)
            document, size, payloads = encode_session_message(given, agent_id)
            record = Record(number, document, size, payloads, message, tracking_id=message.get("tracking_id"))
            record.origin = Origin.BY_HAND
            record.is_redacted = given.redact_message is not None
            record.dates = (document.get(paths.CREATED_AT), document.get(paths.UPDATED_AT))
            record.refer(document, set(), payloads)
            if not record.referred:
                document.pop(paths.PAYLOADS, None)
            record.see()
            pending.append(record)
        self._lifetime.writer.flush_soon()

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message, None when there is no such agent or message.

        Raises:
            SessionStoreError: It is stored, and not loaded.
        """
        self._check(session_id, "read_message")
        number = check_whole_number("message_id", message_id)
        with self._lifetime.changes.lock:
            if not self._is_known(agent_id, "read_message"):
                return None
            found = next((m for m in self._loaded(agent_id) if m.message_id == number), None)
            if found is None and 0 <= number < self._next_id(agent_id):
                raise self._not_loaded(f"message {number} of agent {agent_id!r}", "read_message")
            return found

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Change a message's content or redact it; its metrics and guardrail record stay.

        The live agent's own copy is left alone, as with every repository.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageNotFoundError: The agent has no such message.
            SessionStoreError: It is stored and not loaded; or it was redacted, and this would undo that.
            TypeError: The number is no integer, or the message cannot be stored.
        """
        self._check(session_id, "update_message")
        number = check_whole_number("message_id", session_message.message_id)
        with self._lifetime.changes.lock:
            pending = self._pending(agent_id, "update_message")
            record = next((r for r in pending.records if r.message_id == number), None)
            if record is None and 0 <= number < pending.next_id:
                raise self._not_loaded(f"message {number} of agent {agent_id!r}", "update_message")
            if record is None:
                raise MessageNotFoundError(session_id, agent_id, number)
            given = copy.deepcopy(session_message)
            if record.is_redacted and given.redact_message is None:
                raise SessionStoreError(
                    f"message {number} of agent {agent_id!r} in session {session_id!r} was redacted, "
                    "which cannot be undone; read it again to change the redacted message"
                )
            self._change(pending, record, given)
        self._lifetime.writer.flush_soon()

    def _change(self, pending: PendingAgent, record: Record, given: SessionMessage) -> None:
        fields, _, payloads = encode_session_message(given, pending.agent_id)
        for name in (paths.CREATED_AT, paths.UPDATED_AT, paths.PAYLOADS):
            fields.pop(name, None)
        # The live agent's copy may be corrected likewise: that is no other content then.
        record.written_content(fields["content"])
        pending.change(record, fields, [paths.WINDOW_CONTENT, *({paths.EXTRA} - fields.keys())], payloads)
        record.is_redacted = given.redact_message is not None
        record.dates = (record.dates[0], now())
        given.created_at, given.updated_at = map(iso_date, record.dates)
        if given.redact_message is not None:
            given.message = copy.deepcopy(given.redact_message)
        held = {record for agent in self._lifetime.changes.agents.values() for record in agent.records}
        self._messages = {known: value for known, value in self._messages.items() if known in held}
        self._messages[record] = given, record.seen

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return the messages that are loaded, oldest first.

        Args:
            session_id: The manager's own session.
            agent_id: One of its agents.
            limit: Most messages to return; None means all that are loaded.
            offset: Messages of the history to skip from the oldest, loaded or not.

        Raises:
            AgentNotFoundError: The session has no such agent.
            SessionStoreError: The limit reaches for messages that are not loaded.
            TypeError: One of them is no integer.
            ValueError: A negative limit or offset.
        """
        self._check(session_id, "list_messages")
        offset = check_whole_number("offset", offset)
        limit = None if limit is None else check_whole_number("limit", limit)
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError(
                f"invalid limit and offset: they must not be negative, got limit={limit!r}, offset={offset!r}"
            )
        with self._lifetime.changes.lock:
            if not self._is_known(agent_id, "list_messages"):
                raise AgentNotFoundError(session_id, agent_id)
            found = sorted(self._loaded(agent_id), key=lambda message: message.message_id)
            found = [message for message in found if message.message_id >= offset]
            if limit is None:
                return found
            end = min(offset + limit, self._next_id(agent_id))
            found = [message for message in found if message.message_id < end]
            if len(found) < end - offset:
                raise self._not_loaded(f"messages of agent {agent_id!r} before number {end}", "list_messages")
            return found

    def _loaded(self, agent_id: str) -> Iterable[SessionMessage]:
        pending = self._lifetime.changes.agents.get(agent_id)
        if pending is None:
            documents = self._lifetime.restorer.documents(agent_id)
            return [copy.deepcopy(session_message(document, original=True)) for document in documents]
        return [self._message_of(record) for record in pending.records]

    def _message_of(self, record: Record) -> SessionMessage:
        given, seen = self._messages.get(record, (None, ()))
        looks = record.seen
        is_as_given = len(looks) == len(seen) and all(map(is_, looks, seen))
        if given is not None and is_as_given and record.content_looks_as_seen(record.message):
            return copy.deepcopy(given)
        message = copy.deepcopy(record.message)
        redacted = copy.deepcopy(message) if record.is_redacted else None
        created, updated = map(iso_date, record.dates)
        return SessionMessage(message, record.message_id, redacted, created, updated)

    # -- graphs and swarms

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Note the state of a graph or swarm."""
        self.update_multi_agent(session_id, multi_agent)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of a graph or swarm as it was noted last or loaded, None when there is none."""
        self._check(session_id, "read_multi_agent")
        with self._lifetime.changes.lock:
            if (source := self._conversations.live_graph(multi_agent_id)) is not None:
                return copy.deepcopy(source.serialize_state())
            if (given := self._graphs.get(multi_agent_id)) is not None:
                return copy.deepcopy(given)
            return copy.deepcopy(self._lifetime.restorer.graph_state(multi_agent_id))

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Note the state of a graph or swarm."""
        self._check(session_id, "update_multi_agent")
        self._conversations.check_current()
        with self._lifetime.changes.lock:
            state = multi_agent.serialize_state()
            self._lifetime.changes.set_graph(multi_agent.id, state)
            self._graphs[multi_agent.id] = copy.deepcopy(state)
        self._lifetime.writer.flush_soon()

    # -- what is loaded

    def _check(self, session_id: str, operation: str) -> None:
        self._lifetime.check_open()
        if check_session_id(session_id) != self._lifetime.session_id:
            raise SessionStoreError(
                f"session_repository of the manager of session {self._lifetime.session_id!r} is a view of that session "
                f"in memory; for session {session_id!r} use `await manager.repository.{operation}(...)`"
            )

    def _is_known(self, agent_id: str, operation: str) -> bool:
        session = self._lifetime.session
        if check_agent_id(agent_id) in self._lifetime.changes.agents or agent_id in session.agents:
            return True
        if session.agent_ids is not None and agent_id not in session.agent_ids:
            raise self._not_loaded(f"agent {agent_id!r}", operation)
        return False

    def _pending(self, agent_id: str, operation: str) -> PendingAgent:
        self._conversations.check_current(agent_id)
        if not self._is_known(agent_id, operation):
            raise AgentNotFoundError(self._lifetime.session_id, agent_id)
        if (pending := self._lifetime.changes.agents.get(agent_id)) is None:
            raise SessionStoreError(
                f"agent {agent_id!r} of session {self._lifetime.session_id!r} was not built with this manager; build "
                f"it to change it here, or use `await manager.repository.{operation}(...)`"
            )
        return pending

    def _next_id(self, agent_id: str) -> int:
        pending = self._lifetime.changes.agents.get(agent_id)
        return self._lifetime.session.agents[agent_id].next_message_id if pending is None else pending.next_id

    def _live(self, agent_id: str) -> SessionAgent | None:
        """Return a record of the live agent as it is now, None when there is none."""
        agent: LocalAgent | None = self._conversations.live_agent(agent_id)
        if agent is None:
            return None
        live = copy.deepcopy(SessionAgent.from_agent(agent))
        stored = self._lifetime.session.agents.get(agent_id)
        dates: dict[str, Any] = {} if stored is None else stored.data
        live.created_at, live.updated_at = (iso_date(dates.get(name)) for name in (paths.CREATED_AT, paths.UPDATED_AT))
        return live

    def _not_loaded(self, what: str, operation: str) -> SessionStoreError:
        return SessionStoreError(
            f"{what} of session {self._lifetime.session_id!r} is not loaded; session_repository is a view in memory, "
            f"use `await manager.repository.{operation}(...)`"
        )


def _states(agent: SessionAgent) -> list[Any]:
    return [getattr(agent, name) for name in STATE_FIELDS]
