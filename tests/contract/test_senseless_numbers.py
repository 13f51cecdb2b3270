"""Numbers without a sense as a count, a time or an age, at everything that takes one: refused before they are noted.

What is noted and cannot be stored would fail every later write of its manager.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import product
from typing import Any

import pytest

from mongodb_session_manager import StorageConflictError
from mongodb_session_manager.hooks import CachedMetadata
from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import Reply

NO_COUNTS = [True, False, 1.0, math.nan, "1", None, {"$inc": 1}, -1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400]
NO_TIMES = [True, False, math.nan, -math.inf, "1", -1, -0.5, 10**400]


async def test_what_is_no_count_of_tokens_is_refused_and_leaves_nothing_behind(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), Reply(text="hello", usage=None))
        for counts in [(count, 1) for count in NO_COUNTS] + [(1, count) for count in NO_COUNTS]:
            with pytest.raises((TypeError, ValueError), match=r"invalid (input|output)_tokens"):
                manager.set_token_counts(*counts)
        await agent.invoke_async("hi")
        await manager.flush()
        assert (await manager.get_metrics_summary())["tokens"]["total"] is None


async def test_the_largest_counts_add_up(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), *[Reply(text="hello", usage=None)] * 3)
        for _ in range(3):
            manager.set_token_counts(2**53, 2**53)
            await agent.invoke_async("hi")
        assert (await manager.get_metrics_summary())["tokens"]["total"] == 6 * 2**53


async def test_what_a_model_reports_and_is_no_count_is_not_known(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "one", "two")
        await agent.invoke_async("hi")
        for count in (2**63, 2**64, -1, math.nan, math.inf, "many", True):
            usage = {"inputTokens": count, "outputTokens": 5, "totalTokens": count}
            agent.event_loop_metrics.accumulated_usage.update(usage)  # type: ignore[typeddict-item]
            agent.event_loop_metrics.accumulated_metrics["latencyMs"] = count  # type: ignore[typeddict-item]
            manager.sync_agent(agent)
            await manager.flush()
        tokens = (await manager.get_metrics_summary())["tokens"]
        await manager.update_metadata({"later": 1})

    assert tokens["input"] == 10
    assert (await driver.stored())["metadata"] == {"later": 1}


async def test_a_count_of_another_tool_that_is_none_stops_no_session(driver: Driver) -> None:
    messages: list[dict[str, Any]] = [
        {
            "message_id": number,
            "role": "assistant",
            "content": [{"text": "x"}],
            "event_loop_metrics": {
                "accumulated_usage": {"inputTokens": count, "outputTokens": 2},
                "cycle_metrics": {"cycle_count": count},
            },
        }
        for number, count in enumerate([2**63 - 1, 2**63 - 1, math.nan, math.inf, -1, True])
    ]
    await driver.store({"_id": "s-1", "agents": {"a": {"agent_data": {"agent_id": "a"}, "messages": messages}}})

    async with driver.manager() as manager:
        await manager.update_metadata({"later": 1})
        assert (await manager.get_metrics_summary())["tokens"]["input"] is None


async def test_what_is_no_time_is_refused(driver: Driver) -> None:
    for call in (call for seconds in NO_TIMES for call in timed_calls(driver, seconds)):
        with pytest.raises((TypeError, ValueError), match="invalid"):
            await call()


def timed_calls(driver: Driver, seconds: Any) -> list[Any]:
    """Everything of managers, repositories, storages and hooks that takes a time, called with one."""

    async def turn(**times: Any) -> None:
        async with driver.manager("s-2") as manager:
            turn = driver.for_agents(manager).turn(**times)
            if isinstance(turn, AbstractAsyncContextManager):
                await turn.__aenter__()
            else:
                await asyncio.to_thread(turn.__enter__)

    async def managed(**options: Any) -> None:
        async with driver.manager("s-3", **options):
            pass

    async def stored(**options: Any) -> None:
        driver.storage(**options)

    async def cached() -> None:
        CachedMetadata(seconds)

    async def closed() -> None:
        async with driver.manager("s-4") as manager:
            await manager.close(seconds)

    async def addressed() -> None:
        driver.repository(write_deadline_s=seconds)

    return [
        lambda: managed(ttl=seconds),
        lambda: managed(write_deadline_s=seconds),
        lambda: stored(ttl=seconds),
        lambda: stored(write_deadline_s=seconds),
        lambda: turn(lease_s=seconds),
        lambda: turn(wait_s=seconds),
        closed,
        cached,
        addressed,
    ]


async def test_a_version_that_no_value_has(driver: Driver) -> None:
    storage = driver.storage()
    await storage.write("a", b"1")

    for key, version in product("ab", (2**63, 2**64, 10**30)):
        with pytest.raises(StorageConflictError):
            await storage.write(key, b"2", if_version=version)
    assert await storage.read("a") == b"1"


async def test_an_age_before_all_dates_or_without_a_zone(driver: Driver) -> None:
    repository, storage = driver.repository(), driver.storage()
    ages = (
        timedelta.max,
        timedelta.min,
        datetime.max,
        datetime.min,
        datetime.now(),
        datetime(2026, 1, 1, tzinfo=Nowhere()),
    )

    for call, age in product((repository.delete_sessions, repository.sweep_orphans, storage.sweep), ages):
        with pytest.raises(ValueError, match="older_than"):
            await call(older_than=age, dry_run=True)


class Nowhere(tzinfo):
    """A zone that does not know its offset, so that its dates are without one."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


async def test_the_first_and_the_last_moment(driver: Driver) -> None:
    repository, storage = driver.repository(), driver.storage()
    for moment in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert await repository.delete_sessions(older_than=moment) == 0
        assert await storage.sweep(older_than=moment, dry_run=True) == 0
