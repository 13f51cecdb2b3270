from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from bson.datetime_ms import DatetimeMS
from bson.son import SON
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import AsyncMongoClient, IndexModel, MongoClient, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import InvalidOperation, NetworkTimeout, PyMongoError, WaitQueueTimeoutError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from mongodb_session_manager.client import ClientHandle
from mongodb_session_manager.client import load as load_module
from mongodb_session_manager.client import threads as threads_module
from mongodb_session_manager.client.any_loop import AnyLoopMotorClient
from mongodb_session_manager.client.workers import Workers
from mongodb_session_manager.errors import WrongLoopError
from tests.fixtures.faults import fail_point
from tests.fixtures.waiting import WAIT_S, Held, happened

Documents = MongoClient[dict[str, Any]]
KINDS = ["uri", "motor", "pymongo", "pymongo-async", "mock"]
ANY_LOOP_KINDS = ["uri", "motor", "pymongo"]
PATIENT = {"waitQueueTimeoutMS": 1000 * int(WAIT_S)}


class InFlight(CommandListener):
    """Counts `find` commands on their way, which are sent when there are so many of them."""

    def __init__(self, enough: int = 0) -> None:
        self._lock = threading.Lock()
        self._enough = enough
        self._all_there = threading.Event()
        self.now = 0
        self.most = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "find":
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            if self.most >= self._enough:
                self._all_there.set()
            self._all_there.wait(WAIT_S)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._ended(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self._ended(event)

    def _ended(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        if event.command_name == "find":
            with self._lock:
                self.now -= 1


def connections(mongo_client: Documents, appname: str) -> int:
    """Return how many connections the server has to clients of that name."""
    operations = mongo_client.admin.aggregate(
        [
            {"$currentOp": {"allUsers": True, "idleConnections": True}},
            {"$match": {"appName": appname, "desc": {"$regex": "^conn"}}},
            {"$count": "count"},
        ]
    )
    return next((int(found["count"]) for found in operations), 0)


@pytest.fixture
def appname() -> str:
    """A name that only this test's clients have."""
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture(params=KINDS)
async def handle(request: pytest.FixtureRequest) -> AsyncIterator[ClientHandle]:
    """A handle of each kind of client."""
    if request.param == "mock":
        yield ClientHandle(client=AsyncMongoMockClient())
        return
    uri: str = request.getfixturevalue("mongo_uri")
    if request.param == "uri":
        handle = ClientHandle(uri)
        yield handle
        await handle.aclose()
    elif request.param == "motor":
        motor: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
        yield ClientHandle(client=motor)
        motor.close()
    elif request.param == "pymongo":
        with MongoClient[Any](uri) as client:
            yield ClientHandle(client=client)
    else:
        async with AsyncMongoClient[Any](uri) as client:
            yield ClientHandle(client=client)


@pytest.fixture(params=ANY_LOOP_KINDS)
def any_loop_client(request: pytest.FixtureRequest, mongo_uri: str) -> Iterator[object]:
    """The client argument of a handle for any loop; None for a connection string."""
    if request.param == "uri":
        yield None
        return
    client = MongoClient[Any](mongo_uri) if request.param == "pymongo" else AsyncIOMotorClient[Any](mongo_uri)
    yield client
    client.close()


def any_loop_handle(client: object, mongo_uri: str) -> ClientHandle:
    return ClientHandle(mongo_uri if client is None else None, client=client)


async def test_same_calls_and_results_over_every_driver(handle: ClientHandle, database_name: str) -> None:
    items = handle.collection(database_name, "items")

    assert (await items.insert_one({"_id": 1, "n": 1})).inserted_id == 1
    assert (await items.insert_many([{"_id": i, "n": i} for i in range(2, 6)])).inserted_ids == [2, 3, 4, 5]
    assert await items.find_one({"_id": 2}) == {"_id": 2, "n": 2}
    assert await items.find_one({"n": {"$gt": 1}}, {"_id": 1}, sort=[("n", -1)]) == {"_id": 5}
    assert await items.find_one({"_id": 9}) is None
    assert await items.find({"n": {"$gt": 1}}, {"_id": 1}, sort=[("n", -1)], skip=1, limit=2) == [
        {"_id": 4},
        {"_id": 3},
    ]
    assert await items.find({"n": 9}) == []
    assert [document["n"] async for document in items.iterate({}, sort=[("n", 1)], batch_size=2)] == [1, 2, 3, 4, 5]

    updated = await items.update_one({"_id": 1}, {"$set": {"n": 10}})
    assert (updated.matched_count, updated.modified_count) == (1, 1)
    assert (await items.update_one({"_id": 1, "n": 0}, {"$set": {"n": 1}})).matched_count == 0
    assert (await items.update_one({"_id": 7}, {"$set": {"n": 7}}, upsert=True)).upserted_id == 7
    assert (await items.update_many({"n": {"$gt": 3}}, {"$inc": {"n": 1}})).modified_count == 4
    assert await items.find_one_and_update({"_id": 2}, {"$inc": {"n": 1}}) == {"_id": 2, "n": 2}
    after = await items.find_one_and_update(
        {"n": {"$gt": 0}},
        {"$inc": {"n": 1}},
        {"n": 1, "_id": 0},
        sort=[("n", -1)],
        return_document=ReturnDocument.AFTER,
    )
    assert after == {"n": 12}

    assert await items.count_documents({}) == 6
    assert await items.count_documents({}, limit=2) == 2
    grouped = await items.aggregate([{"$match": {"n": {"$lt": 9}}}, {"$group": {"_id": None, "sum": {"$sum": "$n"}}}])
    assert grouped == [{"_id": None, "sum": 3 + 3 + 5 + 6 + 8}]
    assert (await items.delete_one({"_id": 7})).deleted_count == 1
    assert (await items.delete_many({})).deleted_count == 5


async def test_indexes_are_made_and_listed_over_every_driver(handle: ClientHandle, database_name: str) -> None:
    items = handle.collection(database_name, "items")
    model = IndexModel([("a", 1), ("_id", 1)])

    assert await items.create_indexes([model]) == ["a_1__id_1"]
    assert await items.create_indexes([model]) == ["a_1__id_1"]
    assert [tuple(part) for part in (await items.index_information())["a_1__id_1"]["key"]] == [("a", 1), ("_id", 1)]


async def test_dates_come_back_as_utc_over_every_driver(handle: ClientHandle, database_name: str) -> None:
    items = handle.collection(database_name, "items")
    moment = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)

    await items.insert_one({"_id": 1, "at": moment})
    found = await items.find_one({"_id": 1})

    assert found is not None
    assert found["at"] == moment
    assert found["at"].utcoffset() == timedelta(0)


async def test_server_version_is_known_over_every_driver(handle: ClientHandle) -> None:
    assert (await handle.server_version()).split(".")[0].isdigit()


async def test_iteration_that_is_left_early_closes_its_cursor(
    mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    mongo_client[database_name]["items"].insert_many([{"_id": i} for i in range(100)])
    handle = ClientHandle(mongo_uri)
    iteration = handle.collection(database_name, "items").iterate({}, batch_size=10)

    assert (await anext(iteration))["_id"] == 0
    before = mongo_client.admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]
    await iteration.aclose()  # type: ignore[attr-defined]
    after = mongo_client.admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]

    assert before - after == 1
    await handle.aclose()


