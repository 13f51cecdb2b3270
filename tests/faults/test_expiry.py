"""A session and what belongs to it expire as one unit, on a server that looks for what has expired every second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandStartedEvent
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionRepository
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.schema.payloads import PAYLOAD_BYTES
from mongodb_session_manager.session import writer as writer_module
from mongodb_session_manager.store.sealing import SEAL_AT_BYTES
from tests.fixtures.commands import CommandRecorder
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
)
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.invariants import PAYLOADS, SEGMENTS, check_stored
from tests.support.models import ScriptedModel

HOUR_S = 3600.0
SWEEP_S = 1


@pytest.fixture(scope="module")
def sweeping_server() -> Iterator[str]:
    """A server that removes what has expired every second instead of every minute."""
    with EmbeddedMongo(mongod_args=["--setParameter", f"ttlMonitorSleepSecs={SWEEP_S}"]) as server:
        yield server.uri


class Expiring:
    """Sessions that expire, and the server's view of them."""

    def __init__(self, uri: str, client: MongoClient[Document]) -> None:
        self.uri = uri
        self.database: Database[Document] = client[f"msm_{uuid4().hex[:12]}"]
        self.sessions = self.database[COLLECTION]
        self.recorder = CommandRecorder()

    def manager(self, session_id: str = SESSION_ID, **options: Any) -> AsyncMongoDBSessionManager:
        options = {"event_listeners": [self.recorder], **options}
        return AsyncMongoDBSessionManager(session_id, self.uri, self.database.name, COLLECTION, **options)

    def repository(self) -> AsyncMongoDBSessionRepository:
        return AsyncMongoDBSessionRepository(self.uri, self.database.name, COLLECTION)

    def children(self, session_id: str = SESSION_ID) -> list[Document]:
        query = {"session_id": session_id}
        fields = {"expires_at": 1, "created_at": 1}
        return [child for name in (SEGMENTS, PAYLOADS) for child in self.database[name].find(query, fields)]

    def document(self, session_id: str = SESSION_ID) -> Document | None:
        return self.sessions.find_one({"_id": session_id})

    async def indexed(self) -> None:
        """Return when the indexes are there that let documents expire."""
        names = [COLLECTION, SEGMENTS, PAYLOADS]

        def are_there() -> bool:
            found = [index for name in names for index in self.database[name].index_information().values()]
            return sum("expireAfterSeconds" in index for index in found) == len(names)

        await eventually(are_there, "making the indexes")

    def pass_time(self, seconds: float) -> None:
        """Let everything expire so much earlier, which for the server is as if so much time had passed."""
        # The sessions first: in between, too, their children outlive them.
        for name in (COLLECTION, SEGMENTS, PAYLOADS):
            for document in self.database[name].find({"expires_at": {"$exists": True}}):
                dates: Document = {
                    field: document[field] for field in ("expires_at", "children_expire_at") if field in document
                }
                # Where nobody changed it meanwhile.
                same: Document = {"_id": document["_id"], **dates}
                earlier = {field: date - timedelta(seconds=seconds) for field, date in dates.items()}
                self.database[name].update_one(same, {"$set": earlier})


@pytest.fixture
def expiring(sweeping_server: str) -> Iterator[Expiring]:
    with MongoClient[Document](sweeping_server, appname="tests", tz_aware=True) as client:
        expiring = Expiring(sweeping_server, client)
        yield expiring
        client.drop_database(expiring.database.name)


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    model = ScriptedModel(otherwise="Fine.")
    return make_agent(manager, model=model, conversation_manager=NullConversationManager())


