"""Turns of one session manager: the lease, the idempotency key, and agents that hold what is stored."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from functools import partial
from hashlib import sha256

import anyio
import bson
from pymongo.errors import PyMongoError

from ..errors import LeaseLostError, SessionClosedError, SessionNotFoundError, SessionStoreError
from ..schema import paths
from ..schema.names import check_idempotency_key
from ..schema.numbers import check_seconds
from ..store.lease import Lease, Turn, in_force
from ..store.updates import Update
from .conversations import Conversations
from .failures import is_outage
from .lifetime import SessionLifetime
from .restore import prepare
from .writer import SessionWriter

logger = logging.getLogger(__name__)


class TurnState(Enum):
    """The life of a turn."""

    ENDED = auto()
    LEASED = auto()
    DEFERRED = auto()  # keyed: the agents' part is written at its end
    REPLAYING = auto()  # its key is stored already, so nothing of it is written
    LOST = auto()  # another holder took it over


class _Key:
    """The idempotency key of a turn.

    A turn that is taken again after it died half-way submits the same things, at another moment and perhaps in another
    order.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._submitted: Counter[str] = Counter()

    def token(self, update: Update) -> str:
        """Return the token of an update that adds something, the same for each attempt at the turn."""
        pushes = update.session.pushes
        added = {name: [{**item, paths.CREATED_AT: None} for item in items] for name, items in pushes.items()}
        digest = sha256(bson.encode(added)).hexdigest()
        self._submitted[digest] += 1
        return f"{self.key}#{digest}#{self._submitted[digest]}"


