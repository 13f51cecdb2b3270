"""Durable sessions in MongoDB for Strands Agents."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    AgentExistsError,
    AgentNotFoundError,
    CorruptMessageError,
    CorruptSessionError,
    InvalidNameError,
    LeaseLostError,
    LeaseUnavailableError,
    MessageNotFoundError,
    MessageTooLargeError,
    MetadataTooLargeError,
    SessionClosedError,
    SessionExistsError,
    SessionFullError,
    SessionNotFoundError,
    SessionNotOpenError,
    SessionStoreError,
    StorageConflictError,
    WrongLoopError,
)
from .faces import asynchronous, synchronous
from .factory import (
    AsyncMongoDBSessionManagerFactory,
    close_async_global_factory,
    create_async_mongodb_session_manager,
    get_async_global_factory,
    initialize_async_global_factory,
)
from .hooks import chain_hooks
from .pool import AsyncMongoDBConnectionPool
from .session import AsyncMongoDBSessionManager
from .session.guardrails import GUARDRAIL_STOP_REASONS
from .storage import MongoDBStorage
from .store import AsyncMongoDBSessionRepository
from .store.indexes import index_specs
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

if TYPE_CHECKING:
    from .hooks.feedback_sns import FeedbackSNSHook, create_feedback_sns_hook, is_feedback_sns_hook_available
    from .hooks.metadata_sqs import MetadataSQSHook, create_metadata_sqs_hook, is_metadata_sqs_hook_available
    from .hooks.metadata_websocket import (
        MetadataWebSocketHook,
        create_metadata_websocket_hook,
        is_metadata_websocket_hook_available,
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
    "CorruptSessionError",
    "FeedbackSNSHook",
    "InvalidNameError",
    "LeaseLostError",
    "LeaseUnavailableError",
    "MessageNotFoundError",
    "MessageTooLargeError",
    "MetadataSQSHook",
    "MetadataTooLargeError",
    "MetadataWebSocketHook",
    "MongoDBConnectionPool",
    "MongoDBSessionManager",
    "MongoDBSessionManagerFactory",
    "MongoDBSessionRepository",
    "MongoDBStorage",
    "SessionClosedError",
    "SessionExistsError",
    "SessionFullError",
    "SessionNotFoundError",
    "SessionNotOpenError",
    "SessionStoreError",
    "StorageConflictError",
    "WrongLoopError",
    "__version__",
    "chain_hooks",
    "close_async_global_factory",
    "close_global_factory",
    "create_async_mongodb_session_manager",
    "create_feedback_sns_hook",
    "create_metadata_sqs_hook",
    "create_metadata_websocket_hook",
    "create_mongodb_session_manager",
    "get_async_global_factory",
    "get_global_factory",
    "index_specs",
    "initialize_async_global_factory",
    "initialize_global_factory",
    "is_feedback_sns_hook_available",
    "is_metadata_sqs_hook_available",
    "is_metadata_websocket_hook_available",
]

for _kind in (AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory, AsyncMongoDBSessionRepository):
    asynchronous(_kind)
for _face in (MongoDBSessionManager, MongoDBSessionManagerFactory, MongoDBSessionRepository):
    synchronous(_face)
del _kind, _face

# Imported when one of their names is asked for: they take a fifth of the package's own import, and few notify AWS.
_LATER = {
    name: f"{__name__}.hooks.{module}"
    for module, names in {
        "feedback_sns": ("FeedbackSNSHook", "create_feedback_sns_hook", "is_feedback_sns_hook_available"),
        "metadata_sqs": ("MetadataSQSHook", "create_metadata_sqs_hook", "is_metadata_sqs_hook_available"),
        "metadata_websocket": (
            "MetadataWebSocketHook",
            "create_metadata_websocket_hook",
            "is_metadata_websocket_hook_available",
        ),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(globals() | _LATER)
