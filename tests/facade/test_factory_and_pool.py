from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidOperation

from mongodb_session_manager import (
    AsyncMongoDBConnectionPool,
    MongoDBConnectionPool,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    close_async_global_factory,
    close_global_factory,
    get_async_global_factory,
    get_global_factory,
    initialize_async_global_factory,
    initialize_global_factory,
)
from tests.fixtures.sessions import Document, Sessions
from tests.support.agents import make_agent


@pytest.fixture(autouse=True)
def closed_afterwards() -> Iterator[None]:
    """Pool and global factory are the process's: every test leaves them closed."""
    yield
    close_global_factory()
    MongoDBConnectionPool.close()


@pytest.fixture
def factory(sessions: Sessions) -> Iterator[MongoDBSessionManagerFactory]:
    with MongoDBSessionManagerFactory(
        sessions.uri,
        sessions.database_name,
        "sessions",
        application_name="support",
        ttl=3600,
        flush_on="invocation",
        ensure_indexes=False,
        **sessions.client_options(),
    ) as factory:
        yield factory


def test_factory_makes_opened_managers_with_its_defaults(
    factory: MongoDBSessionManagerFactory, sessions: Sessions
) -> None:
    with factory.create_session_manager("s-1") as manager:
        assert isinstance(manager, MongoDBSessionManager)
        agent = make_agent(manager, "1")
        with sessions.recorder.counting() as commands:
            agent("one")

    assert commands.names == ["update"]
    document = sessions.document()
    assert document["application_name"] == "support"
    assert (document["expires_at"] - document["updated_at"]).total_seconds() == 3600


def test_a_managers_own_arguments_come_first(factory: MongoDBSessionManagerFactory, sessions: Sessions) -> None:
    with factory.create_session_manager(
        "s-1", collection_name="others", application_name="sales", flush_on="message"
    ) as manager:
        agent = make_agent(manager, "1")
        with sessions.recorder.counting() as commands:
            agent("one")
        assert manager.get_application_name() == "sales"
        assert manager.collection.name == "others"

    assert commands.names == ["update"] * 2
    assert sessions.raw.count_documents({}) == 0


def test_managers_of_one_factory_share_its_client(factory: MongoDBSessionManagerFactory) -> None:
    with factory.create_session_manager("s-1") as one, factory.create_session_manager("s-2") as other:
        assert one.collection.database.client is other.collection.database.client


def test_managers_go_on_after_their_factory_is_closed(factory: MongoDBSessionManagerFactory) -> None:
    with factory.create_session_manager("s-1") as manager:
        factory.close()
        factory.close()

        manager.update_metadata({"still": "here"})
        assert manager.get_metadata() == {"metadata": {"still": "here"}}
        with pytest.raises(InvalidOperation):
            factory.create_session_manager("s-2")


def test_connection_stats_are_live_and_without_secrets(factory: MongoDBSessionManagerFactory) -> None:
    with factory.create_session_manager("s-1"):
        statistics = factory.get_connection_stats()

    assert statistics["status"] == "connected"
    assert statistics["pool_config"]["maxPoolSize"] == 100
    [server] = statistics["servers"].values()
    assert server["open"] >= 1
    assert "mongodb://" not in str(statistics)


def test_a_factory_on_a_borrowed_client_never_closes_it(sessions: Sessions) -> None:
    with MongoClient[Document](sessions.uri) as client:
        with MongoDBSessionManagerFactory(client=client, database_name=sessions.database_name) as factory:
            assert factory.get_connection_stats()["status"] == "external_client"
            with factory.create_session_manager("s-1", ensure_indexes=False) as manager:
                assert manager.collection.database.client is client
        assert client.admin.command("ping")["ok"] == 1


def test_global_factory_before_it_is_initialized_is_an_error_with_advice() -> None:
    with pytest.raises(RuntimeError, match=r"call initialize_global_factory\("):
        get_global_factory()


