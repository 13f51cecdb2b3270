"""The server of the tests, by the names that they know: the testing kit's, with test commands."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

Document = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "mongodb_uri" in item.fixturenames:
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def mongodb_server_options() -> dict[str, Any]:
    """Test commands, for fail points."""
    return {"topology": "replica_set", "test_commands": True}


@pytest.fixture(scope="session")
def mongo_uri(mongodb_uri: str) -> str:
    """Connection string of a single-node replica set with test commands, shared by all tests."""
    return mongodb_uri


@pytest.fixture(scope="session")
def mongo_client(mongodb_client: MongoClient[Document]) -> MongoClient[Document]:
    """A synchronous client that looks at what was stored, beside the code under test."""
    return mongodb_client


@pytest.fixture
def database_name(mongodb_database_name: str) -> str:
    """Name of a database that no other test uses; dropped afterwards."""
    return mongodb_database_name
