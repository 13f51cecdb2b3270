"""Tables and a page out of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from _measure import percentile

from .plots import bars, lines

NONE = "no session manager"
SINGLE = ("warm turn", "stateless request")
AT_ONCE = "100 sessions at once"
BEGIN, END = "<!-- begin: written by make bench-peers -->", "<!-- end: written by make bench-peers -->"

Found = Mapping[str, Any]
Table = list[list[str]]


class Report:
    """Collects what the rounds measured."""

    def __init__(self, about: dict[str, Any], systems: Sequence[str]) -> None:
        """Begin with nothing."""
        self._about = about
        self._systems = list(systems)
        self._samples: dict[str, dict[str, dict[str, list[float]]]] = {}
        self._growth: dict[str, dict[int, float | None]] = {}
        self.commands: dict[str, dict[str, float]] = {}

    def add(self, workload: str, system: str, found: Mapping[str, list[float]]) -> None:
        """Add one round of one system."""
        samples = self._samples.setdefault(workload, {}).setdefault(system, {})
        for name, values in found.items():
            samples.setdefault(name, []).extend(values)

    def add_growth(self, system: str, messages: int, seconds: Sequence[float]) -> None:
        """Add what a request took at one length; nothing when the system cannot store as many messages."""
        self._growth.setdefault(system, {})[messages] = 1000 * median(seconds) if seconds else None

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers: times in milliseconds, medians unless named otherwise."""
        return {
            **self._about,
            "systems": self._systems,
            "workloads": {workload: self._rows(workload) for workload in self._samples},
            "growth_ms": self._growth,
        }

    def _rows(self, workload: str) -> dict[str, dict[str, float]]:
        rows: dict[str, dict[str, float]] = {}
        for system, samples in self._samples[workload].items():
            seconds = samples["seconds"]
            row = {"median_ms": 1000 * median(seconds), "p99_ms": 1000 * percentile(seconds, 0.99), "n": len(seconds)}
            if "late_s" in samples:
                row["requests_per_s"] = median(samples["requests_per_s"])
                row["lag_p99_ms"] = 1000 * percentile(samples["late_s"], 0.99)
                row["lag_max_ms"] = 1000 * max(samples["late_s"])
            if workload in self.commands.get(system, {}):
                row["commands"] = self.commands[system][workload]
            rows[system] = row
        base = rows.get(NONE)
        for row in rows.values():
            if base is not None:
                name = "requests_per_s" if "requests_per_s" in row else "median_ms"
                row["ratio"] = row[name] / base[name]
        return rows


def _tables(found: Found) -> Iterator[tuple[str, Table]]:
    for workload in SINGLE:
        table = [["", "median", "p99", "ratio", "commands or files"]]
        for system, row in found["workloads"][workload].items():
            table.append([system, _ms(row["median_ms"]), _ms(row["p99_ms"]), _ratio(row), f"{row['commands']:.3g}"])
        yield workload, table
    table = [["", "requests/s", "ratio", "median", "p99", "lag p99", "lag, most"]]
    for system, row in found["workloads"][AT_ONCE].items():
        lags = (_ms(row["lag_p99_ms"]), _ms(row["lag_max_ms"]))
        rate = f"{row['requests_per_s']:.1f}"
        table.append([system, rate, _ratio(row), _ms(row["median_ms"]), _ms(row["p99_ms"]), *lags])
    yield AT_ONCE, table
    sizes = list(next(iter(found["growth_ms"].values())))
    table = [["messages in the session", *(f"{int(size):,}" for size in sizes)]]
    for system, row in found["growth_ms"].items():
        table.append([system, *("too large" if row[size] is None else _ms(row[size]) for size in sizes)])
    yield "growth", table


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def _ratio(row: Mapping[str, float]) -> str:
    return f"{row['ratio']:.3g}" if "ratio" in row else "-"


def text_tables(found: Found) -> str:
    """Return everything as text for a terminal."""
    parts = []
    for title, table in _tables(found):
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        parts.append("\n".join([f"\n{title}", *(row.rstrip() for row in rows)]))
    return "\n".join(parts)


def write_page(found: Found, page: Path) -> None:
    """Write numbers and plots into the page, between its two marks; the text around them is written by hand.

    Raises:
        ValueError: The page has no such marks.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    folder = page.parent / "benchmarks"
    folder.mkdir(exist_ok=True)
    at_once = found["workloads"][AT_ONCE]
    (folder / "requests.svg").write_text(
        bars({system: row["requests_per_s"] for system, row in at_once.items()}, "requests per second, more is better")
    )
    (folder / "lag.svg").write_text(
        bars(
            {system: row["lag_p99_ms"] for system, row in at_once.items()},
            "loop lag in ms, 99th percentile, less is better (logarithmic)",
            logarithmic=True,
        )
    )
    (folder / "growth.svg").write_text(
        lines(
            {
                system: [(int(size), value) for size, value in row.items() if value is not None]
                for system, row in found["growth_ms"].items()
            },
            "ms for a request, by messages in the session",
        )
    )
    page.write_text(f"{before}{begin}\n\n{_generated(found)}\n\n{end}{after}")


def _generated(found: Found) -> str:
    machine, versions = found["machine"], found["versions"]
    cores, memory = machine["cores"], machine["memory_gb"]
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    tables = {title: _markdown(table) for title, table in _tables(found)}
    return "\n\n".join(
        [
            f"Measured on {found['date']} with `{found['command']}`, on {cores} cores ({machine['cpu']}) and "
            f"{memory} GB of memory, {machine['system']}; {used}.",
            "### A warm turn",
            tables["warm turn"],
            "### A stateless request",
            tables["stateless request"],
            "### 100 sessions at once in one event loop",
            tables[AT_ONCE],
            "![Requests per second of each system](benchmarks/requests.svg)",
            "![Loop lag of each system](benchmarks/lag.svg)",
            "### Growth",
            tables["growth"],
            "![A request's time by the length of its session](benchmarks/growth.svg)",
        ]
    )


def _markdown(table: Table) -> str:
    heading, *rows = table
    rule = ["---", *("---:" for _ in heading[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))
