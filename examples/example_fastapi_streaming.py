"""Streaming chat with FastAPI: answers arrive as server-sent events, token by token, while they are stored.

The session travels in a header, and the agent has tools for its own state, which is stored with the conversation.
`streamed` begins the answer when there is something to send, so a database that is away is a 503. When the browser goes
away the turn is cancelled, and what was complete is kept.

    python examples/example_fastapi_streaming.py

    json='Content-Type: application/json'
    curl -N localhost:8000/chat -H 'X-Session-Id: ada' -H "$json" -d '{"message": "My name is Ada. Set theme to dark."}'
    curl -N localhost:8000/chat -H 'X-Session-Id: ada' -H "$json" -d '{"message": "What is my name? Get theme."}'
    curl localhost:8000/health
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from _shared import COLLECTION, DATABASE, chosen_model, serve
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from strands import Agent, ToolContext, tool

from mongodb_session_manager.fastapi import Sessions, streamed

SYSTEM_PROMPT = "You are a helpful assistant. Keep the user's settings with set_state and get_state."


@tool(context=True)
def set_state(key: str, value: str, tool_context: ToolContext) -> str:
    """Keep a setting of the user.

    Args:
        key: Name of the setting.
        value: Its value.
    """
    tool_context.agent.state.set(key, value)
    return f"{key} is {value} now"


@tool(context=True)
def get_state(key: str, tool_context: ToolContext) -> str:
    """Look up a setting of the user.

    Args:
        key: Name of the setting.
    """
    value = tool_context.agent.state.get(key)
    return f"{key} is {value}" if value is not None else f"{key} was never set"


# The connection string is in the environment.
sessions = Sessions(database_name=DATABASE, collection_name=COLLECTION, maxPoolSize=100)
app = FastAPI(title="Streaming chat", lifespan=sessions.lifespan, exception_handlers=sessions.exception_handlers)


class Prompt(BaseModel):
    message: str = Field(min_length=1)


def event(name: str, data: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def turn(session_id: str, message: str) -> AsyncIterator[str]:
    """Run one turn, and yield it as events: token, tool, and at the end done."""
    async with sessions.open(session_id) as manager:
        agent = Agent(
            model=chosen_model(),
            agent_id="assistant",
            system_prompt=SYSTEM_PROMPT,
            tools=[set_state, get_state],
            session_manager=manager,
            callback_handler=None,
        )
        async for step in agent.stream_async(message):
            if "data" in step:
                yield event("token", {"text": step["data"]})
            for block in step.get("message", {}).get("content", ()):
                if "toolUse" in block:
                    yield event("tool", {"name": block["toolUse"]["name"], "input": block["toolUse"]["input"]})
        total = await manager.get_metrics_summary()
        yield event("done", {"messages": len(agent.messages), "tokens": total["tokens"]["total"]})


@app.post("/chat")
async def chat(prompt: Prompt, x_session_id: Annotated[str, Header(min_length=1)]) -> StreamingResponse:
    return await streamed(turn(x_session_id, prompt.message), media_type="text/event-stream")


@app.get("/health")
async def health() -> JSONResponse:
    stats = await sessions.factory.get_connection_stats()
    healthy = stats["status"] == "connected"
    return JSONResponse({"mongodb": stats["status"]}, status_code=200 if healthy else 503)


@app.get("/metrics")
async def metrics() -> dict[str, Any]:
    return await sessions.factory.get_connection_stats()


if __name__ == "__main__":
    serve(app)
