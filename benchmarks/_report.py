"""Tables and aims out of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from _measure import Cpu, Samples
from _workloads import Throughput

NONE, RAW, ASYNC, ASYNC_INVOCATION = "no session manager", "raw Motor", "async", "async, invocation"
SYNC_NONE, SYNC_RAW, SYNC_PYMONGO = "sync: no session manager", "sync: raw Motor", "sync: raw pymongo"
SYNC, SYNC_INVOCATION = "sync", "sync, invocation"

WARM, STATELESS, CPU = "warm turn", "stateless request", "one after the other"
SATURATED, EASY = "saturated", "easy load"

# What each is compared with: the raw floor, and the same agent that keeps nothing.
BESIDE = {
    **dict.fromkeys((NONE, RAW, ASYNC, ASYNC_INVOCATION), (RAW, NONE)),
    **dict.fromkeys((SYNC_NONE, SYNC_RAW, SYNC_PYMONGO, SYNC, SYNC_INVOCATION), (SYNC_RAW, SYNC_NONE)),
}

Row = dict[str, float | None]


@dataclass(frozen=True)
class Aim:
    """One thing that should hold."""

    what: str
    value: float
    limit: float
    unit: str = " x"
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def turn_rows(found: Mapping[str, Samples]) -> dict[str, Row]:
    """Return the numbers of a workload of single turns; a ratio is a ratio of medians."""
    rows: dict[str, Row] = {}
    for name, samples in found.items():
        floor, nothing = (found[other] for other in BESIDE[name])
        ratio = samples.median_ms / floor.median_ms
        rows[name] = {
            "median_ms": samples.median_ms,
            "p99_ms": samples.p99_ms,
            "commands": samples.commands_each,
            "waited_ms": samples.waited_ms,
            "over_nothing_ms": samples.median_ms - nothing.median_ms,
            "ratio": ratio,
            "ratio_per_command": ratio * floor.commands_each / samples.commands_each if samples.commands else None,
        }
    return rows


def throughput_rows(found: Mapping[str, Throughput]) -> dict[str, Row]:
    """Return the numbers of a workload of many sessions."""
    rows: dict[str, Row] = {}
    for name, result in found.items():
        floor, nothing = (found[other] for other in BESIDE[name])
        rate = median(result.requests_per_s)
        rows[name] = {
            "requests_per_s": rate,
            "commands": result.commands_each,
            "cpu_ms": median(result.cpu.all_ms),
            "cpu_ratio": median(result.cpu.all_ms) / median(floor.cpu.all_ms),
            "loop_cpu_ms": median(result.cpu.loop_ms),
            "loop_cpu_ratio": median(result.cpu.loop_ms) / median(floor.cpu.loop_ms),
            "ratio": rate / median(floor.requests_per_s),
            "lag_p99_ms": result.lag_p99_ms,
            "lag_over_nothing_ms": result.lag_p99_ms - nothing.lag_p99_ms,
        }
    return rows


def cpu_rows(found: Mapping[str, Cpu]) -> dict[str, Row]:
    """Return what a request computes, medians of the blocks."""
    rows: dict[str, Row] = {}
    for name, cpu in found.items():
        floor = found[BESIDE[name][0]]
        all_ms, loop_ms = median(cpu.all_ms), median(cpu.loop_ms)
        rows[name] = {
            "cpu_ms": all_ms,
            "cpu_ratio": all_ms / median(floor.all_ms),
            "loop_cpu_ms": loop_ms,
            "loop_cpu_ratio": loop_ms / median(floor.loop_ms),
        }
    return rows


def cost_rows(workloads: Mapping[str, Mapping[str, Row]]) -> dict[str, Row]:
    """Return what the library costs as ratios to raw Motor, of the workloads that were run."""
    sources = {
        "cpu": (CPU, "cpu_ratio"),
        "loop_cpu": (CPU, "loop_cpu_ratio"),
        "saturated_cpu": (SATURATED, "cpu_ratio"),
        "saturated_loop_cpu": (SATURATED, "loop_cpu_ratio"),
        "saturated": (SATURATED, "ratio"),
        "warm": (WARM, "ratio_per_command"),
    }
    return {
        system: {
            name: workloads[title][system][key] if title in workloads else None
            for name, (title, key) in sources.items()
        }
        for system in (RAW, ASYNC, ASYNC_INVOCATION)
    }


_TURN_COLUMNS = {
    "median_ms": ("median ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "commands": ("commands", ".1f"),
    "waited_ms": ("ms in MongoDB", ".2f"),
    "over_nothing_ms": ("ms above none", ".2f"),
    "ratio": ("x raw", ".2f"),
    "ratio_per_command": ("x raw per command", ".2f"),
}
_THROUGHPUT_COLUMNS = {
    "requests_per_s": ("requests/s", ".1f"),
    "commands": ("commands", ".1f"),
    "cpu_ms": ("CPU ms/request", ".2f"),
    "loop_cpu_ms": ("the loop's", ".2f"),
    "ratio": ("x raw", ".2f"),
    "lag_p99_ms": ("loop lag p99 ms", ".2f"),
    "lag_over_nothing_ms": ("ms above none", ".2f"),
}
_CPU_COLUMNS = {
    "cpu_ms": ("CPU ms, all threads", ".2f"),
    "cpu_ratio": ("x raw", ".2f"),
    "loop_cpu_ms": ("CPU ms, the loop's", ".2f"),
    "loop_cpu_ratio": ("x raw", ".2f"),
}
COST_COLUMNS = {
    "cpu": ("CPU a request", ".2f"),
    "loop_cpu": ("the loop's", ".2f"),
    "saturated_cpu": ("saturated: CPU a request", ".2f"),
    "saturated_loop_cpu": ("the loop's", ".2f"),
    "saturated": ("requests/s", ".2f"),
    "warm": ("warm turn, per command", ".2f"),
}


def table(title: str, rows: Mapping[str, Row], columns: Mapping[str, tuple[str, str]] | None = None) -> str:
    """Return the rows as text; without columns (field to heading and number format) those that fit the rows."""
    if columns is None:
        first = next(iter(rows.values()))
        columns = next(fit for fit in (_THROUGHPUT_COLUMNS, _TURN_COLUMNS, _CPU_COLUMNS) if first.keys() >= fit.keys())
    lines = [[title, *(heading for heading, _ in columns.values())]]
    for name, row in rows.items():
        lines.append([name, *(_number(row[key], form) for key, (_, form) in columns.items())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]


def aims(workloads: Mapping[str, Mapping[str, Row]]) -> list[Aim]:
    """Return what should hold, of the workloads that were run."""
    found: list[Aim] = []
    for title in (CPU, SATURATED):
        for system, limit in ((ASYNC, 1.6), (ASYNC_INVOCATION, 1.2)):
            if (rows := workloads.get(title)) is not None:
                found += [
                    Aim(f"{title}: CPU a request: {system}", _value(rows, system, "cpu_ratio"), limit),
                    Aim(f"{title}: CPU of the loop: {system}", _value(rows, system, "loop_cpu_ratio"), limit),
                ]
    if (rows := workloads.get(SATURATED)) is not None:
        for system, limit in ((ASYNC, 0.75), (ASYNC_INVOCATION, 0.95)):
            rate = _value(rows, system, "ratio")
            found.append(Aim(f"{SATURATED}: requests per second: {system}", rate, limit, at_least=True))
    if (rows := workloads.get(WARM)) is not None:
        found.append(Aim(f"{WARM}, per command: {ASYNC}", _value(rows, ASYNC, "ratio_per_command"), 1.25))
    for title in (WARM, STATELESS):
        if (rows := workloads.get(title)) is not None and SYNC in rows:
            found += [
                Aim(f"{title}: {ASYNC_INVOCATION}", _value(rows, ASYNC_INVOCATION, "ratio"), 1.0),
                Aim(f"{title}, per command: {SYNC}", _value(rows, SYNC, "ratio_per_command"), 1.5),
                Aim(f"{title}: {SYNC_INVOCATION}", _value(rows, SYNC_INVOCATION, "ratio"), 1.0),
            ]
    if (rows := workloads.get(EASY)) is not None:
        lag = _value(rows, ASYNC, "lag_over_nothing_ms")
        found.append(Aim("easy load: loop lag p99 above no session manager", lag, 2.0, unit=" ms"))
    return found


def _value(rows: Mapping[str, Row], name: str, key: str) -> float:
    value = rows[name][key]
    return float("nan") if value is None else value


def aims_table(found: Sequence[Aim]) -> str:
    """Return the aims as text."""
    lines = []
    for aim in found:
        bound = "at least" if aim.at_least else "at most"
        mark = "met" if aim.met else "MISSED"
        lines.append(f"{mark:6}  {aim.value:6.2f}{aim.unit} ({bound} {aim.limit:g}{aim.unit})  {aim.what}")
    return "\n".join(lines)
