from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import ConfigurationError, InvalidOperation, PyMongoError, ServerSelectionTimeoutError
from pymongo.monitoring import ConnectionPoolListener, PoolClosedEvent

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    InvalidNameError,
    close_async_global_factory,
    create_async_mongodb_session_manager,
    get_async_global_factory,
    initialize_async_global_factory,
)
from tests.fixtures.commands import CommandRecorder
from tests.support.agents import make_agent

Document = dict[str, Any]


class Closed(ConnectionPoolListener):
    """Notices when the client that it listens to is closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    @property
    def now(self) -> bool:
        return self._closed.is_set()

    async def soon(self) -> bool:
        return await asyncio.to_thread(self._closed.wait, 10)

    def pool_closed(self, event: PoolClosedEvent) -> None:
        self._closed.set()

    def pool_created(self, event: Any) -> None: ...
    def pool_ready(self, event: Any) -> None: ...
    def pool_cleared(self, event: Any) -> None: ...
    def connection_created(self, event: Any) -> None: ...
    def connection_ready(self, event: Any) -> None: ...
    def connection_closed(self, event: Any) -> None: ...
    def connection_check_out_started(self, event: Any) -> None: ...
    def connection_check_out_failed(self, event: Any) -> None: ...
    def connection_checked_out(self, event: Any) -> None: ...
    def connection_checked_in(self, event: Any) -> None: ...


class Factories:
    """Makes factories that share one client; `closed` notices its end."""

    def __init__(self, uri: str, database: str) -> None:
        self.closed = Closed()
        self.uri, self.database = uri, database

    def make(self, **options: Any) -> AsyncMongoDBSessionManagerFactory:
        defaults = {"ensure_indexes": False, "event_listeners": [self.closed]}
        return AsyncMongoDBSessionManagerFactory(self.uri, self.database, "sessions", **{**defaults, **options})


@pytest.fixture
def factories(mongo_uri: str, database_name: str) -> Factories:
    return Factories(mongo_uri, database_name)


@pytest.fixture
async def no_global_factory() -> AsyncIterator[None]:
    """The global factory is the process's: every test leaves none."""
    yield
    await close_async_global_factory()


async def works(manager: AsyncMongoDBSessionManager) -> bool:
    await manager.update_metadata({"works": True})
    return bool((await manager.get_metadata())["metadata"]["works"])


# -- leases


async def test_closing_a_factory_leaves_the_clients_of_others_open(factories: Factories) -> None:
    one, other = factories.make(), factories.make()
    async with one.create_session_manager("s-1") as manager:
        await one.close()

        assert await works(manager)
    async with other.create_session_manager("s-2") as manager:
        assert await works(manager)
    assert not factories.closed.now

    await other.close()
    assert factories.closed.now


async def test_managers_outlive_their_factory(factories: Factories) -> None:
    factory = factories.make()
    manager = factory.create_session_manager("s-1")
    unopened = factory.create_session_manager("s-2")
    await manager.open()
    await factory.close()
    await factory.close()

    assert await works(manager)
    await manager.close()
    assert not factories.closed.now

    assert await works(await unopened)
    await unopened.close()
    assert factories.closed.now


async def test_a_closed_factory_makes_no_managers(factories: Factories) -> None:
    factory = factories.make()
    await factory.close()

    with pytest.raises(InvalidOperation, match="closed"):
        factory.create_session_manager("s-1")


async def test_managers_that_could_not_be_made_or_opened_keep_no_client(mongo_uri: str, factories: Factories) -> None:
    async with factories.make() as factory, factory.create_session_manager("s-1") as manager:
        assert await works(manager)
        with pytest.raises(InvalidNameError):
            factory.create_session_manager("")
        with pytest.raises(ValueError, match="ttl"):
            factory.create_session_manager("s-2", ttl=0)
        for option in ({"maxPoolSize": 3}, {"connection_string": "mongodb://127.0.0.1:1"}, {"client": object()}):
            with pytest.raises(ValueError, match=f"^invalid client options: {re.escape(str([*option]))} belong to the"):
                factory.create_session_manager("s-2", **option)
        with pytest.raises(PyMongoError):
            async with factory.create_session_manager("s-2", database_name="not/a/name"):
                pass
        with pytest.raises(PyMongoError):
            await factory.create_session_manager("s-2", database_name="not/a/name")

    assert factories.closed.now


async def test_a_borrowed_client_is_never_closed(mongo_uri: str, database_name: str) -> None:
    with MongoClient[Document](mongo_uri) as client:
        factory = AsyncMongoDBSessionManagerFactory(client=client, database_name=database_name, ensure_indexes=False)
        async with factory, factory.create_session_manager("s-1") as manager:
            assert await works(manager)

        assert client.admin.command("ping")["ok"] == 1


