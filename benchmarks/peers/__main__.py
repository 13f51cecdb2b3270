"""The same Strands agents on this library and on what else there is to keep their sessions.

All systems are measured in one run, in turn, each in a process of its own; a system that is too slow for its number of
repetitions is measured for as long as the run allows. What counts are the ratios to having no session manager.

    make bench-peers
    make bench-peers ARGS="--quick"
    make bench-peers ARGS="--json docs/benchmarks/peers.json"    a full run, kept
    make bench-peers ARGS="--page docs/benchmarks/peers.json"    docs/benchmarks.md and its plots, out of that file

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run

Without make, from the project's folder: PYTHONPATH=benchmarks python -m peers. The other session managers come with the
extra `peers`. The S3 server is moto's, started for the run. The Valkey session manager is measured when `redis-server`
is on PATH.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from _measure import rotated

from mongodb_session_manager import __version__

from .report import Report, text_tables, write_page
from .servers import servers
from .worker import Worker

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
PACKAGES = (
    *("strands-agents", "pymongo", "motor", "boto3", "moto"),
    *("strands-mongodb-session-manager", "strands-mongodb-storage", "strands-valkey-session-manager"),
)


@dataclass(frozen=True)
class Sizes:
    """How much of each workload is run."""

    rounds: int = 3
    turns: int = 100
    requests: int = 60
    requests_at_once: int = 8
    growth: tuple[int, ...] = (10, 100, 1_000, 10_000, 30_000)
    growth_requests: int = 20
    limit_s: float = 20.0


QUICK = Sizes(rounds=1, turns=30, requests=20, requests_at_once=2, growth=(10, 1_000), growth_requests=5, limit_s=8.0)


def measure(sizes: Sizes, only: Sequence[str] | None) -> Report:
    """Run everything, saying on standard error what is being run."""
    # Only here: the page is written without any of the systems.
    from .systems import available

    limit_s = sizes.limit_s
    repeated: dict[str, dict[str, Any]] = {
        "warm turn": {"turns": sizes.turns, "limit_s": limit_s},
        "stateless request": {"requests": sizes.requests, "limit_s": limit_s},
        "100 sessions at once": {"requests": sizes.requests_at_once, "limit_s": limit_s},
    }
    with servers() as places, ExitStack() as stack:
        names = [name for name in available(places) if only is None or name in only]
        workers = {name: stack.enter_context(Worker(name, places)) for name in names}
        report = Report(_about(places.versions, sizes), names)
        for workload, arguments in repeated.items():
            for number in range(sizes.rounds):
                for name in rotated(names, number):
                    _say(f"{workload}, round {number + 1}: {name}")
                    report.add(workload, name, workers[name].run(workload, **arguments))
        for number, count in enumerate(sizes.growth):
            for name in rotated(names, number):
                _say(f"growth to {count:,} messages: {name}")
                found = workers[name].run("growth", messages=count, requests=sizes.growth_requests, limit_s=limit_s)
                report.add_growth(name, count, found["seconds"])
        # Last, since counting the files that are opened slows a process down.
        for name in names:
            report.commands[name] = workers[name].run("commands")
    return report


def _about(server_versions: Mapping[str, str], sizes: Sizes) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%d %B %Y").lstrip("0"),
        "command": 'make bench-peers ARGS="--quick"' if sizes.rounds == QUICK.rounds else "make bench-peers",
        "machine": {
            "cores": psutil.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30),
            "cpu": _cpu_model(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "mongodb-session-manager": __version__,
            "Python": platform.python_version(),
            **server_versions,
            **{package: version(package) for package in PACKAGES},
        },
        "sizes": {"rounds": sizes.rounds, "turns": sizes.turns, "requests": sizes.requests, "limit_s": sizes.limit_s},
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in text.split(",")))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run, with less certain numbers")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers to this file, too")
    parser.add_argument("--page", type=Path, metavar="PATH", help=f"write {PAGE.name} out of that file; nothing is run")
    parser.add_argument("--sizes", type=_numbers, metavar="N,N", help="messages to grow to, instead of the usual ones")
    parser.add_argument("--only", action="append", metavar="SYSTEM", help="measure this system only; can be repeated")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.page:
        write_page(json.loads(arguments.page.read_text()), PAGE)
        return
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.sizes:
        sizes = replace(sizes, growth=arguments.sizes)
    report = measure(sizes, arguments.only)
    found = report.as_dict()
    print(text_tables(found))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
