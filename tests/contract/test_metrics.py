from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, tool
from strands.telemetry.metrics import EventLoopMetrics
from strands.types.event_loop import Metrics, Usage

from mongodb_session_manager import AgentNotFoundError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import Reply, Scripted, calls

NOTHING = {
    "tokens": {"input": None, "output": None, "total": None, "cache_read": None, "cache_write": None},
    "latency_ms": None,
    "model_calls": None,
    "tool_calls": {},
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail() -> str:
    """Fail."""
    raise RuntimeError("broken")


async def messages_of(driver: Driver, agent_id: str = "assistant") -> Any:
    return (await driver.stored())["agents"][agent_id]["messages"]


async def test_the_last_answer_of_an_invocation_carries_its_metrics(driver: Driver) -> None:
    async with driver.manager() as manager:
        script: list[Scripted] = [calls(("add", {"a": 1, "b": 2}), ("fail", {})), calls(("add", {"a": 3, "b": 4})), "7"]
        agent = make_agent(driver.for_agents(manager), *script, tools=[add, fail])
        await agent.invoke_async("1 + 2, then 3 + 4?")

    messages = await messages_of(driver)
    metrics = messages[-1]["event_loop_metrics"]
    assert ["event_loop_metrics" in message for message in messages] == [False] * 5 + [True]
    # Strands measures the time to the first byte itself where it takes a millisecond or more.
    first_byte_ms = messages[-1]["metadata"]["metrics"]["timeToFirstByteMs"]
    assert metrics["accumulated_metrics"] == {"latencyMs": 60, "timeToFirstByteMs": first_byte_ms}
    assert metrics["accumulated_usage"] == {"inputTokens": 30, "outputTokens": 15, "totalTokens": 45}
    assert metrics["cycle_metrics"]["cycle_count"] == 3
    duration = metrics["cycle_metrics"]["total_duration"]
    assert metrics["cycle_metrics"]["average_cycle_time"] == pytest.approx(duration / 3)
    added, failed = metrics["tool_usage"]["add"], metrics["tool_usage"]["fail"]
    assert (added["call_count"], added["success_count"], added["error_count"]) == (2, 2, 0)
    assert (failed["call_count"], failed["success_count"], failed["error_count"]) == (1, 0, 1)
    assert added["average_time"] == pytest.approx(added["total_time"] / 2)
    assert (added["success_rate"], failed["success_rate"]) == (1.0, 0.0)


async def test_cached_tokens_are_reported_where_there_are_any(driver: Driver) -> None:
    usage = Usage(inputTokens=1, outputTokens=2, totalTokens=3, cacheReadInputTokens=40, cacheWriteInputTokens=5)
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), Reply(text="hello", usage=usage))
        await agent.invoke_async("hi")
        summary = await manager.get_metrics_summary()

    (_, answer) = await messages_of(driver)
    assert answer["event_loop_metrics"]["accumulated_usage"] == usage
    assert summary["tokens"] == {"input": 1, "output": 2, "total": 3, "cache_read": 40, "cache_write": 5}


async def test_strands_own_message_metadata_is_stored_untouched(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        await agent.invoke_async("hi")

    (_, answer) = await messages_of(driver)
    assert answer["metadata"] == agent.messages[-1]["metadata"]


async def test_a_model_that_reports_nothing_leaves_no_usage(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), Reply(text="hello", usage=None))
        await agent.invoke_async("hi")
        summary = await manager.get_metrics_summary()

    (_, answer) = await messages_of(driver)
    assert "accumulated_usage" not in answer["event_loop_metrics"]
    assert "accumulated_metrics" not in answer["event_loop_metrics"]
    assert summary == {**NOTHING, "model_calls": 1}