class Turns:
    """Takes the session's turn and gives it back; what a failed turn left in the agents is undone."""

    def __init__(self, lifetime: SessionLifetime, conversations: Conversations) -> None:
        """Take turns of a session, which need not be open yet."""
        self._lifetime = lifetime
        self._conversations = conversations
        self._session_id = lifetime.session_id
        self._state = TurnState.ENDED
        self._key: _Key | None = None

    @asynccontextmanager
    async def take(self, wait_s: float | None, lease_s: float, idempotency_key: str | None) -> AsyncIterator[Turn]:
        """Hold the turn while the block runs; arguments and errors are those of the manager's `turn()`."""
        _check(wait_s, lease_s, idempotency_key)
        writer = self._lifetime.writer
        lease = await self._begin(writer, lease_s, wait_s)
        try:
            self._conversations.capture_all()  # What code changed since, which others' writes would displace unseen.
            await self._refresh()
            await writer.flush()
            if idempotency_key is not None:
                await self._take_key(writer, idempotency_key)
            try:
                yield Turn(replayed=self._state is TurnState.REPLAYING)
                await self._end(writer)
            except BaseException as error:
                await self._after_failure(lease, error)
                raise
        finally:
            self._state, self._key, writer.defers = TurnState.ENDED, None, False
            is_closed = self._lifetime.phase == "closed"
            if lease.is_given_back or (is_closed and lease.is_over):
                _forget(lease, writer)
            elif not is_closed or writer.lease is not lease:  # Else what closes it gives it back, after it has written.
                await self._lifetime.home.undisturbed("lease", partial(_give_back, lease, writer))
            if lease.is_lost and writer.is_dirty:
                # Written later, it would come after what the other holder wrote.
                await self._give_up("the lease was lost")

    async def _begin(self, writer: SessionWriter, lease_s: float, wait_s: float | None) -> Lease:
        if self._state is not TurnState.ENDED:
            raise SessionStoreError(f"this manager has the turn of session {self._session_id!r} already")
        if writer.lease is not None and writer.lease.is_over:  # It could not be given back, with the server away.
            await self._lifetime.home.undisturbed("lease", partial(_give_back, writer.lease, writer))
        head = await writer.bring_up_to_date()
        assert head.incarnation is not None
        home = self._lifetime.home
        lease = Lease(self._lifetime.store, self._session_id, head.incarnation, lease_s, home)
        # From now on, since what other tasks write meanwhile may arrive before the answer that it is taken.
        writer.lease = writer.lease or lease
        writer.waiting.add(lease)
        try:
            await home.undisturbed("lease", lambda: lease.acquire(wait_s))
            if in_force(lease) is None:
                raise SessionClosedError(self._session_id)  # closed by another task meanwhile
        except asyncio.CancelledError:
            lease.abandon()
            home.start("lease", partial(_give_back, lease, writer))  # It may have been taken at this very moment.
            raise
        except BaseException:
            _forget(lease, writer)
            raise
        finally:
            writer.waiting.discard(lease)
        self._state, writer.lease = TurnState.LEASED, lease
        return lease

    async def _take_key(self, writer: SessionWriter, key: str) -> None:
        query = {"_id": self._session_id, paths.IDEMPOTENCY_KEYS: key}
        is_stored = await self._lifetime.store.find_one(query, {"_id": 1}) is not None
        self._key, writer.defers = _Key(key), True
        self._state = TurnState.REPLAYING if is_stored else TurnState.DEFERRED

    async def _end(self, writer: SessionWriter) -> None:
        """Write what is pending, with the idempotency key of a keyed turn.

        Raises:
            LeaseLostError: Another holder took over; nothing was written.
            SessionClosedError: The session was closed in the middle of the turn.
        """
        self._lifetime.check_not_closed()
        self._conversations.capture_all()  # After the turn, it might come after what the next holder writes.
        if self._state is TurnState.REPLAYING:
            if self._lifetime.changes.is_dirty:
                await self._give_up("the turn was taken before")
            return
        if self._key is not None:
            writer.queue_whole(self._key.key)
        await writer.flush()

    async def submit(self, update: Update) -> None:
        """Apply one update of its own at once; errors are those of the writer's `submit()`.

        In a keyed turn it counts once also when the whole turn is taken again; in a replayed one it is discarded.
        """
        writer = self._lifetime.writer
        if self._state is TurnState.REPLAYING:
            logger.warning("session_id=<%r> | discarding a change of a turn that was taken before", self._session_id)
            return
        # Fields that are set or removed need no such token: doing that again changes nothing.
        if self._key is not None and update.session.pushes:
            update.token, update.repeats = self._key.token(update), True
        await writer.submit(update)

    async def _after_failure(self, lease: Lease, error: BaseException) -> None:
        """Discard what a turn that failed must not write any more; raises when it failed since its lease was lost."""
        if lease.is_lost:
            self._state = TurnState.LOST
            lost = error if isinstance(error, LeaseLostError) else lease.lost()
            await self._give_up("the lease was lost", lost)
            if isinstance(error, Exception) and lost is not error:
                raise lost from error  # Strands wraps what its hooks raise.
        elif self._key is not None:
            await self._give_up("the turn failed")
        elif not is_outage(error):  # Waiting for the server once more would take as long.
            await self._write_rest()

    async def _write_rest(self) -> None:
        """Write what a turn that was left or failed has said: later it might come after what the next holder writes."""
        if self._lifetime.phase == "closed":
            return  # That wrote it.
        # A web server whose client left cancels every await.
        with anyio.CancelScope(shield=True):
            try:
                try:
                    self._conversations.capture_all()
                finally:  # Also when something of an agent cannot be stored.
                    await self._lifetime.writer.flush()
            except Exception as problem:  # The caller should hear of what ended the turn. A later flush tries it again.
                logger.warning(
                    "session_id=<%r>, error=<%s> | not written yet when the turn failed; kept for the next flush",
                    self._session_id,
                    type(problem).__name__,
                )

    async def _give_up(self, reason: str, error: Exception | None = None) -> None:
        """Discard what is pending, and let the agents hold what is stored."""
        if self._lifetime.phase == "closed":
            return  # Nothing of it is written any more.
        logger.warning("session_id=<%r>, reason=<%s> | discarding what was not stored", self._session_id, reason)
        writer = self._lifetime.writer
        self._conversations.become_stale()
        # What other tasks submit belongs to no turn, unless another holder's has begun.
        writer.discard(error, submitted=error is not None)
        writer.defers = False
        try:
            await self._refresh(only_stale=True)
        except (PyMongoError, SessionStoreError) as problem:
            # The next invocation or turn does it; the caller should hear of what made this one fail.
            logger.warning(
                "session_id=<%r>, error=<%s> | agents not restored yet", self._session_id, type(problem).__name__
            )

    async def restore_stale(self) -> bool:
        """Restore what a failed turn left in the agents; False where there is nothing of the kind.

        Raises:
            PyMongoError: The server is still away.
            SessionNotFoundError: The session was deleted.
        """
        if not self._conversations.are_stale:
            return False
        with suppress(TypeError, ValueError):  # Of agents that were built since then, which say so themselves.
            self._conversations.capture_all()
        await self._refresh(only_stale=True)
        return True

    async def _refresh(self, *, only_stale: bool = False) -> None:
        """Restore the live agents from what is stored, where that is not what they hold.

        Args:
            only_stale: Nothing is to be done any more once another task has restored what a failed turn left.
        """
        lifetime, conversations = self._lifetime, self._conversations
        changes, writer = lifetime.changes, lifetime.writer
        while True:
            known = writer.revision
            stored = await lifetime.store.load(self._session_id, lifetime.session.agent_ids, prepare=prepare)
            if only_stale and not conversations.are_stale:
                return
            if stored is None or stored.head.incarnation != writer.head.incarnation:
                raise SessionNotFoundError(self._session_id)
            if writer.revision != known:
                continue  # Other tasks wrote meanwhile, which may not be in it.
            if stored.head.revision == known and not conversations.are_stale:
                return
            if writer.is_dirty:
                # What was said before the turn is not lost, but belongs before what is restored.
                if stored.head.revision != known:
                    with changes.lock:
                        changes.yield_to(stored, writer.queued)
                await writer.flush()
                continue
            if not await lifetime.complete(stored):
                continue
            with changes.lock:
                if only_stale and not conversations.are_stale:
                    return
                if writer.is_dirty or writer.revision != known:
                    continue
                changed_graphs = changes.reloaded(stored)
                lifetime.go_on_from(stored)
                writer.go_on_from(stored.head)
                conversations.restore_again(stored.agents, changed_graphs, only_stale=stored.head.revision == known)
                return


async def _give_back(lease: Lease, writer: SessionWriter) -> None:
    try:
        await lease.release()
    finally:
        if lease.is_given_back or lease.is_lost:
            _forget(lease, writer)


def _forget(lease: Lease, writer: SessionWriter) -> None:
    if writer.lease is lease:
        writer.lease = None


def _check(wait_s: float | None, lease_s: float, idempotency_key: str | None) -> None:
    if wait_s is not None:
        check_seconds("wait_s", wait_s, endless=True)
    check_seconds("lease_s", lease_s, zero=False)
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
