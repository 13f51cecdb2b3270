"""Reads a live agent and notes in the journal what changed: state, configuration, window, usage, metrics."""

from __future__ import annotations

import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strands.agent import Agent
from strands.telemetry.metrics import EventLoopMetrics
from strands.types.content import Message
from strands.types.session import SessionAgent

from ..schema import values
from ..schema.agents import CONFIG_FIELDS, STATE_FIELDS, digest
from ..schema.messages import encode_content, has_tool_result, normalized, stable_tracking_id, text_of
from ..schema.metrics import UsageMeter, message_metrics
from ..store.batches import Record
from .journal import AgentJournal, Journal, looks_as_seen

if TYPE_CHECKING:
    from strands.types.agent import LocalAgent


@dataclass(frozen=True)
class Redaction:
    """A redacted message, with its guardrail record and the session's summary of it."""

    record: Record
    event: dict[str, Any]
    summary: dict[str, Any]


class LiveAgent:
    """The manager's side of one live Agent object: held weakly, since the agent holds the manager.

    Attributes:
        journal: What is pending of it.
        redaction: A redaction whose stop reason is not known yet.
    """

    def __init__(self, agent: LocalAgent, journal: AgentJournal) -> None:
        """Follow an agent that was just restored or created."""
        self._reference = weakref.ref(agent)
        self._meter = UsageMeter(_metrics_of(agent))
        self._reported: tuple[Record, dict[str, Any]] | None = None
        self.journal = journal
        self.redaction: Redaction | None = None
        stored = journal.loaded.data if journal.loaded is not None else {}
        captured = stored.get("captured") or {name: digest(stored[name]) for name in CONFIG_FIELDS if name in stored}
        self._config = dict(captured)
        self._seen_config: dict[str, str | None] | None = None
        self._synthetic = [] if journal.loaded is None else [m for record, m in self._pair(agent) if record is None]

    @property
    def agent(self) -> LocalAgent | None:
        """The agent, None when nobody uses it any more."""
        return self._reference()

    def is_same(self, agent: object) -> bool:
        """Tell whether it is this very object."""
        return self._reference() is agent

    def capture(self, agent: LocalAgent, *, final: bool, token_counts: dict[str, int] | None = None) -> bool:
        """Note everything that changed since the last call.

        Args:
            agent: The live agent.
            final: The invocation is over, so its metrics go on its latest answer.
            token_counts: Usage given by hand, for a model that reports none.

        Returns:
            True when `token_counts` found an answer to go with.
        """
        state = SessionAgent.from_agent(agent)
        for name in STATE_FIELDS:
            self.journal.capture(f"agent_data.{name}", getattr(state, name))
        self._capture_config(agent)
        self._capture_window(agent)
        counted = self._capture_usage(agent, token_counts)
        if final:
            self._capture_metrics(agent, token_counts if counted else None)
        return counted

    def _capture_config(self, agent: LocalAgent) -> None:
        live = {"model": model_id(agent), "system_prompt": agent.system_prompt}
        if live == self._seen_config:
            return
        self._seen_config = live
        for name, value in live.items():
            fingerprint = digest(value)
            if self._config.get(name) != fingerprint:
                self._config[name] = fingerprint
                self.journal.fields[f"agent_data.{name}"] = values.encode(value, where=name, foreign=True)
                self.journal.fields[f"agent_data.captured.{name}"] = fingerprint
                self.journal.dirty = True

    def _capture_window(self, agent: LocalAgent) -> None:
        pairs = self._pair(agent)
        held = [(record, message) for record, message in pairs if record is not None]
        for record, message in held:
            if not looks_as_seen(record, message):
                self._capture_rewriting(record, message)
        records = [record for record, _ in held]
        head = next((position for position, (record, _) in enumerate(pairs) if record is None), 0)
        first = records[0].message_id if records else 0
        present = set(records)
        by_hand = [r for r in self.journal.records if r.by_hand and r not in present and r.message_id >= first]
        if by_hand:
            records = sorted([*records, *by_hand], key=lambda record: record.message_id)
        self.journal.hold(records, head)
        self.journal.keep(records)

    def _pair(self, agent: LocalAgent) -> list[tuple[Record | None, Message]]:
        """Return the agent's messages, each with its record; None for those that are not stored with the others."""
        latest = self.journal.records[-len(agent.messages) :]
        if len(latest) == len(agent.messages) and all(
            r.message is m for r, m in zip(latest, agent.messages, strict=True)
        ):
            return list(zip(latest, agent.messages, strict=True))  # nearly always
        by_object: dict[int, list[Record]] = defaultdict(list)
        for record in self.journal.records:
            by_object[id(record.message)].append(record)
        by_tracking_id: dict[str, list[Record]] | None = None
        pairs: list[tuple[Record | None, Message]] = []
        # From the end: where one object was added more than once, it is the older ones that windows drop.
        for message in reversed(agent.messages):
            candidates = by_object.get(id(message))
            if not candidates and message.get("tracking_id"):
                # A loaded snapshot holds copies; ids tell them, in order, since equal prompts may share one.
                if by_tracking_id is None:
                    by_tracking_id = self._by_tracking_id(agent)
                candidates = by_tracking_id.get(message["tracking_id"])
            pairs.append((candidates.pop() if candidates else None, message))
        pairs.reverse()
        return pairs

    def _by_tracking_id(self, agent: LocalAgent) -> dict[str, list[Record]]:
        present = {id(message) for message in agent.messages}
        result: dict[str, list[Record]] = defaultdict(list)
        for record in self.journal.records:
            if record.tracking_id and id(record.message) not in present:
                result[record.tracking_id].append(record)
        return result

    def _capture_rewriting(self, record: Record, message: Message) -> None:
        """Note where a message was rewritten, in place or in a copy; what was said stays beside it."""
        copied = record.message is not message
        before = record.content, record.custom
        record.message = message
        Journal.see(record)
        if copied and record.session_message.redact_message is not None:
            return  # What was redacted must not come back out of a copy of it.
        if record.content is not before[0] and not (copied and record.content == before[0]):
            self.journal.change(record, {"window_content": encode_content(message["content"])})
        if record.custom != before[1]:
            if "metadata" in message:
                self.journal.change(
                    record, {"metadata": values.encode(message["metadata"], where="metadata", foreign=True)}
                )
            else:
                self.journal.change(record, {}, removed=["metadata"])

    def identify(self, session_id: str) -> None:
        """Give stored messages without a tracking id the one they have once an older document is brought up to date.

        Strands would give them random ones, which a resumed copy could not have.
        """
        for record in self.journal.records:
            if record.stored and not record.tracking_id:
                tracking_id = stable_tracking_id(session_id, self.journal.agent_id, record.message_id)
                record.message["tracking_id"] = record.tracking_id = tracking_id

    def unannounced(self, agent: LocalAgent, before: Message | None = None) -> list[Message]:
        """Return messages that stand in the agent's history without a record and without an event to come.

        Interventions, context managers and loaded snapshots put messages there directly. What the conversation
        manager restores by itself, and what Strands put in to repair a restored history, is left out.

        Args:
            agent: The live agent.
            before: Only those that stand right before this message, which Strands just added.
        """
        if before is None:
            found = [message for record, message in self._pair(agent) if record is None]
        else:
            found = self._right_before(agent, before)
        if not found:
            return []
        restored = _restored_by_manager(agent)
        return [m for m in found if not any(own is m for own in self._synthetic) and m not in restored]

    def _right_before(self, agent: LocalAgent, message: Message) -> list[Message]:
        end = next(i for i in range(len(agent.messages) - 1, -1, -1) if agent.messages[i] is message)
        start = end
        while start and not self._is_recorded(agent.messages[start - 1]):
            start -= 1
        return agent.messages[start:end]

    def _is_recorded(self, message: Message) -> bool:
        tracking_id = message.get("tracking_id")
        return any(
            record.message is message or (tracking_id and record.tracking_id == tracking_id)
            for record in reversed(self.journal.records)
        )

    def _capture_usage(self, agent: LocalAgent, token_counts: dict[str, int] | None) -> bool:
        metrics = _metrics_of(agent)
        added = self._meter.take(metrics) if metrics is not None else {}
        counted = token_counts is not None and self.journal.latest_assistant is not None
        if counted and token_counts is not None and "usage.totalTokens" not in added:
            added |= {f"usage.{name}": count for name, count in token_counts.items()}
        for path, amount in added.items():
            self.journal.increase(path, amount)
        return counted

    def _capture_metrics(self, agent: LocalAgent, token_counts: dict[str, int] | None) -> None:
        metrics = _metrics_of(agent)
        record = self.journal.latest_assistant
        if record is None or metrics is None:
            return
        report = message_metrics(metrics, record.message)
        if token_counts is not None and "accumulated_usage" not in report:
            report["accumulated_usage"] = dict(token_counts)
        elif self._reported is not None and self._reported[0] is record and "accumulated_usage" not in report:
            report |= {k: v for k, v in self._reported[1].items() if k == "accumulated_usage"}
        if report and self._reported != (record, report):
            self._reported = record, report
            self.journal.change(record, {"event_loop_metrics": report})


