"""Sessions by what a list shows of them: ratings, failed turns, agents, ranges, and in another order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import AsyncMongoDBSessionRepository, index_specs
from mongodb_session_manager.viewer import conditions
from mongodb_session_manager.viewer.conditions import OlderDocuments
from tests.apps.viewer.conftest import SEARCH, OpenViewer, Viewer
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S, eventually

Document = dict[str, Any]


def summed(session_id: str, *, hour: int = 0, **summary: Any) -> Document:
    """Return a session as it is written today, with what its summary says."""
    document = session(session_id, created=START + timedelta(hours=hour), agents={"a": []})
    document["title"] = f"About {session_id}"
    usage = {"totalTokens": summary.pop("tokens")} if "tokens" in summary else {}
    ratings = {"up": 0, "down": 0, "other": 0} | summary.pop("ratings", {})
    document["summary"] |= {"ratings": ratings, "feedbacks": sum(ratings.values()), "errors": 0, "usage": usage}
    document["summary"] |= summary
    return document


def older(session_id: str, *, feedbacks: list[Document], hour: int = 0, **fields: Any) -> Document:
    """Return a session as another tool wrote it: no summary, no title."""
    return {
        "_id": session_id,
        "created_at": START + timedelta(hours=hour),
        "agents": {"a": {"agent_data": {"agent_id": "a"}, "messages": []}},
        "feedbacks": feedbacks,
        **fields,
    }


@pytest.mark.parametrize("is_large", [False, True])
async def test_ratings_find_sessions_old_and_new(
    open_viewer: OpenViewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    monkeypatch.setattr(conditions, "SMALL", 0 if is_large else 1000)
    sessions.raw.insert_many(
        [
            older("old-up", feedbacks=[{"rating": "up"}, {"rating": "down"}], hour=1),
            older("old-other", feedbacks=[{"rating": 4}], hour=2),
            older("old-none", feedbacks=[], hour=3),
            summed("up", ratings={"up": 2}, hour=4),
            summed("down", ratings={"down": 1}, hour=5),
            summed("other", ratings={"other": 1}, hour=6),
            summed("none", hour=7),
        ]
    )

    async with open_viewer() as viewer:
        assert await viewer.found(rating="up") == ["up", "old-up"]
        assert await viewer.found(rating="down") == ["down", "old-up"]
        assert await viewer.found(rating="any") == ["other", "down", "up", "old-other", "old-up"]
        assert "rating" in await viewer.problem(SEARCH, rating="sideways")


async def test_a_large_collection_is_looked_through_for_older_documents_beside_the_searches(
    sessions: Sessions, mongo_client: MongoClient[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "SMALL", 0)
    monkeypatch.setattr(conditions, "_FRESH_S", 0.0)
    sessions.raw.insert_many([summed("up", ratings={"up": 2}), summed("none")])
    async with AsyncMongoClient[Document](sessions.uri, appname=sessions.database_name) as client:
        older = OlderDocuments(client[sessions.database_name][COLLECTION])
        assert not await older.may_exist()
        slow = {
            "failCommands": ["find"],
            "blockConnection": True,
            "blockTimeMS": 60_000,
            "appName": sessions.database_name,
        }
        with fail_point(mongo_client, "alwaysOn", slow):
            # The next look has begun and does not end; what is known serves meanwhile.
            async with asyncio.timeout(WAIT_S):
                assert not await older.may_exist()
                assert not await older.may_exist()
                await older.close()
        sessions.raw.insert_one({"_id": "old", "feedbacks": [{"rating": "up"}]})
        await eventually(older.may_exist, "the older document was found")
        await older.close()


async def test_failed_turns_find_sessions_and_those_without(viewer: Viewer, sessions: Sessions) -> None:
    failure = {"timestamp": START, "agent_id": "a", "error": "ModelThrottledException"}
    sessions.raw.insert_many(
        [
            summed("failed", errors=3, hour=3),
            summed("fine", hour=2),
            older("old-failed", feedbacks=[], hour=1, errors=[failure]),
            older("old-fine", feedbacks=[]),
        ]
    )

    assert await viewer.found(failed=True) == ["failed", "old-failed"]
    assert await viewer.found(failed=False) == ["fine", "old-fine"]


async def test_conditions_hold_together(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many(
        [
            summed("x-1", ratings={"up": 1}, errors=1),
            summed("x-2", ratings={"up": 1}),
            summed("y-1", ratings={"up": 1}, errors=1),
            older("x-3", feedbacks=[{"rating": "up"}], errors=[{"error": "E"}]),
        ]
    )

    assert sorted(await viewer.found(rating="up", failed=True, session_id="x-", agent="a")) == ["x-1", "x-3"]


@pytest.mark.parametrize("agent_id", ["support", "sales.eu", "100%", "$odd", "", "a b"])
async def test_agents_find_sessions_whatever_they_are_called(viewer: Viewer, sessions: Sessions, agent_id: str) -> None:
    sessions.raw.insert_one(session("with", agents={agent_id: [message("user", "hello")], "other": []}))
    sessions.raw.insert_one(session("without", agents={"other": []}))

    expected = ["with"] if agent_id else ["without", "with"]
    assert sorted(await viewer.found(agent=agent_id)) == sorted(expected)


async def test_agents_that_older_tools_nested_by_their_dots_are_found(viewer: Viewer, sessions: Sessions) -> None:
    agent = {"agent_data": {"agent_id": "sales.eu"}, "messages": []}
    sessions.raw.insert_one({"_id": "nested", "agents": {"sales": {"eu": agent}}})
    sessions.raw.insert_one({"_id": "raw", "agents": {"100%": {"agent_data": {"agent_id": "100%"}, "messages": []}}})

    assert await viewer.found(agent="sales.eu") == ["nested"]
    assert await viewer.found(agent="100%") == ["raw"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created", ["none", "c", "b", "a", "odd"]),
        ("updated", ["a", "none", "c", "b", "odd"]),
        ("messages", ["b", "c", "a", "none", "odd"]),
        ("tokens", ["c", "b", "a", "odd", "none"]),
    ],
)
async def test_pages_follow_each_order_to_its_end(
    viewer: Viewer, sessions: Sessions, sort: str, expected: list[str]
) -> None:
    documents = [
        summed("a", hour=1, messages=2, tokens=10) | {"updated_at": START + timedelta(hours=9)},
        summed("b", hour=2, messages=9, tokens=20),
        summed("c", hour=3, messages=9, tokens=20.5),
        summed("none", hour=4),
        {"_id": "odd", "created_at": 3},
    ]
    sessions.raw.insert_many(documents)
    if sort == "messages":
        expected = ["c", "b", "a", "none", "odd"]  # equal counts: the larger id first
    if sort == "tokens":
        expected = ["c", "b", "a", "odd", "none"]

    one_by_one: list[str] = []
    params: Document = {}
    for _ in range(10):
        page = await viewer.search(sort=sort, limit=1, **params)
        one_by_one += [entry["session_id"] for entry in page["sessions"]]
        if not page["has_more"]:
            break
        params = {"cursor": page["next_cursor"]}

    assert one_by_one == expected
    assert await viewer.found(sort=sort) == expected
    assert await viewer.found(sort=sort, offset=2) == expected[2:]


async def test_a_cursor_belongs_to_its_order(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many([summed("a", messages=1), summed("b", messages=2)])
    cursor = (await viewer.search(sort="messages", limit=1))["next_cursor"]

    assert "another order" in await viewer.problem(SEARCH, cursor=cursor)
    assert "another order" in await viewer.problem(SEARCH, sort="tokens", cursor=cursor)
    assert "sort" in await viewer.problem(SEARCH, sort="shoe size")


@pytest.fixture
async def measured(viewer: Viewer, sessions: Sessions) -> Viewer:
    """A viewer of ten sessions with numbers, dates and words."""
    sessions.raw.create_indexes(index_specs(["score", "due", "word", "vip"]))
    sessions.raw.insert_many(
        session(
            f"s-{number}",
            created=START + timedelta(hours=number),
            metadata={
                "score": number / 2,
                "due": START + timedelta(days=number),
                "word": "abcdefghij"[number],
                "vip": True,
            },
        )
        for number in range(10)
    )
    return viewer


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"score": {"min": 1, "max": 2}}, ["s-4", "s-3", "s-2"]),
        ({"metadata.score": {"min": 4}}, ["s-9", "s-8"]),
        ({"score": {"max": 0.4}}, ["s-0"]),
        ({"due": {"min": "2026-03-09", "max": "2026-03-10"}}, ["s-9", "s-8"]),
        ({"due": {"max": "2026-03-01T12:00:00Z"}}, ["s-0"]),
        ({"word": {"min": "i"}}, ["s-9", "s-8"]),
        ({"score": {"min": 1, "max": 4}, "word": {"max": "d"}}, ["s-3", "s-2"]),
    ],
)
async def test_ranges_include_their_limits(measured: Viewer, filters: Mapping[str, Any], expected: list[str]) -> None:
    assert await measured.found(filters=dict(filters)) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"score": {}},
        {"score": {"min": None}},
        {"score": {"min": "high"}},
        {"score": {"min": True}},
        {"score": {"min": {"$gt": 1}}},
        {"score": {"min": 1, "$where": "1"}},
        {"score": {"$gt": 1}},
        {"due": {"min": "someday"}},
        {"secret": {"min": 1}},
    ],
)
async def test_ranges_are_plain_values_of_the_fields_kind(measured: Viewer, filters: Mapping[str, Any]) -> None:
    problem = await measured.problem(SEARCH, filters=json.dumps(filters))

    assert "invalid filters" in problem or "filters" in problem


async def test_older_documents_are_titled_and_counted_when_they_are_listed(viewer: Viewer, sessions: Sessions) -> None:
    long = "Where   is\nmy order? " + "Please. " * 40
    sessions.raw.insert_one(
        {
            "_id": "old",
            "created_at": START,
            "agents": {
                "a": {
                    "agent_data": {"agent_id": "a"},
                    "messages": [
                        {"message_id": 0, "message": {"role": "assistant", "content": [{"text": "Hello"}]}},
                        {"message_id": 1, "message": {"role": "user", "content": [{"toolResult": {}}]}},
                        {"message_id": 2, "message": {"role": "user", "content": long}},
                    ],
                }
            },
            "feedbacks": [{"rating": "up"}, {"rating": "down"}, {"rating": "down"}, {"rating": 3}, "odd"],
        }
    )
    redacted = message("user", "my card is 4111", redact_message={"role": "user", "content": [{"text": "[removed]"}]})
    sessions.raw.insert_one(session("redacted", agents={"a": [redacted]}))

    found = {entry["session_id"]: entry for entry in (await viewer.search())["sessions"]}

    assert found["old"]["title"].startswith("Where is my order? Please. Please.")
    assert len(found["old"]["title"]) == 120
    assert found["old"]["title"].endswith("…")
    assert found["old"]["ratings"] == {"up": 1, "down": 2, "other": 2}
    assert found["old"]["errors_count"] == 0
    counts = [found["old"][f"{name}_count"] for name in ("agents", "messages", "feedbacks")]
    assert counts == [1, 3, 5]
    assert found["redacted"]["title"] == "[removed]"


async def test_what_stands_in_segments_is_titled_and_counted_too(viewer: Viewer, sessions: Sessions) -> None:
    document = session("long", agents={"a": [message("user", "a later question")]})
    document["agents"]["a"] |= {"archived_count": 2, "archive": {"id": "x", "token": "t"}}
    document["feedbacks_sealed"] = {"archived_count": 1, "archive": {"token": "t"}}
    sessions.raw.insert_one(document)
    common = {"session_id": "long", "incarnation": document["incarnation"], "committed": True}
    of_agent = {**common, "list": "messages", "agent": "a", "archive": "x", "start": 0}
    sessions.raw.database[f"{sessions.raw.name}_segments"].insert_many(
        [
            {**of_agent, "items": [message("user", "the first question")]},
            {**of_agent, "archive": "deleted", "items": [message("user", "of an earlier agent of that id")]},
            {**common, "list": "feedbacks", "start": 0, "items": [{"rating": "down"}], "token": "t"},
            {**common, "list": "feedbacks", "start": 0, "items": [{"rating": "up"}], "token": "u", "committed": False},
            {**common, "list": "feedbacks", "start": 1, "items": [{"rating": "up"}], "incarnation": "another"},
        ]
    )

    (entry,) = (await viewer.search())["sessions"]

    assert entry["title"] == "the first question"
    assert entry["ratings"] == {"up": 0, "down": 1, "other": 0}


async def test_library_and_viewer_count_a_document_of_version_1_as_its_next_write_does(
    viewer: Viewer, sessions: Sessions
) -> None:
    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        await _check_counts_of_version_1(viewer, sessions, repository)


async def _check_counts_of_version_1(
    viewer: Viewer, sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    def stored() -> Document:
        return sessions.raw.find_one({"_id": "s"}) or {}

    await repository.create_session(Session(session_id="s", session_type=SessionType.AGENT))
    await repository.create_agent("s", SessionAgent(agent_id="a", state={}, conversation_manager_state={}))
    for number in range(6):
        said: Message = {"role": "user", "content": [{"text": f"question {number} " + "x" * 20_000}]}
        await repository.create_message("s", "a", SessionMessage.from_message(said, number))
    for number in range(30):
        rating = ("up", "down", "down", "so-so")[number % 4]
        await repository.add_feedback("s", {"rating": rating, "comment": "x" * 5_000})
    await eventually(lambda: bool(stored().get("feedbacks_sealed", {}).get("archived_count")))
    gone = {"title": "", "title_of": "", "errors": "", "summary.ratings": "", "summary.errors": ""}
    sessions.raw.update_one({"_id": "s"}, {"$set": {"schema_version": 1}, "$unset": gone})
    assert stored()["agents"]["a"]["archived_count"]

    async def listed() -> Document:
        entries: list[Document] = (await repository.list_sessions())["sessions"]
        return entries[0]

    names = ("title", "ratings", "agents_count", "messages_count", "feedbacks_count", "errors_count")
    before = await listed()
    (seen,) = (await viewer.search())["sessions"]
    await repository.update_metadata("s", {"a": 1})
    after = await listed()

    assert stored()["schema_version"] == 2
    assert before["ratings"] == {"up": 8, "down": 15, "other": 7}
    assert before["title"].startswith("question 0 xxx")
    assert [before[name] for name in names] == [seen[name] for name in names] == [after[name] for name in names]


async def test_a_part_of_the_ratings_is_never_shown_as_all(viewer: Viewer, sessions: Sessions) -> None:
    document = session("s", agents={"a": []})
    document |= {"feedbacks": [{"rating": "up"}], "feedbacks_sealed": {"archived_count": 3}}
    sessions.raw.insert_one(document)

    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        (entry,) = (await repository.list_sessions())["sessions"]
    (seen,) = (await viewer.search())["sessions"]

    assert entry["ratings"] is None
    assert not any((seen["ratings"] or {}).values())


async def test_what_is_stored_as_title_and_counts_is_shown(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(summed("s", ratings={"up": 1, "down": 2, "other": 3}, errors=4) | {"title": "  A\n title "})

    (entry,) = (await viewer.search())["sessions"]

    assert entry["title"] == "A title"
    assert entry["ratings"] == {"up": 1, "down": 2, "other": 3}
    assert entry["errors_count"] == 4
