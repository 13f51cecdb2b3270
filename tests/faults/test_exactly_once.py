from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands import Agent
from strands.multiagent import Swarm
from strands.types.session import Session, SessionType

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    InvalidNameError,
    SessionExistsError,
)
from mongodb_session_manager.session import FlushOn
from tests.fixtures.commands import Command
from tests.fixtures.faults import MongoProxy, fail_point
from tests.fixtures.sessions import COLLECTION, Document, Sessions
from tests.fixtures.waiting import WAIT_S, Held, eventually, happened
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel, blocked

Write = Callable[[AsyncMongoDBSessionManager, Agent], Coroutine[Any, Any, None]]


class UpdateFailed(CommandListener):
    """Says when an update failed."""

    def __init__(self) -> None:
        self.failed_once = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        """Only the failure counts."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the failure counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        if event.command_name == "update":
            self.failed_once.set()


class Together(CommandListener):
    """Lets the first updates be sent only when there are so many of them."""

    def __init__(self, parties: int) -> None:
        self._all_there = threading.Barrier(parties)
        self._left = parties
        self._lock = threading.Lock()
        self.expecting = False
        self.first = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        with self._lock:
            if not self.expecting or event.command_name != "update" or not self._left:
                return
            self._left -= 1
        self.first.set()
        self._all_there.wait(WAIT_S)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start counts."""


# -- everything that is written


