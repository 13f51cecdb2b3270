"""An agent that keeps the metadata of its own session, with the tool `manage_metadata`.

The agent decides what to store, looks it up again, and removes it when it is asked to. Metadata outlives the messages
that led to it: a second agent, whose context holds none of them, still finds what the first one has stored.

    python examples/example_metadata_tool.py
"""

from __future__ import annotations

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager

SYSTEM_PROMPT = """You are a personal assistant. Keep what the user tells you about themselves with the manage_metadata
tool: store it when you learn it, read it when you need it, and delete it when you are asked to."""


async def ask(manager: AsyncMongoDBSessionManager, agent_id: str, *prompts: str) -> None:
    agent = Agent(
        model=chosen_model(),
        agent_id=agent_id,
        system_prompt=SYSTEM_PROMPT,
        tools=[manager.get_metadata_tool()],
        session_manager=manager,
        callback_handler=None,
    )
    for prompt in prompts:
        known = len(agent.messages)
        say("user", prompt)
        answer = await agent.invoke_async(prompt)
        for message in agent.messages[known:]:
            for block in message["content"]:
                if "toolUse" in block:
                    say("tool", block["toolUse"]["input"])
        say("agent", answer)


async def main(uri: str) -> None:
    session_id = new_session_id("metadata-tool")

    def session() -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(session_id, uri, database_name=DATABASE, collection_name=COLLECTION)

    heading(f"The agent learns ({session_id})")
    async with session() as manager:
        await ask(
            manager,
            "assistant",
            "Please remember that my language is Spanish.",
            "Please remember that my time zone is UTC-5.",
            "Please remember that my language is Portuguese.",
        )

    heading("Another agent, another day")
    async with session() as manager:
        await ask(manager, "colleague", "What do you know about me?", "Please forget my time zone.")
        say("metadata", (await manager.get_metadata())["metadata"])


if __name__ == "__main__":
    run(main)
