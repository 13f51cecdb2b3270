from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from mongodb_session_manager.runtime import portal
from tests.fixtures.waiting import WAIT_S

LOOP_THREAD = "mongodb-session-manager-loop"


async def double(number: int, *, plus: int = 0) -> int:
    return 2 * number + plus


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_call_returns_what_the_coroutine_returns() -> None:
    assert portal.call(double, 4, plus=1) == 9


def test_call_raises_what_the_coroutine_raises() -> None:
    async def fail() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        portal.call(fail)


def test_call_from_the_own_loop_raises_at_once() -> None:
    async def call_again() -> int:
        return portal.call(double, 1)

    with pytest.raises(RuntimeError, match="wait for itself"):
        portal.start(call_again).result(WAIT_S)


async def test_call_from_a_worker_thread_of_the_own_loop_works() -> None:
    async def call_from_worker() -> int:
        return await asyncio.to_thread(portal.call, double, 3)

    assert await asyncio.wrap_future(portal.start(call_from_worker)) == 6


def test_is_current_only_in_the_loops_thread() -> None:
    async def ask() -> bool:
        return portal.is_current()

    assert portal.call(ask) is True
    assert portal.is_current() is False


def test_start_does_not_wait_for_a_busy_loop() -> None:
    release = threading.Event()

    async def block_the_loop() -> None:
        release.wait(WAIT_S)

    blocked = portal.start(block_the_loop)
    later = portal.start(double, 5)

    assert not later.done()
    release.set()
    assert later.result(WAIT_S) == 10
    blocked.result(WAIT_S)


def test_start_from_the_own_loop_runs_beside_the_caller() -> None:
    async def start_another() -> int:
        return await asyncio.wrap_future(portal.start(double, 7))

    assert portal.call(start_another) == 14


def test_cancelling_the_future_cancels_the_coroutine() -> None:
    began = threading.Event()
    cancelled = threading.Event()

    async def wait_for_ever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = portal.start(wait_for_ever)
    assert began.wait(WAIT_S)

    assert future.cancel()
    assert cancelled.wait(WAIT_S)


def test_future_cancelled_before_the_start_never_runs() -> None:
    blocked, release = threading.Event(), threading.Event()
    ran: list[bool] = []

    async def block_the_loop() -> None:
        blocked.set()
        release.wait(WAIT_S)

    async def note() -> None:
        ran.append(True)

    portal.start(block_the_loop)
    assert blocked.wait(WAIT_S)
    future = portal.start(note)
    assert future.cancel()
    release.set()
    portal.call(double, 1)

    assert ran == []


def test_coroutine_that_cancels_itself_is_a_cancelled_future() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        portal.call(give_up)


def test_system_exit_reaches_the_caller_and_the_loop_lives_on() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        portal.call(leave)

    assert portal.call(double, 2) == 4


def test_context_variables_of_the_caller_are_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def read() -> str:
        return variable.get()

    variable.set("of the caller")

    assert portal.call(read) == "of the caller"


def test_first_use_by_many_threads_starts_one_loop() -> None:
    script = f"""
import threading
from concurrent.futures import ThreadPoolExecutor
from mongodb_session_manager.runtime import portal

assert threading.active_count() == 1, "importing started a thread"
barrier = threading.Barrier(16)

async def ident():
    return threading.get_ident()

def use():
    barrier.wait()
    return portal.call(ident)

with ThreadPoolExecutor(16) as executor:
    idents = set(executor.map(lambda _: use(), range(16)))
names = [thread.name for thread in threading.enumerate()]
print(len(idents), names.count({LOOP_THREAD!r}))
"""
    result = run_script(script)

    assert result.stdout.split() == ["1", "1"], result.stderr


def test_forked_child_has_a_loop_of_its_own() -> None:
    script = """
import os, threading, warnings
from mongodb_session_manager.runtime import portal

warnings.simplefilter("ignore", DeprecationWarning)

async def ident():
    return os.getpid()

assert portal.call(ident) == os.getpid()
pid = os.fork()
if pid == 0:
    print("child", portal.call(ident) == os.getpid(), flush=True)
else:
    _, status = os.waitpid(pid, 0)
    print("parent", portal.call(ident) == os.getpid(), status, flush=True)
"""
    result = run_script(script)

    assert result.stdout.splitlines() == ["child True", "parent True 0"], result.stderr
    assert result.stderr == ""


def test_interpreter_exits_quietly_with_work_left() -> None:
    script = """
import asyncio, threading, anyio
from mongodb_session_manager.runtime import portal

# Longer than the test may take: nothing is waited for in vain.
portal.EXIT_GRACE_S = 3600
began = threading.Event()

async def endless():
    await anyio.to_thread.run_sync(lambda: None)  # leaves an idle worker thread behind
    began.set()
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled")

portal.start(endless)
began.wait()
"""
    result = run_script(script)

    assert (result.returncode, result.stdout, result.stderr) == (0, "cancelled\n", "")


def test_interpreter_exits_although_a_task_ignores_its_cancellation() -> None:
    script = """
import asyncio, threading
from mongodb_session_manager.runtime import portal

portal.EXIT_GRACE_S = 0.2
began = threading.Event()

async def stubborn():
    began.set()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

portal.start(stubborn)
began.wait()
"""
    result = run_script(script)

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.thorough
def test_use_while_the_interpreter_exits_is_a_clear_error() -> None:
    script = """
import atexit
from mongodb_session_manager.runtime import portal

async def nothing():
    pass

def late():
    try:
        portal.call(nothing)
    except RuntimeError as error:
        print(error)

atexit.register(late)
portal.call(nothing)
"""
    result = run_script(script)

    assert "interpreter is shutting down" in result.stdout, result.stderr


def test_calls_from_many_threads_run_side_by_side() -> None:
    meeting: list[asyncio.Event] = []
    arrived: list[int] = []

    async def meet(parties: int) -> int:
        if not meeting:
            meeting.append(asyncio.Event())
        arrived.append(1)
        if len(arrived) == parties:
            meeting[0].set()
        await asyncio.wait_for(meeting[0].wait(), WAIT_S)
        return len(arrived)

    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda _: portal.call(meet, 8), range(8)))

    assert results == [8] * 8
