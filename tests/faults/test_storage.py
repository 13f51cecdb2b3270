"""Faults in the middle of what a storage does: processes that die, lost replies, sweeps, failovers, readers at work."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands.types.exceptions import StorageError

from mongodb_session_manager import MongoDBStorage, SessionNotFoundError, StorageConflictError
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.runtime import Outbox, Outcome
from mongodb_session_manager.storage import chunks as chunks_module
from mongodb_session_manager.storage import values as values_module
from mongodb_session_manager.storage.values import CHUNKS_SUFFIX
from tests.fixtures.faults import MongoProxy, fail_point
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.fixtures.waiting import WAIT_S, Held, eventually, happened
from tests.support import storage_process
from tests.support.crash_process import When
from tests.support.storage_process import CHUNK_BYTES, NEW, OLD, SMALL, STORAGE, WORK

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.support.storage_process"])

AT_ONCE = timedelta(0)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let values of a few kilobytes have chunks."""
    monkeypatch.setattr(chunks_module, "CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(values_module, "INLINE_BYTES", CHUNK_BYTES)


MakeStorage = Callable[..., MongoDBStorage]


@pytest.fixture
async def make_storage(sessions: Sessions, small_chunks: None) -> AsyncIterator[MakeStorage]:
    made: list[MongoDBStorage] = []

    def make(**options: Any) -> MongoDBStorage:
        options = {"ensure_indexes": False, **sessions.client_options(), **options}
        made.append(MongoDBStorage(sessions.uri, sessions.database_name, STORAGE, **options))
        return made[-1]

    yield make
    for storage in made:
        await storage.close()


def chunks_of(sessions: Sessions) -> list[Document]:
    return list(sessions.raw.database[f"{STORAGE}{CHUNKS_SUFFIX}"].find())


def check_no_orphans(sessions: Sessions) -> None:
    """Assert that each chunk belongs to a head that names it, and each head has all of its chunks."""
    heads = list(sessions.raw.database[STORAGE].find())
    named = {head["generation"]: head["count"] for head in heads if "generation" in head}
    assert Counter(chunk["generation"] for chunk in chunks_of(sessions)) == Counter(named)


# -- killed


def killed_at(sessions: Sessions, key: str, work: str, kill_at: int, when: When) -> int | None:
    """Run a process; return how many writes there were, None when it was killed."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    args = (sessions.uri, sessions.database_name, key, work, kill_at, when, theirs)
    child = PROCESSES.Process(target=storage_process.run, args=args)
    child.start()
    theirs.close()
    try:
        count: int | None = ours.recv()
    except EOFError:
        count = None
    child.join(WAIT_S)
    assert child.exitcode == (0 if count is not None else -signal.SIGKILL)
    child.close()
    return count


@pytest.mark.matrix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("work", WORK)
async def test_killed_anywhere_there_is_the_old_value_or_the_new_one(
    sessions: Sessions, make_storage: MakeStorage, work: str, when: When
) -> None:
    before, after = WORK[work]
    writes = await asyncio.to_thread(killed_at, sessions, "whole", work, 0, when)
    assert writes is not None
    for number in range(1, writes + 1):
        key = f"key {number}"
        assert await asyncio.to_thread(killed_at, sessions, key, work, number, when) is None, "it was not killed"

        found = await make_storage().read(key)
        assert found in (before, after)
        assert await make_storage().list(key) == ([] if found is None else [key])
        assert await make_storage().sweep(older_than=timedelta(hours=1)) == 0, "it may still be at work"

    await make_storage().sweep(older_than=AT_ONCE)
    check_no_orphans(sessions)
    for number in range(1, writes + 1):
        await make_storage().write(f"key {number}", NEW)
        assert await make_storage().read(f"key {number}") == NEW
    check_no_orphans(sessions)


# -- many at once


@pytest.mark.matrix
@pytest.mark.parametrize("size", [100, 5 * CHUNK_BYTES + 7], ids=["small", "chunks"])
async def test_20_readers_see_whole_values_of_20_writers(
    sessions: Sessions, make_storage: MakeStorage, size: int
) -> None:
    storages = [make_storage(maxPoolSize=20) for _ in range(2)]
    await storages[0].write("key", b"\0" * size)
    written = asyncio.Event()
    seen: set[int] = set()

    async def write(number: int) -> None:
        for round_ in range(5):
            await storages[number % 2].write("key", bytes([20 * round_ + number]) * size)

    async def read(number: int) -> None:
        while not written.is_set():
            data = await storages[number % 2].read("key")
            assert data is not None
            assert len(data) == size
            assert len(set(data)) == 1, "parts of two values"
            seen.add(data[0])

    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(read(number))
        async with asyncio.TaskGroup() as writers:
            for number in range(20):
                writers.create_task(write(number))
        written.set()

    assert len(seen) > 1
    assert await storages[0].version("key") == 101
    check_no_orphans(sessions)


async def test_of_20_writers_that_read_the_same_version_one_succeeds(make_storage: MakeStorage) -> None:
    storage = make_storage()
    await storage.write("counter", b"0")

    async def add() -> int:
        conflicts = 0
        while True:
            stat = await storage.stat("counter")
            data = await storage.read("counter")
            assert stat is not None
            assert data is not None
            if await storage.version("counter") != stat.version:
                continue
            try:
                await storage.write("counter", str(int(data) + 1).encode(), if_version=stat.version)
                return conflicts
            except StorageConflictError:
                conflicts += 1

    conflicts = await asyncio.gather(*(add() for _ in range(20)))

    assert await storage.read("counter") == b"20"
    assert sum(conflicts) > 0
    first = [storage.write("new", str(n).encode() * n, if_version=0) for n in range(20)]
    results = await asyncio.gather(*first, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + 19 * ["StorageConflictError"]


async def test_first_writes_at_the_same_moment_are_all_writes(sessions: Sessions, make_storage: MakeStorage) -> None:
    storage = make_storage()

    await asyncio.gather(*(storage.write("key", bytes([n]) * (n * 300)) for n in range(20)))

    assert await storage.version("key") == 20
    check_no_orphans(sessions)


# -- in the middle of something


@pytest.fixture
def held() -> Held:
    return Held()


def swap(name: str, command: Mapping[str, Any]) -> bool:
    return name == "findAndModify"


def finds_chunks(name: str, command: Mapping[str, Any]) -> bool:
    return name == "find" and str(command["find"]).endswith(CHUNKS_SUFFIX)


async def test_a_reader_that_meets_a_swap_reads_the_new_value(make_storage: MakeStorage, held: Held) -> None:
    reader, writer = make_storage(event_listeners=[held]), make_storage()
    await writer.write("key", OLD)

    with held.holding(finds_chunks):
        reading = asyncio.create_task(reader.read("key"))
        await happened(held.reached)
        await writer.write("key", NEW)
        held.let_go()
        assert await reading == NEW

    with held.holding(finds_chunks):
        reading = asyncio.create_task(reader.read("key"))
        await happened(held.reached)
        await writer.delete("key")
        held.let_go()
        assert await reading is None


async def test_a_writer_that_is_swept_meanwhile_stores_a_whole_value(
    sessions: Sessions, make_storage: MakeStorage, held: Held
) -> None:
    writer, sweeper = make_storage(event_listeners=[held]), make_storage()
    await writer.write("key", OLD)

    with held.holding(swap):
        writing = asyncio.create_task(writer.write("key", NEW))
        await happened(held.reached)
        assert await sweeper.sweep(older_than=AT_ONCE) == -(-len(NEW) // CHUNK_BYTES)
        held.let_go()
        await writing

    assert await sweeper.read("key") == NEW
    check_no_orphans(sessions)


async def test_a_sweep_spares_what_is_named_while_it_sweeps(
    sessions: Sessions, make_storage: MakeStorage, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Held()
    writer, sweeper = make_storage(event_listeners=[held]), make_storage(event_listeners=[holder])
    # So that the writer is taken for one that was stopped for long.
    monkeypatch.setattr(values_module, "SWEEP_AFTER", timedelta(0))

    def deletes(name: str, command: Mapping[str, Any]) -> bool:
        return name == "delete"

    with held.holding(swap), holder.holding(deletes):
        writing = asyncio.create_task(writer.write("key", NEW))
        await happened(held.reached)
        sweeping = asyncio.create_task(sweeper.sweep(older_than=AT_ONCE))
        await happened(holder.reached)
        held.let_go()
        await writing
        holder.let_go()
        assert await sweeping == 0

    assert await writer.read("key") == NEW
    check_no_orphans(sessions)


async def test_two_writers_in_one_anothers_steps_leave_nothing_behind(
    sessions: Sessions, make_storage: MakeStorage, held: Held
) -> None:
    slow, fast = make_storage(event_listeners=[held]), make_storage()
    await slow.write("key", OLD)

    def counts(name: str, command: Mapping[str, Any]) -> bool:
        return name == "aggregate"

    with held.holding(counts):  # Between the swap and looking whether the chunks are there.
        writing = asyncio.create_task(slow.write("key", OLD[::-1]))
        await happened(held.reached)
        await fast.write("key", NEW)
        held.let_go()
        await writing

    assert await slow.read("key") == NEW
    check_no_orphans(sessions)


async def test_a_value_whose_chunks_are_missing_is_an_error_and_can_be_replaced(
    sessions: Sessions, make_storage: MakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_module, "_PAUSE_S", 0.001)
    storage = make_storage()
    await storage.write("key", NEW)
    await storage.write("whole", b"word")
    sessions.raw.database[f"{STORAGE}{CHUNKS_SUFFIX}"].delete_one({})

    with pytest.raises(StorageError):
        await storage.read("key")
    assert [found.key for found in await storage.search("word")] == ["whole"]

    await storage.write("key", OLD)
    assert await storage.read("key") == OLD
    check_no_orphans(sessions)


async def test_a_cancelled_write_is_there_or_not(sessions: Sessions, make_storage: MakeStorage, held: Held) -> None:
    storage = make_storage(event_listeners=[held])
    await storage.write("key", OLD)

    def inserts(name: str, command: Mapping[str, Any]) -> bool:
        return name == "insert"

    for matches in (inserts, swap):
        with held.holding(matches):
            writing = asyncio.create_task(storage.write("key", NEW))
            await happened(held.reached)
            writing.cancel()
            held.let_go()
            with pytest.raises(asyncio.CancelledError):
                await writing
        assert await storage.read("key") in (OLD, NEW)

    await storage.write("key", SMALL)
    await eventually(lambda: storage_is_settled(sessions), "the end of what was cancelled")
    await storage.sweep(older_than=AT_ONCE)
    check_no_orphans(sessions)


def storage_is_settled(sessions: Sessions) -> bool:
    """Tell whether the server is done with all commands of this test's clients."""
    operations = sessions.raw.database.client.admin.command(
        {"currentOp": 1, "active": True, "appName": sessions.appname}
    )
    return not [op for op in operations["inprog"] if op.get("ns", "").startswith(sessions.database_name)]


# -- lost replies


@pytest.mark.parametrize(
    ("old", "new", "command"),
    [
        (OLD, NEW, "findAndModify"),
        (OLD, SMALL, "findAndModify"),
        (SMALL, NEW, "findAndModify"),
        (SMALL, SMALL[::-1], "update"),
    ],
    ids=["large-large", "large-small", "small-large", "small-small"],
)
@pytest.mark.parametrize("if_version", [None, 1])
async def test_a_write_whose_reply_was_lost_counts_once(
    sessions: Sessions,
    mongo_client: MongoClient[Document],
    make_storage: MakeStorage,
    old: bytes,
    new: bytes,
    command: str,
    if_version: int | None,
) -> None:
    storage = make_storage(retryWrites=False)
    await storage.write("key", old)

    with sessions.recorder.counting() as commands, lost_replies(mongo_client, sessions, [command]):
        await storage.write("key", new, if_version=if_version)

    assert commands.names.count(command) == 2
    assert await storage.version("key") == 2
    assert await storage.read("key") == new
    with lost_replies(mongo_client, sessions, ["delete"]):
        await storage.delete("key")
    assert await storage.read("key") is None
    await storage.sweep(older_than=AT_ONCE)
    check_no_orphans(sessions)


@pytest.mark.parametrize("data", [SMALL, NEW], ids=["small", "large"])
async def test_a_first_write_whose_reply_was_lost_is_no_conflict(
    sessions: Sessions, mongo_client: MongoClient[Document], make_storage: MakeStorage, data: bytes
) -> None:
    storage = make_storage(retryWrites=False)

    with lost_replies(mongo_client, sessions, ["insert"]):
        await storage.write("key", data, if_version=0)

    assert await storage.version("key") == 1
    assert await storage.read("key") == data
    check_no_orphans(sessions)


def lost_replies(client: MongoClient[Document], sessions: Sessions, commands: list[str]) -> Any:
    """Let commands succeed and their replies be errors after which they are sent again, once each."""
    data = {
        "failCommands": commands,
        "appName": sessions.appname,
        # Not one after which the driver waits for its next heartbeat.
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
    }
    return fail_point(client, {"times": 1}, data)


async def test_a_search_goes_on_when_connections_are_lost(
    sessions: Sessions, mongo_client: MongoClient[Document], make_storage: MakeStorage
) -> None:
    storage = make_storage(retryReads=False)
    for number in range(20):
        await storage.write(f"{number:02d}", b"word" if number % 2 else b"word " * CHUNK_BYTES)
    data = {"failCommands": ["find", "getMore"], "appName": sessions.appname, "closeConnection": True}

    with fail_point(mongo_client, {"activationProbability": 0.3}, data):  # type: ignore[dict-item]
        found = await storage.search("word")

    assert [result.key for result in found] == [f"{number:02d}" for number in range(20)]


# -- errors


async def test_without_acknowledged_writes_nothing_is_changed(sessions: Sessions, make_storage: MakeStorage) -> None:
    storage, blind = make_storage(), make_storage(w=0)
    await storage.write("small", SMALL)
    await storage.write("large", NEW)
    writes: dict[str, Callable[[], Any]] = {
        "write": lambda: blind.write("small", OLD),
        "delete": lambda: blind.delete("small"),
        "delete_prefix": lambda: blind.delete_prefix(""),
        "sweep": lambda: blind.sweep(older_than=AT_ONCE),
    }

    for write in writes.values():
        with pytest.raises(StorageError, match="w=0"):
            await write()

    assert await blind.read("small") == SMALL
    assert await blind.read("large") == NEW
    assert await blind.sweep(older_than=AT_ONCE, dry_run=True) == 0


async def test_the_drivers_errors_are_the_cause_of_ours_and_name_no_server(mongo_proxy: MongoProxy) -> None:
    away = MongoDBStorage(
        f"mongodb://user:secret-word@127.0.0.1:{mongo_proxy.port}/?directConnection=true&serverSelectionTimeoutMS=200",
        ensure_indexes=False,
        write_deadline_s=0.1,
    )
    mongo_proxy.stop()
    calls = {
        "read": away.read("key"),
        "write": away.write("key", b"private"),
        "delete": away.delete("key"),
        "list": away.list(""),
        "stat": away.stat("key"),
        "search": away.search("private"),
        "sweep": away.sweep(),
        "delete all": away.delete_prefix("k"),
    }

    for call in calls.values():
        with pytest.raises(StorageError) as failed:
            await call
        assert isinstance(failed.value.__cause__, PyMongoError)
        for secret in ("secret-word", "127.0.0.1", "private"):
            assert secret not in str(failed.value)
            assert secret not in repr(away)

    await away.close()
    with pytest.raises(StorageError):
        await away.read("key")


async def test_unacknowledged_writes_are_refused(sessions: Sessions) -> None:
    async with MongoDBStorage(sessions.uri, sessions.database_name, w=0, ensure_indexes=False) as storage:
        with pytest.raises(StorageError, match="w=0"):
            await storage.write("key", b"1")


# -- failover


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo("three_nodes") as server:
        yield server


@pytest.mark.slow
async def test_a_failover_in_between_loses_nothing(three_nodes: EmbeddedMongo, small_chunks: None) -> None:
    database = f"msm_{uuid4().hex[:12]}"
    async with MongoDBStorage(three_nodes.uri, database, "values", ensure_indexes=False) as storage:
        await storage.write("shared", b"0" * 3 * CHUNK_BYTES)
        over = asyncio.Event()

        async def write(number: int) -> int:
            count = 0
            while not over.is_set():
                count += 1
                await storage.write(f"key {number}", f"{count} ".encode() * CHUNK_BYTES)
                await storage.write("shared", str(number).encode() * 3 * CHUNK_BYTES)
            return count

        async def read() -> None:
            while not over.is_set():
                data = await storage.read("shared")
                assert data is not None
                assert len(set(data)) == 1

        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(write(number)) for number in range(4)]
            for _ in range(4):
                tasks.create_task(read())
            index = await asyncio.to_thread(three_nodes.primary_index, WAIT_S)
            await asyncio.to_thread(three_nodes.kill, index)
            await asyncio.to_thread(three_nodes.primary_index, WAIT_S)
            await storage.write("after", b"1")
            over.set()

        for number, writer in enumerate(writers):
            data = await storage.read(f"key {number}")
            assert data is not None
            assert data == f"{writer.result()} ".encode() * CHUNK_BYTES
        assert await storage.version("shared") == 1 + sum(writer.result() for writer in writers)
        await storage.sweep(older_than=AT_ONCE)
        assert await storage.sweep(older_than=AT_ONCE, dry_run=True) == 0
        for key in await storage.list(""):
            assert await storage.read(key) is not None