async def a_turn(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await streamed(agent, "Hi.")


async def a_redacted_turn(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    agent.model = ScriptedModel(blocked(user="[redacted]"))
    await streamed(agent, "my secret")


async def feedback(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.add_feedback({"rating": "up"})


async def metadata(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.update_metadata({"topic": "weather", "nested.value": 1})


async def deleted_metadata(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.delete_metadata(["topic"])


async def state(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    agent.state.set("count", 1)
    manager.sync_agent(agent)
    await manager.flush()


async def configuration(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.update_agent_config(agent.agent_id, system_prompt="Be kind.", prompt_metadata={"version": 1})


async def a_new_agent(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await streamed(make_agent(manager, "Hello!", agent_id="new"), "Hi.")


async def a_swarm(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    node = Agent(name="node", model=ScriptedModel("done"), callback_handler=None)
    await Swarm([node], id="swarm", session_manager=manager).invoke_async("go")


WRITES: list[Write] = [
    a_turn,
    a_redacted_turn,
    feedback,
    metadata,
    deleted_metadata,
    state,
    configuration,
    a_new_agent,
    a_swarm,
]


async def newer_writes(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    """Change everything that `WRITES` may have changed."""
    agent.state.set("count", 2)
    await streamed(agent, "And you?")
    await manager.update_metadata({"topic": "sports", "nested.value": 2})
    await manager.add_feedback({"rating": "down"})
    await manager.update_agent_config(agent.agent_id, system_prompt="Be brief.", prompt_metadata={"version": 2})


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    return make_agent(manager, model=ScriptedModel(otherwise="Fine."))


def updates(commands: Sequence[Command]) -> list[Command]:
    return [command for command in commands if command.name == "update"]


def tokens_of(commands: Sequence[Command]) -> list[str]:
    """Return which batch each of the updates carried."""
    return [command.document["updates"][0]["q"]["applied"]["$ne"] for command in updates(commands)]


def send_again(mongo_client: MongoClient[Document], commands: Sequence[Command]) -> int:
    """Let the server get the same updates once more, and return how many matched."""
    matched = 0
    for command in updates(commands):
        answer = mongo_client[command.database].command(
            {"update": command.collection, "updates": command.document["updates"]}
        )
        matched += answer["n"]
    return matched


@pytest.mark.parametrize("write", WRITES)
async def test_a_batch_that_arrives_again_counts_once(
    sessions: Sessions, mongo_client: MongoClient[Document], write: Write
) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        await manager.flush()
        with sessions.recorder.counting() as commands:
            await write(manager, agent)
        before = sessions.document()

        matched = send_again(mongo_client, commands)

    assert len(updates(commands)) >= 1
    assert matched == 0
    assert sessions.document() == before


@pytest.mark.parametrize("write", WRITES)
async def test_a_late_batch_never_overwrites_newer_state(
    sessions: Sessions, mongo_client: MongoClient[Document], write: Write
) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        await manager.flush()
        with sessions.recorder.counting() as commands:
            await write(manager, agent)
        agent.model = ScriptedModel(otherwise="Fine.")
        await newer_writes(manager, agent)
        before = sessions.document()

        matched = send_again(mongo_client, commands)

    assert matched == 0
    assert sessions.document() == before


async def test_a_late_batch_that_was_renumbered_meanwhile_counts_once(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager() as first, sessions.manager() as second:
        mine, others = talker(first), talker(second)
        await first.flush()
        await second.flush()
        await streamed(others, "from the other")
        with sessions.recorder.counting() as commands:
            await streamed(mine, "from me")
        before = sessions.document()

        matched = send_again(mongo_client, commands)

    assert len(updates(commands)) > 2
    assert matched == 0
    assert sessions.document() == before
    assert sessions.texts() == ["from the other", "Fine.", "from me", "Fine."]


# -- lost replies

FAULTS = [
    pytest.param({"errorCode": 89}, id="timeout between servers"),
    pytest.param({"writeConcernError": {"code": 64, "errmsg": "late"}}, id="stored, but the write concern was not met"),
]
# After these the driver first looks for a primary, which takes it a heartbeat.
CHANGES_OF_PRIMARY = [
    pytest.param({"closeConnection": True}, id="connection closed"),
    pytest.param({"errorCode": 91}, id="shutting down"),
    pytest.param({"errorCode": 189}, id="stepped down"),
    pytest.param({"errorCode": 11600}, id="interrupted at shutdown"),
    pytest.param({"writeConcernError": {"code": 91, "errmsg": "shutting down"}}, id="stored, then shutting down"),
]
RETRY_WRITES = pytest.mark.parametrize("retry_writes", [True, False], ids=["retryWrites", "no retryWrites"])


@RETRY_WRITES
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_write_whose_outcome_is_in_doubt_counts_once(
    sessions: Sessions, mongo_client: MongoClient[Document], fault: Mapping[str, Any], retry_writes: bool
) -> None:
    once = {"failCommands": ["update", "insert"], "appName": sessions.appname, **fault}
    async with sessions.manager(retryWrites=retry_writes) as manager:
        agent = talker(manager)
        for write in (a_new_agent, a_turn, feedback, metadata, state):
            with fail_point(mongo_client, {"times": 1}, once):
                await write(manager, agent)
        with fail_point(mongo_client, {"times": 1}, once):
            await a_redacted_turn(manager, agent)

    document = sessions.document()
    assert sessions.texts() == ["Hi.", "Fine.", "[redacted]", "blocked"]
    assert sessions.texts("new") == ["Hi.", "Hello!"]
    assert [item["rating"] for item in document["feedbacks"]] == ["up"]
    assert document["metadata"] == {"topic": "weather", "nested": {"value": 1}}
    assert document["agents"]["assistant"]["agent_data"]["state"] == {"count": 1}
    assert [event["message_id"] for event in document["guardrail_events"]] == [2]
    assert document["summary"]["usage"]["totalTokens"] == 3 * 15


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_guardrail_record_names_its_message_whoever_appended_meanwhile(
    sessions: Sessions, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as one, sessions.manager() as other:
        agents = [talker(manager) for manager in (one, other)]
        await streamed(agents[1], "Before")
        await a_redacted_turn(one, agents[0])

    messages = sessions.messages()
    (event,) = sessions.document()["guardrail_events"]
    named = messages[event["message_id"]]
    assert "redact_message" in named
    assert named["guardrail_event"]["stop_reason"] == event["stop_reason"]


@RETRY_WRITES
@pytest.mark.parametrize("fault", CHANGES_OF_PRIMARY)
async def test_a_write_that_meets_a_change_of_primary_counts_once(
    sessions: Sessions, mongo_client: MongoClient[Document], fault: Mapping[str, Any], retry_writes: bool
) -> None:
    once = {"failCommands": ["update"], "appName": sessions.appname, **fault}
    async with sessions.manager(retryWrites=retry_writes, heartbeatFrequencyMS=500) as manager:
        agent = talker(manager)
        with fail_point(mongo_client, {"times": 1}, once):
            await a_turn(manager, agent)
        with fail_point(mongo_client, {"times": 1}, once):
            await feedback(manager, agent)

    assert sessions.texts() == ["Hi.", "Fine."]
    assert sessions.document()["summary"]["usage"]["totalTokens"] == 15
    assert [item["rating"] for item in sessions.document()["feedbacks"]] == ["up"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_session_whose_creation_is_in_doubt_is_made_once(
    sessions: Sessions, mongo_client: MongoClient[Document], fault: Mapping[str, Any]
) -> None:
    once = {"failCommands": ["insert"], "appName": sessions.appname, **fault}
    with fail_point(mongo_client, {"times": 1}, once):
        async with sessions.manager(retryWrites=False) as manager:
            await streamed(talker(manager), "Hi.")

    assert sessions.texts() == ["Hi.", "Fine."]


@pytest.mark.parametrize("fault", FAULTS)
async def test_creating_a_session_whose_reply_was_lost_is_no_conflict_with_itself(
    sessions: Sessions, mongo_client: MongoClient[Document], fault: Mapping[str, Any]
) -> None:
    once = {"failCommands": ["insert"], "appName": sessions.appname, **fault}
    repository = AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, retryWrites=False, **sessions.client_options()
    )
    session = Session("s-1", SessionType.AGENT)

    with fail_point(mongo_client, {"times": 1}, once):
        await repository.create_session(session)
    with pytest.raises(SessionExistsError):
        await repository.create_session(session)
    await repository.close()


async def applied(sessions: Sessions, count: int) -> None:
    """Return when the stored session has taken so many batches."""
    await eventually(lambda: len(sessions.document()["applied"]) >= count, "taking a batch")


@RETRY_WRITES
@pytest.mark.parametrize("write", [a_turn, feedback, state])
async def test_a_write_whose_reply_is_lost_on_the_way_counts_once(
    sessions: Sessions, mongo_proxy: MongoProxy, write: Write, retry_writes: bool
) -> None:
    async with sessions.manager(connection_string=mongo_proxy.uri, retryWrites=retry_writes) as manager:
        agent = talker(manager)
        await manager.flush()
        already = len(sessions.document()["applied"])

        mongo_proxy.deaf = True
        writing = asyncio.ensure_future(write(manager, agent))
        await applied(sessions, already + 1)
        await asyncio.to_thread(mongo_proxy.stop)
        mongo_proxy.deaf = False
        await asyncio.to_thread(mongo_proxy.start)
        await writing

    document = sessions.document()
    if write is a_turn:
        assert sessions.texts() == ["Hi.", "Fine."]
        assert document["summary"]["usage"]["totalTokens"] == 15
    elif write is feedback:
        assert [item["rating"] for item in document["feedbacks"]] == ["up"]
    else:
        assert document["agents"]["assistant"]["agent_data"]["state"] == {"count": 1}


# -- cancelled callers and several flushers


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_whose_caller_is_cancelled_counts_once(
    sessions: Sessions, mongo_client: MongoClient[Document], write: Write
) -> None:
    held = Held()
    async with sessions.manager(event_listeners=[sessions.recorder, held]) as manager:
        agent = talker(manager)
        await manager.flush()

        with sessions.recorder.counting() as commands:
            with held.holding():
                writing = asyncio.ensure_future(write(manager, agent))
                await happened(held.reached)
                writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            await manager.flush()
        before = sessions.document()

        matched = send_again(mongo_client, commands)
        await manager.flush()

    # The write went on without its caller, so that nobody had to send it again.
    assert len(set(tokens_of(commands))) == len(tokens_of(commands)) >= 1
    assert matched == 0
    assert sessions.document() == before
    assert len(before["feedbacks"]) == (1 if write is feedback else 0)
    if write in (a_turn, a_redacted_turn):
        assert sessions.texts() == ["Hi." if write is a_turn else "my secret"]


@pytest.mark.parametrize("write", [feedback, metadata, state])
async def test_two_flushers_on_two_loops_write_once(sessions: Sessions, write: Write) -> None:
    together = Together(2)
    async with sessions.manager(event_listeners=[sessions.recorder, together]) as manager:
        agent = talker(manager)
        await manager.flush()
        together.expecting = True

        with sessions.recorder.counting() as commands:
            here = asyncio.ensure_future(write(manager, agent))
            await happened(together.first)
            await asyncio.gather(here, *(asyncio.to_thread(asyncio.run, manager.flush()) for _ in range(2)))
            if write is state:
                await manager.flush()

    document = sessions.document()
    # Once by the loop that opened the session, once by the library's own, on behalf of both others.
    assert len(tokens_of(commands)) == 2
    assert len(set(tokens_of(commands))) == 1
    assert len(document["applied"]) == 2
    assert len(document["feedbacks"]) == (1 if write is feedback else 0)
    assert document["metadata"] == ({"topic": "weather", "nested": {"value": 1}} if write is metadata else {})
    assert document["agents"]["assistant"]["agent_data"]["state"] == ({"count": 1} if write is state else {})


async def test_many_flushers_on_one_loop_send_one_command(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        talker(manager)
        with sessions.recorder.counting() as commands:
            await asyncio.gather(*(manager.flush() for _ in range(20)))

    assert commands.names == ["update"]


async def test_a_flush_is_not_kept_waiting_by_a_stream_of_other_writes(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        over = False

        async def keep_writing() -> None:
            while not over:
                await manager.update_metadata({"topic": "weather"})

        writers = [asyncio.create_task(keep_writing()) for _ in range(3)]
        async with asyncio.timeout(WAIT_S):
            await streamed(agent, "Hi.")
        over = True
        await asyncio.gather(*writers)

    assert sessions.texts() == ["Hi.", "Fine."]


async def test_a_write_that_another_loop_finished_is_not_sent_again_when_it_is_long_overtaken(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    events = UpdateFailed()
    newest = 130  # more than the document remembers tokens of

    async def newer() -> None:
        for number in range(1, newest + 1):
            await manager.update_metadata({"number": number})

    async with sessions.manager(event_listeners=[sessions.recorder, events], retryWrites=False) as manager:
        fault = {"failCommands": ["update"], "errorCode": 89, "appName": sessions.appname}
        with fail_point(mongo_client, {"times": 1}, fault):
            writing = asyncio.ensure_future(manager.update_metadata({"number": 0}))
            await happened(events.failed_once)
            # This loop is blocked before it can send the update again; the other one does so instead.
            elsewhere = threading.Thread(target=lambda: asyncio.run(newer()))
            elsewhere.start()
            elsewhere.join()
            await writing

    assert sessions.document()["metadata"] == {"number": newest}


# -- writes that fail for good


@pytest.mark.usefixtures("patience")
async def test_a_withdrawn_write_is_shut_out_by_the_next_one(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    fault = {"failCommands": ["update"], "errorCode": 89, "appName": sessions.appname}
    async with sessions.manager(write_deadline_s=0.1, retryWrites=False) as manager:
        with (
            fail_point(mongo_client, "alwaysOn", fault),
            sessions.recorder.counting() as commands,
            pytest.raises((AutoReconnect, OperationFailure)),
        ):
            await manager.add_feedback({"rating": "up"})
        await manager.add_feedback({"rating": "down"})

        matched = send_again(mongo_client, commands)

    assert matched == 0
    assert [item["rating"] for item in sessions.document()["feedbacks"]] == ["down"]


@pytest.mark.usefixtures("patience")
async def test_a_flush_that_fails_keeps_its_batch_for_the_next_one(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    fault = {"failCommands": ["update"], "errorCode": 89, "appName": sessions.appname}
    async with sessions.manager(write_deadline_s=0.1, retryWrites=False) as manager:
        agent = talker(manager)
        await manager.flush()
        with fail_point(mongo_client, "alwaysOn", fault), pytest.raises(PyMongoError):
            await streamed(agent, "Hi.")
        stored_meanwhile = sessions.texts()
        with sessions.recorder.counting() as commands:
            await manager.flush()
        await streamed(agent, "And you?")

    assert stored_meanwhile == []
    assert commands.names == ["update"]
    assert sessions.texts() == ["Hi.", "And you?", "Fine."]


async def test_a_refused_metadata_update_fails_for_its_caller_only(sessions: Sessions) -> None:
    held = Held()
    async with sessions.manager(event_listeners=[sessions.recorder, held]) as manager:
        await manager.update_metadata({"topic": "weather"})
        agent = talker(manager)

        with held.holding():
            refused = asyncio.ensure_future(manager.update_metadata({"topic.of": "a text has no fields"}))
            await happened(held.reached)
            behind = [
                asyncio.ensure_future(work) for work in (streamed(agent, "Hi."), manager.add_feedback({"rating": "up"}))
            ]
            await asyncio.sleep(0)
        outcomes: list[object] = await asyncio.gather(refused, *behind, return_exceptions=True)

    assert isinstance(outcomes[0], InvalidNameError)
    assert outcomes[1:] == ["Fine.", None]
    assert sessions.texts() == ["Hi.", "Fine."]
    assert sessions.document()["metadata"] == {"topic": "weather"}
    assert len(sessions.document()["feedbacks"]) == 1


async def test_a_refused_metadata_update_of_a_cancelled_caller_holds_nothing_up(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    async with sessions.manager(event_listeners=[sessions.recorder, held]) as manager:
        await manager.update_metadata({"topic": "weather"})
        agent = talker(manager)

        with held.holding():
            refused = asyncio.ensure_future(manager.update_metadata({"topic.of": "a text has no fields"}))
            await happened(held.reached)
            refused.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refused
        await streamed(agent, "Hi.")

    assert sessions.texts() == ["Hi.", "Fine."]
    assert "error=<RefusedUpdateError> | gave up a change whose caller was cancelled" in caplog.text
    assert "a text has no fields" not in caplog.text


async def test_deleting_the_session_ends_those_who_wait_for_a_write(sessions: Sessions) -> None:
    held = Held()
    async with sessions.manager(event_listeners=[sessions.recorder, held]) as manager:
        talker(manager)
        with held.holding():
            flushing = asyncio.ensure_future(manager.flush())
            await happened(held.reached)
            waiting = asyncio.ensure_future(manager.add_feedback({"rating": "up"}))
            await asyncio.sleep(0)
            await manager.delete_session()
        outcomes = await asyncio.gather(flushing, waiting, return_exceptions=True)

    assert isinstance(outcomes[1], ValueError)
    assert "does not exist" in str(outcomes[1])
    assert sessions.raw.find_one({"_id": "s-1"}) is None


async def test_a_document_that_refuses_for_no_visible_reason_is_an_error_and_no_endless_loop(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        await manager.flush()
        mongo_client[sessions.database_name][COLLECTION].update_one(
            {"_id": "s-1"}, {"$unset": {"agents.assistant.next_message_id": ""}}
        )

        with pytest.raises(Exception, match="another tool"):
            await streamed(agent, "Hi.")
        await manager.delete_session()
