from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from strands.types.session import Session, SessionAgent, SessionType

from mongodb_session_manager import InvalidNameError
from tests.contract.drivers import Driver

FIRST = datetime(2024, 5, 1, tzinfo=UTC)


async def sessions(driver: Driver, *session_ids: str, **options: Any) -> Any:
    """A repository with sessions that were created a day apart, in this order."""
    repository = driver.repository(**options)
    for day, session_id in enumerate(session_ids):
        await repository.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        moment = FIRST + timedelta(days=day)
        await driver.change({"$set": {"created_at": moment, "updated_at": moment}}, session_id)
    return repository


async def listed(repository: Any, **conditions: Any) -> list[str]:
    page = await repository.list_sessions(**conditions)
    return [session["session_id"] for session in page["sessions"]]


async def all_pages(repository: Any, limit: int, **conditions: Any) -> list[list[str]]:
    pages = []
    cursor = None
    while True:
        page = await repository.list_sessions(limit=limit, cursor=cursor, **conditions)
        pages.append([session["session_id"] for session in page["sessions"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


async def test_an_empty_collection_is_an_empty_page(driver: Driver) -> None:
    assert await driver.repository().list_sessions() == {"sessions": [], "next_cursor": None}
    assert await driver.repository().count_sessions() == 0


async def test_pages_are_newest_first_and_end(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b", "c", "d", "e")

    assert await all_pages(repository, 2) == [["e", "d"], ["c", "b"], ["a"]]
    assert await all_pages(repository, 5) == [["e", "d", "c", "b", "a"]]


async def test_pages_are_stable_among_sessions_created_at_one_moment(driver: Driver) -> None:
    repository = await sessions(driver, *"abcdefg")
    for session_id in "abcdefg":
        await driver.change({"$set": {"created_at": FIRST}}, session_id)

    assert await all_pages(repository, 3) == [["g", "f", "e"], ["d", "c", "b"], ["a"]]


async def test_a_new_session_does_not_shift_the_next_page(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b", "c")
    first = await repository.list_sessions(limit=2)
    await repository.create_session(Session(session_id="new", session_type=SessionType.AGENT))

    assert await listed(repository, cursor=first["next_cursor"]) == ["a"]


async def test_sessions_of_older_tools_are_on_the_pages_too(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b")
    for session_id in ("text-2", "text-1"):
        await driver.store({"_id": session_id, "created_at": f"2023-01-0{session_id[-1]}T10:00:00+00:00"})
    for session_id in ("none-2", "none-1"):
        await driver.store({"_id": session_id})

    pages = await all_pages(repository, 1)

    assert pages == [["b"], ["a"], ["text-2"], ["text-1"], ["none-2"], ["none-1"]]
    summaries = {each["session_id"]: each for each in (await repository.list_sessions())["sessions"]}
    assert summaries["text-2"]["created_at"] == datetime(2023, 1, 2, 10, tzinfo=UTC)
    assert summaries["none-1"]["created_at"] is None
    assert summaries["none-1"]["metadata"] == {}


async def test_a_listed_session_tells_what_it_holds_but_no_messages(driver: Driver) -> None:
    repository = await sessions(driver, "a", application_name="shop")
    await repository.update_metadata("a", {"customer": {"name": "Ada"}})
    await repository.add_feedback("a", {"rating": "up"})
    await repository.create_agent("a", SessionAgent(agent_id="x", state={}, conversation_manager_state={}))

    (session,) = (await repository.list_sessions())["sessions"]

    updated_at = session.pop("updated_at")
    assert updated_at > FIRST
    assert session == {
        "session_id": "a",
        "title": None,
        "application_name": "shop",
        "created_at": FIRST,
        "expires_at": None,
        "metadata": {"customer": {"name": "Ada"}},
        "agents_count": 1,
        "messages_count": 0,
        "feedbacks_count": 1,
        "ratings": {"up": 1, "down": 0, "other": 0},
        "errors_count": 0,
        "usage": {},
    }


async def test_every_condition_narrows_the_list_and_the_count(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b", "c", application_name="shop")
    other = driver.repository(application_name="bank")
    await other.create_session(Session(session_id="d", session_type=SessionType.AGENT))
    await repository.update_metadata("a", {"customer.tier": "gold", "n": 1, "open": True, "day": FIRST})
    await repository.update_metadata("b", {"customer.tier": "gold", "n": 2, "open": False})
    await repository.create_agent("b", SessionAgent(agent_id="x.y", state={}, conversation_manager_state={}))
    for day, session_id in enumerate("abc"):
        await driver.change({"$set": {"updated_at": FIRST + timedelta(days=10 + day)}}, session_id)

    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"metadata": {"customer.tier": "gold"}}, ["b", "a"]),
        ({"metadata": {"customer.tier": "gold", "n": 1}}, ["a"]),
        ({"metadata": {"open": False}}, ["b"]),
        ({"metadata": {"day": FIRST}}, ["a"]),
        ({"metadata": {}}, ["d", "c", "b", "a"]),
        ({"metadata": {"customer.tier": "gol"}}, []),
        ({"agent_id": "x.y"}, ["b"]),
        ({"agent_id": "x"}, []),
        ({"application_name": "bank"}, ["d"]),
        ({"created_from": FIRST + timedelta(days=1)}, ["d", "c", "b"]),
        ({"created_before": FIRST + timedelta(days=1)}, ["a"]),
        ({"created_from": FIRST, "created_before": FIRST + timedelta(days=2)}, ["b", "a"]),
        ({"updated_from": FIRST + timedelta(days=11), "application_name": "shop"}, ["c", "b"]),
        ({"updated_before": FIRST + timedelta(days=11)}, ["a"]),
    ]
    for conditions, expected in cases:
        assert await listed(repository, **conditions) == expected, conditions
        assert await repository.count_sessions(**conditions) == len(expected), conditions


async def test_conditions_hold_on_every_page(driver: Driver) -> None:
    repository = await sessions(driver, *"abcdef")
    for session_id in "ace":
        await repository.update_metadata(session_id, {"odd": True})

    assert await all_pages(repository, 2, metadata={"odd": True}) == [["e", "c"], ["a"]]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "not a cursor",
        "AAAA",
        "é",
        base64.urlsafe_b64encode(bson.encode({"c": FIRST})).decode(),
        base64.urlsafe_b64encode(bson.encode({"c": {"$gt": ""}, "i": "a"})).decode(),
        base64.urlsafe_b64encode(bson.encode({"c": FIRST, "i": {"$gt": ""}})).decode(),
        7,
    ],
)
async def test_a_cursor_that_no_page_ended_with_is_refused(driver: Driver, cursor: Any) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await driver.repository().list_sessions(cursor=cursor)


@pytest.mark.parametrize("name", [7, {"$gt": ""}, b"shop", 10**400, "\ud800"])
async def test_an_application_that_is_no_text_is_refused(driver: Driver, name: Any) -> None:
    with pytest.raises(InvalidNameError, match="application name"):
        driver.repository(application_name=name)
    with pytest.raises(InvalidNameError, match="application name"):
        await driver.repository().list_sessions(application_name=name)
    with pytest.raises(InvalidNameError, match="application name"):
        await driver.repository().count_sessions(application_name=name)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_has_room_for_a_session(driver: Driver, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        await driver.repository().list_sessions(limit=limit)


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"metadata": {"a": {"$gt": ""}}}, TypeError),
        ({"metadata": {"a": ["x"]}}, TypeError),
        ({"metadata": [{"a": 1}]}, TypeError),
        ({"metadata": {"$where": "1"}}, InvalidNameError),
        ({"metadata": {"a..b": 1}}, InvalidNameError),
        ({"metadata": {1: 1}}, InvalidNameError),
        ({"agent_id": {"$gt": ""}}, InvalidNameError),
        ({"created_from": "2024-05-01"}, TypeError),
    ],
)
async def test_a_condition_is_a_plain_value(driver: Driver, conditions: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await driver.repository().list_sessions(**conditions)
    with pytest.raises(error):
        await driver.repository().count_sessions(**conditions)


async def test_sessions_without_recent_activity_are_deleted(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b", "c")
    await repository.create_session(Session(session_id="new", session_type=SessionType.AGENT))
    boundary = FIRST + timedelta(days=2)

    assert await repository.delete_sessions(older_than=boundary) == 2
    assert await repository.count_sessions() == 4
    assert await repository.delete_sessions(older_than=boundary, dry_run=False) == 2
    assert await listed(repository) == ["new", "c"]
    assert await repository.delete_sessions(older_than=timedelta(days=30), dry_run=False) == 1
    assert await listed(repository) == ["new"]
    assert await repository.delete_sessions(older_than=timedelta(days=30), dry_run=False) == 0


async def test_an_age_is_a_date_or_a_time_span(driver: Driver) -> None:
    with pytest.raises(TypeError, match="datetime"):
        await driver.repository().delete_sessions(older_than="2024-05-01")


NAIVE = datetime(2024, 5, 1)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        *(
            (method, {name: NAIVE})
            for method in ("list_sessions", "count_sessions")
            for name in ("created_from", "created_before", "updated_from", "updated_before")
        ),
        ("delete_sessions", {"older_than": NAIVE, "dry_run": False}),
        ("delete_sessions", {"older_than": NAIVE}),
        ("sweep_orphans", {"older_than": NAIVE, "dry_run": False}),
        ("sweep_orphans", {"older_than": NAIVE}),
    ],
)
async def test_a_date_that_selects_has_a_time_zone(driver: Driver, method: str, arguments: dict[str, Any]) -> None:
    repository = await sessions(driver, "a")

    with pytest.raises(
        ValueError,
        match=r"^invalid (older_than|\w+_from|\w+_before): a date must have a time zone, .*, got 2024-05-01T00:00:00$",
    ):
        await getattr(repository, method)(**arguments)

    assert await repository.count_sessions() == 1


