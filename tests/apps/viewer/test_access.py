from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from mongodb_session_manager.viewer.addresses import decode_segment, encode_segment, session_url
from mongodb_session_manager.web import ApiError
from tests.apps.viewer.conftest import PASSWORD, SEARCH, OpenViewer, Viewer, client_of, make_settings
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions

OWN = "the-password-of-mine-0123456789ab"
IDS = ["mine", "other", "search", "a/b", "..", "x/export", "~tilde", "übung 1", "mine/../other", "%2e%2e"]
OF_A_SESSION = ["", "/message?agent_id=a&message_id=0", "/image?agent_id=a&message_id=0&place=0", "/usage", "/export"]
ALL = [SEARCH, "/api/v1/metadata-fields"]


@pytest.fixture
async def guarded(sessions: Sessions, open_viewer: OpenViewer) -> AsyncIterator[Viewer]:
    sessions.raw.insert_many(session(name, agents={"a": [message("user", f"said in {name}")]}) for name in IDS)
    sessions.raw.update_one({"_id": "mine"}, {"$set": {"session_viewer_password": OWN}})
    sessions.raw.update_one({"_id": "other"}, {"$unset": {"session_viewer_password": ""}})
    async with open_viewer(backend_password=PASSWORD) as viewer:
        yield viewer


def code_of(answer: httpx.Response) -> Any:
    return answer.json()["error"]["code"]


async def test_without_a_password_nothing_is_shown(guarded: Viewer) -> None:
    for path in [*ALL, *(session_url(name) + part for name in IDS for part in [*OF_A_SESSION, "/events"])]:
        answer = await guarded.client.get(path)
        assert (answer.status_code, code_of(answer)) == (401, "login_required"), path
        assert "said in" not in answer.text


async def test_the_viewers_password_opens_everything(guarded: Viewer) -> None:
    headers = {"X-Password": PASSWORD}
    for path in [*ALL, *(session_url(name) for name in IDS)]:
        assert (await guarded.client.get(path, headers=headers)).status_code == 200, path
    for name in IDS:
        found = (await guarded.client.get(session_url(name), headers=headers)).json()
        assert found["session_id"] == name
        assert found["timeline"][0]["content"][0]["text"] == f"said in {name}"


async def test_a_sessions_password_opens_that_session_only(guarded: Viewer) -> None:
    headers = {"X-Session-Password": OWN}

    assert (await guarded.client.get("/api/v1/sessions/mine", headers=headers)).status_code == 200
    for path in ALL:
        assert code_of(await guarded.client.get(path, headers=headers)) == "session_only", path
    for name in IDS[1:]:
        answer = await guarded.client.get(session_url(name), headers=headers)
        assert answer.status_code in (401, 429), name


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/sessions/mine/../other",
        "/api/v1/sessions/mine/%2e%2e/other",
        "/api/v1/sessions/mine%2F..%2Fother/export",
        "/api/v1/sessions/mine/..%2fother",
        "/api/v1/sessions//other",
        "/api/v1/sessions/./other",
        "/api/v1/sessions/other%00",
        "/api/v1/sessions/other/",
        "/API/v1/sessions/other",
        "/api/v1/sessions/other;mine",
        "/api/v1/sessions/other?session_id=mine",
        "/api/v1/sessions/~b3RoZXI",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/shared/..%2f..%2fsettings.py",
        "//etc/passwd",
    ],
)
async def test_no_trick_of_paths_gets_round_the_gate(guarded: Viewer, path: str) -> None:
    request = guarded.client.build_request("GET", "/", headers={"X-Session-Password": OWN})
    # As it stands there: the client would tidy the path up.
    raw = path.encode()
    request.url = request.url.copy_with(raw_path=raw)
    answer = await guarded.client.send(request, follow_redirects=True)

    assert answer.status_code in (401, 404), answer.text
    assert "said in other" not in answer.text
    assert "import" not in answer.text


async def test_a_session_without_a_password_is_never_opened_by_one(guarded: Viewer) -> None:
    for guess in ("", "None", "null", "undefined"):
        answer = await guarded.client.get("/api/v1/sessions/other", headers={"X-Session-Password": guess})
        assert code_of(answer) == "wrong_password"