# -- expiry


@pytest.fixture(scope="module")
def sweeping_server() -> Iterator[str]:
    """A server that removes what has expired every second instead of every minute."""
    with EmbeddedMongo(mongod_args=["--setParameter", "ttlMonitorSleepSecs=1"]) as server:
        yield server.uri


async def test_a_value_expires_as_one(sweeping_server: str, small_chunks: None) -> None:
    database = f"msm_{uuid4().hex[:12]}"
    with MongoClient[Document](sweeping_server, tz_aware=True) as client:
        heads, chunks = client[database]["values"], client[database][f"values{CHUNKS_SUFFIX}"]
        async with MongoDBStorage(sweeping_server, database, "values", ttl=timedelta(seconds=3600)) as storage:
            assert storage.ttl == storage.namespace("a").ttl == timedelta(hours=1)
            await storage.write("large", NEW)
            await storage.write("small", SMALL)
            head = heads.find_one({"_id": "large"})
            stat = await storage.stat("large")
            assert head is not None
            assert stat is not None
            assert stat.expires_at == head["expires_at"]
            assert stat.expires_at is not None
            assert timedelta(minutes=59) < stat.expires_at - datetime.now(UTC) <= timedelta(hours=1)
            ages = {chunk["expires_at"] - head["expires_at"] for chunk in chunks.find()}
            assert ages == {timedelta(hours=1)}, "a chunk never goes before its head"
            await storage.write("small", NEW)
            await storage.write("small", SMALL)

        # The indexes are there now; as if an hour had passed, and then another.
        past = {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}}
        heads.update_one({"_id": "large"}, past)
        await eventually(lambda: heads.count_documents({}) == 1, "the expiry of the head")
        assert chunks.count_documents({}) == 4
        async with MongoDBStorage(sweeping_server, database, "values") as storage:
            assert await storage.read("large") is None
            assert await storage.list("") == ["small"]
            assert await storage.read("small") == SMALL
            chunks.update_many({}, past)
            await eventually(lambda: chunks.count_documents({}) == 0, "the expiry of the chunks")
            await storage.write("small", SMALL)
            stat = await storage.stat("small")
            assert stat is not None
            assert stat.expires_at is None, "a storage without a time to live keeps what it writes"


