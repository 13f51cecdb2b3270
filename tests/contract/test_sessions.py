from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import SessionExistsError, SessionNotFoundError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent

AGENT = SessionAgent(agent_id="a", state={}, conversation_manager_state={})
MESSAGE = SessionMessage({"role": "user", "content": [{"text": "hi"}]}, 0)
STILL_THERE = {"role": "user", "content": [{"text": "still there?"}]}


def a_session(session_id: str = "s-1") -> Session:
    return Session(session_id=session_id, session_type=SessionType.AGENT)


async def test_a_created_session_is_stored_in_the_documented_form(driver: Driver) -> None:
    repository = driver.repository(application_name="shop")

    created = await repository.create_session(a_session())

    stored = await driver.stored()
    assert (created.session_id, created.session_type) == ("s-1", SessionType.AGENT)
    assert stored["session_id"] == "s-1"
    assert stored["session_type"] == "AGENT"
    assert stored["application_name"] == "shop"
    assert isinstance(stored["schema_version"], int)
    assert isinstance(stored["created_at"], datetime)
    assert stored["updated_at"] == stored["created_at"]
    assert (stored["metadata"], stored["feedbacks"], stored["agents"]) == ({}, [], {})
    assert "expires_at" not in stored


async def test_a_session_that_exists_is_never_overwritten(driver: Driver) -> None:
    repository = driver.repository()
    await repository.create_session(a_session())
    await repository.update_metadata("s-1", {"keep": "me"})
    before = await driver.stored()

    with pytest.raises(SessionExistsError, match="s-1"):
        await repository.create_session(a_session())

    assert await driver.stored() == before


async def test_a_session_is_read_back(driver: Driver) -> None:
    repository = driver.repository()
    created = await repository.create_session(a_session())

    read = await repository.read_session("s-1")

    assert read == created
    assert await repository.check_session_exists("s-1")


async def test_what_does_not_exist_is_read_as_none(driver: Driver) -> None:
    repository = driver.repository()

    assert await repository.read_session("s-1") is None
    assert await repository.read_agent("s-1", "a") is None
    assert await repository.read_message("s-1", "a", 0) is None
    assert await repository.read_multi_agent("s-1", "g") is None
    assert not await repository.check_session_exists("s-1")


OPERATIONS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "create_agent": lambda repository: repository.create_agent("s-1", AGENT),
    "update_agent": lambda repository: repository.update_agent("s-1", AGENT),
    "delete_agent": lambda repository: repository.delete_agent("s-1", "a"),
    "list_agents": lambda repository: repository.list_agents("s-1"),
    "get_agent_config": lambda repository: repository.get_agent_config("s-1", "a"),
    "update_agent_config": lambda repository: repository.update_agent_config("s-1", "a", model="m"),
    "set_prompt_metadata": lambda repository: repository.set_prompt_metadata("s-1", "a", {"version": 1}),
    "create_message": lambda repository: repository.create_message("s-1", "a", MESSAGE),
    "update_message": lambda repository: repository.update_message("s-1", "a", MESSAGE),
    "list_messages": lambda repository: repository.list_messages("s-1", "a"),
    "get_message_count": lambda repository: repository.get_message_count("s-1", "a"),
    "repair_session": lambda repository: repository.repair_session("s-1"),
    "repair_session, mending": lambda repository: repository.repair_session("s-1", dry_run=False),
    "update_metadata": lambda repository: repository.update_metadata("s-1", {"a": 1}),
    "get_metadata": lambda repository: repository.get_metadata("s-1"),
    "delete_metadata": lambda repository: repository.delete_metadata("s-1", ["a"]),
    "add_feedback": lambda repository: repository.add_feedback("s-1", {"rating": "up"}),
    "get_feedbacks": lambda repository: repository.get_feedbacks("s-1"),
    "get_session_viewer_password": lambda repository: repository.get_session_viewer_password("s-1"),
    "get_application_name": lambda repository: repository.get_application_name("s-1"),
    "get_metrics_summary": lambda repository: repository.get_metrics_summary("s-1"),
}


async def test_operations_on_a_session_that_does_not_exist_say_so_and_create_nothing(driver: Driver) -> None:
    repository = driver.repository()
    for name, operation in OPERATIONS.items():
        with pytest.raises(SessionNotFoundError, match="s-1"):
            await operation(repository)

        assert await driver.stored() is None, name


async def test_deleting_counts_and_may_be_repeated(driver: Driver) -> None:
    repository = driver.repository()
    await repository.create_session(a_session())
    await repository.create_agent("s-1", AGENT)

    assert await repository.delete_session("s-1") == 1
    assert await repository.delete_session("s-1") == 0
    assert await driver.stored() is None


