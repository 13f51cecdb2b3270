"""The turns of a process: which are running, which just ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory

from .agents import Agents
from .turn import Asked, Turn

logger = logging.getLogger(__name__)

KEEP_FINISHED_S = 60.0
MOST_FINISHED = 100


class TurnRunningError(Exception):
    """The session is busy with a turn already."""


class TooManyTurnsError(Exception):
    """The server is busy with as many turns as it may run."""


class Turns:
    """The turns of this process: at most one per session, and so many altogether. Lives on one event loop."""

    def __init__(self, factory: AsyncMongoDBSessionManagerFactory, agents: Agents, *, most_running: int) -> None:
        """Begin without turns.

        Args:
            factory: Makes the managers.
            agents: Make an agent on an opened manager.
            most_running: Turns that may run at the same time.
        """
        self._factory = factory
        self._agents = agents
        self._most_running = most_running
        # A finished turn stays for a while: a reader who lost the connection wants its end, and its error is stored
        # nowhere else.
        self._turns: dict[str, Turn] = {}
        self._forgetting: dict[str, asyncio.TimerHandle] = {}

    @property
    def running(self) -> int:
        """Number of turns that are running."""
        return sum(1 for _ in self._unfinished())

    @property
    def kept(self) -> int:
        """Number of finished turns whose events can still be read."""
        return len(self._turns) - self.running

    def _unfinished(self) -> Iterator[Turn]:
        return (turn for turn in self._turns.values() if turn.running)

    def get(self, session_id: str) -> Turn | None:
        """Return the session's turn, running or just finished."""
        return self._turns.get(session_id)

    def running_in(self, session_id: str) -> Turn | None:
        """Return the session's turn if it is running."""
        turn = self._turns.get(session_id)
        return turn if turn is not None and turn.running else None

    def start(self, session_id: str, asked: Asked) -> Turn:
        """Begin a turn.

        Raises:
            TooManyTurnsError: As many are running as may be.
            TurnRunningError: The session has one already.
        """
        if self.running_in(session_id) is not None:
            raise TurnRunningError(session_id)
        if self.running >= self._most_running:
            raise TooManyTurnsError(session_id)
        self.forget(session_id)
        turn = self._turns[session_id] = Turn(self._factory, self._agents, session_id, asked)
        turn.on_end(self._keep_a_while)
        return turn

    def forget(self, session_id: str) -> None:
        """Drop the events of a finished turn."""
        if (timer := self._forgetting.pop(session_id, None)) is not None:
            timer.cancel()
        self._turns.pop(session_id, None)

    def _keep_a_while(self, turn: Turn) -> None:
        if self._turns.get(turn.session_id) is not turn:
            return
        loop = asyncio.get_running_loop()
        self._forgetting[turn.session_id] = loop.call_later(KEEP_FINISHED_S, self.forget, turn.session_id)
        while len(self._forgetting) > MOST_FINISHED:
            self.forget(next(iter(self._forgetting)))

    async def close(self, grace_s: float) -> None:
        """Let running turns finish, stop those that take longer, and store what they said.

        Args:
            grace_s: Seconds that they have to finish.
        """
        if running := list(self._unfinished()):
            logger.info("turns=<%d>, grace_s=<%s> | waiting for running turns", len(running), grace_s)
            await asyncio.gather(*(turn.wait(grace_s) for turn in running))
            await asyncio.gather(*(turn.stop() for turn in running if turn.running))
        for session_id in list(self._turns):
            self.forget(session_id)
