from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from strands.types.session import SessionAgent, SessionMessage

from tests.contract.drivers import Driver
from tests.support.agents import make_agent

LONG_AGO = datetime(2020, 1, 1)
HOUR = timedelta(hours=1)


async def lives_for(driver: Driver) -> timedelta:
    stored = await driver.stored()
    left: timedelta = stored["expires_at"] - stored["updated_at"]
    return left


async def rewind(driver: Driver) -> None:
    await driver.change({"$set": {"expires_at": LONG_AGO, "updated_at": LONG_AGO}})


@pytest.mark.parametrize("ttl", [HOUR, 3600, 3600.0])
async def test_a_new_session_expires_after_its_time_to_live(driver: Driver, ttl: Any) -> None:
    async with driver.manager(ttl=ttl):
        assert await lives_for(driver) == HOUR


async def test_a_session_without_one_is_kept_for_ever(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": 1})

        assert "expires_at" not in await driver.stored()


async def test_every_turn_and_write_moves_the_end(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR) as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        for activity in (
            agent.invoke_async("hi"),
            manager.update_metadata({"a": 1}),
            manager.add_feedback({"rating": "up"}),
        ):
            await rewind(driver)
            await activity
            assert await lives_for(driver) == HOUR


async def test_what_a_repository_writes_moves_the_end_too(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR):
        pass
    repository = driver.repository()
    agent = SessionAgent(agent_id="a", state={}, conversation_manager_state={})
    message = SessionMessage({"role": "user", "content": [{"text": "hi"}]}, 0)
    for activity in (
        repository.create_agent("s-1", agent),
        repository.create_message("s-1", "a", message),
        repository.add_feedback("s-1", {"rating": "up"}),
    ):
        await rewind(driver)
        await activity
        assert await lives_for(driver) == HOUR


async def test_reading_and_listing_do_not_move_the_end(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR) as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        await agent.invoke_async("hi")
    await rewind(driver)
    repository = driver.repository()

    async with driver.manager(ttl=HOUR) as manager:
        make_agent(driver.for_agents(manager))
        await manager.get_metadata()
        await manager.get_feedbacks()
        await manager.list_agents()
        await manager.get_metrics_summary()
        await manager.check_session_exists()
        await manager.repair_session()
    await repository.list_sessions()
    await repository.list_messages("s-1", "assistant")
    await repository.read_session("s-1")

    assert (await driver.stored())["expires_at"] == LONG_AGO


async def test_a_manager_without_one_keeps_and_refreshes_what_is_stored(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR):
        pass
    await rewind(driver)

    async with driver.manager() as manager:
        await manager.update_metadata({"a": 1})

    assert await lives_for(driver) == HOUR


async def test_a_manager_with_another_one_changes_it_for_those_to_come(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR):
        pass
    async with driver.manager(ttl=2 * HOUR) as manager:
        await manager.update_metadata({"a": 1})
    assert await lives_for(driver) == 2 * HOUR

    async with driver.manager() as manager:
        await manager.update_metadata({"a": 2})

    assert await lives_for(driver) == 2 * HOUR


async def test_a_session_that_was_kept_for_ever_gets_an_end(driver: Driver) -> None:
    async with driver.manager():
        pass

    async with driver.manager(ttl=HOUR) as manager:
        await manager.update_metadata({"a": 1})

    assert await lives_for(driver) == HOUR


async def test_the_end_is_listed(driver: Driver) -> None:
    async with driver.manager(ttl=HOUR):
        pass

    (session,) = (await driver.repository().list_sessions())["sessions"]

    assert session["expires_at"] - session["updated_at"] == HOUR


@pytest.mark.parametrize(
    ("ttl", "error"),
    [(0, ValueError), (-1, ValueError), (timedelta(0), ValueError), (float("inf"), ValueError), ("1h", TypeError)],
)
async def test_a_time_to_live_is_a_positive_time_span(driver: Driver, ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ttl"):
        async with driver.manager(ttl=ttl):
            pass

    assert await driver.stored() is None
