"""Whatever another tool left in the place of the library's own fields: what is written has its place, or is refused."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from mongodb_session_manager import AsyncMongoDBSessionRepository, CorruptMessageError, SessionStoreError
from mongodb_session_manager.errors import CorruptSessionError, InvalidNameError
from tests.apps.test_odd_documents import ODD, Place, changed, places
from tests.apps.test_odd_documents import whole as whole_for_readers
from tests.apps.viewer.stored import START
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent, streamed

AGENT_ID = "playground"
AGENT: Place = ("agents", AGENT_ID)
OWN = {
    "applied": ["x"],
    "children_expire_at": START.replace(year=2131),
    "expires_at": START.replace(year=2130),
    "has_children": True,
    "has_payloads": True,
    "has_storage": True,
    "idempotency_keys": ["k"],
    "last_lease": "t",
    "lease": {"token": "t", "renewals": 1, "lease_s": 0.01},
    "live_bytes": 500,
    "metadata_bytes": 10,
    "ttl_s": 3600.0,
}
MODELS_BUSINESS = (*AGENT, "messages")
"""What was said is given to the model as it is."""


def whole(*, leased: bool = False) -> dict[str, Any]:
    document = whole_for_readers() | OWN
    document["agents"][AGENT_ID]["archive"] = {"id": "a", "token": "t"}
    if not leased:
        del document["lease"]
    return document


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


async def take_turn(sessions: Sessions) -> None:
    async with sessions.manager("odd", ttl=600) as manager:
        await streamed(make_agent(manager, "answer", agent_id=AGENT_ID), "question")


async def take_turn_alone(sessions: Sessions) -> None:
    async with sessions.manager("odd") as manager:
        agent = make_agent(manager, "answer", agent_id=AGENT_ID)
        async with manager.turn(idempotency_key="another"):
            await streamed(agent, "question")


async def change_what_is_beside(sessions: Sessions) -> None:
    async with sessions.manager("odd") as manager:
        await manager.add_feedback({"rating": "up"})
        await manager.update_metadata({"x": 1})
        await manager.delete_metadata(["x"])
        await manager.repository.rename_session("odd", "another")


async def fork(sessions: Sessions) -> None:
    async with repository_of(sessions) as repository:
        await repository.fork_session("odd", "fork")


async def repair(sessions: Sessions) -> None:
    async with repository_of(sessions) as repository:
        await repository.repair_session("odd", dry_run=False)


async def delete_agent(sessions: Sessions) -> None:
    async with repository_of(sessions) as repository:
        await repository.delete_agent("odd", AGENT_ID)


def stored(sessions: Sessions) -> bytes:
    """Return the agents of the session as they are stored, byte by byte."""
    raw = sessions.raw.with_options(CodecOptions(RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_AUTO))
    document = raw.find_one({"_id": "odd"})
    return bson.encode({"agents": None if document is None else document.get("agents")})


OPERATIONS = (take_turn, take_turn_alone, change_what_is_beside, fork, repair, delete_agent)


async def check(sessions: Sessions, operation: Callable[[Sessions], Awaitable[None]], kind: str, depth: int) -> None:
    takes_a_turn = operation in (take_turn, take_turn_alone)
    for place in places(whole()):
        if (
            len(place) > depth
            or place == ("_id",)
            or (takes_a_turn and place[: len(MODELS_BUSINESS)] == MODELS_BUSINESS)
        ):
            continue
        for name in sessions.raw.database.list_collection_names():
            sessions.raw.database[name].delete_many({})
        sessions.raw.insert_one(changed(whole(), place, ODD[kind]))
        before = stored(sessions)
        try:
            await operation(sessions)
        except CorruptSessionError:
            assert stored(sessions) == before, f"something was written: {place}"
        except (SessionStoreError, InvalidNameError):
            pass  # A message that cannot be read; a metadata key that leads nowhere.
        except Exception as error:
            if not re.search("conversation manager state|JSON", str(error)):  # Strands' own checks
                error.add_note(f"at {place}")
                raise


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_it_is_written_to_or_refused(
    sessions: Sessions, operation: Callable[[Sessions], Awaitable[None]]
) -> None:
    await check(sessions, operation, "list", 1)
    await check(sessions, operation, "text", 1)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind", [kind if kind in ("text", "list") else pytest.param(kind, marks=pytest.mark.slow) for kind in ODD]
)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_all_of_it_is_written_to_or_refused(
    sessions: Sessions, operation: Callable[[Sessions], Awaitable[None]], kind: str
) -> None:
    await check(sessions, operation, kind, 3)


@pytest.mark.parametrize("odd", ["a secret", ["a secret"], 1.5, -1, 2**63 - 1], ids=repr)
@pytest.mark.parametrize("field", ["window", "next_message_id", "agent_data"])
async def test_an_agent_that_cannot_be_written_to_is_refused_when_it_is_built(
    sessions: Sessions, field: str, odd: Any
) -> None:
    sessions.raw.insert_one(changed(whole(), (*AGENT, field), odd))
    before = sessions.raw.find_one({"_id": "odd"})

    async with sessions.manager("odd") as manager:
        with pytest.raises(CorruptSessionError, match=f"agents.{AGENT_ID}.{field}") as error:
            make_agent(manager, agent_id=AGENT_ID)
        other = make_agent(manager, "answer", agent_id="other")
        await streamed(other, "question")

    assert "a secret" not in str(error.value)
    after = sessions.raw.find_one({"_id": "odd"})
    assert before is not None
    assert after is not None
    assert after["agents"][AGENT_ID] == before["agents"][AGENT_ID]
    assert len(after["agents"]["other"]["messages"]) == 2


@pytest.mark.parametrize("place", [("agents",), ("applied",)])
async def test_what_the_server_refuses_is_an_error_without_its_words(sessions: Sessions, place: Place) -> None:
    sessions.raw.insert_one(changed(whole(), place, "a secret"))

    async with sessions.manager("odd") as manager:
        agent = make_agent(manager, "answer", agent_id="new")
        with pytest.raises(CorruptSessionError) as error:
            await streamed(agent, "question")
        with pytest.raises(CorruptSessionError):
            await manager.close()

    assert "a secret" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "lease",
    ["x", ["x"], {}, {"token": "t"}, {"token": "t", "renewals": "x", "lease_s": 1}, {"token": 1, "renewals": 1}],
)
async def test_a_lease_that_is_none_is_refused(sessions: Sessions, lease: Any) -> None:
    sessions.raw.insert_one(whole() | {"lease": lease})

    async with sessions.manager("odd") as manager:
        with pytest.raises(CorruptSessionError, match="lease"):
            async with manager.turn():
                pass
        with pytest.raises(CorruptSessionError, match="lease"):
            await manager.update_metadata({"x": 1})


@pytest.mark.parametrize(
    "call", [{"name": "n", "input": {}}, {"toolUseId": "t", "input": {}}, "x", None, {"toolUseId": 1}]
)
async def test_a_call_without_what_pairs_it_is_a_message_that_cannot_be_read(sessions: Sessions, call: Any) -> None:
    sessions.raw.insert_one(changed(whole(), (*AGENT, "messages", 1, "content", 0, "toolUse"), call))

    async with sessions.manager("odd") as manager:
        with pytest.raises(CorruptMessageError, match="message 1 of agent"):
            make_agent(manager, agent_id=AGENT_ID)
    async with sessions.manager("odd", skip_corrupt_messages=True) as manager:
        agent = make_agent(manager, agent_id=AGENT_ID)
        assert agent.messages[0]["content"] == [{"text": "hello"}]
        assert not any("toolUse" in block for message in agent.messages for block in message["content"])


async def test_an_agent_with_a_count_of_nothing_sealed_can_be_deleted(sessions: Sessions) -> None:
    document = whole()
    document["agents"][AGENT_ID]["archived_count"] = 0
    sessions.raw.insert_one(document)

    async with repository_of(sessions) as repository:
        assert await repository.delete_agent("odd", AGENT_ID)


async def test_a_deletion_that_is_refused_for_ever_ends(sessions: Sessions) -> None:
    document = whole()
    document["agents"][AGENT_ID]["archived_count"] = "x"
    sessions.raw.insert_one(document)

    async with repository_of(sessions) as repository:
        with pytest.raises(SessionStoreError, match="again and again"):
            await repository.delete_agent("odd", AGENT_ID)