async def test_collections_for_users_are_the_drivers_own(mongo_uri: str, database_name: str) -> None:
    motor: AsyncIOMotorClient[Any] = AsyncIOMotorClient(mongo_uri, document_class=dict)
    own = ClientHandle(mongo_uri)
    try:
        async with AsyncMongoClient[Any](mongo_uri) as asynchronous:
            for handle in (own, ClientHandle(client=motor), ClientHandle(client=motor.delegate)):
                collection = handle.user_collection(database_name, "items")
                synchronous = handle.sync_user_collection(database_name, "items")
                assert type(collection) is AsyncIOMotorCollection
                assert type(synchronous) is pymongo.collection.Collection
                await collection.insert_one({"_id": id(handle)})
                assert await asyncio.to_thread(synchronous.delete_one, {"_id": id(handle)})
            assert ClientHandle(client=motor).user_collection(database_name, "items").database.client == motor

            handle = ClientHandle(client=asynchronous)
            assert type(handle.user_collection(database_name, "items")) is AsyncCollection
            with pytest.raises(TypeError, match="AsyncMongoClient has no synchronous collection"):
                handle.sync_user_collection(database_name, "items")
    finally:
        motor.close()
        await own.aclose()


async def test_collections_of_the_mock_are_the_mocks() -> None:
    client: Any = AsyncMongoMockClient()
    handle = ClientHandle(client=client)

    await handle.user_collection("db", "items").insert_one({"_id": 1})

    assert await client["db"]["items"].find_one() == {"_id": 1}
    with pytest.raises(TypeError, match="AsyncMongoMockClient has no synchronous collection"):
        handle.sync_user_collection("db", "items")