async def test_a_manager_deletes_its_session_and_may_repeat_it(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.check_session_exists()

        assert await manager.delete_session() == 1
        assert await manager.delete_session() == 0

        assert not await manager.check_session_exists()
        with pytest.raises(SessionNotFoundError, match="s-1"):
            await manager.get_metadata()
        with pytest.raises(SessionNotFoundError, match="s-1"):
            await manager.update_metadata({"a": 1})
    assert await driver.stored() is None


async def test_pending_writes_never_bring_a_deleted_session_back(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        await agent.invoke_async("hi")
        await driver.repository().delete_session("s-1")

        for write in (lambda: manager.append_message(STILL_THERE, agent), manager.flush):
            with pytest.raises(SessionNotFoundError, match="s-1"):
                await _written(write, manager)

        assert await driver.stored() is None
        assert await manager.delete_session() == 0  # gives up what is pending, so that closing is quiet


async def test_pending_writes_never_reach_the_successor_of_a_deleted_session(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        await agent.invoke_async("hi")
        repository = driver.repository()
        await repository.delete_session("s-1")
        await repository.create_session(a_session())
        successor = await driver.stored()

        with pytest.raises(SessionNotFoundError, match="s-1"):
            await _written(lambda: manager.append_message(STILL_THERE, agent), manager)
        with pytest.raises(SessionNotFoundError, match="s-1"):
            await manager.add_feedback({"rating": "up"})

        assert await driver.stored() == successor
        await manager.delete_session()


async def _written(write: Callable[[], Any], manager: Any) -> None:
    """Do something that a face of the manager writes at once or with its next flush."""
    if (waiting := write()) is not None:
        await waiting
    await manager.flush()


async def test_the_application_name_is_set_once(driver: Driver) -> None:
    async with driver.manager(application_name="shop") as manager:
        assert await manager.get_application_name() == "shop"

    async with driver.manager(application_name="bank") as manager:
        await manager.update_metadata({"a": 1})
        assert await manager.get_application_name() == "shop"

    assert await driver.repository(application_name="bank").get_application_name("s-1") == "shop"


async def test_a_session_without_an_application_has_none(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.get_application_name() is None


async def test_the_viewer_password_is_random_and_stays(driver: Driver) -> None:
    async with driver.manager() as manager:
        password = await manager.get_session_viewer_password()
    async with driver.manager() as manager:
        again = await manager.get_session_viewer_password()
    async with driver.manager("s-2") as manager:
        other = await manager.get_session_viewer_password()

    assert re.fullmatch("[A-Za-z0-9]{32}", password)
    assert again == password
    assert other != password
    assert await driver.repository().get_session_viewer_password("s-1") == password


async def test_every_write_moves_updated_at_and_no_read_does(driver: Driver) -> None:
    repository = driver.repository()
    await repository.create_session(a_session())
    writes = [
        repository.create_agent("s-1", AGENT),
        repository.create_message("s-1", "a", MESSAGE),
        repository.update_metadata("s-1", {"a": 1}),
        repository.delete_metadata("s-1", ["a"]),
        repository.add_feedback("s-1", {"rating": "up"}),
        repository.update_agent_config("s-1", "a", model="m"),
        repository.update_agent("s-1", AGENT),
        repository.update_message("s-1", "a", MESSAGE),
        repository.delete_agent("s-1", "a"),
    ]
    for write in writes:
        await driver.change({"$set": {"updated_at": datetime(2020, 1, 1)}})
        await write
        assert (await driver.stored())["updated_at"] > datetime(2020, 1, 1)

    await driver.change({"$set": {"updated_at": datetime(2020, 1, 1)}})
    await repository.read_session("s-1")
    await repository.get_metadata("s-1")
    await repository.list_sessions()
    async with driver.manager() as manager:
        await manager.get_feedbacks()
    assert (await driver.stored())["updated_at"] == datetime(2020, 1, 1)


async def test_a_session_gets_another_title_of_one_line(driver: Driver) -> None:
    repository = driver.repository()
    await repository.create_session(a_session())
    before = await driver.stored()

    await repository.rename_session("s-1", " Two\n lines\t")
    renamed = await driver.stored()
    await repository.rename_session("s-1", "x" * 500)
    cut = await driver.stored()

    assert renamed["title"] == "Two lines"
    assert renamed["updated_at"] >= before["updated_at"]
    assert (len(cut["title"]), cut["title"][-1]) == (120, "…")
    for wrong, error in ((" \n", ValueError), (7, TypeError)):
        with pytest.raises(error, match="title"):
            await repository.rename_session("s-1", wrong)
    with pytest.raises(SessionNotFoundError):
        await repository.rename_session("nobody", "x")
    assert (await driver.stored())["title"] == cut["title"]
