"""A session document that has no room left: our error, without what is stored, and a session that stays usable."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionRepository, SessionFullError
from tests.support.agents import make_agent

MEGABYTE = 1024 * 1024
SECRET = "what nobody may see"

pytestmark = pytest.mark.server


class Full:
    """A session whose document another tool has filled, but for some bytes."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection

    def fill(self, left: int) -> None:
        document = {**self.collection.find_one({"_id": "s-1"}), "note": SECRET, "filler": b""}
        document["filler"] = b"\x00" * (16 * MEGABYTE - len(bson.encode(document)) - left)
        # Inserted: to change so large a document takes more cache than a small server has.
        self.collection.delete_one({"_id": "s-1"})
        self.collection.insert_one(document)

    def empty(self) -> None:
        self.collection.update_one({"_id": "s-1"}, {"$unset": {"filler": ""}})


@pytest.fixture
def address(mongo_uri: str, database_name: str) -> dict[str, Any]:
    return {"connection_string": mongo_uri, "database_name": database_name, "collection_name": "sessions"}


@pytest.fixture
def full(mongo_client: MongoClient[dict[str, Any]], database_name: str) -> Full:
    return Full(mongo_client[database_name]["sessions"])


def a_message(number: int, text: str) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, number)


Change = Callable[[AsyncMongoDBSessionRepository], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "metadata": lambda r: r.update_metadata("s-1", {"a": "x" * 10_000}),
    "metadata at a path": lambda r: r.update_metadata("s-1", {"list.0": "x" * 10_000}),
    "feedback": lambda r: r.add_feedback("s-1", {"comment": "x" * 10_000}),
    "message": lambda r: r.create_message("s-1", "a", a_message(1, "x" * 10_000)),
    "changed message": lambda r: r.update_message("s-1", "a", a_message(0, "x" * 10_000)),
    "configuration": lambda r: r.update_agent_config("s-1", "a", system_prompt="x" * 10_000),
    "prompt metadata": lambda r: r.set_prompt_metadata("s-1", "a", {"a": "x" * 10_000}),
    "agent": lambda r: r.create_agent("s-1", SessionAgent("b", {"a": "x" * 10_000}, {})),
}


@pytest.mark.matrix
@pytest.mark.parametrize("change", CHANGES)
async def test_what_has_no_room_is_refused_and_everything_else_goes_on(
    address: dict[str, Any], full: Full, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mongodb_session_manager")
    async with AsyncMongoDBSessionRepository(**address) as repository:
        await repository.create_session(Session("s-1", SessionType.AGENT))
        await repository.create_agent("s-1", SessionAgent("a", {}, {}))
        await repository.create_message("s-1", "a", a_message(0, "hi"))
        await repository.update_metadata("s-1", {"kept": 1, "list": []})
        full.fill(left=6_000)

        with pytest.raises(SessionFullError) as raised:
            await CHANGES[change](repository)

        assert raised.value.limit_bytes == 16 * MEGABYTE
        assert raised.value.session_id == "s-1"
        error: BaseException | None = raised.value
        while error is not None:
            assert SECRET not in str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        assert SECRET not in caplog.text
        assert await repository.get_metadata("s-1") == {"metadata": {"kept": 1, "list": []}}
        await repository.update_metadata("s-1", {"small": 1})
        await repository.delete_metadata("s-1", ["kept"])
        full.empty()
        await CHANGES[change](repository)


async def test_a_turn_of_a_full_session_fails_with_that_and_its_messages_are_stored_later(
    address: dict[str, Any], full: Full
) -> None:
    async with AsyncMongoDBSessionManager("s-1", **address) as manager:
        agent = make_agent(manager, "x" * 10_000, "There.")
        full.fill(left=6_000)

        with pytest.raises(SessionException) as raised:
            await agent.invoke_async("x" * 10_000)
        assert SECRET not in str(raised.value)
        chain: list[BaseException] = [raised.value]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(cause)
        assert any(isinstance(error, SessionFullError) for error in chain)

        full.empty()
        await manager.flush()
        assert len(await manager.repository.list_messages("s-1", agent.agent_id)) >= 1


async def test_what_has_no_room_holds_up_nothing_that_has(address: dict[str, Any], full: Full) -> None:
    async with AsyncMongoDBSessionManager("s-1", **address) as manager:
        agent = make_agent(manager, "There.")
        await manager.update_metadata({"large": "x" * 50_000})
        full.fill(left=6_000)

        with pytest.raises(SessionException):
            await agent.invoke_async("y" * 10_000)
        for _ in range(2):
            with pytest.raises(SessionFullError):
                await manager.flush()
        with pytest.raises(SessionFullError):
            await manager.update_metadata({"more": "x" * 10_000})
        await manager.update_metadata({"small": 1})
        await manager.add_feedback({"rating": "up"})
        assert await manager.get_metadata() == {"metadata": {"large": "x" * 50_000, "small": 1}}

        # Makes room, also for what waits.
        await manager.delete_metadata(["large"])
        await manager.flush()
        assert await manager.get_message_count(agent.agent_id) >= 1
        await manager.update_metadata({"later": 1})


async def test_a_manager_of_a_full_session_closes_and_says_what_was_lost(address: dict[str, Any], full: Full) -> None:
    manager = AsyncMongoDBSessionManager("s-1", **address)
    await manager.open()
    agent = make_agent(manager, "There.")
    full.fill(left=6_000)
    with pytest.raises(SessionException):
        await agent.invoke_async("y" * 10_000)

    with pytest.raises(SessionFullError):
        await manager.close()
    await manager.close()


async def test_more_than_a_command_may_hold_is_refused_alike(address: dict[str, Any]) -> None:
    async with AsyncMongoDBSessionRepository(**address) as repository:
        await repository.create_session(Session("s-1", SessionType.AGENT))
        await repository.create_agent("s-1", SessionAgent("a", {}, {}))

        for size in (16, 50):
            with pytest.raises(SessionFullError):
                await repository.set_prompt_metadata("s-1", "a", ["x" * size * MEGABYTE])
        await repository.set_prompt_metadata("s-1", "a", ["x"])


async def test_a_path_goes_on_below_a_new_item_of_a_list(address: dict[str, Any]) -> None:
    async with AsyncMongoDBSessionManager("s-1", **address) as manager:
        await manager.update_metadata({"a": [1]})
        await manager.update_metadata({"a.2.b.0": "x"})

        assert await manager.get_metadata() == {"metadata": {"a": [1, None, {"b": {"0": "x"}}]}}
