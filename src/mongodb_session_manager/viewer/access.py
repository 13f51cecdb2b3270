"""Who may see what: everything with the viewer's password, one session with its own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Request, Response

from ..web import ApiError, AttemptLimiter
from .schemas import Access

SESSION_PASSWORD_HEADER = "X-Session-Password"
PASSWORD_HEADER = "X-Password"

_LOGIN_S = 12 * 3600
_MOST_LOGINS = 10_000
_NO_PASSWORD = secrets.token_bytes(32)
"""What is compared with where there is no password, so that its absence takes as long to find."""

StoredPassword = Callable[[str], Awaitable[str | None]]


@dataclass(frozen=True)
class _Login:
    """What a cookie stands for; `proof` is a digest of the session's password, None for everything."""

    session_id: str | None
    proof: bytes | None
    ends_at: float


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
    ) -> None:
        """Guard the viewer.

        Args:
            password: What opens everything; None leaves everything open.
            stored_password: Returns a session's own password, None for a session without one and for none at all.
            cookie: Name of the cookie.
            limiter: Counts failed attempts.
        """
        self._password = _digest(password) if password else None
        self._stored_password = stored_password
        self._cookie = cookie
        self._limiter = limiter or AttemptLimiter()
        self._logins: OrderedDict[bytes, _Login] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether no password is needed."""
        return self._password is None

    # -- requests

    async def require_all(self, request: Request) -> None:
        """Let a request pass that may see everything.

        Raises:
            ApiError: It may not.
        """
        if self.is_open or self._has_password(request):
            return
        login = self._login(request)
        if login is not None and login.session_id is None:
            return
        if login is not None or SESSION_PASSWORD_HEADER in request.headers:
            raise ApiError(403, "session_only", "a session's password opens that session only")
        raise _login_required("give the viewer's password")

    async def require_session(self, request: Request, session_id: str) -> None:
        """Let a request pass that may see a session.

        Raises:
            ApiError: It may not. Whether the session exists does not show.
        """
        if self.is_open or self._has_password(request):
            return
        given = request.headers.get(SESSION_PASSWORD_HEADER)
        if given is not None:
            await self._check_session_password(request, session_id, given)
            return
        login = self._login(request)
        if login is not None and login.session_id is None:
            return
        if login is not None and login.session_id == session_id and await self._still_valid(login, session_id):
            return
        raise _login_required("give the viewer's password or that of the session")

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
        if session_id is None:
            self._check_password(request, password)
            login = _Login(None, None, time.monotonic() + _LOGIN_S)
        else:
            proof = await self._check_session_password(request, session_id, password)
            login = _Login(session_id, proof, time.monotonic() + _LOGIN_S)
        token = secrets.token_urlsafe(32)
        self._logins[_digest(token)] = login
        while len(self._logins) > _MOST_LOGINS:
            self._logins.popitem(last=False)
        response.set_cookie(
            self._cookie,
            token,
            max_age=_LOGIN_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return _access("all" if session_id is None else "session", session_id)

    def log_out(self, request: Request, response: Response) -> Access:
        """End a browser's login, on the server too."""
        token = request.cookies.get(self._cookie)
        if token:
            self._logins.pop(_digest(token), None)
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
        self._check_patience(request)
        if self._password is None or not hmac.compare_digest(_digest(given), self._password):
            raise self._failure(request)

    async def _check_session_password(self, request: Request, session_id: str, given: str) -> bytes:
        self._check_patience(request)
        stored = await self._proof(session_id)
        # Again, and nothing is awaited from here on: attempts sent all at once count like those one after another.
        self._check_patience(request)
        if not hmac.compare_digest(_digest(given), stored):
            raise self._failure(request)
        return stored

    async def _still_valid(self, login: _Login, session_id: str) -> bool:
        """Tell whether the session is still the one of the login: not deleted, and not created anew since."""
        return login.proof is not None and hmac.compare_digest(login.proof, await self._proof(session_id))

    async def _proof(self, session_id: str) -> bytes:
        stored = await self._stored_password(session_id)
        return _digest(stored) if stored else _NO_PASSWORD

    def _check_patience(self, request: Request) -> None:
        wait_s = self._limiter.wait_s(_client(request))
        if wait_s:
            raise ApiError(
                429,
                "too_many_attempts",
                f"too many wrong passwords; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )

    def _failure(self, request: Request) -> ApiError:
        self._limiter.failed(_client(request))
        return ApiError(401, "wrong_password", "the password is wrong")

    def _login(self, request: Request) -> _Login | None:
        token = request.cookies.get(self._cookie)
        if not token:
            return None
        login = self._logins.get(_digest(token))
        if login is not None and login.ends_at <= time.monotonic():
            del self._logins[_digest(token)]
            return None
        return login

    @staticmethod
    def _nothing() -> Access:
        return _access("none", None)


def _access(kind: Literal["all", "session", "none"], session_id: str | None) -> Access:
    return Access(access=kind, session_id=session_id, login_required=True)


def _login_required(advice: str) -> ApiError:
    return ApiError(401, "login_required", f"log in, or {advice}")


def _digest(text: str) -> bytes:
    # Of equal length whatever the text, so that comparing two says nothing about it.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else "local"
