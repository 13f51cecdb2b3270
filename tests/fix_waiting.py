"""Waiting for what happens elsewhere: on events, each with a deadline that only a failure meets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from mongodb_session_manager.store import store as store_module
from tests.fix_commands import NOISE

WAIT_S = 120.0
"""Longest time, in seconds, for what should happen at once: a machine may be busy, and slow."""

ANSWER_S = 30.0
"""Longest time, in seconds, after which a loop that runs nothing is taken for one that is held up."""

Matches = Callable[[str, Mapping[str, Any]], bool]


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str = "it") -> None:
    """Return once something holds that nobody here is told of."""
    give_up_at = time.monotonic() + WAIT_S
    while True:
        answer = condition()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        assert time.monotonic() < give_up_at, f"{what} did not happen within {WAIT_S} s"
        await asyncio.sleep(0.005)


async def happened(event: threading.Event) -> None:
    """Return once an event was set, by whatever thread."""
    assert await asyncio.to_thread(event.wait, WAIT_S)


def updates(name: str, command: Mapping[str, Any]) -> bool:
    """Tell whether a command is an update."""
    return name == "update"


class Held(CommandListener):
    """Holds the first command that matches up, just before it is sent, for as long as a test needs.

    In the thread that sends it, so not for an `AsyncMongoClient`: that one calls its listeners on the loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._matches: Matches | None = None
        self._go_on = threading.Event()
        self.reached = threading.Event()

    @contextmanager
    def holding(self, matches: Matches = updates) -> Iterator[None]:
        """Hold the first command up that matches, until `let_go()` or the end of the block."""
        self.reached.clear()
        self._go_on.clear()
        self._matches = matches
        try:
            yield
        finally:
            self._matches = None
            self.let_go()

    def let_go(self) -> None:
        """Let it be sent."""
        self._go_on.set()

    def started(self, event: CommandStartedEvent) -> None:
        with self._lock:
            if self._matches is None or not self._matches(event.command_name, event.command):
                return
            self._matches = None
        self.reached.set()
        assert self._go_on.wait(WAIT_S)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start counts."""


class LoopProbe(CommandListener):
    """Sends each command only after the event loop of a test ran something else in the middle of it.

    Attributes:
        sent: How many commands were sent.
        held_up: The names of those during which the loop ran nothing: it was waiting for them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.sent = 0
        self.held_up: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in NOISE or self._loop.is_closed():
            return
        self.sent += 1
        ran = threading.Event()
        self._loop.call_soon_threadsafe(ran.set)
        if threading.get_ident() == self._thread or not ran.wait(ANSWER_S):
            self.held_up.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start counts."""


Patience = Callable[[float], None]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Set how many seconds a server may take to answer, whatever the write deadline: at first as long as it needs.

    So a short deadline only bounds how often what fails is sent again, and a slow machine is not taken for a silent
    server. A test whose server is silent indeed sets it shorter for that time.
    """

    def set_patience(seconds: float) -> None:
        monkeypatch.setattr(store_module, "_SHORTEST_SEND_S", seconds)

    set_patience(WAIT_S)
    return set_patience
