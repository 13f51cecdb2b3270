"""A process is killed at every write that it sends: what it leaves is whole, and the next process goes on."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.fixtures.sessions import (
    SESSION_ID,
    Document,
    Sessions,
)
from tests.support import crash_process
from tests.support.agents import AGENT_ID, streamed
from tests.support.crash_process import keeping_all, lookup
from tests.support.invariants import PAYLOADS, SEGMENTS, check_stored
from tests.support.resume import check_same_messages
from tests.support.segments import (
    converse,
    everything,
    numbers_of,
    stored_messages,
    texts,
)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.support.crash_process"])

_LONGEST_S = 60


class Told:
    """What the child had acknowledged before it was killed.

    Attributes:
        killed: Whether it was.
        counts: The latest number of each kind.
        redacted: Texts that were redacted.
    """

    def __init__(self, sessions: Sessions, name: str, kill_at: int, when: crash_process.When) -> None:
        """Run the child to its end."""
        self.counts: Counter[str] = Counter()
        self.redacted: list[str] = []
        ours, theirs = PROCESSES.Pipe(duplex=False)
        args = (sessions.uri, sessions.database_name, name, kill_at, when, theirs)
        child = PROCESSES.Process(target=crash_process.run, args=args)
        child.start()
        theirs.close()
        try:
            while ours.poll(_LONGEST_S):
                self._note(*ours.recv())
        except EOFError:
            ours.close()
        child.join(_LONGEST_S)
        assert child.exitcode in (0, -signal.SIGKILL), f"the child ended with {child.exitcode}"
        self.killed = child.exitcode != 0
        child.close()

    def _note(self, kind: str, value: Any) -> None:
        if kind == "redacted":
            self.redacted.append(value)
        else:
            self.counts[kind] = value


async def check_goes_on(sessions: Sessions, name: str, told: Told) -> None:
    """Assert that what was left behind is whole, holds all that was acknowledged, and can be gone on with."""
    database = sessions.raw.database
    if sessions.raw.find_one({"_id": SESSION_ID}) is not None:
        check_left(sessions, name, told)
    async with sessions.manager() as manager:
        agent = keeping_all(manager, "Going on.", tools=[lookup])
        # The scripted model refuses what a strict provider would.
        assert await streamed(agent, "Go on.") == "Going on."
        stored = await manager.repository.list_messages(SESSION_ID, AGENT_ID)
        assert texts(stored)[-2:] == ["Go on.", "Going on."]
        assert [message.message_id for message in stored] == list(range(len(stored)))
        before = [message["message_id"] for message in stored_messages(database)]

        if name != "delete":
            await converse(manager, agent, range(100, 102), size=300)
        await manager.repository.sweep_orphans(older_than=timedelta(0), dry_run=False)
    check_stored(database)
    assert [m["message_id"] for m in stored_messages(database)][: len(before)] == before
    check_nothing_left_over(sessions)
    for text in told.redacted:
        assert text.encode() not in everything(database)

    async with sessions.manager() as manager:
        resumed = keeping_all(manager, tools=[lookup])
        kept = {message["tracking_id"] for message in stored_messages(database)}
        made_up = [n for n, message in enumerate(agent.messages) if message["tracking_id"] not in kept]
        check_same_messages(agent.messages, resumed.messages, synthetic=made_up)


def check_left(sessions: Sessions, name: str, told: Told) -> None:
    database = sessions.raw.database
    document = check_stored(database)
    messages = stored_messages(database) if AGENT_ID in document["agents"] else []
    if name in ("seal", "redact", "offload", "delete"):
        assert numbers_of(messages) == list(range(len(messages)))
    if "message" in told.counts:
        assert len(messages) > told.counts["message"]
    if "turns" in told.counts:
        assert len(messages) >= (0, 2, 6, 8)[told.counts["turns"]]
    assert document["summary"]["feedbacks"] >= told.counts["feedbacks"]
    for text in told.redacted:
        assert text.encode() not in everything(database)


def check_nothing_left_over(sessions: Sessions) -> None:
    """Assert that a sweep leaves only what counts."""
    database = sessions.raw.database
    document: Any = sessions.raw.find_one({"_id": SESSION_ID})
    named = {agent.get("archive", {}).get("token") for agent in document["agents"].values()}
    named |= {(document.get(name) or {}).get("archive", {}).get("token") for name in ("feedbacks_sealed",)}
    uncounted = [s for s in database[SEGMENTS].find({"committed": False}) if s["token"] not in named]
    assert uncounted == []
    referred = {name for message in stored_messages(database) for name in message.get("payloads", ())}
    marks = [value for agent in document["agents"].values() for value in marks_in(agent["agent_data"])]
    referred |= {mark["value"] for mark in marks} | {name for mark in marks for name in mark.get("payloads", ())}
    assert {chunk["sha256"] for chunk in database[PAYLOADS].find({}, {"sha256": 1})} == referred


def marks_in(value: Any) -> Iterator[Document]:
    """Yield what stands for large contents in a stored value."""
    if isinstance(value, dict):
        if value.get("__bson__") in ("payload", "packed"):
            yield value
        for item in value.values():
            yield from marks_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from marks_in(item)


def forget(sessions: Sessions) -> None:
    for name in sessions.raw.database.list_collection_names():
        sessions.raw.database[name].delete_many({})


@pytest.mark.thorough
async def test_a_process_that_is_not_killed_leaves_nothing_over(sessions: Sessions) -> None:
    """What the other tests compare with: the work ends, and each kind of work does what it is there for."""
    for name, at_least in (
        ("seal", "segments"),
        ("redact", "segments"),
        ("offload", "payloads"),
        ("delete", "segments"),
    ):
        told = Told(sessions, name, 0, "before")
        assert not told.killed
        assert told.counts["writes"] > 10
        assert sessions.raw.database[f"{sessions.raw.name}_{at_least}"].count_documents({}) > 0
        await check_goes_on(sessions, name, told)
        forget(sessions)


@pytest.mark.matrix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["turns", "seal", "redact", "offload", "delete"])
async def test_a_session_goes_on_after_a_kill(sessions: Sessions, name: str, when: crash_process.When) -> None:
    # Steps that are primes to each other with what one seal takes, so that different ones are hit.
    for kill_at in {"turns": (2, 5), "seal": (9, 15, 22), "redact": (12, 18), "offload": (4, 13), "delete": (13, 20)}[
        name
    ]:
        told = Told(sessions, name, kill_at, when)
        assert told.killed
        await check_goes_on(sessions, name, told)
        forget(sessions)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", list(crash_process.WORK))
async def test_a_session_goes_on_after_a_kill_at_any_write(
    sessions: Sessions, name: str, when: crash_process.When
) -> None:
    kill_at = 1
    while (told := Told(sessions, name, kill_at, when)).killed:
        try:
            await check_goes_on(sessions, name, told)
        except BaseException as error:
            error.add_note(f"killed {when} write {kill_at} of {name!r}")
            raise
        forget(sessions)
        kill_at += 1
    assert kill_at > 5
    await check_goes_on(sessions, name, told)
