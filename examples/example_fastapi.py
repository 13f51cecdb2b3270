"""A chat API with FastAPI: one factory for the life of the application, one manager for each request.

The factory holds the connection pool. Everything that differs between requests is made per request, which is cheap: a
manager sends one query when it opens, and an agent built on it sends none. Two requests for one session take turns.

    python examples/example_fastapi.py

    curl -X POST localhost:8000/sessions/ada/messages --json '{"message": "My name is Ada."}'
    curl -X POST localhost:8000/sessions/ada/messages --json '{"message": "What is my name?"}'
    curl -X POST localhost:8000/sessions/ada/feedback --json '{"rating": "up"}'
    curl localhost:8000/sessions/ada
    curl localhost:8000/metrics
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from _shared import COLLECTION, DATABASE, chosen_model, serve
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from strands import Agent

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    LeaseUnavailableError,
    SessionNotFoundError,
)

AGENT_ID = "support"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Equal arguments: both use the same client, with one pool. The connection string is in the environment.
    async with (
        AsyncMongoDBSessionManagerFactory(
            database_name=DATABASE, collection_name=COLLECTION, application_name="example-api"
        ) as factory,
        AsyncMongoDBSessionRepository(database_name=DATABASE, collection_name=COLLECTION) as repository,
    ):
        app.state.factory, app.state.repository = factory, repository
        yield


app = FastAPI(title="Chat", lifespan=lifespan)


async def opened(request: Request, session_id: str) -> AsyncIterator[AsyncMongoDBSessionManager]:
    """The request's session, made when it is new."""
    async with request.app.state.factory.create_session_manager(session_id) as manager:
        yield manager


def repository(request: Request) -> AsyncMongoDBSessionRepository:
    """Reads sessions by their id, and makes none."""
    stored: AsyncMongoDBSessionRepository = request.app.state.repository
    return stored


Opened = Annotated[AsyncMongoDBSessionManager, Depends(opened)]
Repository = Annotated[AsyncMongoDBSessionRepository, Depends(repository)]


class Prompt(BaseModel):
    message: str = Field(min_length=1)


class Feedback(BaseModel):
    rating: Literal["up", "down"]
    comment: str = ""


@app.post("/sessions/{session_id}/messages")
async def chat(prompt: Prompt, manager: Opened) -> dict[str, Any]:
    # Another request of this session may be at work, here or in another process: this one waits, then sees its turn.
    async with manager.turn(wait_s=30):
        agent = Agent(model=chosen_model(), agent_id=AGENT_ID, session_manager=manager, callback_handler=None)
        answer = await agent.invoke_async(prompt.message)
    return {"answer": str(answer).strip(), "messages": len(agent.messages)}


@app.post("/sessions/{session_id}/feedback", status_code=201)
async def rate(session_id: str, feedback: Feedback, sessions: Repository) -> dict[str, Any]:
    await sessions.add_feedback(session_id, feedback.model_dump())
    return {"feedbacks": len(await sessions.get_feedbacks(session_id))}


@app.get("/sessions/{session_id}")
async def show(session_id: str, sessions: Repository) -> dict[str, Any]:
    return {
        "messages": await sessions.get_message_count(session_id, AGENT_ID),
        "feedbacks": await sessions.get_feedbacks(session_id),
        **await sessions.get_metadata(session_id),
        **await sessions.get_metrics_summary(session_id),
    }


@app.delete("/sessions/{session_id}", status_code=204)
async def delete(session_id: str, sessions: Repository) -> None:
    await sessions.delete_session(session_id)


@app.get("/metrics")
async def metrics(request: Request) -> dict[str, Any]:
    stats: dict[str, Any] = await request.app.state.factory.get_connection_stats()
    return stats


@app.exception_handler(SessionNotFoundError)
async def not_found(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)


@app.exception_handler(LeaseUnavailableError)
async def busy(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=409)


if __name__ == "__main__":
    serve(app)
