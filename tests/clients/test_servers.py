"""Gunicorn with `--preload` and uvicorn with several workers, on one session at the same time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.support.invariants import check_stored

WORKERS = 2

_GUNICORN = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "-w", str(WORKERS), "-t", "120"]
_UVICORN = [sys.executable, "-m", "uvicorn", "--workers", str(WORKERS), "--no-access-log"]


@contextmanager
def served(command: list[str], sessions: Sessions, booted: str) -> Iterator[None]:
    """Run a server until the block ends; `booted` is what each worker prints when it is ready."""
    environment = {
        **os.environ,
        "TEST_URI": sessions.uri,
        "TEST_DATABASE": sessions.database_name,
        "TEST_COLLECTION": COLLECTION,
    }
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said: list[str] = []
    try:
        while sum(booted in line for line in said) < WORKERS:
            line = process.stderr.readline()
            assert line, "".join(said)
            said.append(line)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert "Traceback" not in rest, rest
    assert process.returncode in (0, -signal.SIGTERM), rest


async def converse(socket: Path, sessions: Sessions) -> list[dict[str, Any]]:
    """Send messages to one session, several at once, until every worker has answered."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_keepalive_connections=0))
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=120) as client:
        while len({answer["pid"] for answer in found}) < WORKERS:
            assert len(found) < 400
            numbers = range(len(found), len(found) + 8)
            parameters = [{"session": SESSION_ID, "message": f"q-{number}"} for number in numbers]
            for answer in await asyncio.gather(*(client.get("/", params=given) for given in parameters)):
                assert answer.status_code == 200, answer.text
                found.append(answer.json())
    texts = sessions.texts()
    assert sorted(texts[::2]) == sorted(f"q-{number}" for number in range(len(found)))
    assert texts[1::2] == [f"answer to {question}" for question in texts[::2]]
    assert sorted(answer["messages"] for answer in found) == [2 * number for number in range(1, len(found) + 1)]
    check_stored(sessions.raw.database, SESSION_ID)
    return found


@pytest.mark.parametrize(
    ("worker", "app"),
    [("uvicorn_worker.UvicornWorker", "asgi"), ("gthread", "wsgi"), ("sync", "wsgi")],
)
async def test_gunicorn_forks_a_master_that_used_sessions(
    worker: str, app: str, sessions: Sessions, tmp_path: Path
) -> None:
    socket = tmp_path / "server"
    command = [*_GUNICORN, "-k", worker, "-b", f"unix:{socket}", f"tests.clients.served_app:{app}"]

    with served(command, sessions, "Booting worker"):
        found = await converse(socket, sessions)

    assert len({answer["imported_by"] for answer in found}) == 1
    assert all(answer["pid"] != answer["imported_by"] for answer in found)
    assert sessions.texts(session_id="made by the master") == ["hello", "ready"]


async def test_uvicorn_with_several_workers(sessions: Sessions, tmp_path: Path) -> None:
    socket = tmp_path / "server"
    command = [*_UVICORN, "--uds", str(socket), "tests.clients.served_app:asgi"]

    with served(command, sessions, "Application startup complete"):
        found = await converse(socket, sessions)

    assert all(answer["pid"] == answer["imported_by"] for answer in found)


def test_gunicorn_s_gevent_workers_say_what_works_instead(sessions: Sessions, tmp_path: Path) -> None:
    socket = tmp_path / "server"
    gunicorn = [argument for argument in _GUNICORN if argument != "--preload"]
    command = [*gunicorn, "-k", "gevent", "-b", f"unix:{socket}", "tests.clients.served_app:wsgi"]
    environment = {
        **os.environ,
        "TEST_URI": sessions.uri,
        "TEST_DATABASE": sessions.database_name,
        "TEST_COLLECTION": COLLECTION,
    }

    # A worker patches itself before it loads the application, which then fails in all of them.
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    assert ran.returncode != 0
    assert "RuntimeError: gevent.monkey has replaced" in ran.stderr, ran.stderr
    assert "use a process without the patch: Gunicorn with `-k gthread`" in ran.stderr
