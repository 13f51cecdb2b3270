"""An index on `expires_at` that is there already, under other options, which would keep sessions for ever."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager import AsyncMongoDBSessionManager, MongoDBSessionManager, SessionStoreError
from tests.fixtures.commands import CommandRecorder

pytestmark = pytest.mark.server

Documents = MongoClient[dict[str, Any]]
Index = tuple[Any, dict[str, Any]]

OBSTACLES: dict[str, Index] = {
    "a plain index": ([("expires_at", 1)], {}),
    "one with a name of its own": ([("expires_at", 1)], {"name": "mine"}),
    "one that expires later": ([("expires_at", 1)], {"expireAfterSeconds": 3600}),
    "one for some sessions": (
        [("expires_at", 1)],
        {"expireAfterSeconds": 0, "partialFilterExpression": {"application_name": "shop"}},
    ),
    "one on something else under its name": ([("other", 1)], {"name": "expires_at_1"}),
}
FINE: dict[str, Index] = {
    "ours": ([("expires_at", 1)], {"expireAfterSeconds": 0}),
    "ours under another name": ([("expires_at", 1)], {"expireAfterSeconds": 0, "name": "mine"}),
    "a descending one": ([("expires_at", -1)], {}),
    "a hashed one": ([("expires_at", "hashed")], {}),
    "a compound one": ([("expires_at", 1), ("application_name", 1)], {}),
}


def manager(mongo_uri: str, database_name: str, **options: Any) -> AsyncMongoDBSessionManager:
    return AsyncMongoDBSessionManager("s-1", mongo_uri, database_name, "sessions", **options)


@pytest.mark.parametrize("suffix", ["", "_segments", "_payloads"])
@pytest.mark.parametrize("kind", OBSTACLES)
async def test_who_asks_for_expiry_hears_what_to_drop(
    mongo_uri: str, mongo_client: Documents, database_name: str, kind: str, suffix: str
) -> None:
    keys, options = OBSTACLES[kind]
    collection = mongo_client[database_name][f"sessions{suffix}"]
    name = collection.create_index(keys, **options)

    drop = f"getCollection('sessions{suffix}').dropIndex('{name}')"
    for ensure_indexes in (True, False):
        opening = manager(mongo_uri, database_name, ttl=60, ensure_indexes=ensure_indexes)
        with pytest.raises(SessionStoreError, match=re.escape(drop)):
            async with opening:
                pytest.fail("open")
    assert mongo_client[database_name]["sessions"].find_one({}) is None

    collection.drop_index(name)
    async with manager(mongo_uri, database_name, ttl=60):
        pass


@pytest.mark.parametrize("kind", FINE)
async def test_an_index_that_lets_sessions_expire_is_no_obstacle(
    mongo_uri: str, mongo_client: Documents, database_name: str, kind: str
) -> None:
    keys, options = FINE[kind]
    mongo_client[database_name]["sessions"].create_index(keys, **options)

    async with manager(mongo_uri, database_name, ttl=timedelta(minutes=1)):
        pass


async def test_who_asks_for_no_expiry_is_not_disturbed(
    mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    mongo_client[database_name]["sessions"].create_index("expires_at")

    async with manager(mongo_uri, database_name, ensure_indexes=False):
        pass


def test_the_sync_manager_says_it_too(mongo_uri: str, mongo_client: Documents, database_name: str) -> None:
    mongo_client[database_name]["sessions"].create_index("expires_at")

    with pytest.raises(ValueError, match="dropIndex"):
        MongoDBSessionManager("s-1", mongo_uri, database_name, "sessions", ttl=60)


async def test_it_is_made_once(mongo_uri: str, database_name: str) -> None:
    recorder = CommandRecorder()
    for _ in range(3):
        async with manager(mongo_uri, database_name, ttl=60, event_listeners=[recorder]):
            pass

    assert "listIndexes" not in recorder.names
    assert recorder.names.count("createIndexes") == 6


async def test_it_is_looked_up_once(mongo_uri: str, database_name: str) -> None:
    recorder = CommandRecorder()
    for _ in range(3):
        async with manager(mongo_uri, database_name, ttl=60, ensure_indexes=False, event_listeners=[recorder]):
            pass

    assert recorder.names.count("listIndexes") == 3


@pytest.mark.parametrize("ttl", [1e300, 1e12, timedelta.max, float("inf"), float("nan"), 0, -1])
def test_a_time_to_live_that_leads_to_no_date_is_refused(mongo_uri: str, database_name: str, ttl: Any) -> None:
    with pytest.raises(ValueError, match="invalid ttl: it must be more than 0 seconds and at most 1,000 years"):
        manager(mongo_uri, database_name, ttl=ttl)


async def test_the_longest_time_to_live_works(mongo_uri: str, database_name: str) -> None:
    async with manager(mongo_uri, database_name, ttl=timedelta(days=1000 * 365)) as opened:
        await opened.update_metadata({"a": 1})
