from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from mongodb_session_manager.embedded import EmbeddedMongo, EmbeddedMongoError, MongodStartError, Topology

pytestmark = pytest.mark.server

_GONE_WITHIN_S = 120.0


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers make their temporary folders, here and in child processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@contextmanager
def _connected(server: EmbeddedMongo) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](server.uri, serverSelectionTimeoutMS=120000) as client:
        yield client


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _wait_until_gone(pids: list[int], folder: Path) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    while any(_alive(pid) for pid in pids) or not _is_empty(folder):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {[pid for pid in pids if _alive(pid)]}, {list(folder.iterdir())}")
        time.sleep(0.02)


@contextmanager
def _owner(program: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run a program that starts a server and says "ready"; yield it and the pids of all that it started."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            yield owner, [child.pid for child in psutil.Process(owner.pid).children(recursive=True)]
        finally:
            owner.kill()


_WAITING_OWNER = """
import sys
from mongodb_session_manager.embedded import EmbeddedMongo
with EmbeddedMongo():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.matrix
@pytest.mark.parametrize("topology", ["standalone", "replica_set", "three_nodes"])
def test_a_server_is_writable_inside_its_block_and_gone_after_it(topology: Topology, temporary_folder: Path) -> None:
    with EmbeddedMongo(topology) as server:
        pids = server.pids
        with _connected(server) as client:
            client.test.things.insert_one({"_id": 1})
            hello = client.admin.command("hello")

    assert len(pids) == (3 if topology == "three_nodes" else 1)
    assert ("setName" in hello) == (topology != "standalone")
    assert not any(map(_alive, pids))
    assert _is_empty(temporary_folder)
    assert server.pids == server.ports == ()


def test_a_document_as_large_as_mongodb_allows_can_be_stored() -> None:
    with EmbeddedMongo() as server, _connected(server) as client:
        for number in range(4):
            client["db"]["items"].insert_one({"_id": number, "filler": b"\x00" * (16 * 1024 * 1024 - 1024)})

        assert client["db"]["items"].count_documents({}) == 4


def test_an_exception_in_the_block_ends_the_server(temporary_folder: Path) -> None:
    pids: tuple[int, ...] = ()

    def use() -> None:
        nonlocal pids
        with EmbeddedMongo("standalone") as server:
            pids = server.pids
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()

    assert pids
    assert not any(map(_alive, pids))
    assert _is_empty(temporary_folder)


@pytest.mark.thorough
def test_sigterm_ends_the_server_before_its_owner(temporary_folder: Path) -> None:
    with _owner(_WAITING_OWNER) as (owner, pids):
        owner.terminate()
        assert owner.wait(_GONE_WITHIN_S) == -signal.SIGTERM

        servers_left = [pid for pid in pids if _alive(pid) and psutil.Process(pid).name() == "mongod"]
        assert servers_left == []
        assert _is_empty(temporary_folder)
        _wait_until_gone(pids, temporary_folder)


def test_a_killed_owner_leaves_nothing_behind(temporary_folder: Path) -> None:
    with _owner(_WAITING_OWNER) as (owner, pids):
        assert len(pids) == 2
        owner.kill()
        owner.wait(_GONE_WITHIN_S)

        _wait_until_gone(pids, temporary_folder)


@pytest.mark.thorough
def test_the_end_of_the_interpreter_ends_a_server_that_was_not_stopped(temporary_folder: Path) -> None:
    program = """
from mongodb_session_manager.embedded import EmbeddedMongo
import sys
server = EmbeddedMongo("standalone")
server.start()
print("ready", flush=True)
sys.stdin.read()
"""
    with _owner(program) as (owner, pids):
        owner.communicate()

        assert owner.returncode == 0
        _wait_until_gone(pids, temporary_folder)


@pytest.mark.thorough
def test_a_sigterm_handler_of_the_program_stays_in_charge(temporary_folder: Path) -> None:
    program = """
import signal, sys
from mongodb_session_manager.embedded import EmbeddedMongo
def handler(signum, frame):
    sys.exit(7)
signal.signal(signal.SIGTERM, handler)
with EmbeddedMongo("standalone"):
    print("ready", flush=True)
    sys.stdin.read()
"""
    with _owner(program) as (owner, pids):
        owner.terminate()

        assert owner.wait(_GONE_WITHIN_S) == 7
        _wait_until_gone(pids, temporary_folder)


@pytest.mark.thorough
def test_the_last_server_gives_the_sigterm_handler_back(temporary_folder: Path) -> None:
    program = """
import signal, sys
from mongodb_session_manager.embedded import EmbeddedMongo
def handled():
    return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
seen = [handled()]
with EmbeddedMongo("standalone"):
    with EmbeddedMongo("standalone"):
        seen.append(handled())
    seen.append(handled())
seen.append(handled())
print("ready", flush=True)
sys.stdin.read()
print(seen, flush=True)
"""
    with _owner(program) as (owner, _):
        output, _ = owner.communicate()

    assert output == "[False, True, True, False]\n"


@pytest.mark.thorough
def test_a_forked_child_does_not_end_the_server(temporary_folder: Path) -> None:
    program = """
import os, sys
from mongodb_session_manager.embedded import EmbeddedMongo
with EmbeddedMongo("standalone") as server:
    if os.fork() == 0:
        sys.exit(0)
    _, status = os.wait()
    print("ready", flush=True)
    sys.stdin.read()
    print(status, len(server.pids), flush=True)
"""
    with _owner(program) as (owner, pids):
        output, _ = owner.communicate()

        assert output == "0 1\n"
        _wait_until_gone(pids, temporary_folder)


def test_a_given_folder_keeps_its_data_for_the_next_server(tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "here"

    with EmbeddedMongo(data_dir=folder) as server, _connected(server) as client:
        first_port = server.ports
        client.test.things.insert_one({"_id": 1})
    with EmbeddedMongo(data_dir=folder) as server, _connected(server) as client:
        stored = client.test.things.find_one()
        client.test.things.insert_one({"_id": 2})

    assert first_port != ()
    assert stored == {"_id": 1}


@pytest.mark.thorough
def test_the_data_of_a_given_folder_survives_a_killed_owner(tmp_path: Path, temporary_folder: Path) -> None:
    program = f"""
import sys
from pymongo import MongoClient
from mongodb_session_manager.embedded import EmbeddedMongo
with EmbeddedMongo(data_dir={str(tmp_path / "kept")!r}) as server:
    with MongoClient(server.uri) as client:
        client.test.things.insert_one({{"_id": 1}})
    print("ready", flush=True)
    sys.stdin.read()
"""
    with _owner(program) as (owner, pids):
        owner.kill()
        owner.wait(_GONE_WITHIN_S)
        _wait_until_gone(pids, temporary_folder)

    with EmbeddedMongo(data_dir=tmp_path / "kept") as server, _connected(server) as client:
        assert client.test.things.find_one() == {"_id": 1}


def test_a_folder_in_use_is_an_error_with_the_log(tmp_path: Path) -> None:
    with EmbeddedMongo("standalone", data_dir=tmp_path / "kept") as first:
        with pytest.raises(MongodStartError, match="DBPathInUse") as caught:
            EmbeddedMongo("standalone", data_dir=tmp_path / "kept").start()

        assert "exit code" in str(caught.value)
        assert len(first.pids) == 1


def test_a_failed_start_shows_the_log_and_leaves_nothing(temporary_folder: Path) -> None:
    server = EmbeddedMongo("standalone", mongod_args=["--noSuchOption"])

    with pytest.raises(MongodStartError, match="noSuchOption"):
        server.start()

    assert server.pids == ()
    assert _is_empty(temporary_folder)


def test_a_start_that_takes_too_long_is_an_error_and_leaves_nothing(temporary_folder: Path) -> None:
    server = EmbeddedMongo(startup_timeout_s=0.001)

    with pytest.raises(MongodStartError, match=r"within 0\.001 s"):
        server.start()

    assert server.pids == ()
    assert _is_empty(temporary_folder)


@pytest.mark.parametrize("asked", [True, False])
def test_test_commands_are_there_only_when_asked_for(asked: bool) -> None:
    with EmbeddedMongo("standalone", test_commands=asked) as server, _connected(server) as client:
        try:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
            allowed = True
        except OperationFailure:
            allowed = False

    assert allowed is asked


def test_a_server_listens_on_the_loopback_address_only() -> None:
    with EmbeddedMongo("standalone") as server:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(server.pids[0]).net_connections(kind="all")
            if connection.status == psutil.CONN_LISTEN
        }

    assert listening == {"127.0.0.1"}


@pytest.mark.thorough
def test_three_nodes_survive_the_loss_of_their_primary() -> None:
    with EmbeddedMongo("three_nodes") as server, _connected(server) as client:
        client.test.things.insert_one({"_id": 1})
        lost = server.primary_index()
        ports = server.ports

        server.kill(lost)
        pids_without = server.pids
        elected = server.primary_index()
        client.test.things.insert_one({"_id": 2})
        server.restart(lost)

        assert len(pids_without) == 2
        assert elected != lost
        assert len(server.pids) == 3
        assert server.ports == ports
        assert client.test.things.count_documents({}) == 2


@pytest.mark.thorough
def test_a_frozen_server_is_ended_too(temporary_folder: Path) -> None:
    with EmbeddedMongo("standalone") as server:
        pids = server.pids
        server.kill(signum=signal.SIGSTOP)

    assert not any(map(_alive, pids))
    assert _is_empty(temporary_folder)


def test_a_stopped_server_can_be_started_again() -> None:
    server = EmbeddedMongo("standalone")

    for _ in range(2):
        with server, _connected(server) as client:
            client.test.things.insert_one({"_id": 1})
    server.stop()

    assert server.pids == ()


def test_starting_a_running_server_is_an_error_and_harmless() -> None:
    with EmbeddedMongo("standalone") as server:
        with pytest.raises(EmbeddedMongoError, match="already running"):
            server.start()

        assert len(server.pids) == 1


def test_the_uri_of_a_server_that_is_not_running_is_an_error() -> None:
    with pytest.raises(EmbeddedMongoError, match="not running"):
        _ = EmbeddedMongo().uri


async def test_the_async_form_leaves_the_loop_free(temporary_folder: Path) -> None:
    ticks = 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(ticker())
    async with EmbeddedMongo() as server:
        ticks_while_starting = ticks
        pids = server.pids
    ticking.cancel()

    assert ticks_while_starting > 10
    assert len(pids) == 1
    assert not any(map(_alive, pids))
    assert _is_empty(temporary_folder)


@pytest.mark.matrix
@pytest.mark.parametrize("delay_s", [0, 0.01, 0.1, 0.25])
async def test_a_cancelled_async_start_leaves_nothing(delay_s: float, temporary_folder: Path) -> None:
    started = psutil.Process(os.getpid()).children(recursive=True)
    server = EmbeddedMongo("three_nodes")

    async def use() -> None:
        async with server:
            pytest.fail("three nodes are never up that soon")

    using = asyncio.create_task(use())
    await asyncio.sleep(delay_s)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using

    assert server.pids == ()
    assert _is_empty(temporary_folder)
    assert psutil.Process(os.getpid()).children(recursive=True) == started


@pytest.mark.thorough
async def test_an_async_start_in_a_cancelled_scope_leaves_nothing(temporary_folder: Path) -> None:
    server = EmbeddedMongo("three_nodes")

    with anyio.move_on_after(0.1) as scope:
        async with server:
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert server.pids == ()
    assert _is_empty(temporary_folder)


@pytest.mark.matrix
@pytest.mark.parametrize("topology", ["standalone", "replica_set", "three_nodes"])
def test_a_server_lets_only_its_owner_in(topology: Topology, temporary_folder: Path) -> None:
    with EmbeddedMongo(topology) as server:
        with _connected(server) as client:
            client.test.things.insert_one({"_id": 1})
        for port in server.ports:
            with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as stranger:
                commands: list[dict[str, Any]] = [
                    {"find": "things"},
                    {"insert": "things", "documents": [{}]},
                    {"listDatabases": 1},
                    {"createUser": "me", "pwd": "x", "roles": ["root"]},
                    {"replSetGetConfig": 1},
                    {"shutdown": 1},
                ]
                for command in commands:
                    with pytest.raises(OperationFailure, match="requires authentication"):
                        stranger.admin.command(command)
        modes = {path.stat().st_mode & 0o777 for path in temporary_folder.rglob("key")}
        folders = [path for path in temporary_folder.iterdir() if path.is_dir()]

        assert modes == {0o600}
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)
        assert server.uri.partition("@")[0].rpartition(":")[2] not in repr(server)


def test_each_server_has_a_password_of_its_own_and_kept_data_gets_the_new_one(tmp_path: Path) -> None:
    passwords = []
    for number in range(2):
        with EmbeddedMongo("replica_set", data_dir=tmp_path / "kept") as server, _connected(server) as client:
            passwords.append(server.uri.partition("@")[0])
            client.test.things.insert_one({"_id": number})
            assert client.test.things.count_documents({}) == number + 1

    assert len(set(passwords)) == 2
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_a_server_without_a_password_has_to_be_asked_for() -> None:
    with EmbeddedMongo("standalone", auth=False) as server, _connected(server) as client:
        client.test.things.insert_one({"_id": 1})
        assert "@" not in server.uri


@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize("broken", ["folder", "program"])
def test_a_start_that_the_system_refuses_is_its_error_and_leaves_nothing(
    broken: str, auth: bool, tmp_path: Path, temporary_folder: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x00 neither a folder nor a program")
    file.chmod(0o755)
    server = EmbeddedMongo(auth=auth, data_dir=file) if broken == "folder" else EmbeddedMongo(auth=auth, binary=file)

    for _ in range(2):
        with pytest.raises(OSError, match="file"):
            server.start()

    assert server.pids == ()
    assert _is_empty(temporary_folder)


def test_the_program_says_in_one_line_that_its_folder_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    run = subprocess.run([*_PROGRAM, "--data-dir", str(file)], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout) == (1, "")
    assert re.fullmatch(r"MongoDB cannot start: .*\n", run.stderr)


@pytest.fixture
def port() -> int:
    """A port that no process has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


def test_a_server_listens_on_the_port_that_is_asked_for(port: int) -> None:
    with EmbeddedMongo(port=port, auth=False) as server:
        assert server.ports == (port,)

        server.restart()

        assert server.ports == (port,)
        with MongoClient[dict[str, Any]](f"mongodb://localhost:{port}/", serverSelectionTimeoutMS=120000) as client:
            assert client.admin.command("hello")["isWritablePrimary"]


def test_a_port_in_use_is_one_line_that_names_it(port: int, temporary_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()

        with pytest.raises(MongodStartError, match=f"^port {port} is in use by another process$"):
            EmbeddedMongo(port=port).start()
        run = subprocess.run([*_PROGRAM, "--port", str(port)], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"MongoDB cannot start: port {port} is in use by another process\n"
    assert _is_empty(temporary_folder)


@pytest.mark.parametrize(("topology", "port"), [("replica_set", -1), ("standalone", 65536), ("three_nodes", 65534)])
def test_a_port_that_does_not_exist_is_refused(topology: Topology, port: int) -> None:
    with pytest.raises(ValueError, match=rf"^invalid port: it must be 0 to \d+, got {port}$"):
        EmbeddedMongo(topology, port=port)


_PROGRAM = [sys.executable, "-m", "mongodb_session_manager.embedded"]


def _started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*_PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_program_serves_until_it_is_told_to_end(
    signum: signal.Signals, code: int, port: int, temporary_folder: Path
) -> None:
    with _started("--port", str(port)) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        pids = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
        uri = f"mongodb://localhost:{port}/"
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=120000) as client:
            client.test.things.insert_one({"kept": True})
        program.send_signal(signum)

        assert program.wait(_GONE_WITHIN_S) == code
        assert program.stderr is not None
        assert program.stderr.read() == ""
    assert uri in said
    assert pids
    _wait_until_gone(pids, temporary_folder)


def test_the_program_says_that_its_server_ended(tmp_path: Path) -> None:
    with _started("--port", "0", "--data-dir", str(tmp_path / "kept")) as program:
        assert program.stdout is not None
        assert str(tmp_path / "kept") in program.stdout.readline()
        for child in psutil.Process(program.pid).children(recursive=True):
            if child.name().startswith("mongod"):
                child.kill()

        assert program.wait(_GONE_WITHIN_S) == 1
        assert program.stderr is not None
        assert program.stderr.read() == "MongoDB ended\n"
    assert (tmp_path / "kept").is_dir()
