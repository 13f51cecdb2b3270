"""Forks, over every driver: what they hold, and what stays behind."""

from __future__ import annotations

import time
from typing import Any

import bson
import pytest
from strands import tool
from strands.agent.conversation_manager import NullConversationManager
from strands.types.session import Session, SessionType

from mongodb_session_manager import AgentNotFoundError, MessageNotFoundError, SessionExistsError, SessionNotFoundError
from tests.contract.drivers import Driver
from tests.support.agents import AGENT_ID, make_agent, model_of
from tests.support.models import blocked, calls, check_history, texts


@tool
def lookup(word: str) -> str:
    """Look something up."""
    return f"{word}: found"


def keeping_all(driver: Driver, manager: Any, *script: Any, **kwargs: Any) -> Any:
    return make_agent(driver.for_agents(manager), *script, conversation_manager=NullConversationManager(), **kwargs)


SAID = ["Hi.", "Hello!", "Look up a.", "", "", "Found.", "Thanks.", "You are welcome."]


async def a_conversation(driver: Driver, **options: Any) -> None:
    """Store eight messages, of which 3 calls a tool and 4 holds its result."""
    async with driver.manager(**options) as manager:
        script = ["Hello!", calls(("lookup", {"word": "a"})), "Found.", "You are welcome."]
        agent = keeping_all(driver, manager, *script, tools=[lookup])
        for number, prompt in enumerate(("Hi.", "Look up a.", "Thanks.")):
            agent.state.set("turns", number + 1)
            await agent.invoke_async(prompt)
        await manager.update_metadata({"topic": {"name": "weather"}})
        await manager.add_feedback({"rating": "up"})


async def test_a_fork_holds_what_the_session_holds(driver: Driver) -> None:
    await a_conversation(driver, application_name="support")
    before = await driver.stored()
    repository = driver.repository()

    session = await repository.fork_session("s-1", "s-2")

    assert session.session_id == "s-2"
    assert await driver.stored() == before
    fork = await driver.stored("s-2")
    assert fork["agents"] == before["agents"]
    assert fork["metadata"] == {"topic": {"name": "weather"}}
    assert fork["application_name"] == "support"
    assert (fork["feedbacks"], fork["summary"]["feedbacks"]) == ([], 0)
    assert {name: fork["summary"][name] for name in ("agents", "messages", "usage")} == {
        name: before["summary"][name] for name in ("agents", "messages", "usage")
    }
    for own in ("_id", "session_id", "incarnation", "session_viewer_password"):
        assert fork[own] != before[own]
    assert len(fork["session_viewer_password"]) == 32
    assert await repository.get_metrics_summary("s-2") == await repository.get_metrics_summary("s-1")


async def test_a_fork_and_its_session_go_on_apart(driver: Driver) -> None:
    await a_conversation(driver)
    await driver.repository().fork_session("s-1", "s-2")
    before = await driver.stored()

    async with driver.manager("s-2") as manager:
        agent = keeping_all(driver, manager, "In the fork.", tools=[lookup])
        assert texts(agent.messages) == SAID
        assert agent.state.get("turns") == 3
        await agent.invoke_async("Go on.")

    assert await driver.stored() == before
    assert (await driver.stored("s-2"))["agents"][AGENT_ID]["next_message_id"] == 10


@pytest.mark.matrix
@pytest.mark.parametrize("number", range(8))
async def test_a_fork_may_end_with_any_message(driver: Driver, number: int) -> None:
    await a_conversation(driver)
    repository = driver.repository()
    original = await repository.list_messages("s-1", AGENT_ID)

    await repository.fork_session("s-1", "s-2", up_to_message=number)

    assert await repository.list_messages("s-2", AGENT_ID) == original[: number + 1]
    stored = await driver.stored("s-2")
    assert stored["summary"]["messages"] == number + 1
    assert stored["agents"][AGENT_ID]["next_message_id"] == number + 1
    async with driver.manager("s-2") as manager:
        agent = keeping_all(driver, manager, "Going on.", tools=[lookup])
        await agent.invoke_async("Go on.")
        (request,) = model_of(agent).requests
    check_history(request)
    numbers = [message.message_id for message in await repository.list_messages("s-2", AGENT_ID)]
    assert numbers == list(range(len(numbers)))


