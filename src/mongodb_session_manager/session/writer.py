"""Gets frozen batches to the database: in order, one at a time, exactly once, from any loop, past any cancellation.

One loop owns the queue and sends: the one that opened the session. A flush from another loop (`agent("...")` runs one
in a thread of its own, perhaps while ours is blocked by that very call) moves the queue to the library's own loop for
good. A batch that is in flight then is sent again by the new owner, which its tokens make harmless, and what the old
one hears of it is ignored. So nothing ever waits for a loop that may be blocked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial

from pymongo.errors import PyMongoError

from .. import tracing
from ..client import is_transient
from ..errors import SessionFullError, SessionNotFoundError, WrongLoopError
from ..runtime.home import Home, Job
from ..store.executor import Applied, Conflict, UpdateExecutor
from ..store.head import SessionHead
from ..store.lease import Lease
from ..store.refusals import MOST_REFUSALS, refused_without_reason
from ..store.sealing import SEAL_AT_BYTES, TAIL_BYTES
from ..store.updates import Update
from .batch import Batch
from .pending import PendingChanges

logger = logging.getLogger(__name__)

_POSTPONE_BELOW = 1.5
"""Times to live left to related documents at which their expiry is put off, in the background."""


class _SupersededError(Exception):
    """Another attempt sends the queue by now, or the update is dealt with."""


class RefusedUpdateError(Exception):
    """A submitted update was refused by its own guard."""


class _Attempt:
    """One way through the queue; nothing that it hears counts once the queue has another owner.

    Attributes:
        job: What sends, which no caller's cancellation reaches.
    """

    job: Job


class SessionWriter:
    """The queue of frozen batches of one open session, and who sends them.

    Attributes:
        head: The session as this writer knows it.
        revision: How many writes there were when the agents were loaded, and since then by this manager.
        lease: The lease of the turn under way, from before it is taken until it is given back; None without one.
        waiting: Leases that tasks wait for.
        defers: Whether changes of agents are kept for the end of a turn.
    """

    def __init__(
        self,
        executor: UpdateExecutor,
        changes: PendingChanges,
        head: SessionHead,
        home: Home,
        *,
        ttl_s: float | None,
    ) -> None:
        """Write what is pending; called on the loop that owns the queue.

        Args:
            executor: Applies updates.
            changes: What is pending; its lock guards the queue, too.
            head: The session as it was loaded.
            home: Where background work runs.
            ttl_s: The manager's own time to live, None to keep what is stored.
        """
        self.head = head
        self.revision = head.revision
        self.lease: Lease | None = None
        self.waiting: set[Lease] = set()
        self.defers = False
        self._executor = executor
        self._changes = changes
        self._home = home
        self._new_ttl_s = ttl_s if ttl_s != head.ttl_s else None
        self._queue: deque[Batch] = deque()
        self._revoked: list[str] = []
        self._owner = asyncio.get_running_loop()
        self._has_moved = False
        self._attempt: _Attempt | None = None
        self._seal_at = SEAL_AT_BYTES
        self._outruns_seals = False

    # -- flushing

    async def flush(self) -> None:
        """Write what was pending when this was called; nothing pending: no command.

        Raises:
            SessionNotFoundError: The session was deleted.
            PyMongoError: It could not be written within the deadline. It stays pending; the next flush sends it first.
        """
        # A batch that is queued already lacks what changed since; a second round takes that, or finds it taken. One
        # that found its agent deleted made a new one, which lacks what is stored of an agent but once.
        for _ in range(3):
            with self._changes.lock:
                is_behind = self._freeze()
                last = self._queue[-1] if self._queue else None
            if last is not None:
                await self._until_done(last)
            if not is_behind and not self._changes.capture_anew():
                return

    def _freeze(self) -> bool:
        """Queue what changed, unless changes are queued already; True when something is left for later."""
        if self.defers:
            return False
        if any(batch.is_kept for batch in self._queue):
            return self._changes.is_dirty
        if (batch := self._changes.freeze()) is not None:
            self._enqueue(batch)
        return False

    def _enqueue(self, batch: Batch) -> None:
        batch.origin = tracing.here()
        self._queue.append(batch)

    def queue_whole(self, key: str) -> None:
        """Queue all that changed as one batch that stores an idempotency key along with it."""
        with self._changes.lock:
            batch = self._changes.freeze(whole=True) or Batch([Update()])
            # With the last messages and not after them: further updates only amend records.
            last = next((update for update in reversed(batch.updates) if update.agents), batch.updates[-1])
            last.key = key
            self.defers = False
            self._enqueue(batch)

    def flush_soon(self) -> None:
        """Start a flush without waiting: on the running loop where that owns the queue, else on the library's."""
        if not self.is_dirty or self.defers:
            return
        try:
            here = not self._has_moved and self._owner is asyncio.get_running_loop()
        except RuntimeError:
            here = False
        if not here and not self._home.on_portal:
            return  # This is no loop that the client could be used on; a later flush takes it.
        self._home.leave("flush", self.flush, here=here, repeats=True)

    async def submit(self, update: Update) -> None:
        """Apply one update of its own, after what is queued, and wait for it.

        An error means that it is withdrawn: unlike the changes of agents it will not be sent again later.

        Raises:
            RefusedUpdateError: The document does not fulfil the update's own guard.
            SessionNotFoundError: The session was deleted.
            PyMongoError: It could not be applied within the deadline.
        """
        batch = Batch([update], is_kept=False)
        with self._changes.lock:
            self._enqueue(batch)
        try:
            await self._until_done(batch)
        except asyncio.CancelledError:
            batch.is_abandoned = True
            raise
        except Exception as error:
            with self._changes.lock:
                if not batch.is_done:
                    self._withdraw(batch, error)
            if batch.error is not None:
                raise
        if batch.error is not None:
            raise batch.error

    async def _until_done(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        while not batch.is_done:
            with self._changes.lock:
                self._claim(loop)
                attempt = self._attempt or self._begin()
            # Cancelling the caller only ends its waiting.
            await self._home.outcome_of("send", attempt.job)

    def _begin(self) -> _Attempt:
        attempt = _Attempt()
        attempt.job = self._home.start("send", partial(self._send, attempt), here=not self._has_moved)
        self._attempt = attempt  # Only now: where nothing could be started, the next flush has to try it again.
        return attempt

    # -- who sends

    def _claim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the queue be sent on behalf of a loop, which moves it where that is not its owner."""
        if self._has_moved or loop is self._owner:
            return
        self._attempt = None
        # A client that is bound to its loop says so itself; one that is not (a mock) is sent to from here.
        self._has_moved, self._owner = self._home.on_portal, loop

    async def _send(self, attempt: _Attempt) -> None:
        """Send the queue until it is empty, or a batch fails that is kept."""
        try:
            while (batch := self._next(attempt)) is not None:
                try:
                    await self._send_batch(batch, attempt)
                except SessionFullError:
                    # What has no room holds up nothing that has, such as a deletion that makes room for it.
                    if not await self._send_submitted(attempt):
                        raise
        finally:
            with self._changes.lock:
                if self._attempt is attempt:
                    self._attempt = None

    async def _send_submitted(self, attempt: _Attempt) -> bool:
        """Send the updates of their own that wait behind a batch without room; True when one of them is stored."""
        with self._changes.lock:
            waiting = [batch for batch in self._queue if not batch.is_kept and not batch.is_done]
        for batch in waiting:
            await self._send_batch(batch, attempt)
        return any(batch.error is None for batch in waiting)

    def _next(self, attempt: _Attempt) -> Batch | None:
        """Return the batch to be sent next; None without one, which ends the attempt, and where another one sends."""
        with self._changes.lock:
            if self._attempt is not attempt:
                return None  # Those who wait look again.
            while self._queue and self._queue[0].is_done:
                self._queue.popleft()
            if not self._queue:
                self._attempt = None
                return None
            return self._queue[0]

    # -- one batch

    async def _send_batch(self, batch: Batch, attempt: _Attempt) -> None:
        store = self._executor.store
        address = self.head.session_id, store.database_name, store.collection_name
        with tracing.span(batch.work, *address, origin=batch.origin) as span:
            if tracing.active is not None:
                batch.describe(span)
            await self._send_updates(batch, attempt)
            if self._attempt is not attempt:
                span.note(tracing.SUPERSEDED, True)
            if batch.error is not None:
                span.fail(batch.error)

    async def _send_updates(self, batch: Batch, attempt: _Attempt) -> None:
        while not batch.is_done and self._attempt is attempt:
            try:
                await self._send_update(batch, attempt)
            except _SupersededError:
                continue
            except Exception as error:
                with self._changes.lock:
                    if batch.is_done or self._attempt is not attempt:
                        continue
                    if batch.is_kept or isinstance(error, WrongLoopError):
                        raise
                    self._withdraw(batch, error)
                # Its submitter gets it. Others only when the server cannot be reached, which would take them as long to
                # find.
                if isinstance(error, PyMongoError) and is_transient(error):
                    raise

    async def _send_update(self, batch: Batch, attempt: _Attempt) -> None:
        update, position, revoked = batch.updates[batch.position], batch.position, tuple(self._revoked)

        def check_present() -> None:
            if self._attempt is not attempt or batch.is_done or batch.position != position:
                raise _SupersededError

        def before_send() -> None:
            # Sent again regardless, an update that was overtaken by more writes than the document remembers tokens of
            # would count twice.
            with self._changes.lock:
                check_present()
                batch.was_sent = True

        if self._outruns_seals:
            await self._seal()
        result = await self._executor.apply(
            self.head,
            update,
            own_lease=lambda: self.lease,
            revoked_tokens=revoked,
            ttl_s=self._new_ttl_s,
            before_send=before_send,
        )
        with self._changes.lock:
            check_present()
            self.head = result.head
            if isinstance(result, Conflict):
                self._refused(batch, result)
                return
            self._applied(batch, update, result, revoked)
        self._look_after(result.head)

    def _applied(self, batch: Batch, update: Update, result: Applied, revoked: tuple[str, ...]) -> None:
        batch.advance()
        self._changes.acknowledge(update)
        self.revision += 1
        self._new_ttl_s = None
        self._revoked = [token for token in self._revoked if token not in revoked]
        if result.message == "missing" and update.message is not None:
            logger.warning(
                "session_id=<%r>, message_id=<%s> | a stored message to be changed is gone",
                self.head.session_id,
                update.message.message.message_id,
            )

    def _refused(self, batch: Batch, conflict: Conflict) -> None:
        if not batch.is_kept and batch.updates[0].session.guard:
            self._withdraw(batch, RefusedUpdateError())
            return
        if self._changes.rebase(batch, conflict):
            return
        batch.refusals += 1
        if batch.refusals == MOST_REFUSALS:
            batch.refusals = 0
            raise refused_without_reason(self.head.session_id)

    # -- giving up

    def discard(self, error: Exception | None = None, *, submitted: bool = True) -> None:
        """Give up everything that is pending, and tell those who wait for it.

        Args:
            error: What they are told.
            submitted: Also updates of their own.
        """
        with self._changes.lock:
            self._changes.freeze()
            for batch in [batch for batch in self._queue if submitted or batch.is_kept]:
                self._withdraw(batch, error or SessionNotFoundError(self.head.session_id))

    def _withdraw(self, batch: Batch, error: Exception) -> None:
        if batch.was_sent:
            # It may still be on its way: the next update shuts it out.
            self._revoked.extend(update.token for update in batch.left if not update.repeats)
        batch.withdraw(error)
        if batch in self._queue:
            self._queue.remove(batch)
        if batch.is_abandoned:
            logger.warning(
                "session_id=<%r>, error=<%s> | gave up a change whose caller was cancelled",
                self.head.session_id,
                type(error).__name__,
            )

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._queue) or self._changes.is_dirty

    @property
    def queued(self) -> list[Batch]:
        """The batches that are frozen, the caller holds the lock."""
        return list(self._queue)

    # -- what follows a write

    def note_own(self, update: Update) -> None:
        """Note an update of this session that the manager's repository applied, past the queue."""
        if not update.changes_conversations:
            self.revision += 1

    def _look_after(self, head: SessionHead) -> None:
        if head.live_bytes >= self._seal_at:
            self._home.leave("seal", self._seal)
        if self._executor.related.expire_too_early(head, _POSTPONE_BELOW):
            self._home.leave("postpone", self._postpone)

    async def _seal(self) -> None:
        head, outcome = await self._executor.seal(self.head)
        if outcome is None:
            return
        with self._changes.lock:
            self.head = self.head.but(live_bytes=head.live_bytes, has_related=True)
            self._outruns_seals = not outcome.finished
            if outcome.finished:
                # What is left may be large: of many agents the newest message each, which no seal takes.
                self._seal_at = max(SEAL_AT_BYTES, head.live_bytes + SEAL_AT_BYTES - TAIL_BYTES)

    async def _postpone(self) -> None:
        postponed = await self._executor.related.postpone(self.head)
        with self._changes.lock:
            self.head = self.head.but(related_expire_at=postponed.related_expire_at)

    async def bring_up_to_date(self) -> SessionHead:
        """Bring a document of an older form into today's, and return the head."""
        if not self.head.is_current:
            self.head = await self._executor.bring_up_to_date(self.head.session_id)
        return self.head

    def inherit(self) -> None:
        """Go on in a forked process as another writer: what is pending or in flight is the first one's to send."""
        self._changes.inherit()
        self._queue.clear()
        self._revoked.clear()
        if self.lease is not None:
            self.lease.disown()
        self._attempt, self.lease, self.defers = None, None, False
        self.waiting.clear()

    def go_on_from(self, head: SessionHead) -> None:
        """Go on from a session as it was loaded anew."""
        self.head, self.revision = head, head.revision
