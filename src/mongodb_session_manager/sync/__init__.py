"""The synchronous classes: thin forwards to the async ones, which run on the library's own event loop.

Usable from any thread, and from the main thread of a program without an event loop. A call waits for its result, so
one from inside a running event loop holds that loop up meanwhile; a call from the library's own loop is an error.
"""

from __future__ import annotations

from .factory import (
    MongoDBSessionManagerFactory,
    close_global_factory,
    create_mongodb_session_manager,
    get_global_factory,
    initialize_global_factory,
)
from .manager import MongoDBSessionManager
from .pool import MongoDBConnectionPool
from .repository import MongoDBSessionRepository

__all__ = [
    "MongoDBConnectionPool",
    "MongoDBSessionManager",
    "MongoDBSessionManagerFactory",
    "MongoDBSessionRepository",
    "close_global_factory",
    "create_mongodb_session_manager",
    "get_global_factory",
    "initialize_global_factory",
]
