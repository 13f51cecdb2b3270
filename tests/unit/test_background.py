"""The one owner of background work: order, bounds, counters, drains and ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from mongodb_session_manager import runtime
from mongodb_session_manager.runtime import Counters, Outbox, Outcome, SkippedError, UnsendableError, portal

Deliver = Callable[[Sequence[str]], Awaitable[Sequence[Outcome]]]


class Receiver:
    """The other end. Closed, it makes senders wait.

    Attributes:
        got: What arrived, in order.
        busy: Set when somebody waits at a closed receiver.
        most: Most senders that were there at the same time.
        tasks: Names of the tasks that sent.
    """

    def __init__(self, *, closed: bool = False) -> None:
        self.got: list[str] = []
        self.busy = threading.Event()
        self.most = self._here = 0
        self.tasks: set[str] = set()
        self._open = asyncio.Event()
        if not closed:
            self._open.set()

    def open(self) -> None:
        async def opened() -> None:
            self._open.set()

        portal.call(opened)

    async def send(self, messages: Sequence[str]) -> Sequence[Outcome]:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task.get_name())
        self._here += 1
        self.most = max(self.most, self._here)
        self.busy.set()
        try:
            await self._open.wait()
            await asyncio.sleep(0)
        finally:
            self._here -= 1
        self.got += messages
        return [None] * len(messages)


def drain(session_id: str | None = None, wait_s: float = 30) -> int:
    return portal.call(runtime.drain, session_id, wait_s)


def raising(error: BaseException) -> Deliver:
    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        raise error

    return send


def outbox(send: Deliver, **options: int) -> Outbox[str]:
    return Outbox("test", send, **options)  # type: ignore[arg-type]


def test_messages_of_a_session_arrive_in_order_and_sessions_side_by_side() -> None:
    receiver = Receiver()
    box = outbox(receiver.send)

    for number in range(100):
        for session_id in ("s-1", "s-2", "s-3"):
            box.put(session_id, f"{session_id}:{number}")
    drain()

    for session_id in ("s-1", "s-2", "s-3"):
        arrived = [message for message in receiver.got if message.startswith(session_id)]
        assert arrived == [f"{session_id}:{number}" for number in range(100)]
    assert box.counters == Counters(sent=300)
    assert receiver.tasks == {f"notify:test:s-{number}" for number in (1, 2, 3)}


def test_a_slow_receiver_is_met_by_a_fixed_number_of_tasks() -> None:
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)
    threads = threading.active_count()

    for number in range(1000):
        box.put(f"s-{number}", str(number))
    assert receiver.busy.wait(30)
    assert box.counters == Counters(pending=1000)
    assert threading.active_count() <= threads + 1  # the library's loop, when this test is the first
    receiver.open()
    drain()

    assert box.counters == Counters(sent=1000)
    assert receiver.most <= runtime.MAX_IN_FLIGHT


def test_several_messages_of_a_session_go_together_within_the_limits() -> None:
    receiver = Receiver(closed=True)
    together: list[list[int]] = []

    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        together.append([int(message) for message in messages])
        return await receiver.send(messages)

    box = outbox(send, most=10, most_bytes=100)
    sizes = [9] * 30 + [40] * 5 + [200]
    for number, size in enumerate(sizes):
        box.put("s-1", str(number), size)
    receiver.open()
    drain()

    assert receiver.got == [str(number) for number in range(len(sizes))]
    assert max(len(numbers) for numbers in together) == 10
    assert all(sum(sizes[number] for number in numbers) <= 100 for numbers in together if len(numbers) > 1)


def test_each_message_sent_together_has_an_outcome_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(closed=True)

    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        await receiver.send(messages)
        return [{"bad": ValueError("secret"), "nobody": SkippedError()}.get(message) for message in messages]

    box = outbox(send, most=10)
    for message in ("first", "good", "bad", "nobody", "good"):
        box.put("s-1", message)
    receiver.open()
    drain()

    assert box.counters == Counters(sent=3, failed=1)
    assert [record.getMessage() for record in caplog.records] == [
        "session_id=<'s-1'>, hook=<test>, count=<1>, error=<ValueError> | notification failed"
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("secret"), "ValueError"),
        (UnsendableError("5 bytes are over the limit"), "UnsendableError: 5 bytes are over the limit"),
    ],
)
def test_a_failure_is_counted_and_logged_once_without_content(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    box = outbox(raising(error))

    box.put("s-1", "secret")
    drain()

    assert box.counters == Counters(failed=1)
    [record] = caplog.records
    assert record.getMessage() == f"session_id=<'s-1'>, hook=<test>, count=<1>, error=<{told}> | notification failed"
    assert record.levelno == logging.WARNING


class Told(Exception):
    """An error as AWS's library raises it, with what the service told."""

    def __init__(self, response: object) -> None:
        super().__init__("secret-4711")
        self.response = response


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Told({"Error": {"Code": "Throttling.Rate_1"}}), "error=<Told: Throttling.Rate_1>"),
        (Told({"Error": {"Code": "Made\nup> | secret-4711"}}), "error=<Told>"),
        (Told({"Error": {"Code": "a" * 10_000}}), "error=<Told>"),
        (Told({"Error": {"Code": ["secret-4711"]}}), "error=<Told>"),
        (Told({"Error": None}), "error=<Told>"),
        (Told({"Error": "secret-4711"}), "error=<Told>"),
        (Told("secret-4711"), "error=<Told>"),
        # Of what was waited for, not of the sender: another event loop that ended.
        (asyncio.CancelledError("secret-4711"), "error=<CancelledError>"),
    ],
)
def test_whatever_a_sender_fails_with_is_one_line_and_no_later_message_waits_for_it(
    caplog: pytest.LogCaptureFixture, error: BaseException, told: str
) -> None:
    receiver = Receiver()

    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        if messages == ["fails"]:
            raise error
        return await receiver.send(messages)

    box = outbox(send)
    sessions = [f"s-{number}" for number in range(2 * runtime.MAX_IN_FLIGHT)]
    for session_id in sessions:
        box.put(session_id, "fails")
    drain()
    for session_id in sessions:
        box.put(session_id, "arrives")
    assert drain() == 0

    assert receiver.got == ["arrives"] * len(sessions)
    assert box.counters == Counters(sent=len(sessions), failed=len(sessions))
    lines = [record.getMessage() for record in caplog.records if "notification failed" in record.getMessage()]
    assert len(lines) == len(sessions)
    assert all(told in line and len(line) < 200 for line in lines)
    assert "secret-4711" not in caplog.text


