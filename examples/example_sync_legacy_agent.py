"""Synchronous code, as it was written before async: it works unchanged, and stores nothing twice.

`agent("...")` in a script, a manager made with the convenience function, messages that are appended by hand although
the agent stores them already, `initialize` called again: all of it was common. The same session then goes on in async
code, message for message, which is how such a program is moved over step by step.

    python examples/example_sync_legacy_agent.py
"""

from __future__ import annotations

import asyncio

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, MongoDBSessionManager, create_mongodb_session_manager


def build(manager: MongoDBSessionManager | AsyncMongoDBSessionManager) -> Agent:
    return Agent(model=chosen_model(), agent_id="assistant", session_manager=manager, callback_handler=None)


def main(uri: str) -> None:
    session_id = new_session_id("legacy")

    heading(f"A script ({session_id})")
    manager = create_mongodb_session_manager(session_id, uri, DATABASE, COLLECTION)
    agent = build(manager)
    say("agent", agent("My name is Ada."))
    manager.initialize(agent)  # the agent did so itself: this changes nothing
    manager.close()

    heading("Old streaming code, which appends by hand")
    with create_mongodb_session_manager(session_id, uri, DATABASE, COLLECTION) as manager:
        say("agent", asyncio.run(stream_and_append(manager)))
        say("messages", manager.get_message_count("assistant"))

    heading("The same session in async code")
    say("agent", asyncio.run(go_on(uri, session_id)))

    with MongoDBSessionManager(session_id, uri, DATABASE, COLLECTION) as manager:
        heading("All of it, once")
        for message in build(manager).messages:
            say(message["role"], " ".join(block.get("text", "") for block in message["content"]))


async def stream_and_append(manager: MongoDBSessionManager) -> str:
    """Run a turn in the way that used to be recommended."""
    agent, prompt = build(manager), "I am planning a trip to Lisbon."
    manager.append_message({"role": "user", "content": [{"text": prompt}]}, agent)
    answer = ""
    async for event in agent.stream_async(prompt):
        answer += event.get("data", "")
    manager.append_message({"role": "assistant", "content": [{"text": answer}]}, agent)
    manager.sync_agent(agent)
    return answer


async def go_on(uri: str, session_id: str) -> str:
    """Continue the session as new code would."""
    async with AsyncMongoDBSessionManager(session_id, uri, DATABASE, COLLECTION) as manager:
        return str(await build(manager).invoke_async("What is my name, and where am I going?"))


if __name__ == "__main__":
    run(main)
