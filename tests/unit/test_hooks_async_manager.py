from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from logging.handlers import QueueHandler
from typing import Any

import anyio
import pytest

from mongodb_session_manager.hooks import Hook, apply, chain_hooks, worker
from tests.support.hooks import AsyncStore, audit_hook, passed_on

DEADLOCK_S = 120


def plain(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return passed_on(original_func, kwargs)


async def awaited(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return await passed_on(original_func, kwargs)


def by_keyword(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    return original_func(**kwargs)


class AsyncCallable:
    async def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        return await passed_on(original_func, kwargs)


def wrapped(hook: Hook) -> Hook:
    """Hide a coroutine function behind a plain one, as decorators do."""

    @functools.wraps(hook)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs)

    return wrapper


@pytest.fixture
def library_log() -> Iterator[queue.Queue[logging.LogRecord]]:
    """Log records of the library, from whatever thread, to wait for."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = QueueHandler(records)
    library = logging.getLogger("mongodb_session_manager")
    library.addHandler(handler)
    yield records
    library.removeHandler(handler)


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLOCK_S)


async def test_without_hooks_the_operation_runs_directly() -> None:
    given: dict[str, Any] = {"a": 1}

    async def operation(metadata: dict[str, Any]) -> tuple[bool, str]:
        return metadata is given, threading.current_thread().name

    without: tuple[Any, ...] = (None, [], chain_hooks())
    for hooks in without:
        assert await apply(hooks, operation, "update", "s1", metadata=given) == (
            True,
            threading.current_thread().name,
        )


@pytest.mark.parametrize(
    "hook",
    [
        plain,
        awaited,
        by_keyword,
        AsyncCallable(),
        functools.partial(awaited),
        functools.partial(plain),
        functools.partial(AsyncCallable()),
        wrapped(awaited),
        wrapped(plain),
    ],
    ids=["plain", "async", "by-keyword", "object", "partial", "plain-partial", "partial-object", "wrapped", "w-plain"],
)
async def test_every_kind_of_hook_runs_every_action(hook: Hook) -> None:
    manager = AsyncStore(hook)

    await manager.update_metadata({"a": 1, "b": 2})
    await manager.delete_metadata(["b"])
    await manager.add_feedback({"rating": "up"})

    assert await manager.get_metadata() == {"metadata": {"a": 1}}
    assert manager.stored.feedbacks == [{"rating": "up"}]
    assert manager.stored.calls == ["update", "delete", "add", "get"]


@pytest.mark.parametrize("inner", [plain, awaited, wrapped(awaited)], ids=["plain", "async", "wrapped"])
@pytest.mark.parametrize("outer", [plain, awaited, wrapped(awaited)], ids=["plain", "async", "wrapped"])
async def test_hidden_coroutines_nest_with_the_others(outer: Hook, inner: Hook) -> None:
    manager = AsyncStore([outer, inner])

    async with asyncio.timeout(DEADLOCK_S):
        await manager.update_metadata({"a": 1})

        assert await manager.get_metadata() == {"metadata": {"a": 1}}


@pytest.mark.parametrize("hook", [plain, awaited, wrapped(awaited)], ids=["plain", "async", "wrapped"])
async def test_no_hook_blocks_the_loop(hook: Hook) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def operation(metadata: dict[str, Any]) -> str:
        entered.set()
        await release.wait()
        return "stored"

    update = asyncio.create_task(apply([hook, hook], operation, "update", "s1", metadata={}))
    await asyncio.wait_for(entered.wait(), DEADLOCK_S)
    release.set()

    assert await asyncio.wait_for(update, DEADLOCK_S) == "stored"


async def test_the_result_is_what_the_hook_returns() -> None:
    def replaced(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        passed_on(original_func, kwargs)
        return "replaced"

    async def forgets_to_await(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        return passed_on(original_func, kwargs)

    assert await AsyncStore(replaced).get_metadata() == "replaced"
    assert await AsyncStore(forgets_to_await).get_metadata() == {"metadata": {}}


async def test_nothing_is_stored_unless_the_hook_calls_the_original() -> None:
    manager = AsyncStore(lambda original_func, action, session_id, **kwargs: "refused")

    assert await manager.update_metadata({"a": 1}) == "refused"
    assert manager.stored.calls == []


class CustomError(Exception):
    pass


def raising(*, after: bool, is_async: bool) -> Hook:
    def sync_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if after:
            passed_on(original_func, kwargs)
        raise CustomError(action)

    async def async_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if after:
            await passed_on(original_func, kwargs)
        raise CustomError(action)

    return async_hook if is_async else sync_hook


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("outer", [None, plain, awaited], ids=["alone", "in-plain", "in-async"])
async def test_an_error_before_the_original_stores_nothing_and_one_after_does(
    is_async: bool, outer: Hook | None
) -> None:
    around = [] if outer is None else [outer]
    before = AsyncStore([*around, raising(after=False, is_async=is_async)])
    after = AsyncStore([*around, raising(after=True, is_async=is_async)])

    with pytest.raises(CustomError, match="update"):
        await before.update_metadata({"a": 1})
    with pytest.raises(CustomError, match="update"):
        await after.update_metadata({"a": 1})

    assert before.stored.metadata == {}
    assert after.stored.metadata == {"a": 1}


@pytest.mark.parametrize("hook", [plain, awaited, wrapped(awaited)], ids=["plain", "async", "wrapped"])
@pytest.mark.parametrize("error", [CustomError("x"), TimeoutError("late"), RuntimeError("other"), KeyError("k")])
async def test_the_operations_own_error_reaches_the_caller(hook: Hook, error: Exception) -> None:
    async def operation(metadata: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as raised:
        await apply([hook, hook], operation, "update", "s1", metadata={})

    assert raised.value is error


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(
    ("action", "payload", "args", "kwargs", "named"),
    [
        ("update", {"metadata": {}}, (), {}, "one argument for the action 'update': metadata"),
        ("update", {"metadata": {}}, ({}, {}), {}, "one argument"),
        ("update", {"metadata": {}}, (), {"keys": []}, "one argument"),
        ("update", {"metadata": {}}, ({},), {"metadata": {}}, "one argument"),
        ("delete", {"keys": []}, (), {"metadata": {}}, "'delete': keys"),
        ("add", {"feedback": {}}, (), {"other": {}}, "'add': feedback"),
        ("get", {}, ({},), {}, "no arguments for the action 'get'"),
        ("get", {}, (), {"keys": ["a"]}, "no arguments"),
    ],
)
async def test_a_wrong_call_of_the_original_is_a_type_error(
    is_async: bool, action: str, payload: Any, args: Any, kwargs: Any, named: str
) -> None:
    def sync_hook(original_func: Any, action: str, session_id: str, **_: Any) -> Any:
        return original_func(*args, **kwargs)

    async def async_hook(original_func: Any, action: str, session_id: str, **_: Any) -> Any:
        return await original_func(*args, **kwargs)

    async def operation(*args: Any) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match=named):
        await apply(async_hook if is_async else sync_hook, operation, action, "s1", **payload)


async def test_hooks_may_change_their_copies_of_dicts_and_lists() -> None:
    metadata, keys = {"a": 1}, ["a"]

    def changing(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "update":
            kwargs["metadata"]["added"] = True
        else:
            kwargs["keys"].append("added")
        return passed_on(original_func, kwargs)

    manager = AsyncStore(changing)
    await manager.update_metadata(metadata)

    assert manager.stored.metadata == {"a": 1, "added": True}
    await manager.delete_metadata(keys)
    assert manager.stored.metadata == {}
    assert (metadata, keys) == ({"a": 1}, ["a"])


async def test_plain_hooks_run_off_the_loop_and_neighbours_share_one_thread() -> None:
    threads: list[int] = []

    def where(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(threading.get_ident())
        return passed_on(original_func, kwargs)

    await AsyncStore([where, where, where]).get_metadata()

    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_the_session_manager_goes_to_hooks_that_name_it_only() -> None:
    given: dict[str, Any] = {}

    def names_it(original_func: Any, action: str, session_id: str, session_manager: Any = None, **kwargs: Any) -> Any:
        given["named"] = session_manager
        return passed_on(original_func, kwargs)

    async def keyword_only(
        original_func: Any, action: str, session_id: str, *, feedback: Any, session_manager: Any
    ) -> Any:
        given["keyword"] = session_manager
        return await original_func(feedback)

    def takes_anything(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        given["anything"] = set(kwargs)
        return passed_on(original_func, kwargs)

    manager = AsyncStore([names_it, keyword_only, takes_anything])
    await manager.add_feedback({"rating": "up"})

    assert given == {"named": manager, "keyword": manager, "anything": {"feedback"}}


async def test_context_variables_reach_hooks_and_operation() -> None:
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    added: ContextVar[str] = ContextVar("added", default="none")
    seen: list[str] = []

    def sync_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(request_id.get())
        added.set("by the plain hook")
        return passed_on(original_func, kwargs)

    async def async_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(f"{request_id.get()}, {added.get()}")
        return await passed_on(original_func, kwargs)

    async def operation() -> None:
        seen.append(f"{request_id.get()}, {added.get()}")

    request_id.set("r1")
    await apply([sync_hook, async_hook, sync_hook], operation, "get", "s1")

    assert seen == ["r1", "r1, by the plain hook", "r1", "r1, by the plain hook"]


async def test_anyio_works_in_an_operation_that_a_plain_hook_calls() -> None:
    async def operation() -> str:
        with anyio.fail_after(DEADLOCK_S):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            return await anyio.to_thread.run_sync(lambda: "done")

    assert await apply([plain, awaited, plain], operation, "get", "s1") == "done"


@pytest.mark.parametrize("kinds", ["sss", "sas", "asa", "sasas", "wsw"])
async def test_a_hundred_concurrent_updates_finish(kinds: str) -> None:
    kind = {"s": plain, "a": awaited, "w": wrapped(awaited)}
    manager = AsyncStore([kind[letter] for letter in kinds])

    async with asyncio.timeout(DEADLOCK_S):
        await asyncio.gather(*(manager.update_metadata({f"field_{number}": number}) for number in range(100)))

    assert manager.stored.metadata == {f"field_{number}": number for number in range(100)}


async def test_updates_finish_while_all_of_anyios_default_tokens_wait_for_them() -> None:
    manager = AsyncStore(plain)
    tokens = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    everybody_is_in = threading.Barrier(tokens)

    def endpoint(number: int) -> None:
        everybody_is_in.wait(timeout=DEADLOCK_S)
        anyio.from_thread.run(manager.update_metadata, {f"field_{number}": number})

    with anyio.fail_after(DEADLOCK_S):
        async with anyio.create_task_group() as group:
            for number in range(tokens):
                group.start_soon(anyio.to_thread.run_sync, endpoint, number)

    assert len(manager.stored.metadata) == tokens


async def test_hooks_that_call_the_manager_again_finish_a_hundred_at_a_time() -> None:
    loop = asyncio.get_running_loop()
    inner = AsyncStore(plain)

    def calls_again(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        asyncio.run_coroutine_threadsafe(inner.update_metadata(kwargs["metadata"]), loop).result(DEADLOCK_S)
        return passed_on(original_func, kwargs)

    manager = AsyncStore(calls_again)
    async with asyncio.timeout(DEADLOCK_S):
        await asyncio.gather(*(manager.update_metadata({str(number): number}) for number in range(100)))

    assert len(inner.stored.metadata) == len(manager.stored.metadata) == 100


class HeldStore:
    """An operation that tells when it has started and finishes when it may."""

    def __init__(self) -> None:
        self.started, self.release = asyncio.Event(), asyncio.Event()
        self.finished = False

    async def operation(self, metadata: dict[str, Any]) -> None:
        self.started.set()
        await self.release.wait()
        self.finished = True


@pytest.mark.parametrize("hooks", [[plain], [plain, plain], [plain, awaited, plain]], ids=["one", "two", "mixed"])
async def test_an_operation_that_a_thread_started_finishes_after_the_caller_was_cancelled(hooks: list[Hook]) -> None:
    store, left = HeldStore(), threading.Event()

    def outermost(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        try:
            return passed_on(original_func, kwargs)
        finally:
            left.set()

    update = asyncio.create_task(apply([outermost, *hooks], store.operation, "update", "s1", metadata={}))
    await store.started.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    assert not store.finished

    store.release.set()
    await happened(left)
    assert store.finished


async def test_an_operation_finishes_after_an_anyio_scope_was_cancelled() -> None:
    store, left = HeldStore(), threading.Event()

    def outermost(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        try:
            return passed_on(original_func, kwargs)
        finally:
            left.set()

    async with anyio.create_task_group() as group:

        async def update() -> None:
            await apply(outermost, store.operation, "update", "s1", metadata={})

        group.start_soon(update)
        await store.started.wait()
        group.cancel_scope.cancel()

    assert not store.finished
    store.release.set()
    await happened(left)
    assert store.finished


async def test_an_operation_that_was_not_started_is_refused_after_cancellation() -> None:
    manager = AsyncStore()
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    outcome: list[BaseException] = []

    def slow(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        inside.set()
        go_on.wait(DEADLOCK_S)
        try:
            return passed_on(original_func, kwargs)
        except BaseException as error:
            outcome.append(error)
            raise
        finally:
            done.set()

    manager.hooks = slow
    update = asyncio.create_task(manager.update_metadata({"a": 1}))
    await happened(inside)
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    go_on.set()
    await happened(done)

    assert isinstance(outcome[0], asyncio.CancelledError)
    assert manager.stored.calls == []


async def test_a_hook_that_fails_after_its_caller_left_is_logged_without_its_text(
    library_log: queue.Queue[logging.LogRecord],
) -> None:
    store = HeldStore()

    def fails(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        passed_on(original_func, kwargs)
        raise CustomError("the content")

    update = asyncio.create_task(apply(fails, store.operation, "update", "s1", metadata={}))
    await store.started.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    store.release.set()
    record = await asyncio.to_thread(library_log.get, timeout=DEADLOCK_S)

    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "session_id=<'s1'>, action=<update>, error=<CustomError> | hook failed after its caller was cancelled"
    )


def test_a_thread_does_not_wait_for_a_loop_that_ended() -> None:
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    outcome: list[BaseException] = []

    def slow(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        inside.set()
        go_on.wait(DEADLOCK_S)
        try:
            return passed_on(original_func, kwargs)
        except BaseException as error:
            outcome.append(error)
            raise
        finally:
            done.set()

    async def cancelled() -> None:
        update = asyncio.create_task(AsyncStore(slow).update_metadata({"a": 1}))
        await happened(inside)
        update.cancel()

    asyncio.run(cancelled())
    go_on.set()

    assert done.wait(DEADLOCK_S)
    assert isinstance(outcome[0], RuntimeError)


def test_a_thread_that_waits_when_its_loop_ends_is_let_go() -> None:
    done = threading.Event()
    outcome: list[BaseException] = []

    def waits(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        try:
            return passed_on(original_func, kwargs)
        except BaseException as error:
            outcome.append(error)
            raise
        finally:
            done.set()

    async def left() -> None:
        store = HeldStore()
        update = asyncio.create_task(apply(waits, store.operation, "update", "s1", metadata={}))
        await store.started.wait()
        update.cancel()

    asyncio.run(left())

    assert done.wait(DEADLOCK_S)
    assert isinstance(outcome[0], asyncio.CancelledError)


def test_a_thread_is_let_go_when_its_loop_drops_what_was_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOP_CHECK_S", 0.01)
    loop, scheduled = asyncio.new_event_loop(), threading.Event()
    schedule = loop.call_soon_threadsafe

    def signalling(*args: Any, **kwargs: Any) -> Any:
        handle = schedule(*args, **kwargs)
        scheduled.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", signalling)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(worker.LoopBridge(loop).call, HeldStore().operation, {})
        assert scheduled.wait(DEADLOCK_S)
        loop.close()

        with pytest.raises(RuntimeError, match="the event loop ended"):
            waiting.result(DEADLOCK_S)


def test_one_hook_serves_one_event_loop_after_another() -> None:
    manager = AsyncStore([plain, awaited, plain])

    for number in range(3):
        asyncio.run(manager.update_metadata({str(number): number}))

    assert manager.stored.metadata == {"0": 0, "1": 1, "2": 2}


async def test_a_hook_may_store_later_from_a_thread_of_its_own() -> None:
    manager = AsyncStore()
    wake, written = threading.Event(), threading.Event()

    def write_behind(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        def later() -> None:
            wake.wait(DEADLOCK_S)
            original_func(kwargs["metadata"])
            written.set()

        threading.Thread(target=later, daemon=True).start()
        return "soon"

    manager.hooks = write_behind
    assert await manager.update_metadata({"a": 1}) == "soon"
    assert manager.stored.metadata == {}
    wake.set()
    await happened(written)
    assert manager.stored.metadata == {"a": 1}


async def test_a_plain_hook_may_retry_the_original() -> None:
    attempts = 0

    async def operation(metadata: dict[str, Any]) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ConnectionError
        return f"stored after {attempts}"

    def retrying(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        while True:
            try:
                return passed_on(original_func, kwargs)
            except ConnectionError:
                continue

    assert await apply([audit_hook, retrying], operation, "update", "s1", metadata={}) == "stored after 3"
