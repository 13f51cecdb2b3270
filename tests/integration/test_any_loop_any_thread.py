from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands import Agent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import Status
from strands.multiagent.graph import Graph

from mongodb_session_manager import AsyncMongoDBSessionManager, WrongLoopError
from mongodb_session_manager.runtime import portal
from tests.fixtures.faults import MongoProxy
from tests.fixtures.sessions import Document, Sessions, texts_of
from tests.fixtures.waiting import WAIT_S, Held, happened
from tests.support.agents import make_agent, streamed
from tests.support.models import Reply, ScriptedModel, calls

KINDS = ["uri", "motor", "pymongo"]


class UpdateSent(CommandListener):
    """Says when an update is on its way."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "update":
            self.event.set()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start counts."""


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture(params=KINDS)
def manager(request: pytest.FixtureRequest, sessions: Sessions, held: Held) -> Iterator[AsyncMongoDBSessionManager]:
    """A manager, not opened, over each kind of client that works on any loop."""
    options = {**sessions.client_options(), "event_listeners": [sessions.recorder, held]}
    if request.param == "uri":
        yield sessions.manager(**options)
        return
    make = MongoClient if request.param == "pymongo" else AsyncIOMotorClient
    client: Any = make(sessions.uri, **options)
    yield sessions.manager(client=client)
    client.close()


def node(name: str, text: str) -> Agent:
    return Agent(name=name, agent_id=name, model=ScriptedModel(text), callback_handler=None)


def graph_of(manager: AsyncMongoDBSessionManager) -> Graph:
    builder = GraphBuilder()
    builder.add_node(node("first", "one"), "first")
    builder.add_node(node("second", "two"), "second")
    builder.add_edge("first", "second")
    builder.set_graph_id("graph")
    builder.set_max_node_executions(4)
    builder.set_session_manager(manager)
    return builder.build()


def swarm_of(manager: AsyncMongoDBSessionManager) -> Swarm:
    first = Agent(
        name="first",
        model=ScriptedModel(calls(("handoff_to_agent", {"agent_name": "second", "message": "go on"})), "handed over"),
        callback_handler=None,
    )
    return Swarm([first, node("second", "two")], id="swarm", session_manager=manager)


async def test_an_async_handler_uses_it(manager: AsyncMongoDBSessionManager, sessions: Sessions) -> None:
    async with manager:
        agent = make_agent(manager, "Hello!", "Fine.")
        await streamed(agent, "Hi.")
        await agent.invoke_async("And you?")

    assert sessions.texts() == ["Hi.", "Hello!", "And you?", "Fine."]


def test_a_script_uses_it(manager: AsyncMongoDBSessionManager, sessions: Sessions) -> None:
    asyncio.run(open_(manager))
    agent = make_agent(manager, "Hello!", "Fine.")

    agent("Hi.")
    agent("And you?")
    asyncio.run(manager.close())

    assert sessions.texts() == ["Hi.", "Hello!", "And you?", "Fine."]


async def test_a_synchronous_call_inside_the_loop_that_opened_it(
    manager: AsyncMongoDBSessionManager, sessions: Sessions
) -> None:
    async with manager:
        agent = make_agent(manager, "Hello!", "Fine.", "Bye!")
        agent("Hi.")
        await streamed(agent, "And you?")
        agent("Bye.")

        stored_when_the_call_returned = sessions.texts()

    assert stored_when_the_call_returned == ["Hi.", "Hello!", "And you?", "Fine.", "Bye.", "Bye!"]


def test_three_successive_event_loops_use_it(manager: AsyncMongoDBSessionManager, sessions: Sessions) -> None:
    async def first() -> Agent:
        await manager.open()
        agent = make_agent(manager, "Hello!", "Fine.")
        await streamed(agent, "Hi.")
        return agent

    async def second(agent: Agent) -> None:
        await streamed(agent, "And you?")
        await manager.update_metadata({"loop": 2})

    async def third() -> dict[str, Any]:
        found = await manager.get_metadata()
        await manager.close()
        return found

    agent = asyncio.run(first())
    asyncio.run(second(agent))

    assert asyncio.run(third()) == {"metadata": {"loop": 2}}
    assert sessions.texts() == ["Hi.", "Hello!", "And you?", "Fine."]


