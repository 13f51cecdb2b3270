"""Applications for servers with several processes; sessions are used in the master before it forks, where it does.

The database is in the environment: `TEST_URI`, `TEST_DATABASE`, `TEST_COLLECTION`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    MongoDBConnectionPool,
    MongoDBSessionManagerFactory,
)
from tests.support.agents import make_agent

PLACE = (os.environ["TEST_URI"], os.environ["TEST_DATABASE"], os.environ["TEST_COLLECTION"])
MASTER = os.getpid()

MongoDBConnectionPool.initialize(PLACE[0])
sessions = MongoDBSessionManagerFactory(*PLACE, ensure_indexes=False)
async_sessions = AsyncMongoDBSessionManagerFactory(*PLACE, ensure_indexes=False)
with sessions.create_session_manager("made by the master") as _manager:
    make_agent(_manager, "ready")("hello")


def _answer(count: int) -> bytes:
    return json.dumps({"pid": os.getpid(), "imported_by": MASTER, "messages": count}).encode()


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """One turn of the session and with the message that the query names."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                await async_sessions.close()
                return
    query = parse_qs(scope["query_string"].decode())
    async with async_sessions.create_session_manager(query["session"][0]) as manager, manager.turn():
        agent = make_agent(manager, f"answer to {query['message'][0]}")
        await agent.invoke_async(query["message"][0])
        count = await manager.get_message_count(agent.agent_id)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": _answer(count)})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do the same without an event loop."""
    query = parse_qs(environ["QUERY_STRING"])
    with sessions.create_session_manager(query["session"][0]) as manager, manager.turn():
        agent = make_agent(manager, f"answer to {query['message'][0]}")
        agent(query["message"][0])
        count = manager.get_message_count(agent.agent_id)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_answer(count)]
