"""One turn at a time per session, across processes whose clocks may disagree.

A lease is a field of the session document: `{token, renewals, lease_s}`. Its holder raises `renewals` while it holds
it, and every write it sends names the token (fencing), so what a holder that lost the lease still sends is refused.
`last_lease` keeps the token when the lease is given back: a holder that was cut off learns from it whether it was the
last one.
Clocks are not compared: a waiting process takes over after it has seen the same token and count for `lease_s`
seconds of its own monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pymongo.errors import InvalidOperation, PyMongoError

from ..errors import CorruptSessionError, LeaseLostError, LeaseUnavailableError, SessionNotFoundError
from ..runtime.home import Home, Job
from ..schema import paths
from ..schema.numbers import is_measure
from ..schema.sessions import TOKEN_RING, identity, new_token
from .store import SessionStore

logger = logging.getLogger(__name__)

_RENEWALS_PER_LEASE = 4
_LOOKS_PER_LEASE = 20
_LONGEST_LOOK_S = 0.5
_MOST_WATCHED = 10_000


@dataclass(frozen=True)
class Turn:
    """What `turn()` yields.

    Attributes:
        replayed: The idempotency key was stored before: this turn was taken already, and what it adds is discarded.
    """

    replayed: bool = False


class Watch:
    """What a process has seen of the leases that stand, on its own clock: their renewals, and since when."""

    def __init__(self) -> None:
        """Begin without any lease."""
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def has_expired(self, lease: Mapping[str, Any]) -> bool:
        """Note a lease, and tell whether it stood still for as long as it was taken for."""
        token, renewals = lease[paths.TOKEN], lease[paths.RENEWALS]
        moment = time.monotonic()
        with self._lock:
            seen = self._seen.get(token)
            if seen is None or seen[0] != renewals:
                self._seen[token] = renewals, moment
                self._seen.move_to_end(token)
                if len(self._seen) > _MOST_WATCHED:
                    self._seen.popitem(last=False)
                return False
        return moment - seen[1] >= float(lease[paths.LEASE_S])


# The process's, not a manager's: where each request makes a manager of its own, none of them lives long enough to see
# that a lease stands still.
_watch = Watch()


def stored_lease(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the lease of a session document, None where there is none.

    Raises:
        CorruptSessionError: Something else stands there.
    """
    lease = document.get(paths.LEASE)
    if lease is None:
        return None
    token, renewals, lease_s = (paths.at(lease, name) for name in (paths.TOKEN, paths.RENEWALS, paths.LEASE_S))
    if not (isinstance(token, str) and is_measure(renewals) and is_measure(lease_s)):
        raise CorruptSessionError(document["_id"], paths.LEASE)
    return cast("Mapping[str, Any]", lease)


async def clear_expired(store: SessionStore, session_id: str, lease: Mapping[str, Any]) -> bool:
    """Remove a lease whose holder is gone; False when the holder may still be there."""
    if not _watch.has_expired(lease):
        return False
    standing = {paths.LEASE_TOKEN: lease[paths.TOKEN], paths.LEASE_RENEWALS: lease[paths.RENEWALS]}
    gone = {"$unset": {paths.LEASE: "", paths.LAST_LEASE: ""}}
    if await store.update(session_id, {"_id": session_id, **standing}, gone):
        logger.warning("session_id=<%r> | removed a lease that was not renewed", session_id)
    return True


