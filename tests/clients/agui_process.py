"""A server process of its own for one run of an AG-UI conversation: reads the run's input, prints the events.

Usage: python -m tests.clients.agui_process URI DATABASE COLLECTION SCRIPT open|lazy < input.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from ag_ui.core import RunAgentInput
from ag_ui_strands import StrandsAgent, StrandsAgentConfig, create_strands_app

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory
from tests.support.agents import make_agent
from tests.support.models import calls


async def main(uri: str, database: str, collection: str, script: list[Any], how: str) -> None:
    replies: list[Any] = [
        calls((reply["tool"], reply["input"])) if isinstance(reply, dict) else reply for reply in script
    ]
    opened: list[AsyncMongoDBSessionManager] = []
    async with AsyncMongoDBSessionManagerFactory(uri, database, collection, ensure_indexes=False) as factory:

        async def provide(run: RunAgentInput) -> AsyncMongoDBSessionManager:
            manager = factory.create_session_manager(run.thread_id, lazy=how == "lazy")
            opened.append(manager if how == "lazy" else await manager)
            return opened[-1]

        agent = make_agent(None, *replies)
        config = StrandsAgentConfig(session_manager_provider=provide)
        app = create_strands_app(StrandsAgent(agent, name="assistant", config=config), origins=["http://localhost"])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await client.post("/", json=json.load(sys.stdin), headers={"accept": "text/event-stream"})
        sent = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data")]
        for manager in opened:
            await manager.close()
    print(json.dumps({"status": answer.status_code, "events": sent, "requests": agent.model.requests}))  # type: ignore[attr-defined]  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), sys.argv[5]))
