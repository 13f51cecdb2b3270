"""A new lifecycle event of Strands is noticed: the manager registers it, or it is on the list of those it ignores."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest
from strands import bidi, hooks
from strands.bidi import hooks as bidi_hooks
from strands.hooks import BaseHookEvent, HookEvent, HookRegistry
from strands.session import SnapshotSessionManager
from strands.storage import InMemoryStorage

from mongodb_session_manager import AsyncMongoDBSessionManager

IGNORED = {
    "AfterToolCallEvent": "the results become a message, which has its own event",
    "AfterToolsEvent": "likewise",
    "BeforeModelCallEvent": "nothing has changed yet",
    "BeforeMultiAgentInvocationEvent": "state is restored when the graph or swarm is built",
    "BeforeNodeCallEvent": "nothing has changed yet",
    "BeforeToolCallEvent": "nothing has changed yet",
    "BeforeToolsEvent": "nothing has changed yet",
    "BidiAfterConnectionRestartEvent": "what there was is stored before the restart",
    "BidiBargeInEvent": "the transcript that it cuts short has its own events",
    "BidiResponseStopEvent": "the messages of the response have their own events",
}
"""Events that change nothing that is stored, and why."""


class RecordingRegistry(HookRegistry):
    """Notes which events are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.events: set[str] = set()

    def add_callback(self, event_type: Any, callback: Any, **kwargs: Any) -> None:
        kinds = event_type if isinstance(event_type, list) else [event_type]
        self.events.update(kind.__name__ for kind in kinds)
        super().add_callback(event_type, callback, **kwargs)


def events_of(module: ModuleType) -> set[str]:
    found = {name for name, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, BaseHookEvent)}
    return found - {BaseHookEvent.__name__, HookEvent.__name__}


def registered_by(manager: Any) -> set[str]:
    registry = RecordingRegistry()
    manager.register_hooks(registry)
    return registry.events


@pytest.fixture
def registered() -> set[str]:
    return registered_by(AsyncMongoDBSessionManager("s-1", "mongodb://127.0.0.1:1"))


def test_every_event_is_registered_or_ignored_on_purpose(registered: set[str]) -> None:
    events = events_of(hooks) | events_of(hooks.events) | events_of(bidi_hooks) | events_of(bidi)

    assert "MessageAddedEvent" in events
    assert "BidiAgentStopEvent" in events
    assert events - registered == IGNORED.keys()


def test_every_registered_event_exists(registered: set[str]) -> None:
    assert registered <= events_of(hooks) | events_of(bidi_hooks)
    assert not registered & IGNORED.keys()


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
