"""What a live agent has beside its messages: states, configuration, usage and metrics, and what changed of them."""

from __future__ import annotations

from typing import Any

from strands.types.agent import LocalAgent
from strands.types.session import SessionAgent

from ..schema import paths, values
from ..schema.agents import CONFIG_FIELDS, STATE_FIELDS, StoredAgent, digest
from ..schema.metrics import UsageMeter, message_metrics
from .live_agent import is_restored, metrics_of, model_id, states_of
from .pending_agent import PendingAgent
from .record import Record


class AgentValues:
    """Notes what changed of one agent beside its messages, in what is pending of it."""

    def __init__(self, agent: LocalAgent, pending: PendingAgent, stored: StoredAgent | None) -> None:
        """Start from an agent that was just restored from what is stored, or is a new one (None)."""
        self._pending = pending
        self._meter = UsageMeter(metrics_of(agent))
        self._reported: tuple[Record, dict[str, Any]] | None = None
        self._seen_states = states_of(agent)
        # What was just restored from what is stored need not be compared with it.
        self._captured_states = self._seen_states if stored is not None and is_restored(agent, stored) else None
        data = {} if stored is None else stored.data
        captured = data.get("captured") or {name: digest(data[name]) for name in CONFIG_FIELDS if name in data}
        self._config = dict(captured)
        self._seen_config: dict[str, Any] | None = None

    def states_have_changed(self, agent: LocalAgent) -> bool:
        """Tell whether a state is another one than at the last look, or all is to be captured."""
        return self._pending.wants_all or states_of(agent) != self._seen_states

    def capture_states(self, agent: LocalAgent) -> None:
        """Note the agent's states where they changed."""
        seen = states_of(agent)
        if self._pending.wants_all:
            self._pending.wants_all, self._captured_states, self._config, self._seen_config = False, None, {}, None
        if seen is None or seen != self._captured_states:
            state = SessionAgent.from_agent(agent)
            for name in STATE_FIELDS:
                self._pending.capture_state(name, getattr(state, name))
        self._captured_states = self._seen_states = seen

    def capture_config(self, agent: LocalAgent) -> None:
        """Note the agent's model and system prompt where they changed."""
        live = {paths.MODEL: model_id(agent), paths.SYSTEM_PROMPT: agent.system_prompt}
        if live == self._seen_config:
            return
        self._seen_config = live
        for name, value in live.items():
            fingerprint = digest(value)
            if self._config.get(name) != fingerprint:
                self._config[name] = fingerprint
                self._pending.set_field(paths.agent_data(name), values.encode(value, where=name, foreign=True))
                self._pending.set_field(paths.agent_data(f"captured.{name}"), fingerprint)

    def capture_usage(self, agent: LocalAgent, token_counts: dict[str, int] | None) -> bool:
        """Add what was used since the last call to the running totals.

        Args:
            agent: The live agent.
            token_counts: Usage given by hand, for a model that reports none.

        Returns:
            True when `token_counts` found an answer to go with.
        """
        metrics = metrics_of(agent)
        added = self._meter.take(metrics) if metrics is not None else {}
        counted = token_counts is not None and self._pending.latest_assistant is not None
        if counted and token_counts is not None and paths.usage("totalTokens") not in added:
            added |= {paths.usage(name): count for name, count in token_counts.items()}
        for path, amount in added.items():
            self._pending.increase(path, amount)
        return counted

    def capture_metrics(self, agent: LocalAgent, token_counts: dict[str, int] | None) -> None:
        """Note the metrics of an invocation that is over on its latest answer."""
        metrics = metrics_of(agent)
        record = self._pending.latest_assistant
        if record is None or metrics is None:
            return
        report = message_metrics(metrics, record.message)
        if token_counts is not None and "accumulated_usage" not in report:
            report["accumulated_usage"] = dict(token_counts)
        elif self._reported is not None and self._reported[0] is record and "accumulated_usage" not in report:
            report |= {k: v for k, v in self._reported[1].items() if k == "accumulated_usage"}
        if report and self._reported != (record, report):
            self._reported = record, report
            self._pending.change(record, {paths.EVENT_LOOP_METRICS: report})
