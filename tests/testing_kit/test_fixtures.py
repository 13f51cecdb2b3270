from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from strands import Agent, tool

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
)
from mongodb_session_manager.testing import HistoryRefusedError, OfflineModel, calls, check_history
from mongodb_session_manager.testing.plugin import COLLECTION, SESSION_ID, MakeScriptedModel
from tests.fixtures.sessions import texts_of

Document = dict[str, Any]


def _agent(manager: Any, model: Any, **options: Any) -> Agent:
    return Agent(model=model, agent_id="assistant", session_manager=manager, callback_handler=None, **options)


async def test_an_async_manager_stores_and_another_resumes(
    async_session_manager: AsyncMongoDBSessionManager,
    async_session_manager_factory: AsyncMongoDBSessionManagerFactory,
    mongodb_database: Database[Document],
    offline_model: OfflineModel,
) -> None:
    async with async_session_manager as manager:
        await _agent(manager, offline_model).invoke_async("My name is Ada.")

    async with async_session_manager_factory.create_session_manager(SESSION_ID) as manager:
        answer = str(await _agent(manager, offline_model).invoke_async("What is my name?"))

    assert answer.strip() == "Your name is Ada."
    stored = mongodb_database[COLLECTION].find_one({"_id": SESSION_ID})
    assert stored is not None
    assert texts_of(stored["agents"]["assistant"]["messages"])[::2] == ["My name is Ada.", "What is my name?"]
    assert mongodb_database.list_collection_names() == [COLLECTION]


def test_a_synchronous_manager_stores_and_another_resumes(
    session_manager: MongoDBSessionManager,
    session_manager_factory: MongoDBSessionManagerFactory,
    mongodb_database: Database[Document],
    offline_model: OfflineModel,
) -> None:
    _agent(session_manager, offline_model)("My name is Ada.")

    with session_manager_factory.create_session_manager(SESSION_ID) as manager:
        assert str(_agent(manager, offline_model)("What is my name?")).strip() == "Your name is Ada."

    assert mongodb_database[COLLECTION].count_documents({}) == 1


def test_an_async_manager_that_is_left_open_is_closed_from_outside_its_loop(
    async_session_manager: AsyncMongoDBSessionManager, offline_model: OfflineModel
) -> None:
    async def leave_open() -> None:
        manager = await async_session_manager.open()
        await _agent(manager, offline_model).invoke_async("My name is Ada.")

    asyncio.run(leave_open())

    assert "closed" not in repr(async_session_manager)


async def test_a_scripted_model_calls_tools_and_records_what_it_was_asked(
    async_session_manager: AsyncMongoDBSessionManager, scripted_model: MakeScriptedModel
) -> None:
    @tool
    def double(number: int) -> str:
        """Double a number."""
        return str(2 * number)

    model = scripted_model(calls(("double", {"number": 21})), "It is 42.")
    async with async_session_manager as manager:
        answer = await _agent(manager, model, tools=[double]).invoke_async("Double 21.")

    assert str(answer).strip() == "It is 42."
    assert [len(request) for request in model.requests] == [1, 3]
    result = model.requests[1][2]["content"][0]["toolResult"]
    assert result["content"] == [{"text": "42"}]
    check_history(model.requests[1])
    with pytest.raises(HistoryRefusedError, match="nothing answers"):
        check_history(model.requests[1][:2])


def test_each_test_has_an_empty_database_of_its_own(
    mongodb_client: MongoClient[Document], mongodb_database: Database[Document], mongodb_database_name: str
) -> None:
    assert mongodb_database.name == mongodb_database_name
    assert mongodb_database.list_collection_names() == []
    assert mongodb_client.address == mongodb_database.client.address
