"""Managers that are still open when the interpreter exits: closed while the library's loop still runs.

Functions that `atexit` calls come later, when no thread can be waited for any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import weakref

from ..runtime import DRAIN_S, portal
from ..runtime.cancellation import NOT_WRITTEN
from ..session import AsyncMongoDBSessionManager

logger = logging.getLogger(__name__)

CLOSE_S = DRAIN_S + 5.0
"""How long an exit waits for what is to be written, in seconds."""


class _Process:
    """The managers that this process opened; those of its parent are its parent's to close."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # Daemon threads open managers while the interpreter exits.
        self.managers: weakref.WeakSet[AsyncMongoDBSessionManager] = weakref.WeakSet()
        self.knows_exit = False


_process = _Process()


def close_at_exit(manager: AsyncMongoDBSessionManager) -> None:
    """Have a manager closed when the interpreter exits, if it still exists then and is open."""
    with _process.lock:
        if not _process.knows_exit:
            _process.knows_exit = True
            portal.before_stop(_close_all)
        _process.managers.add(manager)


def _close_all() -> None:
    with _process.lock:
        managers = list(_process.managers)
    if not managers:
        return

    async def close() -> None:
        closing = [asyncio.wait_for(manager.close(), CLOSE_S) for manager in managers]
        ended = await asyncio.gather(*closing, return_exceptions=True)
        for manager, error in zip(managers, ended, strict=True):
            if isinstance(error, BaseException):
                logger.error("session_id=<%r>, error=<%s> | %s", manager.session_id, type(error).__name__, NOT_WRITTEN)

    # Bounded once more, because nothing else would end an exit whose loop is blocked.
    with contextlib.suppress(concurrent.futures.TimeoutError):
        portal.start(close).result(2 * CLOSE_S)


def _after_fork_in_child() -> None:
    _process.lock, _process.managers = threading.Lock(), weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
