"""Several writers at one session, their commands interleaved in any order: everybody sees one and the same history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient
from strands.agent.conversation_manager import NullConversationManager
from strands.types.session import SessionMessage

from mongodb_session_manager import (
    AgentNotFoundError,
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    MessageNotFoundError,
    SessionNotFoundError,
)
from mongodb_session_manager.client import ClientHandle
from mongodb_session_manager.client import retry as retry_module
from mongodb_session_manager.store import sealing as sealing_module
from mongodb_session_manager.store.sealing import Sealer
from mongodb_session_manager.store.segments import Segments
from mongodb_session_manager.store.store import SessionStore
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
)
from tests.support.agents import AGENT_ID, make_agent
from tests.support.interleave import Interleaver, interleaved
from tests.support.invariants import check_stored
from tests.support.segments import (
    converse,
    everything,
    numbers_of,
    said,
    segments,
    stored_messages,
)

SIZE = 100
BEGIN = 16
SOME = (9, 1, 12, 8)
SECRET = "the secret number"

Order = list[tuple[int, int]]

orders = st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12)), max_size=30)
losses = st.sets(st.integers(1, 40), max_size=3)
few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
# Without shrinking: that is minutes of commands, and the failure says its order of commands anyway.
many = settings(few, max_examples=150, phases=[Phase.explicit, Phase.generate])


@pytest.fixture(autouse=True)
def small_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal after a few messages, a few at a time."""
    monkeypatch.setattr(sealing_module, "TAIL_BYTES", 700)
    monkeypatch.setattr(sealing_module, "SEGMENT_BYTES", 1500)
    monkeypatch.setattr(retry_module, "_FIRST_PAUSE_S", 0.001)


