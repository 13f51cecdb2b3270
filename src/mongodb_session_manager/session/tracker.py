"""The manager's side of one live agent: which messages it holds, and what changed of it."""

from __future__ import annotations

import logging
import weakref
from enum import Enum, auto
from typing import Any

from strands.types.agent import LocalAgent
from strands.types.content import Message
from strands.types.exceptions import SessionException

from .. import tracing
from ..schema import paths
from ..schema.agents import StoredAgent
from ..schema.messages import (
    check_message,
    encode_message,
    has_tool_result,
    normalized,
    say_the_same,
    stable_tracking_id,
    text_of,
    with_tracking_id,
)
from .agent_values import AgentValues
from .beginning import AgentBeginning
from .held import HeldMessages
from .live_agent import is_held
from .pending import PendingChanges
from .pending_agent import PendingAgent
from .record import Origin, Record, RecordState
from .redactions import Redactions

logger = logging.getLogger(__name__)


class Invocation(Enum):
    """How far the latest invocation of an agent is."""

    CAPTURED = auto()  # or there was none
    UNDER_WAY = auto()
    ENDED = auto()  # not all of it is captured: a hook may break off what does


class AgentTracker:
    """Follows one live Agent object, which it holds weakly: the agent holds its manager.

    Everything is noted in the pending changes, whose lock the caller holds.

    Attributes:
        pending: What is pending of the agent.
        invocation: How far its latest one is.
        is_stale: The agent holds what a failed turn left.
        beginning: What it was built as, for a new agent that was built in a turn.
    """

    def __init__(
        self, agent: LocalAgent, changes: PendingChanges, pending: PendingAgent, stored: StoredAgent | None
    ) -> None:
        """Follow an agent that was just restored from what is stored, or is a new one (None)."""
        self._reference = weakref.ref(agent)
        self._changes = changes
        self._values = AgentValues(agent, pending, stored)
        self._redactions = Redactions(changes, pending)
        self.pending = pending
        self.invocation = Invocation.CAPTURED
        self.is_stale = False
        self.beginning: AgentBeginning | None = None
        self._held = HeldMessages(agent, pending, is_restored=stored is not None)

    @property
    def agent(self) -> LocalAgent | None:
        """The agent, None when nothing uses it any more."""
        return self._reference()

    def is_same(self, agent: object) -> bool:
        """Tell whether it is this very object."""
        return self._reference() is agent

    # -- messages

    def append(self, message: Message, agent: LocalAgent) -> Record | None:
        """Note a message that Strands or code added, and before it those that came without an event of their own.

        Returns:
            Its record; None for one that is dropped, since it repeats what is recorded.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a note takes the place of the largest blocks.
            TypeError: It holds something that cannot be stored; likewise.
            ValueError: It is nested too deeply; likewise.
        """
        message = normalized(message)
        if not is_held(agent, message):
            if (replacement := self._in_place_of(message, agent)) is not None:
                message = replacement
            elif "tracking_id" in message:
                return self._add(message)  # A hook took it out again, and so will the next look at the window.
            else:
                return self._append_by_hand(message, agent)
        self.append_found(agent, before=message)
        record = self._record_of(message, agent)
        if message["role"] == "assistant":
            self.pending.latest_assistant = record
            self._held.note_calls(record)
            if (trace_id := tracing.trace_id(agent)) is not None:
                self.pending.change(record, {paths.TRACE_ID: trace_id})
        elif not has_tool_result(message):
            self.pending.latest_assistant = None
        return record

    def _in_place_of(self, message: Message, agent: LocalAgent) -> Message | None:
        """Return what a hook put in the place of a message before it came here, such as a masked copy."""
        tracking_id = message.get("tracking_id")
        for own in reversed(agent.messages):
            if tracking_id and own.get("tracking_id") == tracking_id:
                break
        else:
            own = agent.messages[-1] if agent.messages else message
        is_like = own["role"] == message["role"] and own.get("tracking_id") in (None, tracking_id)
        if own is message or not is_like or not isinstance(own["content"], list):
            return None
        return None if any(r.message is own and r.origin is not Origin.FOUND for r in self.pending.records) else own

    def _record_of(self, message: Message, agent: LocalAgent) -> Record:
        if (record := self._found_before(message)) is not None:
            record.origin = Origin.EVENT
        elif (record := self._continued_by(message, agent)) is not None:
            self.replace(record, message)
        elif (record := self._equal_by_hand(message)) is not None:
            record.origin = Origin.EVENT
            self.replace(record, message)
        else:
            record = self._add(message)
        return record

    def _add(self, message: Message, origin: Origin = Origin.EVENT) -> Record:
        with_tracking_id(message)
        record, problem = Record.of(message, self.pending.agent_id)
        record.origin = origin
        self.pending.append(record)
        if problem is not None:
            raise problem
        return record

    def _append_by_hand(self, message: Message, agent: LocalAgent) -> Record | None:
        if self._repeats_answer(message, agent):
            self._log_dropped("repeats the stored answer")
            return None
        return self._add({**message}, Origin.BY_HAND)

    def append_found(self, agent: LocalAgent, before: Message | None = None) -> None:
        """Note messages that plugins or code put into the agent's history without an event.

        Args:
            agent: The live agent.
            before: Only those right before this message; None for all.
        """
        for message in self._held.without_record(agent, before):
            self._add(message, Origin.FOUND)

    def append_unheard(self, agent: LocalAgent) -> bool:
        """Note messages without an event where the latest one is among them; True when there were any."""
        records, messages = self.pending.records, agent.messages
        if not messages or (records and records[-1].message is messages[-1]):
            return False  # nearly always
        before = self.pending.next_id
        self.append_found(agent)
        return self.pending.next_id > before

    def append_once(self, message: Message, agent: LocalAgent) -> Record | None:
        """Note a message that may have been noted before: one that is recorded at each of its places is dropped.

        Raises:
            TypeError: It is no message at all, and nothing is noted. Else as `append`.
        """
        check_message(message)
        places = sum(own is message for own in agent.messages)
        if 0 < places <= sum(record.message is message for record in self.pending.records):
            self._log_dropped("is stored already")
            return None
        message = normalized(message)
        return self.append(message, agent) if is_held(agent, message) else self._append_by_hand(message, agent)

    def _log_dropped(self, reason: str) -> None:
        ids = self._changes.session_id, self.pending.agent_id
        logger.debug("session_id=<%r>, agent_id=<%r> | dropped a message that %s", *ids, reason)

    def replace(self, record: Record, message: Message) -> None:
        """Put another text in the place of a message: a merged continuation, a finished transcript."""
        encoded, payloads = encode_message(message, agent_id=self.pending.agent_id)
        gone = {paths.WINDOW_CONTENT, "metadata", paths.EXTRA} - encoded.keys()
        record.message, record.tracking_id = message, message.get("tracking_id")
        record.see()
        self.pending.change(record, encoded, gone, payloads)

    def update(self, message: Message, agent: LocalAgent, tracking_id: str) -> None:
        """Put a message in the place of the latest one with this tracking id, or add it when there is none."""
        records = reversed(self.pending.records)
        record = next((r for r in records if r.message.get("tracking_id") == tracking_id), None)
        if record is None:
            self.append(message, agent)
        elif is_held(agent, message):
            self.replace(record, message)
        else:  # A hook put another one in its place.
            held = (own for own in reversed(agent.messages) if own.get("tracking_id") == tracking_id)
            self.replace(record, next(held, message))

    def _found_before(self, message: Message) -> Record | None:
        """Return the record of a message that was found among the agent's before Strands said that it added it."""
        records = reversed(self.pending.records)
        return next((r for r in records if r.origin is Origin.FOUND and r.message is message), None)

    def _continued_by(self, message: Message, agent: LocalAgent) -> Record | None:
        """Return the record that a message takes the place of: Strands merged a continuation into the last one."""
        latest = self.pending.records[-1] if self.pending.records else None
        if latest is None or latest.origin is Origin.BY_HAND or is_held(agent, latest.message):
            return None
        # The id alone would also fit a prompt that a caller passes again as a copy.
        old, new = latest.message["content"], message["content"]
        same = latest.tracking_id == message.get("tracking_id") and len(new) > len(old)
        return latest if same and all(a is b for a, b in zip(old, new, strict=False)) else None

    def _equal_by_hand(self, message: Message) -> Record | None:
        """Return the last record when code appended the same message by hand just before Strands did."""
        latest = self.pending.records[-1] if self.pending.records else None
        if latest is None or latest.origin is not Origin.BY_HAND:
            return None
        return latest if say_the_same(latest.message, message) else None

    def _repeats_answer(self, message: Message, agent: LocalAgent) -> bool:
        """Tell whether a hand-appended message is the assistant's text since the last thing a person said."""
        if message["role"] != "assistant":
            return False
        texts: list[str] = []
        for own in reversed(agent.messages):
            if own["role"] == "user":
                if not has_tool_result(own):
                    break
            else:
                texts.append(text_of(own))
        return bool(texts) and "".join(reversed(texts)) == text_of(message)

    def identify(self, agent: LocalAgent) -> None:
        """Give messages without a tracking id, in older documents or in a history without ids, the one they have.

        Strands would give them random ones, which a resumed copy could not have.
        """
        records, messages = self.pending.records, agent.messages
        if all(r.tracking_id for r in records) and all(m.get("tracking_id") for m in messages):
            return  # nearly always
        for record, message in self._held.pairs(agent):
            if record is None:
                continue
            if record.state is RecordState.STORED and not record.tracking_id:
                session_id, agent_id = self._changes.session_id, self.pending.agent_id
                record.tracking_id = stable_tracking_id(session_id, agent_id, record.message_id)
            if record.tracking_id:
                record.message["tracking_id"] = message["tracking_id"] = record.tracking_id

    # -- guardrails

    def redact(self, message: Message, agent: LocalAgent, guardrail: dict[str, Any]) -> None:
        """Replace the latest message, and record the guardrail's intervention.

        Args:
            message: What takes the latest message's place.
            agent: The live agent.
            guardrail: `action`, `stop_reason` and `guardrail_trace`, as far as they are known.

        Raises:
            MessageTooLargeError: What takes the place is larger than a document may be; a note stands for its largest
                blocks.
            SessionException: There is no message to redact.
            TypeError: What takes the place is no message at all, and nothing changes. Or it, or the trace, holds
                something that cannot be stored: the redaction stands without that.
            ValueError: Likewise, of what is nested too deeply.
        """
        check_message(message)
        self.append_found(agent)
        if not self.pending.records:
            raise SessionException("No message to redact.")
        self.identify(agent)  # What takes its place need not be equal, and is another object.
        record = self._latest(message, agent)
        # A prompt that a caller passes again is one object in several records: Strands redacts that in place, and what
        # the object says now is what each of them has to say (`redact_latest_message` of Strands' own manager).
        aliases = [other for other in self.pending.records if other is not record and other.message is message]
        self._redactions.redact(record, aliases, message, guardrail)

    def learn_stop_reason(self, stop_reason: str) -> None:
        """Add why a model stopped to the record of the redaction just before, where that is what it stopped for."""
        self._redactions.learn_stop_reason(stop_reason)

    def _latest(self, message: Message, agent: LocalAgent) -> Record:
        """Return the record of the latest message, which a message takes the place of."""
        records = self.pending.records
        if (own := next((record for record in reversed(records) if record.message is message), None)) is not None:
            return own
        if records[-1].origin is not Origin.FOUND:
            return records[-1]
        # Context managers put messages before the latest one, which are recorded when they are found.
        held = (record for record, _ in reversed(self._held.pairs(agent)) if record is not None)
        return next(held, records[-1])

    # -- what the agent holds

    def capture(self, agent: LocalAgent, *, final: bool, token_counts: dict[str, int] | None = None) -> bool:
        """Note everything that changed since the last call: state, configuration, window, usage.

        Args:
            agent: The live agent.
            final: The invocation is over, so its metrics go on its latest answer.
            token_counts: Usage given by hand, for a model that reports none.

        Returns:
            True when `token_counts` found an answer to go with.
        """
        self._values.capture_states(agent)
        self._values.capture_config(agent)
        self._held.capture(agent)
        counted = self._values.capture_usage(agent, token_counts)
        if final:
            if self.invocation is Invocation.ENDED:
                self.invocation = Invocation.CAPTURED
            self._values.capture_metrics(agent, token_counts if counted else None)
        return counted

    def capture_outside(self, agent: LocalAgent) -> None:
        """Note what code changed of the agent outside of its invocations: state and messages."""
        if not self._held.are_as_seen(agent):
            self.append_found(agent)
            self._held.capture_window(agent)
        if self._values.states_have_changed(agent):
            self._values.capture_states(agent)
