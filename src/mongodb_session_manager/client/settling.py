"""What becomes of a command whose caller was cancelled: on its way to the server, it cannot be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..runtime.cancellation import outcome_of

T = TypeVar("T")

SETTLE_S = 2.0
"""Longest time that a cancelled caller waits, in seconds: a silent server must not keep it from ending."""


async def settled(command: Awaitable[T], withdraw: Callable[[], bool] = lambda: False) -> T:
    """Return the outcome of a command; a caller that is cancelled meanwhile first waits until it has one.

    Else the caller's next command, on another connection, could get to the server before it.

    Args:
        command: Under way already, or about to be sent.
        withdraw: Takes the command back where it is not sent yet; tells whether it did.
    """
    under_way = asyncio.ensure_future(command)
    try:
        return await outcome_of(under_way)
    except asyncio.CancelledError:
        if not withdraw():
            with anyio.move_on_after(SETTLE_S, shield=True):
                await asyncio.wait({under_way})
        under_way.cancel()
        raise
    finally:
        del under_way  # The error's traceback holds this frame.
