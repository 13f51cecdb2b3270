"""Every command that the library sends, with every way in which a server can fail it.

Three guarantees: nothing counts twice, nothing is lost, and who asked for it hears of a failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.errors import NetworkTimeout, OperationFailure, PyMongoError
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager

from mongodb_session_manager import AsyncMongoDBSessionManager, AsyncMongoDBSessionRepository
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.schema.payloads import PAYLOAD_BYTES
from mongodb_session_manager.store.sealing import SEAL_AT_BYTES
from tests.fixtures.commands import CommandRecorder
from tests.fixtures.faults import MongoProxy, fail_point
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.fixtures.waiting import WAIT_S, Patience
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.invariants import PAYLOADS, SEGMENTS, check_stored
from tests.support.models import ScriptedModel, texts
from tests.support.segments import (
    stored_messages,
)

COMMANDS = ["aggregate", "delete", "find", "insert", "update"]

ANSWER_MS = 400
SILENT = {"blockConnection": True, "blockTimeMS": 3 * ANSWER_MS}
FAULTS = [
    pytest.param({"closeConnection": True}, id="connection closed"),
    pytest.param({"errorCode": 91}, id="shutting down"),
    pytest.param({"errorCode": 189}, id="stepped down"),
    pytest.param({"errorCode": 11600}, id="interrupted at shutdown"),
    pytest.param({"errorCode": 211}, id="no keys for the cluster time yet"),
    pytest.param({"writeConcernError": {"code": 91, "errmsg": "shutting down"}}, id="stored, then shutting down"),
    pytest.param({"writeConcernError": {"code": 64, "errmsg": "late"}}, id="stored, write concern not met"),
    pytest.param(SILENT, id="no answer in time"),
]


class Server:
    """A server under test, as its clients are made.

    Attributes:
        uri: Where it is.
        client: A client that is not failed.
        options: Options of the clients that are.
        patience: Sets how long their commands may take.
    """

    def __init__(self, uri: str, client: MongoClient[Document], patience: Patience, **options: Any) -> None:
        self.uri, self.client, self.patience = uri, client, patience
        self.database = client[f"msm_{uuid4().hex[:12]}"]
        self.appname = f"test-{uuid4().hex[:8]}"
        self.recorder = CommandRecorder()
        self.options = {
            "appname": self.appname,
            "event_listeners": [self.recorder],
            # After an error that tells of another primary the driver waits for a heartbeat.
            "heartbeatFrequencyMS": 500,
            **options,
        }

    def manager(self, **options: Any) -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(
            SESSION_ID, self.uri, self.database.name, COLLECTION, ensure_indexes=False, **{**self.options, **options}
        )

    def repository(self) -> AsyncMongoDBSessionRepository:
        return AsyncMongoDBSessionRepository(self.uri, self.database.name, COLLECTION, **self.options)

    @property
    def archived_count(self) -> int:
        """How many of the agent's messages are sealed."""
        document = self.database[COLLECTION].find_one({"_id": SESSION_ID})
        assert document is not None
        return int(document["agents"][AGENT_ID].get("archived_count") or 0)

    @contextmanager
    def failing(self, commands: list[str], fault: Mapping[str, Any], *, always: bool = False) -> Iterator[None]:
        data = {"failCommands": commands, "appName": self.appname, **fault}
        if always and fault is SILENT:
            self.patience(ANSWER_MS / 1000)
        with fail_point(self.client, "alwaysOn" if always else {"times": 1}, data):
            yield
        self.patience(WAIT_S)


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo("standalone", test_commands=True) as server:
        yield server.uri


MODES = ["replica set", "replica set without retryWrites", "standalone"]


@pytest.fixture
def server(request: pytest.FixtureRequest, mode: str, patience: Patience) -> Iterator[Server]:
    uri = request.getfixturevalue("standalone" if mode == "standalone" else "mongo_uri")
    with MongoClient[Document](uri, appname="tests", tz_aware=True) as client:
        server = Server(uri, client, patience, retryWrites=mode == "replica set")
        yield server
        client.drop_database(server.database.name)


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    model = ScriptedModel(otherwise="Fine.")
    return make_agent(manager, model=model, conversation_manager=NullConversationManager())


def an_image() -> list[Any]:
    data = b"\x89PNG" + bytes(PAYLOAD_BYTES)
    return [{"text": "Look."}, {"image": {"format": "png", "source": {"bytes": data}}}]


