"""Tool results of any shape that Strands' own session managers store: the turn goes on, and they come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from strands import tool

from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import calls


@dataclass
class Weather:
    city: str
    degrees: float


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = {"level": value} if level % 2 else [value]
    return value


RESULTS: dict[str, tuple[Any, Any]] = {
    "dataclass": (Weather("Oslo", 1.5), {"city": "Oslo", "degrees": 1.5}),
    "list of dataclasses": ([Weather("Oslo", 1.5)], [{"city": "Oslo", "degrees": 1.5}]),
    "160 levels": (nested(160), nested(160)),
    "300 levels": (nested(300), nested(300)),
}


@pytest.mark.parametrize("kind", RESULTS)
async def test_a_tool_result_of_any_shape_is_stored_and_comes_back(driver: Driver, kind: str) -> None:
    given, expected = RESULTS[kind]

    @tool
    def look_up() -> dict[str, Any]:
        """Return something."""
        return {"status": "success", "content": [{"json": given}]}

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), calls(("look_up", {})), "Fine.", tools=[look_up])
        result = await agent.invoke_async("Look it up.")
        assert str(result).strip() == "Fine."

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "Still fine.", tools=[look_up])
        assert agent.messages[2]["content"][0]["toolResult"]["content"] == [{"json": expected}]
        await agent.invoke_async("And now?")
        messages = await driver.repository().list_messages("s-1", agent.agent_id)
        assert messages[2].message["content"][0]["toolResult"]["content"] == [{"json": expected}]


async def test_what_a_model_sends_to_a_tool_may_be_as_deep(driver: Driver) -> None:
    seen: list[Any] = []

    @tool(inputSchema={"json": {"type": "object", "properties": {"value": {}}}})
    def store_it(value: Any) -> str:
        """Take something."""
        seen.append(value)
        return "taken"

    async with driver.manager() as manager:
        agent = make_agent(
            driver.for_agents(manager), calls(("store_it", {"value": nested(200)})), "ok", tools=[store_it]
        )
        await agent.invoke_async("Go.")

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "ok", tools=[store_it])
        assert agent.messages[1]["content"][0]["toolUse"]["input"] == {"value": nested(200)}
