"""What the sessions of a search come to together."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from mongodb_session_manager import index_specs
from mongodb_session_manager.viewer.prices import Prices
from tests.apps.viewer.conftest import OpenViewer, Viewer
from tests.apps.viewer.stored import START, session
from tests.fixtures.sessions import Sessions

Document = dict[str, Any]

URL = "/api/v1/sessions/totals"


def used(session_id: str, *, hour: int, model: Any = "m-1", priority: str = "low") -> Document:
    """Return a session that used 100 input and 20 output tokens."""
    created = START + timedelta(hours=hour)
    document = session(session_id, created=created, agents={"a": []}, metadata={"priority": priority})
    usage = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120, "latencyMs": 50, "modelCalls": 2}
    document["agents"]["a"] |= {"usage": usage}
    document["agents"]["a"]["agent_data"]["model"] = model
    ratings = {"up": 1, "down": 0, "other": 0}
    document["summary"] |= {"messages": 4, "feedbacks": 1, "ratings": ratings, "errors": hour % 2, "usage": usage}
    return document


@pytest.fixture
def filled(sessions: Sessions) -> Sessions:
    """Sessions of five hours, of two models, and one that says nothing."""
    sessions.raw.create_indexes(index_specs(["priority"]))
    sessions.raw.insert_many(
        [used(f"s-{hour}", hour=hour, model=f"m-{hour % 2}", priority=("low", "high")[hour % 2]) for hour in range(5)]
    )
    sessions.raw.insert_one({"_id": "odd", "created_at": "someday", "summary": "text"})
    return sessions


@pytest.mark.usefixtures("filled")
async def test_totals_add_up_over_time(viewer: Viewer) -> None:
    page = await viewer.get(URL)

    assert page["unit"] == "hour"
    assert page["totals"] == {
        "sessions": 6,
        "messages": 20,
        "feedbacks": 5,
        "ratings_up": 5,
        "ratings_down": 0,
        "ratings_other": 0,
        "errors": 2,
        "input_tokens": 500,
        "output_tokens": 100,
        "total_tokens": 600,
        "latency_ms": 250,
        "model_calls": 10,
    }
    assert [point["start"] for point in page["points"]] == [
        None,
        *(f"2026-03-01T{hour}:00:00.000Z" for hour in range(12, 17)),
    ]
    assert [point["errors"] for point in page["points"]] == [0, 0, 1, 0, 1, 0]


@pytest.mark.usefixtures("filled")
async def test_totals_are_those_of_the_search(viewer: Viewer) -> None:
    page = await viewer.get(URL, filters=json.dumps({"priority": "high"}), created_at_end="2026-03-01T13:30:00Z")

    assert page["totals"]["sessions"] == 1
    assert (await viewer.get(URL, failed=True))["totals"]["errors"] == 2
    assert (await viewer.get(URL, rating="down"))["totals"]["sessions"] == 0
    assert "text" in await viewer.problem(URL, text="x")


async def test_days_begin_where_the_reader_is(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_many([used(f"s-{day}", hour=24 * day + 13) for day in range(6)])

    utc = await viewer.get(URL)
    tokyo = await viewer.get(URL, zone="Asia/Tokyo")

    assert (utc["unit"], utc["points"][0]["start"]) == ("day", "2026-03-02T00:00:00.000Z")
    assert tokyo["points"][0]["start"] == "2026-03-01T15:00:00.000Z"
    assert "time zone" in await viewer.problem(URL, zone="Nowhere/Land")


@pytest.mark.usefixtures("filled")
async def test_models_are_told_apart_and_cost_what_the_operator_says(open_viewer: OpenViewer) -> None:
    prices = json.dumps({"m-0": {"input": 2_000, "output": 10_000}})
    async with open_viewer(model_prices_str=prices, price_currency="EUR") as viewer:
        page = await viewer.get(URL)

    models = {model["model"]: model for model in page["models"]}
    assert models["m-0"]["input_tokens"] == 300
    assert models["m-0"]["cost"] == pytest.approx(300 * 0.002 + 60 * 0.01)
    assert (models["m-1"]["output_tokens"], models["m-1"]["cost"]) == (40, None)
    assert page["currency"] == "EUR"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "nonsense",
        '{"m": 3}',
        '{"m": {"in": 3}}',
        '{"m": {"input": -1}}',
        '{"m": {"input": "3"}}',
        '{"m": {"input": true}}',
    ],
)
def test_prices_are_numbers_of_known_kinds(text: str) -> None:
    with pytest.raises(ValueError, match="prices per million tokens"):
        Prices.parse(text)
