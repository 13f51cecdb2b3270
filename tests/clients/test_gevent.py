"""The real gevent: what is refused, and what the refusal says that works instead."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.sessions import COLLECTION, Sessions

_REFUSED = """
import sys
from gevent import monkey
monkey.patch_all(**eval(sys.argv[1]))

import asyncio
from mongodb_session_manager import *

uri = "mongodb://localhost:1/"
calls = [
    lambda: MongoDBSessionManager("s-1", uri),
    lambda: AsyncMongoDBSessionManager("s-1", uri),
    lambda: create_mongodb_session_manager("s-1", uri),
    lambda: MongoDBSessionManagerFactory(uri),
    lambda: AsyncMongoDBSessionManagerFactory(uri),
    lambda: initialize_global_factory(uri),
    lambda: MongoDBConnectionPool.initialize(uri),
    lambda: asyncio.run(AsyncMongoDBConnectionPool.initialize(uri)),
    lambda: MongoDBSessionRepository(uri),
    lambda: MongoDBStorage(uri),
]
for call in calls:
    try:
        call()
    except RuntimeError as error:
        assert str(error).startswith("gevent.monkey has replaced "), error
        assert "gthread" in str(error), error
    else:
        raise AssertionError("not refused")
print("done")
"""

_WORKS = """
import sys
import gevent
from gevent import monkey
if sys.argv[1] == "patched":
    monkey.patch_all(thread=False, socket=False, select=False, queue=False)

from mongodb_session_manager import *
from tests.support.agents import make_agent

def turn(number):
    with MongoDBSessionManager(f"s-{number}", *sys.argv[2:5]) as manager:
        agent = make_agent(manager, "hello")
        agent("hi")
        return manager.get_message_count(agent.agent_id)

threads = gevent.get_hub().threadpool
jobs = [gevent.spawn(threads.apply, turn, (number,)) for number in range(6)]
gevent.joinall(jobs, timeout=120)
assert [job.value for job in jobs] == [2] * 6, [job.exception for job in jobs]
print("done")
"""


def run(program: str, *arguments: str) -> None:
    # gevent is itself in the way of what Python 3.12 and later think of fork, and of its own patching late.
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (ran.stdout.strip(), ran.returncode) == ("done", 0), ran.stderr


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"socket": False, "select": False, "queue": False},
        {"thread": False, "select": False, "queue": False},
        {"thread": False, "socket": False, "queue": False},
        {"thread": False, "socket": False, "select": False},
    ],
    ids=["all", "threads", "sockets", "select", "queue"],
)
def test_a_patched_process_is_refused_at_once(parts: dict[str, bool]) -> None:
    run(_REFUSED, repr(parts))


@pytest.mark.parametrize("how", ["patched", "not patched"])
def test_gevent_s_own_threads_work(how: str, sessions: Sessions) -> None:
    run(_WORKS, how, sessions.uri, sessions.database_name, COLLECTION)
