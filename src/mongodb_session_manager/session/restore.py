"""Restoring agents, graphs and swarms with Strands' own session logic, from what `open()` loaded.

Strands restores a conversation, repairs broken pairs of tool call and result, and honours what its conversation
managers keep; that part keeps evolving, so it is used and not rewritten. It works on a `SessionRepository`, which is
here one in memory. Numbering, appending and redacting are the tracker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Never, cast

from strands.agent import Agent
from strands.session import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from ..errors import CorruptMessageError, CorruptSessionError, SessionStoreError
from ..schema import paths, values
from ..schema.agents import STATE_FIELDS, StoredAgent
from ..schema.messages import has_whole_calls, say_the_same, session_message, with_tracking_id
from ..schema.payloads import names_by_field, restored_graph, restored_message
from ..schema.windows import Ranges, arranged
from ..store.loaded import StoredSession
from ..store.updates import Document
from .pending import PendingChanges
from .pending_agent import PendingAgent
from .record import Record

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent

logger = logging.getLogger(__name__)


class _Prepared(NamedTuple):
    """What an agent is restored from, once."""

    pending: PendingAgent
    agent: SessionAgent
    messages: list[SessionMessage]


def prepare(session: StoredSession) -> None:
    """Read what agents are restored from ahead, on the thread that loaded it, where nothing has to be loaded beside it.

    What cannot be read is left to the restoring of its agent.
    """
    if not session.head.is_current or session.head.has_related:
        return
    for agent_id, stored in session.agents.items():
        window = stored.window
        if window is not None and len(window) == 1 and stored.odd_field is None and _has_states(stored):
            with suppress(CorruptMessageError):
                documents = [_readable(document) for document in stored.messages(window)]
                records, messages = _read(agent_id, documents, None, _raise)
                pending = PendingAgent(agent_id, stored)
                pending.restored(records, None)
                session.prepared[agent_id] = _Prepared(pending, stored.session_agent(), messages)


def _has_states(stored: StoredAgent) -> bool:
    """Tell whether an agent's states are stored, so that none has to be taken from the live one."""
    kept = stored.data.get(paths.MANAGER_STATE)
    return paths.STATE in stored.data and bool(kept) and isinstance(kept, Mapping)


def _readable(item: Document | CorruptMessageError) -> Document:
    return _raise(item) if isinstance(item, CorruptMessageError) else item


def _raise(error: CorruptMessageError) -> Never:
    raise error


def _read(
    agent_id: str,
    documents: list[Document],
    raw: Mapping[int, Document] | None,
    refuse: Callable[[CorruptMessageError], None],
) -> tuple[list[Record], list[SessionMessage]]:
    """Return the messages of a window as Strands has them, fresh copies, and the records of them.

    Args:
        agent_id: Whose messages they are.
        documents: The messages, oldest first.
        raw: The same with references to large contents, by `id()` of the document; None where there are none.
        refuse: Called for each message that Strands cannot work with, which is left out.
    """
    records: list[Record] = []
    found: list[SessionMessage] = []
    for document in documents:
        message = session_message(document, dated=False)
        if not has_whole_calls(message.to_message()["content"]):
            reason = "a tool call or result in it has no id, or no name"
            refuse(CorruptMessageError(agent_id, document[paths.MESSAGE_ID], reason))
            continue
        references = {} if raw is None else names_by_field(raw[id(document)])
        dates = (document.get(paths.CREATED_AT), document.get(paths.UPDATED_AT))
        record = Record.stored(document[paths.MESSAGE_ID], message.to_message(), references, dates)
        record.is_redacted = message.redact_message is not None
        records.append(record)
        found.append(message)
    return records, found


_THERE = Session("", SessionType.AGENT, "", "")
"""A session that is only looked at for being there."""


