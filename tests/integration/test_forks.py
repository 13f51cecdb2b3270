"""Forks of sessions that outgrow one document, while others write to them, redact, delete and sweep."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from pymongo.database import Database
from strands import Agent
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.types.content import Message
from strands.types.session import SessionMessage

from mongodb_session_manager import (
    AgentNotFoundError,
    AsyncMongoDBSessionRepository,
    MessageNotFoundError,
    SessionExistsError,
    SessionNotFoundError,
)
from mongodb_session_manager.store import related_copies, sealing
from mongodb_session_manager.store.fork import SessionFork
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.support.agents import AGENT_ID, make_agent, model_of, streamed
from tests.support.invariants import PAYLOADS, SEGMENTS, check_stored
from tests.support.models import calls, check_history
from tests.support.segments import (
    converse,
    everything,
    numbers_of,
    said,
    segments,
    stored_messages,
)

FORK = "s-2"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several reads for the few segments of a test."""
    monkeypatch.setattr(related_copies, "SEGMENTS_PER_READ", 2)


def repository_of(sessions: Sessions) -> AsyncMongoDBSessionRepository:
    return AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options())


async def sealed_session(sessions: Sessions, count: int = 80, **options: Any) -> None:
    """Store a conversation of so many messages of 4 KB, the first of them sealed."""
    async with sessions.manager(**options) as manager:
        agent = make_agent(manager, conversation_manager=NullConversationManager())
        for number in range(count):
            await converse(manager, agent, [number])
            await manager._lifetime.home.wait()  # How many segments there are decides what is read.
    assert len(segments(sessions.raw.database)) > 2


def all_of(database: Database[Document], session_id: str) -> bytes:
    """Return everything that is stored of one session, byte by byte."""
    query = {"session_id": session_id}
    return b"".join(
        bson.encode(one) for name in (COLLECTION, SEGMENTS, PAYLOADS) for one in database[name].find(query).sort("_id")
    )


def check_nothing_left_over(database: Database[Document]) -> None:
    """Assert that only what living sessions hold is stored."""
    living = {one["incarnation"] for one in database[COLLECTION].find({}, {"incarnation": 1})}
    for name in (SEGMENTS, PAYLOADS):
        assert set(database[name].distinct("incarnation")) <= living


