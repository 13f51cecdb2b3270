"""Fixtures: a MongoDB server, a clean database, session managers of every kind, and models.

They need no plugin for coroutines, and work with pytest-asyncio as well as with anyio's. Options of a run:

    --mongodb-uri URI   use this server instead of an embedded one; also MONGODB_TEST_URI in the environment

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from .. import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
)
from ..embedded import EmbeddedMongo
from ..offline import OfflineModel
from ..runtime import portal
from .scripted_model import ScriptedModel

COLLECTION = "sessions"
SESSION_ID = "test-session"

Document: TypeAlias = dict[str, Any]
MakeScriptedModel: TypeAlias = Callable[..., ScriptedModel]
"""What the fixture `scripted_model` is: it takes the arguments of `ScriptedModel`."""

_OPTION = "--mongodb-uri"
_ANSWER_WITHIN_MS = 3000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--mongodb-uri`."""
    parser.getgroup("mongodb", "MongoDB sessions").addoption(
        _OPTION,
        default=os.environ.get("MONGODB_TEST_URI") or None,
        help="run against this MongoDB server instead of an embedded one (default: $MONGODB_TEST_URI)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """Say which server is used; a given one that does not answer ends the run here, instead of failing every test."""
    uri: str | None = config.getoption(_OPTION)
    return "mongodb: embedded, when a test asks for it" if uri is None else f"mongodb: given, {_version(uri)}"


@pytest.fixture(scope="session")
def mongodb_server_options() -> dict[str, Any]:
    """Arguments of the embedded server (`EmbeddedMongo`); override this fixture to change them."""
    return {"topology": "replica_set"}


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest, mongodb_server_options: dict[str, Any]) -> Iterator[str]:
    """Connection string of a MongoDB server that all tests share: the given one, or one that lives as long as the run.

    Override this fixture to use a server that something else starts. Each process of pytest-xdist has its own.
    """
    given: str | None = request.config.getoption(_OPTION)
    if given is not None:
        _version(given)
        yield given
        return
    with EmbeddedMongo(**mongodb_server_options) as server:
        yield server.uri


@pytest.fixture(scope="session")
def mongodb_client(mongodb_uri: str) -> Iterator[MongoClient[Document]]:
    """A synchronous PyMongo client, to look at what was stored; it returns dates in UTC."""
    with MongoClient[Document](
        mongodb_uri, appname="tests", serverSelectionTimeoutMS=_ANSWER_WITHIN_MS, tz_aware=True
    ) as client:
        yield client


@pytest.fixture(scope="session")
def _used_databases(mongodb_client: MongoClient[Document]) -> Iterator[set[str]]:
    used: set[str] = set()
    yield used
    # What a test left running may have written after its database was dropped.
    for name in used.intersection(mongodb_client.list_database_names()):
        mongodb_client.drop_database(name)


@pytest.fixture
def mongodb_database_name(mongodb_client: MongoClient[Document], _used_databases: set[str]) -> Iterator[str]:
    """Name of an empty database that no other test uses; it is dropped after the test."""
    name = f"test_{uuid4().hex[:12]}"
    _used_databases.add(name)
    yield name
    mongodb_client.drop_database(name)


@pytest.fixture
def mongodb_database(mongodb_client: MongoClient[Document], mongodb_database_name: str) -> Database[Document]:
    """The database of this test; the managers' sessions are in its collection `sessions`."""
    return mongodb_client[mongodb_database_name]


@pytest.fixture
def async_session_manager_factory(
    mongodb_uri: str, mongodb_database_name: str
) -> Iterator[AsyncMongoDBSessionManagerFactory]:
    """A factory of async managers on the database of this test, closed after it."""
    factory = AsyncMongoDBSessionManagerFactory(mongodb_uri, **_factory_options(mongodb_database_name))
    yield factory
    portal.call(factory.close)


@pytest.fixture
def session_manager_factory(mongodb_uri: str, mongodb_database_name: str) -> Iterator[MongoDBSessionManagerFactory]:
    """A factory of synchronous managers on the database of this test, closed after it."""
    with MongoDBSessionManagerFactory(mongodb_uri, **_factory_options(mongodb_database_name)) as factory:
        yield factory


@pytest.fixture
def async_session_manager(
    async_session_manager_factory: AsyncMongoDBSessionManagerFactory,
) -> Iterator[AsyncMongoDBSessionManager]:
    """An async manager of the session "test-session", to be opened by the test and closed after it."""
    manager = async_session_manager_factory.create_session_manager(SESSION_ID)
    yield manager
    portal.call(manager.close)


@pytest.fixture
def session_manager(session_manager_factory: MongoDBSessionManagerFactory) -> Iterator[MongoDBSessionManager]:
    """An open synchronous manager of the session "test-session", closed after the test."""
    with session_manager_factory.create_session_manager(SESSION_ID) as manager:
        yield manager


@pytest.fixture
def offline_model() -> OfflineModel:
    """A model that answers from the messages it is given, so that a history that was not restored shows."""
    return OfflineModel()


@pytest.fixture
def scripted_model() -> Iterator[MakeScriptedModel]:
    """Make models that play a script: `scripted_model("Hello!", calls(("a_tool", {})), "Done.")`.

    A reply that was never asked for fails the test.
    """
    made: list[ScriptedModel] = []

    def make(*script: Any, **options: Any) -> ScriptedModel:
        made.append(ScriptedModel(*script, **options))
        return made[-1]

    yield make
    if unplayed := [model.remaining for model in made if model.remaining]:
        pytest.fail(f"{sum(unplayed)} scripted replies were never asked for", pytrace=False)


def _factory_options(database_name: str) -> dict[str, Any]:
    return {
        "database_name": database_name,
        "collection_name": COLLECTION,
        # Made in the background, which may be after the database was dropped.
        "ensure_indexes": False,
        "minPoolSize": 0,
        "serverSelectionTimeoutMS": _ANSWER_WITHIN_MS,
    }


def _version(uri: str) -> str:
    try:
        with MongoClient[Document](uri, serverSelectionTimeoutMS=_ANSWER_WITHIN_MS) as client:
            return str(client.server_info()["version"])
    except PyMongoError as error:
        pytest.exit(
            f"the server of {_OPTION} does not answer: {type(error).__name__}", returncode=pytest.ExitCode.USAGE_ERROR
        )
