"""What is written while a turn begins or ends, by its own manager or by others, is stored or refused for the reason."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest
from strands.types.session import SessionAgent

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    LeaseUnavailableError,
    SessionStoreError,
)
from mongodb_session_manager.client import Collection
from mongodb_session_manager.store.executor import UpdateExecutor
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.fixtures.waiting import eventually, happened
from tests.support.agents import AGENT_ID, make_agent

HOUR_S = 3600


class Gate:
    """Holds one command up, before it is sent or after it was answered."""

    def __init__(self) -> None:
        # Not asyncio's: a lease is taken and given back on the library's own loop.
        self.reached = threading.Event()
        self.opened = threading.Event()

    async def wait(self) -> None:
        self.reached.set()
        await happened(self.opened)


def hold_up(
    patch: pytest.MonkeyPatch,
    method: str,
    concerns: Callable[[Mapping[str, Any]], bool],
    *,
    sent: bool,
) -> Gate:
    """Hold up the first update that a condition is true of, which `sent` says is sent before or after that."""
    gate, original = Gate(), getattr(Collection, method)

    async def held_up(self: Collection, filter: Any, update: Any, **options: Any) -> Any:
        if gate.reached.is_set() or not concerns(update):
            return await original(self, filter, update, **options)
        if not sent:
            await gate.wait()
        result = await original(self, filter, update, **options)
        if sent:
            await gate.wait()
        return result

    patch.setattr(Collection, method, held_up)
    return gate


def sets_metadata(update: Mapping[str, Any]) -> bool:
    return any(path.startswith("metadata") for path in update.get("$set", ()))


def takes_turn(update: Mapping[str, Any]) -> bool:
    return "lease" in update.get("$set", ())


def gives_turn_back(update: Mapping[str, Any]) -> bool:
    return "lease" in update.get("$unset", ())


async def by_manager(manager: AsyncMongoDBSessionManager) -> None:
    await manager.update_metadata({"a": 1})


async def by_repository(manager: AsyncMongoDBSessionManager) -> None:
    await manager.repository.update_metadata(SESSION_ID, {"a": 1})


writers = pytest.mark.parametrize("write", [by_manager, by_repository])
Write = Callable[[AsyncMongoDBSessionManager], Awaitable[None]]


@writers
async def test_an_update_that_was_sent_before_the_turn_and_arrives_in_it(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    async with sessions.manager() as manager:
        await manager.flush()
        gate = hold_up(monkeypatch, "update_by_id", sets_metadata, sent=False)
        writing = asyncio.ensure_future(write(manager))
        await happened(gate.reached)
        entering = asyncio.ensure_future(enter_and_leave(manager, writing))
        await eventually(lambda: "lease" in sessions.document())
        gate.opened.set()

        await writing
        await entering

    assert sessions.document()["metadata"] == {"a": 1}
    assert "lease" not in sessions.document()


@writers
async def test_an_update_while_the_manager_does_not_know_yet_that_it_has_the_turn(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    async with sessions.manager() as manager:
        await manager.flush()
        gate = hold_up(monkeypatch, "update_one", takes_turn, sent=True)
        entering = asyncio.ensure_future(enter_and_leave(manager))
        await happened(gate.reached)
        assert "lease" in sessions.document()

        await write(manager)
        gate.opened.set()
        await entering

    assert sessions.document()["metadata"] == {"a": 1}


@writers
async def test_an_update_while_the_turn_is_given_back(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    async with sessions.manager() as manager:
        await manager.flush()
        gate = hold_up(monkeypatch, "update_one", gives_turn_back, sent=False)
        leaving = asyncio.ensure_future(enter_and_leave(manager))
        await happened(gate.reached)

        writing = asyncio.ensure_future(write(manager))
        await asyncio.wait([writing], timeout=0.05)
        gate.opened.set()
        await writing
        await leaving

    assert sessions.document()["metadata"] == {"a": 1}


async def test_an_update_of_the_turn_that_arrives_after_it_loses_nothing(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sessions.manager() as manager:
        await manager.flush()
        gate = hold_up(monkeypatch, "update_by_id", sets_metadata, sent=False)
        async with manager.turn(lease_s=HOUR_S):
            writing = asyncio.ensure_future(by_repository(manager))
            await happened(gate.reached)
        gate.opened.set()

        await writing

    assert sessions.document()["metadata"] == {"a": 1}


async def test_an_update_while_the_manager_waits_for_another_holder_is_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sessions.manager() as holder, sessions.manager() as manager:
        await holder.flush()
        async with holder.turn(lease_s=HOUR_S):
            waiting = asyncio.ensure_future(enter_and_leave(manager))
            await asyncio.sleep(0)
            with pytest.raises(LeaseUnavailableError):
                await manager.update_metadata({"a": 1})
            assert not waiting.done()

        await waiting
        await manager.update_metadata({"a": 2})

    assert sessions.document()["metadata"] == {"a": 2}


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    options = sessions.client_options()
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **options)


def session_agent(agent_id: str) -> SessionAgent:
    return SessionAgent(agent_id=agent_id, state={"a": 1}, conversation_manager_state={})


async def a_new_agent(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.create_agent(SESSION_ID, session_agent("another"))


async def a_changed_agent(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.update_agent(SESSION_ID, session_agent(AGENT_ID))


async def a_feedback_with_a_key(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.add_feedback(SESSION_ID, {"rating": "up"}, idempotency_key="k-1")


@pytest.mark.parametrize("write", [a_new_agent, a_changed_agent, a_feedback_with_a_key])
async def test_an_update_that_a_turn_refused_which_is_over_by_now(
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[AsyncMongoDBSessionRepository], Coroutine[Any, Any, None]],
) -> None:
    async with sessions.manager() as holder, repository_of(sessions) as repository:
        make_agent(holder)
        await holder.flush()
        gate = hold_up(monkeypatch, "update_by_id", lambda update: True, sent=True)
        async with holder.turn(lease_s=HOUR_S):
            before = sessions.document()["revision"]
            writing = asyncio.ensure_future(write(repository))
            await happened(gate.reached)
        gate.opened.set()

        await writing

    assert sessions.document()["revision"] == before + 1


async def a_title(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.rename_session(SESSION_ID, "Trees")


async def metadata_less(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.delete_metadata(SESSION_ID, ["a"])


async def metadata_more(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.update_metadata(SESSION_ID, {"b": 1})


every_write = pytest.mark.parametrize(
    "write", [a_new_agent, a_changed_agent, a_feedback_with_a_key, a_title, metadata_less, metadata_more]
)


@every_write
async def test_an_update_that_is_refused_for_no_reason_that_can_be_seen_is_an_error(
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[AsyncMongoDBSessionRepository], Coroutine[Any, Any, None]],
) -> None:
    async with sessions.manager() as manager:
        make_agent(manager)
        await manager.flush()
    original = UpdateExecutor._completed

    def impossible(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**original(*args, **kwargs), "what nothing has": 1}

    monkeypatch.setattr(UpdateExecutor, "_completed", impossible)
    before = sessions.document()
    async with repository_of(sessions) as repository:
        with pytest.raises(SessionStoreError, match="'s-1' refuses a change again and again"):
            await write(repository)

    assert sessions.document() == before


@every_write
async def test_a_lease_of_null_is_none(
    sessions: Sessions, write: Callable[[AsyncMongoDBSessionRepository], Coroutine[Any, Any, None]]
) -> None:
    async with sessions.manager() as manager:
        make_agent(manager)
        await manager.flush()
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"lease": None}})

        async with repository_of(sessions) as repository:
            await write(repository)
        async with manager.turn(lease_s=HOUR_S):
            assert sessions.document()["lease"]["lease_s"] == HOUR_S

    assert sessions.document()["revision"] > 0


async def test_a_cancelled_wait_for_the_turn_leaves_the_manager_without_it(sessions: Sessions) -> None:
    async with sessions.manager() as holder, sessions.manager() as manager:
        await holder.flush()
        async with holder.turn(lease_s=HOUR_S):
            waiting = asyncio.ensure_future(enter_and_leave(manager))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        await manager.update_metadata({"a": 1})

    assert sessions.document()["metadata"] == {"a": 1}


async def enter_and_leave(manager: AsyncMongoDBSessionManager, until: Awaitable[object] | None = None) -> None:
    async with manager.turn(lease_s=HOUR_S):
        if until is not None:
            await until
