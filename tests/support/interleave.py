"""Interleaves what several writers send, one command at a time, in an order that the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from mongodb_session_manager import client

_READS = ("aggregate", "find", "find_one")
_METHODS = (*_READS, "delete_many", "delete_one", "insert_one", "update_many", "update_one")
_ROUNDS_UNTIL_QUIET = 25

_actor: ContextVar[str | None] = ContextVar("actor", default=None)


class KilledError(Exception):
    """The process of an actor is gone: it sends nothing any more."""


@dataclass
class _Waiting:
    actor: str
    name: str
    granted: asyncio.Future[None]
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Interleaver:
    """Runs coroutines as actors; each command that one of them sends waits for its turn.

    What an actor starts in the background on the same loop belongs to it. Everything has to use clients that live on
    the test's loop, such as `AsyncMongoClient`.
    """

    def __init__(
        self,
        choices: Sequence[tuple[int, int]],
        lost: Collection[int] = (),
        killed: Mapping[str, tuple[int, bool]] | None = None,
    ) -> None:
        """Take the order.

        Args:
            choices: Each picks one of the commands that wait, and how many of its actor go in a row. When they are used
                up, the eldest goes.
            lost: Which of the writes, as they are counted, lose their reply: they are done, and whoever sent them sees
                the connection fail.
            killed: At which of its commands an actor dies, and whether that one still arrives. It sends nothing after.
        """
        self.dead: set[str] = set()
        self._waiting: list[_Waiting] = []
        self.log: list[str] = []
        self.plan(choices, lost, killed)

    def plan(
        self,
        choices: Sequence[tuple[int, int]],
        lost: Collection[int] = (),
        killed: Mapping[str, tuple[int, bool]] | None = None,
    ) -> None:
        """Take the order of what runs next; arguments as when it was made. Who is dead stays so."""
        self._choices = list(choices)
        self._lost = frozenset(lost)
        self._killed = dict(killed or {})
        self._commands: dict[str, int] = dict.fromkeys(self._killed, 0)
        self._writes = 0
        self._favourite = ""
        self._in_a_row = 0

    async def command(self, name: str, send: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Send a command when it is its turn; at once, outside of actors."""
        actor = _actor.get()
        if actor is None:
            return await send()
        waiting = _Waiting(actor, name, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.granted
            self.log.append(f"{actor}:{name}")
            if not self._arrives(actor):
                raise KilledError
            result = await send()
            if actor in self.dead:
                raise KilledError
            if name not in _READS:
                self._writes += 1
                if self._writes in self._lost:
                    self.log.append(f"{actor}:lost")
                    raise AutoReconnect("the reply was lost")
            return result
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            waiting.done.set()

    def _arrives(self, actor: str) -> bool:
        if actor in self.dead:
            return False
        if actor in self._killed:
            self._commands[actor] += 1
            at, arrives = self._killed[actor]
            if self._commands[actor] == at:
                self.dead.add(actor)
                return arrives
        return True

    async def run(
        self, watch: Callable[[], None] | None = None, **actors: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run actors until all of them, and what they started, have ended; raise what one of them raises.

        Args:
            watch: Asserts what holds at any moment; called after each write.
            **actors: What runs, by name.
        """
        tasks = [self._start(name, actor) for name, actor in actors.items()]
        while True:
            await self._quiet()
            if not self._waiting:
                if all(task.done() for task in tasks):
                    break
                # Somebody waits for something else than a command: a lock, a thread.
                await asyncio.sleep(0.001)
                continue
            waiting = self._next()
            waiting.granted.set_result(None)
            await waiting.done.wait()
            if watch is not None and waiting.name not in _READS:
                watch()
        for task in tasks:
            task.result()

    def _next(self) -> _Waiting:
        favourites = [waiting for waiting in self._waiting if waiting.actor == self._favourite]
        if self._in_a_row > 0 and favourites:
            chosen = favourites[0]
        elif self._choices:
            choice, self._in_a_row = self._choices.pop(0)
            chosen = self._waiting[choice % len(self._waiting)]
        else:
            chosen = self._waiting[0]
        self._favourite = chosen.actor
        self._in_a_row -= 1
        self._waiting.remove(chosen)
        return chosen

    @staticmethod
    def _start(name: str, actor: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        async def act() -> None:
            _actor.set(name)
            await actor()

        return asyncio.create_task(act(), name=name)

    async def _quiet(self) -> None:
        for _ in range(_ROUNDS_UNTIL_QUIET):
            await asyncio.sleep(0)


@contextmanager
def interleaved(
    choices: Sequence[tuple[int, int]],
    lost: Collection[int] = (),
    killed: Mapping[str, tuple[int, bool]] | None = None,
) -> Iterator[Interleaver]:
    """Let every command of the engine inside the block go through an interleaver."""
    interleaver = Interleaver(choices, lost, killed)
    with pytest.MonkeyPatch.context() as patch:
        once = client.Collection._once

        async def gated(self: client.Collection, command: str, send: Callable[[Any], Any]) -> Any:
            if command not in _METHODS:
                return await once(self, command, send)
            return await interleaver.command(command, lambda: once(self, command, send))

        patch.setattr(client.Collection, "_once", gated)
        yield interleaver
