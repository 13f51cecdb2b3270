"""Does once what is asked for several times, by a key that is pressed twice or a request that is sent again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from ..runtime.cancellation import outcome_of

_MOST_KEYS = 10_000


class Once:
    """Runs what belongs to a key once; for one event loop.

    A call with a key that is known waits for the first run and shares its outcome. A run that failed is forgotten, so
    that it can be tried again; of the others as many are remembered as a bound allows.
    """

    def __init__(self, most_keys: int = _MOST_KEYS) -> None:
        """Begin without any key."""
        self._most_keys = most_keys
        self._runs: OrderedDict[tuple[str, ...], asyncio.Task[None]] = OrderedDict()

    async def run(self, key: tuple[str, ...], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something unless it was done, or is being done, under the same key.

        It goes on when the caller is cancelled: another one may be waiting for it.
        """
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = asyncio.create_task(work())
            run.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._runs) > self._most_keys:
                self._runs.popitem(last=False)
        await outcome_of(run)

    def _forget_failed(self, key: tuple[str, ...], run: asyncio.Task[None]) -> None:
        if (run.cancelled() or run.exception() is not None) and self._runs.get(key) is run:
            del self._runs[key]
