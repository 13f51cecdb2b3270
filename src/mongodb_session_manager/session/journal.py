"""The in-memory store that Strands' own session logic runs on, and what it still owes the database.

Strands numbers messages, restores conversations, repairs tool-use pairs and tracks redactions against a
`SessionRepository`. The journal is one that does no I/O: it answers from what `open()` loaded, collects what changed,
and freezes that into batches. It keeps encoded copies, made when a message is appended: Strands goes on to change
its message objects in place, and what cannot be stored has to be found at once, not at every flush.

One lock guards everything, held for memory work only; agents may run on any thread.
"""

from __future__ import annotations

import logging
import math
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import bson
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage

from ..errors import CorruptMessageError, MessageTooLargeError, SessionStoreError
from ..schema import values
from ..schema.agents import STATE_FIELDS, StoredAgent, ranges
from ..schema.archives import GUARDRAIL_EVENTS
from ..schema.messages import encode_message, now, placeholder, session_message
from ..schema.names import encode_name
from ..schema.payloads import (
    names_by_field,
    names_in,
    offload_state,
    restored_graph,
    restored_message,
    take,
)
from ..schema.sessions import StoredSession
from ..schema.values import encoded_size
from ..store.batches import AgentChanges, Batch, Document, ElementChange, Head, Record, Step, fits_whole, split

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)


class AgentJournal:
    """What is known and what is pending of one agent."""

    def __init__(self, agent_id: str, stored: StoredAgent | None) -> None:
        """Start from what is stored of the agent; None for a new one."""
        self.agent_id = agent_id
        self.key = encode_name(agent_id) if stored is None else stored.key
        self.loaded = stored
        self.exists = stored is not None
        self.expected = 0 if stored is None else stored.next_message_id
        self.next_id = self.expected
        self.records: list[Record] = []
        self.pending: list[Record] = []
        self.elements: dict[Record, ElementChange] = {}
        self.fields: Document = {}
        self.increments: dict[str, float] = {}
        self.window: list[Record] | None = None
        self.window_head = 0
        self.stored_ranges: object = None if stored is None else (stored.window, stored.window_head)
        self.dirty = stored is None
        self.latest_assistant: Record | None = None
        self._captured: dict[str, bytes] = {}
        self._payloads: dict[str, dict[str, bytes]] = {}
        self._references: dict[str, set[str]] = {}
        if stored is not None:
            # As stored, not as restored: what older tools left empty is to be filled in.
            data = stored.raw.get("agent_data")
            for name in STATE_FIELDS:
                found = data.get(name) if isinstance(data, dict) else None
                self._captured[f"agent_data.{name}"] = _fingerprint(found or {})
                if stored.payloads is not None:
                    self._references[f"agent_data.{name}"] = names_in(found or {})

    def capture(self, path: str, value: Any) -> None:
        """Note the present value of a field; it is written when its encoded form differs from the last one."""
        encoded = values.encode(value, where=f"agent {self.agent_id!r} {path.rpartition('.')[2]}", foreign=True)
        encoded, payloads = offload_state(encoded)
        fingerprint = _fingerprint(encoded)
        if self._captured.get(path) != fingerprint:
            self._captured[path] = fingerprint
            self.fields[path] = encoded
            self._payloads[path] = payloads
            self.dirty = True

    def increase(self, path: str, amount: float) -> None:
        """Raise a running total."""
        if amount:
            self.increments[path] = self.increments.get(path, 0) + amount
            self.dirty = True

    def append(self, record: Record) -> None:
        """Queue a message."""
        record.renumber(self.next_id)
        self.next_id += 1
        self.records.append(record)
        self.pending.append(record)
        if self.window is not None:
            # A window that waits to be stored is as open-ended as one that is stored.
            self.window.append(record)
        self.dirty = True

    def change(
        self,
        record: Record,
        fields: Document,
        removed: Iterable[str] = (),
        payloads: Mapping[str, bytes] | None = None,
    ) -> None:
        """Change fields of a message: in the copy that is still to be sent, and in the document where it may be.

        Args:
            record: The message.
            fields: Fields to set, encoded.
            removed: Fields to remove.
            payloads: Large bytes that were taken out of the fields already, by name.
        """
        fields, removed, before = dict(fields), set(removed), record.referred
        payloads = {**(payloads or {}), **take(fields).named()}
        if payloads or before or "redact_message" in fields:
            _refer(record, fields, removed, payloads)
        if record.document is not None:
            record.document.update(fields)
            for name in removed:
                record.document.pop(name, None)
        if record.stored or record.frozen:
            element = self.elements.setdefault(record, ElementChange(self.key, record))
            needed = {**element.payloads, **record.payloads}
            element.payloads = {name: data for name, data in needed.items() if name in record.referred}
            element.released |= before - record.referred
            element.fields.update(fields)
            element.removed.update(removed)
            element.removed.difference_update(fields)
            for name in removed:
                element.fields.pop(name, None)
            self.dirty = True

    def hold(self, records: list[Record], head: int) -> None:
        """Note which messages the agent holds now."""
        described = ranges((record.message_id for record in records), self.next_id)
        if self.window is None and self.stored_ranges == (described, head):
            return
        self.window, self.window_head = list(records), head
        self.stored_ranges = (described, head)
        self.dirty = True

    def keep(self, records: Iterable[Record]) -> None:
        """Forget records that are stored and that the agent no longer holds; the latest may yet be redacted."""
        held = {*records, *self.records[-1:]}
        self.records = [record for record in self.records if record in held or not record.stored or record.by_hand]

    def release(self) -> None:
        """Let go of what was loaded, once the agent is restored from it."""
        if self.loaded is not None:
            self.loaded.raw, self.loaded.payloads = {}, None
            self.loaded = None

    def yield_state(self) -> None:
        """Drop what is pending of the state and the window, of which others stored newer ones; messages stay."""
        self.exists, self.fields, self.window, self._payloads = True, {}, None, {}
        self.dirty = bool(self.pending or self.elements or self.increments)

    def find(self, session_message: SessionMessage) -> Record | None:
        """Return the record behind one of Strands' session messages."""
        return next((r for r in reversed(self.records) if r.session_message is session_message), None)

    def freeze(self) -> tuple[list[ElementChange], AgentChanges]:
        """Hand over what is pending."""
        elements, self.elements = list(self.elements.values()), {}
        changes = AgentChanges(
            agent_id=self.agent_id,
            key=self.key,
            create=not self.exists,
            expected=self.expected,
            records=self.pending,
            fields=self.fields,
            increments=self.increments,
            window=self.window,
            window_head=self.window_head,
        )
        for path in self.fields.keys() & self._payloads.keys():
            payloads = self._payloads.pop(path)
            changes.payloads |= payloads
            changes.released |= self._references.get(path, set()) - payloads.keys()
            self._references[path] = set(payloads)
        for record in self.pending:
            record.frozen = True
        self.pending, self.fields, self.increments, self.window = [], {}, {}, None
        self.dirty = False
        return elements, changes

    def acknowledge(self, changes: AgentChanges) -> None:
        """Note that changes are stored."""
        self.exists = True
        self.expected = changes.next_message_id
        for record in changes.records:
            record.stored, record.frozen, record.payloads = True, False, {}
            if not record.by_hand:
                record.document = None

    def move_to(self, expected: int, changes: AgentChanges, later: Sequence[AgentChanges] = ()) -> None:
        """Renumber what is not stored yet: another writer took the numbers from `changes.expected` on."""
        self.expected = number = expected
        for part in (changes, *later):
            part.expected = number
            number = _renumber(part.records, number)
        self.next_id = _renumber(self.pending, number)


