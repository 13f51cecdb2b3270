"""Streaming: several conversations at once in one event loop, one of them broken off in the middle.

What was streamed is what is stored, with latency and tokens, and no code has to append a message by hand. A reader that
goes away early loses nothing that was complete, and the conversation goes on from there.

    python examples/example_stream_async.py
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory

PEOPLE = {"Ada": "Lisbon", "Grace": "Oslo", "Katherine": "Porto"}


def build(manager: AsyncMongoDBSessionManager) -> Agent:
    return Agent(model=chosen_model(), agent_id="guide", session_manager=manager, callback_handler=None)


async def stream(factory: AsyncMongoDBSessionManagerFactory, session_id: str, prompt: str) -> str:
    """Run one turn and return the answer, printing each piece when it arrives, with the session it belongs to."""
    pieces: list[str] = []
    async with factory.create_session_manager(session_id) as manager:
        async for event in build(manager).stream_async(prompt):
            if "data" in event:
                pieces.append(event["data"])
                print(f"[{session_id.split('-')[1]}] {event['data'].strip()}", end="  ", flush=True)
    return "".join(pieces)


async def break_off(factory: AsyncMongoDBSessionManagerFactory, session_id: str, prompt: str) -> None:
    """Begin a turn and cancel it after its first piece, as a web server does when the browser goes away."""
    heard = asyncio.Event()

    async def listen() -> None:
        async with factory.create_session_manager(session_id) as manager:
            async for event in build(manager).stream_async(prompt):
                if "data" in event:
                    say("heard", event["data"])
                    heard.set()

    turn, first_piece = asyncio.create_task(listen()), asyncio.create_task(heard.wait())
    await asyncio.wait({turn, first_piece}, return_when=asyncio.FIRST_COMPLETED)
    first_piece.cancel()
    turn.cancel()
    with suppress(asyncio.CancelledError):
        await turn
    async with factory.create_session_manager(session_id) as manager:
        say("kept", f"{await manager.get_message_count('guide')} messages; the last is the unanswered prompt")


async def main(uri: str) -> None:
    factory = AsyncMongoDBSessionManagerFactory(uri, database_name=DATABASE, collection_name=COLLECTION)
    async with factory:
        sessions = {name: new_session_id(f"stream-{name.lower()}") for name in PEOPLE}

        heading("Three streams at once")
        prompts = {name: f"My name is {name} and I am planning a trip to {city}." for name, city in PEOPLE.items()}
        answers = await asyncio.gather(*(stream(factory, sessions[name], prompts[name]) for name in PEOPLE))
        print()
        for name, answer in zip(PEOPLE, answers, strict=True):
            say(name, answer)

        heading("One reader walks away")
        await break_off(factory, sessions["Ada"], "Summarize this conversation.")

        heading("Each conversation goes on")
        for name in PEOPLE:
            answer = await stream(factory, sessions[name], "Where am I going?")
            print()
            say(name, answer)

        heading("Measured and stored")
        for name, session_id in sessions.items():
            async with factory.create_session_manager(session_id) as manager:
                count, total = await manager.get_message_count("guide"), await manager.get_metrics_summary()
                say(name, f"{session_id}: {count} messages, {total['tokens']['output']} tokens written")


if __name__ == "__main__":
    run(main)
