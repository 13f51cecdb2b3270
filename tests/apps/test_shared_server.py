"""The embedded server that the apps of a user share: who starts it, and when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongoError
from mongodb_session_manager.web import mongodb_server
from mongodb_session_manager.web.shared_server import SharedServer
from tests.fixtures.waiting import WAIT_S, eventually

SEARCH = "/api/v1/sessions/search"


def keeper_of(folder: Path) -> list[psutil.Process]:
    """Return the process that keeps the server, and those that it started."""
    keeper = psutil.Process(int(json.loads((folder / "server").read_text())["pid"]))
    return [keeper, *keeper.children(recursive=True)]


async def check_ended(processes: list[psutil.Process]) -> None:
    """Assert that processes that are not of this test's making end."""

    def ended() -> bool:
        return not any(_runs(process) for process in processes)

    await eventually(ended, "the end of the server")


def _runs(process: psutil.Process) -> bool:
    try:
        # In a container nobody may collect a process whose parent has ended.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(uri: str) -> bool:
    with MongoClient[dict[str, Any]](uri) as client:
        return bool(client.admin.command("ping")["ok"])


async def test_all_who_use_it_share_one_and_it_ends_with_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    uses = [SharedServer(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        [uri] = {*threads.map(SharedServer.start, uses)}
    processes = keeper_of(folder)
    for use in uses[:3]:
        use.stop()
    late = SharedServer(folder)
    assert late.start() == uri
    uses[3].stop()
    uses[3].stop()

    assert folder.stat().st_mode & 0o777 == 0o700
    assert answers(uri)
    late.stop()
    await check_ended(processes)


@pytest.mark.slow
async def test_after_the_keeper_was_killed_the_next_app_starts_another(tmp_path: Path) -> None:
    first, second = SharedServer(tmp_path / "shared"), SharedServer(tmp_path / "shared")
    first.start()
    killed = keeper_of(tmp_path / "shared")
    killed[0].kill()
    await check_ended(killed)

    uri = second.start()
    processes = keeper_of(tmp_path / "shared")

    assert answers(uri)
    assert processes[0] != killed[0]
    first.stop()
    second.stop()
    await check_ended(processes)


@pytest.mark.parametrize("unsafe", ["open to others", "link"])
async def test_a_folder_that_others_can_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unsafe: str
) -> None:
    folder = tmp_path / f"mongodb-session-manager-{os.getuid()}"
    if unsafe == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async with mongodb_server(None) as uri:
        assert answers(uri)

    assert "only this user can enter" in caplog.text
    assert list(folder.iterdir()) == []


def test_why_it_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGOD_BINARY", "/nowhere/mongod")

    with pytest.raises(EmbeddedMongoError, match="/nowhere/mongod"):
        SharedServer(tmp_path / "shared").start()


@contextmanager
def app(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run an app as a user does who has no MongoDB."""
    prefixes = ("PLAYGROUND_", "VIEWER_", "BACKEND_", "MONGODB_", "DATABASE_", "COLLECTION_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    environment = {**inherited, "XDG_RUNTIME_DIR": str(folder), "PLAYGROUND_PORT": "0", "VIEWER_PORT": "0"}
    command = [sys.executable, "-m", f"mongodb_session_manager.{name}"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().partition(": ")[2].strip()
            assert address.startswith("http://127.0.0.1:")
            with httpx.Client(base_url=address, timeout=WAIT_S, trust_env=False) as client:
                yield process, client
        finally:
            process.kill()


@pytest.mark.slow
async def test_the_viewer_shows_what_the_playground_stores_also_when_the_playground_has_ended(tmp_path: Path) -> None:
    with app("playground", tmp_path) as (playground, chat):
        assert "event: done" in chat.post("/api/chat", json={"session_id": "chat-1", "message": "Hello"}).text
        processes = keeper_of(tmp_path / f"mongodb-session-manager-{os.getuid()}")
        with app("viewer", tmp_path) as (_, viewer):
            shown = viewer.get("/api/v1/sessions/chat-1").json()
            first = viewer.get(SEARCH, params={"limit": 100}).json()
            playground.send_signal(signal.SIGINT)
            playground.wait(WAIT_S)
            with app("viewer", tmp_path) as (_, other):
                second = other.get(SEARCH, params={"limit": 100}).json()
            still = viewer.get("/api/v1/sessions/chat-1")
    await check_ended(processes)

    assert shown["counts"]["messages"] == 2
    assert still.status_code == 200
    assert len(first["sessions"]) > 20
    assert [entry["session_id"] for entry in second["sessions"]] == [entry["session_id"] for entry in first["sessions"]]
    counts = [[entry["messages_count"] for entry in found["sessions"]] for found in (first, second)]
    assert counts[0] == counts[1]
