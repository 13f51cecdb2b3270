from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import pytest
from strands.session import RepositorySessionManager
from strands.types.exceptions import SessionException

from mongodb_session_manager import SessionClosedError, SessionNotOpenError, SessionStoreError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent, model_of
from tests.support.models import texts

MESSAGE: Any = {"role": "user", "content": [{"text": "hi"}]}


async def used(use: Callable[[], Any]) -> None:
    waiting = use()
    if isawaitable(waiting):
        await waiting


async def test_opening_creates_the_session_once(driver: Driver) -> None:
    managers = [driver.manager() for _ in range(8)]

    await asyncio.gather(*(manager.open() for manager in managers))

    passwords = {await manager.get_session_viewer_password() for manager in managers}
    assert len(passwords) == 1
    assert await driver.repository().count_sessions() == 1
    for manager in managers:
        await manager.close()


async def test_opening_and_closing_may_be_repeated(driver: Driver) -> None:
    manager = driver.manager()

    assert await manager.open() is manager
    assert await manager.open() is manager
    await manager.update_metadata({"a": 1})
    await manager.close()
    await manager.close()

    assert (await driver.stored())["metadata"] == {"a": 1}


async def test_strands_takes_it_for_one_of_its_own(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert isinstance(driver.for_agents(manager), RepositorySessionManager)
        assert driver.for_agents(manager).session_id == "s-1"


async def test_its_repository_and_collection_are_those_of_the_session(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": 1})

        collections = [manager.collection, manager.repository.collection, manager.session_repository.collection]

        assert [collection.name for collection in collections] == [driver.collection] * 3
        assert (await driver.stored())["metadata"] == {"a": 1}


async def test_a_conversation_goes_on_in_the_next_manager(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello", state={"visits": 1, "by.name": {"$x": [None, 1 << 70]}})
        await agent.invoke_async("hi")

    async with driver.manager() as manager:
        resumed = make_agent(driver.for_agents(manager), "hello again")
        assert resumed.messages == agent.messages
        assert resumed.state.get() == agent.state.get()
        await resumed.invoke_async("me again")

    assert texts(model_of(resumed).requests[0]) == ["hi", "hello", "me again"]


async def test_closing_writes_what_is_pending(driver: Driver) -> None:
    async with driver.manager(flush_on="invocation") as manager:
        agent = make_agent(driver.for_agents(manager))
        agent.state.set("visits", 1)
        manager.append_message(MESSAGE, agent)
        manager.sync_agent(agent)

    stored = (await driver.stored())["agents"]["assistant"]
    assert stored["agent_data"]["state"] == {"visits": 1}
    assert [message["content"] for message in stored["messages"]] == [MESSAGE["content"]]


async def test_a_closed_manager_says_so(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager))
    stored = await driver.stored()
    uses: list[Callable[[], Any]] = [
        lambda: manager.open(),
        lambda: manager.flush(),
        lambda: manager.update_metadata({"a": 1}),
        lambda: manager.update_metadata({}),
        lambda: manager.delete_metadata(["a"]),
        lambda: manager.delete_metadata([]),
        lambda: manager.get_metadata(),
        lambda: manager.add_feedback({"rating": "up"}),
        lambda: manager.get_feedbacks(),
        lambda: manager.get_agent_config("assistant"),
        lambda: manager.update_agent_config("assistant", model="m"),
        lambda: manager.set_prompt_metadata("assistant", {}),
        lambda: manager.list_agents(),
        lambda: manager.get_message_count("assistant"),
        lambda: manager.get_metrics_summary(),
        lambda: manager.get_session_viewer_password(),
        lambda: manager.get_application_name(),
        lambda: manager.check_session_exists(),
        lambda: manager.repair_session(),
        lambda: manager.delete_session(),
        lambda: manager.append_message(MESSAGE, agent),
        lambda: manager.redact_latest_message(MESSAGE, agent),
        lambda: manager.sync_agent(agent),
        lambda: manager.initialize(agent),
        lambda: manager.set_token_counts(1, 1),
        lambda: manager.collection,
    ]
    for use in uses:
        with pytest.raises(SessionClosedError, match="s-1"):
            await used(use)

    assert await driver.stored() == stored


async def test_a_manager_that_is_not_open_says_so(async_driver: Driver) -> None:
    manager = async_driver.manager()
    uses: list[Callable[[], Any]] = [
        lambda: make_agent(manager),
        lambda: manager.flush(),
        lambda: manager.update_metadata({"a": 1}),
        lambda: manager.update_metadata({}),
        lambda: manager.get_metadata(),
        lambda: manager.add_feedback({"rating": "up"}),
        lambda: manager.list_agents(),
        lambda: manager.get_session_viewer_password(),
    ]
    for use in uses:
        with pytest.raises(SessionNotOpenError, match="open"):
            await used(use)

    assert await async_driver.stored() is None
    await manager.close()


async def test_a_plain_string_is_no_list_of_agents(async_driver: Driver) -> None:
    manager = async_driver.manager()

    with pytest.raises(
        TypeError, match=r"agents: it must be a list of agent ids, such as \['two'\], not a plain string"
    ):
        await manager.open(agents="two")

    await manager.close()
    assert await async_driver.stored() is None


async def test_what_holds_no_agents_is_refused(async_driver: Driver) -> None:
    manager = async_driver.manager()

    with pytest.raises(TypeError, match=r"invalid agents: it must be a list of agent ids, not int"):
        await manager.open(agents=3)

    await manager.close()


async def test_loading_may_be_narrowed_to_some_agents(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        for agent_id in ("one", "two"):
            await make_agent(manager, f"hello of {agent_id}", agent_id=agent_id).invoke_async("hi")

    manager = await async_driver.manager().open(agents=["two", "new"])
    restored = make_agent(manager, "again", agent_id="two")
    created = make_agent(manager, "first", agent_id="new")
    with pytest.raises(SessionStoreError, match="'one'"):
        make_agent(manager, agent_id="one")
    await restored.invoke_async("hi again")
    await created.invoke_async("hi")
    counts = [await manager.get_message_count(agent_id) for agent_id in ("one", "two", "new")]
    await manager.close()

    assert texts(restored.messages) == ["hi", "hello of two", "hi again", "again"]
    assert counts == [2, 4, 2]
    assert (await async_driver.stored())["summary"]["agents"] == 3


async def test_initializing_the_same_agent_again_does_nothing(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        await agent.invoke_async("hi")

        manager.initialize(agent)

        assert texts(agent.messages) == ["hi", "hello"]
        assert await manager.get_message_count("assistant") == 2


async def test_a_second_agent_of_one_id_is_refused(driver: Driver) -> None:
    async with driver.manager() as manager:
        first = make_agent(driver.for_agents(manager), "hello")

        with pytest.raises(SessionException, match="unique"):
            make_agent(driver.for_agents(manager), "hello")
        await first.invoke_async("hi")

        assert await manager.get_message_count("assistant") == 2


async def test_an_agent_that_was_not_built_with_the_manager_is_added_when_its_id_is_new(driver: Driver) -> None:
    async with driver.manager() as manager:
        stranger = make_agent(None, messages=[{"role": "user", "content": [{"text": "before"}]}])
        stranger.state.set("mood", "good")

        manager.append_message(MESSAGE, stranger)
        manager.sync_agent(stranger)

    async with driver.manager() as manager:
        resumed = make_agent(driver.for_agents(manager))
        assert resumed.state.get("mood") == "good"
        assert [block["text"] for message in resumed.messages for block in message["content"]] == ["before", "hi"]


async def test_an_agent_that_was_not_built_with_the_manager_is_refused_when_its_id_is_stored(driver: Driver) -> None:
    async with driver.manager() as manager:
        await make_agent(driver.for_agents(manager), "hello").invoke_async("hi")

    async with driver.manager() as manager:
        stranger = make_agent(None)

        with pytest.raises(SessionStoreError, match=r"call initialize\(agent\)"):
            manager.append_message(MESSAGE, stranger)
        with pytest.raises(SessionStoreError, match=r"call initialize\(agent\)"):
            manager.sync_agent(stranger)


@pytest.mark.parametrize("built_with_it", [True, False])
async def test_another_agent_object_of_an_id_in_use_changes_nothing(driver: Driver, built_with_it: bool) -> None:
    async with driver.manager() as manager:
        live = make_agent(driver.for_agents(manager) if built_with_it else None, "hello", "hello again")
        if built_with_it:
            await live.invoke_async("hi")
        else:
            live.messages.append({"role": "user", "content": [{"text": "hi"}]})
            manager.sync_agent(live)
        await manager.flush()
        before = await driver.stored()
        stranger = make_agent(None, messages=[{"role": "user", "content": [{"text": "of another conversation"}]}])
        stranger.state.set("mood", "of another conversation")

        for call, arguments in (
            (manager.append_message, (MESSAGE, stranger)),
            (manager.sync_agent, (stranger,)),
            (manager.redact_latest_message, (MESSAGE, stranger)),
        ):
            with pytest.raises(SessionStoreError, match=r"'assistant' was not built with this manager .* initialize"):
                call(*arguments)
        await manager.flush()

        assert await driver.stored() == before


async def test_restoring_changes_neither_model_nor_tools_nor_system_prompt(driver: Driver) -> None:
    async with driver.manager() as manager:
        first = make_agent(
            driver.for_agents(manager), "hello", tools=[manager.get_metadata_tool()], system_prompt="Be brief."
        )
        await first.invoke_async("hi")

    async with driver.manager() as manager:
        second = make_agent(driver.for_agents(manager), "hello again", system_prompt="Be kind.")
        await second.invoke_async("hi again")

    assert second.system_prompt == "Be kind."
    assert model_of(second).system_prompts == ["Be kind."]
    assert model_of(second).tool_specs == [[]]


async def test_two_managers_in_one_process_add_to_one_conversation(driver: Driver) -> None:
    async with driver.manager() as one, driver.manager() as other:
        first = make_agent(driver.for_agents(one), "one", "three")
        await first.invoke_async("a")
        second = make_agent(driver.for_agents(other), "two")
        await second.invoke_async("b")
        await first.invoke_async("c")

        assert await one.get_message_count("assistant") == await other.get_message_count("assistant") == 6

    messages = await driver.repository().list_messages("s-1", "assistant")
    assert [message.message_id for message in messages] == list(range(6))
    assert texts([message.to_message() for message in messages]) == ["a", "one", "b", "two", "c", "three"]


async def test_two_sessions_in_one_process_stay_apart(driver: Driver) -> None:
    async with driver.manager("s-1") as one, driver.manager("s-2") as other:
        first = make_agent(driver.for_agents(one), "one")
        second = make_agent(driver.for_agents(other), "two")
        await asyncio.gather(first.invoke_async("a"), second.invoke_async("b"))

    repository = driver.repository()
    for session_id, expected in (("s-1", ["a", "one"]), ("s-2", ["b", "two"])):
        messages = await repository.list_messages(session_id, "assistant")
        assert texts([message.to_message() for message in messages]) == expected


@pytest.mark.parametrize("flush_on", ["turn", None, True])
async def test_when_to_write_is_one_of_two(driver: Driver, flush_on: Any) -> None:
    with pytest.raises(ValueError, match="flush_on"):
        async with driver.manager(flush_on=flush_on):
            pass


async def test_a_manager_shows_its_session_and_no_more(driver: Driver) -> None:
    async with driver.manager() as manager:
        shown = repr(driver.for_agents(manager))

    assert "s-1" in shown
    assert "open" in shown
    assert "mongodb://" not in shown
