"""Durable sessions in MongoDB for Strands Agents."""

from ._version import __version__
from .errors import (
    AgentExistsError,
    AgentNotFoundError,
    CorruptMessageError,
    InvalidNameError,
    LeaseLostError,
    LeaseUnavailableError,
    MessageNotFoundError,
    MessageTooLargeError,
    SessionClosedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionNotOpenError,
    SessionStoreError,
    WrongLoopError,
)
from .factory import (
    AsyncMongoDBSessionManagerFactory,
    close_async_global_factory,
    create_async_mongodb_session_manager,
    get_async_global_factory,
    initialize_async_global_factory,
)
from .guardrails import GUARDRAIL_STOP_REASONS
from .hooks import chain_hooks
from .indexes import index_specs
from .manager import AsyncMongoDBSessionManager
from .pool import AsyncMongoDBConnectionPool
from .repository import AsyncMongoDBSessionRepository
from .sync import (
    MongoDBConnectionPool,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    MongoDBSessionRepository,
    close_global_factory,
    create_mongodb_session_manager,
    get_global_factory,
    initialize_global_factory,
)

__all__ = [
    "GUARDRAIL_STOP_REASONS",
    "AgentExistsError",
    "AgentNotFoundError",
    "AsyncMongoDBConnectionPool",
    "AsyncMongoDBSessionManager",
    "AsyncMongoDBSessionManagerFactory",
    "AsyncMongoDBSessionRepository",
    "CorruptMessageError",
    "InvalidNameError",
    "LeaseLostError",
    "LeaseUnavailableError",
    "MessageNotFoundError",
    "MessageTooLargeError",
    "MongoDBConnectionPool",
    "MongoDBSessionManager",
    "MongoDBSessionManagerFactory",
    "MongoDBSessionRepository",
    "SessionClosedError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SessionNotOpenError",
    "SessionStoreError",
    "WrongLoopError",
    "__version__",
    "chain_hooks",
    "close_async_global_factory",
    "close_global_factory",
    "create_async_mongodb_session_manager",
    "create_mongodb_session_manager",
    "get_async_global_factory",
    "get_global_factory",
    "index_specs",
    "initialize_async_global_factory",
    "initialize_global_factory",
]
