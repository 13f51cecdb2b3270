"""A turn that is taken and given back from a thread, which Ctrl+C or an alarm may interrupt at any moment."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from ..runtime import portal
from ..runtime.portal import LoopStoppedError
from ..store.lease import Turn


class BlockingTurn:
    """Takes a turn on the library's loop, and gives it back once, whatever interrupts the thread that waits."""

    def __init__(self, turn: AbstractAsyncContextManager[Turn]) -> None:
        """Note what is to be entered."""
        self._turn = turn
        # Held while the turn is being taken or given back: an interrupted thread waits for what is undone then.
        self._changing = asyncio.Lock()
        self._is_held = False

    def take(self) -> Turn:
        """Wait for the turn; errors are those of the manager's `turn()`. Interrupted, it is not held."""
        try:
            return portal.call(self._enter)
        except BaseException as error:
            self._undo(error)
            raise

    def give_back(self, error: BaseException | None) -> bool:
        """End the turn and tell whether that took care of the error; errors are those of the manager's `turn()`."""
        try:
            return portal.call(self._leave, error)
        except LoopStoppedError:
            return False  # A generator that is let go of at exit; the session is closed, and the turn given back.
        except BaseException as interruption:
            self._undo(interruption)
            raise

    def _undo(self, error: BaseException) -> None:
        """Give the turn back that was taken at the moment of the interruption, or was not yet given back then."""
        if self._is_held or self._changing.locked():
            portal.call(self._leave, error)

    async def _enter(self) -> Turn:
        async with self._changing:
            turn = await self._turn.__aenter__()
            self._is_held = True
            return turn

    async def _leave(self, error: BaseException | None) -> bool:
        async with self._changing:
            if not self._is_held:
                return False
            self._is_held = False
            traceback = error.__traceback__ if error else None
            return bool(await self._turn.__aexit__(type(error) if error else None, error, traceback))
