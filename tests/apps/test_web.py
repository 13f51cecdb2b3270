"""What the web apps share, by itself."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from mongodb_session_manager.web import (
    AttemptLimiter,
    EventStream,
    ServerSentEvent,
    Stopping,
    TargetLimiter,
    check_binding,
    event_frame,
    is_loopback,
    parse_hosts,
    parse_origins,
)


def test_attempts_count_for_as_long_as_the_window() -> None:
    now = [0.0]
    limiter = AttemptLimiter(3, 60, clock=lambda: now[0])

    waits = []
    for second in range(5):
        now[0] = second
        waits.append(limiter.wait_s("192.0.2.1"))
        if second < 3:
            limiter.failed("192.0.2.1")
    now[0] = 60.5
    after_the_first = limiter.wait_s("192.0.2.1")

    assert waits == [0, 0, 0, 57, 56]
    assert after_the_first == 0
    assert limiter.wait_s("192.0.2.2") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("local", "local", True),
    ],
)
def test_a_client_is_an_address_or_an_ipv6_network(one: str, other: str, same: bool) -> None:
    limiter = AttemptLimiter(1, 60)
    limiter.failed(one)

    assert (limiter.wait_s(other) > 0) is same


def test_as_many_clients_as_there_may_be_take_bounded_memory() -> None:
    limiter = AttemptLimiter(1, 60)
    for number in range(10_001):
        limiter.failed(f"client {number}")

    assert limiter.wait_s("client 0") == 0
    assert limiter.wait_s("client 10000") > 0


def test_what_is_remembered_of_clients_and_targets_is_small_however_long_their_names_are() -> None:
    clients, targets = AttemptLimiter(1, 60), TargetLimiter(1, 60)
    name = ""
    tracemalloc.start()
    try:
        for number in range(300):
            name = f"{number:06}" * 10_000
            clients.failed(name)
            targets.failed(name)
            targets.succeeded(name, name)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 2_000_000
    assert clients.wait_s(name) > 0
    assert targets.wait_s(name, "another client") > 0
    assert targets.wait_s(name, name) == 0
    assert clients.wait_s(name + "0") == 0


@pytest.mark.parametrize("data", ["a\nevent: forged\n\ndata: x", {"text": "line\r\nline\u2028"}, [1, None]])
def test_an_event_is_one_line_of_data_whatever_it_holds(data: object) -> None:
    frame = event_frame(ServerSentEvent(data=data, event="token", id="7")).decode()

    lines = frame.split("\n")
    assert [line.partition(":")[0] for line in lines] == ["event", "data", "id", "", ""]
    assert "\r" not in frame


class Source:
    """Events that come when they are told to."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[ServerSentEvent | None] = asyncio.Queue()
        self.closed = False

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        try:
            while (event := await self.queue.get()) is not None:
                yield event
        finally:
            self.closed = True


async def test_silence_is_filled_with_comments_and_costs_no_event() -> None:
    source = Source()
    frames = EventStream(source.events(), ping_s=0.01).body_iterator.__aiter__()

    pings = [await anext(frames) for _ in range(3)]
    source.queue.put_nowait(ServerSentEvent(data=1))
    while (frame := await anext(frames)) == pings[0]:
        pass
    source.queue.put_nowait(None)
    rest = [frame async for frame in frames]

    assert set(pings) == {b": ping\n\n"}
    assert frame == b"data: 1\n\n"
    assert set(rest) <= {b": ping\n\n"}
    assert source.closed


async def test_streams_end_when_the_server_does_and_close_what_they_read() -> None:
    source, stopping = Source(), Stopping()
    frames = EventStream(source.events(), stopping=stopping).body_iterator.__aiter__()
    source.queue.put_nowait(ServerSentEvent(data=1))

    assert await anext(frames) == b"data: 1\n\n"
    stopping.set()
    with pytest.raises(StopAsyncIteration):
        await anext(frames)
    assert source.closed


async def test_an_error_of_the_source_ends_the_stream() -> None:
    async def failing() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data=1)
        raise LookupError("gone")

    frames = EventStream(failing()).body_iterator.__aiter__()

    assert await anext(frames) == b"data: 1\n\n"
    with pytest.raises(LookupError):
        await anext(frames)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("", False),
        ("localhost.x", False),
    ],
)
def test_loopback_addresses_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_binding_that_others_reach_says_what_it_needs() -> None:
    check_binding("127.0.0.1", None, host_setting="HOST", password_setting="PASSWORD")
    check_binding("0.0.0.0", "x" * 12, host_setting="HOST", password_setting="PASSWORD")
    with pytest.raises(
        ValueError, match=r"^invalid HOST: 0\.0\.0\.0 .* PASSWORD must have at least 12 characters \(it has none"
    ):
        check_binding("0.0.0.0", "", host_setting="HOST", password_setting="PASSWORD")


def test_origins_are_compared_as_browsers_send_them() -> None:
    assert parse_origins(["https://Console.Example.com", " http://h:80/ "]) == {
        "https://console.example.com",
        "http://h:80",
    }


def test_failures_at_a_target_hold_up_all_but_those_who_know_the_password() -> None:
    now = [0.0]
    limiter = TargetLimiter(3, 60, clock=lambda: now[0])
    limiter.succeeded("a", "192.0.2.1")
    for _ in range(3):
        limiter.failed("a")

    assert limiter.wait_s("a", "192.0.2.9") == 60
    assert limiter.wait_s("b", "192.0.2.9") == 0
    assert limiter.wait_s("a", "192.0.2.1") == 0
    now[0] = 24 * 3600 + 1
    for _ in range(3):
        limiter.failed("a")
    assert limiter.wait_s("a", "192.0.2.1") == 60


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "viewer.example.com"])
@pytest.mark.parametrize("password", ["x", " " * 12, "\t\n " * 8, "\u200b" * 20, "eleven char" + " " * 9])
def test_a_password_that_can_be_guessed_is_refused_everywhere(host: str, password: str) -> None:
    with pytest.raises(
        ValueError, match=r"^invalid PASSWORD: it must have at least 12 characters that are not blanks"
    ) as raised:
        check_binding(host, password, host_setting="HOST", password_setting="PASSWORD")
    assert password not in str(raised.value)


def test_host_names_are_compared_in_one_form() -> None:
    assert parse_hosts([" Sessions.Example.com. ", "*"]) == {"sessions.example.com", "*"}
    for wrong in ("https://a.example", "a.example:80", "a/b", "", "a b@c"):
        with pytest.raises(ValueError, match="it must hold host names only"):
            parse_hosts([wrong])


class Access:
    """Access that ends when it is told to."""

    def __init__(self) -> None:
        self.holds = True

    async def still_holds(self) -> bool:
        return self.holds


async def test_a_stream_ends_with_its_access_at_the_next_event_or_ping() -> None:
    for ping_s in (0.01, 60):
        source, access = Source(), Access()
        stream = EventStream(source.events(), ping_s=ping_s, still_holds=access.still_holds)
        frames = stream.body_iterator.__aiter__()
        source.queue.put_nowait(ServerSentEvent(data=1))
        first = await anext(frames)
        while first == b": ping\n\n":
            first = await anext(frames)
        access.holds = False
        if ping_s == 60:
            source.queue.put_nowait(ServerSentEvent(data="not for these eyes"))
        last = [frame async for frame in frames]

        assert first == b"data: 1\n\n"
        assert [frame for frame in last if frame != b": ping\n\n"] == [b"event: access_ended\ndata: {}\n\n"]
        assert source.closed
