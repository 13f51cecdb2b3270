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
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from .outages import outages

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Server errors after which the same command may be sent again: elections, shutdowns and lost connections
# (MongoDB's retryable writes specification), a write concern that was not met in time, and a new primary that has no
# keys for the cluster's time yet (211).
_TRANSIENT_CODES = frozenset({6, 7, 64, 89, 91, 189, 211, 262, 9001, 10107, 11600, 11602, 13435, 13436})
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

    An outage is logged when it begins and when it ends, once for each client.
    """

    def __init__(self, deadline_s: float, was_reached: Callable[[], bool], client: Callable[[], object]) -> None:
        """Give up after `deadline_s` seconds.

        Args:
            deadline_s: Seconds, counted for each command.
            was_reached: Tells whether the server has ever answered.
            client: Returns the driver's client, whose outages are told once.
        """
        self.deadline_s = deadline_s
        self._was_reached = was_reached
        self._client = client

    async def run(
        self,
        send: Callable[[float | None], Awaitable[T]],
        session_id: object,
        *,
        deadline_s: float | None = None,
        bounded: bool = True,
    ) -> T:
        """Send until it succeeds.

        Args:
            send: Sends it once, and waits for the answer for so many seconds, None for as long as it takes.
            session_id: For the log.
            deadline_s: Another deadline than the usual one.
            bounded: False for what may rightly take longer than the deadline: reading a lot.

        Raises:
            PyMongoError: The last failure; `NetworkTimeout` when there was no answer.
        """
        deadline_s = self.deadline_s if deadline_s is None else deadline_s
        give_up_at = time.monotonic() + deadline_s
        pause_s = _FIRST_PAUSE_S
        left_s = deadline_s
        failing: object | None = None
        try:
            while True:
                try:
                    result = await send(max(left_s, _SHORTEST_SEND_S) if bounded else None)
                except PyMongoError as error:
                    now = time.monotonic()
                    if not is_transient(error):
                        self._note_answer(session_id, failing)
                        failing = None
                        raise
                    never_reached = isinstance(error, ServerSelectionTimeoutError) and not self._was_reached()
                    if never_reached or now + pause_s >= give_up_at:
                        raise
                    if failing is None:
                        failing = self._client()
                        if outages.began(failing):
                            _log_beginning(session_id, error)
                    left_s = give_up_at - now - pause_s
                else:
                    self._note_answer(session_id, failing)
                    return result
                # Writers that failed together must not come back together.
                await asyncio.sleep(pause_s * random.uniform(0.7, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except BaseException:
            if failing is not None:
                outages.gave_up(failing)
            raise

    def _note_answer(self, session_id: object, failing: object | None) -> None:
        """Tell the end of an outage; `failing` is the client of a command that failed before."""
        if not outages:
            return
        if outages.ended(self._client() if failing is None else failing, waited=failing is not None):
            logger.warning("session_id=<%r> | the server answers again", session_id)


def _log_beginning(session_id: object, error: PyMongoError) -> None:
    what = "command failed, sending it again; so are others, without a line of their own, until the server answers"
    logger.warning("session_id=<%r>, error=<%s> | %s", session_id, type(error).__name__, what)
