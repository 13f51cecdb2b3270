"""Running totals of an agent, worked out from what its messages report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import CorruptMessageError
from . import paths
from .agents import StoredAgent
from .metrics import TOOL_COUNTS
from .names import decode_name, encode_name
from .numbers import INT64_MAX, is_measure, is_total

_TOOLS = "tools"
_LARGEST_TOTAL = INT64_MAX // 2
"""What agents used together at most; it has to fit into the database, and to grow there."""


class RunningTotals:
    """Totals that grow with each message, oldest first.

    Attributes:
        usage: The totals, as an agent stores them.
    """

    def __init__(self) -> None:
        """Begin without any message."""
        self.usage: dict[str, Any] = {}
        self._accumulated: dict[tuple[str, ...], float] = {}

    def add(self, path: tuple[str, ...], amount: float) -> None:
        """Add to the total at a path."""
        *parents, name = path
        target = self.usage
        for parent in parents:
            target = target.setdefault(parent, {})
        target[name] = target.get(name, 0) + amount

    def growth(self, path: tuple[str, ...], count: float) -> float:
        """Return by how much a count rose since the last one at its path.

        Strands accumulates over the life of an Agent object, so a count that falls marks the next object.
        """
        before = self._accumulated.get(path, 0)
        self._accumulated[path] = count
        return count - before if count >= before else count


def usage_of_messages(agent: StoredAgent) -> dict[str, Any]:
    """Return running totals out of the metrics that older tools stored with messages.

    Within one run the last message holds the total. Flat counts are those of their message.
    """
    totals = RunningTotals()
    for raw, message in zip(agent.raw_messages, agent.messages(), strict=True):
        if isinstance(message, CorruptMessageError):
            continue
        accumulates = paths.EVENT_LOOP_METRICS in raw
        for path, count in metric_counts(message.get(paths.EVENT_LOOP_METRICS)):
            totals.add(path, totals.growth(path, count) if accumulates else count)
    return totals.usage


def total_usage(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what agents used together, out of their running totals; without those of single tools.

    Whatever adds to a session's totals and takes away from them asks this, so that both leave out the same.
    """
    total: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            if _is_name(name) and is_total(count) and abs(added := total.get(name, 0) + count) <= _LARGEST_TOTAL:
                total[name] = added
    return total


def metric_counts(metrics: object) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the counts of a message's metrics, by their path in an agent's totals.

    Other tools may name them as no field can be named, or as the totals of tools: those count for nothing.
    """
    latency, cycles = (
        paths.at(metrics, name) for name in ("accumulated_metrics.latencyMs", "cycle_metrics.cycle_count")
    )
    usage = paths.object_at(metrics, "accumulated_usage")
    for name, count in {**usage, "latencyMs": latency, "modelCalls": cycles}.items():
        if _is_name(name) and is_measure(count):
            yield (name,), count
    for tool, counts in paths.object_at(metrics, "tool_usage").items():
        for name in TOOL_COUNTS if isinstance(counts, Mapping) else ():
            if is_measure(counts.get(name)):
                yield (_TOOLS, encode_name(decode_name(tool)), name), counts[name]


def _is_name(name: str) -> bool:
    return name != _TOOLS and encode_name(name) == name
