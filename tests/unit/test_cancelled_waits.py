"""Work that goes on when its caller is cancelled: its failure is a line of the log, never a traceback of asyncio."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from mongodb_session_manager.client.settling import settled
from mongodb_session_manager.hooks.watching import watched_to_its_end
from mongodb_session_manager.runtime.cancellation import outcome_of
from mongodb_session_manager.runtime.home import Home
from mongodb_session_manager.web.once import Once

Work = Callable[[], Awaitable[Any]]
SECRET = "what the server quotes"


def in_home(*, on_portal: bool) -> Callable[[Work], Awaitable[Any]]:
    async def work_at_home(work: Work) -> Any:
        async def working() -> Any:
            return await work()

        return await Home("s-1", on_portal=on_portal).undisturbed("send", working)

    return work_at_home


async def waited_for_alone(work: Work) -> None:
    async def working() -> Any:
        return await work()

    home = Home("s-1", on_portal=True)
    home.start("send", working)
    await home.wait()


async def once(work: Work) -> None:
    async def working() -> None:
        await work()

    await Once().run(("key",), working)


WAYS: dict[str, Callable[[Work], Awaitable[Any]]] = {
    "a task": lambda work: outcome_of(asyncio.ensure_future(work())),
    "a session's work": in_home(on_portal=False),
    "a session's work on the library's loop": in_home(on_portal=True),
    "work whose end alone is waited for": waited_for_alone,
    "a hook's operation": lambda work: watched_to_its_end(work, lambda error, result: None),
    "a command": lambda work: settled(work()),
    "what is done once": once,
}


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "not cancelled"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_fails_after_its_caller_was_cancelled_is_no_traceback(
    caplog: pytest.LogCaptureFixture, way: Callable[[Work], Awaitable[Any]], is_cancelled: bool
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    caplog.set_level(logging.DEBUG)
    here, under_way = asyncio.get_running_loop(), asyncio.Event()
    ended: asyncio.Future[None] = here.create_future()

    async def work() -> None:
        here.call_soon_threadsafe(under_way.set)
        try:
            await asyncio.sleep(0.02)
            raise ValueError(SECRET)
        finally:
            here.call_soon_threadsafe(ended.set_result, None)

    async def caller() -> None:
        await way(work)

    task = asyncio.create_task(caller())
    await under_way.wait()
    if is_cancelled:
        task.cancel()
    with suppress(asyncio.CancelledError, ValueError):
        await task
    del task
    await ended
    for _ in range(10):
        await asyncio.sleep(0)
        gc.collect()

    assert not told
    assert SECRET not in caplog.text


async def test_work_that_is_waited_for_has_its_result_or_its_error() -> None:
    async def work(fails: bool) -> str:
        if fails:
            raise ValueError(SECRET)
        return "done"

    assert await outcome_of(asyncio.ensure_future(work(False))) == "done"
    with pytest.raises(ValueError, match=SECRET):
        await outcome_of(asyncio.ensure_future(work(True)))


async def test_the_failure_of_a_sessions_work_is_told_in_one_line_when_its_caller_was_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail = asyncio.Event()

    async def work() -> None:
        await fail.wait()
        raise ValueError(SECRET)

    home = Home("s-1", on_portal=False)
    task = asyncio.create_task(home.undisturbed("send", work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fail.set()
    await home.wait()
    await asyncio.sleep(0)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("session_id=<'s-1'>, work=<send>, error=<ValueError> |")