async def test_worker_threads_use_it_at_once(manager: AsyncMongoDBSessionManager, sessions: Sessions) -> None:
    names = [f"agent-{number}" for number in range(6)]
    async with manager:
        agents = [make_agent(manager, "Hello!", "Fine.", agent_id=name) for name in names]

        def two_turns(agent: Agent) -> None:
            agent("Hi.")
            agent("And you?")

        await asyncio.gather(*(asyncio.to_thread(two_turns, agent) for agent in agents))

    assert [sessions.texts(name) for name in names] == [["Hi.", "Hello!", "And you?", "Fine."]] * len(names)


async def test_agents_are_built_on_worker_threads(manager: AsyncMongoDBSessionManager, sessions: Sessions) -> None:
    def build_and_talk(number: int) -> None:
        make_agent(manager, "Hello!", agent_id=f"agent-{number}")("Hi.")

    async with manager:
        await asyncio.gather(*(asyncio.to_thread(build_and_talk, number) for number in range(6)))

    assert sorted(sessions.document()["agents"]) == [f"agent-{number}" for number in range(6)]


@pytest.mark.parametrize(("build", "name"), [(graph_of, "graph"), (swarm_of, "swarm")])
@pytest.mark.parametrize("call", ["async", "sync inside the loop"])
async def test_graphs_and_swarms_use_it(
    manager: AsyncMongoDBSessionManager,
    sessions: Sessions,
    build: Callable[[AsyncMongoDBSessionManager], Graph | Swarm],
    name: str,
    call: str,
) -> None:
    async with manager:
        team = build(manager)
        result = await team.invoke_async("go") if call == "async" else team("go")

    state = sessions.document()["multi_agents"][name]
    assert result.status is Status.COMPLETED
    assert state["status"] == "completed"
    assert sorted(state.get("completed_nodes") or state["node_history"]) == ["first", "second"]


@pytest.mark.parametrize(("build", "name"), [(graph_of, "graph"), (swarm_of, "swarm")])
def test_a_script_runs_graphs_and_swarms(
    manager: AsyncMongoDBSessionManager,
    sessions: Sessions,
    build: Callable[[AsyncMongoDBSessionManager], Graph | Swarm],
    name: str,
) -> None:
    asyncio.run(open_(manager))

    result = build(manager)("go")
    asyncio.run(manager.close())

    assert result.status is Status.COMPLETED
    assert sessions.document()["multi_agents"][name]["status"] == "completed"


async def open_(manager: AsyncMongoDBSessionManager) -> None:
    await manager.open()


async def metadata_write(manager: AsyncMongoDBSessionManager, other: Agent) -> None:
    await manager.update_metadata({"written": "meanwhile"})


async def feedback_write(manager: AsyncMongoDBSessionManager, other: Agent) -> None:
    await manager.add_feedback({"rating": "up"})


async def turn_of_another_agent(manager: AsyncMongoDBSessionManager, other: Agent) -> None:
    await streamed(other, "Hi from the other.")


async def plain_flush(manager: AsyncMongoDBSessionManager, other: Agent) -> None:
    other.state.set("written", "meanwhile")
    manager.sync_agent(other)
    await manager.flush()