@dataclass
class Arena:
    """One session with a beginning, and whoever works on it."""

    client: AsyncMongoClient[Document]
    raw: MongoClient[Document]
    name: str
    managers: list[AsyncMongoDBSessionManager] = field(default_factory=list)

    @property
    def database(self) -> Any:
        return self.raw[self.name]

    async def manager(self) -> AsyncMongoDBSessionManager:
        """Open a manager, closed at the end."""
        manager = AsyncMongoDBSessionManager(
            SESSION_ID, database_name=self.name, collection_name=COLLECTION, client=self.client, ensure_indexes=False
        )
        await manager.open()
        self.managers.append(manager)
        return manager

    def repository(self) -> AsyncMongoDBSessionRepository:
        return AsyncMongoDBSessionRepository(database_name=self.name, collection_name=COLLECTION, client=self.client)

    def sealer(self) -> Callable[[], Awaitable[Any]]:
        """Return what seals, as a process of its own would."""
        store = SessionStore(ClientHandle(client=self.client), self.name, COLLECTION)
        sealer = Sealer(store, Segments(store))
        incarnation = self.incarnation()

        async def seal() -> None:
            await sealer.seal(SESSION_ID, incarnation)

        return seal

    def incarnation(self) -> str:
        document = self.database[COLLECTION].find_one({"_id": SESSION_ID})
        return str(document["incarnation"]) if document else ""

    def nowhere(self, text: str) -> bool:
        return text.encode() not in everything(self.database)

    async def begin(self, *, sealed: int = BEGIN // 2) -> None:
        """Store the beginning of a conversation: so many messages and then a seal, and more that wait for one."""
        manager = await self.manager()
        agent = make_agent(manager, conversation_manager=ALL())
        await converse(manager, agent, range(sealed), size=SIZE)
        await self.sealer()()
        await converse(manager, agent, range(sealed, BEGIN), size=SIZE)
        assert bool(segments(self.database)) is bool(sealed)


ALL = NullConversationManager


@asynccontextmanager
async def arena(uri: str, raw: MongoClient[Document]) -> AsyncIterator[Arena]:
    name = f"msm_race_{uuid4().hex[:10]}"
    async with AsyncMongoClient[Document](uri, maxPoolSize=20) as client:
        made = Arena(client, raw, name)
        try:
            yield made
        finally:
            raw.drop_database(name)


async def close(manager: AsyncMongoDBSessionManager) -> None:
    try:
        await manager.close()
    except SessionNotFoundError:
        return  # Deleted, which what was pending has to put up with.


def numbers_in(found: Sequence[SessionMessage]) -> list[int]:
    return numbers_of([message.to_message() for message in found])


class Reader:
    """Reads pages again and again, and compares each with what it saw before."""

    def __init__(self, arena: Arena, pages: int) -> None:
        self._repository = arena.repository()
        self._pages = pages

    async def __call__(self) -> None:
        seen: list[SessionMessage] = []
        for turn in range(self._pages):
            offset = (0, 3, 5)[turn % 3]
            found = await self._repository.list_messages(SESSION_ID, AGENT_ID, offset=offset)
            ids = [message.message_id for message in found]
            assert ids == list(range(offset, offset + len(found))), f"a page with a gap: {ids}"
            assert len(found) + offset >= len(seen), "messages are missing that were there before"
            if offset == 0:
                assert numbers_in(found)[: len(seen)] == numbers_in(seen)
                seen = found


def check_numbers(arena: Arena, *expected: Sequence[int]) -> None:
    """Assert that what several writers said is all there, once, and each writer's in its order."""
    check_stored(arena.database)
    numbers = numbers_of(stored_messages(arena.database))
    assert sorted(numbers) == sorted(number for part in expected for number in part)
    for part in expected:
        assert [number for number in numbers if number in part] == list(part)


async def settle(arena: Arena) -> None:
    for manager in arena.managers:
        await close(manager)


def racing(uri: str, raw: MongoClient[Document], order: Order, lost: set[int], race: Callable[..., Any]) -> None:
    async def run() -> None:
        async with arena(uri, raw) as made:
            with interleaved(order, lost) as interleaver:
                try:
                    await race(made, interleaver)
                except BaseException as error:
                    error.add_note(f"order of commands: {interleaver.log}")
                    raise
                finally:
                    await settle(made)

    asyncio.run(run())


# -- appends, seals, reads


async def appends_and_seals(arena: Arena, interleaver: Interleaver) -> None:
    await arena.begin()
    one, other = await arena.manager(), await arena.manager()
    agents = [make_agent(manager, conversation_manager=ALL()) for manager in (one, other)]
    parts = range(100, 105), range(200, 205)
    seal_1, seal_2 = arena.sealer(), arena.sealer()

    async def seal_twice() -> None:
        await seal_1()
        await seal_1()

    await interleaver.run(
        one=lambda: converse(one, agents[0], parts[0], size=SIZE),
        other=lambda: converse(other, agents[1], parts[1], size=SIZE),
        sealer=seal_twice,
        rival=seal_2,  # type: ignore[arg-type]
        reader=Reader(arena, 6),
    )
    check_numbers(arena, range(BEGIN), *parts)
    await seal_1()
    check_numbers(arena, range(BEGIN), *parts)
    assert segments(arena.database, committed=False) == []
    fresh = await arena.manager()
    resumed = make_agent(fresh, conversation_manager=ALL())
    assert numbers_of(resumed.messages) == numbers_of(stored_messages(arena.database))


@few
@given(orders, losses)
def test_nothing_is_lost_between_two_writers_and_two_sealers(
    mongo_uri: str, mongo_client: MongoClient[Document], order: Order, lost: set[int]
) -> None:
    racing(mongo_uri, mongo_client, order, lost, appends_and_seals)


# -- redactions


async def redactions_and_seals(arena: Arena, interleaver: Interleaver) -> None:
    await arena.begin()
    manager = await arena.manager()
    agent = make_agent(manager, conversation_manager=ALL())
    repository = arena.repository()
    texts = {number: said(number, SIZE)["content"][0]["text"] for number in range(BEGIN)}
    seal_1, seal_2 = arena.sealer(), arena.sealer()

    acknowledged: list[str] = []

    def watch() -> None:
        # From its acknowledgement on a redacted text is nowhere, whatever the others are at.
        stored = everything(arena.database) if acknowledged else b""
        for text in acknowledged:
            assert text.encode() not in stored, f"{text[:12]} is still there"

    async def redact(numbers: Sequence[int]) -> None:
        for number in numbers:
            gone: Any = {"role": said(number)["role"], "content": [{"text": f"message {number} redacted"}]}
            await repository.update_message(
                SESSION_ID, AGENT_ID, SessionMessage(said(number, SIZE), number, redact_message=gone)
            )
            acknowledged.append(texts[number])

    async def redact_own() -> None:
        await converse(manager, agent, [100], size=SIZE)
        secret: Any = {"role": "user", "content": [{"text": f"message 101 {SECRET}"}]}
        agent.messages.append(secret)
        manager.append_message(secret, agent)
        await manager.flush()
        manager.redact_latest_message({"role": "user", "content": [{"text": "message 101 redacted"}]}, agent)
        await manager.flush()
        acknowledged.append(SECRET)
        await converse(manager, agent, [102], size=SIZE)

    await interleaver.run(
        watch,
        redactor=lambda: redact(list(SOME)),
        writer=redact_own,
        sealer=seal_1,  # type: ignore[arg-type]
        rival=seal_2,  # type: ignore[arg-type]
        reader=Reader(arena, 3),
    )
    check_numbers(arena, range(BEGIN), [100, 101, 102])
    for _ in range(2):
        for number in SOME:
            assert arena.nowhere(texts[number])
            found = await repository.read_message(SESSION_ID, AGENT_ID, number)
            assert found is not None
            assert found.redact_message is not None
        assert arena.nowhere(SECRET)
        await converse(manager, agent, range(110, 120), size=SIZE)
        await seal_1()


@pytest.mark.thorough
@few
@given(orders, losses)
def test_a_redaction_stays_once_it_is_acknowledged(
    mongo_uri: str, mongo_client: MongoClient[Document], order: Order, lost: set[int]
) -> None:
    racing(mongo_uri, mongo_client, order, lost, redactions_and_seals)


# -- deletions


async def deletions_and_seals(arena: Arena, interleaver: Interleaver) -> None:
    await arena.begin()
    old = await arena.manager()
    agent = make_agent(old, conversation_manager=ALL())
    seal = arena.sealer()
    repository = arena.repository()
    incarnations = [arena.incarnation()]

    async def write() -> None:
        try:
            await converse(old, agent, range(100, 104), size=SIZE)
        except SessionNotFoundError:
            return

    async def delete_and_begin_again() -> None:
        deleted = await repository.delete_session(SESSION_ID)
        # A deletion whose reply was lost finds nothing when it is sent again.
        assert deleted == 1 or "deleter:lost" in interleaver.log
        new = await arena.manager()
        incarnations.append(arena.incarnation())
        await converse(new, make_agent(new, conversation_manager=ALL()), range(500, 512), size=SIZE)
        await arena.sealer()()

    async def delete_again() -> None:
        # Whoever deletes late finds either one of them.
        await repository.delete_session("another")
        await arena.repository()._executor.related.delete(SESSION_ID)

    async def read() -> None:
        for _ in range(5):
            try:
                found = numbers_in(await repository.list_messages(SESSION_ID, AGENT_ID))
            except (SessionNotFoundError, AgentNotFoundError):
                continue
            first = found[0] if found else 500
            assert first in (0, 500)
            if first == 500:
                assert found == list(range(500, 500 + len(found)))
            else:
                assert found == [*range(BEGIN), *range(100, 100 + len(found) - BEGIN)]

    await interleaver.run(
        writer=write,
        deleter=delete_and_begin_again,
        janitor=delete_again,
        sealer=seal,  # type: ignore[arg-type]
        reader=read,
    )
    await settle(arena)
    check_numbers(arena, range(500, 512))
    assert arena.incarnation() == incarnations[1] != incarnations[0]
    assert {segment["incarnation"] for segment in segments(arena.database)} == {incarnations[1]}
    assert arena.nowhere("message 1 ")


@pytest.mark.thorough
@few
@given(orders, losses)
def test_a_session_that_is_created_again_never_meets_its_predecessor(
    mongo_uri: str, mongo_client: MongoClient[Document], order: Order, lost: set[int]
) -> None:
    racing(mongo_uri, mongo_client, order, lost, deletions_and_seals)


async def agent_deletions_and_seals(arena: Arena, interleaver: Interleaver) -> None:
    await arena.begin(sealed=0)
    repository, seal = arena.repository(), arena.sealer()

    async def delete_and_begin_again() -> None:
        assert await repository.delete_agent(SESSION_ID, AGENT_ID)
        new = await arena.manager()
        agent = make_agent(new, conversation_manager=ALL())
        assert agent.messages == []
        await converse(new, agent, range(500, 512), size=SIZE)
        await arena.sealer()()

    async def read() -> None:
        for _ in range(5):
            try:
                found = numbers_in(await repository.list_messages(SESSION_ID, AGENT_ID))
            except AgentNotFoundError:
                continue
            found[1:2] = [found[0] + 1] * len(found[1:2])  # The redacted one.
            assert found == list(range(BEGIN)) or found == list(range(500, 500 + len(found)))

    async def redact() -> None:
        gone: Any = {"role": "assistant", "content": [{"text": "message 501 redacted"}]}
        try:
            await repository.update_message(SESSION_ID, AGENT_ID, SessionMessage(said(1), 1, redact_message=gone))
        except MessageNotFoundError:
            return

    await interleaver.run(
        deleter=delete_and_begin_again,
        sealer=seal,  # type: ignore[arg-type]
        rival=arena.sealer(),  # type: ignore[arg-type]
        redactor=redact,
        reader=read,
    )
    check_numbers(arena, range(500, 512))
    assert arena.nowhere("message 3 ")
    found = await repository.list_messages(SESSION_ID, AGENT_ID)
    assert numbers_in(found) == list(range(500, 512))


@pytest.mark.thorough
@few
@given(orders, losses)
def test_an_agent_that_is_created_again_never_meets_its_predecessor(
    mongo_uri: str, mongo_client: MongoClient[Document], order: Order, lost: set[int]
) -> None:
    racing(mongo_uri, mongo_client, order, lost, agent_deletions_and_seals)


# -- feedbacks


async def feedbacks_and_seals(arena: Arena, interleaver: Interleaver) -> None:
    await arena.manager()
    repository = arena.repository()
    for number in range(12):
        await repository.add_feedback(SESSION_ID, {"number": number, "comment": "x" * SIZE})

    async def add(first: int) -> None:
        for number in range(first, first + 6):
            await repository.add_feedback(SESSION_ID, {"number": number, "comment": "x" * SIZE})

    async def read() -> None:
        seen: list[int] = []
        for _ in range(4):
            found = [feedback["number"] for feedback in await repository.get_feedbacks(SESSION_ID)]
            assert found[: len(seen)] == seen
            assert found[:12] == list(range(12))
            seen = found

    seal = arena.sealer()
    await interleaver.run(
        one=lambda: add(100),
        other=lambda: add(200),
        sealer=seal,  # type: ignore[arg-type]
        rival=arena.sealer(),  # type: ignore[arg-type]
        reader=read,
    )
    await seal()
    check_stored(arena.database)
    found = [feedback["number"] for feedback in await repository.get_feedbacks(SESSION_ID)]
    assert found[:12] == list(range(12))
    assert sorted(found[12:]) == [*range(100, 106), *range(200, 206)]
    for part in (range(100, 106), range(200, 206)):
        assert [number for number in found if number in part] == list(part)
    assert arena.database[COLLECTION].find_one()["feedbacks_sealed"]["archived_count"] > 12


@pytest.mark.thorough
@few
@given(orders, losses)
def test_feedbacks_are_sealed_while_others_arrive(
    mongo_uri: str, mongo_client: MongoClient[Document], order: Order, lost: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing_module, "SIDE_BYTES", 600)
        racing(mongo_uri, mongo_client, order, lost, feedbacks_and_seals)


# -- the same, searched for longer

RACES = [appends_and_seals, redactions_and_seals, deletions_and_seals, agent_deletions_and_seals, feedbacks_and_seals]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
@many
@given(order=orders, lost=losses)
def test_races_in_many_orders(
    mongo_uri: str, mongo_client: MongoClient[Document], race: Callable[..., Any], order: Order, lost: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if race is feedbacks_and_seals:
            patch.setattr(sealing_module, "SIDE_BYTES", 600)
        racing(mongo_uri, mongo_client, order, lost, race)
