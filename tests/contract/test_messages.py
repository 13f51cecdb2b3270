from __future__ import annotations

from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import MessageNotFoundError, SessionStoreError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import Reply, calls


def said(text: str, message_id: int = 0, role: str = "user") -> SessionMessage:
    message: Any = {"role": role, "content": [{"text": text}]}
    return SessionMessage(message, message_id)


async def a_repository(driver: Driver, *texts: str) -> Any:
    """A repository with an agent "a", to which so much was said."""
    repository = driver.repository()
    await repository.create_session(Session(session_id="s-1", session_type=SessionType.AGENT))
    await repository.create_agent("s-1", SessionAgent(agent_id="a", state={}, conversation_manager_state={}))
    for number, text in enumerate(texts):
        await repository.create_message("s-1", "a", said(text, number))
    return repository


async def texts_of(repository: Any, **part: int) -> list[str]:
    return [m.message["content"][0]["text"] for m in await repository.list_messages("s-1", "a", **part)]


async def test_messages_are_read_back_in_order_and_by_number(driver: Driver) -> None:
    repository = await a_repository(driver, "one", "two", "three")

    assert await texts_of(repository) == ["one", "two", "three"]
    assert [m.message_id for m in await repository.list_messages("s-1", "a")] == [0, 1, 2]
    assert (await repository.read_message("s-1", "a", 1)).message == said("two").message
    assert await repository.read_message("s-1", "a", 3) is None
    assert await repository.read_message("s-1", "b", 0) is None
    assert await repository.get_message_count("s-1", "a") == 3


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"limit": 2}, ["one", "two"]),
        ({"offset": 1}, ["two", "three"]),
        ({"limit": 1, "offset": 1}, ["two"]),
        ({"limit": 0}, []),
        ({"limit": 9, "offset": 2}, ["three"]),
        ({"offset": 3}, []),
        ({"limit": 1, "offset": 9}, []),
        ({"limit": 2**40, "offset": 0}, ["one", "two", "three"]),
        ({"limit": 1, "offset": 2**40}, []),
    ],
)
async def test_a_part_of_the_messages_is_listed(driver: Driver, part: dict[str, int], expected: list[str]) -> None:
    repository = await a_repository(driver, "one", "two", "three")

    assert await texts_of(repository, **part) == expected


@pytest.mark.parametrize("part", [{"limit": -1}, {"offset": -1}])
async def test_a_negative_part_is_refused(driver: Driver, part: dict[str, int]) -> None:
    repository = await a_repository(driver, "one")

    with pytest.raises(ValueError, match="must not be negative"):
        await repository.list_messages("s-1", "a", **part)


async def test_an_agent_without_messages_lists_none(driver: Driver) -> None:
    repository = await a_repository(driver)

    assert await repository.list_messages("s-1", "a") == []
    assert await repository.list_messages("s-1", "a", limit=1) == []


@pytest.mark.parametrize("number", [0, 2])
async def test_a_message_is_appended_under_the_next_number_only(driver: Driver, number: int) -> None:
    repository = await a_repository(driver, "one")

    with pytest.raises(SessionStoreError, match="next message is number 1"):
        await repository.create_message("s-1", "a", said("two", number))

    assert await texts_of(repository) == ["one"]


@pytest.mark.parametrize("number", ["0", {"$gt": 0}, True, None])
async def test_a_message_number_is_an_integer(driver: Driver, number: Any) -> None:
    repository = await a_repository(driver, "one", "two")

    with pytest.raises(TypeError, match="message_id"):
        await repository.read_message("s-1", "a", number)


async def test_updating_a_message_keeps_its_metrics_and_records(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), Reply(text="hello"), agent_id="a")
        await agent.invoke_async("hi")
    repository = driver.repository()
    before = (await driver.stored())["agents"]["a"]["messages"][1]

    await repository.update_message("s-1", "a", said("good day", 1, "assistant"))

    after = (await driver.stored())["agents"]["a"]["messages"][1]
    assert after["content"] == [{"text": "good day"}]
    assert after["event_loop_metrics"] == before["event_loop_metrics"]
    assert after["metadata"] == before["metadata"]
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] >= before["updated_at"]
    assert await texts_of(repository) == ["hi", "good day"]


async def test_updating_a_message_that_does_not_exist_is_an_error(driver: Driver) -> None:
    repository = await a_repository(driver, "one")
    before = await driver.stored()

    with pytest.raises(MessageNotFoundError, match="message 1"):
        await repository.update_message("s-1", "a", said("two", 1))
    with pytest.raises(MessageNotFoundError, match="agent 'b'"):
        await repository.update_message("s-1", "b", said("two", 0))

    assert await driver.stored() == before


