"""What the page shows, the filter finds: every kind of value, by the form in which the API shows it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from mongodb_session_manager import index_specs
from mongodb_session_manager.schema import values
from tests.apps.viewer.conftest import OpenViewer, Viewer
from tests.apps.viewer.stored import session
from tests.fixtures.sessions import Sessions

VALUES: dict[str, Any] = {
    "text": "high",
    "empty": "",
    "text that says a number": "5",
    "number": 5,
    "float": 2.5,
    "beyond 53 bits": Int64(1983516295378495150),
    "its neighbour": Int64(1983516295378495200),
    "beyond 64 bits": values.encode(10**30),
    "nan": float("nan"),
    "infinity": float("-inf"),
    "object id": ObjectId("65f000000000000000000001"),
    "uuid": Binary(UUID("12345678-1234-5678-1234-567812345678").bytes, 4),
    "old uuid": Binary(UUID("12345678-1234-5678-1234-567812345679").bytes, 3),
    "uuid of the library": values.encode(UUID("12345678-1234-5678-1234-56781234567a")),
    "decimal": Decimal128("1.10"),
    "decimal of the library": values.encode(Decimal("1.30")),
    "date": datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC),
    "true": True,
    "false": False,
    "lone surrogate": values.encode("a\ud83db"),
    "composed": "café",
    "looks like an operator": "$ne",
    "date beyond all calendars": DatetimeMS(2**52),
    "integer that Python does not write out": values.encode(10**5000),
    "timestamp": Timestamp(5, 2),
    "least": MinKey(),
    "most": MaxKey(),
}


@pytest.fixture
def stored(sessions: Sessions) -> Sessions:
    sessions.raw.create_indexes(index_specs(["value"]))
    sessions.raw.insert_many({**session(name), "metadata": {"value": value}} for name, value in VALUES.items())
    return sessions


@pytest.mark.parametrize("options", [{}, {"enum_fields_str": "value"}])
async def test_every_value_is_found_by_what_is_shown_of_it(
    stored: Sessions, open_viewer: OpenViewer, options: dict[str, Any]
) -> None:
    async with open_viewer(**options) as viewer:
        cards = (await viewer.search(limit=100))["sessions"]
        shown = {card["session_id"]: card["metadata"]["value"] for card in cards}
        found = {name: await viewer.found(filters={"value": value}, limit=100) for name, value in shown.items()}

    assert set(shown) == set(VALUES)
    assert {name for name, ids in found.items() if name not in ids} == set()
    # Exactly it, but where a text and a number are shown alike.
    others = {name: set(ids) - {name} for name, ids in found.items() if set(ids) != {name}}
    assert others == {"text that says a number": {"number"}}


async def test_every_value_that_is_offered_finds_what_holds_it(stored: Sessions, open_viewer: OpenViewer) -> None:
    async with open_viewer(enum_fields_str="value") as viewer:
        answer = await viewer.client.get("/api/v1/metadata-fields")
        [field] = [field for field in answer.json()["fields"] if field["field"] == "value"]
        # As a browser reads and writes numbers.
        offered = [float(value) if type(value) is int else value for value in field["values"]]
        found = [await viewer.found(filters=json.dumps({"value": value}), limit=100) for value in offered]

    assert field["type"] == "enum"
    assert all(found)
    assert {name for names in found for name in names} == set(VALUES)
    assert "NaN" not in answer.text


@pytest.mark.parametrize(
    "odd", [float("nan"), float("inf"), values.encode("\ud800"), values.encode(10**400), None, {}, b"x"]
)
async def test_one_odd_value_does_not_end_the_panel(sessions: Sessions, open_viewer: OpenViewer, odd: Any) -> None:
    sessions.raw.create_indexes(index_specs(["odd", "other"]))
    documents = [{"odd": odd, "other": odd}, {"odd": "high", "other": 1}]
    sessions.raw.insert_many({**session(f"s-{n}"), "metadata": metadata} for n, metadata in enumerate(documents))
    async with open_viewer(enum_fields_str="odd") as viewer:
        fields = (await viewer.get("/api/v1/metadata-fields"))["fields"]
        cards = (await viewer.search())["sessions"]

    assert {"odd", "other"} <= {field["field"] for field in fields}
    assert len(cards) == 2


async def test_one_text_among_numbers_leaves_them_numbers_and_is_found(sessions: Sessions, viewer: Viewer) -> None:
    sessions.raw.create_indexes(index_specs(["score"]))
    sessions.raw.insert_many(session(f"n-{number}", metadata={"score": number}) for number in range(5))
    sessions.raw.insert_one(session("odd", metadata={"score": "unknown"}))
    [field] = [f for f in (await viewer.get("/api/v1/metadata-fields"))["fields"] if f["field"] == "score"]

    assert field["type"] == "number"
    assert await viewer.found(filters={"score": "unknown"}) == ["odd"]
    assert await viewer.found(filters={"score": 3}) == await viewer.found(filters={"score": "3"}) == ["n-3"]
    assert sorted(await viewer.found(filters={"score": {"min": 3, "max": "4"}})) == ["n-3", "n-4"]


async def test_limits_beyond_53_bits_travel_as_text(sessions: Sessions, viewer: Viewer) -> None:
    sessions.raw.create_indexes(index_specs(["order"]))
    sessions.raw.insert_many(
        {**session(f"n-{last}"), "metadata": {"order": Int64(1983516295378495100 + last)}} for last in (49, 50, 51)
    )

    wanted = {"min": "1983516295378495150", "max": "1983516295378495150"}
    assert await viewer.found(filters={"order": wanted}) == ["n-50"]
    assert "must be a number" in await viewer.problem(
        "/api/v1/sessions/search", filters=json.dumps({"order": {"min": "many"}})
    )


async def test_a_day_that_the_library_stored_is_found_by_it(sessions: Sessions, viewer: Viewer) -> None:
    sessions.raw.create_indexes(index_specs(["due"]))
    async with sessions.manager("s-1") as manager:
        await manager.update_metadata({"due": date(2026, 3, 2)})
    [card] = (await viewer.search())["sessions"]

    assert card["metadata"] == {"due": "2026-03-02"}
    assert await viewer.found(filters=card["metadata"]) == ["s-1"]
    assert await viewer.found(filters={"due": "2026-03-03"}) == []


@pytest.mark.parametrize(
    "text",
    [
        "sNaN",
        "-sNaN7",
        "NaN123",
        "1e999999999",
        "-1e-999999999",
        "7" * 40,
        "Timestamp(9999999999, 1)",
        "DatetimeMS(-9999999999999999999)",
        "0x",
    ],
)
async def test_a_text_that_is_almost_a_value_is_sought_as_a_text(sessions: Sessions, viewer: Viewer, text: str) -> None:
    sessions.raw.create_indexes(index_specs(["score"]))
    sessions.raw.insert_many([session("number", metadata={"score": 5}), session("text", metadata={"score": text})])

    assert await viewer.found(filters={"score": text}) == ["text"]
    for limits in ({"min": text}, {"max": text}, {"min": text, "max": text}):
        answer = await viewer.client.get("/api/v1/sessions/search", params={"filters": json.dumps({"score": limits})})
        assert answer.status_code in (200, 422), answer.text