async def test_a_session_and_its_storage_expire_together(sessions: Sessions, small_chunks: None) -> None:
    names = [f"{COLLECTION}_storage", f"{COLLECTION}_storage{CHUNKS_SUFFIX}"]
    collections = [sessions.raw.database[name] for name in names]

    def dates() -> list[datetime]:
        return [document["expires_at"] for found in collections for document in found.find()]

    async with sessions.manager(ttl=3600) as manager:
        await manager.storage.write("large", NEW)
        await manager.storage.write("small", SMALL)
        session = sessions.raw.find_one({"_id": SESSION_ID})
        assert session is not None
        assert session["has_children"]
        assert len(dates()) == 6
        assert all(date > session["expires_at"] + timedelta(minutes=59) for date in dates())
        assert session["children_expire_at"] <= min(dates())
        stat = await manager.storage.stat("small")
        assert stat is not None
        assert stat.expires_at is None, "it expires with the session"

        # As if so much time had passed that they would not outlive what is written next.
        shift = timedelta(seconds=3600 * 1.5)
        for found in collections:
            for document in found.find():
                found.update_one({"_id": document["_id"]}, {"$set": {"expires_at": document["expires_at"] - shift}})
        moments = {name: session[name] - shift for name in ("expires_at", "children_expire_at")}
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": moments})

    async with sessions.manager() as manager:
        await manager.add_feedback({"rating": "up"})
        session = sessions.raw.find_one({"_id": SESSION_ID})
        assert session is not None
        assert all(date > session["expires_at"] for date in dates()), "they were put off with it"
        assert await manager.storage.read("large") == NEW


