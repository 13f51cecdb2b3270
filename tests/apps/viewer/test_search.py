from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from pymongo import MongoClient

from mongodb_session_manager import index_specs
from mongodb_session_manager.viewer import spans
from tests.apps.viewer.conftest import SEARCH, OpenViewer, Viewer
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Sessions

Document = dict[str, Any]

FIELDS = ["priority", "customer.tier", "score", "vip", "due", "mixed"]
DUE = datetime(2026, 4, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
async def filled(sessions: Sessions, open_viewer: OpenViewer) -> AsyncIterator[Viewer]:
    """A viewer of 60 sessions, one per hour."""
    sessions.raw.create_indexes(index_specs(FIELDS))
    sessions.raw.insert_many(
        session(
            f"Chat-{number:03}.{'xy'[number % 2]}",
            created=START + timedelta(hours=number),
            application_name=("shop", "desk")[number % 2],
            metadata={
                "priority": ("low", "high", "urgent")[number % 3],
                "customer": {"tier": "gold" if number < 5 else "basic"},
                "score": number if number % 2 else float(number),
                "vip": number == 7,
                "due": DUE + timedelta(days=number),
                "mixed": number if number % 2 else str(number),
                "secret": number,
            },
            agents={
                "a": [message("user", f"Where is {number}?"), message("assistant", "nobody may find this in a list")]
            },
        )
        for number in range(60)
    )
    async with open_viewer(enum_fields_str="priority, metadata.score", enum_max_values=10) as viewer:
        yield viewer


async def test_a_page_shows_the_newest_sessions_without_their_messages(filled: Viewer) -> None:
    page = await filled.search(limit=2)

    assert page == {
        "sessions": [
            {
                "session_id": "Chat-059.y",
                "title": "Where is 59?",
                "ratings": {"up": 0, "down": 0, "other": 0},
                "errors_count": 0,
                "application_name": "desk",
                "created_at": "2026-03-03T23:00:00.000Z",
                "updated_at": "2026-03-03T23:00:00.000Z",
                "metadata": {
                    "priority": "urgent",
                    "customer": {"tier": "basic"},
                    "score": 59,
                    "vip": False,
                    "due": "2026-05-31T09:30:00.000Z",
                    "mixed": 59,
                    "secret": 59,
                },
                "agents_count": 1,
                "messages_count": 2,
                "feedbacks_count": 0,
                "usage": {},
            },
            page["sessions"][1],
        ],
        "total": 60,
        "total_exact": True,
        "limit": 2,
        "offset": 0,
        "has_more": True,
        "next_cursor": page["next_cursor"],
    }
    assert "nobody may find" not in json.dumps(page)


@pytest.mark.parametrize("filters", [{}, {"priority": "low"}])
async def test_pages_by_cursor_and_by_offset_are_the_same(filled: Viewer, filters: Document) -> None:
    everything = await filled.found(limit=100, filters=filters)
    by_cursor: list[str] = []
    cursor: str | None = None
    while True:
        page = await filled.search(limit=7, filters=filters, **({"cursor": cursor} if cursor else {}))
        by_cursor += [entry["session_id"] for entry in page["sessions"]]
        assert page["total"] == len(everything)
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    by_offset = [
        session_id
        for offset in range(0, len(everything), 7)
        for session_id in await filled.found(limit=7, offset=offset, filters=filters)
    ]

    assert cursor is None
    assert by_cursor == by_offset == everything
    assert everything == sorted(everything, reverse=True)
    assert len(everything) == (20 if filters else 60)


async def test_an_offset_past_the_end_gives_an_empty_page_with_the_total(filled: Viewer) -> None:
    page = await filled.search(offset=1000)

    assert (page["sessions"], page["total"], page["has_more"], page["offset"]) == ([], 60, False, 1000)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"priority": "high"}, 20),
        ({"metadata.priority": "high"}, 20),
        ({"priority": "high", "customer.tier": "gold"}, 2),
        ({"score": 7}, 1),
        ({"score": 8}, 1),
        ({"score": 8.0}, 1),
        ({"score": "8"}, 0),
        ({"vip": True}, 1),
        ({"vip": 1}, 0),
        ({"due": "2026-04-03"}, 1),
        ({"due": "2026-04-03T09:30:00Z"}, 1),
        ({"due": "2026-04-03T09:30:01Z"}, 0),
        ({"application_name": "desk"}, 30),
        ({"priority": "$ne"}, 0),
        ({"priority": "lone \ud800"}, 0),
        ({"score": 10**30}, 0),
    ],
)
async def test_filters_match_values_of_their_own_type(filled: Viewer, filters: Document, count: int) -> None:
    assert (await filled.search(filters=filters))["total"] == count


async def test_part_of_an_id_is_found_whatever_its_case_and_taken_literally(filled: Viewer) -> None:
    assert await filled.found(session_id="chat-03", limit=3) == ["Chat-039.y", "Chat-038.x", "Chat-037.y"]
    assert await filled.found(session_id="7.Y", filters={"vip": True}) == ["Chat-007.y"]
    for pattern in (".*", "^Chat", "(", "[a-z]", "\\w", "a" * 1000):
        assert await filled.found(session_id=pattern) == []


