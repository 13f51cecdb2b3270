"""A process is killed at every write of a fork: the fork is whole or not there, and the original as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from pymongo.database import Database

from mongodb_session_manager import AsyncMongoDBSessionRepository, SessionExistsError
from mongodb_session_manager.session import writer
from mongodb_session_manager.store import sealing
from tests.faults.test_crash_anywhere import Told
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.support import crash_process
from tests.support.agents import AGENT_ID
from tests.support.crash_process import FORKS, keeping_all
from tests.support.invariants import PAYLOADS, SEGMENTS, check_stored
from tests.support.segments import (
    converse,
    numbers_of,
    said,
    stored_messages,
)

COUNTS = dict(zip(FORKS, (24, 14), strict=True))


def all_of_the_original(database: Database[Document]) -> bytes:
    query = {"session_id": SESSION_ID}
    return b"".join(
        bson.encode(one) for name in (COLLECTION, SEGMENTS, PAYLOADS) for one in database[name].find(query).sort("_id")
    )


async def make_original(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Store a session with segments and large contents, in either of its forks."""
    with monkeypatch.context() as patch:
        for name, size in (("TAIL_BYTES", 1500), ("SIDE_BYTES", 600), ("SEGMENT_BYTES", 1200)):
            patch.setattr(sealing, name, size)
        patch.setattr(writer, "SEAL_AT_BYTES", 3000)
        async with sessions.manager() as manager:
            agent = keeping_all(manager)
            for number in range(24):
                if number % 10 == 2:
                    message = said(number, 100)
                    image = bytes([number]) * crash_process.IMAGE_BYTES
                    message["content"].append({"image": {"format": "png", "source": {"bytes": image}}})
                    agent.messages.append(message)
                    manager.append_message(message, agent)
                    await manager.flush()
                else:
                    await converse(manager, agent, [number], size=300)
    return all_of_the_original(sessions.raw.database)


async def check_left(sessions: Sessions, told: Told, original: bytes) -> None:
    database = sessions.raw.database
    assert all_of_the_original(database) == original
    async with AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION) as repository:
        for position, name in enumerate(FORKS, 1):
            there = await repository.check_session_exists(name)
            if position <= told.counts["forks"]:
                assert there
            if there:
                check_fork(database, name)
        await repository.sweep_orphans(older_than=datetime.now(UTC) + timedelta(seconds=60), dry_run=False)
        living: Any = {one["incarnation"] for one in database[COLLECTION].find({}, {"incarnation": 1})}
        for name in (SEGMENTS, PAYLOADS):
            assert set(database[name].distinct("incarnation")) <= living
        for name in FORKS:
            if not await repository.check_session_exists(name):
                await repository.fork_session(SESSION_ID, name, up_to_message=COUNTS[name] - 1)
            check_fork(database, name)
            with pytest.raises(SessionExistsError):
                await repository.fork_session(SESSION_ID, name)
            await repository.delete_session(name)
    assert all_of_the_original(database) == original


def check_fork(database: Database[Document], name: str) -> None:
    check_stored(database, name)
    assert numbers_of(stored_messages(database, AGENT_ID, name)) == list(range(COUNTS[name]))


@pytest.mark.matrix
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fork_is_whole_or_not_there_after_a_kill(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, when: crash_process.When
) -> None:
    original = await make_original(sessions, monkeypatch)
    for kill_at in (2, 5, 9):
        told = Told(sessions, "fork", kill_at, when)
        assert told.killed
        await check_left(sessions, told, original)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fork_is_whole_or_not_there_after_a_kill_at_any_write(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, when: crash_process.When
) -> None:
    original = await make_original(sessions, monkeypatch)
    kill_at = 1
    while (told := Told(sessions, "fork", kill_at, when)).killed:
        try:
            await check_left(sessions, told, original)
        except BaseException as error:
            error.add_note(f"killed {when} write {kill_at}")
            raise
        kill_at += 1
    assert kill_at > 8
    assert told.counts["forks"] == 2
    await check_left(sessions, told, original)