@pytest.mark.matrix
@pytest.mark.parametrize("data", [SMALL, NEW], ids=["small", "large"])
async def test_nothing_is_left_of_what_is_written_while_its_session_is_deleted(
    sessions: Sessions, small_chunks: None, data: bytes
) -> None:
    held = Held()
    async with sessions.manager("counted") as manager:
        await manager.storage.write("first", data)
        with sessions.recorder.counting() as commands:
            await manager.storage.write("key", data)
    number_of_commands = len(commands.names)
    assert number_of_commands >= 2

    for number in range(number_of_commands):
        session_id = f"s-{number}"
        sent = iter(range(number_of_commands))
        manager = sessions.manager(session_id, event_listeners=[held])
        await manager.open()
        await manager.storage.write("first", data)
        with held.holding(lambda name, command, number=number, sent=sent: next(sent) == number):  # type: ignore[misc]
            writing = asyncio.create_task(manager.storage.write("key", data))
            await happened(held.reached)
            async with sessions.manager(session_id) as other:
                await other.delete_session()
            held.let_go()
            # Where the session was seen last before it was deleted, the value is stored, and deleted with it.
            [error] = await asyncio.gather(writing, return_exceptions=True)
        assert isinstance(error, StorageError)
        assert isinstance(error.__cause__, SessionNotFoundError)
        await manager.close()

    database = sessions.raw.database
    for name in (f"{COLLECTION}_storage", f"{COLLECTION}_storage{CHUNKS_SUFFIX}"):
        assert database[name].count_documents({"session_id": {"$ne": "counted"}}) == 0


