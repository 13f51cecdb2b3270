"""What a new version of Strands adds is noticed: a lifecycle event, or a method of what the package implements.

Each is registered or implemented, or it stands on a list of what is left alone on purpose.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import strands
from strands.hooks import BaseHookEvent, HookEvent, HookRegistry
from strands.session import RepositorySessionManager, SessionManager, SessionRepository, SnapshotSessionManager
from strands.storage import InMemoryStorage, Storage

import mongodb_session_manager
from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    MongoDBSessionManager,
    MongoDBSessionRepository,
    MongoDBStorage,
)

IGNORED = {
    "AfterToolCallEvent": "the results become a message, which has its own event",
    "AfterToolsEvent": "likewise",
    "BeforeNodeCallEvent": "nothing has changed yet",
    "BeforeToolCallEvent": "nothing has changed yet",
    "BeforeToolsEvent": "nothing has changed yet",
    "BidiAfterConnectionRestartEvent": "what there was is stored before the restart",
    "BidiBargeInEvent": "the transcript that it cuts short has its own events",
    "BidiResponseStopEvent": "the messages of the response have their own events",
}
"""Events that change nothing that is stored, and why."""


NOT_IMPLEMENTED: dict[tuple[type, str], str] = {}
"""Public methods of Strands' contracts that are inherited as they are, and why."""

CONTRACTS = [
    (SessionManager, AsyncMongoDBSessionManager),
    (SessionManager, MongoDBSessionManager),
    (RepositorySessionManager, AsyncMongoDBSessionManager),
    (RepositorySessionManager, MongoDBSessionManager),
    (SessionRepository, MongoDBSessionRepository),
    (Storage, MongoDBStorage),
]


class RecordingRegistry(HookRegistry):
    """Notes which events are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.events: set[str] = set()

    def add_callback(self, event_type: Any, callback: Any, **kwargs: Any) -> None:
        kinds = event_type if isinstance(event_type, list) else [event_type]
        self.events.update(kind.__name__ for kind in kinds)
        super().add_callback(event_type, callback, **kwargs)


def all_events() -> dict[str, type[BaseHookEvent]]:
    """Return every public event that Strands defines anywhere, agents of all kinds and graphs included."""
    for module in pkgutil.walk_packages(strands.__path__, "strands.", onerror=lambda _: None):
        if module.name.rpartition(".")[2] in ("hooks", "events"):
            importlib.import_module(module.name)
    found = {kind.__name__: kind for kind in _descendants(BaseHookEvent) if kind.__module__.startswith("strands.")}
    return {name: kind for name, kind in found.items() if not name.startswith("_") and kind is not HookEvent}


def _descendants(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _descendants(child)


def unknown_events(registered: set[str]) -> set[str]:
    return all_events().keys() - registered - IGNORED.keys()


def not_implemented(contract: type, implementation: type) -> set[str]:
    """Return the public methods of a contract that no class of this package defines for the implementation."""
    ours = [kind for kind in implementation.__mro__ if kind.__module__.startswith(mongodb_session_manager.__name__)]
    names = {name for name, value in inspect.getmembers(contract, callable) if not name.startswith("_")}
    return {name for name in names if not any(name in vars(kind) for kind in ours)}


def registered_by(manager: Any) -> set[str]:
    registry = RecordingRegistry()
    manager.register_hooks(registry)
    return registry.events


@pytest.fixture
def registered() -> set[str]:
    return registered_by(AsyncMongoDBSessionManager("s-1", "mongodb://127.0.0.1:1"))


def test_every_event_is_registered_or_ignored_on_purpose(registered: set[str]) -> None:
    events = all_events().keys()

    assert {"MessageAddedEvent", "AfterNodeCallEvent", "BidiAgentStopEvent"} <= events
    assert not unknown_events(registered)
    assert IGNORED.keys() <= events, "an event that is gone needs no reason to be ignored"


@pytest.mark.parametrize("module", ["strands.hooks.events", "strands.bidi.hooks.events", "strands.multiagent.events"])
def test_a_new_event_is_noticed(registered: set[str], module: str) -> None:
    event = type("SomethingNewEvent", (BaseHookEvent,), {"__module__": module})

    assert unknown_events(registered) == {event.__name__}

    # A class is known to its bases until it is collected.
    del event
    gc.collect()
    assert not unknown_events(registered)


def test_every_registered_event_exists(registered: set[str]) -> None:
    assert registered <= all_events().keys()
    assert not registered & IGNORED.keys()


@pytest.mark.parametrize(("contract", "implementation"), CONTRACTS)
def test_every_method_of_a_contract_is_implemented(contract: type, implementation: type) -> None:
    missing = {(contract, name) for name in not_implemented(contract, implementation)}

    assert missing == {ignored for ignored in NOT_IMPLEMENTED if ignored[0] is contract}
    assert not inspect.isabstract(implementation)


def test_a_new_method_of_a_contract_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the methods for graphs and swarms came: not abstract, and an error when they are called.
    monkeypatch.setattr(SessionRepository, "archive_session", lambda self: None, raising=False)

    assert not_implemented(SessionRepository, MongoDBSessionRepository) == {"archive_session"}


@pytest.mark.parametrize("strategy", ["message", "invocation"])
def test_whatever_strands_snapshots_register_is_registered(registered: set[str], strategy: Any) -> None:
    snapshots = SnapshotSessionManager(
        "s-1", storage=InMemoryStorage(), save_latest_on=strategy, bidi_agent_save_latest_on="message"
    )

    assert registered_by(snapshots) <= registered


def test_whatever_strands_repository_managers_register_is_registered(registered: set[str]) -> None:
    registry = RecordingRegistry()
    super(AsyncMongoDBSessionManager, AsyncMongoDBSessionManager("s-1", "mongodb://127.0.0.1:1")).register_hooks(
        registry
    )

    assert registry.events <= registered
