"""A process that is frozen between two calls, as AWS Lambda does it, and thawed when its connections are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.fixtures.faults import MongoProxy
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.support.invariants import check_stored

_PROCESS = """
import asyncio, json, sys
from mongodb_session_manager import AsyncMongoDBSessionManagerFactory, MongoDBSessionManagerFactory
from tests.support.agents import make_agent

options = {"maxPoolSize": 2, "minPoolSize": 0, "ensure_indexes": False, "flush_on": sys.argv[4]}
sessions = MongoDBSessionManagerFactory(*sys.argv[1:4], **options)
async_sessions = AsyncMongoDBSessionManagerFactory(*sys.argv[1:4], **options)

def sync_handler(event):
    with sessions.create_session_manager(event["session_id"]) as manager:
        with manager.turn(idempotency_key=event["key"]) as turn:
            if not turn.replayed:
                make_agent(manager, "answer to " + event["message"])(event["message"])

async def answer(event):
    async with async_sessions.create_session_manager(event["session_id"]) as manager:
        async with manager.turn(idempotency_key=event["key"]) as turn:
            if not turn.replayed:
                await make_agent(manager, "answer to " + event["message"]).invoke_async(event["message"])

def async_handler(event):
    asyncio.run(answer(event))

for line in sys.stdin:
    event = json.loads(line)
    globals()[event["handler"]](event)
    print("answered", flush=True)
"""


class Function:
    """A warm process that is called again and again."""

    def __init__(self, uri: str, sessions: Sessions, flush_on: str) -> None:
        command = [sys.executable, "-c", _PROCESS, uri, sessions.database_name, COLLECTION, flush_on]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, handler: str, message: str) -> None:
        event = {"handler": handler, "session_id": SESSION_ID, "message": message, "key": message}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "answered"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
def test_a_thawed_process_goes_on_although_its_connections_are_gone(
    flush_on: str, sessions: Sessions, mongo_proxy: MongoProxy
) -> None:
    with Function(mongo_proxy.uri, sessions, flush_on) as function:
        said: list[str] = []
        for number, handler in enumerate(["sync_handler", "async_handler"] * 2):
            function.call(handler, f"q-{number}")
            said += [f"q-{number}", f"answer to q-{number}"]
            function.freeze()
            mongo_proxy.stop()
            mongo_proxy.start()
            function.thaw()
            # The platform calls again what it thinks was lost in the freeze.
            function.call(handler, f"q-{number}")

    assert sessions.texts() == said
    check_stored(sessions.raw.database, SESSION_ID)


def test_a_session_that_expired_in_the_freeze_begins_anew(sessions: Sessions, mongo_proxy: MongoProxy) -> None:
    with Function(mongo_proxy.uri, sessions, "message") as function:
        function.call("async_handler", "before")
        function.freeze()
        sessions.raw.delete_one({"_id": SESSION_ID})
        function.thaw()
        function.call("async_handler", "after")

    assert sessions.texts() == ["after", "answer to after"]
