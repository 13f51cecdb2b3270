"""A2A's server, which builds its agents in a factory that cannot await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from strands.multiagent.a2a import A2AServer

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent, model_of


@asynccontextmanager
async def a_server(sessions: Sessions, *script: str) -> AsyncIterator[tuple[httpx.AsyncClient, list[Any]]]:
    built: list[Any] = []
    address: dict[str, Any] = {"database_name": sessions.database_name, "collection_name": COLLECTION}
    async with AsyncMongoDBSessionManagerFactory(sessions.uri, **address, lazy=True, ensure_indexes=False) as factory:

        def build(context_id: str) -> Any:
            manager = factory.create_session_manager(context_id)
            built.append((make_agent(manager, *script, name="helper", description="Helps."), manager))
            return built[-1][0]

        server = A2AServer(agent_factory=build, skills=[], enable_a2a_compliant_streaming=True)
        transport = httpx.ASGITransport(server.to_fastapi_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client, built
        for _, manager in built:
            await manager.close()


async def send(client: httpx.AsyncClient, text: str, context_id: str) -> dict[str, Any]:
    message = {
        "kind": "message",
        "role": "user",
        "messageId": uuid4().hex,
        "contextId": context_id,
        "parts": [{"kind": "text", "text": text}],
    }
    request = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
    answer = (await client.post("/", json=request)).json()
    assert "error" not in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def test_another_server_goes_on_with_a_conversation(sessions: Sessions) -> None:
    async with a_server(sessions, "Hello Ada.") as (client, _):
        await asyncio.gather(send(client, "I am Ada.", "c-1"), send(client, "I am Bob.", "c-2"))

    async with a_server(sessions, "You are Ada.") as (client, built):
        result = await send(client, "Who am I?", "c-1")
        [artifact] = result["artifacts"]
        assert "".join(part["text"] for part in artifact["parts"]).strip() == "You are Ada."
        asked = model_of(built[-1][0]).requests[0]

    assert [message["content"][0]["text"] for message in asked] == ["I am Ada.", "Hello Ada.", "Who am I?"]
    assert sessions.texts(session_id="c-1") == ["I am Ada.", "Hello Ada.", "Who am I?", "You are Ada."]
    assert sessions.texts(session_id="c-2") == ["I am Bob.", "Hello Ada."]
    # The agent that only describes the server opens no session.
    assert sorted(found["_id"] for found in sessions.raw.find({}, {"_id": 1})) == ["c-1", "c-2"]
