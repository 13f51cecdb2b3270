"""Counts the commands that a client sends."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, overload

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

# What a driver sends to open, check and close connections and sessions.
NOISE = frozenset({"endSessions", "hello", "isMaster", "ismaster", "ping", "saslContinue", "saslStart"})


@dataclass(frozen=True)
class Command:
    """One command as it was sent."""

    name: str
    database: str
    collection: str | None
    document: dict[str, Any]


class Commands(Sequence[Command]):
    """Commands in the order they were sent; it grows while the client works."""

    def __init__(self, commands: list[Command], first: int = 0) -> None:
        self._commands = commands
        self._first = first
        self._last: int | None = None

    @property
    def names(self) -> list[str]:
        return [command.name for command in self]

    def freeze(self) -> None:
        self._last = len(self._commands)

    def _view(self) -> list[Command]:
        return self._commands[self._first : self._last]

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> list[Command]: ...
    def __getitem__(self, index: int | slice) -> Command | list[Command]:
        return self._view()[index]

    def __len__(self) -> int:
        return len(self._view())

    def __repr__(self) -> str:
        return f"<Commands {self.names}>"


class CommandRecorder(CommandListener):
    """Records every command that a client starts: `MongoClient(uri, event_listeners=[recorder])`.

    Handshakes, heartbeats and the end of driver sessions are left out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Command] = []

    @property
    def commands(self) -> Commands:
        return Commands(self._all)

    @property
    def names(self) -> list[str]:
        return self.commands.names

    def clear(self) -> None:
        with self._lock:
            # A new list: views that a test still holds keep what they saw.
            self._all = []

    @contextmanager
    def counting(self) -> Iterator[Commands]:
        """Yield the commands that are sent inside the block.

        ```python
        with recorder.counting() as commands:
            await manager.flush()
        assert commands.names == ["update"]
        ```
        """
        with self._lock:
            commands = Commands(self._all, first=len(self._all))
        try:
            yield commands
        finally:
            commands.freeze()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in NOISE:
            return
        target = event.command.get(event.command_name)
        command = Command(
            name=event.command_name,
            database=event.database_name,
            collection=target if isinstance(target, str) else None,
            document=copy.deepcopy(dict(event.command)),
        )
        with self._lock:
            self._all.append(command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """What was sent is what counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """What was sent is what counts."""


@pytest.fixture
def command_recorder() -> CommandRecorder:
    """A recorder for the `event_listeners` of the client under test."""
    return CommandRecorder()
