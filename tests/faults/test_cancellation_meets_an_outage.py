"""A cancellation stays one when the server cannot be written to: nothing else is raised in its place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands import Agent
from strands.multiagent import GraphBuilder

from mongodb_session_manager import AsyncMongoDBSessionManager, MongoDBSessionManager
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions, texts_of
from tests.fixtures.waiting import happened
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel

Run = Callable[[Agent, AsyncMongoDBSessionManager], Awaitable[Any]]


class Waiting(ScriptedModel):
    """A model that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(otherwise="Hello!")
        self.called, self.let_go = threading.Event(), asyncio.Event()

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for event in super().stream(*args, **kwargs):
            yield event
            self.called.set()
            await self.let_go.wait()


@contextmanager
def outage(sessions: Sessions, client: MongoClient[Document]) -> Iterator[None]:
    """Refuse each update of the test's managers inside the block."""
    refused = {"failCommands": ["update"], "errorCode": 189, "appName": sessions.appname}
    with fail_point(client, "alwaysOn", refused):
        yield


async def as_graph(agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
    builder = GraphBuilder()
    builder.add_node(Agent(model=agent.model, callback_handler=None), "only")
    builder.set_session_manager(manager)
    builder.set_max_node_executions(2)
    await builder.build().invoke_async("Hi.")


async def as_stream(agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
    await streamed(agent, "Hi.")


async def invoked(agent: Agent, manager: AsyncMongoDBSessionManager) -> None:
    await agent.invoke_async("Hi.")


@pytest.mark.parametrize("run", [as_stream, invoked, as_graph])
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_cancelled_invocation_is_cancelled_and_written_by_the_next_flush(
    sessions: Sessions, mongo_client: MongoClient[Document], run: Run, flush_on: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with sessions.manager(write_deadline_s=0.2, flush_on=flush_on, retryWrites=False) as manager:
        agent = make_agent(manager, model=Waiting())
        task = asyncio.ensure_future(run(agent, manager))
        await happened(agent.model.called)  # type: ignore[attr-defined]

        with outage(sessions, mongo_client):
            # More than once: before Python 3.12 `wait_for`, which graphs use, may swallow one.
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=1)
        await manager.flush()

    assert task.cancelled()
    assert any("kept for the next flush" in record.message for record in caplog.records)
    if run is not as_graph:
        assert sessions.texts() == texts_of(agent.messages)


async def test_a_stream_that_its_reader_leaves_raises_nothing(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager(write_deadline_s=0.2, retryWrites=False) as manager:
        agent = make_agent(manager, "Hello!")
        stream = cast("AsyncGenerator[Any]", agent.stream_async("Hi."))
        async for event in stream:
            if "data" in event:
                break
        with outage(sessions, mongo_client):
            await stream.aclose()
        await manager.flush()

    assert sessions.texts() == texts_of(agent.messages)


async def test_a_time_limit_is_told_as_such(sessions: Sessions, mongo_client: MongoClient[Document]) -> None:
    async def limited(agent: Agent) -> None:
        async with asyncio.timeout(None) as limit:
            called = asyncio.ensure_future(happened(agent.model.called))  # type: ignore[attr-defined]
            with outage_from(called, limit, sessions, mongo_client):
                await streamed(agent, "Hi.")

    async with sessions.manager(write_deadline_s=0.2, retryWrites=False) as manager:
        with pytest.raises(TimeoutError):
            await limited(make_agent(manager, model=Waiting()))


@contextmanager
def outage_from(
    moment: asyncio.Future[None], limit: asyncio.Timeout, sessions: Sessions, client: MongoClient[Document]
) -> Iterator[None]:
    """Begin an outage at a moment, at which a time limit expires, too."""
    context = outage(sessions, client)

    def begin(_: asyncio.Future[None]) -> None:
        context.__enter__()
        limit.reschedule(asyncio.get_running_loop().time())

    moment.add_done_callback(begin)
    try:
        yield
    finally:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("in_turn", [False, True])
async def test_a_cancelled_block_is_cancelled_and_the_log_tells_what_is_not_written(
    sessions: Sessions, mongo_client: MongoClient[Document], in_turn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    began = threading.Event()

    async def work(manager: AsyncMongoDBSessionManager) -> None:
        agent = make_agent(manager)
        agent.state.set("count", 1)
        began.set()
        await asyncio.Event().wait()

    async def handler() -> None:
        async with sessions.manager(write_deadline_s=0.2, retryWrites=False) as manager:
            if in_turn:
                async with manager.turn():
                    await work(manager)
            await work(manager)

    task = asyncio.create_task(handler())
    await happened(began)
    with outage(sessions, mongo_client):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert task.cancelled()
    assert [record.levelname for record in caplog.records if "what was pending is not written" in record.message] == [
        "ERROR"
    ]


async def test_an_ordinary_error_of_the_block_leaves_the_outage_to_be_told(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async def work() -> None:
        async with sessions.manager(write_deadline_s=0.2, retryWrites=False) as manager:
            make_agent(manager).state.set("count", 1)
            raise ValueError

    with outage(sessions, mongo_client), pytest.raises(PyMongoError):
        await work()


def test_an_interrupted_program_hears_of_its_interruption(
    sessions: Sessions, mongo_client: MongoClient[Document], caplog: pytest.LogCaptureFixture
) -> None:
    options = {"write_deadline_s": 0.2, "retryWrites": False, **sessions.client_options()}

    def work() -> None:
        with MongoDBSessionManager(SESSION_ID, sessions.uri, sessions.database_name, COLLECTION, **options) as manager:
            make_agent(manager).state.set("count", 1)
            raise KeyboardInterrupt

    with outage(sessions, mongo_client), pytest.raises(KeyboardInterrupt):
        work()

    assert "what was pending is not written" in caplog.text


async def test_an_error_that_the_caller_handles_is_not_one_of_the_turn(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        try:
            raise LookupError
        except LookupError:
            await streamed(agent, "Hi.")

    assert sessions.document().get("errors", []) == []