async def test_a_bare_end_date_includes_its_day(filled: Viewer) -> None:
    assert (await filled.search(created_at_start="2026-03-02", created_at_end="2026-03-02"))["total"] == 24
    assert (await filled.search(created_at_end="2026-03-02T00:00:00Z"))["total"] == 13
    assert (await filled.search(created_at_start="2026-03-03T23:00:00+00:00"))["total"] == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"filters": '{"secret": 1}'}, "'secret' cannot be filtered by; fields with an index: application_name, cust"),
        ({"filters": '{"session_viewer_password": "x"}'}, "cannot be filtered by"),
        ({"filters": '{"metadata.application_name": "x"}'}, "cannot be filtered by"),
        ({"filters": '{"$where": "1"}'}, "'$where' cannot be filtered by"),
        ({"filters": '{"priority": {"$ne": "x"}}'}, "must be text, a number or true or false, not an object"),
        ({"filters": '{"priority": ["high"]}'}, "not a list"),
        ({"filters": '{"priority": null}'}, "not null"),
        ({"filters": '{"priority": "a", "metadata.priority": "b"}'}, "given twice"),
        ({"filters": '{"score": NaN}'}, "must be a JSON object"),
        ({"filters": '{"score": ' + "9" * 5000 + "}"}, "must be a JSON object"),
        ({"filters": "[" * 5000}, "must be a JSON object"),
        ({"filters": "high"}, "must be a JSON object"),
        ({"filters": '["priority"]'}, "must be a JSON object"),
        ({"filters": '{"due": "tomorrow"}'}, "must be a date"),
        ({"created_at_start": "yesterday"}, "created_at_start: it must be a date"),
        ({"created_at_end": "9999-12-31"}, "created_at_end: it must be a date"),
        ({"created_at_start": "2026-03-02T09:30"}, "created_at_start: '2026-03-02T09:30': a date with a time must say"),
        (
            {"created_at_end": "2026-03-02 09:30:00"},
            "created_at_end: '2026-03-02 09:30:00': a date with a time must say",
        ),
        (
            {"filters": '{"due": "2026-03-02T09:30"}'},
            "filters: '2026-03-02T09:30': a date with a time must say its zone",
        ),
        ({"filters": '{"due": {"min": "2026-03-02T09:30"}}'}, "filters: '2026-03-02T09:30': a date with a time must"),
        ({"limit": "0"}, "limit:"),
        ({"limit": "101"}, "limit: at most 100"),
        ({"offset": "-1"}, "offset:"),
        ({"cursor": "nonsense"}, "cursor: no page ended with it"),
        ({"cursor": "e30=", "offset": "5"}, "either a cursor or an offset"),
        ({"session_id": "a\x00b"}, "session_id: it must not hold a NUL"),
        ({"session_id": "x" * 1025}, "session_id:"),
    ],
)
async def test_bad_input_is_refused_with_what_is_wrong(filled: Viewer, params: Document, said: str) -> None:
    assert said in await filled.problem(SEARCH, **params)


async def test_fields_to_filter_by_are_those_with_an_index_and_know_their_type(filled: Viewer) -> None:
    assert (await filled.get("/api/v1/metadata-fields"))["fields"] == [
        {"field": "application_name", "type": "string", "values": None},
        {"field": "customer.tier", "type": "string", "values": None},
        {"field": "due", "type": "date", "values": None},
        {"field": "mixed", "type": "string", "values": None},
        {"field": "priority", "type": "enum", "values": ["high", "low", "urgent"]},
        {"field": "score", "type": "number", "values": None},
        {"field": "vip", "type": "boolean", "values": None},
    ]


async def test_a_collection_that_does_not_exist_has_no_sessions_and_no_fields(viewer: Viewer) -> None:
    assert (await viewer.search())["sessions"] == []
    assert (await viewer.get("/api/v1/metadata-fields"))["fields"] == []


