"""A write whose caller was cancelled never arrives after what the same caller writes next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongodb_session_manager import AsyncMongoDBSessionRepository, MongoDBStorage
from mongodb_session_manager.client import settling
from mongodb_session_manager.storage import values
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.fixtures.waiting import Held, happened

SMALL, LARGE = b"small", b"x" * 2000
TURNS = 50
"""Turns of the event loop in which a cancelled task ends that waits for nothing."""

Work = Callable[[], Awaitable[Any]]


async def cancelled_on_its_way(held: Held, work: Work, name: str) -> bool:
    """Cancel work whose command is about to be sent; tell whether the command was gone when the work had ended."""
    with held.holding(lambda command, _: command == name):
        task = asyncio.ensure_future(work())
        await happened(held.reached)
        task.cancel()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        waited = not task.done()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    return waited


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.mark.parametrize(
    ("before", "written", "name"),
    [
        (None, SMALL, "update"),
        (SMALL, SMALL, "update"),
        (SMALL, LARGE, "findAndModify"),
        (LARGE, SMALL, "findAndModify"),
        (SMALL, None, "delete"),
    ],
    ids=["a new value", "a small one over a small one", "a large one", "a small one over a large one", "a deletion"],
)
async def test_a_cancelled_change_of_a_value_does_not_undo_the_next_one(
    sessions: Sessions, held: Held, monkeypatch: pytest.MonkeyPatch, before: Any, written: Any, name: str
) -> None:
    monkeypatch.setattr(values, "INLINE_BYTES", 1000)
    options: dict[str, Any] = {"event_listeners": [held], "ensure_indexes": False}
    async with MongoDBStorage(sessions.uri, sessions.database_name, **options) as storage:
        if before is not None:
            await storage.write("key", before)

        async def change() -> None:
            await (storage.delete("key") if written is None else storage.write("key", written))

        assert await cancelled_on_its_way(held, change, name), "it may still arrive"
        await storage.write("key", b"the next one")
        assert await storage.read("key") == b"the next one"


async def test_a_cancelled_update_by_session_id_does_not_undo_the_next_one(sessions: Sessions, held: Held) -> None:
    async with sessions.manager():
        pass
    options: dict[str, Any] = {"event_listeners": [held]}
    async with AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **options) as repository:

        async def change() -> None:
            await repository.update_metadata(SESSION_ID, {"step": 1})

        assert await cancelled_on_its_way(held, change, "update"), "it may still arrive"
        await repository.update_metadata(SESSION_ID, {"step": 2})
        assert await repository.get_metadata(SESSION_ID) == {"metadata": {"step": 2}}


async def test_a_server_that_says_nothing_does_not_keep_a_cancelled_caller(
    sessions: Sessions, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE_S", 0.01)
    options: dict[str, Any] = {"event_listeners": [held], "ensure_indexes": False}
    async with MongoDBStorage(sessions.uri, sessions.database_name, **options) as storage:
        with held.holding():
            task = asyncio.ensure_future(storage.write("key", SMALL))
            await happened(held.reached)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_cancelled_write_of_an_async_client_has_an_outcome(sessions: Sessions) -> None:
    """Its connection would be closed with the command on it, and the next one might get there first."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(sessions.uri)
    async with client:
        storage = MongoDBStorage(None, sessions.database_name, client=client, ensure_indexes=False)
        await storage.write("key", b"")
        for number in range(30):
            task = asyncio.ensure_future(storage.write("key", b"cancelled"))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await storage.write("key", str(number).encode())
            assert await storage.read("key") == str(number).encode()
