"""Clocks and counters."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

TICK_S = 0.005

# Off the path of requests: indexes are made once per process, and sessions of the driver end with its client.
_BACKGROUND = frozenset({"createIndexes", "endSessions", "listIndexes"})


class CommandCount(CommandListener):
    """Counts the commands that a client sends, those of background work left out.

    Attributes:
        total: How many.
        waited_s: From sending to having the reply, all of them together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self.waited_s = 0.0

    def started(self, event: CommandStartedEvent) -> None:
        """Wait for the outcome."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._add(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self._add(event)

    def _add(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            with self._lock:
                self.total += 1
                self.waited_s += event.duration_micros / 1_000_000


@dataclass
class Samples:
    """What one system took for one thing, again and again.

    Attributes:
        seconds: How long it took, each time.
        waited_s: How long of that it waited for MongoDB.
        commands: How many it sent, all times together.
    """

    seconds: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    commands: int = 0

    @property
    def median_ms(self) -> float:
        return 1000 * statistics.median(self.seconds)

    @property
    def p99_ms(self) -> float:
        return 1000 * percentile(self.seconds, 0.99)

    @property
    def waited_ms(self) -> float:
        return 1000 * statistics.median(self.waited_s)

    @property
    def commands_each(self) -> float:
        return self.commands / len(self.seconds)


@dataclass
class Cpu:
    """What one system computed for its requests, block by block.

    Attributes:
        all_ms: CPU time a request of the whole process, in milliseconds, one number for each block.
        loop_ms: That of the event loop's thread alone.
    """

    all_ms: list[float] = field(default_factory=list)
    loop_ms: list[float] = field(default_factory=list)

    @contextmanager
    def block(self, requests: int) -> Iterator[None]:
        """Add a block of so many requests, run by this thread."""
        process_s, thread_s = time.process_time(), time.thread_time()
        yield
        self.all_ms.append(1000 * (time.process_time() - process_s) / requests)
        self.loop_ms.append(1000 * (time.thread_time() - thread_s) / requests)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def sampled(samples: Samples, count: CommandCount) -> Iterator[None]:
    """Add how long the block took, and the commands sent in it."""
    commands, waited_s, started = count.total, count.waited_s, time.perf_counter()
    yield
    samples.seconds.append(time.perf_counter() - started)
    samples.waited_s.append(count.waited_s - waited_s)
    samples.commands += count.total - commands


def rotated(items: Sequence[str], turn: int) -> list[str]:
    """Return the items with another one first each time, so that none always follows the same neighbour."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


@asynccontextmanager
async def loop_lag(late_s: list[float]) -> AsyncIterator[None]:
    """Collect how late a ticker of 5 ms wakes up in this loop while the block runs, in seconds."""

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_s.append(max(0.0, time.perf_counter() - due))

    ticker = asyncio.get_running_loop().create_task(tick())
    try:
        yield
    finally:
        ticker.cancel()
