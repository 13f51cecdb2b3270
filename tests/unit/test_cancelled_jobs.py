"""A caller that is cancelled goes on when no thread is at its command any more, and none will be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mongodb_session_manager.client.load import Load
from mongodb_session_manager.client.settling import settled_job
from mongodb_session_manager.client.threads import Job

TURNS = 20
"""Turns of the event loop in which a task ends that waits for nothing."""

Outcome = Callable[[Job], None]


def new_job() -> Job:
    return Job(lambda: None, asyncio.get_running_loop(), Load())


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def waiting_for(job: Job, *, withdrawn: bool = False) -> asyncio.Task[object]:
    task = asyncio.ensure_future(settled_job(job, lambda _: withdrawn))
    await turns()
    return task


@pytest.mark.parametrize(
    "outcome",
    [
        lambda job: job.tell("result", None),
        lambda job: job.tell(None, ValueError("failed")),
        lambda job: job.tell_with([new_job()], [("result", None), ("another", None)]),
        lambda job: job.tell_given_up(),
    ],
    ids=["a result", "an error", "a result together with others", "given up"],
)
async def test_a_cancelled_caller_goes_on_when_the_thread_has_done_with_its_job(outcome: Outcome) -> None:
    job = new_job()
    task = await waiting_for(job)
    task.cancel()
    await turns()
    assert not task.done(), "a thread is at it"
    outcome(job)
    await turns()
    assert task.cancelled()


@pytest.mark.parametrize("first", ["cancelled", "told"])
async def test_a_job_that_ends_as_its_caller_is_cancelled_is_not_waited_for(first: str) -> None:
    job = new_job()
    task = await waiting_for(job)
    if first == "cancelled":
        task.cancel()
        job.tell("result", None)
    else:
        job.tell("result", None)
        task.cancel()
    await turns()
    assert task.cancelled()


async def test_a_job_that_no_thread_had_yet_is_not_waited_for() -> None:
    task = await waiting_for(new_job(), withdrawn=True)
    task.cancel()
    await turns()
    assert task.cancelled()


async def test_a_second_cancellation_ends_the_wait() -> None:
    job = new_job()
    task = await waiting_for(job)
    for _ in range(2):
        task.cancel()
        await turns()
    assert task.cancelled()
    job.tell("result", None)  # Told to nobody, without an error in the loop.
    await turns()


async def test_a_caller_that_nobody_cancels_has_its_result_or_its_error() -> None:
    job = new_job()
    task = await waiting_for(job)
    job.tell("result", None)
    assert await task == "result"
    job = new_job()
    task = await waiting_for(job)
    job.expire(1.0)
    with pytest.raises(Exception, match=r"no answer from the server within 1\.0 s"):
        await task
