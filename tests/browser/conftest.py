"""Viewers on a real server, for a browser: one with the samples for those who only read, or one of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from mongodb_session_manager.viewer import ViewerSettings, create_app
from mongodb_session_manager.viewer.samples import ENUM_FIELDS, store_samples
from tests.fixtures.browser import serving
from tests.fixtures.sessions import COLLECTION, Sessions

Document = dict[str, Any]
StartViewer = Callable[..., str]


def settings_for(uri: str, database_name: str, **options: Any) -> ViewerSettings:
    """Return a viewer's settings that nothing of the machine's environment changes."""
    given: Document = {
        "_env_file": None,
        "mongodb_connection_string": uri,
        "database_name": database_name,
        "collection_name": COLLECTION,
        "enum_fields_str": ",".join(sorted(ENUM_FIELDS)),
        "backend_password": None,
    }
    return ViewerSettings(**(given | options))


@pytest.fixture(scope="session")
def samples(mongo_uri: str, mongo_client: MongoClient[Document]) -> Iterator[str]:
    """Address of a viewer of the sample conversations; nobody changes them."""
    database_name = f"msm_{uuid4().hex[:12]}"
    asyncio.run(store_samples(mongo_uri, database_name, COLLECTION))
    with serving(create_app(settings_for(mongo_uri, database_name))) as url:
        yield url
    mongo_client.drop_database(database_name)


@pytest.fixture
def start_viewer(sessions: Sessions) -> Iterator[StartViewer]:
    """Start a viewer of this test's `sessions` and return its address; keywords are its settings."""
    with ExitStack() as stack:

        def start(**options: Any) -> str:
            app = create_app(settings_for(sessions.uri, sessions.database_name, **options))
            return stack.enter_context(serving(app))

        yield start