async def test_a_request_opens_no_connection_of_its_own(
    mongo_uri: str, database_name: str, command_recorder: CommandRecorder
) -> None:
    factory = AsyncMongoDBSessionManagerFactory(
        mongo_uri, database_name, ensure_indexes=False, event_listeners=[command_recorder], minPoolSize=0
    )
    for _ in range(5):
        async with factory.create_session_manager("s-1") as manager:
            await make_agent(manager, "hello").invoke_async("hi")
    names = command_recorder.names
    (server,) = (await factory.get_connection_stats())["servers"].values()
    await factory.close()

    assert server["created"] == 1
    assert names == ["find", "insert", "update", "update"] + ["find", "update", "update"] * 4


# -- what managers get from their factory


async def test_managers_have_the_factorys_defaults(
    mongo_client: MongoClient[Document], factories: Factories, database_name: str
) -> None:
    seen: list[str] = []

    def hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(action)
        return original_func(*(value for name, value in kwargs.items() if name != "session_manager"))

    async with (
        factories.make(
            application_name="shop",
            ttl=timedelta(hours=1),
            metadata_hook=hook,
            feedback_hook=hook,
            flush_on="invocation",
        ) as factory,
        factory.create_session_manager("s-1") as manager,
    ):
        await manager.update_metadata({"a": 1})
        await manager.add_feedback({"rating": "up"})
        agent = make_agent(manager, "hello", lambda _: str(stored_messages(mongo_client, database_name)))
        await agent.invoke_async("hi")
        await agent.invoke_async("how much is stored while you answer?")

    document = mongo_client[database_name]["sessions"].find_one({"_id": "s-1"})
    assert document is not None
    assert document["application_name"] == "shop"
    assert document["expires_at"] - document["updated_at"] == timedelta(hours=1)
    assert seen == ["update", "add"]
    assert agent.messages[-1]["content"] == [{"text": "2"}]


def stored_messages(client: MongoClient[Document], database_name: str) -> int:
    document = client[database_name]["sessions"].find_one({"_id": "s-1"})
    return 0 if document is None else len(document["agents"]["assistant"]["messages"])


async def test_a_manager_may_differ_from_its_factory(
    mongo_client: MongoClient[Document], factories: Factories, database_name: str
) -> None:
    async with (
        factories.make(application_name="shop", ttl=60) as factory,
        factory.create_session_manager(
            "s-1", collection_name="others", application_name="bank", ttl=3600, metadata_fields=["city"]
        ) as manager,
    ):
        assert await works(manager)

    document = mongo_client[database_name]["others"].find_one({"_id": "s-1"})
    assert document is not None
    assert document["application_name"] == "bank"
    assert document["expires_at"] - document["updated_at"] == timedelta(hours=1)
    assert mongo_client[database_name].list_collection_names() == ["others"]


async def test_old_names_of_hooks_still_work(factories: Factories) -> None:
    seen: list[str] = []

    def hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(action)
        return original_func()

    with pytest.warns(DeprecationWarning, match="metadataHook"):
        factory = factories.make(metadataHook=hook)
    async with factory, factory.create_session_manager("s-1") as manager:
        await manager.get_metadata()
    assert seen == ["get"]


# -- bad options


async def test_an_option_that_the_driver_does_not_know_is_the_drivers_error(mongo_uri: str) -> None:
    for make in (AsyncMongoDBSessionManagerFactory, lambda *a, **k: AsyncMongoDBSessionManager("s-1", *a, **k)):
        with pytest.raises(ConfigurationError, match="maxPoolSiez"):
            make(mongo_uri, maxPoolSiez=3)


async def test_a_client_option_belongs_to_the_factory(factories: Factories) -> None:
    async with factories.make() as factory:
        with pytest.raises(ValueError, match="maxPoolSize"):
            factory.create_session_manager("s-1", maxPoolSize=3)


async def test_client_options_have_no_effect_on_a_borrowed_client(mongo_uri: str) -> None:
    with MongoClient[Document](mongo_uri) as client, pytest.raises(ValueError, match="maxPoolSize"):
        AsyncMongoDBSessionManagerFactory(client=client, maxPoolSize=3)


@pytest.mark.parametrize("client", ["mongodb://localhost", object(), 1])
async def test_another_kind_of_client_is_named(client: Any) -> None:
    with pytest.raises(TypeError, match=type(client).__name__):
        AsyncMongoDBSessionManagerFactory(client=client)


async def test_without_client_and_connection_string_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGODB_CONNECTION_STRING", raising=False)

    with pytest.raises(ValueError, match=r"(?s)client.*MONGODB_CONNECTION_STRING"):
        AsyncMongoDBSessionManagerFactory()