async def test_totals_are_those_of_the_messages_that_are_kept(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        script = ["Hello!", calls(("lookup", {"word": "a"})), "Found.", "You are welcome."]
        agent = keeping_all(driver, manager, *script, tools=[lookup])
        totals: list[tuple[int, Any]] = []
        for prompt in ("Hi.", "Look up a.", "Thanks."):
            await agent.invoke_async(prompt)
            totals.append((len(agent.messages), await manager.get_metrics_summary()))

    for count, total in totals:
        await repository.fork_session("s-1", f"up to {count}", up_to_message=count - 1)
        found = await repository.get_metrics_summary(f"up to {count}")
        assert (found["tokens"], found["model_calls"]) == (total["tokens"], total["model_calls"])
        assert {name: tool_["call_count"] for name, tool_ in found["tool_calls"].items()} == {
            name: tool_["call_count"] for name, tool_ in total["tool_calls"].items()
        }
        fork, agents = await driver.stored(f"up to {count}"), await repository.get_metrics_summary(f"up to {count}")
        assert fork["summary"]["usage"].get("totalTokens") == agents["tokens"]["total"]


async def test_state_belongs_to_the_newest_message(driver: Driver) -> None:
    await a_conversation(driver)
    repository = driver.repository()
    await repository.fork_session("s-1", "early", up_to_message=1)
    await repository.fork_session("s-1", "whole", up_to_message=7)

    found = {}
    for name in ("early", "whole"):
        async with driver.manager(name) as manager:
            agent = keeping_all(driver, manager, "Yes.", tools=[lookup], state={"customer": 7})
            found[name] = agent.state.get()
            await agent.invoke_async("Go on.")
            agent.state.set("turns", 10)
            manager.sync_agent(agent)

    assert found == {"early": {"customer": 7}, "whole": {"turns": 3}}
    async with driver.manager("early") as manager:
        agent = keeping_all(driver, manager, tools=[lookup], state={"customer": 8})
        assert agent.state.get() == {"customer": 7, "turns": 10}


def wait_for_the_next_millisecond() -> None:
    """Return when a date of now differs from one of before as it is stored."""
    before = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= before:
        pass


async def test_the_other_agents_are_cut_by_time(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        first = keeping_all(driver, manager, "a-1", "a-2", "a-3", agent_id="a")
        other = keeping_all(driver, manager, "b-1", "b-2", agent_id="b.c")
        await first.invoke_async("one")
        await other.invoke_async("eins")
        await first.invoke_async("two")
        wait_for_the_next_millisecond()  # messages of one and the same go along
        await other.invoke_async("zwei")
        late = keeping_all(driver, manager, "c-1", agent_id="late")
        await late.invoke_async("un")
        await first.invoke_async("three")
    with pytest.raises(ValueError, match="invalid agent_id: it must name the agent"):
        await repository.fork_session("s-1", "s-2", up_to_message=3)

    await repository.fork_session("s-1", "s-2", up_to_message=3, agent_id="a")

    def said(messages: Any) -> list[str]:
        return texts([message.to_message() for message in messages])

    assert [agent["agent_id"] for agent in await repository.list_agents("s-2")] == ["a", "b.c"]
    assert said(await repository.list_messages("s-2", "a")) == ["one", "a-1", "two", "a-2"]
    assert said(await repository.list_messages("s-2", "b.c")) == ["eins", "b-1"]


async def test_guardrail_events_go_with_their_messages(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        agent = keeping_all(driver, manager, blocked(user="[gone]"), "Fine.", blocked(user="[gone, too]"))
        for prompt in ("my secret", "Good?", "another secret"):
            await agent.invoke_async(prompt)
    events = (await driver.stored())["guardrail_events"]
    assert len(events) == 2

    await repository.fork_session("s-1", "s-2", up_to_message=3)

    fork = await driver.stored("s-2")
    assert fork["guardrail_events"] == events[:1]
    assert "secret" not in str(fork)


async def test_metadata_may_stay_behind(driver: Driver) -> None:
    await a_conversation(driver)
    repository = driver.repository()

    await repository.fork_session("s-1", "s-2", metadata=False)

    assert await repository.get_metadata("s-2") == {"metadata": {}}


@pytest.mark.parametrize("metadata", [True, False])
async def test_the_metadata_of_a_fork_count_as_what_they_are(driver: Driver, metadata: bool) -> None:
    await a_conversation(driver)
    repository = driver.repository()
    for number in range(5):
        await repository.update_metadata("s-1", {"draft": f"{number}" * 200_000})
    await repository.update_metadata("s-1", {"draft": "short"})

    await repository.fork_session("s-1", "s-2", metadata=metadata)

    source, fork = await driver.stored("s-1"), await driver.stored("s-2")
    assert source["metadata_bytes"] > 900_000
    assert fork["metadata_bytes"] == len(bson.encode(fork["metadata"])) < 1_000


async def test_a_manager_forks_its_session_with_what_is_pending(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = keeping_all(driver, manager, "Hello!")
        await agent.invoke_async("Hi.")
        agent.state.set("mood", "good")
        manager.sync_agent(agent)

        session = await manager.fork("s-2")
        await manager.fork("s-3", 0, AGENT_ID)
        await manager.fork("s-4", up_to_message=0)

    assert isinstance(session, Session)
    assert (session.session_id, session.session_type) == ("s-2", SessionType.AGENT)
    async with driver.manager("s-2") as manager:
        agent = keeping_all(driver, manager)
        assert agent.state.get("mood") == "good"
    for name in ("s-3", "s-4"):
        assert await driver.repository().get_message_count(name, AGENT_ID) == 1


async def test_nothing_is_forked_in_vain(driver: Driver) -> None:
    await a_conversation(driver)
    repository = driver.repository()
    await repository.create_session(Session("taken", SessionType.AGENT))
    taken = await driver.stored("taken")

    with pytest.raises(SessionExistsError):
        await repository.fork_session("s-1", "taken")
    with pytest.raises(SessionExistsError):
        await repository.fork_session("s-1", "s-1")
    with pytest.raises(SessionNotFoundError):
        await repository.fork_session("unknown", "s-2")
    with pytest.raises(AgentNotFoundError):
        await repository.fork_session("s-1", "s-2", up_to_message=1, agent_id="unknown")
    with pytest.raises(AgentNotFoundError):
        await repository.fork_session("s-1", "s-2", agent_id="unknown")
    for number in (-1, 8):
        with pytest.raises(MessageNotFoundError):
            await repository.fork_session("s-1", "s-2", up_to_message=number)
    for odd in ("1", 1.0, True):
        with pytest.raises(TypeError, match="invalid up_to_message: it must be an integer"):
            await repository.fork_session("s-1", "s-2", up_to_message=odd)
    for odd_id in ("", {"$ne": 1}):
        with pytest.raises(ValueError, match="session id"):
            await repository.fork_session("s-1", odd_id)

    assert await driver.stored("taken") == taken
    assert await driver.stored("s-2") is None


async def test_the_document_of_an_older_tool_is_forked_and_stays_as_it_is(driver: Driver) -> None:
    messages = [
        {
            "message": {"role": role, "content": [{"text": text}]},
            "message_id": number,
            "created_at": f"2024-05-0{number + 1}",
        }
        for number, (role, text) in enumerate([("user", "one"), ("assistant", "two"), ("user", "three")])
    ]
    older = {
        "_id": "s-1",
        "session_id": "s-1",
        "updated_at": "2024-05-04T00:00:00",
        "agents": {"support": {"agent_data": {"agent_id": "support", "state": {"a": 1}}, "messages": messages}},
        "colour": "green",
    }
    await driver.store(older)
    repository = driver.repository()

    await repository.fork_session("s-1", "whole")
    await repository.fork_session("s-1", "early", up_to_message=1)

    assert await driver.stored() == older
    found = [message.to_message() for message in await repository.list_messages("whole", "support")]
    assert texts(found) == ["one", "two", "three"]
    assert await repository.get_message_count("early", "support") == 2
    assert (await driver.stored("whole"))["colour"] == "green"
    assert (await repository.read_agent("whole", "support")).state == {"a": 1}
