"""Requests that no client library would send: refused or answered, never a fault of the server, never two at once."""

from __future__ import annotations

import re

import pytest

from tests.apps.served import APPS, App, answer_on, app_of, connected, listening
from tests.apps.viewer.conftest import PASSWORD, client_of
from tests.fixtures.sessions import Sessions

PATHS: dict[App, bytes] = {"viewer": b"/api/v1/login", "playground": b"/api/chat"}
_END = b"Connection: close\r\n\r\n"
_HOST = b"Host: 127.0.0.1\r\n"
_GET = b"GET /health HTTP/1.1\r\n" + _HOST
_DEEP = b'{"a":' * 6_000 + b"1" + b"}" * 6_000


def heads(path: bytes) -> list[bytes]:
    """Return requests whose heads are odd."""
    post = b"POST " + path + b" HTTP/1.1\r\n" + _HOST
    hosts = [b"", b":", b"[::1", b"]", b"[x]:y", b"evil@127.0.0.1", b"127.0.0.1:9" + b"9" * 400, b"\xff"]
    hosts.append(b"a" * 60_000)
    origins = [
        b"http://[::1",
        b"http://]",
        b"null",
        b"//",
        b"http://\xff",
        b"http://a:b:c",
        b"http://[x]:y",
        b"\xe2\x84\x80",
    ]
    lines = [
        b"X: " + b"y" * 60_000,
        b"Cookie: " + b"; ".join(b"c%d=v" % number for number in range(4_000)),
        b'Cookie: session_viewer_8882="\\400\\777\xff; ==;;; =a',
        b"\r\n".join(b"X%d:" % number for number in range(4_000)),
        b"X-Password: \xff\xfe\r\nX-Session-Password: \xe9",
        b"Range: bytes=" + b",".join(b"0-%d" % number for number in range(4_000)),
        b"Range: bytes=-" + b"9" * 300,
        b"If-Range: \xff\r\nIf-Modified-Since: Mon, 32 Foo 99999 99:99:99 GMT\r\nRange: bytes=0-1",
        b"Accept-Encoding: " + b"gzip;q=1," * 5_000,
        b"Last-Event-ID: \xff",
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
        b"Access-Control-Request-Method: \xff\r\nOrigin: http://[",
    ]
    methods = [b"CONNECT", b"TRACE", b"OPTIONS", b"A" * 5_000, b"\xc3"]
    texts = [b'"\xff"', "{}".encode("utf-16le"), b'{"password": "\\ud800"}', b"[Infinity, NaN]", _DEEP, b"", b"\0"]
    kinds = [b"multipart/form-data", b"\xff", b"application/json; charset=utf-7", b"text/plain", b"x" * 5_000]
    targets = [
        b"http://evil/health",
        b"*",
        b"/" + b"a" * 60_000,
        b"/\xc3\xa9",
        b"/static/%00",
        b"/static/" + b"a" * 5_000,
        b"/static/%2e%2e/%2e%2e/etc/passwd",
        b"/shared/%ed%a0%80",
        b"/api/v1/sessions/%ff%00/%zz%2",
        b"/api/sessions/%ff%00",
        b"/?" + b"a=b&" * 10_000,
    ]
    return [
        *(b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\n" + _END for host in hosts),
        *(post + b"Origin: " + origin + b"\r\nContent-Length: 2\r\n" + _END + b"{}" for origin in origins),
        *(
            b"GET %s HTTP/1.1\r\n" % target + _HOST + line + b"\r\n" + _END
            for target in (b"/", b"/shared/tokens.css")
            for line in lines
        ),
        *(
            b"%s %s HTTP/1.1\r\n" % (method, target) + _HOST + _END
            for target in targets
            for method in (b"GET", b"POST")
        ),
        *(method + b" / HTTP/1.1\r\n" + _HOST + _END for method in methods),
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + _END,
        b"GET /health HTTP/1.1\r\nHost: evil.example\r\n" + _HOST + _END,
        b"GET /health\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _GET + b"no colon\r\n\r\n",
        _GET + b"X : y\r\n\r\n",
        _GET + b"X: a\0b\r\n\r\n",
        _GET + b"X: a\rb\r\n\r\n",
        *(
            post + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) + _END + body
            for body in texts
        ),
        *(post + b"Content-Type: " + kind + b"\r\nContent-Length: 2\r\n" + _END + b"{}" for kind in kinds),
    ]


