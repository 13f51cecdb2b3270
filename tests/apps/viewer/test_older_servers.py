"""What the apps and lists do on a server that lacks an operator, or refuses them something."""

from __future__ import annotations

from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from tests.apps.viewer.conftest import Viewer
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent
from tests.support.segments import converse, segments


@pytest.fixture
def no_sizes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuse `$bsonSize`, and return the names of the calls that were refused."""
    refused: list[str] = []

    def refusing(kind: type[Any], name: str) -> Any:
        send = getattr(kind, name)

        def sent(collection: Any, *arguments: Any, **options: Any) -> Any:
            if "$bsonSize" in repr((arguments, options)):
                refused.append(name)
                raise OperationFailure("Unrecognized expression '$bsonSize'", 168)
            return send(collection, *arguments, **options)

        return sent

    for kind in (Collection, AsyncIOMotorCollection):
        for name in ("aggregate", "find"):
            monkeypatch.setattr(kind, name, refusing(kind, name))
    return refused


async def test_a_session_with_sealed_messages_is_listed_read_and_exported(
    sessions: Sessions, viewer: Viewer, no_sizes: list[str]
) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(60))
        await manager.update_metadata({"tier": "gold"})
        listed = await manager.repository.list_sessions()
    assert segments(sessions.raw.database)

    found = await viewer.found()
    read = await viewer.timeline("/api/v1/sessions/s-1", order="asc", limit=20)
    exported = await viewer.client.get("/api/v1/sessions/s-1/export", params={"format": "jsonl"})

    assert [session["metadata"] for session in listed["sessions"]] == [{"tier": "gold"}]
    assert found == ["s-1"]
    assert [item["message_id"] for item in read] == list(range(60))
    assert len(exported.text.splitlines()) == 61
    assert {"aggregate", "find"} <= set(no_sizes)


async def test_what_cannot_be_done_without_it_says_so(sessions: Sessions, viewer: Viewer, no_sizes: list[str]) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(2))

    said = await viewer.problem("/api/v1/sessions/search", 501, text="message")

    assert "does not know an operator" in said
    assert no_sizes


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        (13, 500, "database_refused"),
        (18, 500, "database_refused"),
        (40324, 501, "not_supported"),
        (43, 503, "database_unavailable"),
        (50, 503, "too_slow"),
    ],
)
async def test_only_what_may_pass_is_to_be_tried_again(
    sessions: Sessions, viewer: Viewer, code: int, status: int, told: str
) -> None:
    sessions.raw.insert_one({"_id": "s-1"})
    refusing = {"failCommands": ["find", "aggregate"], "errorCode": code, "namespace": sessions.raw.full_name}

    with fail_point(sessions.raw.database.client, "alwaysOn", refusing):
        answer = await viewer.client.get("/api/v1/sessions/s-1")

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, told)
    assert ("Retry-After" in answer.headers) == (told == "database_unavailable")
