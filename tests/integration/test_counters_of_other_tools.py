"""A counter that another tool changed so that it cannot be raised fails no write: it begins again."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from bson.int64 import Int64
from strands.types.session import SessionMessage

from mongodb_session_manager import AsyncMongoDBSessionRepository
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions, texts_of
from tests.support.agents import AGENT_ID, make_agent

LARGEST = Int64(2**63 - 1)
USAGE = f"agents.{AGENT_ID}.usage"


@pytest.mark.parametrize(
    ("path", "stored", "after"),
    [
        ("summary.usage.totalTokens", LARGEST, 15),
        ("summary.usage.totalTokens", Int64(2**63 - 15), 15),
        ("summary.usage.totalTokens", "many", 15),
        ("summary.usage.totalTokens", None, 15),
        (
            "summary.usage",
            7,
            {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "latencyMs": 20, "modelCalls": 1},
        ),
        ("summary.messages", LARGEST, 2),
        ("summary.feedbacks", [1], 1),
        ("summary.ratings.up", {"a": 1}, 1),
        ("summary.ratings", False, {"up": 1}),
        ("summary", None, None),
        (f"{USAGE}.totalTokens", LARGEST, 15),
        (f"{USAGE}.totalTokens", {"$ne": 1}, 15),
        (USAGE, "x", {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "latencyMs": 20, "modelCalls": 1}),
        ("revision", LARGEST, None),
        ("live_bytes", LARGEST, None),
        ("metadata_bytes", LARGEST, None),
    ],
)
async def test_it_begins_again_and_everything_is_stored(
    sessions: Sessions, caplog: pytest.LogCaptureFixture, path: str, stored: Any, after: Any
) -> None:
    async with sessions.manager() as manager:
        await make_agent(manager, "Hello.").invoke_async("Hi.")
    sessions.raw.update_one({}, {"$set": {path: stored}})

    with caplog.at_level(logging.WARNING):
        async with sessions.manager() as manager:
            await make_agent(manager, "Goodbye.").invoke_async("Bye.")
            await manager.add_feedback({"rating": "up"})
            await manager.update_metadata({"later": 1})

    document = sessions.raw.find_one({})
    assert document is not None
    assert texts_of(document["agents"][AGENT_ID]["messages"]) == ["Hi.", "Hello.", "Bye.", "Goodbye."]
    assert (len(document["feedbacks"]), document["metadata"]) == (1, {"later": 1})
    found: Any = document
    for name in path.split("."):
        found = found[name]
    assert after is None or found == after
    told = [record.getMessage() for record in caplog.records if "begun again" in record.getMessage()]
    assert len(told) <= 1
    assert all(f"field=<{path}>" in line and "many" not in line for line in told)


async def test_a_forks_totals_fit_into_the_database(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for agent_id in ("one", "two"):
            await make_agent(manager, "Hello.", agent_id=agent_id).invoke_async("Hi.")
        for agent_id in ("one", "two"):
            sessions.raw.update_one({}, {"$set": {f"agents.{agent_id}.usage.totalTokens": LARGEST}})
            usage = {"inputTokens": LARGEST, "outputTokens": 1, "totalTokens": LARGEST}
            sessions.raw.update_one({}, {"$set": {f"agents.{agent_id}.messages.1.metadata": {"usage": usage}}})

        await manager.fork("whole")
        await manager.fork("cut", up_to_message=1, agent_id="two")

    for fork in ("whole", "cut"):
        document = sessions.raw.find_one({"_id": fork})
        assert document is not None
        assert document["summary"]["usage"].get("totalTokens", 0) < 2**53


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


def older_agent(agent_id: str) -> Document:
    """Return an agent of an older tool that used more than one message may report."""
    counts = (2**53, 2**52, 2**51)
    messages = [
        {
            "message_id": number,
            "role": "assistant",
            "content": [{"text": "Hello."}],
            "event_loop_metrics": {"accumulated_usage": {"inputTokens": count}},
        }
        for number, count in enumerate(counts)
    ]
    return {"agent_data": {"agent_id": agent_id}, "messages": messages}


@pytest.mark.parametrize("agent_id", [AGENT_ID, "sales.eu"])
@pytest.mark.parametrize("whole", [True, False])
async def test_what_is_counted_of_an_older_agent_is_what_its_deletion_takes_away(
    sessions: Sessions, agent_id: str, whole: bool
) -> None:
    if whole:
        sessions.raw.insert_one({"_id": SESSION_ID, "session_id": SESSION_ID, "agents": {}})
    else:
        async with sessions.manager() as manager:
            await make_agent(manager, "Hello.", agent_id="ours").invoke_async("Hi.")
    before = 0 if whole else 10
    sessions.raw.update_one({}, {"$set": {f"agents.{agent_id}": older_agent(agent_id)}})

    async with repository_of(sessions) as repository:
        await repository.create_message(
            SESSION_ID, agent_id, SessionMessage({"role": "user", "content": [{"text": "Hi."}]}, 3)
        )
        document = sessions.raw.find_one({}) or {}
        assert document["summary"]["usage"]["inputTokens"] == before + 2**53 + 2**52 + 2**51
        assert await repository.delete_agent(SESSION_ID, agent_id)

    document = sessions.raw.find_one({}) or {}
    assert document["summary"]["usage"].get("inputTokens", 0) == before


@pytest.mark.parametrize("name", ["a.b", ".", "$x", "", "tools", "100%", "tools.calculator"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_count_whose_name_is_that_of_no_field_is_left_out(sessions: Sessions, name: str, whole: bool) -> None:
    if whole:
        sessions.raw.insert_one({"_id": SESSION_ID, "session_id": SESSION_ID, "agents": {}})
    else:
        async with sessions.manager() as manager:
            await manager.update_metadata({"x": 1})
    older = older_agent(AGENT_ID)
    metrics = older["messages"][0]["event_loop_metrics"]
    metrics["accumulated_usage"] = {name: 5, "inputTokens": 3}
    metrics["tool_usage"] = {"calculator": {"call_count": 1}}
    older["messages"] = older["messages"][:1]
    sessions.raw.update_one({}, [{"$set": {f"agents.{AGENT_ID}": {"$literal": older}}}])

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, "cut", up_to_message=0, agent_id=AGENT_ID)
        for session_id in (SESSION_ID, "cut"):
            message = SessionMessage({"role": "user", "content": [{"text": "Hi."}]}, 1)
            await repository.create_message(session_id, AGENT_ID, message)
            summary = await repository.get_metrics_summary(session_id)
            assert (summary["tokens"]["input"], summary["tool_calls"]["calculator"]["call_count"]) == (3, 1)
            assert await repository.delete_agent(session_id, AGENT_ID)

    for document in sessions.raw.find():
        assert document["summary"]["usage"] == {"inputTokens": 0}


@pytest.mark.parametrize("total", [math.nan, math.inf, True, "many", None, 2**63 - 1])
async def test_what_is_no_total_leaves_the_sessions_total_as_it_is(sessions: Sessions, total: Any) -> None:
    async with sessions.manager() as manager:
        for agent_id in (AGENT_ID, "other"):
            await make_agent(manager, "Hello.", agent_id=agent_id).invoke_async("Hi.")
    sessions.raw.update_one({}, {"$set": {f"{USAGE}.inputTokens": total}})

    async with repository_of(sessions) as repository:
        assert await repository.delete_agent(SESSION_ID, AGENT_ID)

    document = sessions.raw.find_one({}) or {}
    assert document["summary"]["usage"]["inputTokens"] == 20


@pytest.mark.parametrize("usage", [None, "many", 5, [], {}, {"$ne": 1}])
async def test_an_agent_whose_totals_are_odd_is_deleted(sessions: Sessions, usage: Any) -> None:
    async with sessions.manager() as manager:
        await make_agent(manager, "Hello.").invoke_async("Hi.")
    sessions.raw.update_one({}, [{"$set": {USAGE: {"$literal": usage}}}])

    async with repository_of(sessions) as repository:
        assert await repository.delete_agent(SESSION_ID, AGENT_ID)
        assert await repository.list_agents(SESSION_ID) == []
