"""Hooks as guides and users' code write them, unchanged, around both kinds of manager with a server behind them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManagerFactory,
    chain_hooks,
)
from tests.contract.conftest import SYNC
from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.hooks import (
    AnalyticsHook,
    ExternalSyncHook,
    NotificationHook,
    audit_hook,
    feedback_validation_hook,
    passed_on,
    validation_hook,
)
from tests.support.models import calls

pytestmark = pytest.mark.parametrize(
    "driver", [pytest.param(name, marks=pytest.mark.server) for name in ("uri", SYNC)], indirect=True
)


async def metadata_of(manager: Any) -> Any:
    return (await manager.get_metadata())["metadata"]


async def test_the_combination_logs_and_stores_what_is_documented(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hooks")
    hook = chain_hooks(audit_hook, validation_hook)
    async with driver.manager("combined-hooks-session", metadata_hook=hook) as manager:
        await manager.update_metadata({"user_action": "login", "ip_address": "192.168.1.1"})
        stored = await driver.stored("combined-hooks-session")
        written = [record.getMessage() for record in caplog.records]

        await manager.get_metadata()
        await manager.delete_metadata(["ip_address"])
        with pytest.raises(ValueError, match="protected"):
            await manager.delete_metadata(["_id"])

    assert written == [
        "[AUDIT] update on session combined-hooks-session",
        '[AUDIT] Data: {"user_action": "login", "ip_address": "192.168.1.1"}',
        "[VALIDATION] Validated for combined-hooks-session",
        "[AUDIT] update completed",
    ]
    assert stored["metadata"] == {
        "user_action": "login",
        "ip_address": "192.168.1.1",
        "last_updated": "2024-01-26T10:00:00",
        "updated_by": "system",
    }
    assert [record.getMessage() for record in caplog.records][len(written) :] == [
        "[AUDIT] get on session combined-hooks-session",
        "[AUDIT] get completed",
        "[AUDIT] delete on session combined-hooks-session",
        "[AUDIT] delete completed",
        "[AUDIT] delete on session combined-hooks-session",
    ]


async def test_an_audit_may_pass_its_arguments_on_by_keyword(driver: Driver) -> None:
    audited: list[str] = []

    def audit_metadata(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        audited.append(f"Metadata {action} on {session_id}")
        return original_func(**kwargs) if kwargs else original_func()

    async with driver.manager("user-123", metadata_hook=audit_metadata, feedback_hook=audit_metadata) as manager:
        await manager.update_metadata({"priority": "high", "topic": "AI"})
        await manager.delete_metadata(["topic"])
        await manager.add_feedback({"rating": "up"})

        assert await metadata_of(manager) == {"priority": "high"}
        assert [feedback["rating"] for feedback in await manager.get_feedbacks()] == ["up"]
    assert audited == [f"Metadata {action} on user-123" for action in ("update", "delete", "add", "get")]


async def test_an_audit_may_look_at_what_was_read(driver: Driver) -> None:
    lines: list[str] = []

    def audit_metadata_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "update":
            lines.append(f"Fields: {list(kwargs['metadata'].keys())}")
            return original_func(kwargs["metadata"])
        if action == "delete":
            lines.append(f"Deleting: {kwargs['keys']}")
            return original_func(kwargs["keys"])
        result = original_func()
        lines.append(f"Retrieved: {len(result.get('metadata', {}))} fields")
        return result

    async with driver.manager(metadata_hook=audit_metadata_hook) as manager:
        await manager.update_metadata({"status": "active", "temp_field": 1})
        assert await metadata_of(manager) == {"status": "active", "temp_field": 1}
        await manager.delete_metadata(["temp_field"])
        assert await metadata_of(manager) == {"status": "active"}

    assert lines == [
        "Fields: ['status', 'temp_field']",
        "Retrieved: 2 fields",
        "Deleting: ['temp_field']",
        "Retrieved: 1 fields",
    ]


async def test_a_validation_hook_checks_values_and_lets_the_rest_through(driver: Driver) -> None:
    def validation_metadata_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "update":
            metadata = kwargs["metadata"]
            allowed = ["low", "medium", "high", "critical"]
            if "priority" in metadata and metadata["priority"] not in allowed:
                raise ValueError(f"Invalid priority. Must be one of: {allowed}")
            if "email" in metadata and "@" not in metadata["email"]:
                raise ValueError("Invalid email format")
            return original_func(metadata)
        if action == "delete":
            return original_func(kwargs["keys"])
        return original_func()

    async with driver.manager(metadata_hook=validation_metadata_hook) as manager:
        await manager.update_metadata({"priority": "high", "email": "alice@example.com"})
        with pytest.raises(ValueError, match=r"Must be one of: .*'critical'"):
            await manager.update_metadata({"priority": "urgent"})
        with pytest.raises(ValueError, match="Invalid email format"):
            await manager.update_metadata({"priority": "low", "email": "alice"})
        await manager.delete_metadata(["email"])

        assert await metadata_of(manager) == {"priority": "high"}


async def test_validation_adds_what_is_required_and_protects_the_rest(driver: Driver) -> None:
    given = {"user_name": "Alice", "department": "Engineering"}
    async with driver.manager("validated-session", metadata_hook=validation_hook) as manager:
        await manager.update_metadata(given)
        with pytest.raises(ValueError, match="Cannot update protected field: created_at"):
            await manager.update_metadata({"created_at": "now", "department": "Sales"})

        assert await metadata_of(manager) == {
            **given,
            "last_updated": "2024-01-26T10:00:00",
            "updated_by": "system",
        }
    assert given == {"user_name": "Alice", "department": "Engineering"}


class MetadataCacheHook:
    def __init__(self, ttl_seconds: int = 60) -> None:
        self.cache: dict[str, tuple[Any, float]] = {}
        self.ttl_seconds = ttl_seconds
        self.said: list[str] = []

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        cache_key = f"{session_id}:metadata"
        if action == "get":
            if cache_key in self.cache:
                cached_data, timestamp = self.cache[cache_key]
                if time.time() - timestamp < self.ttl_seconds:
                    self.said.append("Hit")
                    return cached_data
            self.said.append("Miss")
            result = original_func()
            self.cache[cache_key] = (result, time.time())
            return result
        if cache_key in self.cache:
            del self.cache[cache_key]
            self.said.append("Invalidated")
        if action == "update":
            return original_func(kwargs["metadata"])
        return original_func(kwargs["keys"])


async def test_a_cache_answers_until_something_is_written(driver: Driver) -> None:
    cache_hook = MetadataCacheHook()
    async with driver.manager("cached-session", metadata_hook=cache_hook) as manager:
        await manager.update_metadata({"data": "initial"})
        for expected in ("initial", "initial", "updated", None):
            assert (await metadata_of(manager)).get("data") == expected
            if cache_hook.said[-1] == "Hit":
                await manager.update_metadata({"data": "updated"})
            elif expected == "updated":
                await manager.delete_metadata(["data"])

    assert cache_hook.said == ["Miss", "Hit", "Invalidated", "Miss", "Invalidated", "Miss"]


async def test_external_synchronization_gets_updates_and_deletions(driver: Driver) -> None:
    hook = ExternalSyncHook()
    async with driver.manager("synced-session", metadata_hook=hook) as manager:
        for write in (
            manager.update_metadata({"status": "processing", "priority": "high"}),
            manager.delete_metadata(["priority"]),
        ):
            await write
            assert await asyncio.to_thread(hook.arrived.acquire, timeout=30)

        assert await metadata_of(manager) == {"status": "processing"}
    assert hook.sent == [("update", {"status": "processing", "priority": "high"}), ("delete", {"priority": None})]


async def test_notification_analytics_and_validation_of_feedback(driver: Driver) -> None:
    notification, analytics = NotificationHook(), AnalyticsHook()
    audited: list[Any] = []

    def feedback_audit_hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        audited.append((session_id, kwargs["feedback"]))
        return original_func(kwargs["feedback"])

    hooks = [feedback_audit_hook, feedback_validation_hook, notification, analytics]
    async with driver.manager("user-123", feedback_hook=hooks) as manager:
        await manager.add_feedback({"rating": "up", "comment": "Excellent!", "category": "accuracy"})
        await manager.add_feedback({"rating": None, "comment": ""})
        with pytest.raises(ValueError, match="Please provide a comment with negative feedback"):
            await manager.add_feedback({"rating": "down"})
        await manager.add_feedback({"rating": "down", "comment": "Too slow"})
        feedbacks = await manager.get_feedbacks()

    assert [feedback["rating"] for feedback in feedbacks] == ["up", None, "down"]
    assert feedbacks[0]["category"] == "accuracy"
    assert notification.alerts == ["Negative feedback on session user-123: Too slow"]
    assert analytics.tracked == [
        {"rating": "up", "has_comment": True},
        {"rating": None, "has_comment": False},
        {"rating": "down", "has_comment": True},
    ]
    assert [feedback["rating"] for _, feedback in audited] == ["up", None, "down", "down"]


async def test_an_agents_tool_call_goes_through_the_hooks_in_its_turn(driver: Driver) -> None:
    seen: list[str] = []

    def watch(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append(action)
        return passed_on(original_func, kwargs)

    async with driver.manager(metadata_hook=[watch, validation_hook]) as manager:
        script = (
            calls(("manage_metadata", {"action": "set", "metadata": {"theme": "dark"}})),
            calls(("manage_metadata", {"action": "update", "metadata": {"session_id": "s-2"}})),
            calls(("manage_metadata", {"action": "delete", "keys": ["updated_by"]})),
            "Stored.",
        )
        agent = make_agent(driver.for_agents(manager), *script, tools=[manager.get_metadata_tool()])
        await agent.invoke_async("I like it dark.")
        results = [
            block["toolResult"]["content"][0]["text"]
            for message in agent.messages
            for block in message["content"]
            if "toolResult" in block
        ]

        assert (await driver.stored())["metadata"] == {"theme": "dark", "last_updated": "2024-01-26T10:00:00"}
    assert seen == ["update", "update", "delete"]
    assert results[1] == "Error managing metadata: Cannot update protected field: session_id"


async def test_hooks_of_a_factory_serve_every_manager_that_brings_none(
    driver: Driver, mongo_uri: str, request: pytest.FixtureRequest
) -> None:
    seen: list[tuple[str, str]] = []

    def default(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        seen.append((session_id, action))
        return passed_on(original_func, kwargs)

    options: dict[str, Any] = {
        "database_name": driver.database,
        "collection_name": driver.collection,
        "metadata_hook": [default],
        "feedback_hook": default,
    }

    async def async_face() -> None:
        async with AsyncMongoDBSessionManagerFactory(mongo_uri, **options) as factory:
            async with factory.create_session_manager("with") as manager:
                await manager.update_metadata({"a": 1})
                await manager.add_feedback({"rating": "up"})
            async with factory.create_session_manager("own", feedback_hook=feedback_validation_hook) as manager:
                await manager.update_metadata({"a": 1})
                with pytest.raises(ValueError, match="provide a comment"):
                    await manager.add_feedback({"rating": "down"})

    def sync_face() -> None:
        with MongoDBSessionManagerFactory(mongo_uri, **options) as factory:
            with factory.create_session_manager("with") as manager:
                manager.update_metadata({"a": 1})
                manager.add_feedback({"rating": "up"})
            with factory.create_session_manager("own", feedback_hook=feedback_validation_hook) as manager:
                manager.update_metadata({"a": 1})
                with pytest.raises(ValueError, match="provide a comment"):
                    manager.add_feedback({"rating": "down"})

    if request.node.callspec.params["driver"] == SYNC:
        await asyncio.to_thread(sync_face)
    else:
        await async_face()

    assert seen == [("with", "update"), ("with", "add"), ("own", "update")]


async def test_a_hundred_concurrent_updates_pass_three_chained_plain_hooks(driver: Driver) -> None:
    lock, through = threading.Lock(), [0, 0, 0]

    def counting(place: int) -> Callable[..., Any]:
        def hook(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
            result = passed_on(original_func, kwargs)
            with lock:
                through[place] += 1
            return result

        return hook

    hook = chain_hooks(counting(0), counting(1), counting(2))
    async with driver.manager(metadata_hook=hook) as manager:
        await asyncio.gather(*(manager.update_metadata({f"field_{number}": number}) for number in range(100)))

        # Before the read below, which passes the hooks as well.
        assert through == [100, 100, 100]
        assert sorted((await metadata_of(manager)).values()) == list(range(100))
