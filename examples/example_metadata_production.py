"""A customer support desk: the life of its tickets in session metadata, from opening to archive.

Each conversation is a session, and its metadata is the ticket: customer, topic, priority, status. The fields by which
the desk searches are indexed (`metadata_fields`). A supervisor finds what needs attention without reading a message,
takes a ticket over, and contact data is removed when the ticket is closed.

    python examples/example_metadata_production.py
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from _shared import COLLECTION, DATABASE, chosen_model, heading, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory, AsyncMongoDBSessionRepository

CASES = {
    "Ada": ("invoice", "normal", "My name is Ada and my invoice is wrong."),
    "Grace": ("login", "high", "My name is Grace and my account is locked."),
    "Lin": ("delivery", "high", "My name is Lin and my parcel is lost."),
}


class Desk:
    """The tickets of one team."""

    def __init__(self, uri: str, team: str) -> None:
        self.team = team
        self.sessions = AsyncMongoDBSessionManagerFactory(
            uri,
            database_name=DATABASE,
            collection_name=COLLECTION,
            application_name="support",
            metadata_fields=["team", "status", "priority"],
            feedback_hook=self.escalate_complaints,
        )

    async def escalate_complaints(self, original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        """Store the feedback first; then let a complaint raise the priority of its ticket."""
        stored = await original_func(kwargs["feedback"])
        if kwargs["feedback"].get("rating") == "down":
            async with self.sessions.create_session_manager(session_id) as manager:
                await manager.update_metadata({"priority": "high", "escalated_at": datetime.now(UTC)})
        return stored

    async def open_ticket(self, customer: str) -> str:
        """Answer a customer's first message and open a ticket for it."""
        topic, priority, message = CASES[customer]
        session_id = f"ticket-{self.team}-{customer.lower()}"
        async with self.sessions.create_session_manager(session_id) as manager:
            await manager.update_metadata(
                {
                    "team": self.team,
                    "status": "open",
                    "priority": priority,
                    "topic": topic,
                    "customer": {"name": customer, "email": f"{customer.lower()}@example.org"},
                }
            )
            agent = Agent(model=chosen_model(), agent_id="support", session_manager=manager, callback_handler=None)
            say(customer, message)
            say("agent", await agent.invoke_async(message))
        return session_id

    async def list(self, repository: AsyncMongoDBSessionRepository, **conditions: str) -> None:
        """Print the tickets with these values, as a supervisor's list shows them."""
        page = await repository.list_sessions(metadata={"team": self.team, **conditions})
        for found in page["sessions"]:
            ticket = found["metadata"]
            counts = f"messages: {found['messages_count']}, feedbacks: {found['feedbacks_count']}"
            say(ticket["topic"], f"{ticket['status']}, {ticket['priority']}, {counts}")

    async def close_ticket(self, session_id: str, resolution: str) -> None:
        """Close a ticket; the contact data goes, the conversation stays."""
        async with self.sessions.create_session_manager(session_id) as manager:
            await manager.update_metadata({"status": "closed", "resolution": resolution})
            await manager.delete_metadata(["customer"])


async def main(uri: str) -> None:
    desk = Desk(uri, team=f"team-{uuid.uuid4().hex[:8]}")
    async with desk.sessions:
        heading(f"Three customers write ({desk.team})")
        tickets = {customer: await desk.open_ticket(customer) for customer in CASES}

        async with desk.sessions.create_session_manager(tickets["Ada"]) as manager:
            repository = manager.repository
            heading("Open, with high priority")
            await desk.list(repository, status="open", priority="high")

            heading("Ada complains, and her ticket rises")
            await manager.add_feedback({"rating": "down", "comment": "Still wrong."})
            await desk.list(repository, status="open", priority="high")

            heading("A supervisor takes it over and closes it")
            await manager.update_metadata({"status": "assigned", "assigned_to": "supervisor"})
            await desk.close_ticket(tickets["Ada"], "credit note sent")
            await desk.list(repository, status="closed")
            say("archived", (await manager.get_metadata())["metadata"])

            heading("Still open")
            await desk.list(repository, status="open")


if __name__ == "__main__":
    run(main)
