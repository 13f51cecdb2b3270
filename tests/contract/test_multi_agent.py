from __future__ import annotations

from typing import Any

import pytest
from strands.multiagent import GraphBuilder, Swarm

from mongodb_session_manager import InvalidNameError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent, model_of
from tests.support.models import Scripted


def a_graph(session_manager: Any, graph_id: str, *scripts: list[Scripted]) -> tuple[Any, list[Any]]:
    """A chain of agents, each with its script."""
    builder = GraphBuilder()
    agents = [make_agent(None, *script, agent_id=f"agent-{n}") for n, script in enumerate(scripts)]
    for number, agent in enumerate(agents):
        builder.add_node(agent, f"node-{number}")
        if number:
            builder.add_edge(f"node-{number - 1}", f"node-{number}")
    builder.set_entry_point("node-0")
    builder.set_graph_id(graph_id)
    builder.set_execution_timeout(300)
    builder.set_session_manager(session_manager)
    return builder.build(), agents


async def test_a_graph_goes_on_where_it_failed(driver: Driver) -> None:
    async with driver.manager() as manager:
        graph, _ = a_graph(driver.for_agents(manager), "g.1", ["first"], [RuntimeError("down")])
        with pytest.raises(RuntimeError, match="down"):
            await graph.invoke_async("go")

    async with driver.manager() as manager:
        graph, agents = a_graph(driver.for_agents(manager), "g.1", ["never asked"], ["second"])
        result = await graph.invoke_async("go")

    assert {name: str(node.result).strip() for name, node in result.results.items()} == {
        "node-0": "first",
        "node-1": "second",
    }
    assert [len(model_of(agent).requests) for agent in agents] == [0, 1]
    stored = (await driver.stored())["multi_agents"]
    assert list(stored) == ["g%2E1"]
    state = await driver.repository().read_multi_agent("s-1", "g.1")
    assert state["id"] == "g.1"
    assert sorted(state["completed_nodes"]) == ["node-0", "node-1"]
    assert await driver.repository().read_multi_agent("s-1", "g") is None


async def test_a_swarm_is_stored_and_restored(driver: Driver) -> None:
    async with driver.manager() as manager:
        swarm = Swarm(
            [make_agent(None, "done", agent_id="one", name="one")], session_manager=driver.for_agents(manager), id="sw"
        )
        result = await swarm.invoke_async("go")

    state = await driver.repository().read_multi_agent("s-1", "sw")
    assert result.status.value == state["status"] == "completed"
    async with driver.manager() as manager:
        again = Swarm(
            [make_agent(None, "done again", agent_id="one", name="one")],
            session_manager=driver.for_agents(manager),
            id="sw",
        )
        assert again.id == "sw"
        assert (await again.invoke_async("go on")).status.value == "completed"


async def test_the_repository_stores_a_graphs_state_by_session_id(driver: Driver) -> None:
    repository = driver.repository()
    graph, _ = a_graph(None, "g", ["first"])
    async with driver.manager():
        await repository.create_multi_agent("s-1", graph)
        created = await repository.read_multi_agent("s-1", "g")
        await graph.invoke_async("go")
        await repository.update_multi_agent("s-1", graph)

    updated = await repository.read_multi_agent("s-1", "g")
    assert created["status"] == "pending"
    assert updated == graph.serialize_state()
    assert updated["status"] == "completed"


@pytest.mark.parametrize("graph_id", [{"$gt": ""}, None, 7])
async def test_a_graphs_id_is_a_string(driver: Driver, graph_id: Any) -> None:
    with pytest.raises(InvalidNameError, match="multi-agent id"):
        await driver.repository().read_multi_agent("s-1", graph_id)