def model_id(agent: LocalAgent) -> str | None:
    """Return the identifier of the agent's model, None for a model without one."""
    config = getattr(agent.model, "config", None)
    if config is None:
        get_config = getattr(agent.model, "get_config", None)
        config = get_config() if callable(get_config) else None
    found = config.get("model_id") if isinstance(config, dict) else getattr(config, "model_id", None)
    return None if found is None else str(found)


def _metrics_of(agent: LocalAgent) -> EventLoopMetrics | None:
    # A BidiAgent has the attribute, too, and raises when it is asked for.
    return agent.event_loop_metrics if isinstance(agent, Agent) else None


def is_held(agent: LocalAgent, message: Message) -> bool:
    """Tell whether the agent itself holds this very message, as it does when Strands added it."""
    return any(own is message for own in reversed(agent.messages))


def _restored_by_manager(agent: LocalAgent) -> list[object]:
    """Return what the conversation manager's own state holds, a summary for instance."""
    if not isinstance(agent, Agent):
        return []
    return [value for value in agent.conversation_manager.get_state().values() if isinstance(value, dict)]


def is_stored_already(agent: LocalAgent, journal: AgentJournal, message: Message) -> bool:
    """Tell whether each place at which the agent holds this very message has a record of its own."""
    places = sum(own is message for own in agent.messages)
    return 0 < places <= sum(record.message is message for record in journal.records)


