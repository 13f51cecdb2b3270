"""A second process that takes turns on the session of a test.

python -m tests.support.turn_process <uri> <database> <options as JSON>

With `turns` it takes so many and prints what it saw. Without, it takes one, prints `held` when it has done what
`add` and `say` ask for, waits for a line, says `late` if that is given, and prints how the turn ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime, timedelta
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReturnDocument
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager

from mongodb_session_manager import AsyncMongoDBSessionManager, LeaseLostError
from mongodb_session_manager.schema import messages as engine_clock
from tests.fixtures.sessions import COLLECTION, SESSION_ID
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel, texts

OCCUPANCY = "occupancy"
"""Collection in which whoever has the turn counts itself in and out."""


def shift_clocks(seconds: float) -> None:
    """Put every clock of this process but the monotonic one so far ahead."""
    real_time, real_now = time.time, engine_clock.now

    def shifted() -> datetime:
        return real_now() + timedelta(seconds=seconds)

    time.time = lambda: real_time() + seconds
    for name, module in list(sys.modules.items()):
        if name.startswith("mongodb_session_manager") and getattr(module, "now", None) is real_now:
            module.now = shifted  # type: ignore[attr-defined]


def counting_agent(manager: AsyncMongoDBSessionManager) -> Agent:
    """Return an agent that answers with how many messages it was given, and keeps them all."""
    model = ScriptedModel(otherwise=lambda messages: str(len(messages)))
    return make_agent(manager, model=model, conversation_manager=NullConversationManager())


async def take_turns(manager: AsyncMongoDBSessionManager, uri: str, database: str, options: dict[str, Any]) -> Any:
    """Take turns as fast as the others let it, and return how many were inside at once at most."""
    agent = counting_agent(manager)
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
    occupancy = client[database][OCCUPANCY]
    most = 0
    for number in range(options["turns"]):
        async with manager.turn(lease_s=options.get("lease_s", 3600)):
            inside = await occupancy.find_one_and_update(
                {"_id": SESSION_ID}, {"$inc": {"inside": 1}}, upsert=True, return_document=ReturnDocument.AFTER
            )
            most = max(most, inside["inside"])
            agent.state.set("turns", (agent.state.get("turns") or 0) + 1)
            await streamed(agent, f"{options['name']} {number}")
            await occupancy.update_one({"_id": SESSION_ID}, {"$inc": {"inside": -1}})
    client.close()
    return {"most_inside": most}


async def hold_a_turn(manager: AsyncMongoDBSessionManager, options: dict[str, Any]) -> Any:
    """Take one turn and hold it."""
    agent = counting_agent(manager)
    refused: str | None = None
    try:
        async with manager.turn(lease_s=options.get("lease_s", 5), idempotency_key=options.get("key")) as turn:
            if options.get("add"):
                await manager.add_feedback({"rating": "up", "comment": options["add"]})
                await manager.update_metadata({"topic": options["add"]})
            if options.get("say"):
                await streamed(agent, options["say"])
            sys.stdout.write("held\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.readline)
            if options.get("late"):
                try:
                    await manager.update_metadata({"topic": options["late"]})
                except LeaseLostError as error:
                    refused = type(error).__name__
                await streamed(agent, options["late"])
    except Exception as error:
        return {"error": type(error).__name__, "refused": refused, "messages": texts(agent.messages)}
    return {"error": None, "replayed": turn.replayed, "messages": texts(agent.messages)}


async def main(uri: str, database: str, given: str) -> None:
    options: dict[str, Any] = json.loads(given)
    shift_clocks(options.get("clock_ahead_s", 0))
    manager = AsyncMongoDBSessionManager(SESSION_ID, uri, database, COLLECTION, ensure_indexes=False)
    async with manager:
        if "turns" in options:
            result = await take_turns(manager, uri, database, options)
        else:
            result = await hold_a_turn(manager, options)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
