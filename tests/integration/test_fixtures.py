"""What the other tests rely on."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pymongo
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from tests.fixtures.commands import CommandRecorder
from tests.fixtures.faults import MongoProxy, async_fail_point, fail_point
from tests.fixtures.waiting import WAIT_S

Document = dict[str, Any]


def _proxied(proxy: MongoProxy, **options: Any) -> MongoClient[Document]:
    return MongoClient[Document](proxy.uri, retryReads=False, **{"serverSelectionTimeoutMS": 5000, **options})


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
        with pymongo.timeout(0.5), pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
            things.find_one()
        open_while_stopped = mongo_proxy.open_connections
        mongo_proxy.start()

        assert open_while_stopped == 0
        assert mongo_proxy.port == port
    with _proxied(mongo_proxy, serverSelectionTimeoutMS=1000 * WAIT_S) as client:
        assert client[database_name].things.find_one() == {"_id": 1}


def test_a_deaf_proxy_never_answers_until_it_hears_again(mongo_proxy: MongoProxy, database_name: str) -> None:
    with _proxied(mongo_proxy) as client:
        things = client[database_name].things
        things.insert_one({"_id": 1})

        mongo_proxy.deaf = True
        with pymongo.timeout(0.3), pytest.raises(NetworkTimeout):
            things.find_one()
        mongo_proxy.deaf = False

        assert things.find_one() == {"_id": 1}
