from __future__ import annotations

from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import AgentExistsError, AgentNotFoundError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent, model_of
from tests.support.models import Reply, calls


def an_agent(agent_id: str = "a", **state: Any) -> SessionAgent:
    return SessionAgent(agent_id=agent_id, state=state, conversation_manager_state={"removed_message_count": 0})


def said(text: str, message_id: int) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, message_id)


async def a_repository(driver: Driver) -> Any:
    repository = driver.repository()
    await repository.create_session(Session(session_id="s-1", session_type=SessionType.AGENT))
    return repository


async def summary_of(driver: Driver) -> tuple[int, int, int]:
    summary = (await driver.stored())["summary"]
    return summary["agents"], summary["messages"], summary["feedbacks"]


async def test_an_agent_is_read_back_as_it_was_created(driver: Driver) -> None:
    repository = await a_repository(driver)
    created = SessionAgent(
        agent_id="a",
        state={"visits": 3, "by.name": {"$x": b"\x00\xff"}},
        conversation_manager_state={"removed_message_count": 2},
        _internal_state={"interrupt_state": {"activated": False}},
    )

    await repository.create_agent("s-1", created)

    read = await repository.read_agent("s-1", "a")
    assert read.agent_id == "a"
    assert read.state == created.state
    assert read.conversation_manager_state == created.conversation_manager_state
    assert read._internal_state == created._internal_state
    assert await repository.read_agent("s-1", "b") is None


@pytest.mark.parametrize("field", ["state", "conversation_manager_state", "_internal_state"])
@pytest.mark.parametrize("value", ["text", 3, [1], b"x", 2**70])
async def test_a_state_that_could_not_be_restored_is_refused(driver: Driver, field: str, value: Any) -> None:
    repository = await a_repository(driver)
    await repository.create_agent("s-1", an_agent(visits=1))
    before = await driver.stored()
    rule = f"^invalid {field}: it must be a dict, not {type(value).__name__}$"

    for write, agent in ((repository.create_agent, an_agent("b")), (repository.update_agent, an_agent())):
        setattr(agent, field, value)
        with pytest.raises(TypeError, match=rule):
            await write("s-1", agent)

    assert await driver.stored() == before


async def test_a_state_that_is_none_is_an_empty_one(driver: Driver) -> None:
    repository = await a_repository(driver)

    none: Any = None
    await repository.create_agent("s-1", SessionAgent("a", state=none, conversation_manager_state=none))

    read = await repository.read_agent("s-1", "a")
    assert (read.state, read.conversation_manager_state, read._internal_state) == ({}, {}, {})
    assert (await driver.stored())["agents"]["a"]["agent_data"]["state"] == {}


async def test_an_agent_that_exists_is_never_overwritten(driver: Driver) -> None:
    repository = await a_repository(driver)
    await repository.create_agent("s-1", an_agent(visits=1))
    await repository.create_message("s-1", "a", said("hi", 0))
    before = await driver.stored()

    with pytest.raises(AgentExistsError, match="'a'"):
        await repository.create_agent("s-1", an_agent(visits=2))

    assert await driver.stored() == before


async def test_updating_an_agent_keeps_its_messages_and_configuration(driver: Driver) -> None:
    repository = await a_repository(driver)
    await repository.create_agent("s-1", an_agent(visits=1))
    await repository.create_message("s-1", "a", said("hi", 0))
    await repository.update_agent_config("s-1", "a", model="m-1")

    await repository.update_agent("s-1", an_agent(visits=2))

    assert (await repository.read_agent("s-1", "a")).state == {"visits": 2}
    assert await repository.get_message_count("s-1", "a") == 1
    assert (await repository.get_agent_config("s-1", "a"))["model"] == "m-1"