async def test_answers_come_from_indexes_and_each_command_has_a_time_limit(
    filled: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    database = mongo_client[sessions.database_name]
    database.command("profile", 2)

    await filled.search(limit=5)
    await filled.search(limit=5, offset=30)
    cursor = (await filled.search(limit=5, filters={"priority": "low"}))["next_cursor"]
    await filled.search(limit=5, filters={"priority": "low"}, cursor=cursor)
    await filled.search(limit=5, session_id="Chat-03", created_at_start="2026-03-01")
    await filled.get("/api/v1/metadata-fields")
    await filled.get("/api/v1/sessions/Chat-001.y")
    await filled.get("/api/v1/sessions/Chat-001.y/usage")
    database.command("profile", 0)

    entries = list(database["system.profile"].find({"ns": f"{sessions.database_name}.{COLLECTION}"}))
    assert len(entries) > 10
    for entry in entries:
        command = entry["command"]
        if "listIndexes" in command or "profile" in command:
            continue
        assert command.get("maxTimeMS") or entry["op"] == "getmore", command
        assert "COLLSCAN" not in entry.get("planSummary", ""), command
        if "count" not in command and "distinct" not in command:
            # Pages read what they return, and one more.
            assert entry.get("docsExamined", 0) <= 20, command


async def test_sessions_of_other_tools_are_listed_as_what_they_are(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many(
        [
            {"_id": "dated as text", "created_at": "2026-03-05T10:00:00"},
            {"_id": "no date"},
            {"_id": "odd", "created_at": 5, "metadata": "text", "summary": [1], "application_name": 7},
            session("ours", created=START),
        ]
    )

    found = {entry["session_id"]: entry for entry in (await viewer.search())["sessions"]}
    one_by_one: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = await viewer.search(limit=1, **({"cursor": cursor} if cursor else {}))
        one_by_one += [entry["session_id"] for entry in page["sessions"]]
        cursor = page["next_cursor"]

    assert found["dated as text"]["created_at"] == "2026-03-05T10:00:00.000Z"
    assert found["no date"]["created_at"] is None
    assert found["odd"]["metadata"] == {"(not a document)": "text"}
    assert (found["odd"]["messages_count"], found["odd"]["application_name"]) == (0, None)
    assert sorted(one_by_one) == sorted(found)


async def pages_of(viewer: Viewer, **params: Any) -> list[str]:
    """Return what a search finds, page by page, each page by the cursor of the one before."""
    found: list[str] = []
    while True:
        page = await viewer.search(limit=4, **params)
        found += [entry["session_id"] for entry in page["sessions"]]
        params["cursor"] = page["next_cursor"]
        if not page["has_more"]:
            assert page["total"] == len(found)
            return found


@pytest.fixture
def many_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the viewer take any collection for one that is worth reading in spans."""
    monkeypatch.setattr(spans, "LEAST_SESSIONS", 1)


@pytest.mark.usefixtures("many_to_compare")
async def test_an_id_in_a_large_collection_is_looked_for_in_spans_of_the_index(
    filled: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    database = mongo_client[sessions.database_name]
    sessions.raw.insert_many(session(f"chat-tie-{number}.x", created=START) for number in range(9))
    sessions.raw.insert_many(
        [
            {"_id": "Chat dated as text.x", "created_at": "2026-03-05T10:00:00"},
            {"_id": "Chat without a date.x"},
            {"_id": "Chat of a far year.x", "created_at": DatetimeMS(10**15)},
            {"_id": "Chat numbered.x", "created_at": 5},
        ]
    )
    stored = sessions.raw.find({"_id": {"$regex": "x"}}, {"_id": 1}).sort([("created_at", -1), ("_id", -1)])
    newest_first = [document["_id"] for document in stored]

    database.command("profile", 2)
    first = await filled.found(session_id="X", limit=100)
    database.command("profile", 0)
    reads = list(database["system.profile"].find({"op": "query", "command.find": COLLECTION}))

    assert len(newest_first) == 30 + 9 + 4
    assert first == newest_first
    assert len(reads) == spans.SPANS
    assert {read["planSummary"] for read in reads} == {"IXSCAN { created_at: 1, _id: 1 }"}
    # The documents read are those that were found: all other keys were compared in the index.
    assert sum(read["docsExamined"] for read in reads) == len(newest_first)
    assert await pages_of(filled, session_id="X") == newest_first
    assert [
        session_id
        for offset in range(0, len(newest_first), 6)
        for session_id in await filled.found(session_id="X", limit=6, offset=offset)
    ] == newest_first


@pytest.mark.usefixtures("many_to_compare")
async def test_dates_bound_what_is_looked_for_in_spans(filled: Viewer) -> None:
    days = {"created_at_start": "2026-03-02", "created_at_end": "2026-03-02"}

    found = await pages_of(filled, session_id="chat", **days)

    assert found == await filled.found(limit=100, **days)
    assert len(found) == 24


@pytest.mark.usefixtures("many_to_compare")
async def test_an_id_is_found_without_the_index_of_dates_too(
    viewer: Viewer, sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    database = mongo_client[sessions.database_name]
    sessions.raw.insert_many(session(f"s-{number}", created=START + timedelta(hours=number)) for number in range(9))
    newest_first = [f"s-{number}" for number in reversed(range(9))]

    assert await viewer.found(session_id="S-", limit=100) == newest_first
    database.command("profile", 2)
    assert await viewer.found(session_id="S-", limit=100) == newest_first
    database.command("profile", 0)

    # That there is none was found out by the first search.
    assert database["system.profile"].count_documents({"command.find": COLLECTION}) == 1


@pytest.mark.usefixtures("many_to_compare")
async def test_an_id_is_found_where_sessions_cannot_be_sampled(
    filled: Viewer, mongo_client: MongoClient[Document]
) -> None:
    with fail_point(mongo_client, "alwaysOn", {"failCommands": ["aggregate"], "errorCode": 50}):
        assert await filled.found(session_id="chat-007") == ["Chat-007.y"]


async def test_paging_goes_on_after_a_date_outside_pythons_range(filled: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many({"_id": f"far-{number}", "created_at": DatetimeMS(10**15)} for number in range(3))

    everything = await filled.found(limit=100)

    assert await pages_of(filled) == everything
    assert everything[:4] == ["far-2", "far-1", "far-0", "Chat-059.y"]