async def test_settings_of_a_borrowed_client_do_not_reach_the_engine(mongo_uri: str, database_name: str) -> None:
    uri = f"{mongo_uri}{'&' if '?' in mongo_uri else '/?'}readPreference=secondary"
    with MongoClient[Any](uri, document_class=SON, tz_aware=False) as client:
        handle = ClientHandle(client=client)
        items = handle.collection(database_name, "items")
        await items.insert_one({"_id": 1, "at": datetime(2024, 1, 1, tzinfo=UTC), "far": DatetimeMS(10**15)})

        found = await items.find_one({"_id": 1})

        assert found is not None
        assert found["at"].tzinfo is not None
        assert found["far"] == DatetimeMS(10**15)
        with pymongo.timeout(0.2), pytest.raises(PyMongoError):
            await handle.user_collection(database_name, "items").find_one({"_id": 1})


def test_three_successive_event_loops_use_one_handle(
    any_loop_client: object, mongo_uri: str, database_name: str
) -> None:
    handle = any_loop_handle(any_loop_client, mongo_uri)
    items = handle.collection(database_name, "items")
    mine = handle.user_collection(database_name, "items")

    async def use(number: int) -> list[dict[str, Any]]:
        await items.insert_one({"_id": number})
        await mine.update_one({"_id": number}, {"$set": {"mine": True}})
        return await items.find({}, {"_id": 1}, sort=[("_id", 1)])

    for number in range(3):
        with asyncio.Runner() as runner:
            found = runner.run(use(number))
        assert found == [{"_id": i} for i in range(number + 1)]
    with asyncio.Runner() as runner:
        runner.run(handle.aclose())


