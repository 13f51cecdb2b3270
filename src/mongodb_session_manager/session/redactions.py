"""Redacted messages of one agent: what takes their place, and the record of the guardrail that intervened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strands.types.content import Message

from ..errors import MessageTooLargeError
from ..schema import paths, values
from ..schema.messages import encode_message, encode_storable, now
from .guardrails import GUARDRAIL_STOP_REASONS, event_summary, guardrail_event, storable_event
from .pending import PendingChanges
from .pending_agent import PendingAgent
from .record import Record


@dataclass(frozen=True)
class Redaction:
    """A redacted message, with its guardrail record and the session's summary of it."""

    record: Record
    event: dict[str, Any]
    summary: dict[str, Any]


class Redactions:
    """Notes what guardrails redact, in the pending changes, whose lock the caller holds."""

    def __init__(self, changes: PendingChanges, pending: PendingAgent) -> None:
        """Redact messages of one agent.

        Args:
            changes: What is pending of its session.
            pending: What is pending of the agent.
        """
        self._changes = changes
        self._pending = pending
        self._latest: Redaction | None = None

    def redact(self, record: Record, aliases: Sequence[Record], message: Message, guardrail: dict[str, Any]) -> None:
        """Put a message in the place of another one, and record the guardrail's intervention.

        Args:
            record: The message that was redacted.
            aliases: Further records of the same object, which says now what each of them has to say.
            message: What takes its place.
            guardrail: `action`, `stop_reason` and `guardrail_trace`, as far as they are known.

        Raises:
            MessageTooLargeError: What takes the place is larger than a document may be; a note stands for its largest
                blocks.
            TypeError: It, or the trace, holds something that cannot be stored: the redaction stands without that.
            ValueError: Likewise, of what is nested too deeply.
        """
        event, problem = storable_event(
            guardrail_event(
                action=guardrail.get("action") or "BLOCKED",
                stop_reason=guardrail.get("stop_reason"),
                trace=guardrail.get("guardrail_trace"),
                redacted=record.seen,
                now=now(),
            )
        )
        for redacted in (record, *aliases):
            problem = self._redact_record(redacted, message) or problem
        self._pending.change(record, {paths.GUARDRAIL_EVENT: event})
        summary = values.encode(event_summary(event, record.message_id, self._pending.agent_id), native_dates=True)
        self._changes.add_guardrail_event(record, summary)
        self._latest = Redaction(record, event, summary)
        if problem is not None:
            raise problem

    def _redact_record(self, record: Record, message: Message) -> Exception | None:
        """Redact a message; an original that was never sent never will be.

        Returns:
            Why not all of what takes the place can be stored, None where it can; the original goes in any case.
        """
        problem: Exception | None = None
        try:
            redacted, payloads = encode_message(message, agent_id=self._pending.agent_id)
        except (TypeError, ValueError, MessageTooLargeError) as error:
            problem = error
            redacted, _, payloads = encode_storable(message, type(error).__name__, agent_id=self._pending.agent_id)
        redacted.pop(paths.PAYLOADS, None)
        shown = {key: redacted[key] for key in ("role", "content")}
        record.message = message
        self._pending.change(record, {**shown, paths.REDACT_MESSAGE: redacted}, [paths.WINDOW_CONTENT], payloads)
        record.is_redacted = True
        record.see()
        return problem

    def learn_stop_reason(self, stop_reason: str) -> None:
        """Add why a model stopped to the record of the redaction just before, where that is what it stopped for."""
        redaction, self._latest = self._latest, None
        if redaction is None or paths.STOP_REASON in redaction.event or stop_reason not in GUARDRAIL_STOP_REASONS:
            return
        learnt = {paths.STOP_REASON: stop_reason}
        self._changes.amend_guardrail_event(redaction.record, redaction.summary, learnt)
        self._pending.change(redaction.record, {paths.GUARDRAIL_EVENT: {**redaction.event, **learnt}})