def long_text(number: int) -> str:
    return f"prompt {number} " + "x" * (SEAL_AT_BYTES // 4)


# -- one failure each


async def check_a_life(server: Server, commands: list[str], fault: Mapping[str, Any]) -> None:
    """Live through all that a session does, with one failure in each step of it, which nobody must notice."""
    if fault is SILENT:
        # Beyond every timeout: the client's is shorter. A healthy command that takes longer is sent again, too.
        server.options["socketTimeoutMS"] = ANSWER_MS

    async def step(work: Callable[[], Awaitable[Any]]) -> Any:
        with server.failing(commands, fault):
            return await work()

    manager = server.manager()
    await step(manager.open)
    agent = talker(manager)
    await step(lambda: streamed(agent, "Hi."))
    await step(lambda: manager.add_feedback({"rating": "up"}))
    await step(lambda: manager.update_metadata({"topic": "weather"}))
    await step(lambda: streamed(agent, an_image()))

    async def a_turn_of_ones_own() -> None:
        async with manager.turn(lease_s=30, idempotency_key="request-1"):
            await streamed(agent, "one at a time")

    await step(a_turn_of_ones_own)

    async def until_sealed() -> None:
        # A seal that meets a change of what it seals leaves it to a later write.
        for number in range(20):
            await streamed(agent, long_text(number))
            if server.archived_count > 0:
                break
        await manager.close()

    await step(until_sealed)

    check_stored(server.database)
    document = server.database[COLLECTION].find_one({"_id": SESSION_ID})
    assert document is not None
    expected = texts(agent.messages)
    assert texts(stored_messages(server.database)) == expected  # type: ignore[arg-type]
    assert [feedback["rating"] for feedback in document["feedbacks"]] == ["up"]
    assert document["metadata"] == {"topic": "weather"}
    assert document["idempotency_keys"] == ["request-1"]
    assert document["summary"]["usage"]["totalTokens"] == 15 * len(expected) // 2
    assert server.archived_count > 0
    assert "lease" not in document

    resumed = await step(server.manager().open)
    assert talker(resumed).messages == agent.messages
    await resumed.close()

    async with server.repository() as repository:
        listed = await step(lambda: repository.list_messages(SESSION_ID, AGENT_ID))
        assert texts([message.message for message in listed]) == expected
        assert [config["agent_id"] for config in await step(lambda: repository.list_agents(SESSION_ID))] == [AGENT_ID]
        assert len(await step(lambda: repository.get_feedbacks(SESSION_ID))) == 1
        deleted = await step(lambda: repository.delete_session(SESSION_ID))

    # An answer that was lost cannot be told from another one's deletion.
    assert deleted == 1 or "delete" in commands or fault is SILENT
    for name in (COLLECTION, SEGMENTS, PAYLOADS):
        assert server.database[name].count_documents({}) == 0
    # A command that is new here belongs into the list, and so into this test.
    assert set(server.recorder.names) == set(COMMANDS)


@pytest.mark.matrix
@pytest.mark.parametrize("mode", ["replica set"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_in_each_step_goes_unnoticed(server: Server, fault: Mapping[str, Any], mode: str) -> None:
    await check_a_life(server, COMMANDS, fault)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_failure_of_each_command_goes_unnoticed(
    server: Server, command: str, fault: Mapping[str, Any], mode: str
) -> None:
    await check_a_life(server, [command], fault)


# -- failures that last


@pytest.mark.matrix
@pytest.mark.parametrize("mode", [*MODES[:1], *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_that_lasts_is_reported_and_the_next_flush_completes(
    server: Server, fault: Mapping[str, Any], mode: str
) -> None:
    async with server.manager(write_deadline_s=0.2) as manager:
        agent = talker(manager)
        await streamed(agent, "Hi.")
        agent.state.set("count", 1)

        with server.failing(["update"], fault, always=True):
            with pytest.raises(PyMongoError):
                await streamed(agent, "Are you there?")
            with pytest.raises(PyMongoError):
                await manager.flush()
        await manager.flush()
        await streamed(agent, "And now?")

    assert texts(stored_messages(server.database)) == texts(agent.messages)  # type: ignore[arg-type]
    assert texts(agent.messages) == ["Hi.", "Fine.", "Are you there?", "And now?", "Fine."]
    document = check_stored(server.database)
    assert document["agents"][AGENT_ID]["agent_data"]["state"] == {"count": 1}
    assert document["summary"]["usage"]["totalTokens"] == 30


@pytest.mark.parametrize("mode", ["replica set"])
@pytest.mark.parametrize("code", [13, 50, 9001], ids=["unauthorized", "too slow", "socket"])
async def test_an_error_of_any_other_kind_is_reported_too(server: Server, code: int, mode: str) -> None:
    async with server.manager(write_deadline_s=0.2) as manager:
        agent = talker(manager)
        await streamed(agent, "Hi.")

        with server.failing(["update"], {"errorCode": code}, always=True):
            for work in (streamed(agent, "Are you there?"), manager.add_feedback({"rating": "up"}), manager.flush()):
                with pytest.raises(PyMongoError):
                    await work
        await manager.flush()

    document = check_stored(server.database)
    assert texts(stored_messages(server.database)) == ["Hi.", "Fine.", "Are you there?"]  # type: ignore[arg-type]
    # Its caller was told, and may try again.
    assert document["feedbacks"] == []


@pytest.mark.parametrize("mode", ["replica set"])
async def test_a_payload_that_could_not_be_stored_is_stored_by_the_next_flush(server: Server, mode: str) -> None:
    async with server.manager(write_deadline_s=0.2) as manager:
        agent = talker(manager)
        await streamed(agent, "Hi.")
        with server.failing(["update"], {"errorCode": 89}, always=True), pytest.raises(PyMongoError):
            await streamed(agent, an_image())
        await manager.flush()

    async with server.manager() as manager:
        assert talker(manager).messages == agent.messages


@pytest.mark.parametrize("mode", ["replica set"])
async def test_a_seal_that_failed_is_done_by_a_later_write(server: Server, mode: str) -> None:
    # Only of the sessions: the server itself looks for the record of a retryable write with a find.
    fault = {"errorCode": 13, "namespace": f"{server.database.name}.{COLLECTION}"}
    async with server.manager() as manager:
        agent = talker(manager)
        with ExitStack() as down:
            for number in range(12):
                if number == 3:
                    down.enter_context(server.failing(["find"], fault, always=True))
                if number == 8:
                    down.close()
                await streamed(agent, long_text(number))

    document = check_stored(server.database)
    assert document["agents"][AGENT_ID]["archived_count"] > 0
    assert texts(stored_messages(server.database)) == texts(agent.messages)  # type: ignore[arg-type]


# -- a server that says nothing


@pytest.mark.parametrize("read", [False, True], ids=["write", "read"])
async def test_a_silent_server_holds_nobody_up_beyond_the_deadline(
    sessions: Sessions, mongo_proxy: MongoProxy, patience: Patience, read: bool
) -> None:
    # No socket timeout, which is the driver's default: a command would wait for its reply for ever.
    async with sessions.manager(connection_string=mongo_proxy.uri, write_deadline_s=1) as manager:
        agent = make_agent(manager, model=ScriptedModel(otherwise="Fine."))
        await streamed(agent, "Hi.")

        mongo_proxy.deaf = True
        patience(0)
        with pytest.raises(NetworkTimeout, match=r"no answer .* within [01]\.\d s"):
            await (manager.get_metadata() if read else streamed(agent, "?"))
        mongo_proxy.deaf = False
        patience(WAIT_S)
        await manager.flush()
        await streamed(agent, "And now?")

    said = ["And now?", "Fine."] if read else ["?", "And now?", "Fine."]
    assert sessions.texts() == ["Hi.", "Fine.", *said]


async def test_a_silent_server_holds_no_turn_of_others_up(
    sessions: Sessions, mongo_proxy: MongoProxy, patience: Patience
) -> None:
    async with (
        sessions.manager(connection_string=mongo_proxy.uri, write_deadline_s=2) as cut_off,
        sessions.manager() as other,
    ):
        mine, others = talker(cut_off), talker(other)
        await other.flush()

        async def be_cut_off() -> None:
            async with cut_off.turn(lease_s=1):
                await streamed(mine, "mine")
                mongo_proxy.deaf = True
                patience(0)
                await streamed(mine, "in doubt")

        with pytest.raises(NetworkTimeout):
            await be_cut_off()
        patience(WAIT_S)
        async with other.turn(wait_s=WAIT_S):
            await streamed(others, "other")
        mongo_proxy.deaf = False
        async with cut_off.turn(wait_s=WAIT_S):
            await streamed(mine, "mine again")

    said = sessions.texts()
    # What was in doubt had arrived; what its turn still had to say was not written after the other's.
    assert said == ["mine", "Fine.", "in doubt", "other", "Fine.", "mine again", "Fine."]
    assert said == texts(mine.messages)


@pytest.mark.parametrize("mode", ["replica set"])
async def test_a_driver_error_reaches_the_caller_as_it_is(server: Server, mode: str) -> None:
    async with server.manager() as manager:
        with (
            server.failing(["update"], {"errorCode": 13}, always=True),
            pytest.raises(OperationFailure) as raised,
        ):
            await manager.update_metadata({"a": 1})

    assert raised.value.code == 13
