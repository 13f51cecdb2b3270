"""What signals do to a command: it ends in order, with nothing half-written, and says nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

_ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl+C does, so that it cleans up.

    What the caller ignores, as `nohup` does, stays ignored.

    Raises:
        SystemExit: One of them came; 128 and its number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)  # That of an event loop cancels what it runs.

    taken = [number for number in _ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if came:
            raise SystemExit(128 + came[0]) from None
        raise
    finally:
        for number in taken:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def asking() -> Iterator[None]:
    """Let Ctrl+C end a question at once: the handler of a running event loop waits until the loop goes on.

    Raises:
        KeyboardInterrupt: The user has pressed it.
    """
    former = signal.getsignal(signal.SIGINT)
    takes_it = callable(former) and threading.current_thread() is threading.main_thread()
    if takes_it:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if takes_it:
            signal.signal(signal.SIGINT, former)
