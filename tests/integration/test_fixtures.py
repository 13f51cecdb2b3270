"""What the other tests rely on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from tests.fix_commands import CommandRecorder
from tests.fix_faults import MongoProxy, async_fail_point, fail_point

Document = dict[str, Any]

_ROOT = Path(__file__).parents[2]
_IMPORTABLE = os.pathsep.join([str(_ROOT), str(_ROOT / "src")])


def _proxied(proxy: MongoProxy, **options: Any) -> MongoClient[Document]:
    return MongoClient[Document](proxy.uri, serverSelectionTimeoutMS=2000, retryReads=False, **options)


def test_commands_are_recorded_with_their_target_and_without_noise(
    mongo_uri: str, database_name: str, command_recorder: CommandRecorder
) -> None:
    with MongoClient[Document](mongo_uri, event_listeners=[command_recorder]) as client:
        client.admin.command("ping")
        client[database_name].things.insert_one({"_id": 1})
        with command_recorder.counting() as commands:
            client[database_name].things.find_one({"_id": 1})
            inside = commands.names
        client[database_name].things.delete_one({"_id": 1})

    assert command_recorder.names == ["insert", "find", "delete"]
    assert inside == commands.names == ["find"]
    assert commands[0].database == database_name
    assert commands[0].collection == "things"
    assert commands[0].document["filter"] == {"_id": 1}


def test_cleared_commands_are_forgotten(mongo_uri: str, database_name: str, command_recorder: CommandRecorder) -> None:
    with MongoClient[Document](mongo_uri, event_listeners=[command_recorder]) as client:
        client[database_name].things.find_one()
        command_recorder.clear()
        client[database_name].things.count_documents({})

    assert command_recorder.names == ["aggregate"]


def test_a_fail_point_ends_with_its_block_even_after_an_error(
    mongo_client: MongoClient[Document], database_name: str
) -> None:
    things = mongo_client[database_name].things

    with (
        pytest.raises(OperationFailure) as caught,
        fail_point(mongo_client, "alwaysOn", {"failCommands": ["insert"], "errorCode": 8000}),
    ):
        things.insert_one({"_id": 1})
    things.insert_one({"_id": 1})

    assert caught.value.code == 8000


async def test_an_async_fail_point_ends_with_a_cancelled_block(mongo_uri: str, database_name: str) -> None:
    async with AsyncMongoClient[Document](mongo_uri, appname="cancelled-block") as client:
        things = client[database_name].things
        data = {"failCommands": ["insert"], "errorCode": 8000, "appName": "cancelled-block"}

        with anyio.CancelScope() as scope:
            async with async_fail_point(client, "alwaysOn", data):
                with pytest.raises(OperationFailure):
                    await things.insert_one({"_id": 1})
                scope.cancel()
                await anyio.sleep_forever()
        await things.insert_one({"_id": 1})

        assert await things.count_documents({}) == 1


def test_a_database_is_dropped_after_its_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mongo_uri: str, database_name: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", _IMPORTABLE)
    pytester.makepyfile(
        """
        def test_it(mongo_client, database_name):
            mongo_client[database_name].things.insert_one({})
            print("used", database_name)
        """
    )

    result = pytester.runpytest_subprocess("-s", "-p", "tests.fix_mongo", "--mongo-uri", mongo_uri)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mongodb: given, *"])
    used = result.stdout.str().split("used ")[1].split()[0]
    with MongoClient[Document](mongo_uri) as client:
        assert used != database_name
        assert used not in client.list_database_names()


def test_an_unreachable_server_ends_the_run_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", _IMPORTABLE)
    pytester.makepyfile("def test_it(mongo_uri): pass")
    uri = "mongodb://name:secret@127.0.0.1:1/?serverSelectionTimeoutMS=1"

    result = pytester.runpytest_subprocess("-p", "tests.fix_mongo", "--mongo-uri", uri)

    said = result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "does not answer" in said
    assert "name:secret" not in said


def test_a_proxy_delays_replies(mongo_proxy: MongoProxy, database_name: str) -> None:
    with _proxied(mongo_proxy) as client:
        client[database_name].things.find_one()
        mongo_proxy.delay_s = 0.2

        began = time.monotonic()
        client[database_name].things.find_one()

        assert time.monotonic() - began >= 0.2


def test_a_stopped_proxy_cuts_connections_and_comes_back_on_its_port(
    mongo_proxy: MongoProxy, database_name: str
) -> None:
    with _proxied(mongo_proxy) as client:
        things = client[database_name].things
        things.insert_one({"_id": 1})
        port = mongo_proxy.port

        mongo_proxy.stop()
        with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
            things.find_one()
        open_while_stopped = mongo_proxy.open_connections
        mongo_proxy.start()

        assert open_while_stopped == 0
        assert mongo_proxy.port == port
        assert things.find_one() == {"_id": 1}


def test_a_deaf_proxy_never_answers_until_it_hears_again(mongo_proxy: MongoProxy, database_name: str) -> None:
    with _proxied(mongo_proxy, socketTimeoutMS=300) as client:
        things = client[database_name].things
        things.insert_one({"_id": 1})

        mongo_proxy.deaf = True
        with pytest.raises(NetworkTimeout):
            things.find_one()
        mongo_proxy.deaf = False

        assert things.find_one() == {"_id": 1}
