"""Logins: how many there may be, what ends them, and what ends with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mongodb_session_manager.viewer import logins
from mongodb_session_manager.viewer.logins import Logins
from mongodb_session_manager.web import event_streams
from mongodb_session_manager.web.security import OF_PROXIES, OF_PROXIES_BEGIN
from tests.apps.served import app_of, listening
from tests.apps.viewer.conftest import PASSWORD, SEARCH, OpenViewer, client_of
from tests.apps.viewer.stored import message, session
from tests.apps.viewer.test_live import Stream, streaming
from tests.fixtures.sessions import Sessions

OWN = "the-password-of-mine-0123456789ab"


@pytest.fixture(autouse=True)
def stored(sessions: Sessions) -> None:
    document = session("s-1", agents={"a": [message("user", "hello")]})
    sessions.raw.insert_one({**document, "session_viewer_password": OWN})


def test_logins_to_one_session_push_out_only_each_other() -> None:
    now = [0.0]
    kept = Logins(clock=lambda: now[0])
    everything = [kept.add(None, None) for _ in range(3)]
    other = kept.add("other", b"proof")

    own = [kept.add("mine", b"proof") for _ in range(10_100)]

    assert all(kept.find(token) for token in [*everything, other])
    assert [kept.find(token) is not None for token in own[-logins.MOST_OF_A_SESSION - 1 :]] == [
        False,
        *[True] * logins.MOST_OF_A_SESSION,
    ]
    now[0] = logins.LOGIN_S
    assert not any(kept.find(token) for token in [*everything, other, own[-1]])


def test_the_number_of_logins_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MOST_FULL", 5)
    monkeypatch.setattr(logins, "MOST_OF_SESSIONS", 7)
    kept = Logins()
    full = [kept.add(None, None) for _ in range(9)]
    single = [kept.add(f"s-{number}", b"proof") for number in range(20)]

    assert [token for token in full if kept.find(token)] == full[-5:]
    assert [token for token in single if kept.find(token)] == single[-7:]
    kept.end(single[-1])
    kept.end("no login")
    assert kept.find(single[-1]) is None


async def test_an_administrator_stays_logged_in_whatever_a_sessions_reader_does(open_viewer: OpenViewer) -> None:
    async with open_viewer(backend_password=PASSWORD) as viewer:
        await viewer.client.post("/api/v1/login", json={"password": PASSWORD})
        for _ in range(200):
            async with client_of(viewer.app) as reader:
                answer = await reader.post("/api/v1/login", json={"password": OWN, "session_id": "s-1"})
                assert answer.status_code == 200
        assert (await viewer.client.get(SEARCH)).status_code == 200


@pytest.mark.parametrize("second", [{"password": PASSWORD}, {"password": OWN, "session_id": "s-1"}])
async def test_a_second_login_of_a_browser_ends_its_first(open_viewer: OpenViewer, second: dict[str, str]) -> None:
    async with open_viewer(backend_password=PASSWORD) as viewer:
        await viewer.client.post("/api/v1/login", json={"password": PASSWORD})
        [(name, first)] = viewer.client.cookies.items()
        await viewer.client.post("/api/v1/login", json=second)
        async with client_of(viewer.app) as thief:
            with_the_first = await thief.get(SEARCH, headers={"Cookie": f"{name}={first}"})

    assert with_the_first.status_code == 401


async def test_guesses_from_everywhere_at_one_target_are_limited(open_viewer: OpenViewer) -> None:
    async with AsyncExitStack() as stack:
        viewer = await stack.enter_async_context(open_viewer(backend_password=PASSWORD))
        known = await stack.enter_async_context(client_of(viewer.app, address=("198.51.100.1", 1)))
        assert (await known.get(SEARCH, headers={"X-Password": PASSWORD})).status_code == 200
        statuses = []
        for number in range(110):
            async with client_of(viewer.app, address=(f"203.0.113.{number}", 1)) as stranger:
                body = {"password": f"guess {number}"}
                statuses.append((await stranger.post("/api/v1/login", json=body)).status_code)
        for_the_known = (await known.get(SEARCH, headers={"X-Password": PASSWORD})).status_code
        other_target = await known.get("/api/v1/sessions/s-1", headers={"X-Session-Password": OWN})

    assert statuses == [401] * 100 + [429] * 10
    assert for_the_known == other_target.status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
async def test_a_header_that_anybody_can_send_is_no_address(sessions: Sessions, header: str) -> None:
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        statuses = [
            (await client.get(SEARCH, headers={"X-Password": "a guess", header: f"203.0.113.{number}"})).status_code
            for number in range(12)
        ]

    assert statuses == [401] * 10 + [429] * 2


async def test_addresses_that_a_configured_proxy_passes_on_count_for_themselves(sessions: Sessions) -> None:
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD), "127.0.0.1") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        statuses = [
            (
                await client.get(SEARCH, headers={"X-Password": "a guess", "X-Forwarded-For": f"203.0.113.{last}"})
            ).status_code
            for last in [*range(12), *[7] * 10]
        ]

    assert statuses == [401] * 21 + [429]


PROXIED = {
    "Forwarded": "for=203.0.113.9",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Server": "proxy",
    "X-Real-IP": "127.0.0.1",
    "Via": "1.1 proxy",
    "CF-Connecting-IP": "203.0.113.9",
    "True-Client-IP": "203.0.113.9",
    "X-Client-IP": "203.0.113.9",
    "X-Cluster-Client-IP": "203.0.113.9",
    "CF-Ray": "7d0",
    "CloudFront-Viewer-Address": "203.0.113.9:443",
    "X-Amz-Cf-Id": "a",
    "X-Amzn-Trace-Id": "Root=1",
    "X-Azure-ClientIP": "203.0.113.9",
    "X-ARR-LOG-ID": "a",
    "X-Cloud-Trace-Context": "a/1",
    "X-AppEngine-User-IP": "203.0.113.9",
    "Fastly-Client-IP": "203.0.113.9",
    "Fly-Client-IP": "203.0.113.9",
    "X-Envoy-Expected-Rq-Timeout-Ms": "1",
    "X-Original-URL": "/",
    "X-Varnish": "1",
    "Surrogate-Capability": "a",
    "WL-Proxy-Client-IP": "203.0.113.9",
    "X_Forwarded_For": "127.0.0.1",
    "x-FORWARDED_for": "127.0.0.1",
    "X-ForwardedFor": "127.0.0.1",
    "X-NF-Client-Connection-Ip": "203.0.113.9",
    "X-MS-Forwarded-Client-IP": "203.0.113.9",
    "Tailscale-User-Login": "a@b.example",
    "Akamai-Origin-Hop": "1",
    "Ali-Cdn-Real-Ip": "203.0.113.9",
    "X-BlueCoat-Via": "a",
}
PROXIED |= dict.fromkeys(OF_PROXIES, "a") | {f"{beginning}a": "a" for beginning in OF_PROXIES_BEGIN}


async def test_an_open_viewer_refuses_what_came_through_a_proxy(open_viewer: OpenViewer) -> None:
    async with open_viewer() as viewer:
        for header, value in PROXIED.items():
            for path in ("/", SEARCH, "/health"):
                answer = await viewer.client.get(path, headers={header: value})
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "local_only"), header


def test_the_deployment_page_names_every_header_that_shows_a_proxy() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/deployment.md").read_text()
    listed = page.partition("Headers that show a proxy")[2].partition("\n\n## ")[0]
    named = {name.lower() for name in re.findall(r"`([A-Za-z-]+\*?)`", listed)}

    assert OF_PROXIES | {f"{beginning}*" for beginning in OF_PROXIES_BEGIN} <= named


SPELLINGS = [
    *PROXIED,
    *(f"X-Forwarded-For{tail}" for tail in ("-", "2", "_")),
    *("X-Forwarded", "HTTP-X-Forwarded-For", "Remote-Addr", "X-Remote-User", "X-Host", "X-ProxyUser-Ip"),
]


async def test_no_header_at_all_changes_who_a_client_is_without_trust(sessions: Sessions) -> None:
    # One guess too many for this client, whatever it says of itself.
    async with open_app(sessions) as client:
        for number in range(10):
            await client.get(SEARCH, headers={"X-Password": f"guess {number}"})
        for number, header in enumerate(SPELLINGS):
            value = f"for=203.0.113.{number}" if header == "Forwarded" else f"203.0.113.{number}"
            answer = await client.get(SEARCH, headers={"X-Password": "a guess", header: value})
            assert answer.status_code == 429, header


async def test_with_trust_only_one_header_says_who_a_client_is(sessions: Sessions) -> None:
    others = [name for name in SPELLINGS if name.lower() != "x-forwarded-for"]
    async with open_app(sessions, "127.0.0.1") as client:
        for number in range(10):
            await client.get(SEARCH, headers={"X-Password": f"guess {number}"})
        for number, header in enumerate(others):
            answer = await client.get(SEARCH, headers={"X-Password": "a guess", header: f"203.0.113.{number}"})
            assert answer.status_code == 429, header
        told = await client.get(SEARCH, headers={"X-Password": "a guess", "X-Forwarded-For": "203.0.113.9"})

    assert told.status_code == 401


@pytest.mark.parametrize(
    ("forwarded", "same"),
    [
        # A proxy that appends: what it was sent stands before what it saw.
        ("{n}.0.0.1, 203.0.113.9", True),
        ("127.0.0.1, 203.0.113.9", True),
        ("junk {n}, 203.0.113.9", True),
        ("203.0.113.9, 127.0.0.1", True),
        ("203.0.113.{n}", False),
    ],
)
async def test_of_a_forwarded_list_the_last_stranger_counts(sessions: Sessions, forwarded: str, same: bool) -> None:
    async with open_app(sessions, "127.0.0.1") as client:
        statuses = [
            (
                await client.get(SEARCH, headers={"X-Password": "a guess", "X-Forwarded-For": forwarded.format(n=n)})
            ).status_code
            for n in range(11)
        ]

    assert statuses == [401] * 10 + [429 if same else 401]


@asynccontextmanager
async def open_app(sessions: Sessions, trusted: str = "") -> AsyncIterator[httpx.AsyncClient]:
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD), trusted) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        yield client


async def test_with_a_password_too_only_known_hosts_are_answered(open_viewer: OpenViewer) -> None:
    async def status(viewer: Any, host: str) -> int:
        answer: httpx.Response = await viewer.client.get(SEARCH, headers={"Host": host, "X-Password": PASSWORD})
        return answer.status_code

    hosts = ["localhost:8882", "127.0.0.1", "[::1]:8882", "192.0.2.7:8882", "sessions.example.com", "evil.example", ""]
    async with open_viewer(backend_password=PASSWORD) as viewer:
        by_default = [await status(viewer, host) for host in hosts]
    async with open_viewer(backend_password=PASSWORD, allowed_hosts_str="Sessions.example.com") as viewer:
        named = [await status(viewer, host) for host in hosts]
    async with open_viewer(backend_password=PASSWORD, allowed_hosts_str="*") as viewer:
        anything = [await status(viewer, host) for host in hosts]

    assert by_default == [200, 200, 200, 200, 403, 403, 403]
    assert named == [200, 200, 200, 200, 200, 403, 403]
    assert anything == [200] * 7


@asynccontextmanager
async def following(address: str, **options: Any) -> AsyncIterator[Stream]:
    async with streaming(address, "s-1", **options) as stream:
        await stream.until("ready")
        await stream.until("session")
        yield stream


@pytest.mark.parametrize("password", [{"password": PASSWORD}, {"password": OWN, "session_id": "s-1"}])
@pytest.mark.parametrize("silent", [False, True])
async def test_a_stream_ends_with_the_login_that_opened_it(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, password: dict[str, str], silent: bool
) -> None:
    monkeypatch.setattr(event_streams, "PING_S", 0.1 if silent else 60.0)
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser,
    ):
        await browser.post("/api/v1/login", json=password)
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        async with following(f"http://127.0.0.1:{port}", headers=cookie) as stream:
            await browser.post("/api/v1/logout")
            if not silent:
                said_later = {"agents.a.messages": {"message_id": 1, **message("user", "a secret")}}
                sessions.raw.update_one({"_id": "s-1"}, {"$push": said_later, "$inc": {"agents.a.next_message_id": 1}})
            assert await stream.event() == ("access_ended", {})
            with pytest.raises(AssertionError, match="the stream ended"):
                await stream.event()


async def test_every_stream_ends_with_the_login_that_opened_it(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "PING_S", 0.1)
    app = app_of("viewer", sessions, backend_password=PASSWORD)
    streams = [path for path in app.openapi()["paths"] if path.endswith("/events")]
    assert len(streams) >= 2
    async with (
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser,
    ):
        for path in streams:
            await browser.post("/api/v1/login", json={"password": PASSWORD})
            async with browser.stream("GET", path.replace("{session_id}", "s-1")) as answer:
                assert answer.status_code == 200
                await browser.post("/api/v1/logout")
                said = "".join([text async for text in answer.aiter_text()])
            assert said.endswith("event: access_ended\ndata: {}\n\n"), path


@pytest.mark.parametrize("headers", [{"X-Password": PASSWORD}, {"X-Session-Password": OWN}])
async def test_a_stream_does_not_go_on_in_a_session_that_was_made_anew(
    sessions: Sessions, headers: dict[str, str]
) -> None:
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD)) as port,
        following(f"http://127.0.0.1:{port}", headers=headers) as stream,
    ):
        anew = session("s-1", agents={"a": [message("user", "hello"), message("user", "a secret of others")]})
        sessions.raw.replace_one({"_id": "s-1"}, {**anew, "session_viewer_password": "another one"})
        name, data = await stream.event()
        with pytest.raises(AssertionError, match="the stream ended"):
            await stream.event()

    # With the session's password, the access is over before the session's end is seen.
    assert (name, data) == ("deleted" if "X-Password" in headers else "access_ended", {})


async def test_a_stream_with_a_sessions_password_ends_when_that_changes(sessions: Sessions) -> None:
    async with (
        listening(app_of("viewer", sessions, backend_password=PASSWORD)) as port,
        following(f"http://127.0.0.1:{port}", headers={"X-Session-Password": OWN}) as stream,
    ):
        changed = {"session_viewer_password": "another one", "metadata": {"topic": "a secret"}}
        sessions.raw.update_one({"_id": "s-1"}, {"$set": changed})
        assert await asyncio.wait_for(stream.event(), 60) == ("access_ended", {})