@pytest.mark.matrix
@pytest.mark.parametrize("data", [SMALL, NEW], ids=["small", "large"])
async def test_a_value_that_is_written_while_a_close_ends_in_the_background_stays(
    sessions: Sessions, small_chunks: None, data: bytes
) -> None:
    held, told = Held(), threading.Event()
    async with sessions.manager("counted") as manager:
        await manager.storage.write("key", OLD)
        with sessions.recorder.counting() as commands:
            await manager.storage.write("key", data)
    number_of_commands = len(commands.names)
    assert number_of_commands >= 2

    async def send(messages: Sequence[str]) -> list[Outcome]:
        await asyncio.to_thread(told.wait, WAIT_S)
        return [None] * len(messages)

    outbox: Outbox[str] = Outbox("slow", send)
    for number in range(1, number_of_commands):
        session_id = f"s-{number}"
        sent = iter(range(number_of_commands))
        manager = sessions.manager(session_id, event_listeners=[held])
        await manager.open()
        await manager.storage.write("key", OLD)
        told.clear()
        outbox.put(session_id, "what the close waits for")
        with held.holding(lambda name, command, number=number, sent=sent: next(sent) == number):  # type: ignore[misc]
            writing = asyncio.create_task(manager.storage.write("key", data))
            await happened(held.reached)
            closing = asyncio.create_task(manager.close())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            held.let_go()
            try:
                await writing
            finally:
                told.set()
        async with sessions.manager(session_id) as other:
            assert await other.storage.read("key") == data


async def test_what_a_deleted_session_leaves_behind_is_swept(sessions: Sessions, small_chunks: None) -> None:
    async with sessions.manager("gone") as gone, sessions.manager("kept") as kept:
        for manager in (gone, kept):
            await manager.storage.write("large", NEW)
            await manager.storage.write("small", SMALL)
        # A process that died in the middle of deleting it.
        sessions.raw.delete_one({"_id": "gone"})
        repository = kept.repository

        assert await repository.sweep_orphans(older_than=AT_ONCE) == {"segments": 0, "payloads": 6}
        assert await repository.sweep_orphans(older_than=AT_ONCE, dry_run=False) == {"segments": 0, "payloads": 6}
        assert await repository.sweep_orphans(older_than=AT_ONCE) == {"segments": 0, "payloads": 0}

        assert await kept.storage.read("large") == NEW
        assert await kept.storage.list("") == ["large", "small"]
