"""Sending again what may be repeated, the only place that does: failovers and lost replies end here.

Every command of the engine may be repeated by construction: updates carry tokens, inserts fixed ids, the rest changes
nothing the second time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Server errors after which the same command may be sent again: elections, shutdowns and lost connections
# (MongoDB's retryable writes specification), and a write concern that was not met in time.
_TRANSIENT_CODES = frozenset({6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

_SHORTEST_SEND_S = 1.0
"""What a command is given at least: a short deadline is no reason to give up on a server that is busy."""


def is_transient(error: PyMongoError) -> bool:
    """Tell whether sending the same thing again may succeed."""
    if isinstance(error, AutoReconnect | WaitQueueTimeoutError) or error.has_error_label("RetryableWriteError"):
        return True
    return getattr(error, "code", None) in _TRANSIENT_CODES


class Retry:
    """Sends commands until they succeed, fail for good, or a deadline has passed.

    A failover is waited for. A server that was never reached is not: that is more likely a wrong address, and fails
    with the client's own `serverSelectionTimeoutMS`. A silent server is not waited for beyond the deadline, whatever
    the client's socket timeout: what was sent may still arrive, which is no harm to what may be repeated.
    """

    def __init__(self, deadline_s: float, was_reached: Callable[[], bool]) -> None:
        """Give up after `deadline_s` seconds.

        Args:
            deadline_s: Seconds, counted for each command.
            was_reached: Tells whether the server has ever answered.
        """
        self.deadline_s = deadline_s
        self._was_reached = was_reached

    async def run(
        self,
        send: Callable[[], Awaitable[T]],
        session_id: object,
        *,
        deadline_s: float | None = None,
        bounded: bool = True,
    ) -> T:
        """Send until it succeeds.

        Args:
            send: Sends it once.
            session_id: For the log.
            deadline_s: Another deadline than the usual one.
            bounded: False for what may rightly take longer than the deadline: reading a lot.

        Raises:
            PyMongoError: The last failure; `NetworkTimeout` when there was no answer.
        """
        deadline_s = self.deadline_s if deadline_s is None else deadline_s
        give_up_at = time.monotonic() + deadline_s
        pause_s = _FIRST_PAUSE_S
        attempts = 0
        left_s = deadline_s
        while True:
            attempts += 1
            try:
                result = await _answered(send, max(left_s, _SHORTEST_SEND_S) if bounded else None)
            except PyMongoError as error:
                now = time.monotonic()
                if not self._may_pass(error) or now + pause_s >= give_up_at:
                    if attempts > 1:
                        _log("gave up a command", session_id, error, attempts)
                    raise
                if attempts == 1:
                    _log("command failed, sending it again", session_id, error, attempts)
                left_s = give_up_at - now - pause_s
            else:
                if attempts > 1:
                    logger.warning("session_id=<%r>, attempts=<%d> | command succeeded", session_id, attempts)
                return result
            # Writers that failed together must not come back together.
            await asyncio.sleep(pause_s * random.uniform(0.7, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _may_pass(self, error: PyMongoError) -> bool:
        if isinstance(error, ServerSelectionTimeoutError) and not self._was_reached():
            return False
        return is_transient(error)


def _log(what: str, session_id: object, error: PyMongoError, attempts: int) -> None:
    logger.warning("session_id=<%r>, error=<%s>, attempts=<%d> | %s", session_id, type(error).__name__, attempts, what)


async def _answered(send: Callable[[], Awaitable[T]], timeout_s: float | None) -> T:
    # Not the driver's own timeout (`pymongo.timeout`): that one puts maxTimeMS on writes, which not every compatible
    # database knows, and takes the user's wtimeout away. A thread that is left waiting for the silent server ends when
    # the driver's monitor gives that server up, or with the client's socket timeout.
    if timeout_s is None:
        return await send()
    patience = asyncio.timeout(timeout_s)
    try:
        async with patience:
            return await send()
    except TimeoutError:
        if not patience.expired():
            raise
        raise NetworkTimeout(f"no answer from the server within {timeout_s:.1f} s") from None