async def test_what_is_asked_of_an_unknown_agent_says_so_and_makes_none(driver: Driver) -> None:
    repository = await a_repository(driver)
    operations = [
        repository.update_agent("s-1", an_agent()),
        repository.update_agent_config("s-1", "a", model="m-1"),
        repository.update_agent_config("s-1", "a"),
        repository.set_prompt_metadata("s-1", "a", {"version": 1}),
        repository.create_message("s-1", "a", said("hi", 0)),
        repository.list_messages("s-1", "a"),
        repository.list_messages("s-1", "a", limit=1),
        repository.get_metrics_summary("s-1", "a"),
    ]
    for operation in operations:
        with pytest.raises(AgentNotFoundError, match="'a'"):
            await operation

    assert await repository.get_agent_config("s-1", "a") is None
    assert await repository.get_message_count("s-1", "a") == 0
    assert await repository.delete_agent("s-1", "a") is False
    assert (await driver.stored())["agents"] == {}


async def test_deleting_an_agent_takes_what_was_counted_of_it_off_the_summary(driver: Driver) -> None:
    repository = await a_repository(driver)
    async with driver.manager() as manager:
        for agent_id in ("kept", "gone"):
            agent = make_agent(driver.for_agents(manager), Reply(text="hello"), agent_id=agent_id)
            await agent.invoke_async("hi")
        await manager.add_feedback({"rating": "up"})

    assert await repository.delete_agent("s-1", "gone") is True
    assert await repository.delete_agent("s-1", "gone") is False

    assert await summary_of(driver) == (1, 2, 1)
    assert (await driver.stored())["summary"]["usage"] == (await driver.stored())["agents"]["kept"]["usage"]
    assert (await repository.get_metrics_summary("s-1"))["tokens"]["total"] == 15
    assert [agent["agent_id"] for agent in await repository.list_agents("s-1")] == ["kept"]


async def test_a_deleted_agent_may_be_created_anew(driver: Driver) -> None:
    repository = await a_repository(driver)
    await repository.create_agent("s-1", an_agent())
    await repository.create_message("s-1", "a", said("hi", 0))
    await repository.delete_agent("s-1", "a")

    await repository.create_agent("s-1", an_agent())

    assert await repository.list_messages("s-1", "a") == []
    assert await summary_of(driver) == (1, 0, 0)


async def test_the_summary_equals_what_is_stored_after_everything(driver: Driver) -> None:
    repository = await a_repository(driver)
    async with driver.manager() as manager:
        one = make_agent(
            driver.for_agents(manager),
            calls(("manage_metadata", {"action": "set", "metadata": {"a": 1}})),
            "done",
            "again",
            agent_id="one",
            tools=[manager.get_metadata_tool()],
        )
        two = make_agent(driver.for_agents(manager), "hello", agent_id="two")
        await one.invoke_async("hi")
        await two.invoke_async("hi")
        await one.invoke_async("hi again")
        await manager.add_feedback({"rating": "up"})
    await repository.add_feedback("s-1", {"rating": "down"})
    await repository.create_agent("s-1", an_agent("three"))
    await repository.create_message("s-1", "three", said("hi", 0))
    await repository.delete_agent("s-1", "two")

    stored = await driver.stored()
    agents = stored["agents"].values()
    total: dict[str, float] = {}
    for agent in agents:
        for name, count in agent["usage"].items():
            if not isinstance(count, dict):
                total[name] = total.get(name, 0) + count
    usage = {name: count for name, count in stored["summary"]["usage"].items() if count}
    assert await summary_of(driver) == (2, sum(len(agent["messages"]) for agent in agents), 2)
    assert usage == total
    listed = (await repository.list_sessions())["sessions"][0]
    assert (listed["agents_count"], listed["messages_count"], listed["feedbacks_count"]) == await summary_of(driver)


async def test_a_live_agents_configuration_is_recorded(driver: Driver) -> None:
    async with driver.manager() as manager:
        make_agent(driver.for_agents(manager), agent_id="b", system_prompt="Be brief.")
        make_agent(driver.for_agents(manager), agent_id="a")

        configs = await manager.list_agents()
        unknown = await manager.get_agent_config("c")
        config = await manager.get_agent_config("b")

    expected = {"agent_id": "b", "model": "scripted", "system_prompt": "Be brief.", "prompt_metadata": None}
    assert config == expected
    assert sorted(configs, key=lambda each: each["agent_id"]) == [
        {"agent_id": "a", "model": "scripted", "system_prompt": None, "prompt_metadata": None},
        expected,
    ]
    assert unknown is None


