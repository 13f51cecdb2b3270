"""A MongoDB server for the tests: the embedded one, or the one that `--mongo-uri` names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mongodb_session_manager.embedded import EmbeddedMongo, MongodNotFoundError, find_mongod

Document = dict[str, Any]

_UNREACHABLE = pytest.ExitCode.USAGE_ERROR


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mongo-uri",
        default=os.environ.get("MONGODB_TEST_URI"),
        help="run against this server, a replica set with test commands, instead of an embedded one "
        "(default: $MONGODB_TEST_URI)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """Say which server is used; one that cannot be reached ends the run here, once, and not in every test."""
    uri: str | None = config.getoption("--mongo-uri")
    if uri is None:
        return f"mongodb: embedded, {_embedded_version()}"
    try:
        with MongoClient[Document](uri, serverSelectionTimeoutMS=3000) as client:
            return f"mongodb: given, {client.server_info()['version']}"
    except PyMongoError as error:
        pytest.exit(f"the server of --mongo-uri does not answer: {type(error).__name__}", returncode=_UNREACHABLE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "mongo_uri" in item.fixturenames:
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def mongo_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """Connection string of a single-node replica set with test commands, shared by all tests."""
    given: str | None = request.config.getoption("--mongo-uri")
    if given is not None:
        yield given
        return
    with EmbeddedMongo("replica_set", test_commands=True) as server:
        yield server.uri


@pytest.fixture(scope="session")
def mongo_client(mongo_uri: str) -> Iterator[MongoClient[Document]]:
    """A synchronous client that looks at what was stored, beside the code under test."""
    with MongoClient[Document](mongo_uri, appname="tests", serverSelectionTimeoutMS=5000, tz_aware=True) as client:
        yield client


@pytest.fixture
def database_name(mongo_client: MongoClient[Document]) -> Iterator[str]:
    """Name of a database that no other test uses; dropped afterwards."""
    name = f"msm_{uuid4().hex[:12]}"
    yield name
    mongo_client.drop_database(name)


def _embedded_version() -> str:
    try:
        program = find_mongod()
    except MongodNotFoundError:
        return "but no mongod was found"
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.splitlines()[0] if answer.stdout else f"but {program} does not run"
