"""What a turn that failed leaves behind: agents to be restored, a lease to be given back, a rest to be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands import Agent, tool

from mongodb_session_manager import AgentNotFoundError, AsyncMongoDBSessionManager, SessionClosedError
from mongodb_session_manager.fastapi import streamed as streamed_answer
from mongodb_session_manager.session import lifecycle
from mongodb_session_manager.store.store import SessionStore
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import Document, Sessions
from tests.fixtures.waiting import WAIT_S, Held, eventually, happened
from tests.support.agents import AGENT_ID, make_agent, model_of, streamed
from tests.support.invariants import check_stored
from tests.support.models import ScriptedModel, calls, texts

HOUR_S = 3600
AWAY = {"failCommands": ["find", "update"], "errorCode": 89, "appName": "away"}


class HandlerError(Exception):
    """What ends a turn, and has nothing to do with the store."""


def away_manager(sessions: Sessions, **options: Any) -> AsyncMongoDBSessionManager:
    """Return a manager that gives up soon while `AWAY` is on."""
    return sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away", **options)


def talker(manager: AsyncMongoDBSessionManager, agent_id: str = AGENT_ID) -> Agent:
    return make_agent(manager, model=ScriptedModel(otherwise="Fine."), agent_id=agent_id)


async def fail_with_the_server_away(
    manager: AsyncMongoDBSessionManager, mongo_client: MongoClient[Document], *agents: Agent
) -> None:
    """Say something in a keyed turn that can neither be stored nor undone."""

    async def fail(outage: ExitStack) -> None:
        async with manager.turn(idempotency_key="request-1"):
            for agent in agents:
                await streamed(agent, "not stored")
            outage.enter_context(fail_point(mongo_client, "alwaysOn", AWAY))
            raise HandlerError

    with ExitStack() as outage, pytest.raises(HandlerError):
        await fail(outage)
    for agent in agents:
        assert "not stored" in texts(agent.messages)


async def leave_at_an_answer(
    manager: AsyncMongoDBSessionManager, mongo_client: MongoClient[Document], events: AsyncIterator[Any]
) -> None:
    """Leave a stream at its first answer, or call of a tool, in a keyed turn that can then not be undone."""

    async def fail(outage: ExitStack) -> None:
        async with manager.turn(idempotency_key="request-1"):
            async for event in events:
                message = event.get("message")
                if message is not None and message["role"] == "assistant":
                    outage.enter_context(fail_point(mongo_client, "alwaysOn", AWAY))
                    raise HandlerError

    with ExitStack() as outage, pytest.raises(HandlerError):
        await fail(outage)


# -- agents to be restored


@tool(name="wait")
async def wait_for_ever() -> None:
    """Wait."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("lazy", [False, True])
async def test_an_agent_that_was_left_at_a_call_of_a_tool_goes_on(
    sessions: Sessions, mongo_client: MongoClient[Document], lazy: bool
) -> None:
    async with away_manager(sessions, lazy=lazy) as manager:
        agent = make_agent(manager, "Fine.", calls(("wait", {})), "Good.", tools=[wait_for_ever])
        await streamed(agent, "one")
        left: Any = agent.stream_async("not stored")
        await leave_at_an_answer(manager, mongo_client, left)
        with suppress(Exception):
            await left.aclose()
        assert "toolUse" in agent.messages[-1]["content"][0]

        await streamed(agent, "two")

        assert texts(model_of(agent).requests[-1]) == ["one", "Fine.", "two"]
        assert texts(agent.messages) == ["one", "Fine.", "two", "Good."]
    assert sessions.texts() == ["one", "Fine.", "two", "Good."]
    check_stored(sessions.raw.database)