async def test_a_date_of_any_zone_selects_by_its_moment(driver: Driver) -> None:
    repository = await sessions(driver, "a")
    tokyo = timezone(timedelta(hours=9))

    assert await listed(repository, created_from=FIRST.astimezone(tokyo)) == ["a"]
    assert await listed(repository, created_before=FIRST.astimezone(tokyo)) == []
    assert await repository.delete_sessions(older_than=datetime.now(tokyo) - timedelta(hours=5), dry_run=False) == 1


@pytest.mark.parametrize(
    "moment",
    [
        timedelta.max,
        timedelta(days=999_999),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
    ],
)
async def test_a_moment_that_is_no_date_is_refused(driver: Driver, moment: Any) -> None:
    for method in ("delete_sessions", "sweep_orphans"):
        with pytest.raises(ValueError, match="older_than: the moment lies outside"):
            await getattr(driver.repository(), method)(older_than=moment)


@pytest.mark.parametrize("span", [timedelta(days=-1), timedelta.min, timedelta(microseconds=-1)], ids=str)
@pytest.mark.parametrize("operation", ["delete_sessions", "sweep_orphans"])
async def test_a_negative_time_span_would_take_everything_and_is_refused(
    driver: Driver, operation: str, span: timedelta
) -> None:
    repository = driver.repository()
    with pytest.raises(ValueError, match=rf"^invalid older_than: a time span must not be negative, got {span}$"):
        await getattr(repository, operation)(older_than=span, dry_run=False)


