"""Lists, searches and totals load no more of a session's metadata than they show, as the server itself counts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from mongodb_session_manager import index_specs
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import session
from tests.fixtures.sessions import Sessions

LARGE = "x" * (2 * 1024 * 1024)
MOST_BYTES = 256 * 1024


def fill(sessions: Sessions) -> None:
    sessions.raw.create_indexes(index_specs(["tier"]))
    said = {"message_id": 0, "role": "user", "content": [{"text": "a zebra"}], "created_at": datetime.now(UTC)}
    agents = {"a": {"agent_data": {"agent_id": "a"}, "messages": [said]}}
    for number in range(4):
        metadata: Any = {"tier": "gold", "large": LARGE, "deep": {"large": LARGE}}
        if number == 3:
            metadata = LARGE  # as another tool may leave it
        moment = datetime.now(UTC) - timedelta(minutes=number)
        dates = {"created_at": moment, "updated_at": moment}
        sessions.raw.insert_one({**session(f"s-{number}"), "metadata": metadata, "agents": agents, **dates})


async def test_nothing_that_lists_sessions_loads_a_large_value(sessions: Sessions, viewer: Viewer) -> None:
    fill(sessions)
    database = sessions.raw.database
    database.command("profile", 2)
    try:
        cards = (await viewer.search(limit=100))["sessions"]
        for asked in (
            {"text": "zebra"},
            {"filters": {"tier": "gold"}},
            {"session_id": "s-"},
            {"agent": "a"},
            {"sort": "messages"},
            {"sort": "updated", "limit": 2},
        ):
            assert await viewer.found(**asked), asked
        await viewer.get("/api/v1/metadata-fields")
        await viewer.get("/api/v1/sessions/totals")
        manager = sessions.manager("s-0")  # not opened: only its repository is asked
        page = await manager.repository.list_sessions(limit=10)
        assert await manager.repository.count_sessions() == 4
        await manager.close()
    finally:
        database.command("profile", 0)

    assert {card["session_id"] for card in cards} == {f"s-{number}" for number in range(4)}
    assert cards[0]["metadata"]["tier"] == "gold"
    assert "large" not in cards[0]["metadata"]
    assert page["sessions"][0]["metadata_left_out"] is True
    answers = list(database["system.profile"].find({"ns": sessions.raw.full_name}))
    assert len(answers) > 5
    assert [(a.get("op"), a["responseLength"]) for a in answers if a.get("responseLength", 0) > MOST_BYTES] == []


class WithoutExpressions:
    """A collection of a database that knows no expressions in projections."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find(self, query: Any, projection: Any, **options: Any) -> Any:
        if any(isinstance(shown, dict) for shown in projection.values()):
            raise OperationFailure("unknown expression", 168)
        return self._collection.find(query, projection, **options)


async def test_a_database_that_cannot_tell_sizes_lists_sessions_all_the_same(
    sessions: Sessions, viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.raw.insert_many({**session(f"s-{number}"), "metadata": {"tier": "gold"}} for number in range(3))
    search = viewer.app.state.database.search
    monkeypatch.setattr(search, "_collection", WithoutExpressions(search._collection))

    for _ in range(2):
        cards = (await viewer.search(limit=100))["sessions"]
        assert [card["metadata"] for card in cards] == [{"tier": "gold"}] * 3