class _LoadedRepository(SessionRepository):
    """What `open()` loaded, as Strands reads it; what Strands creates is noted in the pending changes."""

    def __init__(self, session: StoredSession, changes: PendingChanges, *, skip_corrupt_messages: bool) -> None:
        self.session = session
        self.problem: Exception | None = None
        self._changes = changes
        self._skip_corrupt_messages = skip_corrupt_messages
        self._prepared: _Prepared | None = None

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        return _THERE

    # -- agents

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        agent = self._changes.agents[session_agent.agent_id] = PendingAgent(session_agent.agent_id)
        for name in STATE_FIELDS:
            agent.capture_state(name, getattr(session_agent, name))

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        narrowed = self.session.agent_ids
        if narrowed is not None and agent_id not in narrowed:
            raise SessionStoreError(
                f"session {session_id!r} was opened for agents {sorted(narrowed)} only; "
                f"name {agent_id!r} in open(agents=...), too"
            )
        stored = self.session.agents.get(agent_id)
        if stored is None:
            return None
        prepared: _Prepared | None = self.session.prepared.pop(agent_id, None)
        self._prepared = prepared
        if prepared is not None:
            self._changes.agents[agent_id] = prepared.pending
            return prepared.agent
        if (odd := stored.odd_field) is not None:
            raise CorruptSessionError(session_id, odd)
        self._changes.agents[agent_id] = PendingAgent(agent_id, stored)
        return stored.session_agent()

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        raise NotImplementedError("the tracker captures what changes")

    # -- messages

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        message = session_message.message
        with_tracking_id(message)
        record, problem = Record.of(message, agent_id)
        self._changes.agents[agent_id].append(record)
        if problem is not None:
            raise problem

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        raise NotImplementedError("restoring reads lists of messages")

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        raise NotImplementedError("the tracker redacts")

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return the messages of the agent's window, oldest first, as fresh copies.

        The stored window decides; `offset`, Strands' count of removed messages, only where none is stored.
        """
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            return prepared.messages
        stored = self.session.agents[agent_id]
        records, found = self._read(stored, offset)
        window: Ranges | None = None
        if stored.window is None:
            window = [[records[0].message_id if records else stored.next_message_id, None]]
        self._changes.agents[agent_id].restored(records, window)
        return found

    def _read(self, stored: StoredAgent, offset: int) -> tuple[list[Record], list[SessionMessage]]:
        documents = list(self.documents(stored, offset))
        if stored.window is not None and len(stored.window) > 1:
            documents = arranged(documents, stored.window)
        return _read(stored.agent_id, documents, None if stored.payloads is None else self._raw, self._handle_corrupt)

    def documents(self, stored: StoredAgent, offset: int = 0) -> Iterator[Document]:
        self._raw: dict[int, Document] = {}
        for position, item in enumerate(stored.messages(stored.window)):
            if isinstance(item, CorruptMessageError):
                self._handle_corrupt(item)
            elif stored.window is not None or position >= offset:
                try:
                    document = item
                    if stored.payloads is not None:
                        document = restored_message(item, stored.payloads, stored.agent_id)
                        self._raw[id(document)] = item
                except CorruptMessageError as error:
                    self._handle_corrupt(error)
                else:
                    yield document

    def _handle_corrupt(self, error: CorruptMessageError) -> None:
        if not self._skip_corrupt_messages:
            raise error
        logger.warning(
            "session_id=<%r>, agent_id=<%r>, message_id=<%s> | skipping a message that cannot be read",
            self.session.session_id,
            error.agent_id,
            error.number,
        )

    # -- graphs and swarms

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        self.update_multi_agent(session_id, multi_agent)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        state = self.session.multi_agents.get(multi_agent_id)
        if state is not None and self.session.head.has_payloads:
            state = restored_graph(state, self.session.payloads, multi_agent_id)
        return None if state is None else cast("dict[str, Any]", values.decode(state))

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        self._changes.set_graph(multi_agent.id, multi_agent.serialize_state())


class Restorer(RepositorySessionManager):
    """Strands' session manager, used to restore, with what it gets wrong about resumed windows put right.

    It inserts the conversation manager's own messages (a summary) before everything stored, where a live agent may
    hold pinned messages before them; it cannot resume an agent whose conversation manager left no state; and it puts
    the missing result of a tool call into the message that follows, even when that is the assistant's.
    """

    def __init__(
        self, session: StoredSession, changes: PendingChanges, *, is_new: bool, skip_corrupt_messages: bool
    ) -> None:
        """Restore from a loaded session; no I/O.

        Args:
            session: What was loaded.
            changes: Where new agents, graphs and their messages are noted; the caller holds their lock.
            is_new: The session was created by this manager, so that nothing can be stored in it.
            skip_corrupt_messages: Leave out messages that cannot be read, with a warning, instead of raising.
        """
        self._loaded = _LoadedRepository(session, changes, skip_corrupt_messages=skip_corrupt_messages)
        super().__init__(session_id=session.session_id, session_repository=self._loaded)
        self._changes = changes
        self._is_new_session = is_new
        self._restoring: str | None = None

    def reloaded(self, session: StoredSession) -> None:
        """Go on from a session that was loaded anew."""
        self._loaded.session = session
        self._is_new_session = False

    def restore(self, agent: LocalAgent, **kwargs: Any) -> StoredAgent | None:
        """Restore an agent, or note it as a new one; after an error the agent may be built again.

        Returns:
            What is stored of the agent, None for a new one.
        """
        agent_id = agent.agent_id
        if agent_id in self._changes.agents:
            # Mostly it is the one that an agent without an id gets.
            raise SessionException(
                "The `agent_id` of an agent must be unique in a session. Give each agent of a session an id of its "
                "own, as in Agent(agent_id='support', ...)."
            )
        stored = self._loaded.session.agents.get(agent_id)
        if stored is not None and isinstance(agent, Agent) and not _has_states(stored):
            kept = stored.data.get(paths.MANAGER_STATE)
            if not (kept and isinstance(kept, Mapping)):
                stored.data[paths.MANAGER_STATE] = agent.conversation_manager.get_state()
            if paths.STATE not in stored.data:
                # A fork leaves out a state that belongs to messages which stayed behind; the caller's stands.
                stored.data[paths.STATE] = values.encode(agent.state.get(), where=paths.STATE)
        self._restoring = agent_id
        try:
            self.initialize(cast("LocalAgent", _without_storage(agent)), **kwargs)
        except BaseException:
            self._changes.agents.pop(agent_id, None)
            raise
        finally:
            self._restoring = None
            # Only needed by what Strands appends and redacts itself, which it does not do here.
            self._latest_agent_message.pop(agent_id, None)
            self._held_records.pop(agent_id, None)
        pending = self._changes.agents[agent_id]
        if isinstance(agent, Agent) and agent.model.stateful:
            pending.records = []  # The conversation is the model provider's: the agent holds none of it.
        return stored if pending.exists else None

    def documents(self, agent_id: str) -> list[Document]:
        """Return the loaded messages of an agent that was not restored yet, oldest first.

        Raises:
            CorruptMessageError: One of them cannot be read.
        """
        return list(self._loaded.documents(self._loaded.session.agents[agent_id]))

    def graph_state(self, multi_agent_id: str) -> dict[str, Any] | None:
        """Return the loaded state of a graph or swarm, None when there is none."""
        return self._loaded.read_multi_agent(self.session_id, multi_agent_id)

    def forget_loaded(self, agent_id: str) -> None:
        """Let go of what was loaded of an agent, once it is restored from it."""
        if (stored := self._loaded.session.agents.get(agent_id)) is not None:
            stored.raw, stored.payloads = {}, None
            self._loaded.session.prepared.pop(agent_id, None)

    def _fix_broken_tool_use(self, messages: list[Message]) -> list[Message]:
        """Put the messages in the order of the live window, then repair what is broken."""
        pending = self._changes.agents.get(self._restoring or "")
        stored = self._loaded.session.agents.get(self._restoring or "")
        if pending is not None and stored is not None and len(messages) > len(pending.records):
            messages = _in_live_order(messages, pending.records, stored.window_head)
        if not any("toolUse" in block or "toolResult" in block for message in messages for block in message["content"]):
            return messages  # nearly always
        return super()._fix_broken_tool_use(_with_room_for_results(messages))


class _WithoutStorage:
    """An agent that seems to have no storage of its own: what else it may use is no concern of its session manager's.

    Strands warns that a repository's session manager leaves the storage unused.
    """

    def __init__(self, agent: LocalAgent) -> None:
        object.__setattr__(self, "_agent", agent)

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # what isinstance() asks
        return type(self._agent)

    storage = None

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_agent"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._agent, name, value)


def _without_storage(agent: LocalAgent) -> object:
    return agent if getattr(agent, "storage", None) is None else _WithoutStorage(agent)


def _in_live_order(messages: list[Message], records: Sequence[Record], head: int) -> list[Message]:
    stored = {id(record.message) for record in records}
    own = [message for message in messages if id(message) not in stored]
    rest = [message for message in messages if id(message) in stored]
    # A conversation manager that keeps no trace of its message in its state has it stored with the others.
    own = [message for message in own if not any(say_the_same(message, other) for other in rest)]
    return [*rest[:head], *own, *rest[head:]]


def _with_room_for_results(messages: list[Message]) -> list[Message]:
    """Return the messages with an empty user message behind each tool call that another assistant message follows.

    Strands fills in the results that are missing, into whatever message comes next.
    """
    result: list[Message] = []
    for message in messages:
        before = result[-1] if result else None
        if before is not None and message["role"] == before["role"] == "assistant" and _calls_tools(before):
            room: Message = {"role": "user", "content": []}
            with_tracking_id(room)
            result.append(room)
        result.append(message)
    return result


def _calls_tools(message: Mapping[str, Any]) -> bool:
    return any("toolUse" in block for block in message["content"])
