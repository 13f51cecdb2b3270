"""What adding to and resuming a conversation costs as it grows, to a million messages.

Sessions of 10 to 1,000,000 messages of 1 KB stand side by side on one server and are measured in turn, so that what
counts are the ratios. The long ones are put into the database, as copies of what real turns leave there; the longest
takes about 1.3 GB of disk while this runs.

    make bench-growth
    python benchmarks/growth.py --sizes 10,1000,100000 --json results.json
    python benchmarks/growth.py --tails 10,40,60,80,100,150      what a longer live tail costs

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import bson
import pymongo
from _conversations import COLLECTION, Conversations, add, agent_of, end_turn, manager
from _measure import rotated
from _report import Aim, aims_table
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.embedded import EmbeddedMongo

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
FEEDBACKS = 10_000
_SHORT = 1000
_OUTSIDE = ("endSessions", "createIndexes")


class ReplyBytes(CommandListener):
    """Adds up what the server sends back."""

    def __init__(self) -> None:
        self.total = 0

    def started(self, event: CommandStartedEvent) -> None:
        """Wait for the outcome."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name not in _OUTSIDE:
            self.total += len(bson.encode(event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing came back."""


@dataclass
class Samples:
    """What one session was measured to take.

    Attributes:
        messages: How many it has.
        tail: How many of them stay in its document, None for as many as the library leaves.
        append_s: Adding one message.
        resume_s: Opening the session and building its agent.
        read_bytes: What the server sent for that.
        peak_mb: Peak memory of a process that does nothing else.
    """

    messages: int
    tail: int | None = None
    append_s: list[float] = field(default_factory=list)
    resume_s: list[float] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def session_id(self) -> str:
        return f"session-{self.messages}"

    @property
    def grows(self) -> bool:
        """Whether a run makes it noticeably longer, so that it has to be put back between rounds."""
        return self.tail is not None or self.messages < _SHORT


class Growth:
    """One run on one database."""

    def __init__(self, uri: str, database: str) -> None:
        self._uri = uri
        self._database = database
        self._client: Any = pymongo.MongoClient(uri)
        self._replies = ReplyBytes()
        self._counted: Any = pymongo.MongoClient(uri, event_listeners=[self._replies])
        self._conversations = Conversations(uri, self._client[database])

    async def run(self, sessions: Sequence[Samples], rounds: int) -> None:
        await self._conversations.take_turns()
        for samples in sessions:
            started = time.perf_counter()
            self._store(samples)
            say(f"stored a session of {samples.messages:,} messages in {time.perf_counter() - started:.1f} s")
        by_id = {samples.session_id: samples for samples in sessions}
        await self._round(list(by_id.values()), warm_up=True)
        for number in range(rounds):
            await self._round([by_id[session_id] for session_id in rotated(list(by_id), number)])

    def _store(self, samples: Samples) -> None:
        self._conversations.store(samples.session_id, samples.messages, tail=samples.tail)

    async def _round(self, sessions: Sequence[Samples], *, warm_up: bool = False) -> None:
        # Each round adds a message, so the long sessions go through all that happens from one seal to the next.
        for samples in sessions:
            if samples.grows:
                self._store(samples)
            read_bytes = await self._read_bytes(samples.session_id)
            opened, agent, resume_s = await self._resume(samples.session_id, self._client)
            started = time.perf_counter()
            await add(agent)
            append_s = time.perf_counter() - started
            end_turn(opened, agent)
            await opened.close()
            if not warm_up:
                samples.resume_s.append(resume_s)
                samples.append_s.append(append_s)
                samples.read_bytes.append(read_bytes)

    async def _read_bytes(self, session_id: str) -> int:
        # Apart from what is timed, since counting costs the more, the more there is.
        self._replies.total = 0
        opened, _, _ = await self._resume(session_id, self._counted)
        await opened.close()
        return self._replies.total

    async def _resume(self, session_id: str, client: Any) -> tuple[AsyncMongoDBSessionManager, Agent, float]:
        started = time.perf_counter()
        opened = await AsyncMongoDBSessionManager(
            session_id,
            client=client,
            database_name=self._database,
            collection_name=COLLECTION,
            ensure_indexes=False,
        ).open()
        agent = agent_of(opened)
        return opened, agent, time.perf_counter() - started

    def peak_mb(self, session_id: str) -> float:
        """Return the peak memory of a process that does nothing but resume a session."""
        command = [sys.executable, __file__, "--peak-of", session_id, "--database", self._database]
        environment = {**os.environ, CONNECTION_STRING: self._uri}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    async def feedbacks_s(self, count: int) -> list[float]:
        """Return what each of many feedbacks in a row takes, in one session."""
        taken: list[float] = []
        async with manager(self._uri, self._database, "feedbacks") as opened:
            for number in range(count):
                started = time.perf_counter()
                await opened.add_feedback({"rating": "up", "comment": f"{number} was helpful"})
                taken.append(time.perf_counter() - started)
        return taken


async def print_peak(uri: str, database: str, session_id: str) -> None:
    async with manager(uri, database, session_id) as opened:
        agent_of(opened)
    print(own_peak_mb())


def own_peak_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # On Linux the other number may be that of the process which started this one.
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


@contextmanager
def server() -> Iterator[str]:
    given = os.environ.get(CONNECTION_STRING)
    if given:
        yield given
        return
    with EmbeddedMongo() as mongo:
        yield mongo.uri


def rows_of(sessions: Sequence[Samples], empty_mb: float) -> list[dict[str, Any]]:
    """Return the numbers of each session; a ratio is to the first one."""
    first = sessions[0]
    return [
        {
            "messages": samples.messages,
            "append_p50_ms": 1000 * median(samples.append_s),
            "append_ratio": median(samples.append_s) / median(first.append_s),
            "resume_p50_ms": 1000 * median(samples.resume_s),
            "resume_ratio": median(samples.resume_s) / median(first.resume_s),
            "read_bytes": median(samples.read_bytes),
            "most_read_bytes": max(samples.read_bytes),
            "peak_mb_over_empty": samples.peak_mb - empty_mb,
        }
        for samples in sessions
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    titles = ("messages", "append p50", "ratio", "resume p50", "ratio", "read per resume", "at most", "peak memory")
    lines = ["{:>10} {:>11} {:>6} {:>11} {:>6} {:>16} {:>9} {:>12}".format(*titles)]
    for row in rows:
        lines.append(
            f"{row['messages']:>10,} {row['append_p50_ms']:>8.2f} ms {row['append_ratio']:>6.2f}"
            f" {row['resume_p50_ms']:>8.2f} ms {row['resume_ratio']:>6.2f}"
            f" {row['read_bytes'] / 1024:>13.0f} KB {row['most_read_bytes'] / 1024:>6.0f} KB"
            f" {row['peak_mb_over_empty']:>+9.1f} MB"
        )
    return "\n".join(lines)


def aims_of(rows: Sequence[dict[str, Any]], feedbacks_s: Sequence[float]) -> list[Aim]:
    aims = []
    if len(rows) > 1:
        aims += [
            Aim("append p50, longest beside shortest", rows[-1]["append_ratio"], 1.3),
            Aim("resume p50, longest beside shortest", rows[-1]["resume_ratio"], 1.5),
        ]
    aims.append(Aim("peak memory of resuming, above an empty session", rows[-1]["peak_mb_over_empty"], 20, unit=" MB"))
    if feedbacks_s:
        part = max(len(feedbacks_s) // 20, 1)
        ratio = median(feedbacks_s[-part:]) / median(feedbacks_s[:part])
        aims.append(Aim(f"a feedback after {len(feedbacks_s):,} others, beside the first", ratio, 1.3))
    return aims


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=numbers, default="10,1000,100000,1000000", help="messages of the sessions")
    parser.add_argument("--tails", type=numbers, help="sessions of so many messages, all in one document, instead")
    parser.add_argument("--rounds", type=int, default=100, help="how often each is measured")
    parser.add_argument("--feedbacks", type=int, default=FEEDBACKS, help="how many feedbacks in a row, 0 for none")
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--database", default=f"growth_{uuid.uuid4().hex[:8]}", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.peak_of:
        asyncio.run(print_peak(os.environ[CONNECTION_STRING], arguments.database, arguments.peak_of))
        return
    if arguments.tails:
        sessions = [Samples(tail, tail) for tail in arguments.tails]
    else:
        sessions = [Samples(size) for size in arguments.sizes]
    with server() as uri:
        try:
            growth = Growth(uri, arguments.database)
            asyncio.run(growth.run(sessions, arguments.rounds))
            empty_mb = growth.peak_mb("empty")
            for samples in sessions:
                samples.peak_mb = growth.peak_mb(samples.session_id)
            feedbacks_s = asyncio.run(growth.feedbacks_s(0 if arguments.tails else arguments.feedbacks))
        finally:
            with pymongo.MongoClient[dict[str, Any]](uri) as client:
                client.drop_database(arguments.database)
    rows = rows_of(sessions, empty_mb)
    print(table(rows))
    if not arguments.tails:
        aims = aims_of(rows, feedbacks_s)
        print(f"\n{aims_table(aims)}")
        if arguments.json:
            report = {"sessions": rows, "aims": [aim.as_dict() for aim in aims]}
            arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
