"""What a hook adds to `update_metadata` and `add_feedback`, while the AWS endpoint behind it hangs.

Every hook has a manager of its own; all are called in turn, on the same server, in one run. What counts is the
difference to the same call without a hook. The endpoint accepts connections and never answers, which is the worst that
a notifying hook can meet: nothing it has to say is ever off its hands.

    python benchmarks/hooks.py
    python benchmarks/hooks.py --quick --json results.json

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aioboto3
import pymongo
from _measure import CommandCount, Samples, rotated, sampled
from _report import Aim, Row, aims_table, table
from pydantic import BaseModel
from turn import mongodb, scratch_database

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    MongoDBSessionManager,
    create_feedback_sns_hook,
    create_metadata_sqs_hook,
    create_metadata_websocket_hook,
)
from mongodb_session_manager.hooks import CachedMetadata, audit_hook, redact_fields, validate_metadata

NO_HOOK, OWN_PLAIN, OWN_ASYNC = "no hook", "plain, own", "async, own"
LIMIT_MS = 1.0
REGION = "eu-west-1"
TOPIC_ARN = f"arn:aws:sns:{REGION}:123456789012:feedback"
METADATA = {"connection_id": "bench", "status": "working", "progress": 50, "customer.tier": "gold"}
FEEDBACK = {"rating": "down", "comment": "It took too long, and then it was wrong."}
CONNECT_S = 30.0
"""How long to wait until the first message of every notifying hook hangs, in seconds."""

UPDATE, ADD = "update_metadata", "add_feedback"
FULL, QUICK = (30, 400), (10, 60)
"""Rounds that do not count, and rounds that do."""

NOTIFYING = {"SQS", "WebSocket", "SQS, redacted", "audit, validation, cache, SQS", "SNS", "SNS, redacted"}

COLUMNS = {
    "median_ms": ("median ms", ".3f"),
    "p99_ms": ("p99 ms", ".3f"),
    "over_none_ms": ("ms above no hook", ".3f"),
    "ratio": ("x no hook", ".2f"),
    "waited_ms": ("ms in MongoDB", ".3f"),
}


class Ticket(BaseModel, extra="allow"):
    status: str
    progress: int


class HangingEndpoint:
    """Accepts every connection and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connected(self) -> int:
        """Connections so far."""
        return len(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self._connections.append(connection)

    def close(self) -> None:
        """Cut every connection."""
        # Not close() alone: it leaves accept() waiting in its thread.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            connection.close()


def aws(url: str) -> dict[str, Any]:
    """Return settings of notifying hooks, with invented credentials."""
    session = aioboto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
    return {"session": session, "endpoint_url": url}


def plain(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return original_func(**kwargs)


async def awaited(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return await original_func(**kwargs)


def metadata_hooks(url: str) -> dict[str, Any]:
    """Return the hooks around `update_metadata`, by name."""
    quiet = logging.getLogger("benchmark.audit")
    quiet.propagate = False

    def sqs() -> Any:
        return create_metadata_sqs_hook(f"{url}/123456789012/changes", **aws(url))

    return {
        NO_HOOK: None,
        OWN_PLAIN: plain,
        OWN_ASYNC: awaited,
        "SQS": sqs(),
        "WebSocket": create_metadata_websocket_hook(f"{url}/prod", **aws(url)),
        "SQS, redacted": redact_fields(sqs(), ["customer.tier"]),
        "audit": audit_hook(quiet),
        "validation": validate_metadata(Ticket),
        "cache": CachedMetadata(60),
        "audit, validation, cache, SQS": [audit_hook(quiet), validate_metadata(Ticket), CachedMetadata(60), sqs()],
    }


def feedback_hooks(url: str) -> dict[str, Any]:
    """Return the hooks around `add_feedback`, by name."""
    return {
        NO_HOOK: None,
        OWN_PLAIN: plain,
        OWN_ASYNC: awaited,
        "SNS": create_feedback_sns_hook(topic_arn=TOPIC_ARN, **aws(url)),
        "SNS, redacted": redact_fields(create_feedback_sns_hook(topic_arn=TOPIC_ARN, **aws(url)), ["comment"]),
    }


@dataclass(frozen=True)
class Subject:
    """A manager with one hook, and the call of it that is measured."""

    manager: Any
    operation: str
    counted: CommandCount

    def call(self) -> Any:
        payload = METADATA if self.operation == UPDATE else FEEDBACK
        return getattr(self.manager, self.operation)(payload)


def subjects(kind: Any, uri: str, database: str, operation: str, hooks: Mapping[str, Any]) -> dict[str, Subject]:
    """Make a manager for each hook, all alike otherwise; the synchronous ones are open."""
    made: dict[str, Subject] = {}
    for number, (name, hook) in enumerate(hooks.items()):
        counted = CommandCount()
        manager = kind(
            f"session-{number}",
            uri,
            database_name=database,
            collection_name=f"{kind.__name__}_{operation}",
            event_listeners=[counted],
            minPoolSize=1,
            ensure_indexes=False,
            **{"metadata_hook" if operation == UPDATE else "feedback_hook": hook},
        )
        made[name] = Subject(manager, operation, counted)
    return made


def measure_sync(uri: str, database: str, operation: str, hooks: Mapping[str, Any], run: Run) -> dict[str, Samples]:
    found = {name: Samples() for name in hooks}
    chosen = subjects(MongoDBSessionManager, uri, database, operation, hooks)
    try:
        for name in run.order(list(hooks)):
            with sampled(found[name], chosen[name].counted):
                chosen[name].call()
    finally:
        for subject in chosen.values():
            subject.manager.close(drain_s=0)
    return run.measured(found)


async def measure_async(
    uri: str, database: str, operation: str, hooks: Mapping[str, Any], run: Run
) -> dict[str, Samples]:
    found = {name: Samples() for name in hooks}
    chosen = subjects(AsyncMongoDBSessionManager, uri, database, operation, hooks)
    try:
        for subject in chosen.values():
            await subject.manager.open()
        for name in run.order(list(hooks)):
            with sampled(found[name], chosen[name].counted):
                await chosen[name].call()
    finally:
        for subject in chosen.values():
            await subject.manager.close(drain_s=0)
    return run.measured(found)


@dataclass(frozen=True)
class Run:
    """In which order calls are made, and which of them count.

    Attributes:
        warmup: Rounds that do not count.
        rounds: Rounds that do.
        is_hanging: Whether the first message of every notifying hook hangs; the rounds that count begin then.
    """

    warmup: int
    rounds: int
    is_hanging: Callable[[], bool]

    def order(self, names: Sequence[str]) -> Iterator[str]:
        """Yield what to call next, in rounds with another one first each time."""
        for number in range(self.warmup):
            yield from rotated(names, number)
        give_up_at = time.monotonic() + CONNECT_S
        while not self.is_hanging():
            if time.monotonic() > give_up_at:
                raise SystemExit("no notification reached the hanging endpoint: there is nothing to measure")
            time.sleep(0.05)
        for number in range(self.rounds):
            yield from rotated(names, number)

    def measured(self, found: dict[str, Samples]) -> dict[str, Samples]:
        """Return the samples of the rounds that count."""
        for samples in found.values():
            for values in (samples.seconds, samples.waited_s):
                del values[: self.warmup]
        return found


def rows(found: Mapping[str, Samples]) -> dict[str, Row]:
    """Return the numbers of one operation on one face; a ratio is a ratio of medians."""
    floor = found[NO_HOOK]
    return {
        name: {
            "median_ms": samples.median_ms,
            "p99_ms": samples.p99_ms,
            "over_none_ms": samples.median_ms - floor.median_ms,
            "ratio": samples.median_ms / floor.median_ms,
            "waited_ms": samples.waited_ms,
        }
        for name, samples in found.items()
    }


def measure(uri: str, database: str, run_of: Callable[[Callable[[], bool]], Run]) -> dict[str, dict[str, Row]]:
    """Run everything, printing each table as soon as there is one."""
    results: dict[str, dict[str, Row]] = {}
    for operation, make in ((UPDATE, metadata_hooks), (ADD, feedback_hooks)):
        for face in ("async", "sync"):
            endpoint = HangingEndpoint()
            hooks = make(endpoint.url)
            run = run_of(partial(all_hang, endpoint, hooks))
            if face == "async":
                found = asyncio.run(measure_async(uri, database, operation, hooks, run))
            else:
                found = measure_sync(uri, database, operation, hooks, run)
            endpoint.close()
            title = f"{operation}, {face}"
            results[title] = rows(found)
            print(f"\n{table(title, results[title], COLUMNS)}", flush=True)
    return results


def all_hang(endpoint: HangingEndpoint, hooks: Mapping[str, Any]) -> bool:
    """Tell whether every notifying hook has met the endpoint: each session sends one message at a time."""
    return endpoint.connected >= sum(name in NOTIFYING for name in hooks)


def aims(results: Mapping[str, Mapping[str, Row]]) -> list[Aim]:
    """Return what should hold."""
    return [
        Aim(f"{title}: {name}, above no hook", row["over_none_ms"] or 0.0, LIMIT_MS, unit=" ms")
        for title, found in results.items()
        for name, row in found.items()
        if name not in (NO_HOOK, OWN_PLAIN, OWN_ASYNC)
    ]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure what hooks add to a call while their endpoint hangs.")
    parser.add_argument("--quick", action="store_true", help="a short run, with less certain numbers")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results to this file, too")
    options = parser.parse_args(arguments)
    # What cannot be delivered is dropped in the end, and said so for each session.
    logging.getLogger("mongodb_session_manager").setLevel(logging.ERROR)
    warmup, rounds = QUICK if options.quick else FULL
    with mongodb() as uri, scratch_database(uri) as (database, server_version):
        versions = {
            "python": sys.version.split()[0],
            "mongodb": server_version,
            "pymongo": pymongo.version,
            "aioboto3": version("aioboto3"),
        }
        print(", ".join(f"{name} {version}" for name, version in versions.items()), f"| {os.cpu_count()} cores")
        results = measure(uri, database, lambda is_hanging: Run(warmup, rounds, is_hanging))
    reached = aims(results)
    print(f"\n{aims_table(reached)}")
    if options.json is not None:
        report = {"versions": versions, "workloads": results, "aims": [aim.as_dict() for aim in reached]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