@pytest.mark.parametrize("password", ["pässwört, lang genug", "пароль достаточно длинный", "Ã¤Ã¶Ã¼ looks decoded"])
async def test_a_password_of_any_letters_is_taken_in_the_encoding_that_a_program_sends(
    sessions: Sessions, open_viewer: OpenViewer, password: str
) -> None:
    sessions.raw.insert_one(session("mine") | {"session_viewer_password": password[::-1]})
    encodings = ["utf-8"] if ord(password[0]) > 255 else ["utf-8", "latin-1"]
    async with open_viewer(backend_password=password) as viewer:
        for encoding in encodings:
            for header, text in ((b"X-Password", password), (b"X-Session-Password", password[::-1])):
                answer = await viewer.client.get(session_url("mine"), headers=[(header, text.encode(encoding))])
                assert answer.status_code == 200, (header, encoding)
                wrong = await viewer.client.get(session_url("mine"), headers=[(header, text[1:].encode(encoding))])
                assert code_of(wrong) == "wrong_password", (header, encoding)


async def test_whether_a_session_exists_does_not_show(guarded: Viewer) -> None:
    answers = [
        await guarded.client.get(f"/api/v1/sessions/{name}", headers={"X-Session-Password": "a guess"})
        for name in ("mine", "there-is-none")
    ]

    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].text == answers[1].text
    unasked = [(await guarded.client.get(f"/api/v1/sessions/{name}")).text for name in ("mine", "there-is-none")]
    assert unasked[0] == unasked[1]


def guesses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in [*ALL, "/api/v1/sessions/mine", "/api/v1/sessions/mine/export"]:
        yield "GET", path, {"headers": {"X-Password": "a guess"}}
    for part in OF_A_SESSION:
        yield "GET", f"/api/v1/sessions/mine{part}", {"headers": {"X-Session-Password": "a guess"}}
    yield "POST", "/api/v1/login", {"json": {"password": "a guess"}}
    yield "POST", "/api/v1/login", {"json": {"password": "a guess", "session_id": "mine"}}


async def test_guessing_is_stopped_whichever_endpoint_is_asked(guarded: Viewer) -> None:
    statuses = [
        (await guarded.client.request(method, path, **options)).status_code for method, path, options in guesses()
    ]
    right = await guarded.client.get(SEARCH, headers={"X-Password": PASSWORD})
    async with client_of(guarded.app, address=("203.0.113.9", 1)) as other:
        elsewhere = await other.get(SEARCH, headers={"X-Password": PASSWORD})

    assert statuses == [401] * 10 + [429]
    assert right.status_code == 429
    assert 0 < int(right.headers["Retry-After"]) <= 300
    assert elsewhere.status_code == 200