async def test_nothing_is_known_of_a_new_session(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.get_metrics_summary() == NOTHING


async def test_totals_go_on_across_restarts(driver: Driver) -> None:
    for number in range(3):
        async with driver.manager() as manager:
            metrics = Metrics(latencyMs=100 + number)
            agent = make_agent(
                driver.for_agents(manager),
                calls(("add", {"a": 1, "b": 2}), metrics=metrics),
                Reply(text="3", metrics=metrics),
                tools=[add],
            )
            await agent.invoke_async("1 + 2?")

    async with driver.manager() as manager:
        summary = await manager.get_metrics_summary()
    add_calls = summary["tool_calls"].pop("add")
    assert add_calls.pop("total_time") > 0
    assert add_calls == {"call_count": 3, "success_count": 3, "error_count": 0}
    assert summary == {
        "tokens": {"input": 60, "output": 30, "total": 90, "cache_read": None, "cache_write": None},
        "latency_ms": 2 * (100 + 101 + 102),
        "model_calls": 6,
        "tool_calls": {},
    }
    assert (await driver.stored())["summary"]["usage"]["totalTokens"] == 90


def replaced(agent: Agent) -> None:
    agent.event_loop_metrics = EventLoopMetrics()


def emptied(agent: Agent) -> None:
    vars(agent.event_loop_metrics).update(vars(EventLoopMetrics()))


def copied(agent: Agent) -> None:
    agent.event_loop_metrics = copy.deepcopy(agent.event_loop_metrics)


@pytest.mark.parametrize("change", [replaced, emptied, copied])
async def test_totals_go_on_where_code_begins_new_metrics(driver: Driver, change: Callable[[Agent], None]) -> None:
    async with driver.manager() as manager:
        call = calls(("add", {"a": 1, "b": 2}))
        agent = make_agent(driver.for_agents(manager), call, "3", "Yes.", call, "3", tools=[add])
        for prompt in ("1 + 2?", "Really?", "And 1 + 2?"):
            await agent.invoke_async(prompt)
            change(agent)

    summary = await driver.repository().get_metrics_summary("s-1")
    assert (summary["tokens"]["input"], summary["tokens"]["output"], summary["model_calls"]) == (50, 25, 5)
    assert summary["tool_calls"]["add"]["call_count"] == 2


async def test_totals_are_told_by_agent_or_over_all(driver: Driver) -> None:
    async with driver.manager() as manager:
        one = make_agent(driver.for_agents(manager), "a", "b", agent_id="one")
        other = make_agent(driver.for_agents(manager), "a", agent_id="other")
        for agent in (one, one, other):
            await agent.invoke_async("hi")

        tokens = [
            (await manager.get_metrics_summary(agent_id))["tokens"]["total"] for agent_id in ("one", "other", None)
        ]
        with pytest.raises(AgentNotFoundError, match="'unknown'"):
            await manager.get_metrics_summary("unknown")

    assert tokens == [30, 15, 45]


async def test_counts_given_by_hand_go_with_the_next_answer(driver: Driver) -> None:
    async with driver.manager() as manager:
        silent = Reply(text="hello", usage=None)
        agent = make_agent(driver.for_agents(manager), silent, silent)
        manager.set_token_counts(11, 4)
        await agent.invoke_async("hi")
        await agent.invoke_async("hi again")
        summary = await manager.get_metrics_summary()

    messages = await messages_of(driver)
    counted = {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15}
    assert messages[1]["event_loop_metrics"]["accumulated_usage"] == counted
    assert "accumulated_usage" not in messages[3]["event_loop_metrics"]
    assert summary["tokens"] == {"input": 11, "output": 4, "total": 15, "cache_read": None, "cache_write": None}


async def test_counts_given_by_hand_give_way_to_what_the_model_reports(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        manager.set_token_counts(1000, 1000)
        await agent.invoke_async("hi")

        assert (await manager.get_metrics_summary())["tokens"]["total"] == 15


@pytest.mark.parametrize("counts", [(-1, 0), (0, -1)])
async def test_counts_are_not_negative(driver: Driver, counts: tuple[int, int]) -> None:
    async with driver.manager() as manager:
        with pytest.raises(ValueError, match="negative"):
            manager.set_token_counts(*counts)
