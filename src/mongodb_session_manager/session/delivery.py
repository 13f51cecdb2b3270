"""Gets batches to the database: in order, one at a time, exactly once, from any loop, whoever is cancelled.

A batch is sent by a task that no caller's cancellation reaches. Whoever needs it finished and runs on the same loop
waits for that task; on another loop nothing is waited for (that loop may be blocked by this very call): the same
batch is sent again, which its tokens make harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

import bson
from pymongo.errors import PyMongoError

from ..errors import LeaseLostError, SessionNotFoundError, SessionStoreError, WrongLoopError
from ..runtime import portal
from ..schema.messages import now
from ..schema.sessions import StoredSession
from ..store.batches import Batch, Document, Head, RefusedStepError, Step
from ..store.children import Children
from ..store.history import CROWDED_BYTES, SEAL_AT_BYTES, TAIL_BYTES, History
from ..store.lease import Lease, clear_expired, unavailable
from ..store.payloads import PayloadStore
from ..store.store import SessionStore, is_transient
from .journal import Journal

logger = logging.getLogger(__name__)

_POSTPONE_BELOW = 1.5
"""Times to live left to the children of a session at which their expiry is put off, in the background."""

MOST_REFUSALS = 10
"""How often a step is sent again that the document refuses for no reason that can be seen."""


class _SettledElsewhere(Exception):
    """The step is not to be sent any more: another loop got it applied, or it was given up."""


class Delivery:
    """The queue of frozen batches of one session manager."""

    def __init__(self, store: SessionStore, history: History, journal: Journal, *, ttl_s: float | None) -> None:
        """Deliver what the journal freezes.

        Args:
            store: Where to.
            history: Where the oldest messages go.
            journal: What from; its lock guards the queue, too.
            ttl_s: The manager's own time to live, None to keep what is stored.
        """
        self._store = store
        self._history = history
        self._children = Children(store)
        self._payloads = PayloadStore(store, history)
        self._live_bytes = journal.session.live_bytes
        self._seal_at = SEAL_AT_BYTES
        self._outruns_seals = False
        self._busy: set[str] = set()
        self.revision = journal.session.revision
        self._has_children = journal.session.has_children
        self._has_payloads = journal.session.has_payloads
        self._children_expire_at = journal.session.children_expire_at
        self._lease: Lease | None = None
        self._held_key: str | None = None
        self._replaying = False
        self._submitted: Counter[str] = Counter()
        self._journal = journal
        self._session_id = journal.session.session_id
        self.incarnation = journal.session.incarnation
        self._is_current = journal.session.is_current
        self._changes_ttl = ttl_s is not None and ttl_s != journal.session.ttl_s
        self._ttl_s = journal.session.ttl_s if ttl_s is None else ttl_s
        self._queue: deque[Batch] = deque()
        self._fence: list[str] = []
        self._senders: WeakKeyDictionary[Batch, dict[asyncio.AbstractEventLoop, asyncio.Task[None]]] = (
            WeakKeyDictionary()
        )
        self._background: set[asyncio.Task[None] | Future[None]] = set()

    async def flush(self) -> None:
        """Write what was pending when this was called; nothing pending: no command.

        Raises:
            SessionNotFoundError: The session was deleted.
            PyMongoError: It could not be written within the deadline. It stays pending; the next flush sends it first.
        """
        # A batch that is queued already lacks what changed since; a second round takes that, or finds it taken.
        for _ in range(2):
            with self._journal.lock:
                behind = self._freeze()
                last = self._queue[-1] if self._queue else None
            if last is not None:
                await self._until_settled(last)
            if not behind:
                return

    def _freeze(self) -> bool:
        """Queue what changed, unless a batch of changes is queued already; True when something is left for later."""
        if self._held_key is not None:
            return False
        if any(not batch.withdrawable and not batch.settled for batch in self._queue):
            return self._journal.dirty
        batch = self._journal.freeze()
        if batch is not None:
            self._queue.append(batch)
        return False

    async def _until_settled(self, batch: Batch) -> None:
        while not batch.settled:
            with self._journal.lock:
                head = self._queue[0] if self._queue else batch
            await self._finish(head)

    def flush_soon(self) -> None:
        """Start a flush without waiting: on the running loop, or on the library's own where none runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._watch(portal.start(self.flush))
        else:
            self._watch(loop.create_task(self.flush(), name=f"flush:{self._session_id}"))

    def drain_later(self, then: Callable[[], Awaitable[None]]) -> None:
        """Start a flush that outlives the caller, and its loop where the client allows that, and call `then` after it.

        The delivery is not to be used afterwards.
        """

        async def drain() -> None:
            try:
                await self.flush()
            finally:
                await then()

        if self._store.handle.on_portal:
            self._watch(portal.start(drain))
        else:
            self._watch(asyncio.get_running_loop().create_task(drain(), name=f"drain:{self._session_id}"))

    def _watch(self, job: asyncio.Task[None] | Future[None]) -> None:
        self._background.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None] | Future[None]) -> None:
        self._background.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            # While the manager is open nothing is lost: the changes are kept, and whoever flushes next gets the error.
            logger.warning(
                "session_id=<%r>, error=<%s> | background flush failed",
                self._session_id,
                type(error).__name__,
            )

    async def submit(self, step: Step) -> None:
        """Apply one step of its own, after what is queued, and wait for it.

        An error means that it is withdrawn: unlike the changes of agents it will not be sent again later.

        Raises:
            SessionNotFoundError: The session was deleted.
            PyMongoError: It could not be applied within the deadline.
        """
        if self._replaying:
            logger.warning("session_id=<%r> | discarding a change of a turn that was taken before", self._session_id)
            return
        if self._held_key is not None and step.pushes:
            step.token = self._repeatable_token(self._held_key, step)
        batch = Batch([step], withdrawable=True)
        with self._journal.lock:
            self._queue.append(batch)
        try:
            await self._until_settled(batch)
        except asyncio.CancelledError:
            batch.abandoned = True
            raise
        except Exception as error:
            with self._journal.lock:
                if not batch.settled:
                    self._withdraw(batch, error)
            if batch.error is not None:
                raise
        if batch.error is not None:
            raise batch.error

    def discard(self, error: Exception | None = None) -> None:
        """Give up everything that is pending, and tell those who wait for it; the session is about to be deleted."""
        with self._journal.lock:
            self._journal.freeze()
            for batch in list(self._queue):
                self._withdraw(batch, error or SessionNotFoundError(self._session_id))

    def _withdraw(self, batch: Batch, error: Exception) -> None:
        batch.error = error
        if batch in self._queue:
            self._queue.remove(batch)
        if batch.sent:
            # It may still be on its way: the next write shuts it out.
            self._fence.extend(step.token for step in batch.steps[batch.position :])
        if batch.abandoned:
            logger.warning(
                "session_id=<%r>, error=<%s> | gave up a change whose caller was cancelled",
                self._session_id,
                type(error).__name__,
            )

    async def _finish(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        with self._journal.lock:
            senders = self._senders.setdefault(batch, {})
            task = senders.get(loop)
            if task is None or task.done():
                task = senders[loop] = loop.create_task(self._send(batch), name=f"send:{self._session_id}")
        await asyncio.shield(task)

    async def _send(self, batch: Batch) -> None:
        while not batch.settled:
            position, version, fence = batch.position, batch.version, tuple(self._fence)
            try:
                head = await self._apply(batch, position, fence)
            except _SettledElsewhere:
                continue
            except Exception as error:
                if self._is_dealt_with(batch, position, error):
                    continue
                raise
            self._note_outcome(batch, position, version, fence, head)
        with self._journal.lock:
            if self._queue and self._queue[0] is batch:
                self._queue.popleft()
        if self._live_bytes >= self._seal_at:
            self._start("seal", self._seal)

    async def _apply(self, batch: Batch, position: int, fence: tuple[str, ...]) -> Head | None:
        if not self._is_current:
            await self._bring_up_to_date()
        assert self.incarnation is not None
        step, session = batch.steps[position], (self._session_id, self.incarnation)
        await self._payloads.prepare(*session, step, has_payloads=self._has_payloads, ttl_s=self._ttl_s)
        if step.all_payloads():
            self._has_children = self._has_payloads = True
        head = await self._apply_step(batch, position, fence)
        if head is None:
            if step.rewrites is not None and self._has_children and not step.sealed:
                await self._history.remove_refused(*session, step.rewrites)
            await self._payloads.settle(*session, step, ttl_s=self._ttl_s)
        return head

    async def _apply_step(self, batch: Batch, position: int, fence: tuple[str, ...]) -> Head | None:
        step = batch.steps[position]
        if self._live_bytes + step.size > CROWDED_BYTES or self._outruns_seals:
            await self._seal()
        await self._keep_children()
        head = await self._store.apply(
            self._session_id,
            lambda: self._render(batch, position),
            step,
            incarnation=self.incarnation,
            ttl_s=self._ttl_s,
            fence=fence,
            lease=self.lease_token,
            # A sealer may be at it with a copy of the message, which somebody has to remove.
            childless=step.rewrites is not None and not step.sealed and not self._has_children,
        )
        if head is None and step.sealed:
            await self._change_sealed(step)
        if head is not None:
            self._has_children = self._has_children or head.has_children
            await self._check_lease(head.lease)
            if self._children.must_be_postponed(head.children_expire_at, self._ttl_s):
                self._has_children = True
                await self._postpone_children()
        return head

    def _render(self, batch: Batch, position: int) -> tuple[Document, Document]:
        with self._journal.lock:
            if batch.error is not None or batch.position != position:
                # Sent again regardless, a step that was overtaken by more writes than the document remembers tokens
                # of would count twice.
                raise _SettledElsewhere
            batch.sent = True
            guard, update = batch.steps[position].render()
        if self._changes_ttl:
            update["$set"] = {**update.get("$set", {}), "ttl_s": self._ttl_s}
        return guard, update

    def _is_dealt_with(self, batch: Batch, position: int, error: Exception) -> bool:
        """Tell whether an error is no concern of those who wait for this loop's sender."""
        with self._journal.lock:
            if batch.settled or batch.position != position:
                return True
            if not batch.withdrawable or isinstance(error, WrongLoopError):
                return False
            self._withdraw(batch, error)
        # Its submitter gets it. Others only when the server cannot be reached, which would take them as long to find.
        return not (isinstance(error, PyMongoError) and is_transient(error))

    def _note_outcome(
        self, batch: Batch, position: int, version: int, fence: tuple[str, ...], head: Head | None
    ) -> None:
        with self._journal.lock:
            if batch.error is not None or (batch.position, batch.version) != (position, version):
                return  # Another loop sent the same step and dealt with its outcome.
            step = batch.steps[position]
            if head is None:
                batch.position += 1
                batch.refusals = 0
                self._journal.acknowledge(step)
                self._live_bytes += step.size
                self.revision += 1
                self._changes_ttl = False
                self._fence = [token for token in self._fence if token not in fence]
                return
            batch.version += 1
            if step.awaits_refusal:
                self._withdraw(batch, RefusedStepError())
                return
            if self._journal.resolve(batch, head):
                return
            batch.refusals += 1
            if batch.refusals < MOST_REFUSALS:
                return
            batch.refusals = 0
        raise SessionStoreError(
            f"session {self._session_id!r} refuses a change again and again: its document is not as this library "
            "writes it, so another tool may have changed it"
        )

    async def _bring_up_to_date(self) -> None:
        self.incarnation = await self._store.bring_up_to_date(self._session_id)
        self._is_current = True

    async def _change_sealed(self, step: Step) -> None:
        assert step.element is not None
        if await self._history.change_message(self._session_id, step.element, step.token) == "missing":
            logger.warning(
                "session_id=<%r>, message_id=<%s> | a stored message to be changed is gone",
                self._session_id,
                step.element.record.message_id,
            )

    async def _seal(self) -> None:
        if self.incarnation is not None:
            outcome = await self._history.seal(self._session_id, self.incarnation, ttl_s=self._ttl_s)
            if outcome is None:
                return
            self._live_bytes = outcome.live_bytes
            self._outruns_seals = not outcome.finished
            if outcome.finished:
                # What is left may be large: of many agents the newest message each, which no seal takes.
                self._seal_at = max(SEAL_AT_BYTES, self._live_bytes + SEAL_AT_BYTES - TAIL_BYTES)
            self._has_children = True

    def _start(self, kind: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start work off the caller's path, unless some of its kind is under way."""
        if kind in self._busy:
            return
        self._busy.add(kind)
        if self._store.handle.on_portal:
            job: asyncio.Task[None] | Future[None] = portal.start(work)
        else:
            job = asyncio.get_running_loop().create_task(work(), name=f"{kind}:{self._session_id}")
        self._background.add(job)

        def ended(job: asyncio.Task[None] | Future[None]) -> None:
            self._busy.discard(kind)
            self._background.discard(job)
            if not job.cancelled() and (error := job.exception()) is not None:
                # Nothing is lost: the next write starts it again.
                logger.warning(
                    "session_id=<%r>, work=<%s>, error=<%s> | work in the background failed",
                    self._session_id,
                    kind,
                    type(error).__name__,
                )

        job.add_done_callback(ended)

    async def _keep_children(self) -> None:
        """See to it that what belongs to the session outlives the expiry that the next write gives it."""
        if self._ttl_s is None or not self._has_children:
            return
        expire_at = self._children_expire_at
        left_s = 0.0 if expire_at is None else (expire_at - now()).total_seconds()
        if left_s < self._ttl_s:
            await self._postpone_children()
        elif left_s < _POSTPONE_BELOW * self._ttl_s:
            self._start("postpone", self._postpone_children)

    async def _postpone_children(self) -> None:
        if self._ttl_s is not None and self.incarnation is not None:
            moment = await self._children.postpone(self._session_id, self.incarnation, self._ttl_s)
            self._children_expire_at = moment

    # -- turns

    @property
    def lease(self) -> Lease | None:
        """The lease that this manager holds."""
        return self._lease

    @property
    def lease_token(self) -> str | None:
        """The token of the lease that this manager holds."""
        return None if self._lease is None else self._lease.token

    @property
    def lost_turn(self) -> bool:
        """Whether it is known that another holder took the turn over."""
        return self._lease is not None and self._lease.is_lost

    async def begin_turn(self, lease_s: float, wait_s: float | None) -> None:
        """Take the session's lease, which every write names from then on.

        Raises:
            LeaseUnavailableError: Another holder kept it longer than `wait_s`.
            SessionStoreError: This manager has the turn already.
        """
        if self._lease is not None:
            raise SessionStoreError(f"this manager has the turn of session {self._session_id!r} already")
        if not self._is_current:
            await self._bring_up_to_date()
        assert self.incarnation is not None
        lease = Lease(self._store, self._session_id, self.incarnation, lease_s)
        try:
            await self._undisturbed(lambda: lease.acquire(wait_s))
        except asyncio.CancelledError:
            lease.abandon()
            self._start(f"release {lease.token}", lease.release)  # It may have been taken at this very moment.
            raise
        self._lease = lease

    async def _undisturbed(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for work that goes on when the caller is cancelled, whose outcome would be unknown otherwise."""
        if self._store.handle.on_portal:
            job: asyncio.Task[None] | Future[None] = portal.start(work)
        else:
            job = asyncio.get_running_loop().create_task(work(), name=f"lease:{self._session_id}")
        self._background.add(job)
        job.add_done_callback(self._background.discard)
        await asyncio.shield(asyncio.wrap_future(job) if isinstance(job, Future) else job)

    def yield_to(self, session: StoredSession) -> None:
        """Keep what is pending from overwriting what others stored of the agents; messages are still appended."""
        self._journal.yield_to(session, self._queue)

    def hold(self, key: str, *, replayed: bool) -> None:
        """Keep what changes from here on for one batch at the end of the turn, which stores the key along with it.

        Args:
            key: The idempotency key.
            replayed: It is stored already, so that nothing more is to be stored.
        """
        self._held_key, self._replaying = key, replayed
        self._submitted.clear()

    async def end_turn(self) -> None:
        """Write what is pending, with the idempotency key of a keyed turn.

        Raises:
            LeaseLostError: Another holder took over; nothing was written.
        """
        key = self._held_key
        if key is not None:
            with self._journal.lock:
                batch = self._journal.freeze(whole=True) or Batch([Step()])
                # With the last messages and not after them: further steps only amend records.
                last = next((step for step in reversed(batch.steps) if step.agents), batch.steps[-1])
                last.key = key
                self._held_key = None
                self._queue.append(batch)
        await self.flush()

    @property
    def pending(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._queue) or self._journal.dirty

    async def release_turn(self) -> bool:
        """Give the lease back, also when the caller is cancelled; True when another holder took over before."""
        lease, self._lease, self._held_key, self._replaying = self._lease, None, None, False
        if lease is not None:
            await self._undisturbed(lease.release)
        return lease is not None and lease.is_lost

    def lost(self) -> LeaseLostError:
        """Return the error for a turn that another holder took over."""
        assert self._lease is not None
        return self._lease.lost()

    def _repeatable_token(self, key: str, step: Step) -> str:
        # A turn that is taken again after it died half-way adds the same things, at another moment and perhaps in
        # another order. Fields that are set or removed need no such token: doing that again changes nothing.
        added = {name: [{**item, "created_at": None} for item in items] for name, items in step.pushes.items()}
        digest = sha256(bson.encode(added)).hexdigest()
        self._submitted[digest] += 1
        return f"{key}#{digest}#{self._submitted[digest]}"

    async def _check_lease(self, standing: Mapping[str, Any] | None) -> None:
        if self._lease is not None:
            if standing is None or standing["token"] != self._lease.token:
                raise self._lease.lost()
        elif standing is not None and not await clear_expired(self._store, self._session_id, standing):
            raise unavailable(self._session_id, None)

    def adopt(self, session: StoredSession) -> None:
        """Go on from a session as it was loaded anew."""
        self._live_bytes, self.revision = session.live_bytes, session.revision
        self._has_children, self._children_expire_at = session.has_children, session.children_expire_at
        self._has_payloads = session.has_payloads

    async def settle(self) -> None:
        """Wait for what runs in the background for this session."""
        loop = asyncio.get_running_loop()
        jobs = [
            asyncio.wrap_future(job) if isinstance(job, Future) else job
            for job in tuple(self._background)
            if isinstance(job, Future) or job.get_loop() is loop
        ]
        if jobs:
            await asyncio.wait(jobs)