def _refer(record: Record, fields: Document, removed: set[str], payloads: Mapping[str, bytes]) -> None:
    """Keep track of what a message refers to, and let the changes list it."""
    for name in {*removed, *fields}:
        record.references.pop(name, None)
    for name, value in fields.items():
        if found := names_in(value):
            record.references[name] = frozenset(found)
    referred = record.referred
    record.payloads = {name: data for name, data in {**record.payloads, **payloads}.items() if name in referred}
    if referred:
        fields["payloads"] = sorted(referred)
    else:
        removed.add("payloads")


def _renumber(records: Sequence[Record], number: int) -> int:
    for record in records:
        record.renumber(number)
        number += 1
    return number


def _fingerprint(encoded: Any) -> bytes:
    return bson.encode({"v": encoded})


class Journal(SessionRepository):
    """One session in memory, in the shape that Strands' `RepositorySessionManager` works on.

    Owned by one session manager. No method waits for anything.
    """

    def __init__(self, session: StoredSession, *, is_new: bool, skip_corrupt_messages: bool = False) -> None:
        """Start from a loaded session.

        Args:
            session: What was loaded.
            is_new: The session was created by this manager, so no agent can be stored in it.
            skip_corrupt_messages: Leave out messages that cannot be read, with a warning, instead of raising.
        """
        self.lock = threading.RLock()
        self.session = session
        self.is_new = is_new
        self.agents: dict[str, AgentJournal] = {}
        self._skip_corrupt_messages = skip_corrupt_messages
        self._graphs: Document = {}
        self._graph_payloads: dict[str, dict[str, bytes]] = {}
        self._note_graphs(session)
        self._guardrail_events: list[Document] = []
        self._late_events: list[Step] = []

    def reload(self, session: StoredSession) -> set[str]:
        """Go on from a session as it was loaded anew; agents have to be restored from it.

        Returns:
            The ids of graphs and swarms whose stored state is another one than was seen here last.
        """
        before = self._graphs_captured
        self.session = session
        self.is_new = False
        self._note_graphs(session)
        return {key for key, state in self._graphs_captured.items() if before.get(key) != state}

    def _note_graphs(self, session: StoredSession) -> None:
        self._graphs_captured = {key: _fingerprint(state) for key, state in session.multi_agents.items()}
        self._graph_references = {
            key: names_in(state) for key, state in session.multi_agents.items() if session.has_payloads
        }

    def yield_to(self, session: StoredSession, batches: Iterable[Batch]) -> None:
        """Keep what is pending from overwriting what others stored of agents and graphs; messages are still appended.

        Args:
            session: What is stored now.
            batches: What is frozen already.
        """
        with self.lock:
            for agent_id, agent in self.agents.items():
                if agent_id in session.agents:
                    agent.yield_state()
            stored_graphs = {f"multi_agents.{encode_name(key)}": key for key in session.multi_agents}
            for path in stored_graphs.keys() & self._graphs.keys():
                del self._graphs[path]
                self._graph_payloads.pop(stored_graphs[path], None)
            for step in [step for batch in batches for step in batch.steps[batch.position :]]:
                step.fields = {path: value for path, value in step.fields.items() if path not in stored_graphs}
                for changes in step.agents:
                    if changes.agent_id in session.agents:
                        changes.create, changes.fields, changes.window = False, {}, None

    # -- sessions and agents: Strands' contract

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Return the session; `open()` has stored it already."""
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return the session, None when it is new."""
        return None if self.is_new else self.session.session()

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Queue a new agent."""
        with self.lock:
            self.agents[session_agent.agent_id] = AgentJournal(session_agent.agent_id, None)
            self.update_agent(session_id, session_agent)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return a loaded agent, None when the session has none of that id.

        Raises:
            SessionStoreError: `open(agents=[...])` left the agent out, so whether it exists is unknown.
        """
        narrowed = self.session.agent_ids
        if narrowed is not None and agent_id not in narrowed:
            raise SessionStoreError(
                f"session {session_id!r} was opened for agents {sorted(narrowed)} only; "
                f"name {agent_id!r} in open(agents=...), too"
            )
        stored = self.session.agents.get(agent_id)
        if stored is None:
            return None
        with self.lock:
            self.agents[agent_id] = AgentJournal(agent_id, stored)
        return stored.session_agent()

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Queue the agent's state where it changed."""
        with self.lock:
            agent = self.agents[session_agent.agent_id]
            for name in STATE_FIELDS:
                agent.capture(f"agent_data.{name}", getattr(session_agent, name))

    # -- messages

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Queue a message, under the agent's next number.

        Raises:
            TypeError: The message holds something that cannot be stored.
            ValueError: The message is nested too deeply.
            MessageTooLargeError: The message is larger than a document may be.
        """
        message = session_message.message
        if not message.get("tracking_id"):
            # Strands would give it one later, when a resumed copy could not get the same any more.
            message["tracking_id"] = str(uuid.uuid4())
        problem: Exception | None = None
        try:
            document, payloads = encode_message(message, agent_id=agent_id)
        except (TypeError, ValueError, MessageTooLargeError) as error:
            problem = error
            document, payloads = placeholder(message, type(error).__name__), {}
        moment = now()
        document |= {"created_at": moment, "updated_at": moment}
        size = encoded_size(document)
        record = Record(0, message, session_message, document, tracking_id=message["tracking_id"], size=size)
        record.payloads, record.references = payloads, names_by_field(document)
        self.see(record)
        with self.lock:
            self.agents[agent_id].append(record)
        if problem is not None:
            raise problem

    @staticmethod
    def see(record: Record) -> None:
        """Note how the message looks now, to notice when Strands rewrites it."""
        record.content = record.message.get("content")
        record.custom = _custom(record.message)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message that the agent holds."""
        records = self.agents[agent_id].records
        return next((r.session_message for r in records if r.message_id == message_id), None)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Queue the redaction of a message; an original that was never sent never will be."""
        with self.lock:
            agent = self.agents[agent_id]
            record = agent.find(session_message)
            if record is None:
                return
            # Strands redacts in place, and asks for each earlier record that holds the same message object, too.
            replacement = session_message.redact_message or session_message.message
            redacted, payloads = encode_message(replacement, agent_id=agent_id)
            redacted.pop("payloads", None)
            shown = {key: redacted[key] for key in ("role", "content")}
            # The record must not go on holding what was said, in Strands' copy either.
            session_message.message = session_message.redact_message = record.message = replacement
            agent.change(record, {**shown, "redact_message": redacted}, removed=["window_content"], payloads=payloads)
            self.see(record)

    def replace_message(self, agent_id: str, record: Record, message: Message) -> None:
        """Queue another text for a message that Strands replaced (a merged continuation, a finished transcript)."""
        encoded, payloads = encode_message(message, agent_id=agent_id)
        gone = {"window_content", "metadata", "extra"} - encoded.keys()
        with self.lock:
            record.message = record.session_message.message = message
            record.tracking_id = message.get("tracking_id")
            self.see(record)
            self.agents[agent_id].change(record, encoded, removed=gone, payloads=payloads)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return the messages of the agent's window, oldest first, as fresh copies.

        The stored window decides; `offset`, Strands' count of removed messages, only where none is stored.

        Raises:
            CorruptMessageError: One of them cannot be read.
        """
        agent = self.agents[agent_id]
        stored = agent.loaded
        if stored is None:
            return []
        window = stored.window
        documents: list[Document] = []
        references: dict[int, dict[str, frozenset[str]]] = {}
        for position, item in enumerate(stored.messages(window)):
            if isinstance(item, CorruptMessageError):
                self._handle_corrupt(item)
            elif window is not None or position >= offset:
                if stored.payloads is not None:
                    references[item["message_id"]] = names_by_field(item)
                documents += self._restored(item, stored)
        if window is not None and len(window) > 1:
            documents = _by_window(documents, window)
        result = [session_message(document) for document in documents[:limit]]
        records = [Record(m.message_id, m.to_message(), m, stored=True) for m in result]
        for record in records:
            record.tracking_id = record.message.get("tracking_id")
            record.references = references.get(record.message_id, {})
            self.see(record)
        with self.lock:
            agent.records = records
        return result

    def _restored(self, document: Document, stored: StoredAgent) -> list[Document]:
        """Return a message with its large bytes; none where they are missing and it may be skipped."""
        if stored.payloads is None:
            return [document]
        try:
            return [restored_message(document, stored.payloads, stored.agent_id)]
        except CorruptMessageError as error:
            self._handle_corrupt(error)
            return []

    def _handle_corrupt(self, error: CorruptMessageError) -> None:
        if not self._skip_corrupt_messages:
            raise error
        logger.warning(
            "session_id=<%r>, agent_id=<%r>, message_id=<%s> | skipping a message that cannot be read",
            self.session.session_id,
            error.agent_id,
            error.message_id,
        )

    # -- graphs and swarms

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Queue the state of a graph or swarm."""
        self.update_multi_agent(session_id, multi_agent)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the stored state of a graph or swarm, None when there is none.

        Raises:
            SessionStoreError: Large parts of it are missing.
        """
        state = self.session.multi_agents.get(multi_agent_id)
        if state is not None and self.session.has_payloads:
            state = restored_graph(state, self.session.payloads, multi_agent_id)
        return None if state is None else cast("dict[str, Any]", values.decode(state))

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Queue the state of a graph or swarm where it changed."""
        encoded = values.encode(multi_agent.serialize_state(), where=f"multi-agent {multi_agent.id!r}", foreign=True)
        encoded, payloads = offload_state(encoded)
        fingerprint = _fingerprint(encoded)
        with self.lock:
            if self._graphs_captured.get(multi_agent.id) != fingerprint:
                self._graphs_captured[multi_agent.id] = fingerprint
                self._graphs[f"multi_agents.{encode_name(multi_agent.id)}"] = encoded
                self._graph_payloads[multi_agent.id] = payloads

    # -- guardrail records

    def add_guardrail_event(self, event: Document) -> None:
        """Queue the session's summary of a guardrail intervention."""
        with self.lock:
            self._guardrail_events.append(event)

    def amend_guardrail_event(self, event: Document, fields: Document) -> None:
        """Add what was learnt later to a guardrail summary, wherever it is by now."""
        with self.lock:
            identity = {key: event[key] for key in ("message_id", "agent_id", "timestamp")}
            if any(waiting is event for waiting in self._guardrail_events):
                event.update(fields)
                return
            event.update(fields)
            guard = {"guardrail_events": {"$elemMatch": identity}}
            changed = {f"guardrail_events.$.{name}": value for name, value in fields.items()}
            # Guards seals, as for messages.
            raised: dict[str, float] = {f"{GUARDRAIL_EVENTS.archive}.redactions": 1}
            self._late_events.append(Step(guard=guard, fields=changed, increments=raised))

    # -- batches

    @property
    def dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(
            self._graphs or self._guardrail_events or self._late_events or any(a.dirty for a in self.agents.values())
        )

    def freeze(self, *, whole: bool = False) -> Batch | None:
        """Hand over everything that is pending as one batch; None when nothing is.

        Args:
            whole: Do not split messages over several steps while there is room for them in one.
        """
        with self.lock:
            if not self.dirty:
                return None
            frozen = [agent.freeze() for agent in self.agents.values() if agent.dirty]
            elements = [element for changes, _ in frozen for element in changes]
            main = Step(
                agents=[changes for _, changes in frozen],
                fields=self._graphs,
                pushes={"guardrail_events": self._guardrail_events} if self._guardrail_events else {},
            )
            late, self._late_events = self._late_events, []
            self._graphs, self._guardrail_events = {}, []
            for key, payloads in self._graph_payloads.items():
                main.payloads |= payloads
                main.released |= self._graph_references.get(key, set()) - payloads.keys()
                self._graph_references[key] = set(payloads)
            self._graph_payloads = {}
            undivided = whole and fits_whole(main.agents)
            parts = [[changes] if undivided else split(changes) for changes in main.agents]
            more = [Step(agents=[part]) for rest in parts for part in rest[1:]]
            appended_to = {changes.key for changes in main.agents if changes.records or changes.create}
            if elements and elements[-1].key not in appended_to:
                main.element = elements.pop()
            # Redactions go first: what was redacted must not stand in the document a moment longer than needed.
            return Batch([*(Step(element=element) for element in elements), main, *more, *late])

    def acknowledge(self, step: Step) -> None:
        """Note that a step is stored."""
        with self.lock:
            for changes in step.agents:
                self.agents[changes.agent_id].acknowledge(changes)
            if step.element is not None:
                step.element.record.payloads = {}

    def resolve(self, batch: Batch, head: Head) -> bool:
        """Adjust the step of a batch that the document refused; True when it is worth sending again.

        Another writer appended (renumber), created the agent first (append to it), or deleted it (create it anew); or
        a message to be changed was sealed (change it in its segment first).
        """
        step = batch.steps[batch.position]
        changed = False
        with self.lock:
            for changes in step.agents:
                agent = self.agents[changes.agent_id]
                found = head.next_ids.get(changes.key)
                if found is None and not changes.create:
                    changes.create = changed = True
                elif found is not None and (changes.create or (changes.records and found != changes.expected)):
                    changes.create = False
                    agent.exists = changed = True
                    later = [c for s in batch.steps[batch.position + 1 :] for c in s.agents if c.key == changes.key]
                    agent.move_to(found, changes, later)
                    logger.warning(
                        "session_id=<%r>, agent_id=<%r>, next_message_id=<%s> | another writer appended, renumbering",
                        self.session.session_id,
                        agent.agent_id,
                        found,
                    )
            if not changed and step.element is not None and not step.sealed and not head.element_found:
                batch.steps.insert(batch.position, Step(element=step.element, sealed=True))
                step.element = None
                changed = True
            if not changed and step.guard:
                # Only amendments of records carry a guard of their own, and the record is gone.
                step.guard, step.fields, step.increments = {}, {}, {}
                changed = True
        return changed


def looks_as_seen(record: Record, message: Message) -> bool:
    """Tell whether a message is the one that `Journal.see` saw, and was not rewritten since."""
    seen = record.message is message and message.get("content") is record.content
    return seen and _custom(message) == record.custom


def _custom(message: Message) -> object:
    metadata = message.get("metadata")
    custom = metadata.get("custom") if metadata else None
    return dict(custom) if custom else None


def _by_window(documents: Sequence[Document], window: Sequence[Sequence[int | None]]) -> list[Document]:
    """Return the messages of the window in the order of its ranges, in which the agent held them, each once."""
    held: dict[int, Document] = {}
    for first, last in window:
        if first is not None:
            end = math.inf if last is None else last
            held |= {d["message_id"]: d for d in documents if first <= d["message_id"] <= end}
    return list(held.values())
