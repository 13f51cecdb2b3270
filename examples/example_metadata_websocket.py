"""Progress that a browser sees while it happens: metadata changes, pushed through an API Gateway WebSocket.

When a browser connects, API Gateway names the connection, and the application keeps that name in the session's
metadata. From then on every change of the fields that were chosen is pushed to it, in order, in the background.

    python examples/example_metadata_websocket.py

API Gateway is played by moto's server, which the example starts. To see it in a client of yours, set both

    API_GATEWAY_ENDPOINT    such as wss://abc123.execute-api.eu-west-1.amazonaws.com/prod
    CONNECTION_ID           of a client that is connected to it
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _aws import REGION, moto
from _shared import COLLECTION, DATABASE, chosen_model, heading, new_session_id, run, say
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, MetadataWebSocketHook, create_metadata_websocket_hook

ENDPOINT, CONNECTION = "API_GATEWAY_ENDPOINT", "CONNECTION_ID"
CONNECTION_ID = os.environ.get(CONNECTION) or "example-connection"


@contextmanager
def gateway() -> Iterator[MetadataWebSocketHook]:
    """Give the hook that pushes: to your API, or to moto."""
    fields = ["status", "progress"]
    if endpoint := os.environ.get(ENDPOINT):
        yield create_metadata_websocket_hook(endpoint, fields)
        return
    with moto() as place:
        assert place.endpoint_url is not None
        yield create_metadata_websocket_hook(place.endpoint_url, fields, REGION, session=place.session)


def pushed() -> Iterator[dict[str, Any]]:
    """Yield what moto passed on to the browser: it keeps the messages of a connection one after the other."""
    from moto.apigatewaymanagementapi.models import apigatewaymanagementapi_backends as gateways
    from moto.core.models import DEFAULT_ACCOUNT_ID

    text = gateways[DEFAULT_ACCOUNT_ID][REGION].connections[CONNECTION_ID].data.decode()
    while text:
        message, end = json.JSONDecoder().raw_decode(text)
        yield message
        text = text[end:]


async def work(manager: AsyncMongoDBSessionManager) -> None:
    agent = Agent(model=chosen_model(), agent_id="planner", session_manager=manager, callback_handler=None)

    heading("A browser connects, and work begins")
    await manager.update_metadata({"connection_id": CONNECTION_ID, "status": "thinking", "progress": 0})
    say("status", "thinking")

    prompts = ("My name is Ada and I am planning a trip to Lisbon.", "Where am I going?", "What is my name?")
    for done, prompt in enumerate(prompts, start=1):
        say("user", prompt)
        say("agent", await agent.invoke_async(prompt))
        await manager.update_metadata({"progress": round(100 * done / len(prompts)), "note": "for our own records"})
    await manager.update_metadata({"status": "done"})
    await manager.delete_metadata(["progress"])
    say("status", "done")


async def main(uri: str) -> None:
    session_id = new_session_id("trip")
    with gateway() as push:
        async with AsyncMongoDBSessionManager(
            session_id, uri, database_name=DATABASE, collection_name=COLLECTION, metadata_hook=push
        ) as manager:
            await work(manager)
            stored = (await manager.get_metadata())["metadata"]

        heading("What is stored")
        for field in sorted(stored):
            say(field, stored[field])

        heading("What the browser received")
        if os.environ.get(ENDPOINT):
            say("", "look at your client")
        else:
            for message in pushed():
                say(message["operation"], message["metadata"])
        say("counters", push.counters)


if __name__ == "__main__":
    run(main)