async def test_guesses_sent_all_at_once_count_like_those_one_after_another(guarded: Viewer) -> None:
    answers = await asyncio.gather(
        *(
            guarded.client.get("/api/v1/sessions/mine", headers={"X-Session-Password": f"guess {number}"})
            for number in range(40)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 30


async def test_logging_in_gives_a_cookie_that_scripts_cannot_read(guarded: Viewer) -> None:
    before = await guarded.get("/api/v1/access")
    answer = await guarded.client.post("/api/v1/login", json={"password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    after = await guarded.get("/api/v1/access")
    shown = await guarded.client.get(SEARCH)
    out = await guarded.client.post("/api/v1/logout")

    assert before == {"access": "none", "session_id": None, "login_required": True}
    assert answer.json() == after == {"access": "all", "session_id": None, "login_required": True}
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert PASSWORD not in cookie
    assert shown.status_code == 200
    assert out.json()["access"] == "none"
    assert (await guarded.client.get(SEARCH)).status_code == 401


async def test_a_cookie_that_was_logged_out_is_worth_nothing_any_more(guarded: Viewer) -> None:
    await guarded.client.post("/api/v1/login", json={"password": PASSWORD})
    [(name, value)] = guarded.client.cookies.items()
    await guarded.client.post("/api/v1/logout")

    assert (await guarded.client.get(SEARCH, headers={"Cookie": f"{name}={value}"})).status_code == 401


async def test_over_tls_the_cookie_is_for_tls_only(guarded: Viewer) -> None:
    answer = await guarded.client.post("https://127.0.0.1:8882/api/v1/login", json={"password": PASSWORD})

    assert "Secure" in answer.headers["set-cookie"]


async def test_a_login_to_one_session_ends_with_that_session(guarded: Viewer, sessions: Sessions) -> None:
    login = await guarded.client.post("/api/v1/login", json={"password": OWN, "session_id": "mine"})
    shown = [(await guarded.client.get(session_url(name))).status_code for name in ("mine", "other")]
    searched = await guarded.client.get(SEARCH)
    # Deleted, and created anew by somebody else under the same id.
    sessions.raw.replace_one({"_id": "mine"}, session("mine"))
    later = await guarded.client.get("/api/v1/sessions/mine")

    assert login.json() == {"access": "session", "session_id": "mine", "login_required": True}
    assert shown == [200, 401]
    assert code_of(searched) == "session_only"
    assert later.status_code == 401
    assert (await guarded.get("/api/v1/access"))["access"] == "none"


async def test_without_a_password_everything_is_open_to_this_machine_alone(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("mine"))
    async with client_of(viewer.app, address=("192.0.2.7", 1)) as outside:
        from_outside = await outside.get("/api/v1/sessions/mine")
    rebound = await viewer.client.get("/api/v1/sessions/mine", headers={"Host": "evil.example:8882"})
    named = [
        (await viewer.client.get("/api/v1/sessions/mine", headers={"Host": host})).status_code
        for host in ("localhost:8882", "127.0.0.1", "[::1]:8882", "LOCALHOST")
    ]

    assert (await viewer.get("/api/v1/access")) == {"access": "all", "session_id": None, "login_required": False}
    assert (from_outside.status_code, code_of(from_outside)) == (403, "local_only")
    assert (rebound.status_code, code_of(rebound)) == (403, "local_only")
    assert named == [200, 200, 200, 200]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/v1/logout", {"Origin": "https://evil.example"}, 403),
        ("POST", "/api/v1/logout", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/api/v1/logout", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "/api/v1/logout", {"Origin": "null"}, 403),
        ("POST", "/api/v1/logout", {"Origin": "http://127.0.0.1:8882"}, 200),
        ("POST", "/api/v1/logout", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", "/api/v1/logout", {}, 200),
        ("GET", SEARCH, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", SEARCH, {"Origin": "http://127.0.0.1:9999"}, 403),
        ("GET", "/health", {"Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
async def test_pages_of_other_sites_cannot_use_the_api(
    viewer: Viewer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert (await viewer.client.request(method, path, headers=headers)).status_code == status


async def test_origins_that_are_allowed_may_use_it_with_a_password(open_viewer: OpenViewer) -> None:
    origin = "https://console.example.com"
    async with open_viewer(backend_password=PASSWORD, allowed_origins_str=f"{origin}, http://two.example") as viewer:
        preflight = await viewer.client.options(
            SEARCH,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "X-Password",
            },
        )
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "X-Password": PASSWORD}
        answer = await viewer.client.get(SEARCH, headers=headers)
        refused = await viewer.client.get(SEARCH, headers={**headers, "Origin": "https://evil.example"})

    assert preflight.status_code == 200
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("password", [None, "", "elevenchars"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "viewer.example.com", "127.0.0.1.example.com"])
def test_an_address_that_others_reach_needs_a_long_password(host: str, password: str | None) -> None:
    with pytest.raises(ValueError, match=r"VIEWER_PASSWORD(: it)? must have at least 12 characters") as raised:
        make_settings(backend_host=host, backend_password=password)
    assert "elevenchars" not in str(raised.value.__cause__ or raised.value).replace("'elevenchars'", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9", "::ffff:127.0.0.1"])
def test_this_machines_own_addresses_need_none(host: str) -> None:
    assert make_settings(backend_host=host).password is None


def test_a_long_password_opens_any_address() -> None:
    settings = make_settings(backend_host="0.0.0.0", backend_password="twelve-chars")

    assert settings.password == "twelve-chars"
    assert "twelve-chars" not in repr(settings)


@pytest.mark.parametrize(
    "session_id", [*IDS, ".", "", "\x00", "a:b@c", "日本", "-", "a" * 3000, "search/", "~", "\udcff"]
)
def test_every_session_id_has_an_address(session_id: str) -> None:
    segment = encode_segment(session_id)

    assert "/" not in segment
    assert segment not in ("", ".", "..", "search")
    if session_id in ("", "\udcff"):  # No session can have such an id.
        with pytest.raises(ApiError):
            decode_segment(segment)
    else:
        assert decode_segment(httpx.URL(f"http://h/{segment}").path.removeprefix("/")) == session_id