async def test_a_session_without_agents_lists_none(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.list_agents() == []
        assert await manager.get_message_count("a") == 0


async def test_updating_the_configuration_of_an_unknown_agent_is_an_error(driver: Driver) -> None:
    async with driver.manager() as manager:
        with pytest.raises(AgentNotFoundError, match="'a'"):
            await manager.update_agent_config("a", model="m-1")
        with pytest.raises(AgentNotFoundError, match="'a'"):
            await manager.set_prompt_metadata("a", {"version": 1})

    assert (await driver.stored())["agents"] == {}


async def test_an_updated_configuration_leaves_the_other_parts(driver: Driver) -> None:
    async with driver.manager() as manager:
        make_agent(driver.for_agents(manager), agent_id="a", system_prompt="Be brief.")

        await manager.update_agent_config("a", model="m-1", prompt_metadata={"version": 1, "tags": ["x"]})
        await manager.update_agent_config("a", system_prompt="Be long.")

        config = await manager.get_agent_config("a")
    assert config == {
        "agent_id": "a",
        "model": "m-1",
        "system_prompt": "Be long.",
        "prompt_metadata": {"version": 1, "tags": ["x"]},
    }


async def test_prompt_metadata_is_replaced_and_deleted(driver: Driver) -> None:
    async with driver.manager() as manager:
        make_agent(driver.for_agents(manager), agent_id="a")

        await manager.set_prompt_metadata("a", {"version": 1, "author": "me"})
        await manager.set_prompt_metadata("a", {"version": 2})
        replaced = await manager.get_agent_config("a")
        await manager.set_prompt_metadata("a", None)
        deleted = await manager.get_agent_config("a")

    assert replaced["prompt_metadata"] == {"version": 2}
    assert deleted["prompt_metadata"] is None
    assert deleted["model"] == "scripted"


async def test_an_update_stands_while_the_agent_goes_on_and_across_restarts(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "one", "two", agent_id="a", system_prompt="Be brief.")
        await agent.invoke_async("hi")
        await manager.update_agent_config("a", model="m-1", system_prompt="Stored.")
        agent.state.set("visits", 1)
        await agent.invoke_async("hi again")
        first = await manager.get_agent_config("a")

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "three", agent_id="a", system_prompt="Be brief.")
        agent.state.set("visits", 2)
        await agent.invoke_async("and again")
        second = await manager.get_agent_config("a")

    assert first == second
    assert (second["model"], second["system_prompt"]) == ("m-1", "Stored.")
    assert agent.system_prompt == "Be brief."
    assert model_of(agent).get_config()["model_id"] == "scripted"


async def test_an_update_gives_way_when_the_live_agents_own_configuration_changes(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "one", agent_id="a", system_prompt="Be brief.")
        await agent.invoke_async("hi")
        await manager.update_agent_config("a", model="m-1", system_prompt="Stored.")
        agent.system_prompt = "Be kind."
        manager.sync_agent(agent)
        changed = await manager.get_agent_config("a")

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "two", agent_id="a", system_prompt="Be strict.")
        await agent.invoke_async("hi again")
        restarted = await manager.get_agent_config("a")

    assert (changed["model"], changed["system_prompt"]) == ("m-1", "Be kind.")
    assert (restarted["model"], restarted["system_prompt"]) == ("m-1", "Be strict.")


async def test_an_update_in_another_process_survives_this_ones_next_turn(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "one", "two", agent_id="a")
        await agent.invoke_async("hi")

        await driver.repository().update_agent_config("s-1", "a", model="m-1")
        agent.state.set("visits", 1)
        await agent.invoke_async("hi again")

        assert (await manager.get_agent_config("a"))["model"] == "m-1"


async def test_what_cannot_be_stored_is_refused_before_it_changes_anything(driver: Driver) -> None:
    async with driver.manager() as manager:
        make_agent(driver.for_agents(manager), agent_id="a")
        await manager.flush()
        before = await driver.stored()

        with pytest.raises(TypeError, match="prompt_metadata"):
            await manager.set_prompt_metadata("a", {"made_by": object()})

        assert await driver.stored() == before
