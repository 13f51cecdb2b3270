"""Strands' `SnapshotSessionManager` on our storage: wherever it is used, and equal to what its own storage keeps."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from strands import Agent, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage, Storage
from strands.types.content import ContentBlock
from strands.types.exceptions import StorageError

from mongodb_session_manager import MongoDBStorage, WrongLoopError
from mongodb_session_manager.storage import Snapshots
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, model_of
from tests.support.bidi import converse, make_bidi_agent, response, spoken
from tests.support.models import calls, texts

SESSION = "conversation"

MakeStorage = Callable[[], MongoDBStorage]


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


@pytest.fixture
def make_storage(sessions: Sessions) -> Iterator[MakeStorage]:
    """Makes storages of one collection, each on a client of its own, as other processes would."""
    made: list[MongoDBStorage] = []

    def make() -> MongoDBStorage:
        appname = f"process-{len(made)}"
        made.append(MongoDBStorage(sessions.uri, sessions.database_name, "snapshots", appname=appname))
        return made[-1]

    yield make
    for storage in made:
        asyncio.run(storage.close())


def an_agent(storage: Storage, *script: Any, agent_id: str = "assistant", **options: Any) -> Agent:
    manager = SnapshotSessionManager(SESSION, storage=storage, **options)
    return make_agent(manager, *script, agent_id=agent_id, tools=[double])


async def in_a_handler(agent: Agent, prompt: str) -> None:
    await agent.invoke_async(prompt)


async def in_a_script(agent: Agent, prompt: str) -> None:
    await asyncio.to_thread(agent, prompt)


async def inside_a_running_loop(agent: Agent, prompt: str) -> None:
    agent(prompt)  # Which holds this loop up until it has ended.


@pytest.mark.parametrize("invoke", [in_a_handler, in_a_script, inside_a_running_loop])
@pytest.mark.parametrize("save_latest_on", ["message", "invocation"])
async def test_an_agent_resumes_from_wherever_it_is_used(
    make_storage: MakeStorage, invoke: Callable[[Agent, str], Awaitable[None]], save_latest_on: Any
) -> None:
    agent = an_agent(make_storage(), calls(("double", {"number": 21})), "It is 42.", save_latest_on=save_latest_on)
    agent.state.set("topic", "numbers")
    await invoke(agent, "Twice 21?")

    resumed = an_agent(make_storage(), "You asked for 42.", save_latest_on=save_latest_on)
    assert resumed.messages == agent.messages
    assert resumed.state.get() == {"topic": "numbers"}
    await invoke(resumed, "What was it?")

    assert texts(an_agent(make_storage()).messages)[-2:] == ["What was it?", "You asked for 42."]


async def test_a_synchronous_call_of_one_loop_and_tasks_of_another_share_a_storage(make_storage: MakeStorage) -> None:
    storage = make_storage()
    agents = [an_agent(storage, "Hello.", agent_id=f"agent-{number}") for number in range(6)]
    threads = [threading.Thread(target=agent, args=("Hi",)) for agent in agents[:3]]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(agent.invoke_async("Hi") for agent in agents[3:]))
    for thread in threads:
        await asyncio.to_thread(thread.join)

    for number in range(6):
        assert texts(an_agent(make_storage(), agent_id=f"agent-{number}").messages) == ["Hi", "Hello."]


async def test_a_client_of_one_loop_says_so(sessions: Sessions) -> None:
    async with AsyncMongoClient[dict[str, Any]](sessions.uri) as client:
        storage = MongoDBStorage(client=client, database_name=sessions.database_name, ensure_indexes=False)
        await storage.write("key", b"1")

        with pytest.raises(StorageError) as refused:
            an_agent(storage)

    assert isinstance(refused.value.__cause__, WrongLoopError)


def a_graph(storage: Storage, *scripts: list[Any]) -> Any:
    builder = GraphBuilder()
    for number, script in enumerate(scripts):
        builder.add_node(make_agent(None, *script, agent_id=f"agent-{number}"), f"node-{number}")
        if number:
            builder.add_edge(f"node-{number - 1}", f"node-{number}")
    builder.set_entry_point("node-0")
    builder.set_graph_id("graph")
    builder.set_execution_timeout(300)
    builder.set_session_manager(SnapshotSessionManager(SESSION, storage=storage))
    return builder.build()


async def test_a_graph_goes_on_where_it_failed(make_storage: MakeStorage) -> None:
    with pytest.raises(RuntimeError, match="down"):
        await a_graph(make_storage(), ["first"], [RuntimeError("down")]).invoke_async("go")

    again = a_graph(make_storage(), ["never asked"], ["second"])
    result = await again.invoke_async("go")

    assert {name: str(node.result).strip() for name, node in result.results.items()} == {
        "node-0": "first",
        "node-1": "second",
    }
    assert model_of(again.nodes["node-0"].executor).requests == []


async def test_a_swarm_resumes(make_storage: MakeStorage) -> None:
    def a_swarm(*script: Any) -> Swarm:
        agent = make_agent(None, *script, agent_id="one", name="one")
        return Swarm([agent], session_manager=SnapshotSessionManager(SESSION, storage=make_storage()), id="swarm")

    failed = await a_swarm(RuntimeError("down")).invoke_async("go")
    assert failed.status.value == "failed"
    result = await a_swarm("done").invoke_async("go on")

    assert result.status.value == "completed"
    keys = await make_storage().list("")
    assert keys == [f"session/{SESSION}/scopes/multiAgent/swarm/snapshots/snapshot_latest.json"]


async def test_a_bidi_agent_resumes(make_storage: MakeStorage) -> None:
    greeting = [
        *spoken("user", "Hello there.", content_id="u1"),
        *response(spoken("assistant", "Hi!", content_id="a1")),
    ]
    live = make_bidi_agent(SnapshotSessionManager(SESSION, storage=make_storage()), greeting)
    await converse(live)

    resumed = make_bidi_agent(SnapshotSessionManager(SESSION, storage=make_storage()))
    assert texts(resumed.messages) == ["Hello there.", "Hi!"]
    assert resumed.messages == live.messages


# -- equal to Strands' own


FROM_RUN_TO_RUN = {"created_at", "timestamp", "tracking_id", "toolUseId", "metrics"}


def scrubbed(value: Any) -> Any:
    """Return a value without what differs from run to run, wherever it stands."""
    if isinstance(value, dict):
        return {name: "..." if name in FROM_RUN_TO_RUN else scrubbed(item) for name, item in value.items()}
    return [scrubbed(item) for item in value] if isinstance(value, list) else value


async def everything_in(storage: Storage) -> list[tuple[str, Any]]:
    """Return keys and snapshots in order; the keys of checkpoints hold the time."""
    found = []
    for key in await storage.list(""):
        data = await storage.read(key)
        assert data is not None
        found.append((key.split("/snapshot_0")[0], scrubbed(json.loads(data))))
    return found


async def test_the_same_agents_end_with_the_snapshots_that_strands_own_storage_has(
    make_storage: MakeStorage, tmp_path: Path
) -> None:
    ours, theirs = make_storage(), LocalFileStorage(str(tmp_path))
    for storage in (ours, theirs):
        for script in (["Hello."], [calls(("double", {"number": 4})), "Eight."]):
            agent = an_agent(storage, *script, snapshot_trigger=lambda **kwargs: True)
            agent.state.set("turns", len(agent.messages))
            await agent.invoke_async("Go on, ünd 日本語")
        other = an_agent(storage, "Hello.", agent_id="other")
        image: ContentBlock = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\0\xff"}}}
        await other.invoke_async([image])

    kept = await everything_in(ours)
    assert kept == await everything_in(theirs)
    assert len(kept) == 4
    assert an_agent(ours).messages[-1]["content"] == an_agent(theirs).messages[-1]["content"] == [{"text": "Eight."}]


async def test_deleting_a_session_deletes_its_snapshots_and_no_others(make_storage: MakeStorage) -> None:
    storage = make_storage()
    await an_agent(storage, "Hello.").invoke_async("Hi")
    await storage.write(f"session/{SESSION}-2/scopes/agent/a/snapshots/snapshot_latest.json", b"{}")

    await SnapshotSessionManager(SESSION, storage=storage).delete_session()

    assert await storage.list("") == [f"session/{SESSION}-2/scopes/agent/a/snapshots/snapshot_latest.json"]


@pytest.mark.thorough
async def test_a_snapshot_of_30_mb_works(make_storage: MakeStorage) -> None:
    agent = an_agent(make_storage(), "A long text.")
    await agent.invoke_async("x" * 30_000_000)

    resumed = an_agent(make_storage(), "A long text indeed.")
    assert resumed.messages == agent.messages
    await resumed.invoke_async("And?")

    assert texts(an_agent(make_storage()).messages)[1:] == ["A long text.", "And?", "A long text indeed."]
    assert await make_storage().sweep(older_than=timedelta(0), dry_run=True) == 0


# -- listed, restored, removed by age


async def take_three(storage: Storage, **options: Any) -> tuple[Agent, SnapshotSessionManager, list[str]]:
    manager = SnapshotSessionManager(SESSION, storage=storage)
    agent = make_agent(manager, "one", "two", "three", **options)
    taken = []
    for prompt in ("1", "2", "3"):
        await agent.invoke_async(prompt)
        taken.append(await manager.save_snapshot(agent, is_latest=False))
    return agent, manager, [snapshot_id for snapshot_id in taken if snapshot_id is not None]


@pytest.mark.parametrize("view", [False, True], ids=["storage", "view"])
async def test_snapshots_are_listed_and_restored(make_storage: MakeStorage, view: bool) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    storage = make_storage().namespace("team") if view else make_storage()
    agent, manager, taken = await take_three(storage)
    _, _, of_the_other = await take_three(storage, agent_id="other")

    records = await Snapshots(storage).list(SESSION, "assistant")

    assert [record.snapshot_id for record in records] == taken == await manager.list_snapshot_ids(agent)
    assert {(record.session_id, record.agent_id) for record in records} == {(SESSION, "assistant")}
    assert all(before <= record.created_at <= datetime.now(UTC) for record in records)
    assert await storage.read(records[0].key) is not None
    assert [record.snapshot_id for record in await Snapshots(storage).list()] == [*taken, *of_the_other]
    assert await Snapshots(storage).list("conv") == []

    assert await manager.restore_snapshot(agent, snapshot_id=records[0].snapshot_id)
    assert texts(agent.messages) == ["1", "one"]


async def test_snapshots_are_removed_by_age_and_the_latest_stays(make_storage: MakeStorage) -> None:
    storage = make_storage()
    agent, manager, taken = await take_three(storage)
    await take_three(storage, agent_id="other")
    snapshots = Snapshots(storage)
    records = await snapshots.list(SESSION, "assistant")

    assert await snapshots.delete(timedelta(days=1)) == []
    assert await snapshots.delete(records[1].created_at, agent_id="assistant", dry_run=True) == records[:1]
    assert await snapshots.list(SESSION, "assistant") == records
    assert await snapshots.delete(records[1].created_at, agent_id="assistant") == records[:1]
    assert await manager.list_snapshot_ids(agent) == taken[1:]
    assert [r.agent_id for r in await snapshots.delete(timedelta(0), session_id=SESSION, keep=1)] == [
        "assistant",
        "other",
        "other",
    ]
    assert [r.snapshot_id for r in await snapshots.list(SESSION, "assistant")] == taken[2:]
    assert len(await snapshots.delete(timedelta(0))) == 2

    assert await snapshots.list() == []
    assert texts(an_agent(make_storage()).messages) == ["1", "one", "2", "two", "3", "three"]


async def test_snapshots_with_ids_of_other_tools_are_of_a_moment_within_the_calendar(make_storage: MakeStorage) -> None:
    storage = make_storage()
    _, _, taken = await take_three(storage)
    first, last = "00000000-0000-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"
    [key, *_] = [record.key for record in await Snapshots(storage).list()]
    for snapshot_id in (first, last):
        await storage.write(key.replace(taken[0], snapshot_id), b"{}")

    records = await Snapshots(storage).list(SESSION)
    assert [record.snapshot_id for record in records] == [first, *taken, last]
    assert (records[0].created_at.year, records[-1].created_at.year) == (1970, 9999)

    await Snapshots(storage).delete(timedelta(0))
    assert [record.snapshot_id for record in await Snapshots(storage).list()] == [last]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"older_than": datetime(2026, 1, 1)}, ValueError),
        ({"older_than": 3}, TypeError),
        ({"older_than": timedelta(0), "keep": -1}, ValueError),
    ],
)
async def test_what_is_no_age_is_refused(make_storage: MakeStorage, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Snapshots(make_storage()).delete(**arguments)
