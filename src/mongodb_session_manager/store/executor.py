"""The only way in which a session document is written to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import tracing
from ..errors import CorruptSessionError, SessionNotFoundError
from ..schema import paths
from ..schema.messages import now
from ..schema.numbers import is_count
from ..schema.sessions import SCHEMA_VERSION, TOKEN_RING, expiry, identity
from ..schema.windows import Ranges, is_window
from .counters import restart_counters
from .head import HEAD_PROJECTION, SessionHead
from .lease import Lease, clear_expired, in_force, stored_lease, unavailable
from .payloads import PayloadStore
from .refusals import Refusals, explained
from .related import RelatedDocuments
from .sealing import CROWDED_BYTES, Sealer, SealOutcome
from .segments import Outcome, Segments
from .store import SessionStore
from .updates import Document, Update
from .upgrade import bring_agents_up_to_date, bring_up_to_date

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """An update that is stored.

    Attributes:
        head: The session after it.
        message: What became of a sealed message that it changes; "changed" where there is none.
    """

    head: SessionHead
    message: Outcome = "changed"


@dataclass(frozen=True, slots=True)
class Conflict:
    """An update that the document refused: another writer was there before.

    Attributes:
        head: The session as it is.
        next_ids: Next message number by agent key; an agent that is not stored is missing.
        message_found: Whether the message that the update changes is in the document.
        windows: Stored window by agent key, of the agents whose window the update changes.
        archive_ids: What tells an agent from others of its id, by agent key.
    """

    head: SessionHead
    next_ids: Mapping[str, int]
    message_found: bool
    windows: Mapping[str, Ranges] = field(default_factory=dict)
    archive_ids: Mapping[str, str] = field(default_factory=dict)


class UpdateExecutor:
    """Applies updates to the sessions of one collection, with everything that belongs to one.

    Before the update: large contents stored, room made, related documents given a later date than the session gets.
    After it: a sealed message changed, copies and contents removed that nothing refers to any more. What refuses an
    update but is no concern of its maker is put right here: a lease that expired, a ttl that another writer changed.
    """

    def __init__(self, store: SessionStore) -> None:
        """Write to a store; no I/O."""
        self.store = store
        self.related = RelatedDocuments(store)
        self.segments = Segments(store)
        self.payloads = PayloadStore(store, self.segments)

    async def head(self, session_id: str) -> SessionHead:
        """Return what a write needs to know of a session, which has today's form afterwards.

        Raises:
            SessionNotFoundError: No such session.
        """
        head = SessionHead.read(await self.store.find(session_id, HEAD_PROJECTION))
        return head if head.is_current else await self.bring_up_to_date(session_id)

    async def bring_up_to_date(self, session_id: str) -> SessionHead:
        """Bring a document of an older form into today's, and return its head.

        Raises:
            SessionNotFoundError: No such session.
        """
        return await bring_up_to_date(self.store, self.segments, session_id)

    async def apply(
        self,
        head: SessionHead,
        update: Update,
        *,
        own_lease: Callable[[], Lease | None] = lambda: None,
        revoked_tokens: Sequence[str] = (),
        ttl_s: float | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> Applied | Conflict:
        """Apply an update once, however often it is sent.

        Args:
            head: The session as the writer knows it.
            update: What changes.
            own_lease: Returns the writer's lease, which may just be taken or given back; None without one. While none
                is in force, any lease that is held refuses the update.
            revoked_tokens: Tokens of updates that were given up, so that one that arrives late is refused.
            ttl_s: A new time to live to set with it; None keeps what is stored.
            before_send: Called before each attempt; what it raises ends the call.

        Raises:
            CorruptSessionError: Something in the document is of another kind than what is written there.
            LeaseLostError: The writer's own lease was taken over.
            LeaseUnavailableError: Another holder has the session's lease.
            SessionFullError: The document has no room for it.
            SessionNotFoundError: No such session, or another incarnation of it.
            SessionStoreError: A newer version of this library has brought the document into its own form meanwhile, or
                the document refuses the update and nothing in it says why.
            PyMongoError: Not applied within the write deadline, as far as is known.
        """
        if not head.is_current:
            head = await self.bring_up_to_date(head.session_id)
        keeps_ttl = ttl_s is None
        if not keeps_ttl:
            head = head.but(ttl_s=ttl_s)
        payloads, size = update.payloads, update.size
        head = await self.payloads.prepare(head, update, payloads)
        if head.live_bytes + size > CROWDED_BYTES:
            head, _ = await self.seal(head)
        refusals = Refusals(head.session_id)
        while True:
            if self.related.expire_too_early(head):
                head = await self.related.postpone(head)
            own = own_lease()
            lease = in_force(own)
            title = update.title(head.has_title, head.title_of)
            guard, changes = update.render(title=title)
            filter_ = self._completed(head, update, title, lease, revoked_tokens, changes, keeps_ttl=keeps_ttl)
            try:
                with explained(head.session_id):
                    result = await self.store.collection.update_by_id(
                        {**filter_, **guard}, changes, before_send=before_send
                    )
            except CorruptSessionError:
                if not await restart_counters(self.store, _identity(head), changes["$inc"]):
                    raise
                continue
            if result.matched_count:
                break
            document = await self._look(head, update)
            applied = document.get(paths.APPLIED)
            if isinstance(applied, list) and update.token in applied:
                break  # by an attempt whose reply was lost
            known, head = head, SessionHead.read(document)
            if not keeps_ttl:
                head = head.but(ttl_s=ttl_s)
            changed = await self._check_lease(head, lease, (own, own_lease()), stored_lease(document))
            if changed or not self._agrees(known, head):
                continue
            older = [key for key in update.keys if paths.at(document, paths.agent(key, paths.ARCHIVE_ID)) is None]
            if not (await self._fulfils(head, guard) or await bring_agents_up_to_date(self.store, head, older)):
                return _conflict(head, update, document)
            refusals.note()  # What refused it is gone: another holder's turn, for instance.
        return await self._finish(head, update, title, payloads, size)

    def _completed(
        self,
        head: SessionHead,
        update: Update,
        title: Document | None,
        lease: Lease | None,
        revoked_tokens: Sequence[str],
        changes: Document,
        *,
        keeps_ttl: bool,
    ) -> Document:
        """Add to an update what is no concern of its maker, and return what the document has to fulfil for that."""
        moment = now()
        sets = changes.setdefault("$set", {})
        sets[paths.UPDATED_AT] = moment
        filter_: Document = {
            "_id": head.session_id,
            paths.INCARNATION: head.incarnation,
            paths.SCHEMA_VERSION: {"$not": {"$gt": SCHEMA_VERSION}},
            paths.APPLIED: {"$ne": update.token},
            **({paths.LEASE: None} if lease is None else {paths.LEASE_TOKEN: lease.token}),
        }
        if keeps_ttl:
            filter_[paths.TTL_S] = head.ttl_s
        else:
            sets[paths.TTL_S] = head.ttl_s
        if expires := expiry(moment, head.ttl_s):
            sets |= expires
            # Whatever this writer knows of them: a session must not live on without what belongs to it.
            filter_[paths.RELATED_EXPIRE_AT] = {"$not": {"$lt": expires[paths.EXPIRES_AT]}}
        change = update.message
        if title is not None and paths.TITLE_OF in title:
            filter_[paths.TITLE] = None  # It is given once: this writer may not know of one that another gave.
        elif title is None and head.has_title and update.may_give_title:
            filter_[paths.TITLE] = {"$ne": None}  # Nor that another took it away.
        if change is not None and change.rewrites:
            filter_ |= _titled_by(head.title_of)
        if change is not None and change.rewrites and not change.sealed and not head.has_related:
            # A sealer may be at it with a copy of the message, which has to be removed then.
            filter_[paths.HAS_RELATED] = {"$ne": True}
        changes.setdefault("$inc", {})[paths.REVISION] = 1
        ring = {"$each": [*revoked_tokens, update.token], "$slice": -TOKEN_RING}
        changes.setdefault("$push", {})[paths.APPLIED] = ring
        return filter_

    async def _look(self, head: SessionHead, update: Update) -> Document:
        """Return what a refused update needs to know."""
        fields = [paths.APPLIED, paths.LEASE, *HEAD_PROJECTION]
        fields += [paths.agent(changes.key, paths.NEXT_MESSAGE_ID) for changes in update.agents]
        fields += [paths.agent(changes.key, paths.WINDOW) for changes in update.agents if changes.window is not None]
        fields += [paths.agent(key, paths.ARCHIVE_ID) for key in update.keys]
        if update.message is not None:
            fields.append(f"{paths.messages(update.message.key)}.{paths.MESSAGE_ID}")
        document = await self.store.find_one(_identity(head), dict.fromkeys(fields, 1))
        if document is None:
            raise SessionNotFoundError(head.session_id)
        return document

    async def _fulfils(self, head: SessionHead, guard: Document) -> bool:
        """Tell whether a session fulfils the condition that an update brings itself."""
        return not guard or await self.store.find_one({**_identity(head), **guard}, {"_id": 1}) is not None

    async def _check_lease(
        self,
        head: SessionHead,
        named: Lease | None,
        own: tuple[Lease | None, Lease | None],
        standing: Mapping[str, Any] | None,
    ) -> bool:
        """Raise when the session's turn is another holder's; True when there is another lease to be named now, or none.

        Args:
            head: The session.
            named: The lease that the refused update named.
            own: The writer's lease when the update was sent, and by now.
            standing: The lease that is stored.
        """
        for lease in own:
            if lease is not None and standing is not None and standing[paths.TOKEN] == lease.token:
                lease.is_taken = True
                if not lease.is_over:
                    return named is not lease
                await lease.release()  # It is being given back, or could not be, since the server was away.
                return True
        if named is not None:
            if in_force(own[1]) is named:
                raise named.lost()
            return True  # The turn that it belonged to was over before it arrived.
        if standing is None:
            return False
        if not await clear_expired(self.store, head.session_id, standing):
            raise unavailable(head.session_id, None)
        return True

    def _agrees(self, known: SessionHead, head: SessionHead) -> bool:
        """Tell whether what the update was rendered with still holds."""
        return (
            known.ttl_s == head.ttl_s
            and known.has_related == head.has_related
            and (known.has_title, known.title_of) == (head.has_title, head.title_of)
            and not self.related.expire_too_early(head)
        )

    async def _finish(
        self, head: SessionHead, update: Update, title: Document | None, payloads: Mapping[str, bytes], size: int
    ) -> Applied:
        after = head.but(revision=head.revision + 1, live_bytes=head.live_bytes + size)
        if title is not None:
            source = title.get(paths.TITLE_OF)
            of = head.title_of if source is None else (source[paths.AGENT], source[paths.MESSAGE_ID])
            after = after.but(has_title=True, title_of=of)
        change = update.message
        outcome: Outcome = "changed"
        if change is not None and change.sealed:
            outcome = await self.segments.change_message(head.session_id, change, update.token)
        elif change is not None and change.rewrites and head.has_related:
            await self.segments.remove_refused(head.session_id, _incarnation(head), change.key)
        await self.payloads.finish(head, payloads, update.referred_before)
        return Applied(after, outcome)

    async def seal(self, head: SessionHead) -> tuple[SessionHead, SealOutcome | None]:
        """Move the oldest items of a session into segments; the outcome is None when the session is gone."""
        address = head.session_id, self.store.database_name, self.store.collection_name
        with tracing.span("seal_session", *address) as span:
            sealer = Sealer(self.store, self.segments)
            outcome = await sealer.seal(head.session_id, _incarnation(head), ttl_s=head.ttl_s)
            if outcome is None:
                return head, None
            span.note(tracing.MESSAGES, outcome.messages)
            span.note(tracing.SIZE, outcome.sealed_bytes)
        return head.but(live_bytes=outcome.live_bytes, has_related=True), outcome


def _titled_by(source: tuple[str, int] | None) -> Document:
    """Return the condition that the title is taken from this message, or from none."""
    if source is None:
        return {paths.TITLE_OF: None}
    agent, number = source
    return {f"{paths.TITLE_OF}.{paths.AGENT}": agent, f"{paths.TITLE_OF}.{paths.MESSAGE_ID}": number}


def _identity(head: SessionHead) -> Document:
    return identity(head.session_id, head.incarnation)


def _incarnation(head: SessionHead) -> str:
    assert head.incarnation is not None, "a session in today's form has one"
    return head.incarnation


def _conflict(head: SessionHead, update: Update, document: Document) -> Conflict:
    found = False
    if update.message is not None:
        messages = paths.at(document, paths.messages(update.message.key))
        wanted = update.message.message.message_id
        if isinstance(messages, list):
            found = any(paths.at(message, paths.MESSAGE_ID) == wanted for message in messages)

    def stored(name: str, keys: Iterable[str], is_right: Callable[[Any], bool]) -> dict[str, Any]:
        values = {key: paths.at(document, paths.agent(key, name)) for key in keys}
        for key, value in values.items():
            if value is not None and not is_right(value):
                raise CorruptSessionError(head.session_id, paths.agent(key, name))
        return {key: value for key, value in values.items() if value is not None}

    keys = [changes.key for changes in update.agents]
    numbers = stored(paths.NEXT_MESSAGE_ID, keys, is_count)
    windows = stored(paths.WINDOW, keys, is_window)
    archive_ids = stored(paths.ARCHIVE_ID, update.keys, lambda value: isinstance(value, str))
    return Conflict(head, numbers, found, windows, archive_ids)
