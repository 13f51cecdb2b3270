"""What ends a command before its end: Ctrl+C, SIGTERM, SIGHUP, and sessions that end while they are followed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Fill
from tests.cli.test_commands import program
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S, eventually

CUT_SHORT = """
import os, sys
from mongodb_session_manager.cli import app, sessions
from mongodb_session_manager.cli.export import export

async def cut_short(*arguments):
    async for part in export(*arguments):
        yield part
        os.kill(os.getpid(), int(sys.argv[1]))

sessions.export = cut_short
app.run(sys.argv[2:])
"""


@pytest.mark.matrix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing_half_written(
    sessions: Sessions, fill: Fill, tmp_path: Path, number: signal.Signals
) -> None:
    fill("s-1")
    target = tmp_path / "talk.json"
    target.write_text("the export of yesterday")
    variables = {
        "MONGODB_CONNECTION_STRING": sessions.uri,
        "DATABASE_NAME": sessions.database_name,
        "COLLECTION_NAME": COLLECTION,
    }
    command = [sys.executable, "-c", CUT_SHORT, str(int(number)), "sessions", "export", "s-1", "-o", str(target)]

    ended = subprocess.run(
        command, env=os.environ | variables, cwd=tmp_path, capture_output=True, timeout=WAIT_S, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]
    assert target.read_text() == "the export of yesterday"


INTERRUPTED_AT_ITS_END = """
import atexit, os, signal, sys
from mongodb_session_manager.__main__ import main

atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["program", "--version"]
main()
"""


@pytest.mark.thorough
def test_ctrl_c_after_the_command_says_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_ITS_END], cwd=tmp_path, capture_output=True, timeout=WAIT_S, check=False
    )

    assert ended.stdout.startswith(b"mongodb-session-manager ")
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


@pytest.mark.matrix
@pytest.mark.parametrize("ending", [b"\x03", signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_question_ends_with_the_first_signal(
    sessions: Sessions, fill: Fill, tmp_path: Path, ending: bytes | signal.Signals
) -> None:
    fill("s-1")
    ours, theirs = pty.openpty()
    said = b""
    process = program(
        sessions, tmp_path, "sessions", "delete", "s-1", stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, before=[sys.executable, "-c", _TAKES_TERMINAL],
    )  # fmt: skip
    os.close(theirs)
    try:
        while b"[y/N]" not in said:
            said += os.read(ours, 65536)
        asyncio.run(eventually(lambda: is_reading(process.pid), "that the program reads the answer"))
        if isinstance(ending, bytes):
            os.write(ours, ending)
        else:
            process.send_signal(ending)
        code = process.wait(WAIT_S)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    assert code == (130 if isinstance(ending, bytes) else 143)
    assert b"Traceback" not in said
    assert sessions.document("s-1")


def is_reading(pid: int) -> bool:
    """Tell whether a program waits for a key: what Python hears between its question and that is seen only then."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "S" and "futex" not in Path(f"/proc/{pid}/wchan").read_text()


# The keys of a terminal are signals only for those whose terminal it is.
_TAKES_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.thorough
def test_following_goes_on_with_a_session_that_is_made_again(sessions: Sessions, fill: Fill, tmp_path: Path) -> None:
    fill("s-1", said="first", answer="first answer")
    process = program(
        sessions, tmp_path, "sessions", "tail", "s-1", "--json", "--every", "0.1",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        # In one write, as another process does between two looks: the same id, another session.
        document = sessions.document("s-1")
        document["agents"]["assistant"]["messages"][0]["content"] = [{"text": "second"}]
        sessions.raw.replace_one({"_id": "s-1"}, {**document, "incarnation": "another"})
        lines += [json.loads(process.stdout.readline()) for _ in range(2)]
    finally:
        process.kill()
        process.communicate()

    assert [line["content"][0]["text"] for line in lines] == ["first", "first answer", "second", "first answer"]