def announced_late(journal: AgentJournal, message: Message) -> Record | None:
    """Return the record of a message that was found among the agent's before Strands said that it added it."""
    return next((r for r in reversed(journal.records) if r.unannounced and r.message is message), None)


def replaced_record(agent: LocalAgent, journal: AgentJournal, message: Message) -> Record | None:
    """Return the record that `message` takes the place of: Strands merged a continuation into the last message."""
    latest = journal.records[-1] if journal.records else None
    if latest is None or latest.by_hand or is_held(agent, latest.message):
        return None
    # The id alone would also fit a prompt that a caller passes again as a copy.
    old, new = latest.message["content"], message["content"]
    same = latest.tracking_id == message.get("tracking_id") and len(new) > len(old)
    return latest if same and all(a is b for a, b in zip(old, new, strict=False)) else None


def hand_appended(journal: AgentJournal, message: Message) -> Record | None:
    """Return the last record when user code appended the same message by hand just before Strands did."""
    latest = journal.records[-1] if journal.records else None
    if latest is None or not latest.by_hand:
        return None
    same = latest.message["role"] == message["role"] and latest.message["content"] == message["content"]
    return latest if same else None


def repeats_answer(agent: LocalAgent, message: Message) -> bool:
    """Tell whether a hand-appended message is the assistant's text since the last thing a person said."""
    message = normalized(message)
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
