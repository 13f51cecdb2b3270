"""Documents that are half the library's own, as copied or hand-written ones are: what is there is shown."""

from __future__ import annotations

from typing import Any

import pytest

from mongodb_session_manager.schema.names import encode_name
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

PARTS = ["", "/usage", "/export?format=json", "/export?format=markdown", "/export?format=jsonl"]


def whole() -> dict[str, Any]:
    document = session(
        "s-1", metadata={"priority": "high"}, agents={"a": [message("user", "hello"), message("assistant", "hi")]}
    )
    document["feedbacks"] = [{"rating": "up", "comment": "fine"}]
    return document


FIELDS = [name for name in whole() if name not in ("_id", "agents")]
AGENT_FIELDS = [
    *("agent_data", "created_at", "messages", "next_message_id", "archived_count", "archive", "usage", "window"),
]


@pytest.mark.parametrize("left_out", [(name,) for name in FIELDS] + [("incarnation", "summary"), tuple(FIELDS)])
async def test_a_field_that_is_missing_hides_nothing_else(
    sessions: Sessions, viewer: Viewer, left_out: tuple[str, ...]
) -> None:
    document = whole()
    sessions.raw.insert_one({name: value for name, value in document.items() if name not in left_out})

    for part in PARTS:
        answer = await viewer.client.get(f"/api/v1/sessions/s-1{part}")
        assert answer.status_code == 200, (part, answer.text)
    found = await viewer.get("/api/v1/sessions/s-1")
    said = [item["content"][0]["text"] for item in found["timeline"] if item["type"] == "message"]
    [card] = (await viewer.search())["sessions"]
    assert said == ["hello", "hi"]
    assert (card["agents_count"], card["messages_count"]) == (1, 2)
    assert card["feedbacks_count"] == (0 if "summary" not in left_out else ("feedbacks" not in left_out))


@pytest.mark.matrix
@pytest.mark.parametrize("odd", [7, None, "x", [], {}, [1, None, "x"], {"a": None}, {"a": {"b": [1]}}])
async def test_a_field_that_holds_something_else_breaks_nothing(sessions: Sessions, viewer: Viewer, odd: Any) -> None:
    for field in [*FIELDS, "agents"]:
        await is_shown(sessions, viewer, {**whole(), field: odd}, field)


async def is_shown(sessions: Sessions, viewer: Viewer, document: dict[str, Any], field: str) -> None:
    sessions.raw.replace_one({"_id": document["_id"]}, document, upsert=True)
    for path in ["/api/v1/sessions/search", *(f"/api/v1/sessions/s-1{part}" for part in PARTS)]:
        answer = await viewer.client.get(path)
        assert answer.status_code == 200, (field, path, answer.text)


@pytest.mark.matrix
@pytest.mark.parametrize("odd", [7, "missing", None, "x", [], {}, [None]])
async def test_an_agent_that_is_odd_breaks_nothing(sessions: Sessions, viewer: Viewer, odd: Any) -> None:
    for field in AGENT_FIELDS:
        document = whole()
        agent = document["agents"][encode_name("a")]
        if odd == "missing":
            agent.pop(field, None)
        else:
            agent[field] = odd
        await is_shown(sessions, viewer, document, field)


async def test_older_documents_are_listed_with_what_they_hold(sessions: Sessions, viewer: Viewer) -> None:
    said = {"message": {"role": "user", "content": [{"text": "hello"}]}, "message_id": 0}
    sessions.raw.insert_one(
        {
            "_id": "old",
            "session_id": "old",
            "created_at": "2026-03-01T12:00:00+00:00",
            "agents": {"a": {"messages": [said, said]}, "b": {"messages": [said]}},
            "feedbacks": [{"rating": "up"}, {"rating": "down"}],
        }
    )
    [card] = (await viewer.search())["sessions"]

    assert (card["agents_count"], card["messages_count"], card["feedbacks_count"]) == (2, 3, 2)
