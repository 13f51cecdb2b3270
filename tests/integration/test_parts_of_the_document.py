"""Titles, counts of ratings, failed turns, and documents of other versions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mongodb_session_manager import AsyncMongoDBSessionRepository, SessionStoreError
from mongodb_session_manager.schema.fields import FIELDS
from mongodb_session_manager.schema.sessions import SCHEMA_VERSION
from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.support.agents import make_agent, streamed
from tests.support.models import blocked, texts
from tests.support.resume import resume


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(
        sessions.uri, database_name=sessions.database_name, collection_name=COLLECTION, **sessions.client_options()
    )


async def listed(sessions: Sessions) -> Document:
    """Return what a list shows of the only session."""
    async with repository_of(sessions) as repository:
        [session] = (await repository.list_sessions())["sessions"]
        return dict(session)


async def test_every_field_of_a_document_stands_in_the_table_of_fields(sessions: Sessions) -> None:
    async with sessions.manager(ttl=3600, application_name="shop") as manager:
        agent = make_agent(manager, blocked(user="[redacted]"), "ok", RuntimeError("away"))
        await streamed(agent, "my secret")
        await manager.update_metadata({"tier": "gold"})
        await manager.add_feedback({"rating": "up"}, idempotency_key="k-1")
        async with manager.turn():
            await streamed(agent, "And tea?")
            stored = sessions.document()
        with pytest.raises(RuntimeError):
            await streamed(agent, "And coffee?")
        await manager.fork("s-2")
    forked = sessions.raw.find_one({"_id": "s-2"}) or {}

    names = {field.name for field in FIELDS}
    assert {"lease", "last_lease"} <= stored.keys() <= names
    assert sessions.document().keys() <= names
    assert forked.keys() <= names
    assert not forked.keys() & {"lease", "last_lease"}


async def test_the_title_is_the_first_thing_that_a_person_said(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        first, second = (make_agent(manager, "ok", "ok", agent_id=name) for name in ("z", "a"))
        await streamed(first, "  What is\n\ntea?  ")
        await streamed(second, "And coffee?")
        await streamed(first, "x" * 500)

    assert (await listed(sessions))["title"] == "What is tea?"


async def test_a_title_is_one_line_of_120_characters(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "ok"), "word " * 100)

    title = sessions.document()["title"]
    assert len(title) <= 120
    assert title.startswith("word word")


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_redacted_message_is_no_title(sessions: Sessions, flush_on: FlushOn) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, blocked(user="[redacted]"), "ok")
        await streamed(agent, "my secret")
        await streamed(agent, "And tea?")

    assert "my secret" not in str(sessions.document())
    assert sessions.document()["title"] == "[redacted]"


async def test_a_title_that_went_with_its_agent_is_given_anew_by_a_live_writer(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        first = make_agent(manager, "Green.", agent_id="first")
        second = make_agent(manager, "One.", "Two.", agent_id="second")
        await streamed(first, "What is tea?")
        await streamed(second, "Hello.")
        await manager.flush()
        async with sessions.manager() as other:
            await other.repository.delete_agent(SESSION_ID, "first")
        assert sessions.document().get("title") is None

        await streamed(second, "What is coffee?")

    assert sessions.document()["title"] == "What is coffee?"


async def test_a_title_that_was_given_stays(sessions: Sessions) -> None:
    async with sessions.manager() as manager, repository_of(sessions) as repository:
        agent = make_agent(manager, "ok", blocked(user="[redacted]"))
        await streamed(agent, "Hi.")
        await repository.rename_session(SESSION_ID, "Tea with Ada")
        await streamed(agent, "my secret")

    assert (await listed(sessions))["title"] == "Tea with Ada"


async def test_ratings_are_counted(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for rating in ("up", "down", "up", "sideways", None, 5):
            await manager.add_feedback({"rating": rating})
        await manager.add_feedback({"comment": "no rating"})

    assert (await listed(sessions))["ratings"] == {"up": 2, "down": 1, "other": 4}


class SecretError(Exception):
    """An error whose text must not be stored."""


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_failed_turn_leaves_the_class_of_its_error(sessions: Sessions, flush_on: FlushOn) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, SecretError("the text"), ValueError("the text"), "ok")
        with pytest.raises(SecretError):
            await streamed(agent, "one")
        with pytest.raises(ValueError, match="the text"):
            await agent.invoke_async("two")
        await streamed(agent, "three")

    document = sessions.document()
    assert [(e["agent_id"], e["error"]) for e in document["errors"]] == [
        ("assistant", "SecretError"),
        ("assistant", "ValueError"),
    ]
    assert all(set(entry) == {"timestamp", "agent_id", "error"} for entry in document["errors"])
    assert "the text" not in str(document)
    assert (await listed(sessions))["errors_count"] == 2


async def test_the_last_hundred_failed_turns_are_kept_and_all_counted(sessions: Sessions) -> None:
    async with sessions.manager(flush_on="invocation") as manager:
        agent = make_agent(manager, *[SecretError("x")] * 3, *[ValueError("x")] * 100)
        for number in range(103):
            with pytest.raises((SecretError, ValueError)):
                await agent.invoke_async(f"{number}")

    document = sessions.document()
    assert [entry["error"] for entry in document["errors"]] == ["ValueError"] * 100
    assert document["summary"]["errors"] == 103


async def test_a_cancelled_turn_is_no_failed_one(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!", "Hello!")
        stream = agent.stream_async("Hi.")
        async for event in stream:
            if "data" in event:
                break
        await stream.aclose()  # type: ignore[attr-defined]

        begun = asyncio.Event()

        async def read() -> None:
            async for event in agent.stream_async("Hi."):
                if "data" in event:
                    begun.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])

    assert sessions.document()["errors"] == []
    assert (await listed(sessions))["errors_count"] == 0


async def a_session(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), "Hi.")
        await manager.add_feedback({"rating": "up"})
        await manager.add_feedback({"rating": "bad"})


AS_VERSION_1 = {
    "$set": {"schema_version": 1},
    "$unset": {"title": "", "title_of": "", "errors": "", "summary.ratings": "", "summary.errors": ""},
}
HALF_OURS = {"$unset": {"incarnation": "", "applied": ""}}
OLDER = {
    "$unset": dict.fromkeys(
        ("schema_version", "incarnation", "applied", "title", "title_of", "errors", "summary", "live_bytes"), ""
    )
}
CHANGES = [
    pytest.param(AS_VERSION_1, id="version_1"),
    pytest.param(HALF_OURS, id="half_ours"),
    pytest.param(OLDER, id="older_tool"),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_document_of_an_older_form_is_listed_in_full(sessions: Sessions, change: Document) -> None:
    await a_session(sessions)
    sessions.raw.update_one({"_id": SESSION_ID}, change)
    before = sessions.raw.find_one({"_id": SESSION_ID})

    shown = await listed(sessions)

    names = ("title", "agents_count", "messages_count", "feedbacks_count", "ratings", "errors_count")
    assert {name: shown[name] for name in names} == {
        "title": "Hi.",
        "agents_count": 1,
        "messages_count": 2,
        "feedbacks_count": 2,
        "ratings": {"up": 1, "down": 0, "other": 1},
        "errors_count": 0,
    }
    assert sessions.raw.find_one({"_id": SESSION_ID}) == before


@pytest.mark.parametrize("change", CHANGES)
async def test_a_document_of_an_older_form_resumes_and_becomes_todays(sessions: Sessions, change: Document) -> None:
    await a_session(sessions)
    sessions.raw.update_one({"_id": SESSION_ID}, change)

    async with sessions.manager() as manager:
        agent = make_agent(manager, "Fine.")
        assert texts(agent.messages) == ["Hi.", "Hello!"]
        await streamed(agent, "And you?")

    document = sessions.document()
    assert document["schema_version"] == SCHEMA_VERSION
    assert isinstance(document["incarnation"], str)
    assert document["title"] == "Hi."
    assert document["summary"]["messages"] == 4
    assert document["summary"]["ratings"] == {"up": 1, "down": 0, "other": 1}
    assert document["summary"]["errors"] == 0
    assert texts((await resume(sessions)).messages) == ["Hi.", "Hello!", "And you?", "Fine."]


NEWER = f"knows {SCHEMA_VERSION} at most; use the version that wrote it"


async def test_a_document_of_a_newer_schema_is_refused_on_open(sessions: Sessions) -> None:
    await a_session(sessions)
    sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"schema_version": SCHEMA_VERSION + 1}})
    before = sessions.raw.find_one({"_id": SESSION_ID})

    with pytest.raises(SessionStoreError, match=NEWER):
        await sessions.manager().open()

    assert sessions.raw.find_one({"_id": SESSION_ID}) == before


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("read_agent", ["assistant"]),
        ("list_agents", []),
        ("get_agent_config", ["assistant"]),
        ("update_agent_config", ["assistant", "m"]),
        ("list_messages", ["assistant"]),
        ("read_message", ["assistant", 0]),
        ("update_metadata", [{"topic": "tea"}]),
        ("delete_metadata", [["topic"]]),
        ("add_feedback", [{"rating": "up"}]),
        ("rename_session", ["Tea"]),
        ("repair_session", [False]),
    ],
)
async def test_a_document_of_a_newer_schema_is_refused_by_repositories(
    sessions: Sessions, method: str, arguments: list[Any]
) -> None:
    await a_session(sessions)
    sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"schema_version": SCHEMA_VERSION + 1}})
    before = sessions.raw.find_one({"_id": SESSION_ID})

    async with repository_of(sessions) as repository:
        with pytest.raises(SessionStoreError, match=NEWER):
            await getattr(repository, method)(SESSION_ID, *arguments)
        assert (await repository.list_sessions())["sessions"][0]["session_id"] == SESSION_ID
        assert await repository.count_sessions() == 1

    assert sessions.raw.find_one({"_id": SESSION_ID}) == before


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_who_has_a_session_open_writes_nothing_into_a_form_that_is_newer_by_now(
    sessions: Sessions, flush_on: FlushOn
) -> None:
    """As while processes are brought up to a newer version of the library, one after the other."""
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "Hello!", "Fine.")
        await streamed(live, "Hi.")
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"schema_version": SCHEMA_VERSION + 1}})
        before = sessions.raw.find_one({"_id": SESSION_ID})

        with pytest.raises(SessionStoreError, match=NEWER):
            await streamed(live, "How are you?")
        for refused in (manager.update_metadata({"topic": "tea"}), manager.add_feedback({"rating": "up"})):
            with pytest.raises(SessionStoreError, match=NEWER):
                await refused

        assert sessions.raw.find_one({"_id": SESSION_ID}) == before
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"schema_version": SCHEMA_VERSION}})

    assert sessions.texts()[:3] == ["Hi.", "Hello!", "How are you?"], "what was refused is still pending"


async def test_personal_data_of_the_redacted_text_is_left_out_of_the_trace(sessions: Sessions) -> None:
    found = [{"type": "NAME", "match": name, "action": "BLOCKED", "detected": True} for name in ("Ada", "Charles")]
    trace = {"inputAssessment": {"g": {"sensitiveInformationPolicy": {"piiEntities": found}}}}
    async with sessions.manager() as manager:
        agent = make_agent(manager, "ok")
        await streamed(agent, "I am Ada.")
        manager.append_message({"role": "user", "content": [{"text": "Call me ADA, please."}]}, agent)
        redacted: Any = {"role": "user", "content": [{"text": "[redacted]"}]}
        manager.redact_latest_message(redacted, agent, guardrail_trace=trace)
        await manager.flush()

    event = sessions.messages()[-1]["guardrail_event"]
    kept = event["trace"]["inputAssessment"]["g"]["sensitiveInformationPolicy"]["piiEntities"]
    assert kept == [{name: value for name, value in found[0].items() if name != "match"}, found[1]]
    assert event["policies_triggered"] == {"sensitiveInformationPolicy": ["NAME/BLOCKED"]}