class Between:
    """Does something right before the nth command of a kind that a fork sends; nothing while it does that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, at: int, act: Callable[[], Awaitable[None]]) -> None:
        from mongodb_session_manager import client

        self.count = 0
        self._busy = False
        send = getattr(client.Collection, name)

        async def sent(collection: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._busy:
                self.count += 1
                if self.count == at:
                    self._busy = True
                    await act()
            return await send(collection, *args, **kwargs)

        monkeypatch.setattr(client.Collection, name, sent)


# -- what is copied


async def test_segments_are_copied_and_the_original_stays_as_it_is(sessions: Sessions) -> None:
    await sealed_session(sessions)
    database = sessions.raw.database
    before = all_of(database, SESSION_ID)

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK)
        assert await repository.list_messages(FORK, AGENT_ID) == await repository.list_messages(SESSION_ID, AGENT_ID)
        assert all_of(database, SESSION_ID) == before
        check_stored(database, FORK)

        await repository.delete_session(SESSION_ID)
        await repository.sweep_orphans(older_than=timedelta(0), dry_run=False)
    check_stored(database, FORK)
    assert numbers_of(stored_messages(database, session_id=FORK)) == list(range(80))


@pytest.mark.matrix
@pytest.mark.parametrize("number", [0, 1, 15, 16, 17, 31, 40, 78, 79])
async def test_a_cut_may_lie_in_a_segment(sessions: Sessions, number: int) -> None:
    await sealed_session(sessions)
    database = sessions.raw.database

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK, up_to_message=number)
        check_stored(database, FORK)
        assert numbers_of(stored_messages(database, session_id=FORK)) == list(range(number + 1))
        assert await repository.sweep_orphans(older_than=timedelta(0)) == {"segments": 0, "payloads": 0}

    async with sessions.manager(FORK) as manager:
        agent = make_agent(manager, conversation_manager=NullConversationManager())
        assert numbers_of(agent.messages) == list(range(number + 1))
        await converse(manager, agent, range(number + 1, number + 60))
    check_stored(database, FORK)
    assert numbers_of(stored_messages(database, session_id=FORK)) == list(range(number + 60))


async def test_the_other_agents_are_cut_by_time_in_their_segments(sessions: Sessions) -> None:
    database = sessions.raw.database
    async with sessions.manager() as manager:
        agents = [make_agent(manager, agent_id=name, conversation_manager=NullConversationManager()) for name in "ab"]
        for start in range(0, 60, 10):
            for agent in agents:
                await converse(manager, agent, range(start, start + 10))
    assert {segment["agent"] for segment in segments(database)} == {"a", "b"}

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK, up_to_message=34, agent_id="b")
        await repository.fork_session(SESSION_ID, "s-3", up_to_message=4, agent_id="a")

    for fork, expected in ((FORK, {"a": 40, "b": 35}), ("s-3", {"a": 5, "b": 0})):
        document = check_stored(database, fork)
        for name, agent_document in document["agents"].items():
            assert numbers_of(stored_messages(database, name, fork)) == list(range(expected[name])), (fork, name)
            assert agent_document["next_message_id"] == expected[name]


def picture(number: int) -> Message:
    message = said(number, 100)
    data = bytes([number]) * (5 * 1024 * 1024 if number == 0 else 300 * 1024)
    message["content"].append({"image": {"format": "png", "source": {"bytes": data}}})
    return message


async def pictures(sessions: Sessions, count: int = 4) -> Agent:
    async with sessions.manager() as manager:
        agent = make_agent(manager, conversation_manager=NullConversationManager())
        for number in range(count):
            message = picture(number)
            agent.messages.append(message)
            manager.append_message(message, agent)
        agent.state.set("large", "x" * 1_200_000)
        manager.sync_agent(agent)
        await manager.flush()
    return agent


async def test_large_contents_are_copied(sessions: Sessions) -> None:
    live = await pictures(sessions)
    database = sessions.raw.database
    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK)
        await repository.fork_session(SESSION_ID, "early", up_to_message=1)
        await repository.delete_session(SESSION_ID)
        assert await repository.sweep_orphans(older_than=timedelta(0)) == {"segments": 0, "payloads": 0}

    assert len(database[PAYLOADS].distinct("sha256", {"session_id": "early"})) == 2
    for name, count in ((FORK, 4), ("early", 2)):
        check_stored(database, name)
        async with sessions.manager(name) as manager:
            agent = make_agent(manager, conversation_manager=NullConversationManager())
            assert [m["content"] for m in agent.messages] == [m["content"] for m in live.messages[:count]]
            assert agent.state.get("large") == ("x" * 1_200_000 if name == FORK else None)


async def test_feedbacks_stay_behind_and_sealed_events_come_along(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "SIDE_BYTES", 600)
    await sealed_session(sessions)
    events = [
        {"message_id": n, "agent_id": AGENT_ID, "action": "BLOCKED", "timestamp": datetime(2024, 1, 1, tzinfo=UTC)}
        for n in range(40)
    ]
    sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"guardrail_events": events}})
    async with repository_of(sessions) as repository:
        for number in range(30):
            await repository.add_feedback(SESSION_ID, {"number": number, "comment": "x" * 4000})
        kept = [segment["list"] for segment in segments(sessions.raw.database)]
        assert {"feedbacks", "guardrail_events"} <= set(kept)
        await repository.fork_session(SESSION_ID, FORK)
        await repository.fork_session(SESSION_ID, "early", up_to_message=24)

        assert await repository.get_feedbacks(FORK) == []
        assert await repository.sweep_orphans(older_than=timedelta(0)) == {"segments": 0, "payloads": 0}
    for name, count in ((FORK, 40), ("early", 25)):
        document = check_stored(sessions.raw.database, name)
        sealed = [
            item
            for segment in segments(sessions.raw.database, name, list="guardrail_events")
            for item in segment["items"]
        ]
        assert [e["message_id"] for e in [*sealed, *document["guardrail_events"]]] == list(range(count))
        assert (document.get("guardrail_events_sealed") or {}).get("archived_count", 0) == len(sealed)


# -- what a fork resumes with


@pytest.mark.parametrize("number", [3, 50, 85, 97, 99])
@pytest.mark.parametrize("pin_first", [0, 2])
async def test_a_sliding_window_stays_as_wide_as_it_was(sessions: Sessions, number: int, pin_first: int) -> None:
    def window() -> ConversationManager:
        return SlidingWindowConversationManager(10, pin_first=pin_first)

    async with sessions.manager() as manager:
        agent = make_agent(manager, "ok", conversation_manager=window())
        await converse(manager, agent, range(99))
        await streamed(agent, "message 99 ")
    live = len(agent.messages)
    assert live <= 11

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK, up_to_message=number)

    async with sessions.manager(FORK) as manager:
        resumed = make_agent(manager, "ok", conversation_manager=window())
        numbers = numbers_of(resumed.messages)
        assert numbers[-1] == number
        assert numbers[:pin_first] == list(range(pin_first))
        assert min(number + 1, live) <= len(numbers) <= live + 2
        assert numbers[pin_first:] == list(range(numbers[pin_first], number + 1))
        await streamed(resumed, "message 1000 ")
        check_history(model_of(resumed).requests[0])


async def test_a_window_begins_with_what_a_person_said(sessions: Sessions) -> None:
    from strands import tool

    @tool
    def lookup(word: str) -> str:
        """Look something up."""
        return f"{word}: found"

    def window() -> ConversationManager:
        return SlidingWindowConversationManager(4)

    script = [part for n in range(12) for part in (calls(("lookup", {"word": "a"})), "Found.")]
    async with sessions.manager() as manager:
        agent = make_agent(manager, *script, tools=[lookup], conversation_manager=window())
        for _ in range(12):
            await streamed(agent, "Look up a.")
    assert len(stored_messages(sessions.raw.database)) == 48

    async with repository_of(sessions) as repository:
        for number in range(20, 28):
            name = f"up to {number}"
            await repository.fork_session(SESSION_ID, name, up_to_message=number)
            async with sessions.manager(name) as manager:
                resumed = make_agent(manager, "ok", tools=[lookup], conversation_manager=window())
                assert 4 <= len(resumed.messages) <= 8
                await streamed(resumed, "And now?")
                check_history(model_of(resumed).requests[0])


async def test_a_summary_stays_where_all_that_it_covers_is_older(sessions: Sessions) -> None:
    def window() -> ConversationManager:
        return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=4)

    async with sessions.manager() as manager:
        agent = make_agent(manager, "A summary.", "ok", conversation_manager=window())
        await converse(manager, agent, range(20), size=200)
        agent.conversation_manager.reduce_context(agent)
        await streamed(agent, "message 20 ")
    covered = 20 - (len(agent.messages) - 3)
    assert 0 < covered < 17

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, "after", up_to_message=covered + 1)
        await repository.fork_session(SESSION_ID, "before", up_to_message=covered - 2)

    async with sessions.manager("after") as manager:
        resumed = make_agent(manager, conversation_manager=window())
        assert resumed.messages[0] == agent.messages[0]
        assert numbers_of(resumed.messages[1:]) == [covered, covered + 1]
    async with sessions.manager("before") as manager:
        resumed = make_agent(manager, conversation_manager=window())
        assert numbers_of(resumed.messages) == list(range(covered - 1))


async def test_interrupts_of_later_messages_stay_behind(sessions: Sessions) -> None:
    await sealed_session(sessions)
    interrupts = {"interrupt_state": {"interrupts": {}, "context": {}, "activated": True}, "model_state": {"id": "r-1"}}
    sessions.raw.update_one(
        {"_id": SESSION_ID}, {"$set": {f"agents.{AGENT_ID}.agent_data._internal_state": interrupts}}
    )

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK, up_to_message=77)

    async with sessions.manager(FORK) as manager:
        agent = make_agent(manager, "ok", conversation_manager=NullConversationManager())
        assert await streamed(agent, "Go on.") == "ok"


# -- expiry


async def test_a_fork_expires_as_one(sessions: Sessions) -> None:
    await sealed_session(sessions, ttl=600)
    await pictures(sessions, 2)
    begun = datetime.now(UTC)

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK)

    document = check_stored(sessions.raw.database, FORK)
    assert document["ttl_s"] == 600
    assert document["expires_at"].replace(tzinfo=UTC) >= begun + timedelta(seconds=599)
    for name in (SEGMENTS, PAYLOADS):
        copies = list(sessions.raw.database[name].find({"session_id": FORK}))
        assert copies
        for copied in copies:
            assert copied["expires_at"] >= document["children_expire_at"] > document["expires_at"]


async def test_a_session_that_is_kept_has_a_fork_that_is_kept(sessions: Sessions) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK)

    assert "expires_at" not in check_stored(sessions.raw.database, FORK)
    assert not any("expires_at" in segment for segment in segments(sessions.raw.database, FORK))


# -- meanwhile


STEPS = [("find", at) for at in range(1, 20, 2)] + [("insert_many", at) for at in (1, 2)] + [("insert_one", 1)]


@pytest.mark.parametrize(("name", "at"), STEPS)
async def test_what_is_redacted_meanwhile_does_not_go_with_the_fork(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    await sealed_session(sessions)
    database = sessions.raw.database
    secrets = {number: said(number)["content"][0]["text"] for number in (0, 20, 79)}

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def redact() -> None:
            for number in secrets:
                gone: Message = {"role": said(number)["role"], "content": [{"text": f"message {number} redacted"}]}
                await other.update_message(SESSION_ID, AGENT_ID, SessionMessage(gone, number, redact_message=gone))

        between = Between(monkeypatch, name, at, redact)
        await repository.fork_session(SESSION_ID, FORK)

    assert check_stored(database, FORK)["agents"][AGENT_ID]["next_message_id"] == 80
    if between.count >= at:
        stored = everything(database)
        for text in secrets.values():
            assert text.encode() not in stored
        original, copied = ([m["content"] for m in stored_messages(database, session_id=s)] for s in (SESSION_ID, FORK))
        assert copied == original
    else:
        assert name == "find", "the step is never reached"


@pytest.mark.parametrize("at", range(1, 12))
async def test_a_large_content_that_is_redacted_meanwhile_does_not_go_with_the_fork(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    await pictures(sessions)
    database = sessions.raw.database

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def redact() -> None:
            gone: Message = {"role": "assistant", "content": [{"text": "message 1 redacted"}]}
            await other.update_message(SESSION_ID, AGENT_ID, SessionMessage(gone, 1, redact_message=gone))

        Between(monkeypatch, "find_one", at, redact)
        await repository.fork_session(SESSION_ID, FORK)

    check_stored(database, FORK)
    stored = everything(database)
    redacted = sum(b"message 1 redacted" in bson.encode(d) for d in database[COLLECTION].find({"_id": SESSION_ID}))
    assert (b"\1" * 1000 in stored) is not bool(redacted)
    assert b"\2" * 1000 in stored


@pytest.mark.matrix
@pytest.mark.parametrize("at", [1, 3, 5, 8, 12])
async def test_writers_of_the_original_do_not_tear_the_copy(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    await sealed_session(sessions)
    database = sessions.raw.database

    async with sessions.manager() as writing, repository_of(sessions) as repository:
        agent = make_agent(writing, conversation_manager=NullConversationManager())

        async def write() -> None:
            await converse(writing, agent, range(80, 140))

        Between(monkeypatch, "find", at, write)
        await repository.fork_session(SESSION_ID, FORK)
        await repository.fork_session(SESSION_ID, "s-3", up_to_message=79)

    check_stored(database)
    check_stored(database, FORK)
    numbers = numbers_of(stored_messages(database, session_id=FORK))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 80
    check_stored(database, "s-3")
    assert numbers_of(stored_messages(database, session_id="s-3")) == list(range(80))


@pytest.mark.parametrize("at", [2, 4, 7])
async def test_an_agent_that_is_deleted_meanwhile_does_not_tear_the_copy(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def delete() -> None:
            await other.delete_agent(SESSION_ID, AGENT_ID)

        Between(monkeypatch, "find", at, delete)
        await repository.fork_session(SESSION_ID, FORK)

    check_stored(sessions.raw.database, FORK)
    check_nothing_left_over(sessions.raw.database)


@pytest.mark.parametrize(("name", "at"), [("find_one", 3), ("find_one", 4), ("find", 1), ("find", 2), ("find", 3)])
async def test_a_fork_up_to_a_message_of_an_agent_that_is_deleted_meanwhile_holds_it_or_fails(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def delete() -> None:
            await other.delete_agent(SESSION_ID, AGENT_ID)

        Between(monkeypatch, name, at, delete)
        try:
            await repository.fork_session(SESSION_ID, FORK, up_to_message=9, agent_id=AGENT_ID)
        except (AgentNotFoundError, MessageNotFoundError):
            assert sessions.raw.find_one({"_id": FORK}) is None
        else:
            check_stored(sessions.raw.database, FORK)
            assert numbers_of(stored_messages(sessions.raw.database, session_id=FORK)) == list(range(10))

    check_nothing_left_over(sessions.raw.database)


async def test_a_session_that_is_deleted_meanwhile_is_not_forked(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def delete() -> None:
            await other.delete_session(SESSION_ID)

        Between(monkeypatch, "insert_many", 2, delete)
        with pytest.raises(SessionNotFoundError):
            await repository.fork_session(SESSION_ID, FORK)

    assert sessions.raw.find_one({"_id": FORK}) is None
    check_nothing_left_over(sessions.raw.database)


@pytest.mark.matrix
@pytest.mark.parametrize(("name", "at"), [("find", 3), ("find", 4), ("insert_one", 1)])
async def test_a_sweep_or_deletion_meanwhile_never_leaves_half_a_fork(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as other, repository_of(sessions) as repository:

        async def sweep() -> None:
            await other.sweep_orphans(older_than=datetime.now(UTC) + timedelta(seconds=60), dry_run=False)
            await other.delete_session(FORK)

        Between(monkeypatch, name, at, sweep)
        await repository.fork_session(SESSION_ID, FORK)

    check_stored(sessions.raw.database, FORK)
    assert numbers_of(stored_messages(sessions.raw.database, session_id=FORK)) == list(range(80))


async def test_of_two_forks_of_one_id_one_is_made(sessions: Sessions) -> None:
    await sealed_session(sessions)

    async with repository_of(sessions) as repository:
        results = await asyncio.gather(
            *(repository.fork_session(SESSION_ID, FORK, up_to_message=n) for n in (30, 60, 79)), return_exceptions=True
        )

    assert sorted(type(result).__name__ for result in results) == ["Session", *["SessionExistsError"] * 2]
    assert SessionExistsError in map(type, results)
    check_stored(sessions.raw.database, FORK)
    check_nothing_left_over(sessions.raw.database)


async def test_copies_that_took_long_are_given_a_new_date(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    await sealed_session(sessions, ttl=600)
    old = datetime(2020, 1, 1, tzinfo=UTC)
    insert = SessionFork._copy

    async def aged(fork: SessionFork, *args: Any) -> Any:
        document = await insert(fork, *args)
        made = {"session_id": FORK}
        sessions.raw.database[SEGMENTS].update_many(made, {"$set": {"created_at": old, "expires_at": old}})
        monkeypatch.setattr(SessionFork, "_copy", insert)
        monkeypatch.setattr(related_copies, "_RENEW_AFTER_S", 0.0)
        return document

    monkeypatch.setattr(SessionFork, "_copy", aged)
    async with repository_of(sessions) as repository:
        await repository.fork_session(SESSION_ID, FORK)

    for segment in segments(sessions.raw.database, FORK):
        assert segment["created_at"].year > 2020
        assert segment["expires_at"].year > 2020


# -- without a limit


def fill(database: Database[Document], count: int, per_segment: int = 500) -> None:
    """Store a conversation of so many messages, most of them sealed, as a manager would leave it."""
    document: Any = database[COLLECTION].find_one({"_id": SESSION_ID})
    agent = document["agents"][AGENT_ID]
    archive = agent["archive"]["id"]
    moment = datetime(2024, 1, 1)

    def made() -> Iterator[Document]:
        for number in range(count):
            yield {"message_id": number, **said(number, 200), "created_at": moment, "updated_at": moment}

    items = made()
    for start in range(0, count, per_segment):
        part = [next(items) for _ in range(min(per_segment, count - start))]
        end = start + len(part)
        place = f"{SESSION_ID}/{document['incarnation']}/agents.{AGENT_ID}.messages/{start}/{start:x}"
        database[SEGMENTS].insert_one(
            {
                "_id": place,
                "session_id": SESSION_ID,
                "incarnation": document["incarnation"],
                "list": "messages",
                "agent": AGENT_ID,
                "archive": archive,
                "start": start,
                "end": end,
                "token": f"{start:x}",
                "committed": True,
                "redactions": 0,
                "created_at": moment,
                "items": part,
                "first_id": start,
                "last_id": end - 1,
            }
        )
    prefix = f"agents.{AGENT_ID}"
    fields = {
        f"{prefix}.archived_count": count,
        f"{prefix}.next_message_id": count,
        f"{prefix}.archive.token": f"{start:x}",
        f"{prefix}.window": [[count - 40, None]],
        f"{prefix}.agent_data.conversation_manager_state": {
            "__name__": "SlidingWindowConversationManager",
            "removed_message_count": count - 40,
        },
        "summary.messages": count,
        "has_children": True,
    }
    database[COLLECTION].update_one({"_id": SESSION_ID}, {"$set": fields})


async def fork_in_bounded_memory(sessions: Sessions, count: int) -> None:
    database = sessions.raw.database
    async with sessions.manager() as manager:
        make_agent(manager)
        await manager.flush()
    fill(database, count)

    # Not on a client whose commands are kept.
    async with AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION) as repository:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await repository.fork_session(SESSION_ID, FORK)
        await repository.fork_session(SESSION_ID, "half", up_to_message=count // 2)
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown_mb < 100
        for name, length in ((FORK, count), ("half", count // 2 + 1)):
            assert await repository.get_message_count(name, AGENT_ID) == length
            for offset in (0, length // 2, length - 3):
                page = await repository.list_messages(name, AGENT_ID, limit=3, offset=offset)
                assert [message.message_id for message in page] == list(range(offset, offset + 3))
    async with sessions.manager("half") as manager:
        agent = make_agent(manager, "ok")
        assert 40 <= len(agent.messages) <= 42


async def test_a_long_session_is_forked_in_bounded_memory(sessions: Sessions) -> None:
    await fork_in_bounded_memory(sessions, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_million_messages_are_forked_in_bounded_memory(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    await fork_in_bounded_memory(sessions, 1_000_000)
