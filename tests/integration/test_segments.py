"""Old messages, feedbacks and events leave the session document, and everybody goes on seeing one history."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.types.session import SessionMessage

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    MessageNotFoundError,
    SessionStoreError,
)
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.store.sealing import CROWDED_BYTES, SEAL_AT_BYTES
from mongodb_session_manager.store.updates import UPDATE_BYTES
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.invariants import SEGMENTS, check_stored
from tests.support.models import blocked, texts
from tests.support.resume import check_resumes_as, resume
from tests.support.segments import (
    converse,
    everything,
    numbers_of,
    said,
    segments,
    size_of,
    stored_messages,
)

ALL = NullConversationManager


class Ended(CommandListener):
    """Counts the commands on one collection that have ended."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        self._requests: set[int] = set()
        self._lock = threading.Lock()
        self.count = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command.get(event.command_name) == self._collection:
            with self._lock:
                self._requests.add(event.request_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._end(event.request_id)

    def failed(self, event: CommandFailedEvent) -> None:
        self._end(event.request_id)

    def _end(self, request_id: int) -> None:
        with self._lock:
            self.count += request_id in self._requests


@pytest.fixture
def large_cache(mongo_client: MongoClient[Document]) -> Iterator[None]:
    """Memory in which the server can change a document of 16 MB."""
    name = "wiredTigerEngineRuntimeConfig"
    mongo_client.admin.command({"setParameter": 1, name: "cache_size=1G"})
    yield
    mongo_client.admin.command({"setParameter": 1, name: "cache_size=256M"})


async def sealed_session(sessions: Sessions, count: int = 80, **agent_kwargs: Any) -> list[int]:
    """Store a conversation of so many messages of 4 KB, the first of them sealed."""
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, conversation_manager=ALL(), **agent_kwargs), range(count))
    assert segments(sessions.raw.database)
    return list(range(count))


# -- when and how


async def test_the_oldest_messages_move_into_segments(sessions: Sessions) -> None:
    numbers = await sealed_session(sessions)
    # What arrived while the last seal ran is sealed after the next write.
    numbers.append(len(numbers))
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, conversation_manager=ALL()), numbers[-1:])

    document = check_stored(sessions.raw.database)
    agent = document["agents"][AGENT_ID]
    assert size_of(document) < SEAL_AT_BYTES + 8 * 1024
    assert agent["archived_count"] == len(numbers) - len(agent["messages"])
    assert all(segment["committed"] for segment in segments(sessions.raw.database))
    assert numbers_of(stored_messages(sessions.raw.database)) == numbers


async def test_a_document_below_the_threshold_is_left_alone(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager), range(SEAL_AT_BYTES // 4000 - 4))

    assert {command.collection for command in sessions.recorder.commands} == {COLLECTION}


async def test_a_seal_leaves_a_tail_that_a_window_fits_in(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager), range(150), size=1000)
    async with sessions.manager() as manager:  # What arrived while the last seal ran is sealed after the next write.
        await streamed(make_agent(manager, "Hello!"), "Hi.")

    tail = sessions.raw.find_one({"_id": SESSION_ID})["agents"][AGENT_ID]["messages"]  # type: ignore[index]
    assert len(tail) >= 40
    async with sessions.manager() as manager:
        with sessions.recorder.counting() as commands:
            await streamed(make_agent(manager, "Hello again!"), "Hi.")
    assert commands.names == ["update"] * 2


