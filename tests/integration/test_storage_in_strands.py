"""What Strands keeps in an agent's storage is there after a restart, beside our session manager and unwarned of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from strands import Agent, tool
from strands.memory import MemoryManager
from strands.storage import InMemoryStorage
from strands.types.content import Message
from strands.types.exceptions import StorageError
from strands.vended_memory_stores.file_memory_store import FileMemoryStore
from strands.vended_plugins.context_offloader import ContextOffloader

from mongodb_session_manager import MongoDBSessionManager, MongoDBStorage
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.support.agents import make_agent
from tests.support.models import Reply, calls, texts

REPORT = "".join(f"line {number}: nothing to see\n" for number in range(4000)) + "the last line\n"

Process = Callable[[], Any]


@tool
def read_report() -> str:
    """Read a long report."""
    return REPORT


@pytest.fixture(params=["async", "sync"])
def process(request: pytest.FixtureRequest, sessions: Sessions) -> Process:
    """A manager of either face as another process would have it: on a client of its own, and closed at the end."""

    @asynccontextmanager
    async def on_the_async_face() -> AsyncIterator[Any]:
        async with sessions.manager() as manager:
            yield manager

    @asynccontextmanager
    async def on_the_sync_face() -> AsyncIterator[Any]:
        manager = await asyncio.to_thread(
            lambda: MongoDBSessionManager(SESSION_ID, sessions.uri, sessions.database_name, COLLECTION)
        )
        try:
            yield manager
        finally:
            await asyncio.to_thread(manager.close)

    return on_the_async_face if request.param == "async" else on_the_sync_face


@pytest.fixture
def other_storage(sessions: Sessions) -> MongoDBStorage:
    return MongoDBStorage(sessions.uri, sessions.database_name, "storage", ensure_indexes=False)


def results_of(messages: list[Message]) -> Iterator[str]:
    """Yield the text of each tool result."""
    for message in messages:
        for block in message["content"]:
            for item in block.get("toolResult", {}).get("content", []):
                yield item.get("text", "")


def reference_in(text: str) -> str:
    match = re.search(r"\[ref: ([^\]]+)\]", text)
    assert match is not None, text[-300:]
    return match[1]


@pytest.mark.parametrize("options", [{}, {"context_manager": "auto"}, {"plugins": "offloader"}], ids=str)
async def test_a_storage_beside_the_session_manager_gives_no_warning(
    process: Process, options: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    for _ in range(2):
        for storage_of in (lambda manager: manager.storage, lambda manager: InMemoryStorage()):
            async with process() as manager:
                plugins = {"plugins": [ContextOffloader()]} if "plugins" in options else {}
                agent = make_agent(manager, "Hello.", storage=storage_of(manager), **{**options, **plugins})
                await agent.invoke_async("Hi")
                assert agent.storage is not None

    async with process() as manager:
        resumed = make_agent(manager, **{name: value for name, value in options.items() if name != "plugins"})
        assert texts(resumed.messages) == ["Hi", "Hello."] * 4
    assert [str(warning.message) for warning in recwarn] == []


async def test_restoring_an_agent_with_a_storage_restores_all_of_it(process: Process) -> None:
    async with process() as manager:
        agent = make_agent(manager, "Hello.", storage=manager.storage, state={"topic": "trees"})
        await agent.invoke_async("Hi")
        agent.state.set("topic", "birds")
        manager.sync_agent(agent)
        live = agent.messages, agent.state.get()

    async with process() as manager:
        resumed = make_agent(manager, storage=manager.storage)
        assert (resumed.messages, resumed.state.get()) == live
        assert resumed.storage is manager.storage


async def test_stashed_context_is_retrieved_after_a_restart(process: Process) -> None:
    async with process() as manager:
        agent = make_agent(
            manager,
            calls(("read_report", {})),
            "A long one.",
            tools=[read_report],
            storage=manager.storage,
            context_manager="auto",
        )
        await agent.invoke_async("Read the report")
        [shown] = results_of(agent.messages)
        assert len(shown) < len(REPORT)
        reference = reference_in(shown)

    async with process() as manager:
        resumed = make_agent(
            manager,
            calls(("retrieve_context", {"reference": reference, "pattern": "the last line"})),
            "Found.",
            tools=[read_report],
            storage=manager.storage,
            context_manager="auto",
        )
        await resumed.invoke_async("What does its last line say?")
        *_, found = results_of(resumed.messages)
        assert "the last line" in found

        assert all(key.startswith(f"context/{SESSION_ID}/") for key in await manager.storage.list(""))


async def test_offloaded_results_are_retrieved_after_a_restart(process: Process) -> None:
    async with process() as manager:
        agent = make_agent(
            manager,
            calls(("read_report", {})),
            "A long one.",
            tools=[read_report],
            plugins=[ContextOffloader(manager.storage)],
        )
        await agent.invoke_async("Read the report")
        [key] = await manager.storage.list("offloader/")
        reference = key.removeprefix("offloader/")
        assert reference in next(results_of(agent.messages))

    async with process() as manager:
        resumed = make_agent(
            manager,
            calls(("retrieve_offloaded_content", {"reference": reference, "pattern": "the last line"})),
            "Found.",
            tools=[read_report],
            storage=manager.storage,
            plugins=[ContextOffloader()],
        )
        await resumed.invoke_async("What does its last line say?")
        *_, found = results_of(resumed.messages)
        assert "the last line" in found


@pytest.mark.parametrize("searchable", [False, True])
async def test_a_file_memory_is_found_after_a_restart(sessions: Sessions, searchable: bool) -> None:
    def a_memory() -> tuple[MongoDBStorage, FileMemoryStore]:
        storage = MongoDBStorage(sessions.uri, sessions.database_name, "memories", searchable=searchable)
        return storage, FileMemoryStore(name="facts", storage=storage)

    storage, memory = a_memory()
    await memory.add("# Preferences\nThe user likes dark chocolate")
    await memory.add("# Preferences\nand black tea")
    await memory.add("# Travel\nThe user lives in Lisbon")
    await storage.write("other/secret.md", b"dark chocolate elsewhere")
    await storage.close()

    storage, memory = a_memory()
    agent = make_agent(
        None,
        calls(("search_memory", {"query": "chocolate"})),
        "Dark chocolate.",
        memory_manager=MemoryManager(stores=[memory], injection=False),
    )
    await agent.invoke_async("What do I like?")

    [found] = results_of(agent.messages)
    assert "dark chocolate" in found
    assert "black tea" in found
    assert "Lisbon" not in found
    assert "elsewhere" not in found
    await storage.close()


async def test_a_text_index_is_used_and_keeps_to_its_namespace(sessions: Sessions) -> None:
    options = sessions.client_options()
    storage = MongoDBStorage(sessions.uri, sessions.database_name, "texts", searchable=True, **options)
    view = storage.namespace("a")
    for key, text in {"1.md": b"dark chocolate", "2.md": b"milk chocolate", "3.bin": b"\xff chocolate"}.items():
        await view.write(key, text)
    await storage.write("b/1.md", b"dark chocolate for others")
    await storage.write("ab.md", b"dark chocolate next door")
    await storage.close()  # Which waits for the index.

    storage = MongoDBStorage(sessions.uri, sessions.database_name, "texts", searchable=True, **options)
    view = storage.namespace("a")
    with sessions.recorder.counting() as commands:
        found = await view.search('dark "chocolate" -milk')

    assert commands.names == ["aggregate"]
    assert {result.key for result in found} == {"1.md", "2.md"}, "words, whatever signs are between them"
    assert found[0].key == "1.md"
    await view.write("1.md", b"\xff no text any more")
    await view.write("2.md", b"white chocolate")
    assert [result.key for result in await view.search("dark milk")] == []
    assert [result.key for result in await view.search("white")] == ["2.md"]
    await storage.close()


async def test_an_agent_reaches_only_its_own_sessions_storage(sessions: Sessions) -> None:
    async with sessions.manager("s-1") as first, sessions.manager("s-2") as second:
        await first.storage.write("context/secret", b"1")

        [stored] = sessions.raw.database[f"{COLLECTION}_storage"].find({}, {"_id": 1})
        for key in (stored["_id"], "context/secret", "s-1/context/secret"):
            assert await second.storage.read(key) is None
        with pytest.raises(StorageError):
            await second.storage.read("../" + stored["_id"])


async def test_a_graphs_agents_share_the_storage_of_its_session(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agents = [
            make_agent(
                manager,
                calls(("read_report", {}), text=""),
                Reply(text="Done."),
                agent_id=agent_id,
                tools=[read_report],
                storage=manager.storage,
                context_manager="auto",
            )
            for agent_id in ("one", "two")
        ]
        await asyncio.gather(*(agent.invoke_async("Read") for agent in agents))
        keys = await manager.storage.list(f"context/{SESSION_ID}/scopes/agent/")

    assert {key.split("/")[4] for key in keys} == {"one", "two"}


def test_a_script_reads_the_storage_of_its_session(sessions: Sessions) -> None:
    with MongoDBSessionManager(SESSION_ID, sessions.uri, sessions.database_name, COLLECTION) as manager:
        agent = Agent(
            model=make_agent(None, calls(("read_report", {})), "Done.").model,
            agent_id="assistant",
            session_manager=manager,
            storage=manager.storage,
            context_manager="auto",
            tools=[read_report],
            callback_handler=None,
        )
        agent("Read the report")

        keys = asyncio.run(manager.storage.list(""))
        assert keys
        assert asyncio.run(manager.storage.read(keys[0]))