def framings(path: bytes) -> list[bytes]:
    """Return requests whose bodies end where it is not clear, or in an odd way."""
    post = b"POST " + path + b" HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n"
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    codings, lengths = (
        [b"gzip, chunked", b"xchunked", b"\x0bchunked"],
        [b"-2", b"+2", b"9" * 5_000, b"\xd9\xa2", b"2, 3"],
    )
    return [
        *(chunked + size + b"\r\n{}\r\n0\r\n\r\n" for size in (b"zz", b"-2", b"0x2", b"f" * 200, b"0" * 60_000, b"")),
        *(chunked + b"2;" + b"a" * length + b"\r\n{}\r\n0\r\n\r\n" for length in (10, 60_000)),
        chunked + b"1;a=b\r\n{\r\n" * 3_000 + b"0\r\n\r\n",
        chunked + b"2\r\n{}X0\r\n\r\n",
        chunked + b"2\r\n{}\r\n0\r\n\r\ntrailing garbage",
        chunked + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 9_000 + b"\r\n",
        *(post + b"Transfer-Encoding: " + how + b"\r\n\r\n0\r\n\r\n" for how in codings),
        *(post + b"Content-Length: " + length + b"\r\n\r\n{}" for length in lengths),
        post + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        post + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ]


@pytest.mark.parametrize("name", APPS)
async def test_nothing_that_is_sent_makes_the_server_fail(sessions: Sessions, name: App) -> None:
    options = {"backend_password": PASSWORD} if name == "viewer" else {}
    async with listening(app_of(name, sessions, **options)) as port:
        for request in [*heads(PATHS[name]), *framings(PATHS[name])]:
            async with connected(port) as (reader, writer):
                writer.write(request)
                answer = await answer_on(reader)
            # Of a head that is too large the rest is not read, and the answer may be lost with the connection.
            assert answer.status < 500, request[:200]
            assert answer.status or len(request) > 50_000, request[:200]
            assert not re.search("HTTP/1.1 (?!400)", answer.text), request[:200]


@pytest.mark.parametrize("name", APPS)
async def test_a_body_with_two_ends_is_refused_and_the_connection_with_it(sessions: Sessions, name: App) -> None:
    hidden = b"GET /health HTTP/1.1\r\n" + _HOST + b"\r\n"
    post = b"POST " + PATHS[name] + b" HTTP/1.%d\r\n" + _HOST
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    reversed_ = b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % len(b"2\r\n{}\r\n0\r\n\r\n" + hidden)
    async with listening(app_of(name, sessions)) as port:
        for request in (
            post % 1 + both + b"\r\n0\r\n\r\n" + hidden,
            post % 1 + reversed_ + b"\r\n2\r\n{}\r\n0\r\n\r\n" + hidden,
            # HTTP/1.0 knows no chunks: a proxy may take this for a request without a body.
            post % 0 + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        ):
            async with connected(port) as (reader, writer):
                writer.write(request)
                answer = await answer_on(reader)
            assert answer.status == 400, request
            assert not re.search(r"HTTP/1\.1 \d", answer.text), request
            assert "connection: close" in answer.text.lower()


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize(
    "host", ["evil@127.0.0.1", "127.0.0.1/x", "127.0.0.1?x", "127.0.0.1#", "[::1", "127.0.0.1:x", " "]
)
async def test_a_host_is_a_name_and_a_port_and_nothing_else(sessions: Sessions, name: App, host: str) -> None:
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        answer = await client.get("/health", headers={"Host": host})

    assert answer.status_code == 403


@pytest.mark.parametrize("name", APPS)
async def test_an_origin_that_is_none_is_another_one(sessions: Sessions, name: App) -> None:
    app = app_of(name, sessions)
    async with app.router.lifespan_context(app), client_of(app) as client:
        for origin in ("http://[::1", "http://]", "x", "http://127.0.0.1:8882@evil.example", "", "http://", "null"):
            answer = await client.post(PATHS[name].decode(), json={}, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), origin