async def test_a_naive_date_among_metadata_is_utc_in_values_and_filters_alike(driver: Driver) -> None:
    repository = await sessions(driver, "a", "b")
    await repository.update_metadata("a", {"due": NAIVE})

    assert await repository.get_metadata("a") == {"metadata": {"due": NAIVE.replace(tzinfo=UTC)}}
    assert await listed(repository, metadata={"due": NAIVE}) == ["a"]
    assert await listed(repository, metadata={"due": NAIVE.replace(tzinfo=UTC)}) == ["a"]


async def test_a_list_holds_no_more_of_metadata_than_it_shows(driver: Driver) -> None:
    repository = await sessions(driver, "small", "large", "tool", "many")
    await repository.update_metadata("small", {"topic": "tea", "text": "x" * 60 * 1024})
    for name in ("one", "two"):
        await repository.update_metadata("large", {name: "x" * 200 * 1024, "topic": "tea"})
    await driver.change({"$set": {"metadata": {"a": [None] * 500_000}}, "$unset": {"metadata_bytes": ""}}, "tool")
    await repository.update_metadata("many", {f"k{number}": "x" * 500 for number in range(400)})

    listed_ = {session["session_id"]: session for session in (await repository.list_sessions())["sessions"]}

    assert {name for name, session in listed_.items() if session.get("metadata_left_out")} == {"large", "tool", "many"}
    assert len(listed_["small"]["metadata"]["text"]) == 60 * 1024
    for session in listed_.values():
        assert len(bson.encode(session["metadata"])) <= 66 * 1024
    assert set((await repository.get_metadata("large"))["metadata"]) == {"one", "two", "topic"}


@pytest.mark.parametrize("metadata", [None, "text", [1], 7])
async def test_metadata_that_is_no_object_is_listed_as_none(driver: Driver, metadata: Any) -> None:
    repository = await sessions(driver, "a")
    await driver.change({"$set": {"metadata": metadata}}, "a")

    [session] = (await repository.list_sessions())["sessions"]
    assert session["metadata"] == {}


async def test_a_page_may_be_as_large_as_a_number_can_be(driver: Driver) -> None:
    repository = await sessions(driver, "a")

    for limit in (2**31 - 2, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30):
        assert await listed(repository, limit=limit) == ["a"]


@pytest.mark.parametrize("limit", [True, 1.0, "1", None])
async def test_the_size_of_a_page_is_an_integer(driver: Driver, limit: Any) -> None:
    with pytest.raises(TypeError, match="invalid limit"):
        await driver.repository().list_sessions(limit=limit)


async def test_a_cursor_of_any_length_is_refused_in_few_words(driver: Driver) -> None:
    for cursor in ("A" * 1_000_000, base64.urlsafe_b64encode(bson.encode({"c": FIRST, "i": "x" * 100_000})).decode()):
        with pytest.raises(ValueError, match="cursor") as raised:
            await driver.repository().list_sessions(cursor=cursor)
        assert len(str(raised.value)) < 200
