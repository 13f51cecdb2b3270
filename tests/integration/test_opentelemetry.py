"""Spans of real sessions and agents: where they hang, what they say, and that they say nothing of what is stored."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from strands import tool
from strands.multiagent import GraphBuilder

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    MessageNotFoundError,
    MongoDBSessionManager,
    SessionNotFoundError,
    otel,
)
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.fixtures.tracing import Spans, attributes, id_of
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import calls
from tests.support.segments import converse

PROMPT = "prompt-4711"
RESULT = "result-2342"
METADATA = "metadata-68000"
PASSWORD = "pass-9c1e"
OWN = {"open_session", "flush_session", "update_session", "seal_session", "restore_agent", "restore_multi_agent"}


@tool
def look_up(what: str) -> str:
    """Look something up."""
    return f"{RESULT} {what}"


@pytest.fixture
def open_sync(sessions: Sessions) -> Iterator[Callable[..., MongoDBSessionManager]]:
    opened = []

    def open_(**options: Any) -> MongoDBSessionManager:
        opened.append(
            MongoDBSessionManager(
                SESSION_ID,
                sessions.uri,
                sessions.database_name,
                COLLECTION,
                **{"ensure_indexes": False, **sessions.client_options(), **options},
            )
        )
        return opened[-1]

    yield open_
    for manager in opened:
        manager.close()


def written(spans: Spans) -> list[dict[str, Any]]:
    return [attributes(span) for span in spans.named("flush_session")]


def everything(spans: list[ReadableSpan]) -> str:
    return "\n".join(span.to_json() for span in spans)


# -- what there is


async def test_each_piece_of_work_is_a_span_with_ids_and_counts(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, calls(("look_up", {"what": "x"})), "done", tools=[look_up])
        await streamed(agent, PROMPT)
    spans_of_the_first = spans.of_the_library()
    async with sessions.manager() as manager:
        make_agent(manager)
    opened, reopened = spans.named("open_session")
    added, restored = spans.named("restore_agent")

    address = {
        "gen_ai.conversation.id": SESSION_ID,
        "db.system.name": "mongodb",
        "db.namespace": sessions.database_name,
        "db.collection.name": COLLECTION,
    }
    assert all(address.items() <= attributes(span).items() for span in spans.of_the_library())
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.of_the_library())
    assert [span.name for span in spans_of_the_first] == ["open_session", "restore_agent", *["flush_session"] * 4]
    first, *_ = writes = written(spans)
    assert [write["message.count"] for write in writes] == [1, 1, 1, 1]
    assert [write["command.count"] for write in writes] == [1, 1, 1, 1]
    assert {write["gen_ai.agent.id"] for write in writes} == {AGENT_ID}
    assert len(PROMPT) < first["size"] < 500
    assert (attributes(opened)["is_new"], attributes(reopened)["is_new"]) == (True, False)
    assert (attributes(opened)["message.count"], attributes(reopened)["message.count"]) == (0, 4)
    assert attributes(reopened)["command.count"] == 1
    assert attributes(reopened)["size"] == sessions.document()["live_bytes"]
    assert (attributes(added)["is_new"], attributes(restored)["is_new"]) == (True, False)
    assert attributes(restored)["message.count"] == 4
    assert attributes(restored)["gen_ai.agent.id"] == AGENT_ID
    assert attributes(restored)["command.count"] == 0


async def test_counts_of_commands_are_those_that_the_server_saw(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), PROMPT)
        await manager.update_metadata({"a": 1})
        await manager.flush()

    seen = [command for command in sessions.recorder.commands if command.collection == COLLECTION]
    counted = sum(attributes(span)["command.count"] for span in spans.of_the_library())
    assert counted == len(seen) == 5


async def test_a_seal_says_what_it_moved(spans: Spans, sessions: Sessions, mongo_client: MongoClient[Document]) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager), range(40))
    (seal, *_) = spans.named("seal_session")
    stored = mongo_client[sessions.database_name][f"{COLLECTION}_segments"].find()

    moved = [attributes(span) for span in spans.named("seal_session")]
    kept = [len(segment["items"]) for segment in stored]
    assert sum(seal["message.count"] for seal in moved) == sum(kept) > 0
    assert attributes(seal)["size"] > 4000
    assert attributes(seal)["command.count"] > 5
    assert spans.ancestors(seal)[0] == "flush_session"


async def test_a_graph_is_restored_in_a_span_of_its_own(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "one"), "node")
        builder.set_graph_id("graph")
        builder.set_max_node_executions(1)
        builder.set_session_manager(manager)
        builder.build()
    (span,) = spans.named("restore_multi_agent")

    assert attributes(span)["multi_agent.id"] == "graph"


async def test_odd_ids_can_be_exported(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        make_agent(manager, agent_id="lone \ud800 surrogate")
    (span,) = spans.named("restore_agent")

    assert str(attributes(span)["gen_ai.agent.id"]).encode() == b"lone \\ud800 surrogate"


# -- where they hang


async def test_spans_of_a_turn_are_below_the_agents_own(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager(lazy=True) as manager:
        agent = make_agent(manager, calls(("look_up", {"what": "x"})), "done", tools=[look_up])
        with spans.tracer.start_as_current_span("request"):
            await streamed(agent, PROMPT)

    assert len(spans.named("flush_session")) == 4
    for span in spans.named("flush_session"):
        assert spans.ancestors(span)[-2:] == ["invoke_agent Strands Agents", "request"]


async def test_a_session_that_opens_with_its_first_turn_opens_below_it(spans: Spans, sessions: Sessions) -> None:
    manager = sessions.manager(lazy=True)
    await make_agent(manager, "Hello!").invoke_async(PROMPT)
    await manager.close()

    (opened,), (restored,) = spans.named("open_session"), spans.named("restore_agent")
    assert spans.ancestors(opened) == spans.ancestors(restored) == ["invoke_agent Strands Agents"]


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
def test_the_synchronous_manager_carries_the_callers_place_to_its_loop(
    spans: Spans, open_sync: Callable[..., MongoDBSessionManager], flush_on: str
) -> None:
    with spans.tracer.start_as_current_span("request"):
        manager = open_sync(flush_on=flush_on)
        agent = make_agent(manager, "Hello!")
        agent(PROMPT)
        manager.update_metadata({"a": 1})
        manager.append_message({"role": "user", "content": [{"text": "by hand"}]}, agent)

    assert {span.name for span in spans.of_the_library()} == OWN - {"seal_session", "restore_multi_agent"}
    for span in spans.of_the_library():
        assert spans.ancestors(span)[-1] == "request", span.name
    by_agent = [span for span in spans.named("flush_session") if len(spans.ancestors(span)) > 1]
    assert len(by_agent) == (2 if flush_on == "message" else 1)
    assert all("invoke_agent Strands Agents" in spans.ancestors(span) for span in by_agent)


async def test_a_synchronous_call_on_an_async_manager_keeps_its_place(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        with spans.tracer.start_as_current_span("request"):
            agent(PROMPT)  # in a thread and loop of its own, while this one is blocked

    flushed = [span for span in spans.named("flush_session") if not attributes(span).get("superseded")]
    assert flushed
    assert {tuple(spans.ancestors(span)[-2:]) for span in flushed} == {("invoke_agent Strands Agents", "request")}


async def test_a_flush_in_the_background_is_below_what_caused_it(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager)
        await manager.flush()
        spans.forget()
        with spans.tracer.start_as_current_span("request"):
            manager.append_message({"role": "user", "content": [{"text": "by hand"}]}, agent)
        await eventually(lambda: bool(spans.named("flush_session")), "the flush")
        (span,) = spans.named("flush_session")

    assert spans.ancestors(span) == ["request"]


async def test_a_flush_that_sends_what_another_left_is_linked(
    spans: Spans, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    failing = {"failCommands": ["update"], "errorCode": 13, "appName": sessions.appname}
    async with sessions.manager() as manager:
        agent = make_agent(manager)
        await manager.flush()
        spans.forget()
        with spans.tracer.start_as_current_span("first"), fail_point(mongo_client, {"times": 1}, failing):
            agent.state.set("a", 1)
            manager.sync_agent(agent)
            with pytest.raises(OperationFailure):
                await manager.flush()
        with spans.tracer.start_as_current_span("second"):
            await manager.flush()

    failed, sent = spans.named("flush_session")
    (second,) = spans.named("second")
    assert spans.ancestors(failed) == spans.ancestors(sent) == ["first"]
    assert [link.context for link in sent.links] == [second.context]
    assert failed.links == ()


# -- what went wrong


async def test_a_failed_span_names_the_class_of_the_error_only(
    spans: Spans, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    failing = {"failCommands": ["update"], "errorCode": 13, "appName": sessions.appname}
    async with sessions.manager() as manager:
        with fail_point(mongo_client, {"times": 1}, failing), pytest.raises(OperationFailure):
            await manager.update_metadata({"a": 1})
    (span,) = spans.named("update_session")

    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert attributes(span)["error.type"] == "OperationFailure"
    assert attributes(span)["db.response.status_code"] == "13"
    assert span.events == ()


async def test_a_session_that_cannot_be_opened_is_a_failed_span(spans: Spans) -> None:
    address = f"mongodb://scribe:{PASSWORD}@127.0.0.1:1"
    manager = AsyncMongoDBSessionManager(SESSION_ID, address, "d", "c", serverSelectionTimeoutMS=10)
    with pytest.raises(Exception, match="refused"):
        await manager.open()
    await manager.close()
    (span,) = spans.named("open_session")

    assert attributes(span)["error.type"] == "ServerSelectionTimeoutError"
    assert span.status.status_code is StatusCode.ERROR
    assert PASSWORD not in everything(spans.all())


async def test_a_flush_to_a_session_that_is_gone_is_a_failed_span(spans: Spans, sessions: Sessions) -> None:
    manager = sessions.manager()
    await manager.open()
    agent = make_agent(manager, "Hello!")
    await manager.flush()
    sessions.raw.delete_one({"_id": SESSION_ID})
    spans.forget()
    with pytest.raises(SessionNotFoundError):
        await agent.invoke_async(PROMPT)
    with pytest.raises(SessionNotFoundError):
        await manager.close()

    assert {attributes(span)["error.type"] for span in spans.named("flush_session")} == {"SessionNotFoundError"}


# -- what they do not say


@pytest.mark.parametrize("face", ["async", "sync"])
async def test_no_span_holds_anything_of_what_is_stored(
    spans: Spans,
    sessions: Sessions,
    open_sync: Callable[..., MongoDBSessionManager],
    face: str,
    mongo_client: MongoClient[Document],
) -> None:
    guardrail = {"failCommands": ["update", "find"], "errorCode": 13, "appName": sessions.appname}

    def converse_sync() -> None:
        manager = open_sync()
        agent = make_agent(
            manager, calls(("look_up", {"what": PROMPT})), RESULT, tools=[look_up], state={"s": METADATA}
        )
        agent(PROMPT)
        manager.update_metadata({"customer": METADATA})
        manager.add_feedback({"rating": "up", "comment": METADATA})
        with fail_point(mongo_client, {"times": 2}, guardrail), pytest.raises(OperationFailure):
            manager.update_metadata({"customer": METADATA})
        manager.close()

    async def converse_async() -> None:
        async with sessions.manager() as manager:
            agent = make_agent(
                manager,
                calls(("look_up", {"what": PROMPT})),
                RESULT,
                tools=[look_up],
                state={"s": METADATA},
            )
            await streamed(agent, PROMPT)
            await manager.update_metadata({"customer": METADATA})
            await manager.add_feedback({"rating": "up", "comment": METADATA})
            with fail_point(mongo_client, {"times": 2}, guardrail), pytest.raises(OperationFailure):
                await manager.update_metadata({"customer": METADATA})

    await (asyncio.to_thread(converse_sync) if face == "sync" else converse_async())

    said = everything(spans.of_the_library())
    assert len(spans.of_the_library()) > 6
    assert [secret for secret in (PROMPT, RESULT, METADATA) if secret in said] == []
    assert PROMPT in everything(spans.all())  # Strands' own spans hold it: it would be found


# -- what it costs where it is off


def run(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_nothing_of_ours_is_imported_before_it_is_switched_on() -> None:
    added = run(
        "import sys, strands, strands.session, motor.motor_asyncio\n"
        "before = set(sys.modules)\n"
        "import mongodb_session_manager\n"
        "from mongodb_session_manager import tracing\n"
        "print([n for n in set(sys.modules) - before if n.startswith('opentelemetry') or n.endswith('.otel')])\n"
        "print(tracing.active)"
    )

    assert added.split("\n")[:2] == ["[]", "None"]


def test_without_the_extra_the_error_names_it() -> None:
    said = run(
        "import sys, mongodb_session_manager\n"
        "sys.modules['opentelemetry'] = None\n"
        "try:\n    import mongodb_session_manager.otel\n"
        "except ImportError as error:\n    print(error)"
    )

    assert "opentelemetry" in said
    assert "[otel]" in said


async def test_nothing_is_traced_before_it_is_switched_on_and_after(recorded: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "one", "two", "three")
        await agent.invoke_async(PROMPT)
        before = recorded.of_the_library()
        otel.instrument()
        await agent.invoke_async(PROMPT)
        while_on = {span.name for span in recorded.of_the_library()}
        otel.uninstrument()
        recorded.forget()
        await agent.invoke_async(PROMPT)

    assert (before, while_on, recorded.of_the_library()) == ([], {"flush_session"}, [])
    assert ["trace_id" in message for message in sessions.messages()] == [False, False, False, True, False, False]


# -- the trace of an answer


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_answers_and_failed_turns_name_their_trace(spans: Spans, sessions: Sessions, flush_on: str) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(
            manager, calls(("look_up", {"what": "x"})), "done", "again", RuntimeError(PROMPT), tools=[look_up]
        )
        await streamed(agent, PROMPT)
        await streamed(agent, PROMPT)
        with pytest.raises(RuntimeError):
            await streamed(agent, PROMPT)
    first, second, third = [id_of(span) for span in spans.named("invoke_agent")]

    assert len({first, second, third}) == 3
    assert [message.get("trace_id") for message in sessions.messages()] == [
        *(None, first, None, first),
        *(None, second),
        None,
    ]
    assert [error["trace_id"] for error in sessions.document()["errors"]] == [third]


async def test_it_is_read_after_a_restart_and_kept_by_forks_and_seals(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        await streamed(agent, PROMPT)
        await converse(manager, agent, range(40))
    (turn,) = spans.named("invoke_agent")
    stored = sessions.raw.find_one({"_id": SESSION_ID})
    assert stored is not None
    assert stored["agents"][AGENT_ID]["messages"][0]["message_id"] > 1  # the answer is in a segment
    otel.uninstrument()

    async with sessions.manager() as manager:
        make_agent(manager)
        read = [await manager.get_trace_id(AGENT_ID, number) for number in range(3)]
        await manager.fork("fork")
        forked = await manager.repository.get_trace_id("fork", AGENT_ID, 1)
        with pytest.raises(MessageNotFoundError):
            await manager.get_trace_id(AGENT_ID, 99)
        with pytest.raises(SessionNotFoundError):
            await manager.repository.get_trace_id("no-such", AGENT_ID, 1)

    assert (read, forked) == ([None, id_of(turn), None], id_of(turn))


async def test_changing_an_answer_keeps_it(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), PROMPT)
        (turn,) = spans.named("invoke_agent")
        answer = await manager.repository.read_message(SESSION_ID, AGENT_ID, 1)
        assert answer is not None
        answer.message["content"] = [{"text": "Hi!"}]
        await manager.repository.update_message(SESSION_ID, AGENT_ID, answer)

    assert sessions.messages()[-1]["trace_id"] == id_of(turn)
    assert sessions.texts()[-1] == "Hi!"


async def test_what_another_tool_calls_a_trace_id_is_set_aside(sessions: Sessions) -> None:
    said = {"message_id": 0, "role": "assistant", "content": [{"text": "a"}], "trace_id": {"of": "another"}}
    older = {"_id": SESSION_ID, "session_id": SESSION_ID, "agents": {AGENT_ID: {"messages": [said]}}}
    sessions.raw.insert_one(older)
    async with sessions.manager() as manager:
        await manager.update_metadata({"a": 1})
        assert await manager.get_trace_id(AGENT_ID, 0) is None

    (message,) = sessions.messages()
    assert ("trace_id" in message, message["legacy"]["trace_id"]) == (False, {"of": "another"})


def test_the_synchronous_manager_stores_it(
    spans: Spans, sessions: Sessions, open_sync: Callable[..., MongoDBSessionManager]
) -> None:
    manager = open_sync()
    make_agent(manager, "Hello!")(PROMPT)
    manager.close()
    (turn,) = spans.named("invoke_agent")

    assert [message.get("trace_id") for message in sessions.messages()] == [None, id_of(turn)]
    assert open_sync().get_trace_id(AGENT_ID, 1) == id_of(turn)


async def test_a_turn_inside_a_request_names_the_requests_trace(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        with spans.tracer.start_as_current_span("request"):
            await streamed(make_agent(manager, "Hello!"), PROMPT)
    (request,) = spans.named("request")

    assert sessions.messages()[-1]["trace_id"] == id_of(request)


async def test_a_reader_that_leaves_early_does_not_lose_it(spans: Spans, sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        events = make_agent(manager, "Hello!").stream_async(PROMPT)
        async for event in events:
            if "message" in event:
                break
        # In another context than the turn's.
        await asyncio.create_task(events.aclose())  # type: ignore[attr-defined]
    (turn,) = spans.named("invoke_agent")

    assert sessions.messages()[-1]["trace_id"] == id_of(turn)


async def test_a_trace_that_is_not_sampled_is_not_named(spans: Spans, sessions: Sessions) -> None:
    spans.stop_sampling()
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), PROMPT)

    assert ["trace_id" in message for message in sessions.messages()] == [False, False]
    assert spans.all() == []
