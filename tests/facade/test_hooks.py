"""Hooks on a synchronous manager, with the real one behind them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    chain_hooks,
    close_global_factory,
    create_mongodb_session_manager,
    initialize_global_factory,
)
from tests.facade.conftest import OpenManager
from tests.fixtures.sessions import Document, Sessions
from tests.support.agents import make_agent
from tests.support.hooks import MetadataCacheHook, audit_hook, feedback_validation_hook, passed_on, validation_hook
from tests.support.models import calls, texts

Call = tuple[str, str, dict[str, Any], str]


class Recorder:
    """Hooks of both kinds, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def _note(self, action: str, session_id: str, kwargs: dict[str, Any]) -> None:
        self.calls.append((action, session_id, kwargs, threading.current_thread().name))

    def plain(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        self._note(action, session_id, kwargs)
        return passed_on(original_func, kwargs)

    async def awaited(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        self._note(action, session_id, kwargs)
        return await passed_on(original_func, kwargs)


def use_every_action(manager: MongoDBSessionManager) -> None:
    manager.update_metadata({"a": 1, "b": 2})
    manager.delete_metadata(["b"])
    assert manager.get_metadata() == {"metadata": {"a": 1}}
    manager.add_feedback({"rating": "up"})
    assert [feedback["rating"] for feedback in manager.get_feedbacks()] == ["up"]


@pytest.mark.parametrize(
    ("kind", "thread"), [("plain", threading.main_thread().name), ("awaited", "mongodb-session-manager-loop")]
)
def test_hooks_wrap_every_action_where_they_belong(open_manager: OpenManager, kind: str, thread: str) -> None:
    recorder = Recorder()
    hook = getattr(recorder, kind)

    use_every_action(open_manager(metadata_hook=hook, feedback_hook=[hook]))

    assert recorder.calls == [
        ("update", "s-1", {"metadata": {"a": 1, "b": 2}}, thread),
        ("delete", "s-1", {"keys": ["b"]}, thread),
        ("get", "s-1", {}, thread),
        ("add", "s-1", {"feedback": {"rating": "up"}}, thread),
    ]


def test_plain_and_async_hooks_may_be_mixed(open_manager: OpenManager) -> None:
    outer, inner = Recorder(), Recorder()
    chain = chain_hooks(outer.plain, inner.awaited, inner.plain)

    use_every_action(open_manager(metadata_hook=chain, feedback_hook=[inner.awaited, outer.plain]))

    assert [action for action, *_ in outer.calls] == ["update", "delete", "get", "add"]
    assert [action for action, *_ in inner.calls] == ["update", "update", "delete", "delete", "get", "get", "add"]


def test_what_the_hook_returns_is_what_the_caller_gets(open_manager: OpenManager) -> None:
    def hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        return action, passed_on(original_func, kwargs)

    manager = open_manager(metadata_hook=hook, feedback_hook=hook)

    assert manager.update_metadata({"a": 1}) == ("update", None)
    assert manager.delete_metadata(["b"]) == ("delete", None)
    got: Any = manager.get_metadata()
    assert got == ("get", {"metadata": {"a": 1}})
    assert manager.add_feedback({"rating": "up"}) == ("add", None)
    assert open_manager().update_metadata({"a": 2}) is None


def test_a_hook_that_asks_for_it_gets_the_synchronous_manager(open_manager: OpenManager, sessions: Sessions) -> None:
    passwords: list[Any] = []

    def hook(original_func: Any, action: str, session_id: str, session_manager: Any = None, **kwargs: Any) -> Any:
        assert session_manager is manager
        passwords.append(session_manager.get_session_viewer_password())
        return passed_on(original_func, kwargs)

    manager = open_manager(feedback_hook=hook)

    manager.add_feedback({"rating": "up"})

    assert passwords == [sessions.document()["session_viewer_password"]]


def test_an_error_of_a_hook_reaches_the_caller_and_nothing_is_stored(
    open_manager: OpenManager, sessions: Sessions
) -> None:
    manager = open_manager(metadata_hook=validation_hook, feedback_hook=feedback_validation_hook)

    with pytest.raises(ValueError, match="protected field: _id"):
        manager.update_metadata({"_id": "other"})
    with pytest.raises(ValueError, match="provide a comment"):
        manager.add_feedback({"rating": "down"})

    assert sessions.document()["metadata"] == {}
    assert sessions.document()["feedbacks"] == []


def test_documented_hooks_work_together(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager(metadata_hook=[audit_hook, MetadataCacheHook(), validation_hook])
    given = {"user_action": "login"}

    manager.update_metadata(given)
    first = manager.get_metadata()
    with sessions.recorder.counting() as commands:
        assert manager.get_metadata() is first

    assert given == {"user_action": "login"}
    assert first["metadata"] | {"updated_by": None} == {
        "user_action": "login",
        "last_updated": "2024-01-26T10:00:00",
        "updated_by": None,
    }
    assert commands.names == []


def test_the_metadata_tool_goes_through_the_hooks(open_manager: OpenManager, sessions: Sessions) -> None:
    recorder = Recorder()
    manager = open_manager(metadata_hook=recorder.plain)
    tool = manager.get_metadata_tool()

    assert tool(action="get") == "No metadata stored in session"
    assert tool(action="set", metadata={"priority": "high"}) == "Successfully updated metadata fields: ['priority']"
    assert tool(action="get", keys=["priority"]) == 'Metadata retrieved: {"priority": "high"}'
    assert tool(action="delete", keys=["priority"]) == "Successfully deleted metadata fields: ['priority']"
    assert [action for action, *_ in recorder.calls] == ["get", "update", "get", "delete"]

    store = calls(("manage_metadata", {"action": "set", "metadata": {"theme": "dark"}}))
    agent = make_agent(manager, store, "Stored.", tools=[tool])
    agent("I like it dark.")

    assert sessions.document()["metadata"] == {"theme": "dark"}
    assert texts(agent.messages) == ["I like it dark.", "", "", "Stored."]


def by_constructor(uri: str, **hook: Any) -> MongoDBSessionManager:
    return MongoDBSessionManager("s-1", uri, **hook)


def by_function(uri: str, **hook: Any) -> MongoDBSessionManager:
    return create_mongodb_session_manager("s-1", uri, **hook)


def by_factory(uri: str, **hook: Any) -> MongoDBSessionManager:
    with MongoDBSessionManagerFactory(uri) as factory:
        return factory.create_session_manager("s-1", **hook)


def by_default_of_a_factory(uri: str, **hook: Any) -> MongoDBSessionManager:
    factory = initialize_global_factory(uri, **hook)
    manager = factory.create_session_manager("s-1")
    close_global_factory()
    return manager


@pytest.mark.parametrize("make", [by_constructor, by_function, by_factory, by_default_of_a_factory])
def test_former_names_work_and_warn_at_the_callers_line(
    sessions: Sessions, make: Callable[..., MongoDBSessionManager]
) -> None:
    recorder = Recorder()
    factory = partial(make, sessions.uri)

    with pytest.warns(DeprecationWarning, match="metadataHook is the old name of metadata_hook") as metadata_warning:
        manager = factory(metadataHook=recorder.plain)
    manager.update_metadata({"a": 1})
    manager.add_feedback({"rating": "up"})
    manager.delete_session()
    manager.close()
    with pytest.warns(DeprecationWarning, match="feedbackHook is the old name of feedback_hook") as feedback_warning:
        manager = factory(feedbackHook=recorder.plain)
    manager.add_feedback({"rating": "up"})
    manager.update_metadata({"a": 1})
    manager.delete_session()
    manager.close()

    assert [action for action, *_ in recorder.calls] == ["update", "add"]
    source, first = inspect.getsourcelines(make)
    for warning in (*metadata_warning, *feedback_warning):
        assert warning.filename == __file__
        assert "**hook" in source[warning.lineno - first]


def test_former_names_warn_at_the_callers_line_of_the_async_face(sessions: Sessions) -> None:
    hook = {"metadataHook": Recorder().plain}
    with MongoClient[Document](sessions.uri) as client:
        factory = AsyncMongoDBSessionManagerFactory(client=client)

        with pytest.warns(DeprecationWarning, match="metadataHook is the old name of metadata_hook") as warnings:
            factory.create_session_manager("s-1", **hook)  # type: ignore[arg-type]

    source, first = inspect.getsourcelines(test_former_names_warn_at_the_callers_line_of_the_async_face)
    [warning] = warnings
    assert warning.filename == __file__
    assert "**hook" in source[warning.lineno - first]


def test_both_names_of_a_hook_at_once_are_refused(sessions: Sessions) -> None:
    recorder = Recorder()
    both = {"metadata_hook": recorder.plain, "metadataHook": recorder.plain}

    with (
        pytest.warns(DeprecationWarning, match="old name"),
        pytest.raises(ValueError, match=r"^invalid [a-z_]+: it and its old name .* are both given"),
    ):
        MongoDBSessionManager("s-1", sessions.uri, **both)  # type: ignore[arg-type]
