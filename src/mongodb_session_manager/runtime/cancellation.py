"""A cancellation stays one, whatever goes wrong while what it ended is cleaned up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

KEPT = "not written yet when the work was cancelled; kept for the next flush"
NOT_WRITTEN = "what was pending is not written: the session was closed while the server could not be written to"
"""What becomes of what was to be written, for the log."""


@contextmanager
def cleaning_up(ended_by: BaseException | None, session_id: str, outcome: str) -> Iterator[None]:
    """Let an error of the block be a line of the log, when what it cleans up was cancelled or interrupted.

    Raised, the error would take the place of the cancellation: a task group would go on waiting for a task that goes on
    working, and a program would not hear Ctrl-C.

    Args:
        ended_by: What ended the work before: a cancellation, a reader who left (`GeneratorExit`), Ctrl-C; after an
            ordinary error or none, an error of the block is raised.
        session_id: For the log.
        outcome: What becomes of what was to be written, for the log.
    """
    try:
        yield
    except Exception as error:
        if ended_by is None or isinstance(ended_by, Exception):
            raise
        logger.error("session_id=<%r>, error=<%s> | %s", session_id, type(error).__name__, outcome)


async def outcome_of(work: asyncio.Future[T], failed: Callable[[BaseException], None] = lambda error: None) -> T:
    """Wait for work that goes on when the caller is cancelled.

    `asyncio.shield` would do, but then an error that comes after the cancellation is a traceback in asyncio's log, with
    the driver's whole text: hosts, and what the server quotes of a document.

    Args:
        work: Runs on this loop.
        failed: Called with the error of work that failed after the caller was gone.

    Returns:
        What the work returns; what it raises is raised.
    """
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        work.add_done_callback(lambda work: look(work, failed))
        raise
    try:
        return work.result()
    finally:
        del work  # The error's traceback holds this frame.


def look(work: asyncio.Future[Any] | Future[Any], failed: Callable[[BaseException], object]) -> None:
    """Look at work that is over, and tell the error of what failed: asyncio logs one that is not looked at."""
    if not work.cancelled() and (error := work.exception()) is not None:
        failed(error)
