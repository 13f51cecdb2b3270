"""Whether the process has more to do than it keeps up with."""

from __future__ import annotations

import time

LOOK_S = 0.01
"""Time over which a process is looked at to tell whether it is busy, in seconds."""

BUSY = 0.85
"""Processor time for each second from which on it is: the interpreter runs one thread at a time."""

LATE_S = 0.002
"""How late its event loops hear of outcomes, on average, from which on it is, too: it may get less than a processor."""


class Load:
    """Tells whether the process has more to do than it keeps up with."""

    def __init__(self) -> None:
        self._since = self._cpu = -1.0
        self._was_busy = True
        self._late_s = 0.0

    def heard(self, late_s: float) -> None:
        """Take how late an event loop heard of an outcome; the last dozen or so count."""
        self._late_s += (late_s - self._late_s) / 8

    def is_busy(self, moment: float) -> bool:
        """Tell it of the last while; unknown is busy."""
        passed = moment - self._since
        if passed >= LOOK_S:
            cpu = time.process_time()
            if passed > 3 * LOOK_S:
                self._was_busy, self._late_s = True, 0.0  # What was heard before says nothing of now.
            else:
                self._was_busy = cpu - self._cpu > BUSY * passed or self._late_s > LATE_S
            self._since, self._cpu = moment, cpu
        return self._was_busy
