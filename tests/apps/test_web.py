"""What the web apps share, by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mongodb_session_manager.web import (
    AttemptLimiter,
    EventStream,
    ServerSentEvent,
    Stopping,
    check_binding,
    event_frame,
    is_loopback,
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
    with pytest.raises(ValueError, match=r"HOST=0\.0\.0\.0 .* PASSWORD must have at least 12 characters \(it has none"):
        check_binding("0.0.0.0", "", host_setting="HOST", password_setting="PASSWORD")


def test_origins_are_compared_as_browsers_send_them() -> None:
    assert parse_origins(["https://Console.Example.com", " http://h:80/ "]) == {
        "https://console.example.com",
        "http://h:80",
    }