class Lease:
    """One manager's hold on its session.

    Attributes:
        is_taken: It is known to be stored.
        is_over: It is being given back, or was.
        is_given_back: It was, or another process is to do that.
        is_lost: Another holder took over.
    """

    def __init__(self, store: SessionStore, session_id: str, incarnation: str, lease_s: float, home: Home) -> None:
        """Prepare to take it; no I/O.

        Args:
            store: Where the session is.
            session_id: The session.
            incarnation: Which session of that id.
            lease_s: Seconds without a renewal after which others may take over.
            home: Where it is renewed.
        """
        self.token = new_token()
        self._store = store
        self._lease_s = lease_s
        self._identity = identity(session_id, incarnation)
        self._home = home
        self._renewing: Job | None = None
        self._abandoned = False
        self.is_given_back = False
        self.is_taken = False
        self.is_over = False
        self.is_lost = False

    def abandon(self) -> None:
        """Give the lease back as soon as it is taken: no caller waits for it any more."""
        self._abandoned = True

    def disown(self) -> None:
        """Leave the lease to the process that took it, in one that was forked from that: it is not to be given back."""
        self._renewing, self.is_given_back, self.is_over = None, True, True

    async def acquire(self, wait_s: float | None) -> None:
        """Take the lease, and renew it from then on.

        Args:
            wait_s: Longest time to wait for another holder, None for as long as it takes.

        Raises:
            LeaseUnavailableError: Another holder kept it longer than that.
            SessionNotFoundError: The session was deleted.
        """
        give_up_at = None if wait_s is None else time.monotonic() + wait_s
        pause_s = min(self._lease_s / _LOOKS_PER_LEASE, _LONGEST_LOOK_S)
        while not await self._take({paths.LEASE: None}):
            held = await self._look()
            if held is not None and held[paths.TOKEN] == self.token:
                break  # Taken by an attempt whose reply was lost.
            if self._abandoned:
                return
            if held is None:
                continue
            if _watch.has_expired(held):
                standing = {paths.LEASE_TOKEN: held[paths.TOKEN], paths.LEASE_RENEWALS: held[paths.RENEWALS]}
                if await self._take(standing):
                    logger.warning("session_id=<%r> | took over a lease that was not renewed", self._identity["_id"])
                    break
                continue
            left_s = float("inf") if give_up_at is None else give_up_at - time.monotonic()
            if left_s <= 0:
                raise unavailable(self._identity["_id"], wait_s)
            await asyncio.sleep(min(pause_s, left_s))
        if self._abandoned:
            await self.release()
        else:
            self.is_taken = True
            self._renewing = self._home.start("lease", self._renew)

    async def _take(self, condition: dict[str, Any]) -> bool:
        lease = {paths.TOKEN: self.token, paths.RENEWALS: 0, paths.LEASE_S: self._lease_s}
        # Once, like a batch: an attempt that was given up and arrives late must not bring back what was given back.
        once = {paths.APPLIED: {"$ne": self.token}}
        ring = {"$each": [self.token], "$slice": -TOKEN_RING}
        update = {"$set": {paths.LEASE: lease, paths.LAST_LEASE: self.token}, "$push": {paths.APPLIED: ring}}
        return await self._store.update(self._identity["_id"], {**self._identity, **condition, **once}, update) > 0

    async def _look(self) -> Mapping[str, Any] | None:
        document = await self._store.find_one(self._identity, {paths.LEASE: 1})
        if document is None:
            raise SessionNotFoundError(self._identity["_id"])
        return stored_lease(document)

    async def _renew(self) -> None:
        """Raise the count until told to stop; a failure is tried again, since the lease may outlast it."""
        mine = {**self._identity, paths.LEASE_TOKEN: self.token}
        every_s = self._lease_s / _RENEWALS_PER_LEASE
        while True:
            await asyncio.sleep(every_s)
            try:
                result = await self._store.collection.update_one(
                    mine, {"$inc": {paths.LEASE_RENEWALS: 1}}, deadline_s=every_s
                )
            except InvalidOperation:
                return  # The client was closed in the middle of the turn.
            except PyMongoError as error:
                logger.warning(
                    "session_id=<%r>, error=<%s> | lease not renewed, trying again",
                    self._identity["_id"],
                    type(error).__name__,
                )
                continue
            if not result.matched_count:
                self.is_lost = True
                logger.warning("session_id=<%r> | lease lost to another holder", self._identity["_id"])
                return

    def let_expire(self) -> None:
        """Stop renewing the lease; others take over in a while."""
        self.is_over = True
        if self._renewing is not None:
            self._renewing.cancel()

    async def release(self) -> None:
        """Stop renewing and give the lease back, once. That it was lost, or cannot be given back now, is no error."""
        if self.is_given_back:
            return
        self.let_expire()
        mine = {**self._identity, paths.LEASE_TOKEN: self.token}
        try:
            if await self._store.update(self._identity["_id"], mine, {"$unset": {paths.LEASE: ""}}):
                self.is_given_back = True
            else:
                # That alone proves nothing: the reply of an earlier attempt may have been lost.
                document = await self._store.find_one(self._identity, {paths.LAST_LEASE: 1})
                last = self.token if document is None else document.get(paths.LAST_LEASE)
                # Unless another task was at it, too: another holder may have come since.
                self.is_lost = self.is_lost or (last != self.token and not self.is_given_back)
                self.is_given_back = not self.is_lost
        except PyMongoError as error:
            # What is written next gives it back first; without that, others take over when the lease has expired.
            logger.warning(
                "session_id=<%r>, error=<%s>, lease_s=<%s> | lease not given back, it will expire",
                self._identity["_id"],
                type(error).__name__,
                self._lease_s,
            )

    def lost(self) -> LeaseLostError:
        """Return the error for a write that was refused since another holder took over."""
        self.is_lost = True
        return LeaseLostError(
            f"the turn of session {self._identity['_id']!r} was taken over by another holder, because it was not "
            f"renewed for {self._lease_s} s; what this turn still had to write was refused"
        )


def in_force(lease: Lease | None) -> Lease | None:
    """Return a lease as updates are to name it: None while it is not known to be taken, and once it is given back."""
    return lease if lease is not None and lease.is_taken and not lease.is_over else None


def unavailable(session_id: str, waited_s: float | None) -> LeaseUnavailableError:
    """Return the error for a session whose turn another holder has."""
    waited = "" if not waited_s else f" and kept it for {waited_s} s"
    return LeaseUnavailableError(
        f"another holder has the turn of session {session_id!r}{waited}; wait longer with turn(wait_s=...), or write "
        "inside a turn of your own"
    )
