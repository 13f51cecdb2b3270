"""Logins of browsers, kept in memory: what a cookie stands for, until it ends."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LOGIN_S = 12 * 3600
"""Seconds that a login lasts."""

MOST_FULL = 1_000
"""Logins for everything that are kept."""

MOST_OF_SESSIONS = 10_000
"""Logins for single sessions that are kept."""

MOST_OF_A_SESSION = 20
"""Logins for one and the same session that are kept."""


@dataclass(frozen=True)
class Login:
    """What a cookie stands for.

    Attributes:
        session_id: The session that it opens, None for everything.
        proof: Digest of the session's password, None for everything.
        ends_at: When it ends, on the clock of `Logins`.
    """

    session_id: str | None
    proof: bytes | None
    ends_at: float


class Logins:
    """The logins that are in force.

    Those for everything and those for single sessions have room of their own, and each session has a share of the
    latter: one session's password cannot push out a person who came with another one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without logins.

        Args:
            clock: Seconds that only ever rise.
        """
        self._clock = clock
        self._full: OrderedDict[bytes, Login] = OrderedDict()
        self._single: OrderedDict[bytes, Login] = OrderedDict()
        self._of_session: dict[str, OrderedDict[bytes, None]] = {}

    def add(self, session_id: str | None, proof: bytes | None) -> str:
        """Begin a login, and return the cookie's value. Where there is no room, the oldest of its kind ends."""
        token = secrets.token_urlsafe(32)
        key, login = _digest(token), Login(session_id, proof, self._clock() + LOGIN_S)
        if session_id is None:
            self._full[key] = login
            if len(self._full) > MOST_FULL:
                self._full.popitem(last=False)
            return token
        own = self._of_session.setdefault(session_id, OrderedDict())
        own[key] = None
        self._single[key] = login
        if len(own) > MOST_OF_A_SESSION:
            self._drop(next(iter(own)))
        if len(self._single) > MOST_OF_SESSIONS:
            self._drop(next(iter(self._single)))
        return token

    def find(self, token: str | None) -> Login | None:
        """Return what a cookie's value stands for, None when it stands for nothing any more."""
        if not token:
            return None
        key = _digest(token)
        login = self._full.get(key) or self._single.get(key)
        if login is not None and login.ends_at <= self._clock():
            self._drop(key)
            return None
        return login

    def end(self, token: str | None) -> None:
        """End a login, if it is one."""
        if token:
            self._drop(_digest(token))

    def _drop(self, key: bytes) -> None:
        self._full.pop(key, None)
        login = self._single.pop(key, None)
        if login is not None and login.session_id is not None:
            own = self._of_session[login.session_id]
            own.pop(key, None)
            if not own:
                del self._of_session[login.session_id]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
