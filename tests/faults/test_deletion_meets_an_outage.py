"""A session that could not be deleted goes on as if its deletion had not been asked for."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands.types.exceptions import EventLoopException

from mongodb_session_manager import SessionNotFoundError
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import Document, Sessions
from tests.support.agents import make_agent
from tests.support.invariants import check_stored
from tests.support.models import ScriptedModel

REFUSED = (PyMongoError, EventLoopException)


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("turns_before", [0, 1])
async def test_what_was_pending_is_written_and_numbered_without_a_gap(
    sessions: Sessions, mongo_client: MongoClient[Document], turns_before: int, flush_on: str
) -> None:
    refused = {"failCommands": ["update", "delete"], "errorCode": 89, "appName": sessions.appname}
    async with sessions.manager(write_deadline_s=0.1, flush_on=flush_on, retryWrites=False) as manager:
        agent = make_agent(manager, model=ScriptedModel(otherwise="fine"))
        for number in range(turns_before):
            await agent.invoke_async(f"before {number}")
        with fail_point(mongo_client, "alwaysOn", refused):
            with pytest.raises(REFUSED):
                await agent.invoke_async("pending")
            with pytest.raises(PyMongoError):
                await manager.delete_session()
        await agent.invoke_async("after")

    check_stored(sessions.raw.database)
    said = [text for text in sessions.texts() if text != "fine"]
    assert said == [*(f"before {number}" for number in range(turns_before)), "pending", "after"]


async def test_a_session_that_was_deleted_takes_nothing_of_what_was_pending(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    refused = {"failCommands": ["update"], "errorCode": 89, "appName": sessions.appname}
    async with sessions.manager(write_deadline_s=0.1, retryWrites=False) as manager:
        agent = make_agent(manager, model=ScriptedModel(otherwise="fine"))
        with fail_point(mongo_client, "alwaysOn", refused), pytest.raises(REFUSED):
            await agent.invoke_async("pending")
        assert await manager.delete_session() == 1
        await manager.flush()
        with pytest.raises((SessionNotFoundError, EventLoopException)):
            await agent.invoke_async("after")
        assert await manager.delete_session() == 0
    assert sessions.raw.find_one({}) is None
