"""What one session manager owes the database. No I/O: it collects, freezes, acknowledges and rebases.

It keeps encoded copies, made when a message is appended: Strands goes on to change its message objects in place, and
what cannot be stored has to be found at once, not at every flush. One lock guards it, held for memory work only; agents
may run on any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import pairwise
from operator import is_
from typing import Any

import bson

from .. import tracing
from ..schema import paths, values
from ..schema.agents import STATE_FIELDS, StoredAgent, new_archive
from ..schema.archives import GUARDRAIL_EVENTS
from ..schema.names import encode_name
from ..schema.payloads import names_in, offload_state
from ..schema.sessions import ERROR_RING
from ..schema.windows import EVERYTHING, Ranges
from ..store.executor import Conflict
from ..store.loaded import StoredSession
from ..store.updates import (
    AppendMessages,
    ChangeMessage,
    Document,
    NewMessage,
    SetFields,
    Update,
    WindowChange,
    fits_whole,
)
from .record import Origin, Record, RecordState

logger = logging.getLogger(__name__)


class BatchState(Enum):
    """The life of a batch."""

    QUEUED = auto()
    APPLIED = auto()
    WITHDRAWN = auto()  # given up; `error` says why


@dataclass(eq=False, slots=True)
class Batch:
    """Updates to be applied in order, each once.

    Attributes:
        updates: What to apply.
        is_kept: A failure keeps it for a later flush; else a failure ends it.
        position: The update that comes next.
        refusals: How often that one was refused, and nothing could be adjusted.
        was_sent: Whether any of it may have reached the server.
        state: How far it has come.
        is_abandoned: Its submitter was cancelled and does not wait for it.
        error: Why it was given up.
        origin: Where in a trace it was asked for.
    """

    updates: list[Update]
    is_kept: bool = True
    is_abandoned: bool = False
    position: int = 0
    refusals: int = 0
    was_sent: bool = False
    state: BatchState = BatchState.QUEUED
    error: Exception | None = None
    origin: object = None

    @property
    def is_done(self) -> bool:
        """Whether it was applied or given up."""
        return self.state is not BatchState.QUEUED

    @property
    def left(self) -> Sequence[Update]:
        """The updates that are not known to be applied."""
        return self.updates[self.position :]

    @property
    def work(self) -> tracing.Work:
        """What sending it is called in a trace."""
        return "flush_session" if self.is_kept else "update_session"

    def describe(self, span: tracing.Span) -> None:
        """Tell a span what is to be sent."""
        left = self.left
        span.note(tracing.UPDATES, len(left))
        agents = {changes.agent_id for update in left for changes in update.agents}
        if len(agents) == 1:
            span.note(tracing.AGENT_ID, *agents)
        span.note(tracing.MESSAGES, sum(len(changes.messages) for update in left for changes in update.agents))
        span.note(tracing.SIZE, sum(update.size for update in left))

    def advance(self) -> None:
        """Go on to the next update: this one is applied."""
        self.position += 1
        self.refusals = 0
        if self.position == len(self.updates):
            self.state = BatchState.APPLIED

    def withdraw(self, error: Exception) -> None:
        """Give up what is not applied."""
        self.state, self.error = BatchState.WITHDRAWN, error


class PendingAgent:
    """What is pending of one agent, and what has to be known of what is stored of it."""

    def __init__(self, agent_id: str, stored: StoredAgent | None = None) -> None:
        """Start from what is stored of the agent; None for a new one."""
        self.agent_id = agent_id
        self.key = encode_name(agent_id) if stored is None else stored.key
        self.exists = stored is not None
        self.expected = self.next_id = 0 if stored is None else stored.next_message_id
        self.records: list[Record] = []
        self.latest_assistant: Record | None = None
        self.is_dirty = stored is None
        self.archive_id: str | None = _archive_id(stored)
        self.wants_all = False
        self._has_lost = False
        self._new: list[Record] = []
        self._changes: dict[Record, ChangeMessage] = {}
        self._fields: Document = {}
        self._increments: dict[str, float] = {}
        self._seen: dict[str, bytes] = {}
        self._initial: dict[str, bytes] = {}
        self._payloads: dict[str, dict[str, bytes]] = {}
        self._references: dict[str, set[str]] = {}
        self._stored_window: Ranges | None = None if stored is None else stored.window
        self._window: Ranges = self._stored_window or EVERYTHING
        self._window_head = 0 if stored is None else stored.window_head
        self._taken_out: dict[Record, None] = {}
        self._put_back: dict[Record, None] = {}
        self._out: set[Record] = set()
        self._order: list[Record] | None = None
        self._held: list[Record] = []
        self._window_is_dirty = False
        self._window_is_missing = stored is None
        if stored is not None:
            # As stored, not as restored: what older tools left empty is to be filled in.
            data = stored.raw.get(paths.AGENT_DATA)
            for name in STATE_FIELDS:
                found = (data.get(name) if isinstance(data, dict) else None) or {}
                self._seen[paths.agent_data(name)] = _fingerprint(found)
                if stored.payloads is not None:
                    self._references[paths.agent_data(name)] = names_in(found)

    # -- fields

    def capture_state(self, name: str, value: Any) -> None:
        """Note the present value of a state; it is written when its encoded form differs from the last one."""
        path = paths.agent_data(name)
        encoded = values.encode(value, where=f"agent {self.agent_id!r} {name}", foreign=True)
        encoded, payloads = offload_state(encoded)
        fingerprint = _fingerprint(encoded)
        if not self.exists:
            self._initial.setdefault(path, fingerprint)
        if self._seen.get(path) != fingerprint:
            self._seen[path] = fingerprint
            self._payloads[path] = payloads
            self.set_field(path, encoded)

    def set_field(self, path: str, encoded: Any) -> None:
        """Set a field below the agent."""
        self._fields[path] = encoded
        self.is_dirty = True

    def increase(self, path: str, amount: float) -> None:
        """Raise a running total."""
        if amount:
            self._increments[path] = self._increments.get(path, 0) + amount
            self.is_dirty = True

    # -- messages

    def restored(self, records: list[Record], window: Ranges | None) -> None:
        """Go on from the messages that the agent was restored with.

        Args:
            records: The messages.
            window: The window that they are, where the document holds none.
        """
        self.records = records
        if window is not None:
            self._window, self._window_is_missing = window, True

    def append(self, record: Record) -> None:
        """Queue a message, under the agent's next number."""
        record.message_id = self.next_id
        self.next_id += 1
        self.records.append(record)
        self._new.append(record)
        self.is_dirty = True

    def change(
        self,
        record: Record,
        fields: Document,
        removed: Iterable[str] = (),
        payloads: Mapping[str, bytes] | None = None,
    ) -> None:
        """Change fields of a message: in the copy that is still to be sent, and in the document where it may be."""
        change: ChangeMessage | None = None
        if record.state in (RecordState.FROZEN, RecordState.STORED):
            change = self._changes.setdefault(record, ChangeMessage(self.key, record))
            self.is_dirty = True
        record.change(change, dict(fields), set(removed), payloads or {})

    def see_window(self, held: Sequence[Record], head: int) -> None:
        """Note which messages the agent holds now: what it held and holds no more is taken out of the window.

        What it never held stays in: messages of other writers, and those that were appended by hand.
        """
        if self._has_lost:
            head = sum(record.state is not RecordState.GONE for record in held[:head])
            self._forget({*held, *(record for record in self.records if record.state is not RecordState.GONE)})
            held = [record for record in held if record.state is not RecordState.GONE]
        if len(held) != len(self.records) or self._out or not all(map(is_, held, self.records)):
            self._see_others(held)
        self._held = list(held)
        order = None if _rises(held) and _is_sorted(self._window) else list(held)
        if head != self._window_head or (order != self._order and self._moves(order)):
            self._window_is_dirty = True
        self._window_head, self._order = head, order
        if self._window_is_dirty:
            self.is_dirty = True

    def _see_others(self, held: Sequence[Record]) -> None:
        present = set(held)
        for record in self.records:
            is_known = record.origin is not Origin.BY_HAND and record.state is not RecordState.GONE
            if record not in present and is_known and record not in self._out:
                self._take_out(record)
        for record in held:
            if record in self._out:
                self._put_in_again(record)
        self._forget(present | {record for record in self.records if record.state is RecordState.GONE})

    def _moves(self, order: list[Record] | None) -> bool:
        """Tell whether the window is another one than the stored one with its messages in this order."""
        taken_out, put_back = list(self._taken_out), list(self._put_back)
        change = WindowChange(self._stored_window, self._window, taken_out, put_back, order, held=self._held)
        return change.ranges(self.next_id) != [list(part) for part in self._window]

    def _take_out(self, record: Record) -> None:
        self._out.add(record)
        self._put_back.pop(record, None)
        self._taken_out[record] = None
        self._window_is_dirty = True

    def _put_in_again(self, record: Record) -> None:
        self._out.discard(record)
        self._taken_out.pop(record, None)
        self._put_back[record] = None
        self._window_is_dirty = True

    def _forget(self, present: set[Record]) -> None:
        """Forget records that are stored and that the agent no longer holds; the latest may yet be redacted.

        So may every record of an object that it holds: a prompt that is passed again is one object in several records.
        """
        present.update(self.records[-1:])
        held = {id(record.message) for record in present}
        self.records = [
            record
            for record in self.records
            if record in present or id(record.message) in held or record.state in _ON_THEIR_WAY
        ]
        self._out.intersection_update(self.records)

    # -- writing

    def go_behind(self, stored: StoredAgent, parts: Sequence[AppendMessages]) -> None:
        """Number what is not stored yet behind what others stored, unless another agent has the id by now."""
        for part in parts:
            part.archive_id = self.archive_id
        if self.archive_id == _archive_id(stored):
            self.move_to(stored.next_message_id, parts)

    def yield_state(self, stored: StoredAgent) -> None:
        """Drop what is pending of the state and the window, of which others stored newer ones; messages stay."""
        if not self.exists:
            self.archive_id = _archive_id(stored)
        self.exists, self._fields, self._payloads = True, {}, {}
        self._window_is_dirty = self._window_is_missing = False
        self.is_dirty = bool(self._new or self._changes or self._increments)

    def inherit(self) -> None:
        """Take what is frozen for stored: another process stores it, and may have done so."""
        self.next_id = self.expected
        for record in self.records:
            record.state, record.document = RecordState.STORED, None

    def freeze(self) -> tuple[list[ChangeMessage], AppendMessages]:
        """Hand over what is pending."""
        changed, self._changes = list(self._changes.values()), {}
        for change in changed:
            change.archive_id = self.archive_id
        changes = AppendMessages(
            self.agent_id,
            self.key,
            create=not self.exists,
            expected=self.expected,
            messages=self._new,
            fields=self._fields,
            increments=self._increments,
            archive_id=self.archive_id,
        )
        if self._window_is_dirty or self._window_is_missing:
            taken_out, put_back = list(self._taken_out), list(self._put_back)
            changes.window = WindowChange(
                self._stored_window, self._window, taken_out, put_back, self._order, self._window_head, self._held
            )
        for path in self._fields.keys() & self._payloads.keys():
            payloads = self._payloads.pop(path)
            changes.payloads |= payloads
            changes.released |= self._references.get(path, set()) - payloads.keys()
            self._references[path] = set(payloads)
        for record in self._new:
            record.state = RecordState.FROZEN
        self._new, self._fields, self._increments = [], {}, {}
        self.is_dirty = self._window_is_dirty = self._window_is_missing = False
        return changed, changes

    def acknowledge(self, changes: AppendMessages) -> None:
        """Note that changes are stored."""
        self.exists = True
        self.expected = changes.next_message_id
        for record in changes.messages:
            assert isinstance(record, Record)
            record.state, record.payloads, record.named_in = RecordState.STORED, {}, []
            if record.origin is not Origin.BY_HAND:
                record.document = None
        if (window := changes.window) is not None:
            self._window = self._stored_window = window.ranges(changes.next_message_id)
            for kept, written in ((self._taken_out, window.taken_out), (self._put_back, window.put_back)):
                for record in written:
                    kept.pop(record, None)  # type: ignore[call-overload]

    def yield_creation(self, changes: AppendMessages, archive_id: str | None) -> None:
        """Append to an agent that another writer created first, whose state stands until this one changes its own."""
        self.exists, changes.create = True, False
        self.archive_id = changes.archive_id = archive_id
        for path, initial in self._initial.items():
            if path in changes.fields and _fingerprint(changes.fields[path]) == initial:
                del changes.fields[path]

    def lose_stored(self, archive_id: str | None, changes: AppendMessages) -> None:
        """Go on without what was stored of the agent: it was deleted, and another of its id may be there.

        What was deleted stays so. The live agent still holds it, which is no reason to store it again.

        Args:
            archive_id: What tells the agent that is there now; None where `changes` create it.
            changes: What is to be stored next.
        """
        self._has_lost = True
        for record in [*self.records, *self._changes, *self._taken_out, *self._put_back, *self._out]:
            if record.state is RecordState.STORED:
                record.state = RecordState.GONE
        self._changes = {record: change for record, change in self._changes.items() if record.state in _ON_THEIR_WAY}
        for kept in (self._taken_out, self._put_back):
            for record in [record for record in kept if record.state is RecordState.GONE]:
                del kept[record]
        self._out = {record for record in self._out if record.state is not RecordState.GONE}
        self._window, self._stored_window, self._order = EVERYTHING, None, None
        if archive_id is None:
            # A new one has nothing yet of what the live one has: the next capture brings all of it.
            self.wants_all, self._seen = True, {}
        self.archive_id = changes.archive_id = archive_id or new_archive()["id"]
        window = WindowChange(None, EVERYTHING, list(self._taken_out), list(self._put_back), None, 0, self._held)
        changes.window = window if changes.window is not None or archive_id is None else None

    def move_to(self, expected: int, parts: Sequence[AppendMessages]) -> None:
        """Renumber what is not stored yet, frozen parts first: another writer took the numbers before `expected`."""
        self.expected = number = expected
        for part in parts:
            part.expected = number
            number = _renumber(part.messages, number)
        self.next_id = _renumber(self._new, number)


