"""What a session used over time: the same numbers as its timeline shows message by message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager.schema.messages import flatten_message
from mongodb_session_manager.viewer import usage
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent
from tests.support.segments import said, segments

Document = dict[str, Any]

URL = "/api/v1/sessions/s-1"
COUNTS = ("input_tokens", "output_tokens", "latency_ms", "time_to_first_byte_ms")

ODD_METADATA: list[Any] = [
    None,
    "none",
    {"usage": {"inputTokens": "many"}, "metrics": 5},
    {"usage": {"inputTokens": True, "outputTokens": float("nan")}},
    {"usage": {"inputTokens": 2**60, "outputTokens": 2.5}, "note": "x" * 50},
    {"metrics": {"latencyMs": 0}},
    {"__bson__": "keys", "usage": {"__bson__": "keys", "inputTokens": 3, "%24x": 1}, "%24y": 2},
]


def reported(number: int) -> Document:
    """Return what a model reports of an answer, not the same for any two."""
    tokens = {"inputTokens": 100 + number, "outputTokens": 7 * number, "totalTokens": 100 + 8 * number}
    return {"usage": tokens, "metrics": {"latencyMs": 1000 + 3 * number, "timeToFirstByteMs": 10 + number % 13}}


def accumulated(number: int) -> Document:
    """Return what an older tool kept of an answer: the totals of its run, which begins anew every 20 answers."""
    told, run = reported(number), 1 + number % 20
    sums = {name: run * value for name, value in told["usage"].items()}
    return {"accumulated_usage": sums, "accumulated_metrics": {name: run * v for name, v in told["metrics"].items()}}


def expected(timeline: list[Document]) -> dict[str, list[Document]]:
    """Return the answers of each agent with what each added, out of the numbers of single messages."""
    answers: dict[str, list[Document]] = {}
    before: dict[tuple[str, str], float] = {}
    for item in timeline:
        if item["type"] != "message" or item["metrics"] is None:
            continue
        metrics, added = item["metrics"], {}
        for name in COUNTS:
            count = metrics[name]
            added[name] = count
            if metrics["accumulated"] and count is not None and name != "time_to_first_byte_ms":
                earlier = before.get((item["agent_id"], name), 0)
                added[name] = count - earlier if count >= earlier else count
                before[item["agent_id"], name] = count
        answers.setdefault(item["agent_id"], []).append({**item, **added})
    return answers


def check(series: Document, timeline: list[Document]) -> int:
    """Assert that a series says what the timeline says, and return how many answers it covers."""
    answers = expected(timeline)
    total = sum(map(len, answers.values()))
    together = max(-(-total // usage.MOST_POINTS), 1)
    points = series["points"]
    dates = [point["timestamp"] or "" for point in points]
    assert dates == sorted(dates)
    assert {point["agent_id"] for point in points} == set(answers)
    for agent_id, of_agent in answers.items():
        parts = [of_agent[start : start + together] for start in range(0, len(of_agent), together)]
        mine = [point for point in points if point["agent_id"] == agent_id]
        assert len(mine) == len(parts)
        for point, part in zip(mine, parts, strict=True):
            known = {name: [answer[name] for answer in part if answer[name] is not None] for name in COUNTS}
            assert (point["answers"], point["message_id"]) == (len(part), part[-1]["message_id"])
            assert point["timestamp"] == part[-1]["timestamp"]
            for name, values in known.items():
                share = 1 if name.endswith("tokens") else len(values)
                assert point[name] == (pytest.approx(sum(values) / share) if values else None)
    return total


@pytest.mark.parametrize("most_points", [500, 25])
async def test_it_is_what_the_messages_of_a_session_with_segments_say(
    viewer: Viewer,
    sessions: Sessions,
    mongo_client: MongoClient[Document],
    monkeypatch: pytest.MonkeyPatch,
    most_points: int,
) -> None:
    monkeypatch.setattr(usage, "MOST_POINTS", most_points)
    monkeypatch.setattr(usage, "_PART", 13)
    async with sessions.manager() as manager:
        agents = [make_agent(manager, agent_id=name) for name in ("left", "right")]
        for number in range(160):
            agent, said_ = agents[number // 20 % 2], said(number)
            if number % 2:
                said_["metadata"] = reported(number)  # type: ignore[typeddict-item]
            agent.messages.append(said_)
            manager.append_message(said_, agent)
            if number % 20 == 19:
                await manager.flush()
    assert {segment["agent"] for segment in segments(mongo_client[sessions.database_name])} == {"left", "right"}

    series = await viewer.get(f"{URL}/usage")

    assert series["complete"]
    assert check(series, await viewer.timeline(URL, limit=200)) == 80


@pytest.mark.parametrize("current", [True, False], ids=["today's document", "an older tool's"])
async def test_it_is_what_messages_of_any_form_say(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, current: bool
) -> None:
    monkeypatch.setattr(usage, "_PART", 7)
    mixed = [message("assistant", "totals", minute=n, event_loop_metrics=accumulated(n)) for n in range(50)]
    mixed[12:12] = [message("user", "asks", minute=12), message("assistant", "both", minute=12, metadata=reported(5))]
    mixed[12]["event_loop_metrics"] = accumulated(3)
    odd = [message("assistant", "odd", minute=n, metadata=metadata) for n, metadata in enumerate(ODD_METADATA)]
    document = session("s-1", agents={"totals": mixed, "odd": [*odd, "no message", {"role": "user"}, None]})
    if not current:
        for name in ("schema_version", "incarnation", "applied", "summary"):
            del document[name]
    sessions.raw.insert_one(document)

    series = await viewer.get(f"{URL}/usage")

    assert check(series, await viewer.timeline(URL, limit=200)) == 55
    assert [point["input_tokens"] for point in series["points"] if point["agent_id"] == "odd"] == [None, None, 3]


async def test_of_very_long_sessions_the_newest_messages_count(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "NEWEST_MESSAGES", 20)
    answers = [message("assistant", "a", minute=n, metadata=reported(n)) for n in range(30)]
    sessions.raw.insert_one(session("s-1", agents={"a": answers, "b": answers[:5]}))

    series = await viewer.get(f"{URL}/usage")

    assert not series["complete"]
    numbers = [(point["agent_id"], point["message_id"]) for point in series["points"]]
    assert sorted(numbers) == [("a", number) for number in range(20, 30)] + [("b", number) for number in range(5)]


async def test_the_event_loop_has_a_turn_between_parts_of_an_older_tools_document(
    viewer: Viewer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = session("s-1", agents={"a": [message("user", "hi", minute=n) for n in range(200)]})
    del document["schema_version"]
    sessions.raw.insert_one(document)
    monkeypatch.setattr(usage, "_PART", 10)
    read, at_once = [0], [0]

    def counting(*args: Any, **options: Any) -> Document:
        read[0] += 1
        at_once[0] = max(at_once[0], read[0])
        return flatten_message(*args, **options)

    async def turns() -> None:
        while True:
            read[0] = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(usage, "flatten_message", counting)
    others = asyncio.create_task(turns())
    try:
        await viewer.get(f"{URL}/usage")
    finally:
        others.cancel()

    assert at_once == [10]