async def test_the_connection_string_is_taken_from_the_environment(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", mongo_uri)

    factory = AsyncMongoDBSessionManagerFactory(database_name=database_name, ensure_indexes=False)
    async with factory, factory.create_session_manager("s-1") as manager:
        assert await works(manager)


# -- statistics


async def test_statistics_tell_server_and_settings(factories: Factories) -> None:
    async with factories.make(maxPoolSize=7) as factory:
        statistics = await factory.get_connection_stats()

    assert statistics["status"] == "connected"
    assert statistics["server_version"][0].isdigit()
    assert statistics["pool_config"]["maxPoolSize"] == statistics["pool_config"]["minPoolSize"] == 7
    (server,) = statistics["servers"].values()
    assert server["in_use"] == 0


async def test_statistics_of_a_borrowed_client_are_its_owners(mongo_uri: str) -> None:
    async with AsyncMongoClient[Document](mongo_uri) as client, AsyncMongoDBSessionManagerFactory(client=client) as f:
        statistics = await f.get_connection_stats()

    assert statistics["status"] == "external_client"
    assert statistics["servers"] == {}


async def test_statistics_of_an_unreachable_server_are_an_error() -> None:
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"
    async with AsyncMongoDBSessionManagerFactory(uri) as factory:
        statistics = await factory.get_connection_stats()

    assert (statistics["status"], statistics["error"]) == ("error", "ServerSelectionTimeoutError")


# -- one call, and the global factory


async def test_one_call_gives_an_opened_manager(mongo_uri: str, database_name: str) -> None:
    manager = await create_async_mongodb_session_manager(
        "s-1", mongo_uri, database_name, application_name="shop", ensure_indexes=False
    )

    assert await manager.get_application_name() == "shop"
    await make_agent(manager, "hello").invoke_async("hi")
    assert await manager.get_message_count("assistant") == 2
    await manager.close()


async def test_one_call_that_fails_keeps_no_client(factories: Factories) -> None:
    async with factories.make() as factory, factory.create_session_manager("s-1"):
        with pytest.raises(PyMongoError):
            await create_async_mongodb_session_manager(
                "s-2", factories.uri, "not/a/name", event_listeners=[factories.closed]
            )
        with pytest.raises(ServerSelectionTimeoutError):
            await create_async_mongodb_session_manager("s-2", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1")

    assert factories.closed.now


@pytest.mark.usefixtures("no_global_factory")
async def test_without_a_global_factory_there_is_advice() -> None:
    with pytest.raises(RuntimeError, match="initialize_async_global_factory"):
        get_async_global_factory()
    await close_async_global_factory()


@pytest.mark.usefixtures("no_global_factory")
async def test_the_global_factory_is_the_one_that_was_initialized(mongo_uri: str, database_name: str) -> None:
    factory = initialize_async_global_factory(mongo_uri, database_name, ensure_indexes=False)

    assert get_async_global_factory() is factory
    async with get_async_global_factory().create_session_manager("s-1") as manager:
        await close_async_global_factory()
        assert await works(manager)
    with pytest.raises(RuntimeError):
        get_async_global_factory()


@pytest.mark.usefixtures("no_global_factory")
async def test_initializing_again_closes_the_former_one(
    mongo_uri: str, database_name: str, factories: Factories
) -> None:
    former = initialize_async_global_factory(mongo_uri, database_name, event_listeners=[factories.closed])
    await former.get_connection_stats()

    factory = initialize_async_global_factory(mongo_uri, database_name, maxPoolSize=5)

    assert get_async_global_factory() is factory
    assert await factories.closed.soon()


@pytest.mark.usefixtures("no_global_factory")
async def test_a_failed_initialization_leaves_no_global_factory(mongo_uri: str, factories: Factories) -> None:
    former = initialize_async_global_factory(mongo_uri, event_listeners=[factories.closed])
    await former.get_connection_stats()

    with pytest.raises(ConfigurationError):
        initialize_async_global_factory(mongo_uri, maxPoolSiez=5)

    with pytest.raises(RuntimeError):
        get_async_global_factory()
    assert await factories.closed.soon()


# -- fork

_FORKING = """
import asyncio, os, sys
from mongodb_session_manager import get_async_global_factory, initialize_async_global_factory

async def turn(name):
    async with get_async_global_factory().create_session_manager("s-1") as manager:
        await manager.update_metadata({name: os.getpid()})
        return (await manager.get_metadata())["metadata"]

factory = initialize_async_global_factory(sys.argv[1], sys.argv[2], "sessions", ensure_indexes=False)
asyncio.run(turn("before"))
child = os.fork()
if child == 0:
    found = asyncio.run(turn("child"))
    os._exit(0 if found["child"] == os.getpid() != found["before"] else 1)
_, status = os.waitpid(child, 0)
found = asyncio.run(turn("after"))
asyncio.run(factory.close())
print(os.waitstatus_to_exitcode(status), sorted(found))
"""


def test_a_forked_child_goes_on_with_the_factory_it_inherited(mongo_uri: str, database_name: str) -> None:
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}

    ran = subprocess.run(
        [sys.executable, "-c", _FORKING, mongo_uri, database_name],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
    )

    assert (ran.stdout.strip(), ran.returncode) == ("0 ['after', 'before', 'child']", 0), ran.stderr
