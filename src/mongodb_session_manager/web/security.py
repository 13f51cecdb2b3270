"""What every answer carries, and which requests are turned away before any handler sees them."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .binding import is_loopback
from .bodies import MOST_BODY_BYTES, BodyLimit
from .errors import INTERNAL_ERROR, ApiError, error_response
from .logs import where_it_failed

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # `data:` and `blob:` cannot reach another host, and an image cannot run scripts.
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Addresses hold session ids, which concern only those who may read the session.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Set on every answer that does not set the header itself."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FROM_HERE = frozenset({"same-origin", "none"})
OF_PROXIES = frozenset(
    {
        "ali-cdn-real-ip",
        "cdn-loop",
        "cdn-src-ip",
        "client-ip",
        "do-connecting-ip",
        "forwarded",
        "forwarded-for",
        "incap-client-ip",
        "proxy-client-ip",
        "surrogate-capability",
        "true-client-ip",
        "via",
        "wl-proxy-client-ip",
        "x-bluecoat-via",
        "x-client-ip",
        "x-cloud-trace-context",
        "x-cluster-client-ip",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-proxy-id",
        "x-real-ip",
        "x-real-port",
        "x-remote-addr",
        "x-remote-ip",
        "x-scheme",
        "x-sucuri-clientip",
        "x-varnish",
    }
)
"""Headers that proxies add, besides all that begin as `OF_PROXIES_BEGIN` says."""

OF_PROXIES_BEGIN = (
    "akamai-",
    "cf-",
    "cloudfront-",
    "fastly-",
    "fly-",
    "tailscale-",
    "x-akamai-",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-arr-",
    "x-azure-",
    "x-envoy-",
    "x-forwarded",
    "x-ms-forwarded-",
    "x-nf-",
    "x-original-",
    "x-vercel-",
)

_API_PREFIX = "/api/"
_is_host = re.compile(r"(\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[^\s:/?#@\[\]\\]+)(:\d{0,5})?").fullmatch


@dataclass(frozen=True)
class Policy:
    """Who may talk to an app.

    Attributes:
        open_to_loopback_only: There is no password, so only this machine may ask, without a proxy in between.
        behind_proxy: There is no password, but a proxy in front of the app asks for one.
        allowed_hosts: Names by which the server may be asked, besides `localhost` and addresses; `*` for any. A page of
            another host whose name was made to point here (DNS rebinding) asks by its own name and is refused.
        hosts_setting: How the user names `allowed_hosts`, for the message.
        allowed_origins: Other origins whose pages may use the API, such as `https://console.example.com`.
        allowed_headers: Request headers that those pages may send.
        most_body_bytes: Bytes that a request's body may have.
    """

    open_to_loopback_only: bool
    behind_proxy: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    hosts_setting: str = "VIEWER_ALLOWED_HOSTS"
    allowed_origins: frozenset[str] = frozenset()
    allowed_headers: tuple[str, ...] = field(default=())
    most_body_bytes: int = MOST_BODY_BYTES


def install_security(app: FastAPI, policy: Policy) -> None:
    """Add the middleware; call it after everything else that adds some, so that it comes first."""
    app.add_middleware(BodyLimit, most_bytes=policy.most_body_bytes)
    app.add_middleware(RequestGuard, policy=policy)
    if policy.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(policy.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[*policy.allowed_headers, "Content-Type", "Last-Event-ID"],
        )
    app.add_middleware(ResponseHeaders)


def parse_hosts(values: Iterable[str]) -> frozenset[str]:
    """Return host names in the form in which they are compared.

    Raises:
        ValueError: One is not a host name without a port, or `*`.
    """
    found = set()
    for value in values:
        name = value.strip().lower().rstrip(".")
        if name != "*" and (_host_name(name) != name or not name):
            raise ValueError(f"it must hold host names only, such as sessions.example.com, got {value!r}")
        found.add(name)
    return frozenset(found)


def parse_origins(values: Iterable[str]) -> frozenset[str]:
    """Return origins in the form in which browsers send them.

    Raises:
        ValueError: One is not `scheme://host[:port]`; `*` is none.
    """
    found = set()
    for value in values:
        parts = urlsplit(value.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"it must hold origins only, such as https://console.example.com, got {value!r}")
        found.add(f"{parts.scheme}://{parts.netloc.lower()}")
    return frozenset(found)


class ResponseHeaders:
    """Sets `SECURITY_HEADERS` on every answer, those of errors and static files included.

    Unexpected errors end here: further out they would be answered without the headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if started:
                raise
            # Where, not what: texts of unexpected errors may quote anything.
            logger.error("method=<%s> | request failed: %s", scope["method"], where_it_failed(error))
            await error_response(INTERNAL_ERROR)(scope, receive, send_with_headers)


class RequestGuard:
    """Refuses requests of other sites, and without a password everything that does not come from this machine."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            refusal = self._refusal(scope, Headers(scope=scope))
            if refusal is not None:
                await error_response(refusal)(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> ApiError | None:
        policy = self._policy
        if policy.open_to_loopback_only and not policy.behind_proxy and not _is_local(scope, headers):
            return ApiError(
                403,
                "local_only",
                "without a password the server answers only this machine, by the name localhost or 127.0.0.1; "
                "set a password to use it from elsewhere or through a proxy",
            )
        if not _is_known_host(headers.get("host", ""), policy.allowed_hosts):
            message = f"the server is not known by this host name; if it is its own, name it in {policy.hosts_setting}"
            return ApiError(403, "unknown_host", message)
        if self._is_foreign(scope, headers):
            return ApiError(403, "cross_origin", "requests from pages of other origins are not allowed")
        return None

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether another site's page sends this. Programs that are no browsers send none of these headers."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.lower() in self._policy.allowed_origins:
            return False
        is_call = scope["method"] not in _SAFE_METHODS or scope["path"].startswith(_API_PREFIX)
        if not is_call:
            return False  # A link to a page of the app.
        if site is not None:
            return site not in _FROM_HERE
        if origin is None:
            return False
        # Behind a proxy that ends TLS the scheme may differ, so only the host is compared.
        return _host_of(origin) != (headers.get("host") or "").lower()


def _is_local(scope: Scope, headers: Headers) -> bool:
    client = scope.get("client")
    # A Unix socket has no address.
    if client is not None and not is_loopback(client[0]):
        return False
    # Some write underscores.
    names = [name.replace("_", "-") for name in headers]
    if any(name in OF_PROXIES or name.startswith(OF_PROXIES_BEGIN) for name in names):
        return False
    name = _host_name(headers.get("host", ""))
    return name is not None and is_loopback(name)


def _is_known_host(host: str, allowed: frozenset[str]) -> bool:
    if "*" in allowed:
        return True
    name = _host_name(host)
    if name is None:
        return False
    if is_loopback(name) or name.rstrip(".") in allowed:
        return True
    try:
        # No name of anybody else's leads here by an address.
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str | None:
    """Return the name in a `Host` header, None when it is none: nothing but a name and a port may stand there."""
    return urlsplit(f"//{host}").hostname if _is_host(host) else None


def _host_of(origin: str) -> str | None:
    """Return the host and port of an origin, None when it is no origin."""
    _, separator, host = origin.lower().partition("://")
    return host if separator and _is_host(host) else None