async def test_another_threads_loop_works_while_the_first_loop_is_blocked(
    any_loop_client: object, mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    mongo_client[database_name]["items"].insert_one({"_id": 1})
    handle = any_loop_handle(any_loop_client, mongo_uri)
    items = handle.collection(database_name, "items")
    found: list[dict[str, Any]] = []

    def in_a_loop_of_its_own() -> None:
        with asyncio.Runner() as runner:
            found.extend(runner.run(items.find({})))

    in_flight = asyncio.create_task(items.find({}))
    await asyncio.sleep(0)  # the task has sent its command, and its answer has nowhere to go for now
    thread = threading.Thread(target=in_a_loop_of_its_own)
    thread.start()
    thread.join(WAIT_S)  # blocks this loop

    assert found == [{"_id": 1}]
    assert await in_flight == [{"_id": 1}]
    await handle.aclose()


async def test_worker_threads_with_their_own_loops_share_one_handle(
    any_loop_client: object, mongo_uri: str, mongo_client: Documents, database_name: str
) -> None:
    handle = any_loop_handle(any_loop_client, mongo_uri)
    items = handle.collection(database_name, "items")

    async def insert_many(worker: int) -> None:
        for number in range(10):
            await items.insert_one({"worker": worker, "number": number})

    def work(worker: int) -> None:
        with asyncio.Runner() as runner:
            runner.run(insert_many(worker))

    await asyncio.gather(*(asyncio.to_thread(work, worker) for worker in range(4)))

    assert mongo_client[database_name]["items"].count_documents({}) == 40
    await handle.aclose()


@pytest.mark.parametrize("kind", ANY_LOOP_KINDS)
async def test_as_many_operations_are_in_flight_as_the_pool_has_connections(
    kind: str, mongo_uri: str, database_name: str
) -> None:
    in_flight = InFlight(100)
    options: dict[str, Any] = {"maxPoolSize": 100, "event_listeners": [in_flight], **PATIENT}
    borrowed: Any = None
    if kind == "uri":
        handle = ClientHandle(mongo_uri, options=options)
    else:
        borrowed = (
            MongoClient[Any](mongo_uri, **options) if kind == "pymongo" else AsyncIOMotorClient(mongo_uri, **options)
        )
        handle = ClientHandle(client=borrowed)
    items = handle.collection(database_name, "items")

    await asyncio.gather(*(items.find_one({"_id": number}) for number in range(100)))

    assert in_flight.most == 100
    await handle.aclose()
    if borrowed is not None:
        borrowed.close()


async def test_a_small_pool_is_a_limit_too(mongo_uri: str, database_name: str) -> None:
    in_flight = InFlight()
    handle = ClientHandle(mongo_uri, options={"maxPoolSize": 3, "event_listeners": [in_flight]})
    items = handle.collection(database_name, "items")

    await asyncio.gather(*(items.find_one({"_id": number}) for number in range(60)))

    assert in_flight.most <= 3
    await handle.aclose()


async def test_waiting_for_a_connection_ends_with_the_queue_timeout(mongo_uri: str, database_name: str) -> None:
    held = Held()
    options = {"maxPoolSize": 1, "waitQueueTimeoutMS": 50, "event_listeners": [held]}
    handle = ClientHandle(mongo_uri, options=options)
    items = handle.collection(database_name, "items")

    with held.holding(finds):
        first = asyncio.create_task(items.find({}))
        await happened(held.reached)
        others = [asyncio.create_task(items.find({})) for _ in range(2)]
        await asyncio.sleep(0.2)  # longer than they may wait
    results = await asyncio.gather(first, *others, return_exceptions=True)

    assert results[0] == []
    assert [type(result) for result in results[1:]] == [WaitQueueTimeoutError] * 2
    await handle.aclose()


def finds(name: str, command: Mapping[str, Any]) -> bool:
    return name == "find"


async def test_cancelled_operation_that_waits_is_never_sent(mongo_uri: str, database_name: str) -> None:
    held = Held()
    handle = ClientHandle(mongo_uri, options={"maxPoolSize": 1, "event_listeners": [held]})
    items = handle.collection(database_name, "items")

    with held.holding(finds):
        first = asyncio.create_task(items.find({}))
        await happened(held.reached)
        waiting = asyncio.create_task(items.insert_one({"_id": 1}))
        await asyncio.sleep(0)
        assert handle.queued >= 1
        waiting.cancel()
        await asyncio.wait([waiting])
    await first

    assert await items.find({}) == []
    assert handle.queued == 0
    await handle.aclose()


async def test_time_limit_of_the_caller_applies(
    mongo_uri: str, mongo_client: Documents, database_name: str, appname: str
) -> None:
    handle = ClientHandle(mongo_uri, options={"appname": appname})
    items = handle.collection(database_name, "items")
    await items.find({})
    slow = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 500, "appName": appname}

    with fail_point(mongo_client, "alwaysOn", slow), pymongo.timeout(0.1), pytest.raises(PyMongoError) as raised:
        await items.find({})

    assert raised.value.timeout
    await handle.aclose()


def test_async_mongo_client_on_another_loop_is_a_wrong_loop_error(mongo_uri: str, database_name: str) -> None:
    client: AsyncMongoClient[Any] = AsyncMongoClient(mongo_uri)
    handle = ClientHandle(client=client)
    items = handle.collection(database_name, "items")

    async def iterate() -> list[dict[str, Any]]:
        return [document async for document in items.iterate({})]

    uses: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: items.find_one({}),
        lambda: items.find({}),
        lambda: items.aggregate([]),
        lambda: items.update_one({}, {"$set": {"a": 1}}),
        lambda: items.delete_many({}),
        iterate,
        handle.server_version,
    ]
    with asyncio.Runner() as home:
        assert home.run(items.find({})) == []
        assert handle.any_loop is False
        for use in uses:
            with asyncio.Runner() as elsewhere, pytest.raises(WrongLoopError):
                elsewhere.run(use())
        assert home.run(items.find({})) == []
        home.run(client.close())