async def test_a_writer_does_not_wait_for_a_seal(sessions: Sessions, mongo_client: MongoClient[Document]) -> None:
    ended = Ended(SEGMENTS)
    slow = {
        "failCommands": ["update"],
        "namespace": f"{sessions.database_name}.{SEGMENTS}",
        "blockConnection": True,
        "blockTimeMS": 1500,
        "appName": sessions.appname,
    }
    options = {**sessions.client_options(), "event_listeners": [sessions.recorder, ended]}
    async with sessions.manager(**options) as manager:
        agent = make_agent(manager)
        await converse(manager, agent, range(SEAL_AT_BYTES // 4000 - 4))
        with fail_point(mongo_client, {"times": 1}, slow):
            await converse(manager, agent, range(SEAL_AT_BYTES // 4000 - 4, 60))
            ended_meanwhile = ended.count
    assert ended_meanwhile == 0
    assert ended.count > 0
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(60))
    check_stored(sessions.raw.database)


async def test_a_batch_larger_than_an_update_may_be_is_split(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager), range(10), size=1024 * 1024, at_once=True)

    sent = [size_of(c.document) for c in sessions.recorder.commands if c.name == "update"]
    assert max(sent) < UPDATE_BYTES + 64 * 1024
    check_stored(sessions.raw.database)
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(10))


@pytest.mark.usefixtures("large_cache")
async def test_a_writer_seals_first_when_the_limit_of_a_document_is_near(sessions: Sessions) -> None:
    count = CROWDED_BYTES // (1024 * 1024) + 8
    async with sessions.manager(flush_on="invocation") as manager:
        agent = make_agent(manager, conversation_manager=ALL())
        await converse(manager, agent, range(count), size=1024 * 1024, at_once=True)
        await converse(manager, agent, [count])

        updated = [c.collection for c in sessions.recorder.commands if c.name == "update"]
        appended = [
            number
            for number, c in enumerate(sessions.recorder.commands)
            if c.collection == COLLECTION and f"agents.{AGENT_ID}.messages" in _pushed(c.document)
        ]
        first_seal = next(n for n, c in enumerate(sessions.recorder.commands) if c.collection == SEGMENTS)
        assert SEGMENTS in updated
        assert appended[0] < first_seal < appended[-1]

    check_stored(sessions.raw.database)
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(count + 1))


def _pushed(command: Document) -> Document:
    found: Document = {}
    for update in command.get("updates", ()):
        found |= update["u"].get("$push", {})
    return found


@pytest.mark.thorough
async def test_twenty_agents_with_long_tails_share_one_document(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agents = [make_agent(manager, agent_id=f"agent-{number}") for number in range(20)]
        for agent in agents:
            await converse(manager, agent, range(12), size=2000)

    document = check_stored(sessions.raw.database)
    assert size_of(document) < 2 * SEAL_AT_BYTES
    for agent in agents:
        assert numbers_of(stored_messages(sessions.raw.database, agent.agent_id)) == list(range(12))
        resumed = await resume(sessions, agent_id=agent.agent_id)
        assert numbers_of(resumed.messages) == list(range(12))


async def test_a_large_document_of_an_older_tool_is_sealed_on_the_first_write(sessions: Sessions) -> None:
    messages = [
        {"message_id": number, "message": dict(said(number, 20_000)), "created_at": "2024-05-01T10:00:00+00:00"}
        for number in range(300)
    ]
    agent = {"agent_data": {"agent_id": AGENT_ID, "state": {}, "conversation_manager_state": {}}, "messages": messages}
    sessions.raw.insert_one({"_id": SESSION_ID, "agents": {AGENT_ID: agent}, "feedbacks": [], "metadata": {}})

    async with sessions.manager() as manager:
        resumed = make_agent(manager, "Hello again!", conversation_manager=SlidingWindowConversationManager(1000))
        assert numbers_of(resumed.messages) == list(range(300))
        await streamed(resumed, "message 300")

    document = check_stored(sessions.raw.database)
    assert size_of(document) < SEAL_AT_BYTES
    stored = stored_messages(sessions.raw.database)
    assert numbers_of(stored[:301]) == list(range(301))
    assert len(stored) == 302


@pytest.mark.usefixtures("large_cache")
async def test_the_document_of_an_older_tool_near_the_limit_goes_on(sessions: Sessions) -> None:
    messages = [{"message_id": n, "message": dict(said(n, 500_000))} for n in range(31)]
    agent = {"agent_data": {"agent_id": AGENT_ID}, "messages": messages}
    sessions.raw.insert_one({"_id": SESSION_ID, "agents": {AGENT_ID: agent}})

    async with sessions.manager() as manager:
        resumed = make_agent(manager)
        await converse(manager, resumed, range(31, 36), size=500_000)

    document = check_stored(sessions.raw.database)
    assert size_of(document) < 1024 * 1024
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(36))


# -- reading


@pytest.fixture
async def repository(sessions: Sessions) -> AsyncIterator[AsyncMongoDBSessionRepository]:
    async with AsyncMongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as repository:
        yield repository


