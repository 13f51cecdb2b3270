"""Clients that are slow, idle or many do not keep others from being served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from mongodb_session_manager.web.connections import PatientProtocol
from tests.apps.served import answer_on, app_of, connected, listening
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import WAIT_S

HALVES = [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"POST /api"]


async def test_half_a_head_is_not_waited_for(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "head_s", 0.2)
    async with listening(app_of("viewer", sessions)) as port, AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(port)) for _ in range(50)]
        for number, (_, writer) in enumerate(opened):
            writer.write(HALVES[number % len(HALVES)])
        # Ended by the server: each of these would wait for ever.
        answers = await asyncio.gather(*(answer_on(reader) for reader, _ in opened))

    assert {answer.status for answer in answers} == {0}


async def test_a_head_that_comes_in_drops_is_not_waited_for(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "head_s", 0.3)
    async with listening(app_of("viewer", sessions)) as port, connected(port) as (reader, writer):
        answering = asyncio.create_task(answer_on(reader))
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        async with asyncio.timeout(WAIT_S):
            while not answering.done():
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.02)

    assert (await answering).status == 0


async def test_too_many_connections_cost_those_that_wait_longest(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "most_connections", 20)
    async with listening(app_of("viewer", sessions)) as port, AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(port)) for _ in range(60)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
            answer = await client.get("/health")
            first = await answer_on(opened[0][0])

    assert answer.status_code == 200
    assert first.status == 0


async def test_connections_that_last_do_not_keep_others_out(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "most_connections", 20)
    sessions.raw.insert_one({"_id": "s-1"})
    follow = b"GET /api/v1/sessions/s-1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with listening(app_of("viewer", sessions)) as port, AsyncExitStack() as stack:
        opened = []
        for _ in range(20):
            reader, writer = await stack.enter_async_context(connected(port))
            writer.write(follow)
            await asyncio.wait_for(reader.readuntil(b"event: ready"), WAIT_S)
            opened.append(reader)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
            answers = [await client.get("/health", headers={"Connection": "close"}) for _ in range(3)]
        ended = await asyncio.wait_for(_ending(opened[0]), WAIT_S)

    assert [answer.status_code for answer in answers] == [200] * 3
    assert ended


async def _ending(reader: asyncio.StreamReader) -> bool:
    """Return once the server has ended a connection."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    return True


async def test_a_client_that_does_not_read_is_dropped(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "stalled_s", 0.2)
    ask = b"GET /shared/vendor/markdown-it/markdown-it.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with listening(app_of("viewer", sessions)) as port, connected(port) as (_, writer):

        async def ask_and_never_read() -> None:
            while True:  # until the system's buffers are full and the server drops it
                writer.write(ask * 20)
                await writer.drain()
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_and_never_read(), WAIT_S)


async def test_a_connection_serves_one_request_after_another(sessions: Sessions) -> None:
    ask = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with listening(app_of("viewer", sessions)) as port, connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(ask)
            async with asyncio.timeout(WAIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                await reader.readexactly(length)