async def test_an_agent_that_goes_on_first_is_not_restored_once_more(
    sessions: Sessions, mongo_client: MongoClient[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loads, others_went_on = SessionStore.load, asyncio.Event(), asyncio.Event()

    async def load_and_wait(store: SessionStore, *args: Any, **options: Any) -> Any:
        is_first = not loads.is_set()
        loads.set()
        loaded = await load(store, *args, **options)
        if is_first:
            await asyncio.wait_for(others_went_on.wait(), WAIT_S)
        return loaded

    async with away_manager(sessions) as manager:
        slow, quick = talker(manager, "slow"), talker(manager, "quick")
        for agent in (slow, quick):
            await streamed(agent, "one")
        await fail_with_the_server_away(manager, mongo_client, slow, quick)

        monkeypatch.setattr(SessionStore, "load", load_and_wait)
        going_on = asyncio.create_task(streamed(slow, "two"))
        await asyncio.wait_for(loads.wait(), WAIT_S)
        await streamed(quick, "two")
        others_went_on.set()
        await going_on
        await streamed(quick, "three")

        assert texts(model_of(slow).requests[-1]) == ["one", "Fine.", "two"]
        assert texts(model_of(quick).requests[-1]) == ["one", "Fine.", "two", "Fine.", "three"]
    assert sessions.texts("slow") == ["one", "Fine.", "two", "Fine."]
    assert sessions.texts("quick") == ["one", "Fine.", "two", "Fine.", "three", "Fine."]
    check_stored(sessions.raw.database)


async def test_what_is_said_while_a_turn_loads_the_session_stays_with_the_agent(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, said = SessionStore.load, asyncio.Event()
    loaded_once = asyncio.Event()

    async def load_and_wait(store: SessionStore, *args: Any, **options: Any) -> Any:
        loaded = await load(store, *args, **options)
        loaded_once.set()
        await asyncio.wait_for(said.wait(), WAIT_S)
        return loaded

    async with sessions.manager() as manager:
        agent = talker(manager)
        await streamed(agent, "one")
        monkeypatch.setattr(SessionStore, "load", load_and_wait)

        async def take() -> None:
            async with manager.turn():
                assert texts(agent.messages) == ["one", "Fine.", "two", "Fine."]

        taking = asyncio.create_task(take())
        await asyncio.wait_for(loaded_once.wait(), WAIT_S)
        await streamed(agent, "two")
        said.set()
        await taking
    assert sessions.texts() == ["one", "Fine.", "two", "Fine."]


@pytest.mark.parametrize("in_turn", [False, True])
async def test_an_agent_that_was_built_meanwhile_keeps_what_it_was_given(
    sessions: Sessions, mongo_client: MongoClient[Document], in_turn: bool
) -> None:
    given: Any = [
        {"role": "user", "content": [{"text": "an example"}]},
        {"role": "assistant", "content": [{"text": "its answer"}]},
    ]
    async with away_manager(sessions) as manager:
        agent = talker(manager)
        await streamed(agent, "one")
        await fail_with_the_server_away(manager, mongo_client, agent)

        other = make_agent(manager, "Good.", agent_id="other", messages=given, state={"mood": "new"})
        if in_turn:
            async with manager.turn():
                await streamed(other, "two")
        else:
            await streamed(other, "two")
        assert texts(other.messages) == ["an example", "its answer", "two", "Good."]
        assert other.state.get("mood") == "new"
        await streamed(agent, "three")
    assert sessions.texts("other") == ["an example", "its answer", "two", "Good."]
    assert sessions.texts() == ["one", "Fine.", "three", "Fine."]
    check_stored(sessions.raw.database)


async def test_an_answer_that_waits_for_its_end_is_not_looked_at(
    sessions: Sessions, mongo_client: MongoClient[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    monkeypatch.setattr(lifecycle, "ANSWER_WAIT_S", 0)
    async with away_manager(sessions) as manager:
        agent = talker(manager)
        await streamed(agent, "one")
        held: Any = agent.stream_async("not stored")
        await leave_at_an_answer(manager, mongo_client, held)
        with suppress(Exception):
            await held.aclose()
        await streamed(agent, "two")
    assert problems == []
    assert sessions.texts() == ["one", "Fine.", "two", "Fine."]


# -- what belongs to no turn


@pytest.mark.parametrize("restores", [False, True])
async def test_what_other_tasks_submit_is_stored(
    sessions: Sessions, mongo_client: MongoClient[Document], restores: bool
) -> None:
    held = Held()
    async with away_manager(sessions, event_listeners=[held]) as manager:
        agent = talker(manager)
        await streamed(agent, "one")
        if restores:
            await fail_with_the_server_away(manager, mongo_client, agent)
            with held.holding():
                giving = asyncio.create_task(manager.add_feedback({"rating": "up"}))
                await happened(held.reached)
                going_on = asyncio.create_task(streamed(agent, "two"))
                await asyncio.sleep(0)
                held.let_go()
                await asyncio.gather(giving, going_on)
        else:

            async def fail(holding: ExitStack) -> None:
                async with manager.turn(idempotency_key="request-1"):
                    holding.enter_context(held.holding())
                    tasks.append(asyncio.create_task(manager.add_feedback({"rating": "up"})))
                    await happened(held.reached)
                    asyncio.get_running_loop().call_soon(held.let_go)
                    raise HandlerError

            tasks: list[asyncio.Task[None]] = []
            with ExitStack() as holding, pytest.raises(HandlerError):
                await fail(holding)
            await asyncio.gather(*tasks)

        assert [given["rating"] for given in await manager.get_feedbacks()] == ["up"]


async def test_feedback_of_a_keyed_turn_that_failed_is_stored_by_the_next_attempt(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with away_manager(sessions) as manager:

        async def fail(outage: ExitStack) -> None:
            async with manager.turn(idempotency_key="request-1"):
                outage.enter_context(fail_point(mongo_client, "alwaysOn", AWAY))
                await manager.add_feedback({"rating": "up"})

        with ExitStack() as outage, pytest.raises(PyMongoError):
            await fail(outage)
        await manager.update_metadata({"seen": True})
        async with manager.turn(idempotency_key="request-1") as turn:
            assert not turn.replayed
            await manager.add_feedback({"rating": "up"})

        assert [given["rating"] for given in await manager.get_feedbacks()] == ["up"]


# -- a lease to be given back


@pytest.mark.parametrize("key", [None, "request-1"])
async def test_a_close_that_is_cancelled_inside_of_a_turn_gives_it_back(sessions: Sessions, key: str | None) -> None:
    held = Held()
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(sessions.uri, event_listeners=[held])
    manager = await sessions.manager(client=client)
    agent = talker(manager)
    await streamed(agent, "one")

    async def talk(holding: ExitStack) -> None:
        async with manager.turn(lease_s=HOUR_S, idempotency_key=key):
            holding.enter_context(held.holding())
            tasks.append(asyncio.create_task(manager.update_metadata({"seen": True})))
            await happened(held.reached)
            agent.state.set("mood", "fine")
            closing = asyncio.create_task(manager.close())
            await asyncio.sleep(0)
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            raise HandlerError

    tasks: list[asyncio.Task[None]] = []
    with ExitStack() as holding, pytest.raises(HandlerError):
        await talk(holding)
    await asyncio.gather(*tasks)

    await eventually(lambda: "lease" not in sessions.document())
    if key is None:
        assert sessions.document()["agents"][AGENT_ID]["agent_data"]["state"] == {"mood": "fine"}
    client.close()


async def test_all_tasks_that_wait_for_the_turn_of_a_closed_manager_are_told(sessions: Sessions) -> None:
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(sessions.uri)
    manager = await sessions.manager(client=client)

    async def wait() -> None:
        async with manager.turn(lease_s=HOUR_S):
            raise AssertionError

    async with sessions.manager() as holder, holder.turn(lease_s=HOUR_S):
        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        # They have looked in vain once.
        _, pending = await asyncio.wait(waiting, timeout=0.05)
        assert len(pending) == 3
        await asyncio.wait_for(manager.close(), WAIT_S)
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), WAIT_S)

    assert [type(outcome) for outcome in outcomes] == [SessionClosedError] * 3
    assert "lease" not in sessions.document()
    client.close()


# -- a rest to be written


async def test_the_rest_is_written_also_where_the_store_refused_something(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)

        async def fail() -> None:
            async with manager.turn():
                await streamed(agent, "one")
                agent.state.set("mood", "fine")
                await manager.update_agent_config("unknown", model="another")

        with pytest.raises(AgentNotFoundError):
            await fail()

        assert sessions.document()["agents"][AGENT_ID]["agent_data"]["state"] == {"mood": "fine"}


async def test_a_generator_that_goes_on_without_a_reader_is_ended(sessions: Sessions) -> None:
    async with sessions.manager() as manager:

        async def reply() -> AsyncIterator[str]:
            async with manager.turn(lease_s=HOUR_S):
                while True:
                    try:
                        yield "a piece"
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        yield "[broken off]"

        async def receive() -> Document:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            """Keep nothing."""

        answer = await streamed_answer(reply())
        await answer({"type": "http"}, receive, send)

        assert "lease" not in sessions.document()
