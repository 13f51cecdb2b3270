"""The hooks that come with the library: what they refuse when they are made, and where they run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from mongodb_session_manager.hooks import CachedMetadata, Hook, audit_hook, redact_fields, validate_metadata
from tests.support.hooks import AnyFace, AsyncStore, BlockingStore, a_portal, passed_on


class Customer(BaseModel):
    name: str


@pytest.mark.parametrize("limits", [{"ttl_seconds": 0}, {"ttl_seconds": -1}, {"ttl_seconds": float("nan")}])
def test_a_time_to_live_is_greater_than_nothing(limits: Any) -> None:
    with pytest.raises(ValueError, match="invalid ttl_seconds: it must be greater than 0"):
        CachedMetadata(**limits)
    with pytest.raises(ValueError, match="invalid max_sessions: it must be greater than 0, got 0"):
        CachedMetadata(1, max_sessions=0)


def test_a_schema_is_a_model_or_a_plain_callable() -> None:
    async def checks_later(metadata: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match="got the class dict"):
        validate_metadata(dict)
    with pytest.raises(TypeError, match="got an object of Customer"):
        validate_metadata(Customer(name="Ada"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a plain function"):
        validate_metadata(checks_later)


def test_fields_to_redact_are_names() -> None:
    with pytest.raises(TypeError, match=r"such as \['email'\], not a plain string"):
        redact_fields(audit_hook, "email")
    with pytest.raises(ValueError, match=r"^invalid fields: there must be at least one"):
        redact_fields(audit_hook, [])
    with pytest.raises(ValueError, match=r"^invalid field: dots .*, got 'a\.\.b'"):
        redact_fields(audit_hook, ["a..b"])
    with pytest.raises(TypeError, match="not int"):
        redact_fields(audit_hook, [1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="invalid hook: it must be callable"):
        redact_fields("email", ["email"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "metadata"),
    [
        ("invoices.2024.card", {"invoices": {"2024": {"card": "4111"}}}),
        ("invoices.2024.card", {"invoices.2024": {"card": "4111"}}),
        ("invoices.2024.card", {"invoices": [{"card": "4111"}]}),
        ("2024.card", {"2024": {"card": "4111"}}),
        ("2024", {"invoices.2024": "4111"}),
        ("customer.home.phone", {"customer": {"home.phone": "4111"}}),
        ("phone", {"customer": {"home.phone": "4111"}}),
    ],
)
def test_a_masked_field_is_masked_however_its_names_are_written(field: str, metadata: dict[str, Any]) -> None:
    seen: list[str] = []
    hook = redact_fields(lambda original_func, action, session_id, **kwargs: seen.append(str(kwargs)), [field])

    hook(lambda metadata: None, "update", "s-1", metadata=metadata)

    assert "[redacted]" in seen[0]
    assert "4111" not in seen[0]


def test_a_session_id_cannot_begin_a_line_of_the_audit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "audit"):
        audit_hook(logging.getLogger("audit"))(dict, "get", "s-1\nsession_id=<s-2>, action=<delete>")

    assert caplog.messages[0].startswith("session_id=<'s-1\\nsession_id=<s-2>, action=<delete>'>, action=<get>")


class Recorder:
    """An inner hook of either kind, and the threads that it and the operation ran in."""

    runs_on_any_face = True

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        self.threads.append(threading.get_ident())
        return passed_on(original_func, kwargs)


def all_around(inner: Hook) -> list[Hook]:
    return [
        audit_hook(logging.getLogger("audit")),
        validate_metadata(Customer),
        CachedMetadata(60),
        redact_fields(inner, ["name"]),
    ]


async def test_on_an_event_loop_they_need_no_thread() -> None:
    inner = Recorder()
    store = AsyncStore(all_around(inner))

    await store.update_metadata({"name": "Ada"})
    assert await store.get_metadata() == await store.get_metadata() == {"metadata": {"name": "Ada"}}
    await store.delete_metadata(["name"])
    await store.add_feedback({"rating": "up"})

    assert inner.threads == [threading.get_ident()] * 4
    assert store.stored.calls == ["update", "get", "delete", "add"]


def test_without_an_event_loop_they_run_in_the_callers_thread() -> None:
    inner = Recorder()
    with a_portal() as portal:
        store = BlockingStore(portal, all_around(inner))

        store.update_metadata({"name": "Ada"})
        assert store.get_metadata() == store.get_metadata() == {"metadata": {"name": "Ada"}}

    assert inner.threads == [threading.get_ident()] * 2


async def test_a_check_of_the_users_runs_in_a_thread_beside_the_event_loop() -> None:
    threads: list[int] = []
    store = AsyncStore(validate_metadata(lambda metadata: threads.append(threading.get_ident())))

    await store.update_metadata({"name": "Ada"})

    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_write_whose_caller_was_cancelled_is_seen_by_reads_once_it_is_applied() -> None:
    started, go_on, applied = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        if action != "update":
            return await passed_on(original_func, kwargs)
        started.set()
        await go_on.wait()
        try:
            return await passed_on(original_func, kwargs)
        finally:
            applied.set()

    store = AsyncStore([CachedMetadata(60), slow])
    writing = asyncio.create_task(store.update_metadata({"a": 1}))
    await started.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await store.get_metadata() == {"metadata": {}}

    go_on.set()
    await applied.wait()

    assert await store.get_metadata() == {"metadata": {"a": 1}}


@pytest.mark.parametrize("face", ["async", "sync"])
def test_a_failed_operation_is_audited_by_its_kind(face: str, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        raise asyncio.CancelledError

    hooks: list[Hook] = [audit_hook(logging.getLogger("audit"), logging.ERROR), refuse]
    with a_portal() as portal:
        manager = AnyFace(portal, face, hooks)
        # anyio hands a cancelled call of the portal on as the exception of its own kind of future.
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
            manager.call("get_metadata")

    [record] = [record for record in caplog.records if record.name == "audit"]
    assert record.levelname == "ERROR"
    assert "outcome=<CancelledError>" in record.getMessage()