_ON_THEIR_WAY = (RecordState.PENDING, RecordState.FROZEN)


def _archive_id(stored: StoredAgent | None) -> str | None:
    if stored is None:
        return new_archive()["id"]
    archive = None if stored.legacy else stored.raw.get(paths.ARCHIVE)
    found = archive.get("id") if isinstance(archive, Mapping) else None
    return found if isinstance(found, str) else None


def _moves_window(changes: AppendMessages, conflict: Conflict) -> bool:
    """Change the window that another writer stored meanwhile, instead of the one that was known; True where it did."""
    window, stored = changes.window, conflict.windows.get(changes.key)
    if window is None or stored is None or stored == window.stored:
        return False
    window.base = window.stored = stored
    return True


def _rises(records: Sequence[Record]) -> bool:
    return all(one.message_id < other.message_id for one, other in pairwise(records))


def _is_sorted(window: Ranges) -> bool:
    firsts = [first or 0 for first, _ in window]
    return all(one < other for one, other in pairwise(firsts))


def _renumber(messages: Sequence[NewMessage], number: int) -> int:
    for message in messages:
        assert isinstance(message, Record)
        message.renumber(number)
        number += 1
    return number


def _fingerprint(encoded: Any) -> bytes:
    return bson.encode({"v": encoded})


