"""Ends servers at interpreter exit and on SIGTERM, and lets go of them after a fork."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType
from typing import Protocol


class Owned(Protocol):
    """Something with processes of its own."""

    def abandon(self) -> None:
        """End the processes without waiting for locks."""

    def disown(self) -> None:
        """Forget the processes without ending them: they belong to the parent of a fork."""


_owned: set[Owned] = set()
_hooked = False


def register(owned: Owned) -> None:
    """End `owned` at interpreter exit and on SIGTERM, until `unregister`.

    SIGTERM is handled only where no handler is set yet: a program with a handler of its own leaves its `with` blocks or
    runs to its end, which ends the server too. Python lets only the main thread install one.
    """
    global _hooked
    _owned.add(owned)
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_child)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def unregister(owned: Owned) -> None:
    """Forget `owned`; the last one takes the signal handler along."""
    _owned.discard(owned)
    if (
        not _owned
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is _on_sigterm
    ):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _at_exit() -> None:
    for owned in list(_owned):
        owned.abandon()


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    _at_exit()
    # What would have happened without a handler, so that a waiting parent sees a process ended by SIGTERM.
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _in_child() -> None:
    for owned in list(_owned):
        owned.disown()
    _owned.clear()
