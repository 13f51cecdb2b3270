"""What one session manager owes the database. No I/O: it collects, freezes, acknowledges and rebases.

It keeps encoded copies, made when a message is appended: Strands goes on to change its message objects in place, and
what cannot be stored has to be found at once, not at every flush. One lock guards it, held for memory work only; agents
may run on any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from ..schema import paths, values
from ..schema.archives import GUARDRAIL_EVENTS
from ..schema.names import encode_name
from ..schema.payloads import names_in, offload_state
from ..schema.sessions import ERROR_RING
from ..store.executor import Conflict
from ..store.loaded import StoredSession
from ..store.updates import (
    AppendMessages,
    Document,
    SetFields,
    Update,
    fits_whole,
)
from .batch import Batch
from .pending_agent import PendingAgent, fingerprint
from .record import Record, RecordState

logger = logging.getLogger(__name__)


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
        self._graphs: dict[str, bytes] = {}
        self.reloaded(session)

    def reloaded(self, session: StoredSession) -> set[str]:
        """Go on from a session as it was loaded anew.

        Returns:
            The ids of graphs and swarms whose stored state is another one than was seen here last.
        """
        before = self._graphs
        self._graphs = {key: fingerprint(state) for key, state in session.multi_agents.items()}
        self._graph_references = {
            key: names_in(state) for key, state in session.multi_agents.items() if session.head.has_payloads
        }
        return {key for key in before.keys() | self._graphs.keys() if before.get(key) != self._graphs.get(key)}

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
        seen = fingerprint(encoded)
        if self._graphs.get(multi_agent_id) == seen:
            return
        self._graphs[multi_agent_id] = seen
        self._session.fields[paths.multi_agent(encode_name(multi_agent_id))] = encoded
        self._session.payloads |= payloads
        self._session.referred_before |= self._graph_references.get(multi_agent_id, set())
        self._session.referred_before -= payloads.keys()
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


def _moves_window(changes: AppendMessages, conflict: Conflict) -> bool:
    """Change the window that another writer stored meanwhile, instead of the one that was known; True where it did."""
    window, stored = changes.window, conflict.windows.get(changes.key)
    if window is None or stored is None or stored == window.stored:
        return False
    window.base = window.stored = stored
    return True
