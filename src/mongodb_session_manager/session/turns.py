"""Turns of one session manager: the lease, the idempotency key, and agents that hold what is stored."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pymongo.errors import PyMongoError

from ..errors import LeaseLostError, SessionNotFoundError
from ..schema.names import check_idempotency_key
from ..store.lease import Turn
from .conversations import Conversations
from .lifetime import SessionLifetime

logger = logging.getLogger(__name__)


class Turns:
    """Takes the session's turn and gives it back; what a failed turn left in the agents is undone."""

    def __init__(self, lifetime: SessionLifetime, conversations: Conversations) -> None:
        """Take turns of a session, which need not be open yet."""
        self._lifetime = lifetime
        self._conversations = conversations
        self._session_id = lifetime.session_id
        self._stale = False

    @asynccontextmanager
    async def take(self, wait_s: float | None, lease_s: float, idempotency_key: str | None) -> AsyncIterator[Turn]:
        """Hold the turn while the block runs; arguments and errors are those of the manager's `turn()`."""
        _check(wait_s, lease_s, idempotency_key)
        delivery = self._lifetime.delivery
        await delivery.begin_turn(lease_s, wait_s)
        try:
            await self._refresh()
            await delivery.flush()
            replayed = idempotency_key is not None and await self._has_key(idempotency_key)
            if idempotency_key is not None:
                delivery.hold(idempotency_key, replayed=replayed)
            try:
                yield Turn(replayed=replayed)
                if not replayed:
                    await delivery.end_turn()
                elif self._lifetime.journal.dirty:
                    await self._give_up("the turn was taken before")
            except BaseException as error:
                await self._after_failure(error, keyed=idempotency_key is not None)
                raise
        finally:
            if await delivery.release_turn() and delivery.pending:
                # Written later, it would come after what the other holder wrote.
                await self._give_up("the lease was lost")

    async def _has_key(self, idempotency_key: str) -> bool:
        query = {"_id": self._session_id, "idempotency_keys": idempotency_key}
        return await self._lifetime.store.find_one(query, {"_id": 1}) is not None

    async def _after_failure(self, error: BaseException, *, keyed: bool) -> None:
        """Discard what a turn that failed must not write any more; raises when it failed since its lease was lost."""
        delivery = self._lifetime.delivery
        if delivery.lost_turn:
            lost = error if isinstance(error, LeaseLostError) else delivery.lost()
            await self._give_up("the lease was lost", lost)
            if isinstance(error, Exception) and lost is not error:
                raise lost from error  # Strands wraps what its hooks raise.
        elif keyed:
            await self._give_up("the turn failed")

    async def _give_up(self, reason: str, error: Exception | None = None) -> None:
        """Discard what is pending, and let the agents hold what is stored."""
        logger.warning("session_id=<%r>, reason=<%s> | discarding what was not stored", self._session_id, reason)
        self._lifetime.delivery.discard(error)
        self._stale = True
        try:
            await self._refresh()
        except (PyMongoError, SessionNotFoundError) as problem:
            # The next turn does it; the caller should hear of what made this one fail.
            logger.warning(
                "session_id=<%r>, error=<%s> | agents not restored yet", self._session_id, type(problem).__name__
            )

    async def _refresh(self) -> None:
        """Restore the live agents from what is stored, where that is not what they hold."""
        lifetime = self._lifetime
        journal, delivery = lifetime.journal, lifetime.delivery
        stored = await lifetime.store.load(self._session_id, journal.session.agent_ids)
        if stored is None or stored.incarnation != delivery.incarnation:
            raise SessionNotFoundError(self._session_id)
        if stored.revision == delivery.revision and not self._stale:
            return
        if self._stale:
            delivery.discard()
        elif delivery.pending:
            # What was said before the turn is not lost, but belongs before what is restored.
            delivery.yield_to(stored)
            await delivery.flush()
            await self._refresh()
            return
        if not await lifetime.complete(stored):
            await self._refresh()
            return
        with journal.lock:
            changed_graphs = journal.reload(stored)
            lifetime.strands.reloaded()
            delivery.adopt(stored)
            self._conversations.restore_again(stored.agents, changed_graphs)
            self._stale = False


def _check(wait_s: float | None, lease_s: float, idempotency_key: str | None) -> None:
    if wait_s is not None and not wait_s >= 0:
        raise ValueError(f"wait_s must be 0 or more seconds, or None, got {wait_s!r}")
    if not 0 < lease_s < float("inf"):
        raise ValueError(f"lease_s must be more than 0 seconds, got {lease_s!r}")
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
