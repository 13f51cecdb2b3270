"""A session from its opening to its closing: loads it, holds what works on it, leaves nothing pending behind."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from .. import runtime, tracing
from ..errors import SessionClosedError, SessionNotOpenError
from ..runtime.home import Home
from ..schema import paths
from ..store import indexes
from ..store.executor import UpdateExecutor
from ..store.lease import Lease
from ..store.loaded import StoredSession
from ..store.segments import MissingSegmentsError
from ..store.updates import Update
from .failures import is_outage
from .pending import PendingChanges
from .restore import Restorer, prepare
from .writer import SessionWriter

logger = logging.getLogger(__name__)


@dataclass
class _Opened:
    """What exists of a session while it is open; only the session itself is ever replaced."""

    session: StoredSession
    changes: PendingChanges
    writer: SessionWriter
    restorer: Restorer


class SessionLifetime:
    """Opens one session and closes it; a caller that asks for a part of it earlier or later gets an error."""

    def __init__(
        self,
        session_id: str,
        executor: UpdateExecutor,
        *,
        application_name: str | None,
        ttl_s: float | None,
        skip_corrupt_messages: bool,
        shares_client: bool,
    ) -> None:
        """Address a session; no I/O.

        Args:
            session_id: Which session.
            executor: Writes to where it is; its client is closed with the session, unless it was borrowed.
            application_name: Stored when the session is created.
            ttl_s: How long it lives after its last activity; None keeps what is stored.
            skip_corrupt_messages: Leave out what cannot be read instead of raising.
            shares_client: The client is a factory's, which waits for indexes when it is closed; sessions do not.
        """
        self.session_id = session_id
        self.store = executor.store
        self.home = Home(session_id, on_portal=self.store.handle.on_portal)
        self._executor = executor
        self._application_name = application_name
        self._ttl_s = ttl_s
        self._skip_corrupt_messages = skip_corrupt_messages
        self._shares_client = shares_client
        self._opened: _Opened | None = None
        self._closed = False

    @property
    def phase(self) -> str:
        """In words: not open, open or closed."""
        return "closed" if self._closed else "open" if self.was_opened else "not open"

    @property
    def address(self) -> tuple[str, str, str]:
        """The session's id, and the database and collection that it is in."""
        return self.session_id, self.store.database_name, self.store.collection_name

    @property
    def was_opened(self) -> bool:
        """Whether it was opened, even if it was closed again."""
        return self._opened is not None

    @property
    def session(self) -> StoredSession:
        """What was loaded."""
        return self._parts().session

    @property
    def changes(self) -> PendingChanges:
        """What is owed to the database."""
        return self._parts().changes

    @property
    def writer(self) -> SessionWriter:
        """What gets the changes to the database."""
        return self._parts().writer

    @property
    def restorer(self) -> Restorer:
        """Strands' own session logic, on what was loaded."""
        return self._parts().restorer

    def go_on_from(self, session: StoredSession) -> None:
        """Go on from the session as it was loaded anew."""
        parts = self._parts()
        parts.session = session
        parts.restorer.reloaded(session)

    def _parts(self) -> _Opened:
        if self._opened is None or self._closed:
            self.check_not_closed()
            raise SessionNotOpenError(self.session_id)
        return self._opened

    def check_open(self) -> None:
        """Raise `SessionClosedError` when it was closed, `SessionNotOpenError` before it is opened."""
        self._parts()

    def check_not_closed(self) -> None:
        """Raise `SessionClosedError` when it was closed."""
        if self._closed:
            raise SessionClosedError(self.session_id)

    def inherit(self) -> None:
        """Go on in a forked process as another writer; what was pending is left to the process that opened it."""
        if self._opened is not None and not self._closed:
            self.home.inherit()
            self._opened.writer.inherit()

    def lease(self) -> Lease | None:
        """Return the lease of the turn under way, None without one or before the session is open."""
        return None if self._opened is None else self._opened.writer.lease

    def note_own(self, session_id: str, update: Update) -> None:
        """Note an update that the manager's own repository applied."""
        if session_id == self.session_id and self._opened is not None:
            self._opened.writer.note_own(update)

    async def open(self, agents: Sequence[str] | None) -> bool:
        """Load the session, or create it; False when it was opened by another task meanwhile, whose view is in use.

        Args:
            agents: Ids of the agents to load; None loads all.

        Raises:
            PyMongoError: The server cannot be reached.
        """
        with tracing.span("open_session", *self.address) as span:
            while True:
                stored, is_new = await self.store.load_or_create(
                    self.session_id, agents, application_name=self._application_name, ttl_s=self._ttl_s, prepare=prepare
                )
                if await self.complete(stored):
                    break
            span.note(tracing.IS_NEW, is_new)
            span.note(tracing.MESSAGES, sum(len(agent.raw_messages) for agent in stored.agents.values()))
            span.note(tracing.SIZE, stored.head.live_bytes)
        if self._opened is not None:
            return False
        changes = PendingChanges(stored)
        self._opened = _Opened(
            stored,
            changes,
            SessionWriter(self._executor, changes, stored.head, self.home, ttl_s=self._ttl_s),
            Restorer(stored, changes, is_new=is_new, skip_corrupt_messages=self._skip_corrupt_messages),
        )
        _open.add(self)
        return True

    async def complete(self, stored: StoredSession) -> bool:
        """Load what a loaded session needs beside its document; False when it is out of date already."""
        try:
            await self._executor.segments.complete(stored)
        except MissingSegmentsError:
            # It may have been deleted meanwhile, or one of its agents.
            head = stored.head
            query = {"_id": self.session_id, paths.INCARNATION: head.incarnation, paths.REVISION: head.revision or None}
            if await self.store.find_one(query, {"_id": 1}) is None:
                return False
            if not self._skip_corrupt_messages:
                raise
            logger.warning("session_id=<%r> | skipping older messages, their segments are missing", self.session_id)
        await self._executor.payloads.complete(stored)
        return True

    async def close(self, drain_s: float) -> None:
        """Write what is pending and end it; arguments and errors are those of the manager's `close()`."""
        if self._closed:
            return
        if self._opened is None:  # So it has nothing to write, and has told nothing.
            await self._close_client()
            return
        writer = self._opened.writer
        try:
            await self._write_and_drain(writer, drain_s, waits=True)
            if not self._shares_client:
                await indexes.wait_for_builds(self.store.handle)
        except asyncio.CancelledError:
            self._closed = True
            # A web server whose client leaves cancels every await of its handler, and those in a `finally`, too. The
            # client has to stay open until what is pending is written.
            self.home.leave("close", lambda: self._finish(writer, drain_s))
            raise
        except BaseException:
            await self._close_client()
            raise
        await self._close_client()

    async def _finish(self, writer: SessionWriter, drain_s: float) -> None:
        """Do what is left of closing, in the background."""
        try:
            await self._write_and_drain(writer, drain_s)
        finally:
            await self._close_client()

    async def _write_and_drain(self, writer: SessionWriter, drain_s: float, *, waits: bool = False) -> None:
        """Write what is pending, and deliver the notifications whatever comes of that.

        Args:
            writer: What writes.
            drain_s: How long to wait for notifications while none is delivered, in seconds.
            waits: Also for what runs in the background, which this is not a part of.
        """
        try:
            await self._write(writer)
            if waits:
                await self.home.wait()
        except Exception:
            await runtime.drain(self.session_id, drain_s)
            raise
        await runtime.drain(self.session_id, drain_s)

    async def _write(self, writer: SessionWriter) -> None:
        """Write what is pending, then give back the turn under way, or stop waiting for one.

        A generator or a task may hold the turn that is closed after its session; its renewal would never end.
        """
        try:
            await writer.flush()
        except Exception as error:
            await self._end_turn(writer, gives_back=not is_outage(error))  # That would only wait for as long once more.
            raise
        await self._end_turn(writer)

    async def _end_turn(self, writer: SessionWriter, *, gives_back: bool = True) -> None:
        for lease in {*writer.waiting, *(() if writer.lease is None else (writer.lease,))}:
            lease.abandon()
            if lease.is_taken and gives_back:
                await lease.release()
            else:
                lease.let_expire()

    async def _close_client(self) -> None:
        self._closed = True
        await self.store.handle.aclose()

    def discard(self) -> None:
        """Give up what is pending, if the session was opened: it was deleted."""
        if self._opened is not None:
            self._opened.writer.discard()


_open: weakref.WeakSet[SessionLifetime] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # What is pending would be written by both.
    for lifetime in list(_open):
        lifetime.inherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
