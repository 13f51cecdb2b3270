"""What snapshots cost beside the message log, by how much the agent holds, and what values of a storage cost by size.

Both keep the same agent, which never forgets a message, on the same server, in turn. A turn is one prompt and one
answer of 1 KB; resuming is what a process does that has not seen the session yet.

    make bench-storage
    make bench-storage ARGS="--held 10,100"

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from _models import ANSWER, FixedModel
from _systems import build_agent
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.session import SnapshotSessionManager
from strands.types.content import Messages

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory, MongoDBStorage
from mongodb_session_manager.embedded import EmbeddedMongo

HELD = (10, 100, 1_000, 5_000)
SIZES = (10_000, 100_000, 1_000_000, 4_000_000, 30_000_000, 100_000_000)
TURNS = 15
_BACKGROUND = frozenset({"createIndexes", "endSessions", "listIndexes"})
_MEASURED = "measured"


class Sent(CommandListener):
    """Counts the commands of a client, and how many bytes of documents they carry while it is asked to."""

    def __init__(self) -> None:
        self.commands = 0
        self.size = 0
        self.weighs = False

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            self.commands += 1
            if self.weighs:
                self.size += _weight(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """What was sent is what counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """What was sent is what counts."""


def _weight(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(map(_weight, value))
    return sum(len(name) + _weight(item) for name, item in value.items()) if isinstance(value, dict) else 8


def remembering(messages: Messages, **kwargs: Any) -> Agent:
    return build_agent(FixedModel(), messages=messages, conversation_manager=NullConversationManager(), **kwargs)


def held(count: int) -> Messages:
    roles: tuple[Any, Any] = ("user", "assistant")
    return [{"role": roles[number % 2], "content": [{"text": ANSWER}]} for number in range(count)]


async def median_ms(work: Callable[[], Awaitable[object]], times: int = TURNS) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


async def measure(agent: Agent, resume: Callable[[], Awaitable[object]], sent: Sent) -> tuple[float, float, int, float]:
    """Return milliseconds, commands and bytes sent of a turn, and milliseconds of resuming."""
    await agent.invoke_async(ANSWER)
    commands = sent.commands
    turn_ms = await median_ms(lambda: agent.invoke_async(ANSWER))
    commands_each = (sent.commands - commands) / TURNS
    sent.weighs, sent.size = True, 0
    await agent.invoke_async(ANSWER)
    sent.weighs = False
    return turn_ms, commands_each, sent.size, await median_ms(resume)


async def with_nothing(uri: str, database: str, count: int) -> tuple[float, float, int, float]:
    async def resume() -> Agent:
        return remembering([])

    return await measure(remembering(held(count)), resume, Sent())


async def with_snapshots(uri: str, database: str, count: int) -> tuple[float, float, int, float]:
    sent = Sent()
    async with MongoDBStorage(uri, database, "snapshots", event_listeners=[sent]) as storage:
        manager = SnapshotSessionManager(_MEASURED, storage=storage)
        await manager.save_snapshot(remembering(held(count)), is_latest=True)

        async def resume() -> Agent:
            # Building it restores it, in a thread and a loop of Strands'.
            return remembering([], session_manager=SnapshotSessionManager(_MEASURED, storage=storage))

        return await measure(await resume(), resume, sent)


async def with_the_log(uri: str, database: str, count: int) -> tuple[float, float, int, float]:
    sent = Sent()
    options: dict[str, Any] = {"event_listeners": [sent]}
    async with AsyncMongoDBSessionManagerFactory(uri, database, "sessions", **options) as factory:
        async with factory.create_session_manager(_MEASURED) as manager:
            remembering(held(count), session_manager=manager)

        async def resume() -> None:
            async with factory.create_session_manager(_MEASURED) as again:
                remembering([], session_manager=again)

        async with factory.create_session_manager(_MEASURED) as manager:
            return await measure(remembering([], session_manager=manager), resume, sent)


WAYS = (("no session manager", with_nothing), ("message log", with_the_log), ("snapshots", with_snapshots))


async def report(uri: str, counts: tuple[int, ...]) -> None:
    """Measure everything in databases of its own, and print two tables."""
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    print("| messages held | | turn, ms | commands | sent, KB | resume, ms |\n|---|---|---|---|---|---|")
    for count in counts:
        for name, work in WAYS:
            database = f"bench_{uuid4().hex[:12]}"
            turn_ms, commands, size, resume_ms = await work(uri, database, count)
            print(f"| {count:,} | {name} | {turn_ms:.1f} | {commands:.0f} | {size / 1000:,.0f} | {resume_ms:.1f} |")
            client.drop_database(database)
    print("\n| value | write, ms | read, ms |\n|---|---|---|")
    database = f"bench_{uuid4().hex[:12]}"
    async with MongoDBStorage(uri, database) as storage:
        for size in SIZES:
            data = os.urandom(size)
            times = TURNS if size < 10_000_000 else 5
            await storage.write("key", data)
            # The lambdas are done with before the value of the next size is made.
            write_ms = await median_ms(lambda: storage.write("key", data), times)  # noqa: B023
            print(f"| {size / 1e6:g} MB | {write_ms:.1f} | {await median_ms(lambda: storage.read('key'), times):.1f} |")
    client.drop_database(database)
    client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", default=",".join(map(str, HELD)), metavar="N,N", help="messages that the agent holds")
    counts = tuple(int(number) for number in parser.parse_args().held.split(","))
    uri = os.environ.get("MONGODB_CONNECTION_STRING")
    with ExitStack() as stack:
        asyncio.run(report(uri or stack.enter_context(EmbeddedMongo()).uri, counts))


if __name__ == "__main__":
    main()
