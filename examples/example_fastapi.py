"""A chat API with FastAPI: one `Sessions` for the life of the application, one manager for each request.

`Sessions` holds the connection pool. Everything that differs between requests is made per request, which is cheap: a
manager sends one query when it opens, and an agent built on it sends none. Two requests for one session take turns, one
that is sent again with the same `Idempotency-Key` counts once, and errors have their statuses: 404, 409, 413, 422, 503.

    python examples/example_fastapi.py

    json='Content-Type: application/json'
    curl localhost:8000/sessions/ada/messages -H "$json" -d '{"message": "My name is Ada."}'
    curl localhost:8000/sessions/ada/messages -H "$json" -d '{"message": "What is my name?"}'
    curl localhost:8000/sessions/ada/feedback -H "$json" -d '{"rating": "up"}'
    curl localhost:8000/sessions/ada
    curl localhost:8000/metrics
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from _shared import COLLECTION, DATABASE, chosen_model, serve
from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field
from strands import Agent

from mongodb_session_manager.fastapi import Sessions, SessionTurn

AGENT_ID = "support"

# The connection string is in the environment.
sessions = Sessions(database_name=DATABASE, collection_name=COLLECTION, application_name="example-api")
app = FastAPI(title="Chat", lifespan=sessions.lifespan, exception_handlers=sessions.exception_handlers)


class Prompt(BaseModel):
    message: str = Field(min_length=1)


class Feedback(BaseModel):
    rating: Literal["up", "down"]
    comment: str = ""


@app.post("/sessions/{session_id}/messages")
async def chat(prompt: Prompt, turn: Annotated[SessionTurn, Depends(sessions.turn)]) -> dict[str, Any]:
    agent = Agent(model=chosen_model(), agent_id=AGENT_ID, session_manager=turn.manager, callback_handler=None)
    # Another request of this session may be at work, here or in another process: this one waits, then sees its turn.
    answer = "".join([text async for text in turn.stream(agent, prompt.message)])
    return {"answer": answer.strip(), "messages": len(agent.messages)}


@app.post("/sessions/{session_id}/feedback", status_code=201)
async def rate(session_id: str, feedback: Feedback) -> dict[str, Any]:
    # The repository knows sessions by their ids, and makes none.
    await sessions.repository.add_feedback(session_id, feedback.model_dump())
    return {"feedbacks": len(await sessions.repository.get_feedbacks(session_id))}


@app.get("/sessions/{session_id}")
async def show(session_id: str) -> dict[str, Any]:
    stored = sessions.repository
    return {
        "messages": await stored.get_message_count(session_id, AGENT_ID),
        "feedbacks": await stored.get_feedbacks(session_id),
        **await stored.get_metadata(session_id),
        **await stored.get_metrics_summary(session_id),
    }


@app.delete("/sessions/{session_id}", status_code=204)
async def delete(session_id: str) -> None:
    await sessions.repository.delete_session(session_id)


@app.get("/metrics")
async def metrics() -> dict[str, Any]:
    return await sessions.factory.get_connection_stats()


if __name__ == "__main__":
    serve(app)
