"""What a live agent measured: the record on a message, and what to add to the session's running totals.

Strands accumulates usage over the life of an Agent object (`EventLoopMetrics`, strands/telemetry/metrics.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from strands.telemetry.metrics import EventLoopMetrics
from strands.types.content import Message

from . import paths
from .names import decode_name, encode_name
from .numbers import is_measure, is_total

USAGE_COUNTS = ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
TOOL_COUNTS = ("call_count", "success_count", "error_count", "total_time")


def message_metrics(metrics: EventLoopMetrics, message: Message) -> dict[str, Any]:
    """Return `event_loop_metrics` for an assistant message; empty when there is nothing to report.

    What a model or a provider reports and is neither a count nor a time is left out: it is not known.
    Times are in the units of Strands: `latencyMs` and `timeToFirstByteMs` milliseconds, durations seconds.
    """
    result: dict[str, Any] = {}
    latency: dict[str, Any] = {k: v for k, v in metrics.accumulated_metrics.items() if v and is_measure(v)}
    if (first := paths.at(message, "metadata.metrics.timeToFirstByteMs")) and is_measure(first):  # 0 stands for unknown
        latency["timeToFirstByteMs"] = first
    if latency:
        result["accumulated_metrics"] = latency
    usage = {k: v for k, v in metrics.accumulated_usage.items() if is_measure(v)}
    if any(usage.values()):
        result["accumulated_usage"] = usage
    if metrics.cycle_durations:
        duration = sum(metrics.cycle_durations)
        result["cycle_metrics"] = {
            "cycle_count": metrics.cycle_count,
            "total_duration": duration,
            "average_cycle_time": duration / metrics.cycle_count if metrics.cycle_count else 0.0,
        }
    tools = {
        encode_name(name): {
            **{count: getattr(tool, count) for count in TOOL_COUNTS},
            "average_time": tool.total_time / tool.call_count if tool.call_count else 0.0,
            "success_rate": tool.success_count / tool.call_count if tool.call_count else 0.0,
        }
        for name, tool in metrics.tool_metrics.items()
        if tool.call_count
    }
    if tools:
        result["tool_usage"] = tools
    return result


class UsageMeter:
    """Turns the ever-growing counters of one Agent object into amounts to add, each counted once."""

    def __init__(self, metrics: EventLoopMetrics | None) -> None:
        """Start at the present counts: what an agent measured before it joined the session is not the session's."""
        self._counted = {} if metrics is None else dict(_counters(metrics))
        self._first_cycle = None if metrics is None else _first_cycle(metrics)

    def take(self, metrics: EventLoopMetrics) -> dict[str, float]:
        """Return what was added since the last call, by path below the stored agent."""
        present, first_cycle = dict(_counters(metrics)), _first_cycle(metrics)
        if self._first_cycle not in (None, first_cycle):
            self._counted = {}  # Code put new metrics in the place of those that were counted.
        self._first_cycle = first_cycle
        added = {path: count - self._counted.get(path, 0) for path, count in present.items()}
        self._counted = present
        return {path: amount for path, amount in added.items() if amount > 0}


def _first_cycle(metrics: EventLoopMetrics) -> float | None:
    """Return how long the first cycle took, which tells metrics from others; None before it has ended."""
    return metrics.cycle_durations[0] if metrics.cycle_durations else None


def _counters(metrics: EventLoopMetrics) -> Iterator[tuple[str, float]]:
    usage: Mapping[str, Any] = metrics.accumulated_usage
    for name in USAGE_COUNTS:
        if (count := usage.get(name)) and is_measure(count):
            yield paths.usage(name), count
    if (latency := metrics.accumulated_metrics.get("latencyMs")) and is_measure(latency):
        yield paths.usage("latencyMs"), latency
    if metrics.cycle_count:
        yield paths.usage("modelCalls"), metrics.cycle_count
    for name, tool in metrics.tool_metrics.items():
        for what in TOOL_COUNTS:
            if getattr(tool, what):
                yield paths.usage(f"tools.{encode_name(name)}.{what}"), getattr(tool, what)


def summarize_usage(usages: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return totals over stored `usage` documents; what no model ever reported is None, not 0.

    Returns:
        `{"tokens": {"input", "output", "total", "cache_read", "cache_write"}, "latency_ms", "model_calls",
        "tool_calls": {tool: {"call_count", "success_count", "error_count", "total_time"}}}`; `total_time` in seconds.
    """

    def total(name: str) -> Any:
        found = [usage[name] for usage in usages if is_total(usage.get(name))]
        return sum(found) if found else None

    tools: dict[str, dict[str, float]] = {}
    for usage in usages:
        for key, counts in paths.object_at(usage, "tools").items():
            tool = tools.setdefault(decode_name(key), dict.fromkeys(TOOL_COUNTS, 0))
            for name in TOOL_COUNTS if isinstance(counts, Mapping) else ():
                tool[name] += counts[name] if is_total(counts.get(name)) else 0
    return {
        "tokens": dict(
            zip(("input", "output", "total", "cache_read", "cache_write"), map(total, USAGE_COUNTS), strict=True)
        ),
        "latency_ms": total("latencyMs"),
        "model_calls": total("modelCalls"),
        "tool_calls": tools,
    }