class PendingChanges:
    """What one manager owes the database of one session."""

    def __init__(self, session: StoredSession) -> None:
        """Start from a loaded session."""
        self.lock = threading.RLock()
        self.session_id = session.session_id
        self.agents: dict[str, PendingAgent] = {}
        self._session = SetFields()
        self._amendments: list[Update] = []
        self.capture_all: Callable[[], Callable[[], None] | None] = lambda: None
        """Returns what notes what changed of every live agent, while there is something that does."""
        self.reloaded(session)

    def reloaded(self, session: StoredSession) -> set[str]:
        """Go on from a session as it was loaded anew.

        Returns:
            The ids of graphs and swarms whose stored state is another one than was seen here last.
        """
        before: dict[str, bytes] = getattr(self, "_graphs", {})
        self._graphs = {key: _fingerprint(state) for key, state in session.multi_agents.items()}
        self._graph_references = {
            key: names_in(state) for key, state in session.multi_agents.items() if session.head.has_payloads
        }
        return {key for key, state in self._graphs.items() if before.get(key) != state}

    def capture_anew(self) -> bool:
        """Note all of agents that others deleted and that begin anew; False where nothing is to be written for that."""
        with self.lock:
            if not any(agent.wants_all for agent in self.agents.values()):
                return False
            if (capture := self.capture_all()) is not None:
                capture()
            return self.is_dirty

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        session = self._session
        return bool(session.fields or session.pushes or self._amendments) or any(
            agent.is_dirty for agent in self.agents.values()
        )

    def inherit(self) -> None:
        """Drop what is pending, in a forked process: the one that noted it stores it."""
        self.lock = threading.RLock()  # A thread of that process may have held it.
        self.freeze()
        for agent in self.agents.values():
            agent.inherit()

    # -- what is not an agent's

    def set_graph(self, multi_agent_id: str, state: Any) -> None:
        """Note the state of a graph or swarm; it is written where it changed."""
        encoded = values.encode(state, where=f"multi-agent {multi_agent_id!r}", foreign=True)
        encoded, payloads = offload_state(encoded)
        fingerprint = _fingerprint(encoded)
        if self._graphs.get(multi_agent_id) == fingerprint:
            return
        self._graphs[multi_agent_id] = fingerprint
        self._session.fields[paths.multi_agent(encode_name(multi_agent_id))] = encoded
        self._session.payloads |= payloads
        self._session.released |= self._graph_references.get(multi_agent_id, set())
        self._session.released -= payloads.keys()
        self._graph_references[multi_agent_id] = set(payloads)

    def add_guardrail_event(self, record: Record, event: Document) -> None:
        """Queue the session's summary of a guardrail intervention on a message, whose number may still change."""
        if record.state is RecordState.GONE:
            return
        record.named_in.append(event)
        self._session.pushes.setdefault(paths.GUARDRAIL_EVENTS, []).append(event)

    def amend_guardrail_event(self, record: Record, event: Document, fields: Document) -> None:
        """Add what was learnt later to the guardrail summary of a message, wherever it is by now."""
        identity = {key: event[key] for key in (paths.MESSAGE_ID, paths.AGENT_ID, paths.TIMESTAMP)}
        waits = any(waiting is event for waiting in self._session.pushes.get(paths.GUARDRAIL_EVENTS, ()))
        event.update(fields)
        if not waits:
            record.named_in.append(identity)
            changed = {paths.matched(paths.GUARDRAIL_EVENTS, name): value for name, value in fields.items()}
            guard = {paths.GUARDRAIL_EVENTS: {"$elemMatch": identity}}
            # Guards seals, as for messages.
            raised: dict[str, float] = {f"{GUARDRAIL_EVENTS.archive}.{paths.REDACTIONS}": 1}
            self._amendments.append(Update(session=SetFields(fields=changed, guard=guard, increments=raised)))

    def add_error(self, agent_id: str, error: BaseException, moment: datetime, trace_id: str | None = None) -> None:
        """Queue the trace of a turn that failed: the error's class, never its text."""
        entry = {paths.TIMESTAMP: moment, paths.AGENT_ID: values.encode(agent_id), paths.ERROR: type(error).__name__}
        if trace_id is not None:
            entry[paths.TRACE_ID] = trace_id
        self._session.pushes.setdefault(paths.ERRORS, []).append(entry)
        self._session.keep[paths.ERRORS] = ERROR_RING
        increments = self._session.increments
        increments[paths.SUMMARY_ERRORS] = increments.get(paths.SUMMARY_ERRORS, 0) + 1

    # -- writing

    def yield_to(self, session: StoredSession, batches: Iterable[Batch]) -> None:
        """Keep what is pending from overwriting what others stored of agents and graphs; messages are still appended.

        Args:
            session: What is stored now.
            batches: What is frozen already.
        """
        batches = list(batches)
        for agent_id, agent in self.agents.items():
            if agent_id in session.agents:
                agent.yield_state(session.agents[agent_id])
                # What was sent may be stored, under the numbers that it has.
                if not any(batch.was_sent for batch in batches):
                    parts = [c for b in batches for u in b.left for c in u.agents if c.agent_id == agent_id]
                    agent.go_behind(session.agents[agent_id], parts)
        stored_graphs = {paths.multi_agent(encode_name(key)) for key in session.multi_agents}
        frozen = [update for batch in batches for update in batch.left]
        for part in (self._session, *(update.session for update in frozen)):
            part.fields = {path: value for path, value in part.fields.items() if path not in stored_graphs}
        for update in frozen:
            for changes in update.agents:
                if changes.agent_id in session.agents:
                    changes.create, changes.fields, changes.window = False, {}, None

    def freeze(self, *, whole: bool = False) -> Batch | None:
        """Hand over everything that is pending as one batch; None when nothing is.

        Args:
            whole: Do not split messages over several updates while there is room for them in one.
        """
        if not self.is_dirty:
            return None
        frozen = [agent.freeze() for agent in self.agents.values() if agent.is_dirty]
        changed = [change for messages, _ in frozen for change in messages]
        main = Update(agents=[changes for _, changes in frozen], session=self._session)
        self._session = SetFields()
        amendments, self._amendments = self._amendments, []
        undivided = whole and fits_whole(main.agents)
        parts = [[changes] if undivided else changes.split() for changes in main.agents]
        more = [Update(agents=[part]) for rest in parts for part in rest[1:]]
        appended_to = {changes.key for changes in main.agents if changes.messages or changes.create}
        if changed and changed[-1].key not in appended_to:
            main.message = changed.pop()
        # Redactions go first: what was redacted must not stand in the document a moment longer than needed.
        return Batch([*(Update(message=change) for change in changed), main, *more, *amendments])

    def acknowledge(self, update: Update) -> None:
        """Note that an update is stored."""
        for changes in update.agents:
            if (agent := self.agents.get(changes.agent_id)) is not None:
                agent.acknowledge(changes)
        if update.message is not None:
            update.message.message.payloads = {}

    def rebase(self, batch: Batch, conflict: Conflict) -> bool:
        """Adjust the update of a batch that the document refused; True when it is worth sending again.

        Another writer appended (renumber), created the agent first (append to it), or deleted it (create it anew); or
        a message to be changed was sealed (change it in its segment).
        """
        update = batch.updates[batch.position]
        adjusted = False
        for changes in update.agents:
            found, archive_id = conflict.next_ids.get(changes.key), conflict.archive_ids.get(changes.key)
            is_another = changes.archive_id is not None and archive_id != changes.archive_id
            later = [c for u in batch.left[1:] for c in u.agents if c.key == changes.key]
            if found is None and not changes.create:
                self._begin_anew(changes, later)
                adjusted = True
            if found is None:
                continue
            is_numbered = bool(changes.create or changes.messages)
            if changes.create:
                self.agents[changes.agent_id].yield_creation(changes, archive_id)
                adjusted = True
            elif is_another:
                self.agents[changes.agent_id].lose_stored(archive_id, changes)
                adjusted = is_numbered = True
            for part in later:
                part.archive_id = changes.archive_id
            if _moves_window(changes, conflict):
                adjusted = True
            if is_numbered and found != changes.expected:
                adjusted = True
                self._renumber(changes, found, later)
        change = update.message
        if change is not None and change.archive_id not in (None, conflict.archive_ids.get(change.key)):
            update.message, change, adjusted = None, None, True
            logger.warning("session_id=<%r> | a stored message to be changed is gone", self.session_id)
        if not adjusted and change is not None and not change.sealed and not conflict.message_found:
            update.message = None
            batch.updates.insert(batch.position, Update(message=change))
            change.sealed = adjusted = True
        if not adjusted and update.session.guard:
            # Only amendments of records carry a guard of their own, and the record is gone.
            update.session = SetFields()
            adjusted = True
        return adjusted

    def _begin_anew(self, changes: AppendMessages, later: Sequence[AppendMessages]) -> None:
        """Store an agent that was deleted as a new one: what it says from now on."""
        agent = self.agents[changes.agent_id]
        agent.lose_stored(None, changes)
        changes.create, agent.exists = True, False
        for part in later:
            part.archive_id = changes.archive_id
        agent.move_to(0, (changes, *later))
        logger.warning(
            "session_id=<%r>, agent_id=<%r> | the agent was deleted, storing what it says as a new one's",
            self.session_id,
            changes.agent_id,
        )

    def _renumber(self, changes: AppendMessages, found: int, later: Sequence[AppendMessages]) -> None:
        agent = self.agents[changes.agent_id]
        agent.move_to(found, (changes, *later))
        logger.warning(
            "session_id=<%r>, agent_id=<%r>, next_message_id=<%s> | another writer appended, renumbering",
            self.session_id,
            changes.agent_id,
            found,
        )
