from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mongodb_session_manager import MongoDBSessionManager
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions

OpenManager = Callable[..., MongoDBSessionManager]


@pytest.fixture
def open_manager(sessions: Sessions) -> Iterator[OpenManager]:
    """Opens managers of the test's sessions, closed after it: `open_manager("s-2", flush_on="invocation")`."""
    with ExitStack() as stack:

        def opened(session_id: str = SESSION_ID, **options: Any) -> MongoDBSessionManager:
            if "client" not in options:
                options = {"connection_string": sessions.uri, **sessions.client_options(), **options}
            manager = MongoDBSessionManager(
                session_id,
                database_name=sessions.database_name,
                collection_name=COLLECTION,
                **{"ensure_indexes": False, **options},
            )
            return stack.enter_context(manager)

        yield opened
