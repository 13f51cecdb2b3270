"""What a shared connection pool saves a web application.

The same request (open a session, build an agent, one turn, close) is made in two ways: with a manager that connects by
itself each time, and with managers of one factory, which share its pool. First one request after the other, then many
together. The model answers at once, so that what is measured is the session and not the model.

    python examples/example_performance.py

    EXAMPLE_REQUESTS   requests of each kind, 50 by default
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from statistics import median

from _shared import COLLECTION, DATABASE, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory
from mongodb_session_manager.offline import OfflineModel

REQUESTS = int(os.environ.get("EXAMPLE_REQUESTS") or 50)
Request = Callable[[str], Awaitable[None]]
MODEL = OfflineModel()


async def turn(manager: AsyncMongoDBSessionManager) -> None:
    async with manager:
        agent = Agent(model=MODEL, agent_id="assistant", session_manager=manager, callback_handler=None)
        await agent.invoke_async("My name is Ada.")


async def timed(request: Request, session_id: str) -> float:
    """Return how long a request took, in milliseconds."""
    started = time.perf_counter()
    await request(session_id)
    return (time.perf_counter() - started) * 1000


async def measure(name: str, request: Request, *, at_once: bool) -> None:
    """Make the requests, each to a session of its own, and print a line of the table."""
    prefix = new_session_id("performance")
    sessions = [f"{prefix}-{number}" for number in range(REQUESTS)]
    started = time.perf_counter()
    if at_once:
        times = await asyncio.gather(*(timed(request, session_id) for session_id in sessions))
    else:
        times = [await timed(request, session_id) for session_id in sessions]
    per_second = REQUESTS / (time.perf_counter() - started)
    print(f"  {name:<24} {per_second:>10.0f} {median(times):>12.1f} {max(times):>12.1f}", flush=True)


async def main(uri: str) -> None:
    factory = AsyncMongoDBSessionManagerFactory(uri, database_name=DATABASE, collection_name=COLLECTION)

    async def connecting(session_id: str) -> None:
        # An option of its own keeps this client apart from all others, as in another process.
        manager = AsyncMongoDBSessionManager(
            session_id, uri, database_name=DATABASE, collection_name=COLLECTION, appname=session_id, minPoolSize=0
        )
        await turn(manager)

    async def pooled(session_id: str) -> None:
        await turn(factory.create_session_manager(session_id))

    async with factory:
        await pooled(new_session_id("performance-warm-up"))
        for at_once in (False, True):
            heading(f"{REQUESTS} requests {'at once' if at_once else 'one after the other'}")
            print(f"  {'':<24} {'requests/s':>10} {'median, ms':>12} {'slowest, ms':>12}")
            await measure("a client per request", connecting, at_once=at_once)
            await measure("one factory", pooled, at_once=at_once)

        heading("The factory's pool")
        stats = await factory.get_connection_stats()
        for server, numbers in stats["servers"].items():
            say("server", server)
            for name in ("created", "open", "in_use"):
                say(name, numbers[name])


if __name__ == "__main__":
    run(main)