async def test_pages_are_cut_out_of_the_whole_history(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    numbers = await sealed_session(sessions, 120)
    archived = check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"]
    edges = sorted(
        {0, 1, *(e + d for s in segments(sessions.raw.database) for e in (s["start"], s["end"]) for d in (-1, 0, 1))}
    )

    for offset in [edge for edge in edges if edge >= 0] + [119, 120, 121, 10_000]:
        for limit in (None, 0, 1, 2, 7, archived, 120, 10_000):
            page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=limit, offset=offset)
            expected = numbers[offset:] if limit is None else numbers[offset : offset + limit]
            assert [message.message_id for message in page] == expected
            assert numbers_of([message.to_message() for message in page]) == expected


async def test_a_page_reads_only_the_segments_that_it_lies_in(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    await sealed_session(sessions, 150)
    archived = check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"]
    assert len(segments(sessions.raw.database)) > 3
    second = segments(sessions.raw.database)[1]

    with sessions.recorder.counting() as commands:
        await repository.list_messages(SESSION_ID, AGENT_ID, limit=5, offset=archived)
    assert [command.collection for command in commands] == [COLLECTION]

    with sessions.recorder.counting() as commands:
        page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=3, offset=second["start"])
    assert len(page) == 3
    assert [command.collection for command in commands] == [COLLECTION, SEGMENTS]
    query = commands[1].document["filter"]
    assert [s["_id"] for s in sessions.raw.database[SEGMENTS].find(query)] == [second["_id"]]


async def test_single_messages_are_found_wherever_they_are(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    numbers = await sealed_session(sessions)

    for number in numbers:
        found = await repository.read_message(SESSION_ID, AGENT_ID, number)
        assert found is not None
        assert numbers_of([found.to_message()]) == [number]
    assert await repository.read_message(SESSION_ID, AGENT_ID, len(numbers)) is None
    assert await repository.get_message_count(SESSION_ID, AGENT_ID) == len(numbers)


async def test_what_is_not_committed_counts_for_nothing(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    numbers = await sealed_session(sessions)
    database = sessions.raw.database
    last = segments(database)[-1]
    # Left by sealers that died: one that was refused, and one that nobody refused yet.
    for start, token in ((last["start"], "refused"), (last["end"], "waiting")):
        items = [
            {**item, "message_id": start + n, "content": [{"text": "message 999 "}]}
            for n, item in enumerate(last["items"])
        ]
        database[SEGMENTS].insert_one(
            {
                **last,
                "_id": f"{last['_id']}-{token}",
                "token": token,
                "committed": False,
                "start": start,
                "end": start + len(items),
                "first_id": start,
                "last_id": start + len(items) - 1,
                "items": items,
            }
        )

    found = await repository.list_messages(SESSION_ID, AGENT_ID)
    assert numbers_of([message.to_message() for message in found]) == numbers
    live = await resume(sessions, conversation_manager=ALL())
    assert numbers_of(live.messages) == numbers
    for number in numbers:
        message = await repository.read_message(SESSION_ID, AGENT_ID, number)
        assert message is not None
        assert numbers_of([message.to_message()]) == [number]
    pipeline = await repository.messages_pipeline(SESSION_ID)
    assert numbers_of(sessions.raw.aggregate(pipeline)) == numbers

    # The next seal and the sweep take them away.
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, conversation_manager=ALL()), range(80, 140))
    assert await repository.sweep_orphans(older_than=timedelta(0), dry_run=False) == {"segments": 0, "payloads": 0}
    assert segments(database, committed=False) == []
    assert b"message 999 " not in everything(database)
    assert numbers_of(stored_messages(database)) == list(range(140))


async def test_a_segment_that_the_document_names_counts_before_it_is_marked(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    numbers = await sealed_session(sessions)
    database = sessions.raw.database
    last = segments(database)[-1]
    database[SEGMENTS].update_one({"_id": last["_id"]}, {"$set": {"committed": False}})

    found = await repository.list_messages(SESSION_ID, AGENT_ID)
    assert numbers_of([message.to_message() for message in found]) == numbers
    assert await repository.sweep_orphans(older_than=timedelta(0), dry_run=False) == {"segments": 0, "payloads": 0}

    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, conversation_manager=ALL()), range(80, 120))
    assert segments(database, _id=last["_id"])[0]["committed"]
    check_stored(database)


