"""Hooks behind web handlers: of the async manager, and of the sync one in both kinds of handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManagerFactory,
    create_feedback_sns_hook,
    create_metadata_sqs_hook,
)
from mongodb_session_manager.hooks import CachedMetadata, redact_fields, validate_metadata
from tests.fixtures.aws import Moto, aws_session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.hooks import feedback_validation_hook


class FeedbackRequest(BaseModel):
    rating: str | None = None
    comment: str = ""


class Profile(BaseModel):
    email: str
    visits: int


def async_app(sessions: AsyncMongoDBSessionManagerFactory) -> FastAPI:
    app = FastAPI()

    @app.post("/{session_id}/feedback")
    async def add_feedback(session_id: str, feedback: FeedbackRequest) -> dict[str, str]:
        async with sessions.create_session_manager(session_id) as manager:
            try:
                await manager.add_feedback(feedback.model_dump())
            except ValueError as error:
                raise HTTPException(400, str(error)) from error
        return {"status": "success"}

    @app.patch("/{session_id}/metadata")
    async def update_metadata(session_id: str, metadata: dict[str, Any]) -> dict[str, Any]:
        async with sessions.create_session_manager(session_id) as manager:
            try:
                await manager.update_metadata(metadata)
            except ValueError as error:
                raise HTTPException(400, str(error)) from error
            return await manager.get_metadata()

    return app


def sync_app(sessions: MongoDBSessionManagerFactory) -> FastAPI:
    app = FastAPI()

    @app.post("/{session_id}/feedback")
    async def add_feedback(session_id: str, feedback: FeedbackRequest) -> dict[str, str]:
        # Holds up the event loop, as code written for the sync manager does, and must work all the same.
        with sessions.create_session_manager(session_id) as manager:
            try:
                manager.add_feedback(feedback.model_dump())
            except ValueError as error:
                raise HTTPException(400, str(error)) from error
        return {"status": "success"}

    @app.patch("/{session_id}/metadata")
    def update_metadata(session_id: str, metadata: dict[str, Any]) -> dict[str, Any]:
        with sessions.create_session_manager(session_id) as manager:
            try:
                manager.update_metadata(metadata)
            except ValueError as error:
                raise HTTPException(400, str(error)) from error
            return manager.get_metadata()

    return app


@asynccontextmanager
async def application(face: str, uri: str, **options: Any) -> AsyncIterator[AsyncClient]:
    factory: Any
    if face == "async":
        factory = AsyncMongoDBSessionManagerFactory(uri, **options)
        app = async_app(factory)
    else:
        factory = MongoDBSessionManagerFactory(uri, **options)
        app = sync_app(factory)
    try:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            yield client
    finally:
        closed = factory.close()
        if closed is not None:
            await closed


@pytest.mark.parametrize("face", ["async", "sync"])
async def test_handlers_store_refuse_and_notify(face: str, sessions: Sessions, moto: Moto) -> None:
    queue, (topic, topic_queue) = moto.queue(fifo=True), moto.topic()
    options: dict[str, Any] = {"session": aws_session(), "endpoint_url": moto.url}
    metadata_hook = [
        validate_metadata(Profile),
        CachedMetadata(60),
        redact_fields(create_metadata_sqs_hook(queue, **options), ["email"]),
    ]
    feedback_hook = [
        feedback_validation_hook,
        redact_fields(create_feedback_sns_hook(topic_arn=topic, **options), ["comment"]),
    ]
    async with application(
        face,
        sessions.uri,
        database_name=sessions.database_name,
        collection_name=COLLECTION,
        metadata_hook=metadata_hook,
        feedback_hook=feedback_hook,
    ) as client:
        refused = await client.post("/s-1/feedback", json={"rating": "down"})
        stored = await client.post("/s-1/feedback", json={"rating": "down", "comment": "Too slow"})
        wrong = await client.patch("/s-1/metadata", json={"visits": "many"})
        # One session, many requests at once: each sees its own field.
        answers = await asyncio.gather(
            *(client.patch("/s-1/metadata", json={"email": "ada@example.com", f"f{number}": 1}) for number in range(20))
        )

    assert (refused.status_code, stored.status_code, wrong.status_code) == (400, 200, 400)
    assert refused.json() == {"detail": "Please provide a comment with negative feedback"}
    assert "metadata field 'visits'" in wrong.json()["detail"]
    for number, answer in enumerate(answers):
        assert answer.json()["metadata"][f"f{number}"] == 1
    document = sessions.document()
    assert document["metadata"] == {"email": "ada@example.com"} | {f"f{number}": 1 for number in range(20)}
    assert [feedback["comment"] for feedback in document["feedbacks"]] == ["Too slow"]
    changes = moto.changes(queue)
    assert {change["metadata"].pop("email") for change in changes} == {"[redacted]"}
    assert sorted(key for change in changes for key in change["metadata"]) == sorted(f"f{n}" for n in range(20))
    [told] = moto.published(topic_queue)
    assert told["Subject"] == "Virtual Agents Feedback negative on session s-1"
    assert told["Message"].endswith("[redacted]")