async def test_a_redacted_message_is_read_as_its_replacement(driver: Driver) -> None:
    repository = await a_repository(driver, "my number is 4711", "two")
    message = await repository.read_message("s-1", "a", 0)
    message.redact_message = {"role": "user", "content": [{"text": "[removed]"}]}

    await repository.update_message("s-1", "a", message)

    read = await repository.read_message("s-1", "a", 0)
    assert read.redact_message == message.redact_message
    assert read.to_message()["content"] == [{"text": "[removed]"}]
    assert "4711" not in str(await driver.stored())


async def test_a_redaction_is_not_undone_by_who_read_the_message_before(driver: Driver) -> None:
    repository = await a_repository(driver, "my number is 4711")
    stale = await repository.read_message("s-1", "a", 0)
    redacted = await repository.read_message("s-1", "a", 0)
    redacted.redact_message = {"role": "user", "content": [{"text": "[removed]"}]}
    await repository.update_message("s-1", "a", redacted)

    with pytest.raises(SessionStoreError, match="was redacted"):
        await repository.update_message("s-1", "a", stale)

    assert "4711" not in str(await driver.stored())


async def test_a_message_that_cannot_be_stored_is_refused_with_its_place(driver: Driver) -> None:
    repository = await a_repository(driver)
    message: Any = {"role": "user", "content": [{"text": "hi"}, {"document": {"source": object()}}]}

    with pytest.raises(TypeError, match=r"content\[1\]\.document\.source"):
        await repository.create_message("s-1", "a", SessionMessage(message, 0))

    assert await repository.list_messages("s-1", "a") == []


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": None}, r"content: .* not NoneType"),
        ({"role": "user", "content": 7}, r"content: .* not int"),
        ({"role": "user", "content": b"Hi."}, r"content: .* not bytes"),
        ({"role": "user", "content": {"text": "Hi."}}, r"content: .* not dict"),
        ({"role": "user", "content": ["Hi."]}, r"content\[0\]: .* not str"),
        ({"role": "user", "content": [{"text": "Hi."}, None]}, r"content\[1\]: .* not NoneType"),
        ({"role": "user", "content": [("text", "Hi.")]}, r"content\[0\]: .* not tuple"),
        ({"role": "user"}, "it must have content"),
        ({"content": [{"text": "Hi."}]}, "it must have a role"),
        ({"role": 7, "content": [{"text": "Hi."}]}, "role: .* not int"),
    ],
)
async def test_a_message_that_could_not_be_read_again_is_refused(driver: Driver, message: Any, place: str) -> None:
    repository = await a_repository(driver, "one")

    with pytest.raises(TypeError, match=place):
        await repository.create_message("s-1", "a", SessionMessage(message, 1))
    with pytest.raises(TypeError, match=place):
        await repository.update_message("s-1", "a", SessionMessage(message, 0))
    with pytest.raises(TypeError, match=place):
        await repository.update_message("s-1", "a", SessionMessage(said("one").message, 0, message))

    assert await texts_of(repository) == ["one"]


async def test_blocks_in_a_tuple_are_a_content(driver: Driver) -> None:
    repository = await a_repository(driver)
    message: Any = {"role": "user", "content": ({"text": "one"}, {"text": "two"})}

    await repository.create_message("s-1", "a", SessionMessage(message, 0))

    [read] = await repository.list_messages("s-1", "a")
    assert read.message["content"] == [{"text": "one"}, {"text": "two"}]


async def test_what_an_agent_said_is_stored_in_the_documented_form(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(
            driver.for_agents(manager),
            calls(("manage_metadata", {"action": "set", "metadata": {"a": 1}})),
            "done",
            agent_id="a",
            tools=[manager.get_metadata_tool()],
        )
        await agent.invoke_async("hi")
        count = await manager.get_message_count("a")

    stored = (await driver.stored())["agents"]["a"]
    assert [m["message_id"] for m in stored["messages"]] == [0, 1, 2, 3]
    assert [m["role"] for m in stored["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [m["content"] for m in stored["messages"]] == [m["content"] for m in agent.messages]
    assert [m.get("tracking_id") for m in stored["messages"]] == [m.get("tracking_id") for m in agent.messages]
    assert stored["next_message_id"] == count == 4
    assert stored["agent_data"]["agent_id"] == "a"


async def test_a_repeated_prompt_is_stored_each_time(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "ok", "ok", agent_id="a")
        await agent.invoke_async("yes")
        await agent.invoke_async("yes")

    assert await texts_of(driver.repository()) == ["yes", "ok", "yes", "ok"]


async def test_messages_appended_by_hand_are_not_stored_twice(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "Paris it is.", agent_id="a")
        manager.append_message({"role": "user", "content": "Which city?"}, agent)
        await agent.invoke_async("Which city?")
        manager.append_message({"role": "assistant", "content": "Paris it is."}, agent)

    assert await texts_of(driver.repository()) == ["Which city?", "Paris it is."]
