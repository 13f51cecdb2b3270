"""Session metadata: facts about a conversation that are kept beside it and can be searched.

An update changes the fields it names and leaves all others alone; a dot addresses a nested field; a delete removes
single fields, such as personal data before a session is archived. None of it touches the conversation.

    python examples/example_metadata_update.py
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, InvalidNameError


def show(stored: dict[str, Any]) -> None:
    for field, value in sorted(stored["metadata"].items()):
        say(field, value)


async def main(uri: str) -> None:
    session_id = new_session_id("metadata")
    async with AsyncMongoDBSessionManager(
        session_id, uri, database_name=DATABASE, collection_name=COLLECTION
    ) as manager:
        agent = Agent(model=chosen_model(), agent_id="sales", session_manager=manager, callback_handler=None)
        await agent.invoke_async("My name is Ada and I would like an offer.")

        heading(f"The first metadata of {session_id}")
        await manager.update_metadata(
            {
                "customer": {"name": "Ada", "email": "ada@example.org", "tier": "silver"},
                "priority": "normal",
                "opened": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
            }
        )
        show(await manager.get_metadata())

        heading("Only what is named changes")
        await manager.update_metadata({"priority": "high", "customer.tier": "gold", "assigned_to": "Lin"})
        show(await manager.get_metadata())

        heading("Personal data goes before the session is archived")
        await manager.delete_metadata(["customer.email", "no_such_field"])
        show(await manager.get_metadata())

        heading("What cannot be a field is refused, and nothing is stored")
        try:
            await manager.update_metadata({"priority": "low", "$where": "true"})
        except InvalidNameError as error:
            say("refused", error)
        say("priority", (await manager.get_metadata())["metadata"]["priority"])

        heading("The conversation is as it was")
        say("messages", await manager.get_message_count("sales"))
        say("agent", await agent.invoke_async("What is my name?"))


if __name__ == "__main__":
    run(main)
