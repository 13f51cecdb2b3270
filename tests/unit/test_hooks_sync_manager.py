from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from mongodb_session_manager.hooks import Hook, apply_blocking, chain_hooks
from tests.fixtures.waiting import WAIT_S
from tests.support.hooks import BlockingStore, ExternalSyncHook, a_portal, passed_on


def plain(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return passed_on(original_func, kwargs)


async def awaited(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return await passed_on(original_func, kwargs)


def hidden(*args: Any, **kwargs: Any) -> Any:
    return awaited(*args, **kwargs)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with a_portal() as portal:
        yield portal


def refuse_async(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise AssertionError("nothing here needs a loop")


def test_without_hooks_the_operation_gets_the_callers_own_dict_in_the_callers_thread() -> None:
    given: dict[str, Any] = {}

    def operation(metadata: dict[str, Any]) -> tuple[bool, int]:
        return metadata is given, threading.get_ident()

    without: tuple[Any, ...] = (None, [], chain_hooks())
    for hooks in without:
        result = apply_blocking(hooks, operation, "update", "s1", call_async=refuse_async, metadata=given)
        assert result == (True, threading.get_ident())


def test_plain_hooks_and_the_operation_run_in_the_callers_thread_without_a_loop() -> None:
    threads: list[int] = []

    def where(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        threads.append(threading.get_ident())
        return passed_on(original_func, kwargs)

    def operation() -> str:
        threads.append(threading.get_ident())
        return "all"

    assert apply_blocking([where, where], operation, "get", "s1", call_async=refuse_async) == "all"
    assert threads == [threading.get_ident()] * 3


@pytest.mark.parametrize(
    "hook",
    [plain, awaited, hidden, functools.partial(awaited), functools.partial(hidden)],
    ids=["plain", "async", "hidden", "partial", "partial-hidden"],
)
@pytest.mark.parametrize("inner", [None, plain, awaited, hidden], ids=["alone", "plain", "async", "hidden"])
def test_every_kind_of_hook_runs_every_action(portal: BlockingPortal, hook: Hook, inner: Hook | None) -> None:
    manager = BlockingStore(portal, [hook] if inner is None else [hook, inner])

    manager.update_metadata({"a": 1, "b": 2})
    manager.delete_metadata(["b"])
    manager.add_feedback({"rating": "up"})

    assert manager.get_metadata() == {"metadata": {"a": 1}}
    assert manager.stored.feedbacks == [{"rating": "up"}]
    assert manager.stored.calls == ["update", "delete", "add", "get"]


@pytest.mark.parametrize("hook", [plain, awaited], ids=["plain", "async"])
def test_the_original_takes_its_argument_by_keyword(portal: BlockingPortal, hook: Hook) -> None:
    def by_keyword(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        return original_func(**kwargs)

    manager = BlockingStore(portal, [by_keyword, hook])
    manager.update_metadata({"a": 1})

    assert manager.get_metadata() == {"metadata": {"a": 1}}


@pytest.mark.parametrize("call", [lambda original: original(), lambda original: original(keys=[])])
def test_a_wrong_call_of_the_original_is_a_type_error(portal: BlockingPortal, call: Callable[[Any], Any]) -> None:
    manager = BlockingStore(portal, lambda original_func, action, session_id, **kwargs: call(original_func))

    with pytest.raises(TypeError, match="one argument for the action 'update': metadata"):
        manager.update_metadata({"a": 1})

    assert manager.stored.calls == []


def test_an_async_hook_leaves_the_librarys_loop_free_while_the_rest_blocks(portal: BlockingPortal) -> None:
    release, entered = threading.Event(), threading.Event()

    def blocking_operation(metadata: dict[str, Any]) -> str:
        entered.set()
        assert release.wait(WAIT_S)
        return "stored"

    async def answer() -> str:
        return "the loop answers"

    with ThreadPoolExecutor(1) as executor:
        update = executor.submit(
            apply_blocking,
            [awaited, plain],
            blocking_operation,
            "update",
            "s1",
            call_async=BlockingStore(portal).call_async,
            metadata={},
        )
        assert entered.wait(WAIT_S)
        assert portal.call(answer) == "the loop answers"
        release.set()
        assert update.result(WAIT_S) == "stored"


class CustomError(Exception):
    pass


@pytest.mark.parametrize("outer", [None, plain, awaited, hidden], ids=["alone", "in-plain", "in-async", "in-hidden"])
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_an_error_before_the_original_stores_nothing_and_one_after_does(
    portal: BlockingPortal, outer: Hook | None, is_async: bool
) -> None:
    def sync_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "delete":
            passed_on(original_func, kwargs)
        raise CustomError(action)

    async def async_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "delete":
            await passed_on(original_func, kwargs)
        raise CustomError(action)

    inner = async_hook if is_async else sync_hook
    manager = BlockingStore(portal, [inner] if outer is None else [outer, inner])

    with pytest.raises(CustomError, match="update"):
        manager.update_metadata({"a": 1})
    with pytest.raises(CustomError, match="delete"):
        manager.delete_metadata(["a"])

    assert manager.stored.calls == ["delete"]


def test_the_callers_dict_stays_as_it_was(portal: BlockingPortal) -> None:
    given = {"a": 1}

    def adding(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        kwargs["metadata"]["added"] = True
        return passed_on(original_func, kwargs)

    manager = BlockingStore(portal, [adding, awaited])
    manager.update_metadata(given)

    assert given == {"a": 1}
    assert manager.stored.metadata == {"a": 1, "added": True}


def test_the_session_manager_goes_to_hooks_that_name_it_only(portal: BlockingPortal) -> None:
    given: dict[str, Any] = {}

    async def names_it(original_func: Any, action: str, session_id: str, session_manager: Any, **kwargs: Any) -> Any:
        given["named"] = session_manager
        return await passed_on(original_func, kwargs)

    def takes_anything(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        given["anything"] = set(kwargs)
        return passed_on(original_func, kwargs)

    manager = BlockingStore(portal, [names_it, takes_anything])
    manager.add_feedback({"rating": "up"})

    assert given == {"named": manager, "anything": {"feedback"}}


def test_context_variables_reach_every_hook(portal: BlockingPortal) -> None:
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    seen: list[str] = []

    async def async_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(request_id.get())
        return await passed_on(original_func, kwargs)

    def sync_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(request_id.get())
        return passed_on(original_func, kwargs)

    request_id.set("r1")
    BlockingStore(portal, [sync_hook, async_hook, sync_hook]).get_metadata()

    assert seen == ["r1", "r1", "r1"]


@pytest.mark.parametrize("kinds", ["sss", "sas", "asa", "asasa", "hsh"])
def test_a_hundred_threads_updating_at_once_finish(portal: BlockingPortal, kinds: str) -> None:
    kind = {"s": plain, "a": awaited, "h": hidden}
    manager = BlockingStore(portal, [kind[letter] for letter in kinds])
    together = threading.Barrier(100)

    def update(number: int) -> None:
        together.wait(WAIT_S)
        manager.update_metadata({f"field_{number}": number})

    with ThreadPoolExecutor(100) as executor:
        for done in [executor.submit(update, number) for number in range(100)]:
            done.result(timeout=WAIT_S)

    assert manager.stored.metadata == {f"field_{number}": number for number in range(100)}


async def test_a_plain_hook_sees_the_loop_of_an_async_caller(portal: BlockingPortal) -> None:
    hook = ExternalSyncHook()

    BlockingStore(portal, hook).update_metadata({"status": "processing"})
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert hook.ways == ["task"]
    assert hook.sent == [("update", {"status": "processing"})]


async def test_a_task_that_a_hook_returns_belongs_to_its_own_loop_and_is_handed_on(portal: BlockingPortal) -> None:
    async def notify() -> str:
        return "notified"

    def returns_task(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        passed_on(original_func, kwargs)
        return asyncio.get_running_loop().create_task(notify())

    manager = BlockingStore(portal, returns_task)

    assert await manager.update_metadata({"a": 1}) == "notified"
    assert manager.stored.metadata == {"a": 1}
