"""What commands print, to readers who leave, disks that are full, and terminals that know few letters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Fill, Run
from tests.cli.test_commands import program
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import WAIT_S

BUFFERED = {"PYTHONUNBUFFERED": ""}
LITTLE = [["sessions", "list"], ["sessions", "list", "--json"], ["--version"]]


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    try:
        out, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, errors


@pytest.mark.matrix
@pytest.mark.parametrize("arguments", LITTLE, ids=lambda arguments: "-".join(arguments))
def test_a_reader_who_never_reads_a_little_output_is_no_error(
    sessions: Sessions, fill: Fill, tmp_path: Path, arguments: list[str]
) -> None:
    fill("s-1")
    process = program(
        sessions, tmp_path, *arguments, variables=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None

    code, _, errors = ended(process)

    assert (code, errors) == (0 if arguments[0] == "sessions" else code, b"")


@pytest.mark.matrix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", LITTLE, ids=lambda arguments: "-".join(arguments))
def test_a_disk_that_is_full_is_one_line_and_1(
    sessions: Sessions, fill: Fill, tmp_path: Path, arguments: list[str]
) -> None:
    fill("s-1")
    with Path("/dev/full").open("w") as full:
        code, _, errors = ended(
            program(sessions, tmp_path, *arguments, variables=BUFFERED, stdout=full, stderr=subprocess.PIPE)
        )

    assert code == 1
    assert len(errors.splitlines()) == 1
    assert b"No space left" in errors


@pytest.mark.matrix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(sessions: Sessions, fill: Fill, tmp_path: Path, encoding: str) -> None:
    said = "Grüße, 日本, 😀"
    fill("s-1", said=said, answer=said)
    variables = {"PYTHONIOENCODING": encoding}

    def read(*arguments: str) -> Any:
        code, out, errors = ended(
            program(sessions, tmp_path, *arguments, variables=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        assert (code, errors) == (0, b"")
        return json.loads(out.decode(encoding))

    for arguments in (["show", "s-1", "--json"], ["export", "s-1"]):
        found = read("sessions", *arguments)
        assert [message["content"][0]["text"] for message in found["messages"]] == [said, said]


GOES_ON = """
import sys
from mongodb_session_manager.cli import app

former = sys.stdout.errors, sys.stderr.errors
try:
    app.run(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == 0, ended.code
assert (sys.stdout.errors, sys.stderr.errors) == former
print("on")
"""


@pytest.mark.matrix
def test_a_program_that_goes_on_has_its_streams_back(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", GOES_ON, "--version"], cwd=tmp_path, capture_output=True, timeout=WAIT_S, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.splitlines()[-1:] == [b"on"]


def test_an_id_is_no_markup(fill: Fill, run: Run, tmp_path: Path) -> None:
    ids = ["chat[/b]", "[red]x[/red]", "[link=http://x]y"]
    fill(*ids)
    folder = tmp_path / "out"
    folder.mkdir()

    ran = run("sessions", "export", *ids, "-o", str(folder), terminal=120)

    assert ran.code == 0
    assert len(list(folder.iterdir())) == len(ids)
    for session_id in ids:
        assert session_id in ran.plain
