"""Who may see what: everything with the viewer's password, one session with its own."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import Request, Response

from ..web import ApiError, AttemptLimiter, TargetLimiter
from .logins import LOGIN_S, Login, Logins
from .schemas import Access

SESSION_PASSWORD_HEADER = "X-Session-Password"
PASSWORD_HEADER = "X-Password"

_NO_PASSWORD = secrets.token_bytes(32)
"""What is compared with where there is no password, so that its absence takes as long to find."""

_EVERYTHING = "everything"

StoredPassword = Callable[[str], Awaitable[str | None]]


StillHolds = Callable[[], Awaitable[bool]]
"""Tells whether the access that let a request pass still holds: for answers that last."""


class Gate:
    """Checks passwords and cookies; for one event loop.

    Logins are kept in memory: they end with the server, when they are 12 hours old, or by logging out.
    """

    def __init__(
        self,
        password: str | None,
        stored_password: StoredPassword,
        *,
        cookie: str,
        limiter: AttemptLimiter | None = None,
        targets: TargetLimiter | None = None,
    ) -> None:
        """Guard the viewer.

        Args:
            password: What opens everything; None leaves everything open.
            stored_password: Returns a session's own password; None for a session that has none or does not exist.
            cookie: Name of the cookie.
            limiter: Counts failed attempts of each client.
            targets: Counts failed attempts at each password.
        """
        self._password = _digest(password) if password else None
        self._stored_password = stored_password
        self._cookie = cookie
        self._limiter = limiter or AttemptLimiter()
        self._targets = targets or TargetLimiter()
        self._logins = Logins()

    @property
    def is_open(self) -> bool:
        """Whether no password is needed."""
        return self._password is None

    # -- requests

    async def require_all(self, request: Request) -> StillHolds:
        """Let a request pass that may see everything; return what tells for how long.

        Raises:
            ApiError: It may not.
        """
        if self.is_open or self._has_password(request):
            return _always
        login = self._login(request)
        if login is not None and login.session_id is None:
            return self._while_logged_in(request)
        if login is not None or SESSION_PASSWORD_HEADER in request.headers:
            raise ApiError(403, "session_only", "a session's password opens that session only")
        raise _login_required("give the viewer's password")

    async def require_session(self, request: Request, session_id: str) -> StillHolds:
        """Let a request pass that may see a session; return what tells for how long.

        Raises:
            ApiError: It may not. Whether the session exists does not show.
        """
        if self.is_open or self._has_password(request):
            return _always
        given = request.headers.get(SESSION_PASSWORD_HEADER)
        if given is not None:
            proof = await self._check_session_password(request, session_id, given)
            return lambda: self._is_still(session_id, proof)
        login = self._login(request)
        if login is not None and login.session_id is None:
            return self._while_logged_in(request)
        if login is not None and login.session_id == session_id and await self._still_valid(login, session_id):
            return self._while_logged_in(request)
        raise _login_required("give the viewer's password or that of the session")

    def _while_logged_in(self, request: Request) -> StillHolds:
        async def still_holds() -> bool:
            # Looked up anew: it may have ended, by logging out, by age, or for want of room.
            login = self._login(request)
            if login is None or login.session_id is None:
                return login is not None
            return await self._still_valid(login, login.session_id)

        return still_holds

    async def access(self, request: Request) -> Access:
        """Return what a browser may see."""
        if self.is_open:
            return Access(access="all", session_id=None, login_required=False)
        login = self._login(request)
        if login is None:
            return self._nothing()
        if login.session_id is None:
            return _access("all", None)
        if await self._still_valid(login, login.session_id):
            return _access("session", login.session_id)
        return self._nothing()

    # -- logging in and out

    async def log_in(self, request: Request, response: Response, password: str, session_id: str | None) -> Access:
        """Give a browser a cookie for everything, or for one session.

        Raises:
            ApiError: The password is wrong, or there were too many attempts.
        """
        if self.is_open:
            return await self.access(request)
        proof = None
        if session_id is None:
            self._check_password(request, password)
        else:
            proof = await self._check_session_password(request, session_id, password)
        # A browser has one cookie: what it stood for until now is over.
        self._logins.end(request.cookies.get(self._cookie))
        token = self._logins.add(session_id, proof)
        response.set_cookie(
            self._cookie,
            token,
            max_age=LOGIN_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return _access("all" if session_id is None else "session", session_id)

    def log_out(self, request: Request, response: Response) -> Access:
        """End a browser's login, on the server too."""
        self._logins.end(request.cookies.get(self._cookie))
        response.delete_cookie(
            self._cookie, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        if self.is_open:
            return Access(access="all", session_id=None, login_required=False)
        return self._nothing()

    # -- checking

    def _has_password(self, request: Request) -> bool:
        given = request.headers.get(PASSWORD_HEADER)
        if given is None:
            return False
        self._check_password(request, given)
        return True

    def _check_password(self, request: Request, given: str) -> None:
        self._check_patience(request, _EVERYTHING)
        if self._password is None or not _is_password(given, self._password):
            raise self._failure(request, _EVERYTHING)
        self._targets.succeeded(_EVERYTHING, _client(request))

    async def _check_session_password(self, request: Request, session_id: str, given: str) -> bytes:
        target = f"session {session_id}"
        self._check_patience(request, target)
        stored = await self._proof(session_id)
        # Again, and nothing is awaited from here on: attempts sent all at once count like those one after another.
        self._check_patience(request, target)
        if not _is_password(given, stored):
            raise self._failure(request, target)
        self._targets.succeeded(target, _client(request))
        return stored

    async def _still_valid(self, login: Login, session_id: str) -> bool:
        """Tell whether the session is still the one of the login: not deleted, and not created anew since."""
        return login.proof is not None and await self._is_still(session_id, login.proof)

    async def _is_still(self, session_id: str, proof: bytes) -> bool:
        return hmac.compare_digest(proof, await self._proof(session_id))

    async def _proof(self, session_id: str) -> bytes:
        stored = await self._stored_password(session_id)
        return _digest(stored) if stored else _NO_PASSWORD

    def _check_patience(self, request: Request, target: str) -> None:
        client = _client(request)
        wait_s = max(self._limiter.wait_s(client), self._targets.wait_s(target, client))
        if wait_s:
            raise ApiError(
                429,
                "too_many_attempts",
                f"too many wrong passwords; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )

    def _failure(self, request: Request, target: str) -> ApiError:
        self._limiter.failed(_client(request))
        self._targets.failed(target)
        return ApiError(401, "wrong_password", "the password is wrong")

    def _login(self, request: Request) -> Login | None:
        return self._logins.find(request.cookies.get(self._cookie))

    @staticmethod
    def _nothing() -> Access:
        return _access("none", None)


async def _always() -> bool:
    return True


def _access(kind: Literal["all", "session", "none"], session_id: str | None) -> Access:
    return Access(access=kind, session_id=session_id, login_required=True)


def _login_required(advice: str) -> ApiError:
    return ApiError(401, "login_required", f"log in, or {advice}")


def _is_password(given: str, stored: bytes) -> bool:
    """Tell whether a text is the password of a digest, in whatever encoding a program has put it into a header."""
    readings = [given]
    with contextlib.suppress(UnicodeError):
        # A header arrives as Latin-1, as browsers send it; most programs send UTF-8.
        readings.append(given.encode("latin-1").decode("utf-8"))
    # All of them are compared, whichever fits.
    compared = [hmac.compare_digest(_digest(reading), stored) for reading in readings]
    return any(compared)


def _digest(text: str) -> bytes:
    # Of equal length whatever the text, so that comparing two says nothing about it.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else "local"
