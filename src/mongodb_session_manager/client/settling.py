"""What becomes of a command whose caller was cancelled: on its way to the server, it cannot be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from ..runtime.cancellation import outcome_of
from .threads import Job

T = TypeVar("T")

SETTLE_S = 2.0
"""Longest time that a cancelled caller waits, in seconds: a silent server must not keep it from ending."""


async def settled(command: Awaitable[T]) -> T:
    """Return the outcome of a command; a caller that is cancelled meanwhile first waits until it has one.

    Else the caller's next command, on another connection, could get to the server before it.

    Args:
        command: Under way already, or about to be sent.
    """
    under_way = asyncio.ensure_future(command)
    try:
        return await outcome_of(under_way)
    except asyncio.CancelledError:
        await _wait_for(asyncio.wait({under_way}))
        under_way.cancel()
        raise
    finally:
        del under_way  # The error's traceback holds this frame.


async def settled_job(job: Job, withdraw: Callable[[Job], bool]) -> Any:
    """Return the outcome of a job, likewise, without a task or a future of its own around each one.

    Args:
        job: Given to the threads.
        withdraw: Takes it back where no thread has it yet; tells whether it did.
    """
    try:
        return await job.future
    except asyncio.CancelledError:
        if not withdraw(job):
            await _wait_for(job.end())
        raise


async def _wait_for(end: Awaitable[object]) -> None:
    with anyio.move_on_after(SETTLE_S, shield=True):
        await end
