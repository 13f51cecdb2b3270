"""Agents on a synchronous manager: from scripts, threads and event loops, over every kind of client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from strands import Agent, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import Status
from strands.types.exceptions import ContextWindowOverflowException

from mongodb_session_manager import MongoDBSessionManager, SessionStoreError
from mongodb_session_manager.runtime import portal
from tests.facade.conftest import OpenManager
from tests.fixtures.sessions import Document, Sessions
from tests.fixtures.waiting import WAIT_S, LoopProbe
from tests.support.agents import make_agent, model_of, streamed
from tests.support.models import Reply, blocked, calls, texts


@pytest.fixture(params=["uri", "pymongo", "motor", "pymongo-async", "mock"])
def client(request: pytest.FixtureRequest, sessions: Sessions) -> Iterator[dict[str, Any]]:
    """The arguments for every kind of client."""
    options = sessions.client_options()
    match request.param:
        case "uri":
            yield {}
        case "pymongo":
            with MongoClient[Document](sessions.uri, **options) as borrowed:
                yield {"client": borrowed}
        case "motor":
            motor: AsyncIOMotorClient[Document] = AsyncIOMotorClient(sessions.uri, **options)
            yield {"client": motor}
            motor.close()
        case "pymongo-async":
            # It lives on the loop of its first use, which is the library's own.
            lives_there = AsyncMongoClient[Document](sessions.uri, **options)
            yield {"client": lives_there}
            portal.call(lives_there.close)
        case _:
            yield {"client": AsyncMongoMockClient()}


def test_a_conversation_is_resumed_over_every_client(open_manager: OpenManager, client: dict[str, Any]) -> None:
    with open_manager(**client) as first:
        agent = make_agent(first, "Hello Alice.")
        agent("I am Alice.")
        agent.state.set("name", "Alice")
        first.sync_agent(agent)

    resumed = make_agent(open_manager(**client), "You are Alice.")

    assert resumed.messages == agent.messages
    assert resumed.state.get("name") == "Alice"
    resumed("Who am I?")
    assert texts(model_of(resumed).requests[0]) == ["I am Alice.", "Hello Alice.", "Who am I?"]


async def test_streaming_on_the_callers_loop_works_over_every_client(
    open_manager: OpenManager, client: dict[str, Any]
) -> None:
    manager = open_manager(**client)
    agent = make_agent(manager, calls(("shout", {"text": "hi"})), "HI", blocked(user="[redacted]"), tools=[shout])

    assert await streamed(agent, "Shout hi.") == "HI"
    await streamed(agent, "Something bad.")

    resumed = make_agent(open_manager(**client))
    assert resumed.messages == agent.messages
    assert texts(resumed.messages) == ["Shout hi.", "", "", "HI", "[redacted]", "blocked"]


@tool
def shout(text: str) -> str:
    """Say it in capitals."""
    return text.upper()


def test_a_plain_turn_takes_two_commands(open_manager: OpenManager, sessions: Sessions) -> None:
    agent = make_agent(open_manager(), "One.", "Two.")
    agent("1")

    with sessions.recorder.counting() as commands:
        agent("2")

    assert commands.names == ["update"] * 2


def test_a_whole_turn_is_one_command_with_flush_on_invocation(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager(flush_on="invocation")
    agent = make_agent(manager, "One.")

    with sessions.recorder.counting() as commands:
        manager.append_message({"role": "user", "content": [{"text": "0"}]}, agent)
        assert commands.names == []
        agent("1")

    assert commands.names == ["update"]
    assert sessions.texts() == ["0", "1", "One."]


def test_syncing_with_nothing_changed_sends_nothing(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager, "One.")
    agent("1")

    with sessions.recorder.counting() as commands:
        manager.sync_agent(agent)
        manager.flush()

    assert commands.names == []


def test_methods_return_when_their_change_is_stored(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager)

    manager.append_message({"role": "user", "content": [{"text": "secret"}]}, agent)
    assert sessions.texts() == ["secret"]
    agent.state.set("n", 1)
    manager.sync_agent(agent)
    assert sessions.document()["agents"]["assistant"]["agent_data"]["state"] == {"n": 1}
    manager.redact_latest_message(
        {"role": "user", "content": [{"text": "[redacted]"}]}, agent, stop_reason="guardrail_intervened"
    )

    document = sessions.document()
    assert "secret" not in str(document)
    assert document["guardrail_events"][0]["stop_reason"] == "guardrail_intervened"


def test_redaction_by_a_guardrail_is_stored_before_the_agent_goes_on(
    open_manager: OpenManager, sessions: Sessions
) -> None:
    agent = make_agent(open_manager(), blocked(user="[redacted]"))

    agent("my secret")

    document = sessions.document()
    assert "secret" not in str(document)
    assert [event["action"] for event in document["guardrail_events"]] == ["BLOCKED"]


def test_context_overflow_in_the_middle_of_a_turn_is_stored(open_manager: OpenManager, sessions: Sessions) -> None:
    agent = make_agent(
        open_manager(), "1", "2", Reply(error=ContextWindowOverflowException("too long")), "3", agent_id="a"
    )
    agent("one")
    agent("two")

    agent("three")

    assert sessions.texts("a") == ["one", "1", "two", "2", "three", "3"]
    assert make_agent(open_manager(), agent_id="a").messages == agent.messages


@pytest.mark.parametrize("kind", ["uri", "pymongo-async"])
async def test_slow_writes_do_not_hold_up_the_loop_that_streams(
    open_manager: OpenManager, sessions: Sessions, kind: str
) -> None:
    probe = LoopProbe()
    lives_there = AsyncMongoClient[Document](sessions.uri, event_listeners=[probe])
    options: Any = {"client": lives_there} if kind == "pymongo-async" else {"event_listeners": [probe]}
    # Opening and closing are synchronous, so they are for other threads than a loop's.
    manager = await asyncio.to_thread(open_manager, **options)
    agent = make_agent(manager, calls(("shout", {"text": "hi"})), "HI", tools=[shout])

    await streamed(agent, "Shout hi.")

    assert probe.sent >= 5  # four messages, each waited for, and the end of the turn
    assert probe.held_up == []
    assert sessions.texts() == ["Shout hi.", "", "", "HI"]
    manager.close()
    portal.call(lives_there.close)


def test_three_event_loops_one_after_the_other(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager, "1", "2", "3")

    for prompt in ("one", "two", "three"):
        asyncio.run(streamed(agent, prompt))
        manager.update_metadata({"latest": prompt})

    assert sessions.texts() == ["one", "1", "two", "2", "three", "3"]
    assert manager.get_metadata() == {"metadata": {"latest": "three"}}


async def test_every_call_works_from_inside_a_running_loop(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager, "1", "2", "3")

    agent("one")
    running = asyncio.create_task(streamed(agent, "two"))
    await asyncio.sleep(0)
    manager.update_metadata({"while": "running"})
    await running
    manager.append_message({"role": "user", "content": [{"text": "by hand"}]}, agent)
    manager.sync_agent(agent)
    agent("three")

    assert sessions.texts() == ["one", "1", "two", "2", "by hand", "three", "3"]
    assert manager.get_metadata() == {"metadata": {"while": "running"}}


def test_threads_with_a_manager_each(open_manager: OpenManager, sessions: Sessions) -> None:
    def converse(number: int) -> None:
        with open_manager(f"s-{number}") as manager:
            agent = make_agent(manager, "1", "2")
            agent(f"one of {number}")
            manager.update_metadata({"number": number})
            agent(f"two of {number}")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(converse, range(8)))

    for number in range(8):
        texts_there = sessions.texts(session_id=f"s-{number}")
        assert texts_there == [f"one of {number}", "1", f"two of {number}", "2"]
        assert sessions.document(f"s-{number}")["metadata"] == {"number": number}


def test_threads_with_one_manager(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    start = threading.Barrier(8)

    def converse(number: int) -> None:
        agent = make_agent(manager, "1", "2", agent_id=f"a-{number}")
        start.wait(WAIT_S)
        agent("one")
        manager.add_feedback({"number": number})
        agent("two")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(converse, range(8)))

    for number in range(8):
        assert sessions.texts(f"a-{number}") == ["one", "1", "two", "2"]
    assert sorted(feedback["number"] for feedback in manager.get_feedbacks()) == list(range(8))


def test_a_graph_is_stored_and_resumed(open_manager: OpenManager, sessions: Sessions) -> None:
    def build(manager: MongoDBSessionManager) -> Any:
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "drafted", agent_id="writer"), "writer")
        builder.add_node(make_agent(None, "checked", agent_id="checker"), "checker")
        builder.add_edge("writer", "checker")
        builder.set_graph_id("review")
        builder.set_execution_timeout(WAIT_S)
        builder.set_session_manager(manager)
        return builder.build()

    assert build(open_manager())("Write.").status == Status.COMPLETED

    manager = open_manager()
    state = manager.repository.read_multi_agent("s-1", "review")
    assert state is not None
    assert sorted(state["completed_nodes"]) == ["checker", "writer"]
    assert build(manager)("Again.").status == Status.COMPLETED
    assert list(sessions.document()["multi_agents"]) == ["review"]


def test_a_swarm_is_stored(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = Agent(model=model_of(make_agent(None, "done")), name="solo", callback_handler=None)
    swarm = Swarm([agent], session_manager=manager, id="team")

    assert swarm("Do it.").status == Status.COMPLETED

    assert sessions.document()["multi_agents"]["team"]["status"] == "completed"
    manager.sync_multi_agent(swarm)


def test_initializing_the_same_agent_again_changes_nothing(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager, "1", system_prompt="Be brief.")
    agent("one")
    before = list(agent.messages)

    with sessions.recorder.counting() as commands:
        manager.initialize(agent)

    assert commands.names == []
    assert agent.messages == before
    assert agent.system_prompt == "Be brief."


def test_an_agent_of_no_session_manager_is_initialized_by_hand(open_manager: OpenManager, sessions: Sessions) -> None:
    make_agent(open_manager(), "1")("one")
    manager, agent = open_manager(), make_agent(None, "2")
    with pytest.raises(SessionStoreError, match="initialize"):
        manager.append_message({"role": "user", "content": [{"text": "two"}]}, agent)

    manager.initialize(agent)
    agent("two")
    for message in agent.messages[-2:]:
        manager.append_message(message, agent)

    assert texts(agent.messages) == ["one", "1", "two", "2"]
    assert sessions.texts() == ["one", "1", "two", "2"]


def test_token_counts_go_on_the_next_synced_answer(open_manager: OpenManager, sessions: Sessions) -> None:
    manager = open_manager()
    agent = make_agent(manager, Reply(text="1", usage=None))
    manager.set_token_counts(input_tokens=20, output_tokens=45)

    agent("one")

    usage = sessions.messages()[-1]["event_loop_metrics"]["accumulated_usage"]
    assert usage == {"inputTokens": 20, "outputTokens": 45, "totalTokens": 65}
    assert manager.get_metrics_summary()["tokens"]["total"] == 65
    with pytest.raises(ValueError, match="negative"):
        manager.set_token_counts(-1, 0)


FORK = """
import os, sys, warnings
from mongodb_session_manager import MongoDBSessionManager, MongoDBSessionManagerFactory

warnings.simplefilter("error")
uri, database = os.environ["TEST_URI"], sys.argv[1]
factory = MongoDBSessionManagerFactory(uri, database, "sessions")
manager = factory.create_session_manager("s-1")
manager.update_metadata({"parent": True})
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads
    pid = os.fork()
if pid == 0:
    manager.update_metadata({"child": True})
    with factory.create_session_manager("s-2") as own:
        own.add_feedback({"from": "child"})
    with MongoDBSessionManager("s-2", uri, database, "sessions") as own:
        print("child", manager.get_metadata(), len(own.get_feedbacks()), flush=True)
    manager.close()
    factory.close()
else:
    _, status = os.waitpid(pid, 0)
    manager.update_metadata({"after": True})
    print("parent", status, manager.get_metadata(), flush=True)
    manager.close()
    factory.close()
"""


def test_manager_and_factory_work_in_a_forked_child(sessions: Sessions) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK, sessions.database_name],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=os.environ | {"TEST_URI": sessions.uri},
    )

    assert result.stdout.splitlines() == [
        "child {'metadata': {'parent': True, 'child': True}} 1",
        "parent 0 {'metadata': {'parent': True, 'child': True, 'after': True}}",
    ], result.stderr
    assert result.stderr == ""