@pytest.mark.parametrize("work", [metadata_write, feedback_write, turn_of_another_agent, plain_flush])
async def test_a_write_is_in_flight_on_the_loop_that_a_synchronous_call_blocks(
    manager: AsyncMongoDBSessionManager,
    sessions: Sessions,
    held: Held,
    work: Callable[[AsyncMongoDBSessionManager, Agent], Awaitable[None]],
) -> None:
    async with manager:
        other = make_agent(manager, "Hello, other!", agent_id="other")
        agent = make_agent(manager, "Hello!")
        await manager.flush()

        with held.holding():
            in_flight = asyncio.ensure_future(work(manager, other))
            await happened(held.reached)
            agent("Hi.")
            blocked_all_along = not in_flight.done()
            stored_before_the_loop_went_on = sessions.document()
        await in_flight

    document = sessions.document()
    assert blocked_all_along
    assert texts_of(stored_before_the_loop_went_on["agents"]["assistant"]["messages"]) == ["Hi.", "Hello!"]
    assert sessions.texts() == ["Hi.", "Hello!"]
    if work is metadata_write:
        assert document["metadata"] == {"written": "meanwhile"}
    elif work is feedback_write:
        assert [feedback["rating"] for feedback in document["feedbacks"]] == ["up"]
    elif work is turn_of_another_agent:
        assert sessions.texts("other") == ["Hi from the other.", "Hello, other!"]
    else:
        assert document["agents"]["other"]["agent_data"]["state"] == {"written": "meanwhile"}


async def test_a_loop_that_could_not_be_started_is_tried_again(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process can have no more threads just then."""

    def refuse(*args: Any) -> Any:
        raise RuntimeError("can't start new thread")

    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Still there.")
        with monkeypatch.context() as patch:
            patch.setattr(portal, "start", refuse)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await asyncio.to_thread(asyncio.run, manager.flush())
        await asyncio.to_thread(agent, "Hi.")

    assert sessions.texts() == ["Hi.", "Hello!"]


async def test_two_loops_talk_to_agents_of_one_session_at_once(
    manager: AsyncMongoDBSessionManager, sessions: Sessions
) -> None:
    both_wait = threading.Barrier(2)

    async def meet() -> None:
        await asyncio.to_thread(both_wait.wait, WAIT_S)

    async with manager:
        here = make_agent(manager, *[Reply(text=f"here {n}", before=meet) for n in range(5)], agent_id="here")
        there = make_agent(manager, *[Reply(text=f"there {n}", before=meet) for n in range(5)], agent_id="there")

        async def talk(agent: Agent) -> None:
            for number in range(5):
                await streamed(agent, f"prompt {number}")

        def talk_elsewhere() -> None:
            asyncio.run(talk(there))

        await asyncio.gather(talk(here), asyncio.to_thread(talk_elsewhere))

    for name in ("here", "there"):
        assert sessions.texts(name) == [text for n in range(5) for text in (f"prompt {n}", f"{name} {n}")]


async def test_an_asyncmongoclient_on_another_loop_is_a_clear_error_and_loses_nothing(sessions: Sessions) -> None:
    async with AsyncMongoClient[Document](sessions.uri) as client, sessions.manager(client=client) as manager:
        agent = make_agent(manager, "Hello!", "Fine.")
        await streamed(agent, "Hi.")

        with pytest.raises(WrongLoopError, match="connection string"):
            await asyncio.to_thread(agent, "And you?")
        stored_meanwhile = sessions.texts()
        await manager.flush()

    assert stored_meanwhile == ["Hi.", "Hello!"]
    assert sessions.texts() == ["Hi.", "Hello!", "And you?"]


async def test_an_asyncmongoclient_on_another_loop_does_not_disturb_a_write_on_its_own(
    sessions: Sessions, mongo_proxy: MongoProxy
) -> None:
    update_sent = UpdateSent()
    options = {**sessions.client_options(), "event_listeners": [update_sent]}
    async with (
        AsyncMongoClient[Document](mongo_proxy.uri, **options) as client,
        sessions.manager(client=client) as manager,
    ):
        mongo_proxy.deaf = True
        in_flight = asyncio.create_task(manager.add_feedback({"rating": "up"}))
        await happened(update_sent.event)
        with pytest.raises(WrongLoopError):
            await asyncio.to_thread(asyncio.run, manager.flush())
        mongo_proxy.deaf = False
        await in_flight

    assert [feedback["rating"] for feedback in sessions.document()["feedbacks"]] == ["up"]
