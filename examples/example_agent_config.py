"""What is stored about each agent: which model, which prompt, which version of it.

Two agents share a session. Their configuration is recorded with every turn, so that a conversation can be explained
later: an audit reads it without building any agent. It is a record and never a setting: an agent that resumes the
session keeps the model and the prompt it was built with, and the record follows.

    python examples/example_agent_config.py
"""

from __future__ import annotations

from typing import Any

from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AgentNotFoundError, AsyncMongoDBSessionManager

PROMPTS = {
    "triage": "You find out what the customer needs, in one question.",
    "billing": "You explain invoices in plain words.",
}


def build(manager: AsyncMongoDBSessionManager, agent_id: str, system_prompt: str) -> Agent:
    return Agent(
        model=chosen_model(),
        agent_id=agent_id,
        system_prompt=system_prompt,
        session_manager=manager,
        callback_handler=None,
    )


def show(config: dict[str, Any] | None) -> None:
    if config is None:
        say("config", "none, the agent is unknown")
        return
    say(config["agent_id"], f"{config['model']} | {config['system_prompt']} | {config['prompt_metadata'] or '-'}")


async def main(uri: str) -> None:
    session_id = new_session_id("agent-config")

    def session() -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(session_id, uri, database_name=DATABASE, collection_name=COLLECTION)

    heading(f"Two agents talk ({session_id})")
    async with session() as manager:
        for agent_id, prompt in PROMPTS.items():
            say(agent_id, await build(manager, agent_id, prompt).invoke_async("My name is Ada. Who are you?"))
        # Where the prompt came from, for instance its name and version in a prompt registry.
        await manager.set_prompt_metadata("billing", {"name": "billing-plain", "version": 3})

    heading("An audit reads the records, with no agent in sight")
    async with session() as manager:
        for config in await manager.list_agents():
            show(config)
        say("messages", {agent_id: await manager.get_message_count(agent_id) for agent_id in PROMPTS})
        show(await manager.get_agent_config("unknown"))

    heading("A correction stays until the agent's own configuration changes")
    async with session() as manager:
        await manager.update_agent_config("triage", prompt_metadata={"reviewed_by": "Lin"})
        show(await manager.get_agent_config("triage"))
        try:
            await manager.update_agent_config("unknown", model="some-model")
        except AgentNotFoundError as error:
            say("refused", error)

    heading("The agent comes back with a new prompt, and remembers")
    async with session() as manager:
        agent = build(manager, "billing", "You explain invoices to experts.")
        say("prompt", agent.system_prompt)
        say("billing", await agent.invoke_async("What is my name?"))
    async with session() as manager:
        show(await manager.get_agent_config("billing"))


if __name__ == "__main__":
    run(main)