async def test_client_closes_with_its_last_lease(
    mongo_uri: str, mongo_client: Documents, database_name: str, appname: str
) -> None:
    options = {"appname": appname, "minPoolSize": 0}
    one = ClientHandle(mongo_uri, options=options)
    other = ClientHandle(mongo_uri, options=options)
    shared = one.share()
    statistics = one.statistics
    assert statistics is not None
    await one.collection(database_name, "items").find({})

    await one.aclose()
    await one.aclose()
    await other.aclose()
    assert await shared.collection(database_name, "items").find({}) == []
    assert [server["open"] for server in statistics.snapshot().values()] == [1]
    assert connections(mongo_client, appname) > 0

    await shared.aclose()
    assert [server["open"] for server in statistics.snapshot().values()] == [0]


async def test_closing_goes_on_when_its_caller_is_cancelled(mongo_uri: str, database_name: str) -> None:
    handle = ClientHandle(mongo_uri, options={"minPoolSize": 0})
    statistics = handle.statistics
    assert statistics is not None
    await handle.collection(database_name, "items").find({})

    closing = asyncio.create_task(handle.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.get_running_loop().shutdown_default_executor()

    assert [server["open"] for server in statistics.snapshot().values()] == [0]


async def test_closed_handle_says_so_even_while_others_use_its_client(mongo_uri: str, database_name: str) -> None:
    closed = ClientHandle(mongo_uri)
    other = ClientHandle(mongo_uri)
    items = closed.collection(database_name, "items")
    await closed.aclose()

    with pytest.raises(InvalidOperation, match="closed"):
        await items.find({})
    with pytest.raises(InvalidOperation, match="closed"):
        closed.user_collection(database_name, "items")

    await other.aclose()


async def test_client_is_made_anew_after_the_last_lease(mongo_uri: str, database_name: str) -> None:
    first = ClientHandle(mongo_uri, options={"maxPoolSize": 17})
    client = first.client
    await first.aclose()

    second = ClientHandle(mongo_uri, options={"maxPoolSize": 17})

    assert second.client is not client
    assert await second.collection(database_name, "items").find({}) == []
    await second.aclose()


@pytest.mark.parametrize("handle", ["motor", "pymongo", "pymongo-async", "mock"], indirect=True)
async def test_borrowed_client_stays_open(handle: ClientHandle, database_name: str) -> None:
    client = handle.client

    await handle.aclose()

    await client[database_name]["items"].insert_one({"_id": 1})
    assert await client[database_name]["items"].find_one() == {"_id": 1}


async def test_everybody_who_borrows_a_client_uses_the_same_workers(mongo_uri: str) -> None:
    with MongoClient[Any](mongo_uri) as client:
        clients = [ClientHandle(client=client).client for _ in range(3)]
        clients.append(ClientHandle(client=clients[0]).client)

        assert {id(borrowed.workers) for borrowed in clients} == {id(clients[0].workers)}


async def test_two_clients_of_one_address_are_told_apart(mongo_uri: str) -> None:
    with MongoClient[Any](mongo_uri) as one, MongoClient[Any](mongo_uri) as other:
        assert one == other  # the driver's view

        assert ClientHandle(client=one).identity != ClientHandle(client=other).identity
        assert ClientHandle(client=one).identity == ClientHandle(client=one).identity


async def test_worker_threads_end_with_the_borrowed_client(mongo_uri: str, database_name: str) -> None:
    others = set(threading.enumerate())
    client: MongoClient[Any] = MongoClient(mongo_uri)
    handle = ClientHandle(client=client)
    await handle.collection(database_name, "items").find({})
    started = set(threading.enumerate()) - others
    workers = [thread for thread in started if thread.name.startswith("mongodb-session-manager_")]
    assert workers

    client.close()
    del client, handle
    gc.collect()
    for worker in workers:
        await asyncio.to_thread(worker.join, WAIT_S)

    assert not any(worker.is_alive() for worker in workers)


async def test_making_a_handle_connects_to_nothing(
    mongo_uri: str, mongo_client: Documents, appname: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    with monkeypatch.context() as patch:
        # Those that others start meanwhile do not count.
        here, start = threading.current_thread(), threading.Thread.start

        def noted(thread: threading.Thread) -> None:
            if threading.current_thread() is here:
                started.append(thread)
            start(thread)

        patch.setattr(threading.Thread, "start", noted)
        handle = ClientHandle(mongo_uri, options={"appname": appname})
        handle.collection("db", "items")

    assert connections(mongo_client, appname) == 0
    assert started == []
    await handle.aclose()


async def test_workers_are_as_many_as_an_unlimited_pool_may_need(mongo_uri: str) -> None:
    with MongoClient[Any](mongo_uri, maxPoolSize=0) as client:
        workers = Workers(client)
        barrier = threading.Barrier(50)
        loop = asyncio.get_running_loop()

        meetings = [workers.start(lambda: barrier.wait(WAIT_S), loop) for _ in range(50)]

        assert sorted(await asyncio.gather(*meetings)) == list(range(50))
        workers.shutdown()


async def test_workers_get_on_in_a_busy_process_while_some_wait_for_the_server(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "BUSY", -1.0)  # Any process is.
    with MongoClient[Any](mongo_uri) as client:
        workers = Workers(client)
        end = threading.Event()
        loop = asyncio.get_running_loop()
        held_up = [workers.start(lambda: end.wait(WAIT_S), loop) for _ in range(threads_module.FEW)]

        assert await workers.start(lambda: "answered", loop) == "answered"

        end.set()
        assert all(await asyncio.gather(*held_up))
        workers.shutdown()


async def test_a_process_whose_loop_hears_late_of_outcomes_is_busy_however_little_processor_it_gets(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "BUSY", math.inf)  # No process is, by its processor time.
    moments = itertools.count(step=2 * load_module.LOOK_S)
    with MongoClient[Any](mongo_uri) as client:
        workers = Workers(client)
        load = workers._threads.load
        loop = asyncio.get_running_loop()
        load.is_busy(next(moments))
        assert not load.is_busy(next(moments))

        for _ in range(3):
            outcome = workers.start(lambda: "answered", loop)
            loop.call_soon(time.sleep, 20 * load_module.LATE_S)  # It computes.
            assert await outcome == "answered"
        assert load.is_busy(next(moments))

        for _ in range(100):
            load.heard(0.0)
        assert not load.is_busy(next(moments))

        load.heard(100.0)
        later = next(moments) + 100.0
        assert load.is_busy(later)  # Nothing is known of it.
        assert not load.is_busy(later + 2 * load_module.LOOK_S)
        workers.shutdown()


async def test_what_came_when_no_thread_was_free_is_started_once_the_others_are_known_to_wait(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = threads_module.FEW + 1
    with MongoClient[Any](mongo_uri, maxPoolSize=size) as client:
        workers = Workers(client)
        loop = asyncio.get_running_loop()
        first_end, end = threading.Event(), threading.Event()
        monkeypatch.setattr(load_module.Load, "is_busy", lambda load, moment: False)
        first = workers.start(lambda: first_end.wait(WAIT_S), loop)
        held_up = [workers.start(lambda: end.wait(WAIT_S), loop) for _ in range(size - 1)]
        waiting = workers.start(lambda: "answered", loop)
        monkeypatch.setattr(load_module.Load, "is_busy", lambda load, moment: True)
        with monkeypatch.context() as patch:
            patch.setattr(threads_module, "HELD_UP_S", 10 * WAIT_S)
            first_end.set()
            await first
            assert workers.queued == 1

        assert await asyncio.wait_for(waiting, WAIT_S) == "answered"

        end.set()
        assert all(await asyncio.gather(*held_up))
        workers.shutdown()


async def test_operation_that_was_given_up_in_the_queue_is_never_started(mongo_uri: str) -> None:
    with MongoClient[Any](mongo_uri, maxPoolSize=1) as client:
        workers = Workers(client)
        end = threading.Event()
        started: list[int] = []
        loop = asyncio.get_running_loop()
        first = workers.start(lambda: end.wait(WAIT_S), loop)
        given_up, kept = (workers.start(partial(started.append, number), loop) for number in (1, 2))
        assert workers.queued == 2

        given_up.cancel()
        end.set()
        await asyncio.gather(first, kept)

        assert started == [2]
        workers.shutdown()


async def test_threads_that_there_are_do_when_the_system_has_none_left(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with MongoClient[Any](mongo_uri) as client:
        workers = Workers(client)
        loop = asyncio.get_running_loop()
        end = threading.Event()
        held_up = workers.start(lambda: end.wait(WAIT_S), loop)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            second = workers.start(lambda: "done", loop)
            with pytest.raises(RuntimeError, match="new thread"):
                Workers(client).start(lambda: "never", loop)
        end.set()

        assert (await held_up, await second) == (True, "done")
        workers.shutdown()


async def test_operation_without_an_answer_in_time_is_an_error_for_the_caller_alone(mongo_uri: str) -> None:
    with MongoClient[Any](mongo_uri) as client:
        workers = Workers(client)
        end, ended = threading.Event(), threading.Event()

        def work() -> None:
            end.wait(WAIT_S)
            ended.set()

        with pytest.raises(NetworkTimeout, match="no answer"):
            await workers.start(work, asyncio.get_running_loop(), 0.01)

        end.set()
        assert await asyncio.to_thread(ended.wait, WAIT_S)
        workers.shutdown()


def test_operations_under_way_end_before_the_interpreter_does(mongo_uri: str, tmp_path: Path) -> None:
    script = f"""
import asyncio, time
from pathlib import Path
from pymongo import MongoClient
from mongodb_session_manager.client.workers import Workers

async def main():
    workers.start(lambda: (time.sleep(0.5), Path({str(tmp_path / "done")!r}).touch()), asyncio.get_running_loop())

client = MongoClient({mongo_uri!r})
workers = Workers(client)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WAIT_S)

    assert (tmp_path / "done").exists()


def test_operation_may_start_before_its_loop_runs(mongo_uri: str, database_name: str) -> None:
    with MongoClient[Any](mongo_uri) as client, asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        motor = AnyLoopMotorClient(client, Workers(client))

        future = motor[database_name]["items"].find_one({})

        assert runner.get_loop().run_until_complete(future) is None
        motor.workers.shutdown()


FORK = """
import asyncio, os, sys, warnings
from pymongo import MongoClient
from mongodb_session_manager.client import ClientHandle

warnings.simplefilter("error")
uri, database = os.environ["TEST_URI"], sys.argv[1]

async def use(handle, document):
    items = handle.collection(database, "items")
    await items.insert_one(document)
    return [document["_id"] for document in await items.find({}, sort=[("_id", 1)])]

handle = ClientHandle(uri)
kept = handle.collection(database, "items")
before = handle.client
with asyncio.Runner() as runner:
    print("parent", runner.run(use(handle, {"_id": 1})), flush=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads
    pid = os.fork()
if pid == 0:
    with asyncio.Runner() as runner:
        print("child", runner.run(use(handle, {"_id": 2})), runner.run(kept.count_documents({})), flush=True)
        print("own", handle.client is not before, handle.client.delegate is not before.delegate, flush=True)
        runner.run(handle.aclose())
else:
    _, status = os.waitpid(pid, 0)
    with asyncio.Runner() as runner:
        print("parent", status, runner.run(use(handle, {"_id": 3})), handle.client is before, flush=True)
        runner.run(handle.aclose())
"""


@pytest.mark.thorough
def test_forked_child_gets_a_client_of_its_own(mongo_uri: str, database_name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK, database_name],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=os.environ | {"TEST_URI": mongo_uri},
    )

    assert result.stdout.splitlines() == [
        "parent [1]",
        "child [1, 2] 2",
        "own True True",
        "parent 0 [1, 2, 3] True",
    ], result.stderr
    assert result.stderr == ""


@pytest.mark.thorough
def test_interpreter_exits_with_idle_workers_and_an_open_client(mongo_uri: str, database_name: str) -> None:
    script = """
import asyncio, os, sys
from mongodb_session_manager.client import ClientHandle

handle = ClientHandle(os.environ["TEST_URI"])
with asyncio.Runner() as runner:
    print(runner.run(handle.collection(sys.argv[1], "items").find({})))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, database_name],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=os.environ | {"TEST_URI": mongo_uri},
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")
