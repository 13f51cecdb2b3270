from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal

import anyio
import pytest
from pymongo import MongoClient
from strands import Agent

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionManagerFactory
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Document, Sessions, texts_of
from tests.fixtures.waiting import eventually
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel, blocked, calls

How = Literal["asyncio", "anyio"]
Work = Callable[[AsyncMongoDBSessionManager, Agent], Coroutine[Any, Any, Any]]

MOST_AWAIT_POINTS = 500


class Interrupted:
    """Awaits a coroutine and calls `interrupt` when it is suspended for the nth time."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, interrupt: Callable[[], object]) -> None:
        self._work = work
        self._at = at
        self._interrupt = interrupt
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, None]:
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._work.send(answer) if error is None else self._work.throw(error)
            except StopIteration:
                return
            self.suspensions += 1
            if self.suspensions == self._at:
                self._interrupt()
            answer, error = None, None
            try:
                answer = yield waits_for
            except BaseException as thrown:
                error = thrown


async def cancelled_at(await_point: int, work: Coroutine[Any, Any, Any], how: How) -> bool:
    """Run the work, cancel it at an await point, and tell whether it has that many."""
    if how == "asyncio":
        task = asyncio.create_task(_cancel_own_task(await_point, work))
        try:
            return await task
        except asyncio.CancelledError:
            return True
    with anyio.CancelScope() as scope:
        interrupted = Interrupted(work, await_point, scope.cancel)
        await interrupted
    return scope.cancel_called


async def _cancel_own_task(await_point: int, work: Coroutine[Any, Any, Any]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    interrupted = Interrupted(work, await_point, task.cancel)
    await interrupted
    return interrupted.suspensions >= await_point


async def a_turn(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await streamed(agent, "Hi.")


async def a_flush(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    agent.state.set("count", 1)
    manager.sync_agent(agent)
    await manager.flush()


async def feedback(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.add_feedback({"rating": "up"})


async def closing(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    agent.state.set("count", 1)
    manager.sync_agent(agent)
    await manager.close()


def plain(manager: AsyncMongoDBSessionManager) -> Agent:
    return make_agent(manager, model=ScriptedModel("Hello!", otherwise="Fine."))


def with_tools(manager: AsyncMongoDBSessionManager) -> Agent:
    model = ScriptedModel(calls(("manage_metadata", {"action": "get"})), otherwise="Fine.")
    return make_agent(manager, model=model, tools=[manager.get_metadata_tool()])


def redacted(manager: AsyncMongoDBSessionManager) -> Agent:
    return make_agent(manager, model=ScriptedModel(blocked(user="[redacted]"), otherwise="Fine."))


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["asyncio", "anyio"])
@pytest.mark.parametrize(
    ("work", "build", "flush_on"),
    [
        pytest.param(a_turn, plain, "message", id="turn"),
        pytest.param(a_turn, plain, "invocation", id="turn written at its end"),
        pytest.param(a_turn, with_tools, "message", id="turn with tools"),
        pytest.param(a_turn, redacted, "message", id="redacted turn"),
        pytest.param(a_flush, plain, "message", id="flush"),
        pytest.param(feedback, plain, "message", id="feedback"),
    ],
)
async def test_cancelled_at_any_await_point_it_is_completed_by_the_next_flush(
    sessions: Sessions,
    work: Work,
    build: Callable[[AsyncMongoDBSessionManager], Agent],
    flush_on: Literal["message", "invocation"],
    how: How,
) -> None:
    for await_point in range(1, MOST_AWAIT_POINTS):
        session_id = f"{how}-{await_point}"
        async with sessions.manager(session_id, flush_on=flush_on) as manager:
            agent = build(manager)

            was_cancelled = await cancelled_at(await_point, work(manager, agent), how)
            sessions.document(session_id)
            await manager.flush()
            after_the_flush = sessions.document(session_id)
            assert sessions.texts(session_id=session_id) == texts_of(agent.messages)
            await streamed(agent, "And you?")

        assert sessions.texts(session_id=session_id) == texts_of(agent.messages)
        assert len(after_the_flush["feedbacks"]) == (1 if work is feedback else 0)
        if work is a_flush:
            assert after_the_flush["agents"]["assistant"]["agent_data"]["state"] == {"count": 1}
        async with sessions.manager(session_id) as manager:
            assert texts_of(make_agent(manager).messages) == texts_of(agent.messages)
        if not was_cancelled:
            assert await_point > 1
            return
    pytest.fail("the work has more await points than this test looks at")


def test_a_loop_that_ends_with_a_write_in_flight_loses_nothing(sessions: Sessions) -> None:
    for await_point in range(1, MOST_AWAIT_POINTS):
        session_id = f"s-{await_point}"
        manager = sessions.manager(session_id)

        async def open_and_build(manager: AsyncMongoDBSessionManager = manager) -> Agent:
            await manager.open()
            return plain(manager)

        agent = asyncio.run(open_and_build())
        # The loop ends with the turn, and whatever was writing is cancelled with it.
        was_cancelled = asyncio.run(cancelled_at(await_point, a_turn(manager, agent), "asyncio"))
        asyncio.run(manager.flush())
        written = sessions.texts(session_id=session_id)
        agent("And you?")
        asyncio.run(manager.close())

        assert written == texts_of(agent.messages[: len(written)])
        assert sessions.texts(session_id=session_id) == texts_of(agent.messages)
        if not was_cancelled:
            assert written == ["Hi.", "Hello!"]
            return
    pytest.fail("the turn has more await points than this test looks at")


@pytest.mark.parametrize("how", ["asyncio", "anyio"])
async def test_opening_cancelled_at_any_await_point_can_be_repeated(sessions: Sessions, how: How) -> None:
    async def open_(manager: AsyncMongoDBSessionManager) -> None:
        await manager.open()

    for await_point in range(1, MOST_AWAIT_POINTS):
        manager = sessions.manager(f"{how}-{await_point}")

        was_cancelled = await cancelled_at(await_point, open_(manager), how)
        async with manager:
            await streamed(plain(manager), "Hi.")

        assert sessions.texts(session_id=f"{how}-{await_point}") == ["Hi.", "Hello!"]
        if not was_cancelled:
            return
    pytest.fail("opening has more await points than this test looks at")


@pytest.mark.parametrize("how", ["asyncio", "anyio"])
async def test_closing_cancelled_at_any_await_point_still_writes_what_is_pending(sessions: Sessions, how: How) -> None:
    for await_point in range(1, MOST_AWAIT_POINTS):
        session_id = f"{how}-{await_point}"
        manager = sessions.manager(session_id)
        await manager.open()
        agent = plain(manager)

        was_cancelled = await cancelled_at(await_point, closing(manager, agent), how)

        def is_written(session_id: str = session_id) -> bool:
            agents = sessions.document(session_id)["agents"]
            return "assistant" in agents and agents["assistant"]["agent_data"]["state"] == {"count": 1}

        await eventually(is_written)
        if not was_cancelled:
            return
    pytest.fail("closing has more await points than this test looks at")


async def test_a_handler_whose_client_left_still_writes_everything(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    slow = {"failCommands": ["update"], "blockConnection": True, "blockTimeMS": 20, "appName": sessions.appname}

    async def handler(scope: anyio.CancelScope) -> None:
        async with sessions.manager(flush_on="invocation") as manager:
            agent = plain(manager)
            await streamed(agent, "Hi.")
            agent.state.set("count", 1)
            manager.sync_agent(agent)
            first_write = asyncio.create_task(manager.update_metadata({"topic": "weather"}))
            first_write.add_done_callback(lambda task: task.result())
            await asyncio.sleep(0)
            # From here on every await is cancelled, those of the manager that is about to close, too.
            scope.cancel()

    with fail_point(mongo_client, "alwaysOn", slow), anyio.CancelScope() as scope:
        await handler(scope)

    assert scope.cancelled_caught
    await eventually(lambda: sessions.document()["metadata"] == {"topic": "weather"})
    await eventually(lambda: sessions.document()["agents"]["assistant"]["agent_data"]["state"] == {"count": 1})


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["asyncio", "anyio"])
async def test_two_hundred_cancelled_streams_exhaust_nothing(
    sessions: Sessions, mongo_client: MongoClient[Document], how: How
) -> None:
    slow = {"failCommands": ["update"], "blockConnection": True, "blockTimeMS": 5, "appName": sessions.appname}
    factory = AsyncMongoDBSessionManagerFactory(
        sessions.uri,
        sessions.database_name,
        COLLECTION,
        ensure_indexes=False,
        maxPoolSize=10,
        **sessions.client_options(),
    )

    async def stream(number: int) -> None:
        async with factory.create_session_manager(f"s-{number}") as manager:
            await streamed(plain(manager), "Hi.")

    async def is_at_rest() -> bool:
        (server,) = (await factory.get_connection_stats())["servers"].values()
        return bool(server["in_use"] == 0 and server["waiting"] == 0 and server["open"] <= 10)

    before = asyncio.all_tasks()
    with fail_point(mongo_client, "alwaysOn", slow):
        for batch in range(10):
            # Twenty at once, cancelled at the various await points that a stream has at least.
            cancelled = await asyncio.gather(
                *(cancelled_at(1 + number % 10, stream(20 * batch + number), how) for number in range(20))
            )
            assert all(cancelled)
    await eventually(lambda: asyncio.all_tasks() == before)
    await eventually(is_at_rest)

    await asyncio.gather(*(stream(200 + number) for number in range(20)))
    for document in sessions.raw.find():
        sessions.document(document["_id"])
    for number in range(20):
        assert sessions.texts(session_id=f"s-{200 + number}") == ["Hi.", "Hello!"]
    await eventually(is_at_rest)
    assert asyncio.all_tasks() == before
    await factory.close()
