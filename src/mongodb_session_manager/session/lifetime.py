"""A session from its opening to its closing: loads it, holds what works on it, leaves nothing pending behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from .. import runtime
from ..errors import SessionClosedError, SessionNotOpenError
from ..schema.sessions import StoredSession
from ..store import indexes
from ..store.history import History, MissingSegmentsError
from ..store.lease import Lease
from ..store.payloads import PayloadStore
from ..store.store import SessionStore
from .delivery import Delivery
from .journal import Journal
from .restore import RestoringSessionManager

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """What exists of a session while it is open."""

    journal: Journal
    delivery: Delivery
    strands: RestoringSessionManager


class SessionLifetime:
    """Opens one session and closes it; whoever asks for a part of it earlier or later gets an error."""

    def __init__(
        self,
        session_id: str,
        store: SessionStore,
        *,
        application_name: str | None,
        ttl_s: float | None,
        skip_corrupt_messages: bool,
        shares_client: bool,
    ) -> None:
        """Address a session; no I/O.

        Args:
            session_id: Which session.
            store: Where it is; its client is closed with the session, unless it was borrowed.
            application_name: Stored when the session is created.
            ttl_s: How long it lives after its last activity; None keeps what is stored.
            skip_corrupt_messages: Leave out what cannot be read instead of raising.
            shares_client: The client is a factory's, which waits for indexes when it is closed; sessions do not.
        """
        self.session_id = session_id
        self.store = store
        self._application_name = application_name
        self._ttl_s = ttl_s
        self._skip_corrupt_messages = skip_corrupt_messages
        self._shares_client = shares_client
        self._history = History(store)
        self._payloads = PayloadStore(store, self._history)
        self._opened: _Opened | None = None
        self._closed = False

    @property
    def phase(self) -> str:
        """In words: not open, open or closed."""
        return "closed" if self._closed else "open" if self.was_opened else "not open"

    @property
    def was_opened(self) -> bool:
        """Whether it was opened, even if it was closed again."""
        return self._opened is not None

    @property
    def journal(self) -> Journal:
        """What was loaded, and what changed since."""
        return self._parts().journal

    @property
    def delivery(self) -> Delivery:
        """What gets the changes to the database."""
        return self._parts().delivery

    @property
    def strands(self) -> RestoringSessionManager:
        """Strands' own session logic, on the journal."""
        return self._parts().strands

    def _parts(self) -> _Opened:
        self.check_not_closed()
        if self._opened is None:
            raise SessionNotOpenError(self.session_id)
        return self._opened

    def check_open(self) -> None:
        """Raise `SessionClosedError` when it was closed, `SessionNotOpenError` before it is opened."""
        self._parts()

    def check_not_closed(self) -> None:
        """Raise `SessionClosedError` when it was closed."""
        if self._closed:
            raise SessionClosedError(self.session_id)

    def lease(self) -> Lease | None:
        """Return the lease that is held, None without one or before the session is open."""
        return None if self._opened is None else self._opened.delivery.lease

    async def open(self, agents: Sequence[str] | None) -> bool:
        """Load the session, or create it; False when it was opened by another task meanwhile, whose view is in use.

        Args:
            agents: Ids of the agents to load; None loads all.

        Raises:
            PyMongoError: The server cannot be reached.
        """
        while True:
            stored, is_new = await self.store.load_or_create(
                self.session_id, agents, application_name=self._application_name, ttl_s=self._ttl_s
            )
            if await self.complete(stored):
                break
        if self._opened is not None:
            return False
        journal = Journal(stored, is_new=is_new, skip_corrupt_messages=self._skip_corrupt_messages)
        self._opened = _Opened(
            journal,
            Delivery(self.store, self._history, journal, ttl_s=self._ttl_s),
            RestoringSessionManager(self.session_id, journal),
        )
        return True

    async def complete(self, stored: StoredSession) -> bool:
        """Load what a loaded session needs beside its document; False when it is out of date already."""
        try:
            await self._history.complete(stored)
        except MissingSegmentsError:
            # It may have been deleted meanwhile, or one of its agents.
            query = {"_id": self.session_id, "incarnation": stored.incarnation, "revision": stored.revision or None}
            if await self.store.find_one(query, {"_id": 1}) is None:
                return False
            if not self._skip_corrupt_messages:
                raise
            logger.warning("session_id=<%r> | skipping older messages, their segments are missing", self.session_id)
        await self._payloads.complete(stored)
        return True

    async def close(self, drain_s: float) -> None:
        """Write what is pending and end it; arguments and errors are those of the manager's `close()`."""
        if self._closed:
            return
        try:
            try:
                if self._opened is not None:
                    await self._opened.delivery.flush()
                    await self._opened.delivery.settle()
            except Exception:
                await self._drain(drain_s)
                raise
            await self._drain(drain_s)
            if not self._shares_client and self._opened is not None:
                await indexes.settle(self.store.handle)
        except asyncio.CancelledError:
            self._closed = True
            # A web server whose client leaves cancels every await of its handler, and those in a `finally`, too. The
            # client has to stay open until what is pending is written.
            assert self._opened is not None
            self._opened.delivery.drain_later(lambda: self._drain_and_release(drain_s))
            raise
        except BaseException:
            await self._release()
            raise
        await self._release()

    async def _drain(self, drain_s: float) -> None:
        # A session that was never opened has told nothing.
        if self._opened is not None:
            await runtime.drain(self.session_id, drain_s)

    async def _drain_and_release(self, drain_s: float) -> None:
        try:
            await self._drain(drain_s)
        finally:
            await self._release()

    async def _release(self) -> None:
        self._closed = True
        await self.store.handle.aclose()

    def discard(self) -> None:
        """Give up what is pending, if the session was opened: it is about to be deleted.

        Raises:
            SessionClosedError: It was closed.
        """
        self.check_not_closed()
        if self._opened is not None:
            self._opened.delivery.discard()