async def grow(agent: Agent, turns: int = 6) -> None:
    """Let an agent say so much, with an image, that a segment and a payload come to be."""
    data = b"\x89PNG" + bytes(PAYLOAD_BYTES)
    await streamed(agent, [{"text": "Look."}, {"image": {"format": "png", "source": {"bytes": data}}}])
    for number in range(turns):
        await streamed(agent, f"prompt {number} " + "x" * (SEAL_AT_BYTES // 4))


@asynccontextmanager
async def a_grown_session(expiring: Expiring, session_id: str = SESSION_ID, **options: Any) -> AsyncIterator[Agent]:
    async with expiring.manager(session_id, **options) as manager:
        agent = talker(manager)
        await grow(agent)
        yield agent
    kinds = {child["_id"].count("/") for child in expiring.children(session_id)}
    assert len(kinds) == 2, "neither a segment nor a payload"


def moment_of(document: Document) -> datetime:
    moment: datetime = document["expires_at"]
    return moment


async def watch(expiring: Expiring, session_ids: list[str], counts: dict[str, int]) -> None:
    """Assert that no session lacks any of its children; for ever."""
    while True:
        for session_id in session_ids:
            # In this order: a child that is gone already, of a session that is still there afterwards.
            found = await asyncio.to_thread(expiring.children, session_id)
            document = await asyncio.to_thread(expiring.document, session_id)
            if document is not None:
                assert len(found) >= counts[session_id], f"{session_id} lost children"
                assert all(moment_of(document) <= moment_of(child) for child in found)
        await asyncio.sleep(0.05)


async def test_children_are_there_as_long_as_their_session_and_go_after_it(expiring: Expiring) -> None:
    async with a_grown_session(expiring, ttl=HOUR_S):
        await expiring.indexed()
    document, children = expiring.document(), expiring.children()
    assert document is not None
    began = min(child["created_at"] for child in children if "created_at" in child)
    assert all(moment_of(document) < moment_of(child) for child in children)
    assert max(map(moment_of, children)) - began < timedelta(seconds=3 * HOUR_S)

    expiring.pass_time(HOUR_S)
    await eventually(lambda: expiring.document() is None, "the end of the session")
    assert len(expiring.children()) == len(children)

    expiring.pass_time(2 * HOUR_S)
    await eventually(lambda: expiring.children() == [], "the end of its children")


@pytest.mark.thorough
async def test_a_session_that_is_written_to_keeps_its_children_for_many_lifetimes(expiring: Expiring) -> None:
    """Whoever writes to it: the manager that sealed, one that knows of no segment, or a repository."""
    ids = ["own", "unknowing", "repository"]
    unknowing = expiring.manager("unknowing", ttl=HOUR_S)
    async with unknowing, expiring.repository() as repository, expiring.manager("own", ttl=HOUR_S) as own:
        await expiring.indexed()
        agents = {"own": talker(own), "unknowing": talker(unknowing)}
        await unknowing.flush()
        await grow(agents["own"])
        for session_id in ids[1:]:
            async with a_grown_session(expiring, session_id, ttl=HOUR_S):
                pass
        counts = {session_id: len(expiring.children(session_id)) for session_id in ids}
        watching = asyncio.create_task(watch(expiring, ids, counts))

        for number in range(12):
            expiring.pass_time(HOUR_S / 3)
            await asyncio.gather(
                streamed(agents["own"], f"still here {number}"),
                unknowing.update_metadata({"number": number}),
                repository.update_metadata("repository", {"number": number}),
            )
            assert not watching.done(), watching.exception()
        # What expired would be gone by now.
        await swept(expiring)

        watching.cancel()
        for session_id in ids:
            check_stored(expiring.database, session_id)
            assert len(expiring.children(session_id)) >= counts[session_id] >= 2
        resumed = await expiring.manager("own").open()
        assert talker(resumed).messages == agents["own"].messages
        await resumed.close()


async def swept(expiring: Expiring) -> None:
    """Return when the server has looked for what has expired, from beginning to end."""
    admin = expiring.database.client.admin

    def passes() -> int:
        return int(admin.command("serverStatus")["metrics"]["ttl"]["passes"])

    # The pass that is counted next may have begun before.
    least = passes() + 2
    await eventually(lambda: passes() >= least, "looking for what has expired")


@pytest.mark.slow
async def test_a_live_session_keeps_its_children_for_many_lifetimes(expiring: Expiring) -> None:
    """The same as time really passes."""
    ids = ["own", "unknowing", "repository"]
    lifetimes, ttl_s = 4, 8.0
    unknowing = expiring.manager("unknowing", ttl=ttl_s)
    async with unknowing, expiring.repository() as repository, expiring.manager("own", ttl=ttl_s) as own:
        await expiring.indexed()
        agents = {"own": talker(own), "unknowing": talker(unknowing)}
        await unknowing.flush()
        await grow(agents["own"])
        for session_id in ids[1:]:
            async with a_grown_session(expiring, session_id, ttl=ttl_s):
                pass
        counts = {session_id: len(expiring.children(session_id)) for session_id in ids}
        watching = asyncio.create_task(watch(expiring, ids, counts))

        end = time.monotonic() + lifetimes * ttl_s
        number = 0
        while time.monotonic() < end:
            assert not watching.done(), watching.exception()
            number += 1
            await asyncio.gather(
                streamed(agents["own"], f"still here {number}"),
                unknowing.update_metadata({"number": number}),
                repository.update_metadata("repository", {"number": number}),
            )
            await asyncio.sleep(ttl_s / 8)

        watching.cancel()
        for session_id in ids:
            check_stored(expiring.database, session_id)
            assert len(expiring.children(session_id)) >= counts[session_id] >= 2
        resumed = await expiring.manager("own").open()
        assert talker(resumed).messages == agents["own"].messages
        await resumed.close()


async def test_a_time_to_live_that_comes_later_reaches_what_is_there(expiring: Expiring) -> None:
    async with a_grown_session(expiring):
        assert all("expires_at" not in child for child in expiring.children())
        await expiring.indexed()

    async with expiring.manager(ttl=1.0) as manager:
        await manager.update_metadata({"a": 1})

    await eventually(lambda: expiring.document() is None and expiring.children() == [], "the end of both")


# -- what it costs


async def commands_of(expiring: Expiring, agent: Agent, manager: AsyncMongoDBSessionManager) -> list[tuple[str, str]]:
    """Return what one turn sends, and what it makes the background send."""
    with expiring.recorder.counting() as commands:
        await streamed(agent, "And now?")
        await manager.flush()
        await manager._lifetime.home.wait()
    return [(command.name, str(command.collection)) for command in commands]


def set_left(expiring: Expiring, lifetimes: float) -> None:
    """Let the children expire so many times to live from now."""
    moment = datetime.now(UTC) + timedelta(seconds=lifetimes * HOUR_S)
    for name in (SEGMENTS, PAYLOADS):
        expiring.database[name].update_many({}, {"$set": {"expires_at": moment}})
    expiring.sessions.update_many({}, {"$set": {"children_expire_at": moment}})


TURN = [("update", COLLECTION)] * 2
POSTPONEMENT = [
    ("update", SEGMENTS),
    ("update", PAYLOADS),
    ("update", COLLECTION),
    ("update", SEGMENTS),
    ("update", PAYLOADS),
]


@pytest.mark.parametrize("turns", [6, 18], ids=["some segments", "more segments"])
async def test_turns_pay_for_postponing_once_in_a_while_and_never_by_segment(
    expiring: Expiring, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with expiring.manager(ttl=HOUR_S, ensure_indexes=False) as manager:
        await grow(talker(manager), turns)
    set_left(expiring, 1.4)
    # No seal now: when one is due depends on when the last one met changes.
    monkeypatch.setattr(writer_module, "SEAL_AT_BYTES", 16 * 1024 * 1024)

    async with expiring.manager(ensure_indexes=False) as manager:
        agent = talker(manager)
        first = await commands_of(expiring, agent, manager)
        later = [await commands_of(expiring, agent, manager) for _ in range(3)]

    # A write that overlaps it does not know of it yet, and has it done once more.
    assert sorted(first) in [sorted(TURN + times * POSTPONEMENT) for times in (1, 2)]
    assert later == [TURN] * 3
    document = expiring.document()
    assert document is not None
    assert all(moment_of(child) > datetime.now(UTC) + timedelta(seconds=1.9 * HOUR_S) for child in expiring.children())
    assert document["children_expire_at"] <= min(map(moment_of, expiring.children()))


async def by_a_turn(manager: AsyncMongoDBSessionManager) -> None:
    await streamed(talker(manager), "And now?")


async def by_metadata(manager: AsyncMongoDBSessionManager) -> None:
    await manager.update_metadata({"a": 1})


async def by_id(manager: AsyncMongoDBSessionManager) -> None:
    await manager.repository.add_feedback(SESSION_ID, {"rating": "up"})


@pytest.mark.parametrize("write", [by_a_turn, by_metadata, by_id])
async def test_no_write_lets_a_session_outlive_its_children(
    expiring: Expiring, write: Callable[[AsyncMongoDBSessionManager], Awaitable[None]]
) -> None:
    async with a_grown_session(expiring, ttl=HOUR_S, ensure_indexes=False):
        pass
    async with expiring.manager(ensure_indexes=False) as manager:
        # Later than this manager looked: it has to learn from the write that is refused.
        set_left(expiring, 0.5)

        await write(manager)

    document = expiring.document()
    assert document is not None
    assert moment_of(document) > datetime.now(UTC) + timedelta(seconds=0.9 * HOUR_S)
    assert all(moment_of(document) < document["children_expire_at"] <= moment_of(c) for c in expiring.children())
    check_stored(expiring.database)


async def test_a_child_that_is_written_while_its_kind_is_postponed_is_postponed_too(expiring: Expiring) -> None:
    late: Document = {}

    class SlowSealer(CommandRecorder):
        """Writes a segment with an earlier date, just before the session is told of the later one."""

        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name == "update" and not late:
                update = event.command["updates"][0]["u"]
                if "children_expire_at" in update.get("$set", {}):
                    segment = expiring.database[SEGMENTS].find_one({})
                    assert segment is not None
                    moment = datetime.now(UTC) + timedelta(seconds=1.2 * HOUR_S)
                    late.update({**segment, "_id": "late", "expires_at": moment})
                    expiring.database[SEGMENTS].insert_one(late)

    async with a_grown_session(expiring, ttl=HOUR_S, ensure_indexes=False):
        pass
    set_left(expiring, 0.5)
    async with expiring.manager(ensure_indexes=False, event_listeners=[SlowSealer()]) as manager:
        await manager.update_metadata({"a": 1})

    document = expiring.document()
    assert late
    assert document is not None
    assert min(map(moment_of, expiring.children())) >= document["children_expire_at"]


async def test_deleting_a_session_leaves_nothing_that_would_have_to_expire(expiring: Expiring) -> None:
    async with a_grown_session(expiring, "other", ttl=HOUR_S, ensure_indexes=False):
        pass
    async with a_grown_session(expiring, ttl=HOUR_S, ensure_indexes=False):
        pass
    others = len(expiring.children("other"))
    async with expiring.manager(ensure_indexes=False) as manager:
        assert await manager.delete_session() == 1
        assert expiring.children() == []
        assert await manager.delete_session() == 0

    assert len(expiring.children("other")) == others
    check_stored(expiring.database, "other")
    assert AGENT_ID in check_stored(expiring.database, "other")["agents"]
