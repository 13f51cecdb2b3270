"""A process that is forked while pools, factories, managers and the library's loop are in use."""

from __future__ import annotations

import subprocess
import sys

from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Sessions

_PARENT = """
import asyncio, os, sys
from mongodb_session_manager import *
from tests.support.agents import make_agent

uri, database, collection = sys.argv[1:4]
place = {"database_name": database, "collection_name": collection}
sessions = MongoDBSessionManagerFactory(uri, **place, ensure_indexes=False)
async_sessions = AsyncMongoDBSessionManagerFactory(uri, **place, ensure_indexes=False)
repository = MongoDBSessionRepository(uri, **place)
storage = MongoDBStorage(uri, database_name=database)
MongoDBConnectionPool.initialize(uri)
unopened = async_sessions.create_session_manager("unopened", lazy=True)

def sync_turn(name):
    with sessions.create_session_manager(name) as manager:
        agent = make_agent(manager, "yes")
        agent("hello")
        return manager.get_message_count(agent.agent_id)

async def turn(name, manager=None):
    async with manager or async_sessions.create_session_manager(name) as manager:
        agent = make_agent(manager, "yes")
        await agent.invoke_async("hello")
        return await manager.get_message_count(agent.agent_id)

def everything(who):
    assert sync_turn("s " + who) == 2
    assert asyncio.run(turn("a " + who)) == 2
    assert sync_turn("both") in (2, 4, 6)
    assert repository.check_session_exists("s " + who)
    asyncio.run(storage.write("key", who.encode()))
    assert asyncio.run(storage.read("key")) == who.encode()
    assert MongoDBConnectionPool.get_pool_stats()["status"] == "connected"

everything("parent")
"""

_WORKS = """
child = os.fork()
if child == 0:
    try:
        everything("child")
        assert asyncio.run(turn("unopened", unopened)) == 2
        os._exit(7)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
everything("parent after")
print("done")
"""

_OPEN = """
opened = sessions.create_session_manager("s-1")
agent = make_agent(opened, "first", "second", "third")
agent("one")
async_opened = asyncio.run(async_sessions.create_session_manager("s-2").open())
async_agent = make_agent(async_opened, "first", "second")
agent.state.set("pending", True)
async_opened._conversations.capture_all()  # Pending when it forks.
child = os.fork()
if child == 0:
    try:
        opened.update_metadata({"child": True})
        assert opened.get_message_count(agent.agent_id) == 2
        agent("in the child")
        opened.close()
        asyncio.run(async_opened.close())
        assert sync_turn("child") == 2
        os._exit(7)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
agent("two")
opened.close()
async_agent("one")
asyncio.run(async_opened.close())
print("done")
"""

_MAKES_INDEXES = """
from mongodb_session_manager.client import index_building
from mongodb_session_manager.store import indexes
uri += "&appname=" + database
making = MongoDBSessionManagerFactory(uri, **place)
opened = making.create_session_manager("s-1")
opened.open()
assert index_building._running
child = os.fork()
if child == 0:
    try:
        indexes.FINISH_WAIT_S = 600  # Longer than the test waits for both.
        opened.close()
        making.close()
        os._exit(7)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert index_building._running
print("done")
"""


def run(program: str, sessions: Sessions) -> None:
    # A thread more than the main one makes fork a deprecated thing to do; that is what happens in such servers.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PARENT + program]
    ran = subprocess.run(
        [*command, sessions.uri, sessions.database_name, COLLECTION],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (ran.stdout.strip(), ran.returncode) == ("done", 0), ran.stderr


def test_what_was_made_before_a_fork_works_in_both_processes(sessions: Sessions) -> None:
    run(_WORKS, sessions)

    counts = {document["_id"]: len(document["agents"]["assistant"]["messages"]) for document in sessions.raw.find()}
    each = {f"{kind} {who}": 2 for kind in "as" for who in ("parent", "child", "parent after")}
    assert counts == {**each, "both": 6, "unopened": 2}


def test_an_open_manager_is_another_writer_in_each_process_and_stores_nothing_twice(sessions: Sessions) -> None:
    run(_OPEN, sessions)

    assert sessions.texts() == ["one", "first", "in the child", "second", "two", "second"]
    document = sessions.document()
    assert document["agents"]["assistant"]["agent_data"]["state"] == {"pending": True}
    assert document["metadata"] == {"child": True}
    assert len(sessions.messages(session_id="s-2")) == 2


def test_a_child_waits_for_no_indexes_that_its_parent_makes(sessions: Sessions) -> None:
    held_up = {"failCommands": ["createIndexes"], "blockConnection": True, "blockTimeMS": 8_000}
    with fail_point(sessions.raw.database.client, "alwaysOn", {**held_up, "appName": sessions.database_name}):
        run(_MAKES_INDEXES, sessions)
