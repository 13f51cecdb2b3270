from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mongodb_session_manager.playground.__main__ import main
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.playground.servers import read_events as events_of
from tests.apps.playground.servers import said
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S

COMMAND = [sys.executable, "-m", "mongodb_session_manager.playground"]


@contextmanager
def _started(directory: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the playground as a user does, and yield the process and its address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PLAYGROUND_", "MONGODB_"))}
    process = subprocess.Popen(
        COMMAND,
        cwd=directory,
        env={**inherited, "PLAYGROUND_PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Chat playground: "):
                yield process, line.partition(": ")[2].strip()
                break
        else:
            pytest.fail("".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
async def test_a_reply_in_the_making_is_stored_whole_when_the_process_is_told_to_end(
    sessions: Sessions, tmp_path: Path
) -> None:
    environment = {
        "MONGODB_CONNECTION_STRING": sessions.uri,
        "DATABASE_NAME": sessions.database_name,
        "COLLECTION_NAME": COLLECTION,
        "PLAYGROUND_OFFLINE_DELAY_S": "0.1",
        "PLAYGROUND_SHUTDOWN_GRACE_S": str(WAIT_S),
    }
    body = {"session_id": "s-1", "message": "My name is Ada, I live in Paris and I am planning a trip to Lisbon."}
    with _started(tmp_path, **environment) as (process, address):
        async with (
            httpx.AsyncClient(base_url=address, timeout=WAIT_S, trust_env=False) as client,
            client.stream("POST", "/api/chat", json=body) as response,
        ):
            heard = []
            async for event in events_of(response):
                heard.append(event)
                if len(heard) == 1:
                    process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)

    [_, reply] = sessions.texts(AGENT_ID, "s-1")
    assert reply == "Thank you. Your name is Ada, you are going to Lisbon, and you live in Paris."
    assert heard
    assert reply.startswith(said(heard))
    assert "lease" not in sessions.document("s-1")


@pytest.mark.slow
async def test_it_starts_with_a_server_of_its_own_when_none_is_named(tmp_path: Path) -> None:
    with _started(tmp_path, XDG_RUNTIME_DIR=str(tmp_path)) as (process, address):
        async with httpx.AsyncClient(base_url=address, timeout=WAIT_S, trust_env=False) as client:
            health = (await client.get("/health")).json()
            body = {"session_id": "s-1", "message": "Hello"}
            reply = await client.post("/api/chat", json=body)
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)

    assert health["status"] == "ok"
    assert "event: done" in reply.text


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PLAYGROUND_MODEL", "gpt", "PLAYGROUND_MODEL: invalid model: it must be 'offline'"),
        ("PLAYGROUND_HOST", "0.0.0.0", "PLAYGROUND_HOST: "),
        ("PLAYGROUND_PORT", "many", "PLAYGROUND_PORT: "),
    ],
)
def test_settings_that_make_no_sense_end_it_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env file here
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", "mongodb://u:hunter2@127.0.0.1:9/")
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        main([])

    said = str(ended.value)
    assert problem in said
    assert "\n" not in said
    assert "hunter2" not in said
