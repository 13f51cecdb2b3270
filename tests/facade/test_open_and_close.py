from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from strands.session import RepositorySessionManager

from mongodb_session_manager import (
    InvalidNameError,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    MongoDBSessionRepository,
    SessionClosedError,
    create_mongodb_session_manager,
)
from mongodb_session_manager.runtime import portal
from tests.facade.conftest import OpenManager
from tests.fixtures.sessions import Document, Sessions
from tests.support.agents import make_agent


class Clients(TopologyListener):
    """Counts the clients that were made and closed."""

    def __init__(self) -> None:
        self.made = self.closed_again = 0

    def opened(self, event: TopologyOpenedEvent) -> None:
        self.made += 1

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """Of no interest."""

    def closed(self, event: TopologyClosedEvent) -> None:
        self.closed_again += 1


def test_constructor_creates_the_session(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager("s-1", application_name="support")

    assert isinstance(manager, RepositorySessionManager)
    assert isinstance(manager.repository, MongoDBSessionRepository)
    assert manager.session_repository is manager.repository
    assert sessions.document()["application_name"] == "support"
    assert manager.session_id == manager.session.session_id == "s-1"
    assert manager.check_session_exists()


def test_constructor_opens_a_session_that_exists_with_one_command(
    open_manager: OpenManager, sessions: Sessions
) -> None:
    open_manager("s-1", application_name="support").close()

    with sessions.recorder.counting() as commands, open_manager("s-1", application_name="other") as manager:
        assert manager.open() is manager
        assert manager.open(["a"]) is manager

    assert commands.names == ["find"]
    assert sessions.document()["application_name"] == "support"


def test_leaving_the_block_writes_what_is_pending(open_manager: OpenManager, sessions: Sessions) -> None:
    with open_manager() as manager:
        make_agent(manager)
        assert sessions.document()["agents"] == {}

    assert list(sessions.document()["agents"]) == ["assistant"]


def test_closed_manager_says_so(open_manager: OpenManager) -> None:
    manager = open_manager()
    agent = make_agent(manager)
    manager.close()
    manager.close()

    uses: list[Callable[[], Any]] = [
        manager.open,
        manager.__enter__,
        manager.flush,
        lambda: manager.session,
        lambda: manager.append_message({"role": "user", "content": [{"text": "late"}]}, agent),
        lambda: manager.sync_agent(agent),
        lambda: manager.update_metadata({"late": True}),
        manager.get_metadata,
        manager.get_feedbacks,
        manager.list_agents,
        manager.check_session_exists,
        manager.delete_session,
    ]
    for use in uses:
        with pytest.raises(SessionClosedError, match="s-1"):
            use()


def test_what_fails_to_open_gives_its_client_back(mongo_uri: str) -> None:
    clients = Clients()
    options: dict[str, Any] = {"event_listeners": [clients], "w": 0}

    with pytest.raises(ValueError, match="w=0"):
        MongoDBSessionManager("s-1", mongo_uri, **options)
    assert (clients.made, clients.closed_again) == (1, 1)

    with MongoDBSessionManagerFactory(mongo_uri, **options) as factory:
        with pytest.raises(ValueError, match="w=0"):
            factory.create_session_manager("s-1")
        with pytest.raises(InvalidNameError):
            factory.create_session_manager("")
        for option in ({"maxPoolSize": 3}, {"connection_string": "mongodb://127.0.0.1:1"}, {"client": object()}):
            with pytest.raises(ValueError, match="belong to the factory"):
                factory.create_session_manager("s-1", **option)
    assert (clients.made, clients.closed_again) == (2, 2)


def test_unreachable_server_is_the_drivers_error() -> None:
    with pytest.raises(PyMongoError):
        MongoDBSessionManager("s-1", "mongodb://127.0.0.1:1", serverSelectionTimeoutMS=50)


def test_wrong_arguments_are_refused(monkeypatch: pytest.MonkeyPatch, mongo_uri: str) -> None:
    monkeypatch.delenv("MONGODB_CONNECTION_STRING", raising=False)
    with pytest.raises(ValueError, match="MONGODB_CONNECTION_STRING"):
        MongoDBSessionManager("s-1")
    with pytest.raises(TypeError, match="object"):
        MongoDBSessionManager("s-1", client=object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="maxPolSize"):
        create_mongodb_session_manager("s-1", mongo_uri, maxPolSize=3)
    with pytest.raises(ValueError, match="flush_on"):
        create_mongodb_session_manager("s-1", mongo_uri, flush_on="never")


@pytest.mark.parametrize("kind", [MongoClient, AsyncIOMotorClient])
def test_borrowed_client_stays_open_and_its_collection_is_pymongos(
    open_manager: OpenManager, mongo_uri: str, kind: Any
) -> None:
    client = kind(mongo_uri)
    delegate: MongoClient[Document] = client if isinstance(client, MongoClient) else client.delegate

    manager = open_manager(client=client)

    assert isinstance(manager.collection, Collection)
    assert manager.collection.database.client is delegate
    assert manager.session_repository.collection == manager.collection
    assert manager.collection.count_documents({"_id": "s-1"}) == 1
    manager.close()
    assert delegate.admin.command("ping")["ok"] == 1
    client.close()


def test_a_client_without_a_synchronous_side_has_no_collection(open_manager: OpenManager) -> None:
    manager = open_manager(client=AsyncMongoMockClient())

    assert manager.check_session_exists()
    with pytest.raises(TypeError, match="AsyncMongoMockClient has no synchronous collection"):
        _ = manager.collection


def test_session_and_repository_are_not_to_be_replaced(open_manager: OpenManager) -> None:
    manager = open_manager()

    with pytest.raises(AttributeError):
        manager.session = manager.session
    with pytest.raises(AttributeError):
        manager.session_repository = manager.session_repository


def test_repr_names_the_session_and_no_secret(open_manager: OpenManager) -> None:
    manager = open_manager()

    assert repr(manager) == "<MongoDBSessionManager session_id='s-1' open>"
    manager.close()
    assert repr(manager) == "<MongoDBSessionManager session_id='s-1' closed>"


def test_calls_from_the_librarys_own_loop_raise_at_once(open_manager: OpenManager, mongo_uri: str) -> None:
    manager = open_manager()

    async def misuse() -> None:
        with pytest.raises(RuntimeError, match="own event loop"):
            manager.get_metadata()
        with pytest.raises(RuntimeError, match="own event loop"):
            manager.close()
        with pytest.raises(RuntimeError, match="own event loop"):
            MongoDBSessionManager("s-2", mongo_uri)

    portal.call(misuse)

    assert manager.get_metadata() == {"metadata": {}}


def test_one_manager_closed_by_many_threads_at_once(open_manager: OpenManager) -> None:
    manager = open_manager()
    errors: list[BaseException] = []

    def close() -> None:
        try:
            manager.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with pytest.raises(SessionClosedError):
        manager.flush()