def test_a_log_that_fails_holds_nothing_up() -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise ValueError("the filter of an application")

    box = outbox(raising(OSError("unreachable")))
    logger = logging.getLogger("mongodb_session_manager.runtime.outbox")
    logger.addFilter(fail)
    try:
        for number in range(2 * runtime.MAX_IN_FLIGHT):
            box.put(f"s-{number}", "message")
        assert drain() == 0
    finally:
        logger.removeFilter(fail)

    assert box.counters == Counters(failed=2 * runtime.MAX_IN_FLIGHT)


def test_an_outbox_recovers_when_the_system_had_no_thread_for_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    receiver = Receiver()
    box = outbox(receiver.send)
    with monkeypatch.context() as patch:
        patch.setattr(portal, "start", no_thread)
        for number in range(2 * runtime.MAX_IN_FLIGHT):
            box.put(f"s-{number}", "too early")
    assert box.counters == Counters(dropped=2 * runtime.MAX_IN_FLIGHT)

    box.put("s-0", "of a session that was there")
    box.put("another", "of another one")
    assert drain() == 0

    assert sorted(receiver.got) == ["of a session that was there", "of another one"]


def test_what_takes_too_long_has_failed_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.SEND_TIMEOUT_S", 0.05)
    receiver = Receiver(closed=True)

    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        if messages == ["stuck"]:
            return await receiver.send(messages)
        return [None]

    box = outbox(send)
    box.put("s-1", "stuck")
    box.put("s-1", "next")
    drain()

    assert box.counters == Counters(sent=1, failed=1)


def test_a_full_outbox_makes_messages_wait_and_then_drops_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.MAX_PENDING", 3)
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.MAX_LATE", 2)
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.ROOM_WAIT_S", 0.05)
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)

    for number in range(6):
        box.put("s-1", str(number))
    reason = "reason=<the queue is full> | notifications dropped"
    assert [record.getMessage().split(", ")[-1] for record in caplog.records] == [reason]
    while box.counters.dropped < 3:  # the two that waited for room
        portal.call(asyncio.sleep, 0.01)
    receiver.open()
    drain()

    assert receiver.got == ["0", "1", "2"]
    assert box.counters == Counters(sent=3, dropped=3)
    assert all("session_id=<'s-1'>" in record.getMessage() for record in caplog.records)


def test_what_waits_for_room_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.MAX_PENDING", 2)
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.ROOM_WAIT_S", 60)
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)

    for number in range(50):
        box.put("s-1", str(number))
    receiver.open()
    drain()

    assert receiver.got == [str(number) for number in range(50)]
    assert box.counters == Counters(sent=50)


def test_the_size_of_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.MAX_PENDING_BYTES", 100)
    monkeypatch.setattr("mongodb_session_manager.runtime.outbox.MAX_LATE", 0)
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)

    for size in (60, 60, 30):
        box.put("s-1", str(size), size)
    receiver.open()
    drain()

    assert receiver.got == ["60", "30"]
    assert box.counters == Counters(sent=2, dropped=1)


