"""Stores the invented conversations: real agents play them through real session managers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError
from strands import Agent

from ...client import ClientHandle
from ...factory import AsyncMongoDBSessionManagerFactory
from ...schema import paths
from .model import Reply, ServiceUnavailableError, StoryModel
from .stories import METADATA_FIELDS, STORIES, TOOLS, Story

logger = logging.getLogger(__name__)

_AT_ONCE = 4


async def store_samples(connection_string: str, database_name: str, collection_name: str) -> int:
    """Store the samples, unless that was done before, and return how many were stored.

    Viewers that start at the same time store them once: the first one notes it in `<collection>_samples`.

    Raises:
        PyMongoError: MongoDB does not answer.
    """
    handle = ClientHandle(connection_string)
    factory = AsyncMongoDBSessionManagerFactory(
        connection_string,
        database_name=database_name,
        collection_name=collection_name,
        metadata_fields=list(METADATA_FIELDS),
    )
    collection = handle.user_collection(database_name, collection_name)
    places = asyncio.Semaphore(_AT_ONCE)

    async def store(story: Story) -> None:
        async with places:
            await _play(factory, story)
            await _move_back(collection, story)

    try:
        try:
            await handle.user_collection(database_name, f"{collection_name}_samples").insert_one({"_id": "stored"})
        except DuplicateKeyError:
            return 0
        await asyncio.gather(*(store(story) for story in STORIES))
    finally:
        await factory.close()
        await handle.aclose()
    logger.info("sessions=<%s> | sample conversations stored", len(STORIES))
    return len(STORIES)


async def _play(factory: AsyncMongoDBSessionManagerFactory, story: Story) -> None:
    manager = factory.create_session_manager(
        story.session_id, application_name=story.application, flush_on="invocation"
    )
    async with manager:
        replies: dict[str, Iterator[Reply]] = {
            agent_id: iter([reply for turn in story.turns if turn.agent == agent_id for reply in turn.replies])
            for agent_id in story.agents
        }
        agents = {
            agent_id: Agent(
                agent_id=agent_id,
                model=StoryModel(model_id, replies[agent_id]),
                system_prompt=prompt,
                tools=list(TOOLS),
                session_manager=manager,
                callback_handler=None,
                state=dict(story.state) if index == 0 else None,
            )
            for index, (agent_id, (prompt, model_id)) in enumerate(story.agents.items())
        }
        for turn in story.turns:
            with contextlib.suppress(ServiceUnavailableError):
                await agents[turn.agent].invoke_async(turn.prompt)
        await manager.update_metadata(dict(story.metadata))
        for feedback in story.feedbacks:
            await manager.add_feedback(dict(feedback))


async def _move_back(collection: Any, story: Story) -> None:
    """Let a conversation have taken place a while ago, so that there is something to sort and filter by date."""
    document = await collection.find_one({"_id": story.session_id})
    if document is None or document.get(paths.HAS_RELATED):
        return  # What was sealed would have to move, too; a long conversation may as well be a recent one.
    moved = {name: _earlier(value, story.age) for name, value in document.items() if name not in ("_id", "metadata")}
    try:
        await collection.update_one({"_id": story.session_id}, {"$set": moved})
    except PyMongoError as error:
        logger.warning("session_id=<%r>, error=<%s> | sample keeps its date", story.session_id, type(error).__name__)


def _earlier(value: Any, age: timedelta) -> Any:
    if isinstance(value, datetime):
        return value - age
    if isinstance(value, dict):
        return {key: _earlier(item, age) for key, item in value.items()}
    if isinstance(value, list):
        return [_earlier(item, age) for item in value]
    return value