async def test_lost_segments_are_an_error_and_no_gap(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    await sealed_session(sessions)
    sessions.raw.database[SEGMENTS].delete_one({"start": 0})

    with pytest.raises(SessionStoreError, match="missing"):
        await repository.list_messages(SESSION_ID, AGENT_ID)
    with pytest.raises(SessionStoreError, match="missing"):
        async with sessions.manager():
            pytest.fail("opened with a gap")
    tail = await repository.list_messages(SESSION_ID, AGENT_ID, offset=79)
    assert numbers_of([message.to_message() for message in tail]) == [79]
    async with sessions.manager(skip_corrupt_messages=True) as manager:
        assert numbers_of(make_agent(manager, conversation_manager=ALL()).messages)[-1] == 79


# -- changing


async def test_a_sealed_message_can_be_changed_and_redacted(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    await sealed_session(sessions)
    changed = SessionMessage({"role": "user", "content": [{"text": "message 2 changed"}]}, 2)
    await repository.update_message(SESSION_ID, AGENT_ID, changed)
    redacted = SessionMessage(said(4), 4, redact_message={"role": "user", "content": [{"text": "message 4 redacted"}]})
    await repository.update_message(SESSION_ID, AGENT_ID, redacted)

    found = {number: await repository.read_message(SESSION_ID, AGENT_ID, number) for number in (2, 4)}
    assert [texts([m.to_message()])[0] for m in found.values() if m] == ["message 2 changed", "message 4 redacted"]
    assert said(4)["content"][0]["text"].encode() not in everything(sessions.raw.database)
    with pytest.raises(SessionStoreError, match="redacted"):
        await repository.update_message(SESSION_ID, AGENT_ID, SessionMessage(said(4), 4))
    with pytest.raises(MessageNotFoundError):
        await repository.update_message(SESSION_ID, AGENT_ID, SessionMessage(said(80), 80))
    check_stored(sessions.raw.database)


async def test_an_agent_redacts_a_message_that_was_sealed_meanwhile(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as other:
        agent = make_agent(one)
        await converse(one, agent, range(3))
        await one.flush()
        rival = make_agent(other, "fine", agent_id="rival")
        await streamed(rival, "Hi.")
        await other.repository.create_message(SESSION_ID, AGENT_ID, SessionMessage(said(3), 3))
        for number in range(4, 60):
            await other.repository.create_message(SESSION_ID, AGENT_ID, SessionMessage(said(number), number))
        assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 3

        one.redact_latest_message({"role": "user", "content": [{"text": "message 2 redacted"}]}, agent)
        await one.flush()

    stored = stored_messages(sessions.raw.database)
    assert stored[2]["content"] == [{"text": "message 2 redacted"}]
    assert stored[2]["guardrail_event"]["action"] == "BLOCKED"
    assert said(2)["content"][0]["text"].encode() not in everything(sessions.raw.database)


async def test_a_broken_pair_in_a_segment_is_mended(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    call: Any = {"toolUse": {"toolUseId": "t-1", "name": "lookup", "input": {}}}
    async with sessions.manager() as manager:
        agent = make_agent(manager)
        await converse(manager, agent, [0])
        broken: Any = {"role": "assistant", "content": [{"text": "message 1 "}, call]}
        agent.messages.append(broken)
        manager.append_message(broken, agent)
        await converse(manager, agent, range(2, 60))
    assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 3

    report = await repository.repair_session(SESSION_ID)
    assert report["broken"] == 1
    assert (await repository.repair_session(SESSION_ID, dry_run=False))["mended"] == 1
    assert (await repository.repair_session(SESSION_ID))["broken"] == 0
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(60))


# -- resuming


@pytest.mark.matrix
@pytest.mark.parametrize("window", [2, 10, 40, 60, 75, 80, 1000])
async def test_windows_reach_into_segments(sessions: Sessions, window: int) -> None:
    conversation_manager = SlidingWindowConversationManager(window)
    async with sessions.manager() as manager:
        agent = make_agent(manager, *["ok"] * 2, conversation_manager=conversation_manager)
        await converse(manager, agent, range(78))
        await streamed(agent, "message 78 ")
    tail = check_stored(sessions.raw.database)["agents"][AGENT_ID]["messages"]

    with sessions.recorder.counting() as commands:
        await check_resumes_as(sessions, agent, conversation_manager=SlidingWindowConversationManager(window))
    reads = [command.collection for command in commands if command.name == "find"]
    assert reads == ([COLLECTION] if len(agent.messages) <= len(tail) else [COLLECTION, SEGMENTS])


async def test_a_pinned_head_comes_back_from_its_segment(sessions: Sessions) -> None:
    def pinned() -> SlidingWindowConversationManager:
        return SlidingWindowConversationManager(6, pin_first=2)

    async with sessions.manager() as manager:
        agent = make_agent(manager, "ok", conversation_manager=pinned())
        await converse(manager, agent, range(90))
        await streamed(agent, "message 90 ")
    assert numbers_of(agent.messages[:2]) == [0, 1]

    resumed = await check_resumes_as(sessions, agent, conversation_manager=pinned())
    assert numbers_of(resumed.messages[:2]) == [0, 1]


async def test_several_agents_reach_into_segments_with_one_find(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for agent_id in ("a", "b", "c"):
            await converse(manager, make_agent(manager, agent_id=agent_id, conversation_manager=ALL()), range(40))

    with sessions.recorder.counting() as commands:
        async with sessions.manager() as manager:
            for agent_id in ("a", "b", "c"):
                resumed = make_agent(manager, agent_id=agent_id, conversation_manager=ALL())
                assert numbers_of(resumed.messages) == list(range(40))
    assert [command.collection for command in commands] == [COLLECTION, SEGMENTS]


async def test_totals_are_those_of_the_whole_conversation(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "one", "two")
        await streamed(agent, "message 0 ")
        await converse(manager, agent, range(2, 80))
        await streamed(agent, "message 80 ")
        before = await manager.get_metrics_summary()
        count = await manager.get_message_count(AGENT_ID)
    assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 2

    async with sessions.manager() as manager:
        assert await manager.get_metrics_summary() == before
        assert await manager.get_message_count(AGENT_ID) == count == 82
    assert before["tokens"]["total"] == 30


# -- for users' own queries


async def test_the_pipeline_gives_all_messages_of_all_agents_in_order(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    async with sessions.manager() as manager:
        for agent_id in ("a", "b"):
            await converse(manager, make_agent(manager, agent_id=agent_id), range(50))
        await converse(manager, make_agent(manager, agent_id="short"), range(2))

    found = list(sessions.raw.aggregate(await repository.messages_pipeline(SESSION_ID)))
    assert [(m["agent"], m["message_id"]) for m in found] == [
        *(("a", n) for n in range(50)),
        *(("b", n) for n in range(50)),
        *(("short", n) for n in range(2)),
    ]
    assert {message["session_id"] for message in found} == {SESSION_ID}
    one = list(sessions.raw.aggregate(await repository.messages_pipeline(SESSION_ID, "b")))
    assert numbers_of(one) == list(range(50))
    assert list(sessions.raw.aggregate(await repository.messages_pipeline(SESSION_ID, "nobody"))) == []


# -- feedbacks and events


async def test_feedbacks_are_sealed_and_stay_in_order(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for number in range(700):
            await manager.add_feedback({"rating": "up", "number": number, "comment": "x" * 150})

    document = check_stored(sessions.raw.database)
    assert document["feedbacks_sealed"]["archived_count"] > 300
    assert document["summary"]["feedbacks"] == 700
    async with sessions.manager() as manager:
        assert [feedback["number"] for feedback in await manager.get_feedbacks()] == list(range(700))
        await manager.add_feedback({"rating": "down", "number": 700})
        assert [feedback["number"] for feedback in await manager.get_feedbacks()] == list(range(701))


async def test_guardrail_events_are_sealed(sessions: Sessions) -> None:
    database = sessions.raw.database
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, blocked(user="[redacted]")), "my secret")
    event = sessions.document()["guardrail_events"][0]
    events = [{**event, "message_id": number, "note": "x" * 200} for number in range(600)]
    sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"guardrail_events": events, "live_bytes": SEAL_AT_BYTES}})

    async with sessions.manager() as manager:
        await streamed(make_agent(manager, blocked(user="[redacted]")), "another secret")

    document = check_stored(database)
    sealed = segments(database, list="guardrail_events")
    ids = [item["message_id"] for segment in sealed for item in segment["items"]]
    ids += [item["message_id"] for item in document["guardrail_events"]]
    assert ids == [*range(600), 2]
    assert document["guardrail_events"][-1]["stop_reason"] == "guardrail_intervened"
    assert len(document["guardrail_events"]) < 100


# -- deleting


async def test_deleting_a_session_takes_its_segments_along(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    await sealed_session(sessions)
    async with sessions.manager("s-2") as manager:
        await converse(manager, make_agent(manager), range(60))

    assert await repository.delete_session(SESSION_ID) == 1
    assert segments(sessions.raw.database) == []
    assert segments(sessions.raw.database, "s-2")
    check_stored(sessions.raw.database, "s-2")


async def test_deleting_an_agent_takes_its_segments_along(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    async with sessions.manager() as manager:
        for agent_id in ("a", "b"):
            await converse(manager, make_agent(manager, agent_id=agent_id), range(60))

    assert await repository.delete_agent(SESSION_ID, "a")
    assert {segment["agent"] for segment in segments(sessions.raw.database)} == {"b"}
    check_stored(sessions.raw.database)

    async with sessions.manager() as manager:
        agent = make_agent(manager, agent_id="a")
        assert agent.messages == []
        await converse(manager, agent, range(100, 160))
    assert numbers_of(stored_messages(sessions.raw.database, "a")) == list(range(100, 160))
    check_stored(sessions.raw.database)


async def test_an_agent_never_sees_the_segments_of_a_deleted_one_of_its_id(
    sessions: Sessions, repository: AsyncMongoDBSessionRepository
) -> None:
    await sealed_session(sessions)
    left_over = segments(sessions.raw.database)
    await repository.delete_agent(SESSION_ID, AGENT_ID)
    # As when the process died before it had deleted them.
    sessions.raw.database[SEGMENTS].insert_many(left_over)

    async with sessions.manager() as manager:
        agent = make_agent(manager, conversation_manager=ALL())
        await converse(manager, agent, range(100, 160))
    assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 3
    found = await repository.list_messages(SESSION_ID, AGENT_ID)
    assert numbers_of([message.to_message() for message in found]) == list(range(100, 160))
    await check_resumes_as(sessions, agent, conversation_manager=ALL())
    pipeline = await repository.messages_pipeline(SESSION_ID)
    assert numbers_of(sessions.raw.aggregate(pipeline)) == list(range(100, 160))

    swept = await repository.sweep_orphans(older_than=timedelta(0), dry_run=False)
    assert swept["segments"] == len(left_over)
    assert numbers_of(stored_messages(sessions.raw.database)) == list(range(100, 160))


# -- other servers


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo("standalone") as server:
        yield server.uri


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["standalone", "mock", "without retryable writes"])
async def test_sealing_needs_nothing_that_a_plain_server_lacks(
    kind: str, request: pytest.FixtureRequest, database_name: str
) -> None:
    options: Document = {"client": AsyncMongoMockClient()}
    if kind == "standalone":
        options = {"connection_string": request.getfixturevalue("standalone")}
    elif kind != "mock":
        options = {"connection_string": request.getfixturevalue("mongo_uri"), "retryWrites": False}

    def opened() -> AsyncMongoDBSessionManager:
        return AsyncMongoDBSessionManager(
            SESSION_ID, database_name=database_name, collection_name=COLLECTION, ensure_indexes=False, **options
        )

    async with AsyncExitStack() as stack:
        manager = await stack.enter_async_context(opened())
        agent = make_agent(manager, conversation_manager=ALL())
        await converse(manager, agent, range(70))
        for number in range(600):
            await manager.add_feedback({"number": number, "comment": "x" * 200})
        await manager.close()

        manager = await stack.enter_async_context(opened())
        document: Any = await manager.collection.find_one({"_id": SESSION_ID})
        assert document["agents"][AGENT_ID]["archived_count"] > 30
        assert document["feedbacks_sealed"]["archived_count"] > 30
        resumed = make_agent(manager, "ok", conversation_manager=ALL())
        assert numbers_of(resumed.messages) == list(range(70))
        assert [feedback["number"] for feedback in await manager.get_feedbacks()] == list(range(600))

        repository = manager.repository
        secret = SessionMessage(
            said(1), 1, redact_message={"role": "assistant", "content": [{"text": "message 1 gone"}]}
        )
        await repository.update_message(SESSION_ID, AGENT_ID, secret)
        page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=3, offset=0)
        assert texts([page[1].to_message()]) == ["message 1 gone"]
        page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=30, offset=30)
        assert [message.message_id for message in page] == list(range(30, 60))

        await streamed(resumed, "message 70 ")
        assert await manager.get_message_count(AGENT_ID) == 72
        await manager.close()  # Waits for a seal that may be under way, whose segment would be swept.
        manager = await stack.enter_async_context(opened())
        repository = manager.repository
        assert await repository.sweep_orphans(older_than=timedelta(0), dry_run=False) == {"segments": 0, "payloads": 0}
        await manager.delete_session()
        left = manager.collection.database[SEGMENTS]
        assert await left.count_documents({}) == 0
