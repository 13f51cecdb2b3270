"""Hooks around metadata: an audit, a schema, a cache, and changes that are sent to a queue without personal data.

Hooks run one inside the other, the first in the list outermost. The audit comes first and sees everything, also what
the schema refuses; the cache comes before the queue, so that it answers reads. What the agent does with its metadata
tool goes through the same hooks as what the program does.

    python examples/example_metadata_hook.py

The queue is in moto's server, which the example starts, unless AWS_ENDPOINT_URL or EXAMPLE_AWS=account is set.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

from _aws import Aws, aws, queue, received
from _shared import COLLECTION, DATABASE, CommandCounter, chosen_model, heading, new_session_id, run, say
from pydantic import BaseModel
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, create_metadata_sqs_hook
from mongodb_session_manager.hooks import CachedMetadata, audit_hook, redact_fields, validate_metadata


class Customer(BaseModel):
    name: str
    email: str
    tier: Literal["silver", "gold"]


class Ticket(BaseModel, extra="allow"):
    customer: Customer
    priority: Literal["low", "high"]


def audit_log() -> logging.Logger:
    logger = logging.getLogger("audit")
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  audit:     %(message)s"))
    logger.addHandler(handler)
    return logger


async def work(manager: AsyncMongoDBSessionManager, sent: CommandCounter) -> None:
    heading("The program stores a ticket")
    await manager.update_metadata(
        {"customer": {"name": "Ada", "email": "ada@example.org", "tier": "silver"}, "priority": "low"}
    )

    heading("What does not fit the schema is refused, and nothing is stored")
    try:
        await manager.update_metadata({"priority": "high", "customer.tier": "platinum"})
    except ValueError as error:
        say("refused", error)

    heading("Five reads, and what MongoDB saw of them")
    sent.take()
    answers = [await manager.get_metadata() for _ in range(5)]
    say("priority", [answer["metadata"]["priority"] for answer in answers])
    say("commands", dict(sent.take().counts))

    heading("The agent's tool goes through the hooks, too")
    agent = Agent(
        model=chosen_model(),
        agent_id="support",
        system_prompt="Keep what the user asks you to remember with the manage_metadata tool.",
        tools=[manager.get_metadata_tool()],
        session_manager=manager,
        callback_handler=None,
    )
    for prompt in ("Please remember that my language is Italian.", "Please remember that my priority is urgent."):
        say("user", prompt)
        say("agent", await agent.invoke_async(prompt))

    heading("A deletion")
    await manager.delete_metadata(["customer.email"])
    say("metadata", (await manager.get_metadata())["metadata"])


async def story(uri: str, aws: Aws) -> None:
    sent, session_id = CommandCounter(), new_session_id("ticket")
    async with queue(aws, "changes") as queue_url:
        notify = create_metadata_sqs_hook(queue_url, session=aws.session, endpoint_url=aws.endpoint_url)
        hooks: list[Any] = [
            audit_hook(audit_log()),
            validate_metadata(Ticket),
            CachedMetadata(ttl_seconds=60),
            redact_fields(notify, ["email"]),
        ]
        async with AsyncMongoDBSessionManager(
            session_id,
            uri,
            database_name=DATABASE,
            collection_name=COLLECTION,
            metadata_hook=hooks,
            event_listeners=[sent],
        ) as manager:
            await work(manager, sent)

        heading("What arrived in the queue, without addresses")
        for change in await received(aws, queue_url, expected=notify.counters.sent):
            say(change["operation"], change["metadata"])


async def main(uri: str) -> None:
    with aws() as place:
        await story(uri, place)


if __name__ == "__main__":
    run(main)
