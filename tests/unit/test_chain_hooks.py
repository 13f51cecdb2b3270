from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from mongodb_session_manager.hooks import Hook, chain_hooks, flatten
from tests.fixtures.waiting import WAIT_S
from tests.support.hooks import (
    SESSION_ID,
    AnalyticsHook,
    AnyFace,
    ExternalSyncHook,
    MetadataCacheHook,
    NotificationHook,
    a_portal,
    audit_hook,
    feedback_validation_hook,
    passed_on,
    validation_hook,
)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with a_portal() as portal:
        yield portal


@pytest.fixture(params=["async", "sync"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def recording(name: str, seen: list[str], *, is_async: bool = False) -> Hook:
    def plain(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(f"{name} before {action}")
        result = passed_on(original_func, kwargs)
        seen.append(f"{name} after {action}")
        return result

    async def awaited(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(f"{name} before {action}")
        result = await passed_on(original_func, kwargs)
        seen.append(f"{name} after {action}")
        return result

    return awaited if is_async else plain


def test_flatten_gives_the_single_hooks_in_order() -> None:
    first, second, third = (recording(str(number), []) for number in range(3))

    assert flatten(None) == ()
    assert flatten(first) == (first,)
    assert flatten([first, second]) == (first, second)
    assert flatten((first,)) == (first,)
    assert flatten([]) == ()
    assert flatten([first, chain_hooks(second, third)]) == (first, second, third)
    assert flatten(chain_hooks(chain_hooks(first), second)) == (first, second)
    assert flatten(chain_hooks()) == ()


def test_what_is_no_hook_is_refused_by_its_type_and_never_shown() -> None:
    with pytest.raises(TypeError, match=r"of type str") as refused:
        flatten("mongodb://user:secret@host")  # type: ignore[arg-type]

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (5, "of type int"),
        ([audit_hook, {"a": 1}], "of type dict"),
        ([audit_hook, None], "got None"),
        (MetadataCacheHook, "the class MetadataCacheHook"),
        ({"hook": audit_hook}, "of type dict"),
    ],
)
def test_type_error_names_what_is_no_hook(given: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        flatten(given)


def test_chain_hooks_refuses_none() -> None:
    with pytest.raises(TypeError, match="None"):
        chain_hooks(audit_hook, None)  # type: ignore[arg-type]


def test_first_hook_is_outermost_for_every_action(portal: BlockingPortal, face: str) -> None:
    seen: list[str] = []
    manager = AnyFace(portal, face, chain_hooks(recording("outer", seen), recording("inner", seen)))

    manager.call("update_metadata", {"a": 1})
    manager.call("get_metadata")
    manager.call("delete_metadata", ["a"])
    manager.call("add_feedback", {"rating": "up"})

    expected = []
    for action in ("update", "get", "delete", "add"):
        expected += [f"outer before {action}", f"inner before {action}"]
        expected += [f"inner after {action}", f"outer after {action}"]
    assert seen == expected
    assert manager.stored.calls == ["update", "get", "delete", "add"]


@pytest.mark.parametrize(
    "kinds", ["sa", "as", "sas", "asa", "ssaas", "aassa", "aaa", "sss"], ids=lambda kinds: f"mixed-{kinds}"
)
def test_mixed_chains_nest_in_order(portal: BlockingPortal, face: str, kinds: str) -> None:
    seen: list[str] = []
    hooks = [recording(str(place), seen, is_async=kind == "a") for place, kind in enumerate(kinds)]
    manager = AnyFace(portal, face, chain_hooks(*hooks))

    manager.call("update_metadata", {"a": 1})
    result = manager.call("get_metadata")

    assert result == {"metadata": {"a": 1}}
    for action in ("update", "get"):
        order = [line for line in seen if line.endswith(action)]
        places = range(len(kinds))
        assert order == [f"{place} before {action}" for place in places] + [
            f"{place} after {action}" for place in reversed(places)
        ]


def test_a_list_of_hooks_is_a_chain(portal: BlockingPortal, face: str) -> None:
    seen: list[str] = []
    manager = AnyFace(portal, face, [recording("outer", seen, is_async=True), chain_hooks(recording("inner", seen))])

    manager.call("update_metadata", {"a": 1})

    assert seen == ["outer before update", "inner before update", "inner after update", "outer after update"]


def test_audit_and_validation_log_in_the_documented_order(
    portal: BlockingPortal, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = AnyFace(portal, face, chain_hooks(audit_hook, validation_hook))

    with caplog.at_level(logging.INFO, logger="hooks"):
        manager.call("update_metadata", {"user_action": "login", "ip_address": "192.168.1.1"})

    assert [record.getMessage() for record in caplog.records if record.name == "hooks"] == [
        "[AUDIT] update on session combined-hooks-session",
        '[AUDIT] Data: {"user_action": "login", "ip_address": "192.168.1.1"}',
        "[VALIDATION] Validated for combined-hooks-session",
        "[AUDIT] update completed",
    ]
    assert list(manager.call("get_metadata")["metadata"]) == ["user_action", "ip_address", "last_updated", "updated_by"]


def test_validation_hook_refuses_and_nothing_is_stored(portal: BlockingPortal, face: str) -> None:
    manager = AnyFace(portal, face, chain_hooks(audit_hook, validation_hook))

    with pytest.raises(ValueError, match="Cannot update protected field: _id"):
        manager.call("update_metadata", {"_id": "cannot-change-this"})
    with pytest.raises(ValueError, match="Cannot delete protected fields"):
        manager.call("delete_metadata", ["created_at"])

    assert manager.stored.calls == []


def test_fields_that_a_hook_adds_are_stored_and_leave_the_callers_dict_alone(portal: BlockingPortal, face: str) -> None:
    manager = AnyFace(portal, face, validation_hook)
    given = {"user_name": "Alice"}

    manager.call("update_metadata", given)

    assert given == {"user_name": "Alice"}
    assert manager.stored.metadata["updated_by"] == "system"


def test_cache_hook_answers_reads_until_the_next_write(portal: BlockingPortal, face: str) -> None:
    manager = AnyFace(portal, face, MetadataCacheHook())

    manager.call("update_metadata", {"data": "initial"})
    first, second = manager.call("get_metadata"), manager.call("get_metadata")
    manager.call("update_metadata", {"data": "updated"})
    third = manager.call("get_metadata")

    assert first == second == {"metadata": {"data": "initial"}}
    assert third == {"metadata": {"data": "updated"}}
    assert manager.stored.calls == ["update", "get", "update", "get"]


def test_external_sync_hook_finds_no_running_loop_and_uses_its_thread(portal: BlockingPortal, face: str) -> None:
    hook = ExternalSyncHook()
    manager = AnyFace(portal, face, hook)

    manager.call("update_metadata", {"status": "processing"})
    assert hook.arrived.acquire(timeout=WAIT_S)
    manager.call("delete_metadata", ["status"])
    assert hook.arrived.acquire(timeout=WAIT_S)

    assert hook.ways == ["thread", "thread"]
    assert hook.sent == [("update", {"status": "processing"}), ("delete", {"status": None})]


def test_notification_analytics_and_validation_combine_on_feedback(portal: BlockingPortal, face: str) -> None:
    notification, analytics = NotificationHook(), AnalyticsHook()
    manager = AnyFace(portal, face, chain_hooks(notification, analytics, feedback_validation_hook))

    manager.call("add_feedback", {"rating": "down", "comment": "too slow"})
    with pytest.raises(ValueError, match="provide a comment"):
        manager.call("add_feedback", {"rating": "down"})

    assert notification.alerts == [f"Negative feedback on session {SESSION_ID}: too slow"]
    assert analytics.tracked == [{"rating": "down", "has_comment": True}]
    assert manager.stored.feedbacks == [{"rating": "down", "comment": "too slow"}]


def test_a_chain_is_a_plain_hook_for_plain_functions() -> None:
    seen: list[str] = []
    chain = chain_hooks(recording("outer", seen), recording("inner", seen))

    result = chain(lambda metadata: metadata | {"stored": True}, "update", "s1", metadata={"a": 1})

    assert result == {"a": 1, "stored": True}
    assert seen == ["outer before update", "inner before update", "inner after update", "outer after update"]


def test_an_empty_chain_calls_the_original() -> None:
    assert chain_hooks()(lambda keys: keys, "delete", "s1", keys=["a"]) == ["a"]
    assert chain_hooks()(lambda: "all", "get", "s1") == "all"


async def test_a_chain_called_with_a_coroutine_function_is_awaited_and_may_be_mixed() -> None:
    seen: list[str] = []
    chain = chain_hooks(recording("plain", seen), recording("async", seen, is_async=True))

    async def original(metadata: dict[str, Any]) -> str:
        return f"stored {metadata}"

    assert await chain(original, "update", "s1", metadata={"a": 1}) == "stored {'a': 1}"
    assert seen == ["plain before update", "async before update", "async after update", "plain after update"]


def test_a_chain_with_an_async_hook_refuses_a_plain_original_before_anything_runs() -> None:
    seen: list[str] = []
    chain = chain_hooks(recording("plain", seen), recording("async", seen, is_async=True))

    with pytest.raises(TypeError, match="async hook awaited"):
        chain(lambda metadata: None, "update", "s1", metadata={})

    assert seen == []


def test_a_hook_of_the_user_may_wrap_a_chain(portal: BlockingPortal, face: str) -> None:
    seen: list[str] = []
    chain = chain_hooks(recording("outer", seen), recording("inner", seen))

    def only_updates(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "update":
            return chain(original_func, action, session_id, **kwargs)
        return passed_on(original_func, kwargs)

    manager = AnyFace(portal, face, only_updates)
    manager.call("update_metadata", {"a": 1})

    assert manager.call("get_metadata") == {"metadata": {"a": 1}}
    assert seen == ["outer before update", "inner before update", "inner after update", "outer after update"]


def test_a_partial_chain_gets_and_passes_on_the_session_manager(portal: BlockingPortal, face: str) -> None:
    given: list[Any] = []

    def asks(original_func: Any, action: str, session_id: str, feedback: Any, session_manager: Any) -> Any:
        given.append(session_manager)
        return original_func(feedback)

    manager = AnyFace(portal, face, functools.partial(chain_hooks(asks)))
    manager.call("add_feedback", {"rating": "up"})

    assert re.search("Store", type(given[0]).__name__)
    assert manager.stored.feedbacks == [{"rating": "up"}]


def test_an_operation_takes_one_payload_only() -> None:
    with pytest.raises(TypeError, match="at most one of metadata, keys and feedback, got metadata, keys"):
        chain_hooks(audit_hook)(lambda: None, "update", "s1", metadata={}, keys=[])


def test_repr_of_a_chain_shows_no_hook() -> None:
    assert repr(chain_hooks(audit_hook, validation_hook)) == "<chain of 2 hooks>"
