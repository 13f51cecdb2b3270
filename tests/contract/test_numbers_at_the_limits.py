"""Numbers that MongoDB cannot hold, at every operation of the repository that takes one."""

from __future__ import annotations

from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import MessageNotFoundError, SessionNotFoundError, SessionStoreError
from tests.contract.drivers import Driver

LARGE = [2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30]


def said(text: str, number: Any) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, number)


async def a_repository(driver: Driver) -> Any:
    repository = driver.repository()
    await repository.create_session(Session("s-1", SessionType.AGENT))
    await repository.create_agent("s-1", SessionAgent("a", {}, {}))
    for number in range(3):
        await repository.create_message("s-1", "a", said(str(number), number))
    return repository


def texts(messages: Any) -> list[str]:
    return [message.message["content"][0]["text"] for message in messages]


async def test_a_message_number_that_no_message_has(driver: Driver) -> None:
    repository = await a_repository(driver)
    for number in (-1, *LARGE, *(-number for number in LARGE)):
        await check_missing(repository, number)
    assert texts(await repository.list_messages("s-1", "a")) == ["0", "1", "2"]


async def check_missing(repository: Any, number: int) -> None:
    assert await repository.read_message("s-1", "a", number) is None
    assert await repository.read_message("gone", "a", number) is None
    with pytest.raises(MessageNotFoundError, match=str(number)):
        await repository.update_message("s-1", "a", said("new", number))
    with pytest.raises(SessionNotFoundError):
        await repository.update_message("gone", "a", said("new", number))
    with pytest.raises(SessionStoreError, match=rf"message {number} .* its next message is number 3"):
        await repository.create_message("s-1", "a", said("new", number))
    with pytest.raises(SessionNotFoundError):
        await repository.create_message("gone", "a", said("new", number))
    with pytest.raises(MessageNotFoundError, match=str(number)):
        await repository.fork_session("s-1", "s-2", up_to_message=number)


@pytest.mark.parametrize("number", [True, 1.0, "1", None, {"$gt": 0}])
async def test_a_message_number_is_an_integer(driver: Driver, number: Any) -> None:
    repository = await a_repository(driver)

    for call in (
        repository.read_message("s-1", "a", number),
        repository.update_message("s-1", "a", said("new", number)),
        repository.create_message("s-1", "a", said("new", number)),
    ):
        with pytest.raises(TypeError, match="message_id"):
            await call


async def test_a_limit_and_an_offset_beyond_what_there_is(driver: Driver) -> None:
    repository = await a_repository(driver)
    for number in LARGE:
        await check_beyond(repository, number)


async def check_beyond(repository: Any, number: int) -> None:
    assert texts(await repository.list_messages("s-1", "a", limit=number)) == ["0", "1", "2"]
    assert texts(await repository.list_messages("s-1", "a", limit=number, offset=1)) == ["1", "2"]
    assert await repository.list_messages("s-1", "a", offset=number) == []
    assert await repository.list_messages("s-1", "a", limit=number, offset=number) == []
    for bad in ({"limit": -number}, {"offset": -number}):
        with pytest.raises(ValueError, match="negative"):
            await repository.list_messages("s-1", "a", **bad)


@pytest.mark.parametrize("number", [True, 1.0, "1"])
async def test_a_limit_and_an_offset_are_integers(driver: Driver, number: Any) -> None:
    repository = await a_repository(driver)

    for bad in ("limit", "offset"):
        with pytest.raises(TypeError, match=f"invalid {bad}"):
            await repository.list_messages("s-1", "a", **{bad: number})


async def test_the_same_of_a_document_of_another_tool(driver: Driver) -> None:
    messages = [{"message_id": 0, "role": "user", "content": [{"text": "0"}]}]
    await driver.store({"_id": "s-1", "agents": {"a": {"agent_data": {"agent_id": "a"}, "messages": messages}}})
    repository = driver.repository()

    for number in LARGE:
        assert await repository.read_message("s-1", "a", number) is None
        assert texts(await repository.list_messages("s-1", "a", limit=number)) == ["0"]
        assert await repository.list_messages("s-1", "a", offset=number) == []