def test_global_factory_lives_until_it_is_closed(sessions: Sessions) -> None:
    factory = initialize_global_factory(sessions.uri, sessions.database_name, ensure_indexes=False)

    assert get_global_factory() is factory
    with get_global_factory().create_session_manager("s-1") as manager:
        assert manager.check_session_exists()
    close_global_factory()
    close_global_factory()
    with pytest.raises(RuntimeError):
        get_global_factory()
    with pytest.raises(InvalidOperation):
        factory.create_session_manager("s-1")


def test_initializing_the_global_factory_again_closes_the_former(sessions: Sessions) -> None:
    former = initialize_global_factory(sessions.uri)

    assert initialize_global_factory(sessions.uri) is get_global_factory() is not former
    with pytest.raises(InvalidOperation):
        former.create_session_manager("s-1")


def test_a_global_factory_that_fails_leaves_none_behind(sessions: Sessions) -> None:
    initialize_global_factory(sessions.uri)

    with pytest.raises(ConfigurationError):
        initialize_global_factory(sessions.uri, maxPolSize=1)

    with pytest.raises(RuntimeError, match="initialize_global_factory"):
        get_global_factory()


async def test_global_factories_of_both_faces_are_two(sessions: Sessions) -> None:
    initialize_global_factory(sessions.uri)
    with pytest.raises(RuntimeError, match="initialize_async_global_factory"):
        get_async_global_factory()
    initialize_async_global_factory(sessions.uri)
    close_global_factory()

    assert (await get_async_global_factory().get_connection_stats())["status"] == "connected"
    await close_async_global_factory()


def test_factory_closes_when_it_is_made_and_closed_inside_a_running_loop(sessions: Sessions) -> None:
    async def application() -> dict[str, Any]:
        factory = initialize_global_factory(sessions.uri, sessions.database_name, ensure_indexes=False)
        try:
            with factory.create_session_manager("s-1") as manager:
                manager.update_metadata({"from": "a handler"})
                return manager.get_metadata()
        finally:
            close_global_factory()

    assert asyncio.run(application()) == {"metadata": {"from": "a handler"}}


# -- the pool


@pytest.mark.parametrize("pool", [MongoDBConnectionPool, MongoDBConnectionPool()], ids=["class", "instance"])
def test_pool_is_one_on_class_and_instances(sessions: Sessions, pool: Any) -> None:
    assert pool.get_pool_stats() == {"status": "not_initialized"}
    with pytest.raises(RuntimeError, match=r"MongoDBConnectionPool\.initialize"):
        pool.get_client()

    client = pool.initialize(sessions.uri, maxPoolSize=7)

    assert isinstance(client, MongoClient)
    assert pool.initialize(sessions.uri, maxPoolSize=7) is pool.get_client() is client
    assert MongoDBConnectionPool().get_client() is client
    assert client.admin.command("ping")["ok"] == 1
    statistics = pool.get_pool_stats()
    assert (statistics["status"], statistics["pool_config"]["maxPoolSize"]) == ("connected", 7)
    pool.close()
    pool.close()
    assert MongoDBConnectionPool.get_pool_stats() == {"status": "not_initialized"}


def test_a_manager_borrows_the_pools_client(sessions: Sessions) -> None:
    client = MongoDBConnectionPool.initialize(sessions.uri)

    with MongoDBSessionManager("s-1", client=client, database_name=sessions.database_name) as manager:
        make_agent(manager, "1")("one")

    assert client[sessions.database_name]["collection_name"].count_documents({"_id": "s-1"}) == 1


def test_both_faces_of_the_pool_have_the_same_client(sessions: Sessions) -> None:
    client = MongoDBConnectionPool.initialize(sessions.uri)

    assert AsyncMongoDBConnectionPool.get_client().delegate is client


def test_a_failed_initialization_leaves_the_pool_as_it_was(sessions: Sessions) -> None:
    client = MongoDBConnectionPool.initialize(sessions.uri)

    with pytest.raises(ConfigurationError):
        MongoDBConnectionPool.initialize(sessions.uri, maxPolSize=1)

    assert MongoDBConnectionPool.get_client() is client