def test_a_drain_gives_up_what_is_not_delivered_in_time(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(closed=True)
    box, other = outbox(receiver.send), outbox(receiver.send)
    for number in range(5):
        box.put("s-1", str(number))
    other.put("s-2", "other")

    assert drain("s-1", wait_s=0.05) == 5

    assert box.counters == Counters(dropped=5)
    [record] = caplog.records
    assert record.getMessage() == (
        "session_id=<'s-1'>, hook=<test>, count=<5>, reason=<not delivered in time> | notifications dropped"
    )
    assert other.counters == Counters(pending=1)
    receiver.open()
    drain()
    assert receiver.got == ["other"]


def test_room_that_a_drain_makes_is_for_those_who_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.outbox, "MAX_PENDING", runtime.MAX_IN_FLIGHT + 1)
    monkeypatch.setattr(runtime.outbox, "ROOM_WAIT_S", 3600.0)
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)
    for number in range(runtime.MAX_IN_FLIGHT):
        box.put(f"busy-{number}", "sent")
    box.put("given-up", "never")
    box.put("late", "admitted")

    assert drain("given-up", 0) == 1
    assert box._held == runtime.MAX_IN_FLIGHT + 1  # the late one has the room
    receiver.open()

    assert drain() == 0
    assert box.counters == Counters(sent=runtime.MAX_IN_FLIGHT + 1, dropped=1)


def test_a_drain_ends_when_another_one_gives_up_what_it_waits_for() -> None:
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)
    for number in range(runtime.MAX_IN_FLIGHT):
        box.put(f"busy-{number}", "sent")
    box.put("s-1", "never")

    async def both() -> tuple[int, int]:
        patient = asyncio.create_task(runtime.drain("s-1", 3600))
        await asyncio.sleep(0)
        given_up = await runtime.drain("s-1", 0)
        return given_up, await patient

    assert asyncio.run(asyncio.wait_for(both(), 60)) == (1, 0)
    receiver.open()
    assert drain() == 0


def test_a_drain_goes_on_as_long_as_something_is_delivered() -> None:
    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        await asyncio.sleep(0.02)
        return [None]

    box = outbox(send)
    for number in range(50):
        box.put("s-1", str(number))

    assert drain("s-1", wait_s=0.8) == 0  # all together take longer
    assert box.counters == Counters(sent=50)


def test_a_drain_waits_for_what_is_being_prepared() -> None:
    prepared = threading.Event()

    async def send(messages: Sequence[str]) -> Sequence[Outcome]:
        with runtime.preparing():
            await asyncio.to_thread(prepared.wait)
        return [None]

    box = outbox(send)
    box.put("s-1", "a")
    draining = portal.start(runtime.drain, "s-1", 0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        draining.result(0.5)  # ten times as long
    prepared.set()

    assert draining.result(30) == 0
    assert box.counters == Counters(sent=1)


def test_what_was_left_on_a_loop_that_ended_is_delivered() -> None:
    receiver = Receiver(closed=True)
    box = outbox(receiver.send)

    async def short_life() -> None:
        box.put("s-1", "a")
        await asyncio.to_thread(box.put, "s-1", "b")

    asyncio.run(short_life())
    receiver.open()
    drain()

    assert receiver.got == ["a", "b"]


async def test_a_drain_waits_on_any_loop() -> None:
    receiver = Receiver()
    box = outbox(receiver.send)
    box.put("s-1", "a")

    assert await runtime.drain("s-1") == 0

    assert receiver.got == ["a"]


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True, timeout=60, check=False
    )


SETUP = """
import asyncio, os, sys
from mongodb_session_manager.runtime import Outbox

async def send(messages):
    await asyncio.sleep(0.2)
    with open(sys.argv[1], "a") as file:
        file.write("".join(f"{message}\\n" for message in messages))
    return [None] * len(messages)

box = Outbox("test", send)
"""


@pytest.mark.thorough
def test_an_interpreter_that_exits_delivers_first(tmp_path: Path) -> None:
    out = tmp_path / "out"

    ended = run(
        SETUP
        + """
async def main():
    box.put("s-1", "from a loop that ends")
asyncio.run(main())
box.put("s-1", "last words")
""",
        str(out),
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert out.read_text().splitlines() == ["from a loop that ends", "last words"]


@pytest.mark.thorough
def test_an_exit_does_not_wait_for_ever(tmp_path: Path) -> None:
    ended = run(
        SETUP
        + """
from mongodb_session_manager.runtime import draining
draining.DRAIN_S = 0.05
async def never(messages):
    await asyncio.Event().wait()
Outbox("test", never).put("s-1", "secret")
""",
        str(tmp_path / "out"),
    )

    assert ended.returncode == 0
    assert ended.stderr == (
        "session_id=<'s-1'>, hook=<test>, count=<1>, reason=<not delivered in time> | notifications dropped\n"
    )


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_sends_its_own_messages_and_not_its_parents(tmp_path: Path) -> None:
    out = tmp_path / "out"

    ended = run(
        SETUP
        + """
box.put("s-1", "parent")
child = os.fork()
box.put("s-1", "child" if child == 0 else "parent again")
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert box.counters.sent + box.counters.pending == 2
""",
        str(out),
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(out.read_text().splitlines()) == ["child", "parent", "parent again"]


def test_importing_starts_nothing() -> None:
    ended = run(
        "import threading, sys, mongodb_session_manager\n"
        "assert threading.active_count() == 1\n"
        "assert not {'aioboto3', 'aiobotocore'} & set(sys.modules)"
    )

    assert (ended.returncode, ended.stderr) == (0, "")
