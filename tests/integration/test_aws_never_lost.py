"""Every notification arrives, in order, before the manager, the script or the interpreter has ended."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from mongodb_session_manager import create_feedback_sns_hook, create_metadata_websocket_hook, runtime
from mongodb_session_manager.runtime import Counters
from tests.contract.drivers import ON_A_SERVER, Driver
from tests.fixtures.aws import REGION, StubService, aws_session
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.fixtures.waiting import Held, eventually, happened

WSS = f"wss://abc123.execute-api.{REGION}.amazonaws.com/prod"
CONNECTION = "connection-0815"


@pytest.fixture(params=["uri", "sync-facade"])
async def driver(request: pytest.FixtureRequest, mongo_uri: str, database_name: str) -> AsyncIterator[Driver]:
    async with ON_A_SERVER[request.param](mongo_uri, database_name) as driver:
        yield driver
        await driver.aclose()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_thousand_quick_changes_all_arrive_in_order_before_close_returns(
    driver: Driver, stub_service: StubService
) -> None:
    hook = create_metadata_websocket_hook(WSS, session=aws_session(), endpoint_url=stub_service.url)

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"connection_id": "c-1", "n": -1})
        threads, tasks = threading.active_count(), len(asyncio.all_tasks())
        for number in range(1000):
            await manager.update_metadata({"connection_id": "c-1", "n": number})
            assert threading.active_count() <= threads + 50
            assert len(asyncio.all_tasks()) <= tasks + 10

    assert hook.counters == Counters(sent=1001)
    arrived = [json.loads(body)["metadata"]["n"] for _, body in stub_service.requests]
    assert arrived == list(range(-1, 1000))


@pytest.mark.parametrize("change", ["update", "delete", "feedback"])
async def test_what_was_stored_for_a_caller_who_was_cancelled_is_told(
    sessions: Sessions, stub_service: StubService, change: str
) -> None:
    held = Held()
    options = {"session": aws_session(), "endpoint_url": stub_service.url}
    metadata_hook = create_metadata_websocket_hook(WSS, **options)
    feedback_hook = create_feedback_sns_hook(topic_arn=f"arn:aws:sns:{REGION}:123456789012:feedback", **options)
    hook = feedback_hook if change == "feedback" else metadata_hook

    async with sessions.manager(
        metadata_hook=metadata_hook, feedback_hook=feedback_hook, event_listeners=[held]
    ) as manager:
        await manager.repository.update_metadata(SESSION_ID, {"connection_id": CONNECTION, "status": "new"})
        calls = {
            "update": lambda: manager.update_metadata({"status": "open"}),
            "delete": lambda: manager.delete_metadata(["status"]),
            "feedback": lambda: manager.add_feedback({"rating": "up"}),
        }
        with held.holding():
            writing = asyncio.create_task(calls[change]())
            await happened(held.reached)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert hook.counters == Counters()
            held.let_go()
            await eventually(lambda: hook.counters.sent == 1, "the notification")

    stored = sessions.document()
    assert stored["feedbacks"] if change == "feedback" else stored["metadata"].get("status") != "new"
    assert len(stub_service.requests) == 1


async def test_a_cancelled_close_delivers_in_the_background(
    sessions: Sessions, stub_service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_service.answer(None)
    hook = create_metadata_websocket_hook(WSS, session=aws_session(), endpoint_url=stub_service.url)
    manager = sessions.manager(metadata_hook=hook)
    await manager.open()
    await manager.update_metadata({"connection_id": CONNECTION})
    await manager.update_metadata({"status": "open"})  # reads the stored connection
    assert await asyncio.to_thread(stub_service.asked.wait, 30)

    closing = asyncio.create_task(manager.close(drain_s=30))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    stub_service.stop()  # cuts the connection, so that the hook asks in vain

    await runtime.drain("s-1", 30)
    assert hook.counters.pending == 0
    assert hook.counters.failed == 1


LAST_WORDS = """
import asyncio, sys
from mongodb_session_manager import AsyncMongoDBSessionManager, MongoDBSessionManager, create_metadata_websocket_hook
import aioboto3

how, uri, database, url = sys.argv[1:]
session = aioboto3.Session(aws_access_key_id="a", aws_secret_access_key="b")
hook = create_metadata_websocket_hook(url, region="eu-west-1", session=session)
given = {"connection_string": uri, "database_name": database, "metadata_hook": hook, "ensure_indexes": False}

if how.startswith("sync"):
    manager = MongoDBSessionManager("s-1", **given)
    manager.update_metadata({"connection_id": "c-1"})
    manager.update_metadata({"last": "words"})
    if how == "sync-closed":
        manager.close()
else:
    async def main():
        manager = AsyncMongoDBSessionManager("s-1", **given)
        await manager.open()
        await manager.update_metadata({"connection_id": "c-1"})
        await manager.update_metadata({"last": "words"})
        if how == "async-closed":
            await manager.close()
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["sync-closed", "sync-forgotten", "async-closed", "async-forgotten"])
async def test_a_script_that_ends_right_after_an_update_has_delivered_it(
    how: str, mongo_uri: str, database_name: str, stub_service: StubService
) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-X", "dev", "-c", LAST_WORDS, how, mongo_uri, database_name, stub_service.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 0
    assert "nclosed" not in ended.stderr
    assert "Traceback" not in ended.stderr
    [(path, body)] = stub_service.requests
    assert path == "/@connections/c-1"
    assert b'"metadata": {"last": "words"}' in body


FORKED_AT_ONCE = """
import os, signal, sys, threading
from mongodb_session_manager import MongoDBSessionManager, create_metadata_websocket_hook

uri, database, url = sys.argv[1:]
os.environ.update(AWS_ACCESS_KEY_ID="synthetic", AWS_SECRET_ACCESS_KEY="synthetic")
hook = create_metadata_websocket_hook("wss://abc123.execute-api.eu-west-1.amazonaws.com/prod", endpoint_url=url)


def tell(session_id):
    manager = MongoDBSessionManager(session_id, uri, database, "sessions", metadata_hook=hook, ensure_indexes=False)
    manager.update_metadata({"connection_id": session_id, "status": "open"})
    return manager


class Importing(threading.Event):
    def find_spec(self, name, *others):
        if name == "aioboto3":
            self.set()


importing = Importing()
sys.meta_path.insert(0, importing)
parents = tell("parent")
importing.wait(60)  # In another thread.
child = os.fork()
if child == 0:
    signal.alarm(90)  # What waits for a thread of the parent waits for ever.
    tell("child").close()
    os._exit(0 if hook.counters.sent == 1 else 1)
parents.close()
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


async def test_a_process_that_is_forked_while_a_first_message_is_prepared_tells_its_own(
    mongo_uri: str, database_name: str, stub_service: StubService
) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            FORKED_AT_ONCE,
            mongo_uri,
            database_name,
            stub_service.url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(path for path, _ in stub_service.requests) == ["/@connections/child", "/@connections/parent"]
