"""Writes that no manager's journal stands behind: one step on a session by its id, applied before the call returns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pymongo.errors import PyMongoError

from ..schema.archives import at
from ..schema.names import check_session_id
from ..schema.payloads import names_in
from .batches import Document, Head, Step
from .children import Children
from .history import CROWDED_BYTES, SEAL_AT_BYTES, History
from .lease import Lease, clear_expired, unavailable
from .payloads import PayloadStore
from .store import SessionStore

logger = logging.getLogger(__name__)

_HEAD = {"schema_version": 1, "ttl_s": 1, "incarnation": 1, "has_payloads": 1, "live_bytes": 1}


class DirectWriter:
    """Applies steps to sessions of one collection, with everything that belongs to a step: payloads, seals, leases."""

    def __init__(
        self,
        store: SessionStore,
        lease: Callable[[], Lease | None],
        children: Children,
        history: History,
        payloads: PayloadStore,
    ) -> None:
        """Write through these; `lease` gives the one that the writer holds."""
        self._store = store
        self._lease = lease
        self._children = children
        self._history = history
        self._payloads = payloads

    async def head(self, session_id: str) -> Document:
        """Return what a write needs to know of a session, in today's form from here on.

        Raises:
            SessionNotFoundError: No such session.
        """
        head = await self._store.find(check_session_id(session_id), _HEAD)
        if "schema_version" not in head:
            await self._store.bring_up_to_date(session_id)
            head = await self._store.find(session_id, _HEAD)
        return head

    async def referred_to(self, session_id: str, paths: Sequence[str]) -> set[str]:
        """Return the names of the payloads that fields of a session document refer to."""
        query = {"_id": check_session_id(session_id), "has_payloads": True}
        document = await self._store.find_one(query, dict.fromkeys(paths, 1))
        return set() if document is None else names_in([at(document, path) for path in paths])

    async def apply(self, session_id: str, step: Step) -> Head | None:
        """Apply a step once.

        Returns:
            None when it is applied; the head of the document when the step's own guard refused it.

        Raises:
            LeaseLostError: The writer's own lease was taken over.
            LeaseUnavailableError: Another holder has the session's lease.
            SessionNotFoundError: No such session.
        """
        head = await self.head(session_id)
        incarnation, ttl_s = head["incarnation"], head.get("ttl_s")
        has_payloads = bool(head.get("has_payloads"))
        await self._payloads.prepare(session_id, incarnation, step, has_payloads=has_payloads, ttl_s=ttl_s)
        # Bytes that were stored for one session are of no use to another one of that id.
        meant_for = incarnation if step.all_payloads() else None
        live_bytes = int(head.get("live_bytes") or 0) + step.size
        if live_bytes > CROWDED_BYTES:
            await self._history.seal(session_id, incarnation, ttl_s=ttl_s)
        refused = await self._send(session_id, incarnation, step, meant_for=meant_for, ttl_s=ttl_s)
        if refused is None:
            if step.rewrites is not None:
                await self._history.remove_refused(session_id, incarnation, step.rewrites)
            await self._payloads.settle(session_id, incarnation, step, ttl_s=ttl_s)
            if SEAL_AT_BYTES <= live_bytes <= CROWDED_BYTES and step.size:
                await self._seal(session_id, incarnation, ttl_s)
        return refused

    async def _send(
        self, session_id: str, incarnation: str, step: Step, *, meant_for: str | None, ttl_s: float | None
    ) -> Head | None:
        """Send a step; what refuses it but is no concern of the caller's is put right or raised."""
        while True:
            held = self._lease()
            token = None if held is None else held.token
            refused = await self._store.apply(
                session_id, step.render, step, incarnation=meant_for, ttl_s=ttl_s, lease=token
            )
            if refused is None:
                return None
            standing = refused.lease
            if held is not None and (standing is None or standing["token"] != token):
                raise held.lost()
            if held is None and standing is not None:
                if not await clear_expired(self._store, session_id, standing):
                    raise unavailable(session_id, None)
            elif self._children.must_be_postponed(refused.children_expire_at, ttl_s):
                assert ttl_s is not None
                await self._children.postpone(session_id, incarnation, ttl_s)
            else:
                return refused

    async def _seal(self, session_id: str, incarnation: str, ttl_s: float | None) -> None:
        try:
            await self._history.seal(session_id, incarnation, ttl_s=ttl_s)
        except PyMongoError as error:
            # What the caller asked for is stored; the next write starts it again.
            logger.warning(
                "session_id=<%r>, error=<%s> | old messages not sealed yet", session_id, type(error).__name__
            )
