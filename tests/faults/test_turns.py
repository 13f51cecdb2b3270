"""One turn at a time per session: contention, takeover, fencing, and requests that are taken twice."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.multiagent import GraphBuilder
from strands.multiagent.graph import Graph
from strands.types.session import SessionMessage

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionRepository,
    LeaseLostError,
    LeaseUnavailableError,
    MongoDBSessionManager,
    SessionNotFoundError,
    SessionStoreError,
)
from mongodb_session_manager.schema.sessions import KEY_RING
from mongodb_session_manager.store import lease as lease_module
from mongodb_session_manager.store.updates import UPDATE_BYTES
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import (
    COLLECTION,
    SESSION_ID,
    Document,
    Sessions,
)
from tests.fixtures.waiting import WAIT_S, eventually
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.invariants import check_stored
from tests.support.models import Reply, ScriptedModel, texts
from tests.support.resume import check_resumes_as
from tests.support.segments import (
    converse,
    numbers_of,
    said,
    stored_messages,
)
from tests.support.turn_process import counting_agent

ROOT = Path(__file__).parents[2]
HOUR_S = 3600


class TurnProcess:
    """Another process with a manager of its own; see `tests/support/turn_process.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        read = await asyncio.wait_for(self.process.stdout.readline(), WAIT_S)
        if not read:
            assert self.process.stderr is not None
            pytest.fail((await self.process.stderr.read()).decode())
        return read.decode().strip()

    async def holds(self) -> None:
        assert await self.line() == "held"

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def result(self) -> Any:
        found = json.loads(await self.line())
        assert await self.process.wait() == 0
        return found

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def another_process(sessions: Sessions, **options: Any) -> AsyncIterator[TurnProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.turn_process", sessions.uri, sessions.database_name, json.dumps(options)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield TurnProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stored_texts(sessions: Sessions) -> list[str]:
    """Return the text of every stored message, sealed ones included."""
    repository = AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION)
    async with repository:
        return texts([m.message for m in await repository.list_messages(SESSION_ID, AGENT_ID)])


def lease_of(sessions: Sessions) -> Document | None:
    lease: Document | None = sessions.document().get("lease")
    return lease


def set_lease(sessions: Sessions, **fields: Any) -> None:
    """Let somebody else, of whom nothing more is heard, have taken the turn."""
    lease = {"token": "somebody-else", "renewals": 3, "lease_s": 30, **fields}
    sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"lease": lease}})


def talker(manager: AsyncMongoDBSessionManager) -> Agent:
    return make_agent(manager, model=ScriptedModel(otherwise="Fine."), conversation_manager=NullConversationManager())


async def say(manager: AsyncMongoDBSessionManager, agent: Agent, text: str) -> None:
    async with manager.turn(lease_s=HOUR_S):
        await streamed(agent, text)


# -- two at once


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("turns", [10, pytest.param(100, marks=pytest.mark.slow)])
async def test_two_processes_with_clocks_an_hour_apart_take_turns(sessions: Sessions, turns: int) -> None:
    names = {"early": 0, "late": HOUR_S}

    async def run(name: str, clock_ahead_s: float) -> Any:
        options = {"name": name, "turns": turns, "clock_ahead_s": clock_ahead_s}
        async with another_process(sessions, **options) as process:
            read, said = await asyncio.wait_for(process.process.communicate(), 800)
            assert process.process.returncode == 0, said.decode()
            return json.loads(read)

    results = await asyncio.gather(*(run(*item) for item in names.items()))

    assert [result["most_inside"] for result in results] == [1, 1]
    said = await stored_texts(sessions)
    # Nothing lost, and each prompt of a process after its last one ...
    for name in names:
        assert [text for text in said if text.startswith(name)] == [f"{name} {number}" for number in range(turns)]
    # ... answered by an agent that was given all that was said before, by whomever.
    assert said[1::2] == [str(count) for count in range(1, 4 * turns, 2)]
    document = sessions.raw.find_one({"_id": SESSION_ID})
    assert document is not None
    assert "lease" not in document
    assert document["agents"][AGENT_ID]["agent_data"]["state"] == {"turns": 2 * turns}
    assert document["summary"]["messages"] == 4 * turns


async def test_a_turn_begins_on_what_others_left(sessions: Sessions) -> None:
    async with sessions.manager() as first, sessions.manager() as second:
        mine, others = counting_agent(first), counting_agent(second)
        await say(first, mine, "one")
        async with second.turn():
            others.state.set("mood", "good")
            await streamed(others, "two")

        async with first.turn():
            assert texts(mine.messages) == ["one", "1", "two", "3"]
            assert mine.state.get("mood") == "good"
            await streamed(mine, "three")

    assert sessions.texts() == ["one", "1", "two", "3", "three", "5"]


async def test_who_created_the_session_begins_on_turns_that_others_took_first(sessions: Sessions) -> None:
    async with sessions.manager() as creator:
        async with sessions.manager() as other, other.turn():
            await streamed(talker(other), "Hi.")

        async with creator.turn():
            agent = talker(creator)
            assert texts(agent.messages) == ["Hi.", "Fine."]
            await streamed(agent, "And now?")

    assert sessions.texts() == ["Hi.", "Fine.", "And now?", "Fine."]


def draft_and_check(manager: AsyncMongoDBSessionManager, drafter: ScriptedModel, checker: ScriptedModel) -> Graph:
    builder = GraphBuilder()
    for name, model in (("draft", drafter), ("check", checker)):
        builder.add_node(Agent(name=name, agent_id=name, model=model, callback_handler=None), name)
    builder.add_edge("draft", "check")
    builder.set_graph_id("review")
    builder.set_max_node_executions(4)
    builder.set_session_manager(manager)
    return builder.build()


async def test_a_graph_goes_on_where_another_process_left_it(sessions: Sessions) -> None:
    async with sessions.manager() as first, sessions.manager() as second:
        failing = draft_and_check(first, ScriptedModel("drafted"), ScriptedModel(Reply(error=OSError("no model"))))
        drafter, checker = ScriptedModel("drafted again"), ScriptedModel("checked")
        going_on = draft_and_check(second, drafter, checker)
        async with first.turn():
            with pytest.raises(OSError, match="no model"):
                await failing.invoke_async("Write.")

        async with second.turn():
            await going_on.invoke_async("Write.")

    assert drafter.requests == []
    assert "drafted" in str(checker.requests)
    assert sorted(sessions.document()["multi_agents"]["review"]["completed_nodes"]) == ["check", "draft"]


async def sealed_conversation(sessions: Sessions) -> list[int]:
    """Store a conversation of which the beginning is sealed, and return the numbers of its messages."""
    numbers = list(range(60))
    async with sessions.manager() as manager:
        await converse(manager, talker(manager), numbers)
    assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 3
    return numbers


async def test_a_turn_begins_on_what_others_changed_of_sealed_messages(sessions: Sessions) -> None:
    numbers = await sealed_conversation(sessions)
    options = sessions.client_options()
    async with (
        sessions.manager() as manager,
        AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **options) as repository,
    ):
        agent = talker(manager)
        assert numbers_of(agent.messages) == numbers
        gone: Any = {"role": "user", "content": [{"text": "message 2 redacted"}]}
        await repository.update_message(SESSION_ID, AGENT_ID, SessionMessage(said(2), 2, redact_message=gone))

        async with manager.turn():
            assert texts(agent.messages)[2] == "message 2 redacted"


async def test_a_turn_keeps_what_code_put_into_the_history_before_it(sessions: Sessions) -> None:
    async with sessions.manager() as one, sessions.manager() as other:
        agent, others = make_agent(one, "Hello."), make_agent(other, "Hi.")
        await streamed(others, "Anybody?")
        agent.messages.append({"role": "user", "content": [{"text": "By the way."}]})
        async with one.turn():
            assert texts(agent.messages) == ["Anybody?", "Hi.", "By the way."]

    assert sessions.texts() == ["Anybody?", "Hi.", "By the way."]


@pytest.mark.parametrize("key", [None, "request-1"])
async def test_what_code_changes_of_an_agent_in_a_turn_is_stored_with_it(sessions: Sessions, key: str | None) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello.")
        async with manager.turn(idempotency_key=key):
            await streamed(agent, "Hi.")
            agent.state.set("approved", True)
            agent.messages.append({"role": "user", "content": [{"text": "By the way."}]})
        await check_resumes_as(sessions, agent)

        if key is not None:
            async with manager.turn(idempotency_key=key) as turn:
                assert turn.replayed
                agent.state.set("approved", False)
            assert agent.state.get("approved") is True
            await check_resumes_as(sessions, agent)


@pytest.mark.parametrize("who", ["who lost the turn", "who never had it"])
async def test_a_sealed_message_is_not_changed_without_the_turn(sessions: Sessions, who: str) -> None:
    async with sessions.manager() as manager, sessions.manager() as other:
        agent = talker(manager)
        await converse(manager, agent, range(3))
        # Sealed behind the back of the manager.
        for number in range(3, 60):
            await other.repository.create_message(SESSION_ID, AGENT_ID, SessionMessage(said(number), number))
        assert check_stored(sessions.raw.database)["agents"][AGENT_ID]["archived_count"] > 3
        record = agent.messages[2]

        async def redact() -> None:
            async with manager.turn(lease_s=HOUR_S) if who == "who lost the turn" else nullcontext():
                # Restored at the beginning of a turn: then the latest message is not a sealed one any more.
                set_lease(sessions, lease_s=HOUR_S)
                gone: Any = {"role": "user", "content": [{"text": "message 2 redacted"}]}
                await manager.repository.update_message(
                    SESSION_ID, AGENT_ID, SessionMessage(record, 2, redact_message=gone)
                )

        with pytest.raises((LeaseLostError, LeaseUnavailableError)):
            await redact()
        assert stored_messages(sessions.raw.database)[2]["content"] == said(2)["content"]
        if who == "who never had it":
            manager.redact_latest_message({"role": "user", "content": [{"text": "message 2 redacted"}]}, agent)
            with pytest.raises(LeaseUnavailableError):
                await manager.flush()
            assert stored_messages(sessions.raw.database)[2]["content"] == said(2)["content"]
        sessions.raw.update_one({"_id": SESSION_ID}, {"$unset": {"lease": ""}})


async def test_a_turn_after_ones_own_reads_no_history(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        await say(manager, agent, "one")
        before = agent.messages

        await say(manager, agent, "two")

        assert agent.messages is before


async def test_waiting_ends_after_wait_s_and_names_the_session(sessions: Sessions) -> None:
    # It does end: the holder gives the turn back for nobody.
    async with sessions.manager() as holder, sessions.manager() as other, holder.turn(lease_s=HOUR_S):
        for wait_s in (0, 0.3):
            started = time.monotonic()
            with pytest.raises(LeaseUnavailableError, match=SESSION_ID):
                async with other.turn(wait_s=wait_s):
                    pytest.fail("two at once")
            assert wait_s <= time.monotonic() - started < wait_s + WAIT_S


async def test_a_waiter_goes_on_when_the_turn_is_given_back(sessions: Sessions) -> None:
    order: list[str] = []
    async with sessions.manager() as holder, sessions.manager() as other:

        async def wait_for_it() -> None:
            async with other.turn():
                order.append("other")

        async with holder.turn(lease_s=HOUR_S):
            waiting = asyncio.create_task(wait_for_it())
            await is_sent(sessions, "update")
            order.append("holder")
        await asyncio.wait_for(waiting, WAIT_S)

    assert order == ["holder", "other"]


async def is_sent(sessions: Sessions, name: str) -> None:
    """Return when a command was sent once more than now."""
    count = sessions.recorder.names.count(name)
    await eventually(lambda: sessions.recorder.names.count(name) > count, f"another {name}")


async def test_a_second_turn_inside_a_turn_is_an_error(sessions: Sessions) -> None:
    async with sessions.manager() as manager, manager.turn():
        with pytest.raises(SessionStoreError, match="already"):
            async with manager.turn():
                pytest.fail("nested")
        assert lease_of(sessions) is not None


async def test_a_turn_of_a_session_that_is_deleted_meanwhile_is_an_error(sessions: Sessions) -> None:
    async with sessions.manager() as holder, sessions.manager() as other, holder.turn(lease_s=HOUR_S):

        async def wait_for_it() -> None:
            async with other.turn():
                pytest.fail("no session, no turn")

        waiting = asyncio.create_task(wait_for_it())
        await is_sent(sessions, "update")
        await holder.delete_session()
        with pytest.raises(SessionNotFoundError):
            await asyncio.wait_for(waiting, WAIT_S)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"wait_s": -1}, r"invalid wait_s: it must be 0 or more seconds.*, got -1"),
        ({"wait_s": float("nan")}, r"invalid wait_s: it must be .* got nan"),
        ({"lease_s": 0}, r"invalid lease_s: it must be more than 0 seconds.*, got 0"),
        ({"lease_s": -5}, r"invalid lease_s: it must be more than 0 seconds.*, got -5"),
        ({"lease_s": float("inf")}, r"invalid lease_s: it must be .* got inf"),
        ({"lease_s": float("nan")}, r"invalid lease_s: it must be .* got nan"),
        ({"idempotency_key": ""}, r"invalid idempotency_key: it must be a non-empty string, got ''"),
        ({"idempotency_key": 7}, r"invalid idempotency_key: it must be a non-empty string, got 7"),
        ({"idempotency_key": "k" * 257}, r"invalid idempotency_key: it must have at most 256 characters, not 257"),
        (
            {"idempotency_key": "k" * 1_000_000},
            r"invalid idempotency_key: it must have at most 256 characters, not 1000000",
        ),
        ({"idempotency_key": "\ud800"}, r"invalid idempotency_key: it must be text that UTF-8 can encode"),
    ],
)
async def test_a_bad_argument_is_named_with_its_rule(sessions: Sessions, arguments: Any, rule: str) -> None:
    async with sessions.manager() as manager:
        with pytest.raises(ValueError, match=rule):
            async with manager.turn(**arguments):
                pytest.fail("taken")
        assert lease_of(sessions) is None


# -- holders that die, stop, or are cancelled


class Looks(lease_module.Watch):
    """What a process sees of leases, with a record of each look: when it was, on its own clock, and what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[float, bool]] = []

    def has_expired(self, lease: Mapping[str, Any]) -> bool:
        moment, answer = time.monotonic(), super().has_expired(lease)
        self.taken.append((moment, answer))
        return answer


@pytest.mark.thorough
async def test_a_killed_holder_delays_the_other_no_longer_than_the_expiry(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_s = 2.0
    looks = Looks()
    monkeypatch.setattr(lease_module, "_watch", looks)
    async with sessions.manager() as other:
        agent = counting_agent(other)
        await other.flush()
        async with another_process(sessions, lease_s=lease_s, say="from the other") as process:
            await process.holds()
            await process.kill()

        async with other.turn():
            await streamed(agent, "and now?")

    # It took over at the first look that came so long after its first one, and looked many times until then.
    (first, _), *_, (before, waiting), (last, expired) = looks.taken
    assert (waiting, expired) == (False, True)
    assert before - first < lease_s <= last - first
    assert len(looks.taken) > 2
    assert sessions.texts() == ["from the other", "1", "and now?", "3"]


@pytest.mark.thorough
async def test_a_stopped_holder_that_wakes_up_after_a_takeover_writes_nothing(sessions: Sessions) -> None:
    async with sessions.manager() as other:
        agent = counting_agent(other)
        await other.flush()
        async with another_process(sessions, lease_s=1, say="one", late="too late") as process:
            await process.holds()
            process.process.send_signal(signal.SIGSTOP)
            await say(other, agent, "two")
            process.process.send_signal(signal.SIGCONT)
            process.go_on()
            result = await process.result()

    assert result["refused"] == result["error"] == "LeaseLostError"
    assert result["messages"] == sessions.texts() == ["one", "1", "two", "3"]
    assert sessions.document()["metadata"] == {}


@pytest.mark.parametrize("key", [None, "k-1"])
async def test_a_turn_that_was_taken_over_leaves_its_agents_as_stored(
    sessions: Sessions, key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with sessions.manager() as manager, sessions.manager() as other:
        agent, theirs = talker(manager), counting_agent(other)
        await say(manager, agent, "one")

        async def taken_over() -> None:
            set_lease(sessions, token="theirs", lease_s=0.1)
            await say(other, theirs, "two")

        agent.model = ScriptedModel(Reply(text="lost", before=taken_over), otherwise="Fine.")
        with caplog.at_level(logging.WARNING), pytest.raises(LeaseLostError, match=SESSION_ID):
            async with manager.turn(lease_s=HOUR_S, idempotency_key=key):
                await streamed(agent, "three")

        expected = ["one", "Fine.", *(["three"] if key is None else [])]
        expected += ["two", str(len(expected) + 1)]
        assert texts(agent.messages) == sessions.texts() == expected
        await manager.flush()
        assert sessions.texts() == expected
        await say(manager, agent, "four")

    assert sessions.texts() == [*expected, "four", "Fine."]
    assert "three" not in caplog.text


@pytest.mark.usefixtures("patience")
async def test_what_a_lost_turn_could_not_write_is_never_written_later(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    down = {"failCommands": ["update"], "errorCode": 89, "appName": "lost-turn"}
    async with (
        sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="lost-turn") as manager,
        sessions.manager() as other,
    ):
        agent, theirs = talker(manager), talker(other)
        await say(manager, agent, "one")

        async def cut_off() -> None:
            async with manager.turn(lease_s=0.6):
                with fail_point(mongo_client, "alwaysOn", down):
                    with pytest.raises(Exception, match="failCommand"):
                        await streamed(agent, "not stored")
                    await say(other, theirs, "two")
                raise KeyError("the handler failed")

        with pytest.raises(KeyError):
            await cut_off()
        await manager.flush()

        assert texts(agent.messages) == ["one", "Fine.", "two", "Fine."]

    assert sessions.texts() == ["one", "Fine.", "two", "Fine."]


class Clock:
    """A clock that only goes on when it is told to."""

    def __init__(self) -> None:
        self.moment = 0.0

    def monotonic(self) -> float:
        return self.moment


async def test_the_lease_is_renewed_as_long_as_it_is_held(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    async with sessions.manager() as holder, sessions.manager() as other:
        agent = talker(holder)

        async def wait_in_vain() -> None:
            with pytest.raises(LeaseUnavailableError):
                async with other.turn(wait_s=4):
                    pytest.fail("the holder is there")

        async with holder.turn(lease_s=1):
            waiting = asyncio.create_task(wait_in_vain())
            for number in range(1, 12):

                def is_renewed(least: int = number) -> bool:
                    lease = lease_of(sessions)
                    return lease is not None and lease["renewals"] >= least

                # The waiter's clock goes on by less than the lease for each renewal, however long that takes.
                await eventually(is_renewed, "a renewal")
                clock.moment += 0.4
            await asyncio.wait_for(waiting, WAIT_S)
            await streamed(agent, "still mine")

        lease = lease_of(sessions)
        async with other.turn(wait_s=0):
            assert lease is None
            assert sessions.texts() == ["still mine", "Fine."]


async def test_a_request_for_the_turn_that_arrives_late_takes_nothing(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    async with sessions.manager() as manager, sessions.manager() as other:
        with sessions.recorder.counting() as commands:
            async with manager.turn(lease_s=HOUR_S):
                pass
        async with other.turn(wait_s=0):
            pass

        taking, *_ = [command for command in commands if command.name == "update"]
        updates = taking.document["updates"]
        answer = mongo_client[taking.database].command({"update": taking.collection, "updates": updates})

    assert "lease" in updates[0]["u"]["$set"]
    assert answer["n"] == 0
    assert lease_of(sessions) is None


@pytest.mark.parametrize("how", ["asyncio", "anyio"])
async def test_a_cancelled_holder_gives_the_turn_back(sessions: Sessions, how: str) -> None:
    async with sessions.manager() as holder, sessions.manager() as other:
        inside = asyncio.Event()

        async def hold() -> None:
            async with holder.turn(lease_s=HOUR_S):
                inside.set()
                await asyncio.Event().wait()

        if how == "asyncio":
            holding = asyncio.create_task(hold())
            await inside.wait()
            holding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holding
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(hold)
                await inside.wait()
                group.cancel_scope.cancel()

        async with other.turn(wait_s=WAIT_S):
            assert lease_of(sessions) is not None


async def test_a_waiter_that_is_cancelled_at_any_point_leaves_no_lease(sessions: Sessions) -> None:
    async with sessions.manager() as manager, sessions.manager() as other:
        # Early on at every half of a millisecond; then less often, for machines that take long.
        pauses_s = [*(0.0005 * number for number in range(1, 60)), *(0.03 * 1.3**number for number in range(30))]
        for pause_s in pauses_s:
            entered = False

            async def take() -> None:
                nonlocal entered
                async with manager.turn(lease_s=HOUR_S):
                    entered = True

            work = asyncio.ensure_future(take())
            await asyncio.wait([work], timeout=pause_s)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            async with other.turn(wait_s=WAIT_S, lease_s=HOUR_S):
                pass
            if entered and not work.cancelled():
                return
    pytest.fail("taking a turn takes longer than this test looks at")


@pytest.mark.usefixtures("patience")
async def test_a_lease_that_cannot_be_given_back_fails_nobody(
    sessions: Sessions, mongo_client: MongoClient[Document], caplog: pytest.LogCaptureFixture
) -> None:
    down = {"failCommands": ["update"], "errorCode": 89, "appName": "no-way-back"}
    async with (
        sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="no-way-back") as manager,
        sessions.manager() as other,
    ):
        agent = talker(manager)
        turn = manager.turn(lease_s=1)
        await turn.__aenter__()
        await streamed(agent, "one")
        with fail_point(mongo_client, "alwaysOn", down), caplog.at_level(logging.WARNING):
            await turn.__aexit__(None, None, None)

        async with other.turn(wait_s=WAIT_S):
            assert sessions.texts() == ["one", "Fine."]

    assert "lease not given back" in caplog.text


async def closing(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.close()


async def flushing(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    manager.sync_agent(agent)
    await manager.flush()


async def changing_metadata(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await manager.update_metadata({"topic": "turns"})


async def talking(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    await streamed(agent, "two")


async def taking_a_turn(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    async with manager.turn(wait_s=WAIT_S):
        await streamed(agent, "two")


@pytest.mark.parametrize("next_write", [closing, flushing, changing_metadata, talking, taking_a_turn])
async def test_a_turn_that_ended_with_the_server_away_refuses_nothing_of_its_own_manager(
    sessions: Sessions,
    mongo_client: MongoClient[Document],
    next_write: Callable[[AsyncMongoDBSessionManager, Agent], Awaitable[None]],
) -> None:
    down = {"failCommands": ["update"], "errorCode": 89, "appName": "away"}
    async with sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away") as manager:
        agent = talker(manager)

        async def turn_into_an_outage(outage: ExitStack) -> None:
            async with manager.turn(lease_s=HOUR_S):
                await streamed(agent, "one")
                agent.state.set("mood", "fine")
                outage.enter_context(fail_point(mongo_client, "alwaysOn", down))

        with ExitStack() as outage, pytest.raises(PyMongoError):
            await turn_into_an_outage(outage)
        assert "lease" in sessions.document()

        await next_write(manager, agent)

    stored = sessions.document()
    assert stored["agents"][AGENT_ID]["agent_data"]["state"] == {"mood": "fine"}
    assert "lease" not in stored


async def fail_with_the_server_away(
    manager: AsyncMongoDBSessionManager, agent: Agent, mongo_client: MongoClient[Document]
) -> None:
    """Say something in a keyed turn that can neither be stored nor undone."""
    down = {"failCommands": ["find", "update"], "errorCode": 89, "appName": "away"}

    async def fail(outage: ExitStack) -> None:
        async with manager.turn(idempotency_key="request-1"):
            await streamed(agent, "not stored")
            outage.enter_context(fail_point(mongo_client, "alwaysOn", down))
            raise KeyError("the handler failed")

    with ExitStack() as outage, pytest.raises(KeyError):
        await fail(outage)
    assert "not stored" in texts(agent.messages)


@pytest.mark.parametrize("stored", [[], ["one", "Fine."]], ids=["a new agent", "a known one"])
@pytest.mark.parametrize("next_write", [talking, taking_a_turn])
async def test_what_a_failed_turn_left_with_the_server_away_is_undone_by_the_next_invocation(
    sessions: Sessions,
    mongo_client: MongoClient[Document],
    next_write: Callable[[AsyncMongoDBSessionManager, Agent], Awaitable[None]],
    stored: list[str],
) -> None:
    async with sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away") as manager:
        agent = talker(manager)
        if stored:
            await streamed(agent, "one")
        await fail_with_the_server_away(manager, agent, mongo_client)

        await next_write(manager, agent)

        assert texts(agent.messages) == [*stored, "two", "Fine."]
    assert sessions.texts() == [*stored, "two", "Fine."]
    check_stored(sessions.raw.database)


def append_by_hand(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    manager.append_message({"role": "user", "content": [{"text": "by hand"}]}, agent)


def redact(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    manager.redact_latest_message({"role": "assistant", "content": [{"text": "[redacted]"}]}, agent)


def sync(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    manager.sync_agent(agent)


def append_through_the_view(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    message = SessionMessage({"role": "user", "content": [{"text": "by hand"}]}, 2)
    manager.session_repository.create_message(SESSION_ID, AGENT_ID, message)


@pytest.mark.parametrize("change", [append_by_hand, redact, sync, append_through_the_view])
async def test_nothing_of_what_a_failed_turn_left_with_the_server_away_is_stored(
    sessions: Sessions,
    mongo_client: MongoClient[Document],
    change: Callable[[AsyncMongoDBSessionManager, Agent], None],
) -> None:
    async with sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away") as manager:
        agent = talker(manager)
        await streamed(agent, "one")
        await fail_with_the_server_away(manager, agent, mongo_client)
        agent.state.set("mood", "of the failed turn")

        with pytest.raises(SessionStoreError, match="their next invocation or turn"):
            change(manager, agent)

    assert sessions.texts() == ["one", "Fine."]
    assert sessions.document()["agents"][AGENT_ID]["agent_data"]["state"] == {}
    check_stored(sessions.raw.database)


# -- writers without the lease


async def a_message(repository: AsyncMongoDBSessionRepository) -> None:
    message = SessionMessage({"role": "user", "content": [{"text": "by id"}]}, 0)
    await repository.create_message(SESSION_ID, AGENT_ID, message)


async def repository_metadata(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.update_metadata(SESSION_ID, {"by": "id"})


async def repository_feedback(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.add_feedback(SESSION_ID, {"rating": "up"})


async def a_config(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.update_agent_config(SESSION_ID, AGENT_ID, system_prompt="Be kind.")


async def a_deleted_agent(repository: AsyncMongoDBSessionRepository) -> None:
    await repository.delete_agent(SESSION_ID, AGENT_ID)


@pytest.mark.parametrize("write", [a_message, repository_metadata, repository_feedback, a_config, a_deleted_agent])
async def test_a_repository_is_refused_while_a_turn_is_held(
    sessions: Sessions, write: Callable[[AsyncMongoDBSessionRepository], Coroutine[Any, Any, None]]
) -> None:
    options = sessions.client_options()
    async with (
        sessions.manager() as holder,
        AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **options) as repository,
    ):
        talker(holder)
        await holder.flush()
        async with holder.turn(lease_s=HOUR_S):
            before = sessions.document()
            with pytest.raises(LeaseUnavailableError, match=SESSION_ID):
                await write(repository)
            assert sessions.document() == before

        await write(repository)

    after = sessions.document()
    assert after["revision"] == before["revision"] + 1


async def test_a_manager_without_the_turn_is_refused_and_writes_once_it_is_over(sessions: Sessions) -> None:
    async with sessions.manager() as holder, sessions.manager() as other:
        mine, others = talker(holder), talker(other)
        await other.flush()
        async with holder.turn(lease_s=HOUR_S):
            await streamed(mine, "mine")
            with pytest.raises(LeaseUnavailableError):
                await other.update_metadata({"a": 1})
            with pytest.raises(LeaseUnavailableError):
                await other.add_feedback({"rating": "up"})
            with pytest.raises(LeaseUnavailableError, match="turn"):
                await streamed(others, "other")
            with pytest.raises(LeaseUnavailableError):
                await other.flush()
            assert sessions.texts() == ["mine", "Fine."]

        await other.flush()
        await other.add_feedback({"rating": "down"})

    # The messages were kept; the feedback was refused to its caller, so it is not stored behind his back.
    assert sessions.texts() == ["mine", "Fine.", "other"]
    document = sessions.document()
    assert [feedback["rating"] for feedback in document["feedbacks"]] == ["down"]
    assert document["metadata"] == {}


@pytest.mark.parametrize("writer", ["one repository", "a manager for each request"])
async def test_writers_without_turns_go_on_after_a_holder_died(sessions: Sessions, writer: str) -> None:
    async with sessions.manager() as manager:
        await manager.flush()
    set_lease(sessions, token=f"dead-{writer}", lease_s=1)
    give_up_at = time.monotonic() + WAIT_S
    options = sessions.client_options()

    async def write(repository: AsyncMongoDBSessionRepository) -> None:
        if writer == "one repository":
            await repository.update_metadata(SESSION_ID, {"a": 1})
        else:
            async with sessions.manager() as manager:
                await manager.update_metadata({"a": 1})

    refusals = 0
    async with AsyncMongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION, **options) as repository:
        while time.monotonic() < give_up_at:
            try:
                await write(repository)
                break
            except LeaseUnavailableError:
                refusals += 1
                await asyncio.sleep(0.05)

    assert refusals >= 1
    assert sessions.document()["metadata"] == {"a": 1}
    assert lease_of(sessions) is None


async def test_the_holder_may_use_everything_that_its_manager_offers(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = talker(manager)
        await manager.flush()
        async with manager.turn(lease_s=30):
            await streamed(agent, "hi")
            await manager.update_metadata({"a": 1})
            await manager.repository.update_metadata(SESSION_ID, {"b": 2})
            await manager.add_feedback({"rating": "up"})
            await manager.update_agent_config(AGENT_ID, system_prompt="Be kind.")
            await manager.repair_session(dry_run=False)
            await asyncio.to_thread(agent, "and in a thread?")

    document = sessions.document()
    assert sessions.texts() == ["hi", "Fine.", "and in a thread?", "Fine."]
    assert document["metadata"] == {"a": 1, "b": 2}
    assert [feedback["rating"] for feedback in document["feedbacks"]] == ["up"]


# -- idempotency keys


async def the_request(manager: AsyncMongoDBSessionManager, agent: Agent, key: str = "request-1") -> bool:
    """Serve a request: what a turn may do, whether it was served before or not."""
    async with manager.turn(idempotency_key=key) as turn:
        await manager.add_feedback({"rating": "up", "comment": "nice"})
        await manager.update_metadata({"topic": "nice"})
        await streamed(agent, "hi")
        return turn.replayed


def check_stored_once(sessions: Sessions) -> None:
    document = sessions.document()
    assert sessions.texts() == ["hi", "1"]
    assert [feedback["comment"] for feedback in document["feedbacks"]] == ["nice"]
    assert document["metadata"] == {"topic": "nice"}
    assert document["summary"]["usage"]["totalTokens"] == 15
    assert document["idempotency_keys"] == ["request-1"]
    assert "lease" not in document


@pytest.mark.parametrize("by", ["the same manager", "another manager"])
async def test_a_request_that_is_taken_again_stores_nothing(
    sessions: Sessions, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with sessions.manager() as first, sessions.manager() as second:
        agent, other = counting_agent(first), counting_agent(second)
        await second.flush()
        assert not await the_request(first, agent)
        check_stored_once(sessions)
        before = sessions.document()

        again = (first, agent) if by == "the same manager" else (second, other)
        with caplog.at_level(logging.WARNING):
            assert await the_request(*again)

        # Only who had the turn last.
        of_turns = {"last_lease": before["last_lease"], "applied": before["applied"]}
        assert {**sessions.document(), **of_turns} == before
        assert texts(again[1].messages) == ["hi", "1"]
        assert "taken before" in caplog.text
        await say(first, agent, "more")

    assert sessions.texts() == ["hi", "1", "more", "3"]


async def test_a_request_taken_again_discards_feedback_however_long_ago_the_first_was(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = counting_agent(manager)
        await the_request(manager, agent)
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"applied": []}})

        assert await the_request(manager, agent)

    assert len(sessions.document()["feedbacks"]) == 1


async def test_a_replayed_turn_that_leaves_the_agent_alone_costs_no_more_than_looking(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = counting_agent(manager)
        await the_request(manager, agent)

        with sessions.recorder.counting() as commands:
            async with manager.turn(idempotency_key="request-1") as turn:
                assert turn.replayed

    assert commands.names == ["update", "find", "find", "update"]


async def test_a_request_whose_first_attempt_was_killed_half_way_is_stored_once(sessions: Sessions) -> None:
    options = {"key": "request-1", "add": "nice", "say": "hi", "lease_s": 1}
    async with sessions.manager() as manager:
        await manager.flush()
        async with another_process(sessions, **options) as process:
            await process.holds()
            await process.kill()
        # What is stored at once is there, what is stored at the end is not.
        assert len(sessions.document()["feedbacks"]) == 1
        assert sessions.document()["summary"]["messages"] == 0

        assert not await the_request(manager, counting_agent(manager))

    check_stored_once(sessions)


@pytest.mark.parametrize("agent_is", ["stored", "new"])
async def test_a_request_whose_first_attempt_failed_is_stored_once(sessions: Sessions, agent_is: str) -> None:
    async with sessions.manager() as manager:
        agents = [counting_agent(manager)] if agent_is == "stored" else []
        await manager.flush()

        async def fail() -> None:
            async with manager.turn(idempotency_key="request-1"):
                if not agents:
                    agents.append(counting_agent(manager))
                await manager.add_feedback({"rating": "up", "comment": "nice"})
                await streamed(agents[0], "hi")
                raise KeyError("the handler failed")

        with pytest.raises(KeyError):
            await fail()
        assert agents[0].messages == []

        assert not await the_request(manager, agents[0])

    check_stored_once(sessions)


@pytest.mark.usefixtures("patience")
async def test_a_request_whose_end_could_not_be_written_is_stored_once(
    sessions: Sessions, mongo_client: MongoClient[Document]
) -> None:
    down = {"failCommands": ["update"], "errorCode": 89, "appName": "cut-off"}
    async with sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="cut-off") as manager:
        agent = counting_agent(manager)
        await manager.flush()
        turn = manager.turn(lease_s=1, idempotency_key="request-1")
        await turn.__aenter__()
        await streamed(agent, "hi")
        with fail_point(mongo_client, "alwaysOn", down), pytest.raises(Exception, match="failCommand"):
            await turn.__aexit__(None, None, None)
        assert agent.messages == []

        assert not await the_request(manager, agent)

    check_stored_once(sessions)


async def test_feedbacks_that_are_equal_in_one_request_all_count(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for _ in range(2):
            async with manager.turn(idempotency_key="request-1"):
                for _ in range(2):
                    await manager.add_feedback({"rating": "up"})

    assert len(sessions.document()["feedbacks"]) == 2


async def test_a_second_attempt_in_another_order_loses_nothing(sessions: Sessions) -> None:
    async with sessions.manager() as manager:

        async def first_attempt() -> None:
            async with manager.turn(idempotency_key="request-1"):
                await manager.add_feedback({"comment": "a"})
                await manager.update_metadata({"topic": "first"})
                raise KeyError("the handler failed")

        with pytest.raises(KeyError):
            await first_attempt()
        async with manager.turn(idempotency_key="request-1"):
            await manager.update_metadata({"topic": "second"})
            await manager.add_feedback({"comment": "b"})
            await manager.add_feedback({"comment": "a"})

    document = sessions.document()
    assert [feedback["comment"] for feedback in document["feedbacks"]] == ["a", "b"]
    assert document["metadata"] == {"topic": "second"}


async def test_a_document_remembers_so_many_keys(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        keys = [f"old-{number}" for number in range(KEY_RING)]
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"idempotency_keys": keys}})

        for key, replayed in (("old-0", True), ("new", False), ("old-1", True), ("new", True)):
            async with manager.turn(idempotency_key=key) as turn:
                assert turn.replayed is replayed

    assert sessions.document()["idempotency_keys"] == [*keys[1:], "new"]


async def test_a_keyed_turn_is_one_write_at_its_end(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = counting_agent(manager)
        await manager.flush()
        async with manager.turn(lease_s=HOUR_S, idempotency_key="request-1"):
            await streamed(agent, "one")
            await streamed(agent, "two")
            await manager.flush()
            assert sessions.texts() == []
        applied = len(sessions.document()["applied"])

    assert sessions.texts() == ["one", "1", "two", "3"]
    # Creating the agent, taking the turn, and the turn.
    assert applied == 3


async def test_a_keyed_turn_of_much_text_is_one_write_too(sessions: Sessions) -> None:
    prompt = "x" * (UPDATE_BYTES // 4)
    async with sessions.manager() as manager:
        agent = talker(manager)
        await manager.flush()
        with sessions.recorder.counting() as commands:
            async with manager.turn(lease_s=HOUR_S, idempotency_key="request-1"):
                for _ in range(6):
                    await streamed(agent, prompt)

    pushes = [c.document["updates"][0]["u"].get("$push", {}) for c in commands if c.name == "update"]
    (appending,) = [push for push in pushes if f"agents.{AGENT_ID}.messages" in push]
    assert appending["idempotency_keys"]["$each"] == ["request-1"]
    assert await stored_texts(sessions) == [prompt, "Fine."] * 6


# -- the synchronous face


def test_the_synchronous_face_takes_turns(sessions: Sessions) -> None:
    def manager() -> MongoDBSessionManager:
        return MongoDBSessionManager(SESSION_ID, sessions.uri, sessions.database_name, COLLECTION, ensure_indexes=False)

    inside, most, turns = 0, 0, 5
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal inside, most
        with manager() as mine:
            agent = make_agent(mine, model=ScriptedModel(otherwise=lambda messages: str(len(messages))))
            for number in range(turns):
                with mine.turn(lease_s=HOUR_S) as turn:
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    assert not turn.replayed
                    agent(f"{name} {number}")
                    with lock:
                        inside -= 1

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    said = sessions.texts()
    assert most == 1
    assert said[1::2] == [str(count) for count in range(1, 4 * turns, 2)]
    assert [text for text in said if text.startswith("a")] == [f"a {number}" for number in range(turns)]


def test_the_synchronous_face_raises_what_a_turn_raises(sessions: Sessions) -> None:
    options: Any = {"database_name": sessions.database_name, "collection_name": COLLECTION, "ensure_indexes": False}
    with (
        MongoDBSessionManager(SESSION_ID, sessions.uri, **options) as mine,
        MongoDBSessionManager(SESSION_ID, sessions.uri, **options) as other,
    ):
        agent = make_agent(mine, model=ScriptedModel(otherwise="Fine."))
        mine.flush()

        def fail() -> None:
            with mine.turn(idempotency_key="request-1"):
                agent("hi")
                with pytest.raises(LeaseUnavailableError), other.turn(wait_s=0):
                    pytest.fail("two at once")
                with pytest.raises(LeaseUnavailableError):
                    other.update_metadata({"a": 1})
                raise KeyError("the handler failed")

        with pytest.raises(KeyError, match="the handler failed"):
            fail()
        assert agent.messages == []
        with mine.turn(idempotency_key="request-1"):
            agent("hi")
        with other.turn(idempotency_key="request-1") as turn:
            assert turn.replayed

    assert sessions.texts() == ["hi", "Fine."]


@pytest.mark.parametrize("lease", ["mine", {"holder": "me"}, 1, [], {"token": 1, "renewals": "a", "lease_s": None}])
async def test_what_another_tool_keeps_where_the_lease_stands_is_a_clear_error(sessions: Sessions, lease: Any) -> None:
    async with sessions.manager() as manager:
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"lease": lease}})

        with pytest.raises(SessionStoreError, match="'lease' holds a value of another kind"):
            await manager.update_metadata({"a": 1})
        with pytest.raises(SessionStoreError, match="'lease' holds a value of another kind"):
            async with manager.turn(wait_s=WAIT_S):
                pytest.fail("the turn was taken")

        sessions.raw.update_one({"_id": SESSION_ID}, {"$unset": {"lease": ""}})
        async with manager.turn(wait_s=WAIT_S):
            await manager.update_metadata({"a": 1})
