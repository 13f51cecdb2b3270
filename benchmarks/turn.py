"""What keeping a conversation in MongoDB costs, beside a raw driver and beside keeping nothing.

All systems are measured in one run and in turn, on the same server: what counts are the ratios. The raw driver is the
floor, written by hand: one update for each message, one find to resume. "invocation" is `flush_on="invocation"`.
The run ends with what the library costs as ratios to it: CPU of a stateless request in all threads and in the event
loop's alone, requests per second when a hundred sessions saturate the loop, and a warm turn's time for each command.

    make bench
    python benchmarks/turn.py --cost                         only what those ratios need
    python benchmarks/turn.py --quick --json results.json

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pymongo
from _report import (
    ASYNC,
    ASYNC_INVOCATION,
    COST_COLUMNS,
    CPU,
    EASY,
    NONE,
    RAW,
    SATURATED,
    STATELESS,
    SYNC,
    SYNC_INVOCATION,
    SYNC_NONE,
    SYNC_PYMONGO,
    SYNC_RAW,
    WARM,
    Row,
    aims,
    aims_table,
    cost_rows,
    cpu_rows,
    table,
    throughput_rows,
    turn_rows,
)
from _systems import (
    AsyncManaged,
    AsyncMemory,
    AsyncRawMotor,
    SyncManaged,
    SyncMemory,
    SyncRawMotor,
    SyncRawPymongo,
    System,
)
from _workloads import (
    EASY_MODEL_S,
    SATURATING_MODEL_S,
    many_sessions,
    stateless_cpu,
    stateless_requests,
    warm_turns,
)
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongo

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
COST = (WARM, CPU, SATURATED)
Workload = Callable[[dict[str, System], asyncio.Runner], dict[str, Row]]


@dataclass(frozen=True)
class Sizes:
    """How much of each workload is run."""

    warmup: int = 20
    turns: int = 200
    requests: int = 200
    cpu_blocks: int = 9
    cpu_requests: int = 30
    saturated_requests: int = 10
    saturated_rounds: int = 3
    easy_requests: int = 5
    easy_rounds: int = 2


QUICK = Sizes(
    warmup=5,
    turns=40,
    requests=40,
    cpu_blocks=3,
    saturated_requests=3,
    saturated_rounds=1,
    easy_requests=2,
    easy_rounds=1,
)


def workloads(sizes: Sizes) -> dict[str, Workload]:
    """Return what is run, by name."""
    return {
        WARM: lambda systems, runner: turn_rows(warm_turns(systems, runner, turns=sizes.turns, warmup=sizes.warmup)),
        STATELESS: lambda systems, runner: turn_rows(
            stateless_requests(systems, runner, requests=sizes.requests, warmup=sizes.warmup)
        ),
        CPU: lambda systems, runner: cpu_rows(
            stateless_cpu(systems, runner, blocks=sizes.cpu_blocks, requests=sizes.cpu_requests)
        ),
        SATURATED: lambda systems, runner: throughput_rows(
            many_sessions(
                systems,
                runner,
                model_s=SATURATING_MODEL_S,
                requests=sizes.saturated_requests,
                rounds=sizes.saturated_rounds,
                ramp_s=0.0,
            )
        ),
        EASY: lambda systems, runner: throughput_rows(
            many_sessions(
                systems,
                runner,
                model_s=EASY_MODEL_S,
                requests=sizes.easy_requests,
                rounds=sizes.easy_rounds,
                ramp_s=EASY_MODEL_S,
            )
        ),
    }


def async_systems(uri: str, database: str) -> dict[str, System]:
    """Make those whose agents are awaited."""
    return {
        NONE: AsyncMemory(),
        RAW: AsyncRawMotor(uri, database, "raw"),
        ASYNC: AsyncManaged(uri, database, "async", "message"),
        ASYNC_INVOCATION: AsyncManaged(uri, database, "async_invocation", "invocation"),
    }


def all_systems(uri: str, database: str) -> dict[str, System]:
    """Make every system, each with a collection and a client of its own."""
    return {
        **async_systems(uri, database),
        SYNC_NONE: SyncMemory(),
        SYNC_RAW: SyncRawMotor(uri, database, "sync_raw"),
        SYNC_PYMONGO: SyncRawPymongo(uri, database, "sync_pymongo"),
        SYNC: SyncManaged(uri, database, "sync", "message"),
        SYNC_INVOCATION: SyncManaged(uri, database, "sync_invocation", "invocation"),
    }


@contextmanager
def mongodb() -> Iterator[str]:
    """Give a connection string: that of the environment, or of a server that runs as long as the block."""
    if given := os.environ.get(CONNECTION_STRING):
        yield given
        return
    with EmbeddedMongo() as server:
        yield server.uri


@contextmanager
def scratch_database(uri: str) -> Iterator[tuple[str, str]]:
    """Give the name of a new database and the server's version; the database is dropped in the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with MongoClient[dict[str, Any]](uri) as client:
        try:
            yield name, client.server_info()["version"]
        finally:
            client.drop_database(name)


def measure(systems: dict[str, System], chosen: dict[str, Workload]) -> dict[str, dict[str, Row]]:
    """Run the workloads, printing each table as soon as there is one."""
    results: dict[str, dict[str, Row]] = {}
    with asyncio.Runner() as runner:
        for system in systems.values():
            runner.run(system.start())
        try:
            for title, workload in chosen.items():
                results[title] = workload(systems, runner)
                print(f"\n{table(title, results[title])}", flush=True)
        finally:
            for system in systems.values():
                runner.run(system.stop())
    return results


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what a turn costs beside a raw driver.")
    parser.add_argument("--quick", action="store_true", help="a short run, with less certain numbers")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results to this file, too")
    parser.add_argument("--cost", action="store_true", help="the async systems, and only what the last table needs")
    parser.add_argument(
        "--only", action="append", choices=list(workloads(QUICK)), help="run this workload only; can be repeated"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    every = workloads(QUICK if options.quick else Sizes())
    titles = options.only or (COST if options.cost else list(every))
    chosen = {title: every[title] for title in every if title in titles}
    make = async_systems if options.cost else all_systems
    with mongodb() as uri, scratch_database(uri) as (database, server_version):
        versions = {
            "python": sys.version.split()[0],
            "mongodb": server_version,
            "pymongo": pymongo.version,
            "strands-agents": version("strands-agents"),
        }
        print(", ".join(f"{name} {version}" for name, version in versions.items()), f"| {os.cpu_count()} cores")
        results = measure(make(uri, database), chosen)
    cost = cost_rows(results)
    print(f"\n{table('cost, x raw Motor', cost, COST_COLUMNS)}")
    reached = aims(results)
    print(f"\n{aims_table(reached)}")
    if options.json is not None:
        report = {"versions": versions, "workloads": results, "cost": cost, "aims": [aim.as_dict() for aim in reached]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
