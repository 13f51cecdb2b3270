"""What all commands have in common, and those that look after a collection."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.resolver
import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType
from typer.testing import CliRunner

from mongodb_session_manager import MongoDBSessionRepository
from mongodb_session_manager.cli import sessions as commands_of_sessions
from mongodb_session_manager.cli.app import create
from mongodb_session_manager.cli.commands import PROGRAM as PROGRAM_NAME
from mongodb_session_manager.cli.export import export
from mongodb_session_manager.extras import install_command
from tests.cli.conftest import Fill, Run
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.names import UNKNOWN, unknown_to_dns

PROGRAM = [sys.executable, "-m", "mongodb_session_manager"]
GROUPS = [[], ["sessions"]]
COMMANDS = [
    *(["sessions", name] for name in ("list", "show", "tail", "export", "delete", "fork")),
    *(
        [name]
        for name in (
            "stats",
            "indexes",
            "repair",
            "sweep",
            "shard",
            "migrate",
            "doctor",
            "demo",
            "viewer",
            "playground",
        )
    ),
]
READING = [["sessions", "list"], ["stats"], ["indexes"], ["repair", "--all"], ["sweep"], ["doctor"]]


@pytest.mark.parametrize("command", GROUPS + COMMANDS, ids=lambda command: "-".join(command) or "all")
def test_help_fits_80_columns_and_shows_an_example(run: Run, command: list[str]) -> None:
    ended = run(*command, "--help", terminal=80)

    assert ended.code == 0
    assert max(map(len, ended.plain.splitlines())) <= 80
    if command != ["sessions"]:
        assert "Example: mongodb-session-manager" in " ".join(ended.plain.split())


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in (["viewer"], ["playground"])], ids="-".join)
def test_every_command_speaks_json(run: Run, command: list[str]) -> None:
    assert "--json" in run(*command, "--help").plain


@pytest.mark.parametrize("command", READING, ids="-".join)
def test_a_server_that_is_away_is_one_line_and_4(run: Run, command: list[str]) -> None:
    uri = "mongodb://ada:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100"

    ended = run(*command, *(["--timeout", "0.1"] if command == ["doctor"] else []), MONGODB_CONNECTION_STRING=uri)

    assert ended.code == 4
    assert "127.0.0.1:1" in ended.out + ended.err
    assert "hunter2" not in ended.out + ended.err
    assert len(ended.err.splitlines()) <= 1


@pytest.mark.parametrize("command", READING, ids="-".join)
def test_without_a_connection_string_it_says_how_to_give_one(run: Run, command: list[str]) -> None:
    ended = run(*command, MONGODB_CONNECTION_STRING="")

    assert ended.code == 2
    assert "--connection-string" in ended.err
    assert "MONGODB_CONNECTION_STRING" in ended.err


SECRETS = ("hunter2", "ter2", "p@ss", "ss/w")
WRONG_URIS = {
    "slash": "mongodb://ada:p@ss/w:%@127.0.0.1:1/",
    "colon": "mongodb://ada:hun:ter2@127.0.0.1:1/",
    "percent": "mongodb://ada:hunter2%@127.0.0.1:1/",
    "no host": "mongodb://",
    "no such port": "mongodb://ada:hunter2@127.0.0.1:99999/",
    "letters for a port": "mongodb://ada:hunter2@127.0.0.1:port/",
    "another scheme": "postgres://ada:hunter2@127.0.0.1:1/",
    "file": "mongodb://ada:hunter2@127.0.0.1:1/?tlsCAFile=/nowhere/ca.pem",
}


@pytest.mark.parametrize("command", READING, ids="-".join)
@pytest.mark.parametrize("uri", WRONG_URIS.values(), ids=WRONG_URIS)
def test_a_malformed_connection_string_is_one_line_that_names_the_setting(
    run: Run, command: list[str], uri: str
) -> None:
    ended = run(*command, MONGODB_CONNECTION_STRING=uri)
    as_json = run(*command, "--json", MONGODB_CONNECTION_STRING=uri)
    if command == ["doctor"]:  # Here it is a finding.
        [finding] = as_json.json["findings"]
        assert (ended.code, as_json.code) == (4, 4)
        assert finding["said"].startswith("--connection-string, or MONGODB_CONNECTION_STRING: ")
        assert not any(secret in ended.out + as_json.out for secret in SECRETS)
        return

    assert ended.code == as_json.code == 2
    assert ended.out == as_json.out == ""
    [line] = ended.err.splitlines()
    assert line.startswith("error: --connection-string, or MONGODB_CONNECTION_STRING: ")
    assert json.loads(as_json.err)["error"]["message"] in line
    assert not any(secret in line for secret in SECRETS)


def test_an_option_that_the_driver_ignores_is_told_in_one_line(run: Run, sessions: Sessions) -> None:
    joint = "&" if "?" in sessions.uri else "?"

    ended = run("sessions", "list", MONGODB_CONNECTION_STRING=f"{sessions.uri}{joint}maxPolSize=3")

    assert ended.code == 0
    [warning] = [line for line in ended.err.splitlines() if "ption" in line]
    assert warning.startswith("warning: --connection-string, or MONGODB_CONNECTION_STRING: ")


def test_a_plain_host_is_named_when_it_does_not_answer(run: Run) -> None:
    ended = run("doctor", "--timeout", "0.1", MONGODB_CONNECTION_STRING="127.0.0.1:1")

    assert ended.code == 4
    assert "127.0.0.1:1" in ended.out + ended.err


def test_flags_win_over_the_environment_and_that_over_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_NAME=from_file\n")

    from_file = run("shard", DATABASE_NAME="").out
    from_flag = run("shard", "--database-name", "from_flag").out

    assert 'sh.shardCollection("from_file.sessions", { _id: "hashed" })' in from_file
    assert 'sh.enableSharding("from_flag")' in from_flag


def test_stats_count_what_is_stored(run: Run, fill: Fill) -> None:
    fill("s-1", "s-2")

    found = run("stats", "--json").json

    assert (found["sessions"], found["active_1d"]) == (2, 2)
    assert [entry["documents"] for entry in found["collections"]] == [2, 0, 0]
    assert "MongoDB" in run("stats", terminal=80).plain


def test_indexes_are_shown_made_and_checked(run: Run, fill: Fill) -> None:
    fill("s-1")
    options = ["--metadata-field", "priority"]

    before = run("indexes", *options, "--json")
    made = run("indexes", *options, "--create")
    after = run("indexes", *options, "--json")

    assert (before.code, made.code, after.code) == (1, 0, 0)
    assert {entry["state"] for entry in before.json["indexes"]} == {"missing"}
    assert {entry["state"] for entry in after.json["indexes"]} == {"ok"}
    assert any("metadata.priority" in entry["keys"] for entry in after.json["indexes"])


def test_indexes_of_orders_are_made_on_request_and_others_are_told_apart(
    run: Run, fill: Fill, sessions: Sessions
) -> None:
    fill("s-1")
    sessions.raw.create_index([("created_at", 1), ("_id", 1), ("summary.errors", 1)])

    assert run("indexes", "--create").code == 1  # the one of failed turns should hold only those that have any
    states = {entry["name"]: entry["state"] for entry in run("indexes", "--orders", "--json").json["indexes"]}
    made = run("indexes", "--orders", "--create", "--json")

    assert states["created_at_1__id_1_summary.errors_1"] == "different"
    assert states["created_at_1__id_1_summary.feedbacks_1"] == "ok"
    orders = ("summary.messages_1__id_1", "summary.usage.totalTokens_1__id_1")
    assert [states[name] for name in orders] == ["missing", "missing"]
    assert {entry["name"]: entry["state"] for entry in made.json["indexes"]} == {
        **states,
        **dict.fromkeys(orders, "ok"),
    }
    assert set(orders) <= set(sessions.raw.index_information())


def broken_session(sessions: Sessions, session_id: str) -> None:
    content: list[tuple[Any, Any]] = [
        ("user", [{"text": "one"}]),
        ("assistant", [{"toolUse": {"toolUseId": "t-1", "name": "add", "input": {}}}]),
        ("user", [{"text": "two"}]),
    ]
    with MongoDBSessionRepository(sessions.uri, sessions.database_name, COLLECTION) as repository:
        repository.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        state = {"__name__": "SlidingWindowConversationManager", "removed_message_count": 0}
        agent = SessionAgent(agent_id="a", state={}, conversation_manager_state=state)
        repository.create_agent(session_id, agent)
        for number, (role, blocks) in enumerate(content):
            repository.create_message(session_id, "a", SessionMessage({"role": role, "content": blocks}, number))


def test_repair_says_what_is_broken_and_repairs_it(run: Run, fill: Fill, sessions: Sessions) -> None:
    fill("whole")
    broken_session(sessions, "broken")

    looked = run("repair", "--all", "--dry-run", "--json")
    unasked = run("repair", "broken")
    repaired = run("repair", "--all", "--yes", "--json")
    after = run("repair", "broken")

    assert (looked.code, unasked.code, repaired.code, after.code) == (1, 2, 0, 0)
    assert [report["session_id"] for report in looked.json["broken"]] == ["broken"]
    assert looked.json["looked_at"] == 2
    assert repaired.json["repaired"] == 1


def test_sweep_counts_and_removes_what_no_session_uses(run: Run, fill: Fill, sessions: Sessions) -> None:
    fill("s-1")
    segments = sessions.raw.database[f"{COLLECTION}_segments"]
    segments.insert_one(orphan())

    looked = run("sweep", "--dry-run", "--json").json
    unasked = run("sweep").code
    swept = run("sweep", "--yes", "--json").json

    assert looked["unused"] == swept["unused"] == swept["removed"] == {"segments": 1, "payloads": 0}
    assert unasked == 2
    assert segments.count_documents({}) == 0


def orphan() -> dict[str, Any]:
    """Return a segment of a session that is gone."""
    from datetime import UTC, datetime

    return {
        "_id": "gone:1:a:0:t",
        "session_id": "gone",
        "incarnation": "1",
        "agent": "a",
        "list": None,
        "archive": None,
        "start": 0,
        "token": "t",
        "committed": True,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }


def program(sessions: Sessions, tmp_path: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    variables = {
        "MONGODB_CONNECTION_STRING": sessions.uri,
        "DATABASE_NAME": sessions.database_name,
        "COLLECTION_NAME": COLLECTION,
    }
    environment = os.environ | variables | options.pop("variables", {})
    for name in ("COLUMNS", "LINES"):  # They count more than the size of the terminal.
        environment.pop(name, None)
    command = [*options.pop("before", ()), *PROGRAM, *arguments]
    return subprocess.Popen(command, env=environment, cwd=tmp_path, **options)


def on_terminal(sessions: Sessions, tmp_path: Path, *arguments: str, columns: int) -> tuple[int, bytes]:
    """Return how a command on a terminal of that width ended, and all it printed."""
    ours, theirs = pty.openpty()
    said = b""
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = program(sessions, tmp_path, *arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:
            pass  # the other end is closed
        return process.wait(60), said
    finally:
        os.close(ours)


@pytest.mark.parametrize("columns", [60, 72, 80, 100, 160])
def test_what_a_table_says_is_whole_at_every_width(run: Run, fill: Fill, columns: int) -> None:
    fill("s-1", "customer-0123456789-0123456789")
    run("indexes", "--create")

    listed = run("sessions", "list", terminal=columns).plain
    indexes = run("indexes", terminal=columns).plain
    stats = run("stats", terminal=columns).plain

    for said in (listed, indexes, stats):
        assert max(map(len, said.splitlines())) <= columns
    assert "customer-0123456" in listed
    names = [entry["name"] for entry in run("indexes", "--json").json["indexes"]]
    assert all(name in indexes for name in names)
    assert indexes.split().count("ok") == len(names)
    assert all(title in stats for title in ("documents", "on disk MiB", "indexes MiB"))
    if columns >= 80:
        assert {"session", "updated", "agents", "messages", "feedback"} <= set(listed.splitlines()[0].split())


@pytest.mark.thorough
@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_real_terminal_nothing_to_copy_is_lost(
    sessions: Sessions, fill: Fill, tmp_path: Path, columns: int
) -> None:
    fill("customer-1")

    code, said = on_terminal(sessions, tmp_path, "sessions", "list", columns=columns)

    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said).decode()
    assert code == 0
    assert "customer-1" in plain
    assert all(len(line) <= columns for line in plain.splitlines())
    assert (b"\x1b[" in said) is (columns == 80)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_an_export_that_is_cut_short_leaves_what_was_there(
    run: Run, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    async def cut_short(*arguments: Any) -> AsyncIterator[str]:
        async for part in export(*arguments):
            yield part
            raise fault

    fill("s-1")
    target = tmp_path / "talk.json"
    target.write_text("the export of yesterday")
    monkeypatch.setattr(commands_of_sessions, "export", cut_short)

    ended = run("sessions", "export", "s-1", "-o", str(target))

    assert ended.code == (130 if fault is KeyboardInterrupt else 1)
    assert [path.name for path in tmp_path.iterdir() if "talk" in path.name] == ["talk.json"]
    assert target.read_text() == "the export of yesterday"


@pytest.mark.thorough
def test_following_ends_with_ctrl_c(sessions: Sessions, fill: Fill, tmp_path: Path) -> None:
    fill("s-1", said="first")
    process = program(
        sessions, tmp_path, "sessions", "tail", "s-1", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        fill("s-1", said="second")
        lines += [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()

    assert [line["message_id"] for line in lines] == [0, 1, 2, 3]
    assert process.returncode == 130
    assert b"Traceback" not in errors


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        (">&-", ["sessions", "list"], 0),
        ("<&-", ["sessions", "delete", "s-1"], 2),
        ("<&- >&- 2>&-", ["sessions", "delete", "s-1", "--yes"], 0),
    ],
)
def test_a_stream_that_the_caller_has_closed_is_an_empty_one(
    sessions: Sessions, fill: Fill, tmp_path: Path, closed: str, arguments: list[str], code: int
) -> None:
    fill("s-1")

    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    process = program(sessions, tmp_path, *arguments, before=shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == code
    assert b"Traceback" not in errors


@pytest.mark.thorough
def test_a_reader_that_has_seen_enough_is_no_error(sessions: Sessions, fill: Fill, tmp_path: Path) -> None:
    fill("s-1", said="x" * 500_000)
    process = program(sessions, tmp_path, "sessions", "export", "s-1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()

    assert process.wait(60) == 0
    assert errors == b""


@pytest.mark.thorough
def test_the_demo_goes_on_with_what_was_killed(run: Run, sessions: Sessions) -> None:
    ended = run("demo", "--json")

    assert ended.code == 0
    assert ended.json["remembered"] is True
    assert len(sessions.texts("assistant", ended.json["session_id"])) == 4


def test_version_and_completion(run: Run) -> None:
    assert run("--version").out.startswith("mongodb-session-manager ")
    assert "--install-completion" in run("--help").plain


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ses", ["sessions"]),
        ("sessions ex", ["export"]),
        ("sessions export --form", ["--format"]),
        ("sessions export --format ", ["json", "jsonl", "markdown"]),
        ("viewer --por", ["--port"]),
    ],
)
def test_the_shell_is_told_how_a_command_goes_on(typed: str, offered: list[str]) -> None:
    words = {"COMP_WORDS": f"{PROGRAM_NAME} {typed}", "COMP_CWORD": str(len(f"{PROGRAM_NAME} {typed}".split(" ")) - 1)}
    asked = {"_MONGODB_SESSION_MANAGER_COMPLETE": "complete_bash", **words}

    told = CliRunner().invoke(create(), env=asked, prog_name=PROGRAM_NAME)

    assert told.stdout.split() == offered


def test_no_command_waits_for_what_the_apps_import(tmp_path: Path) -> None:
    look = (
        "import sys; from mongodb_session_manager.cli.app import run\ntry: run(['shard'])\n"
        "finally: print(sorted({'fastapi', 'uvicorn'} & sys.modules.keys()), file=sys.stderr)"
    )

    ended = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.stderr.splitlines()[-1] == "[]"


def test_without_its_extra_the_program_says_what_to_install(tmp_path: Path) -> None:
    block = "import sys; sys.modules['typer'] = None; from mongodb_session_manager.__main__ import main; main()"

    ended = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert install_command("cli") in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["sessions", "list"], ["stats"], ["doctor"], ["shard"]], ids="-".join)
@pytest.mark.parametrize(
    ("flag", "wrong"), [("--database-name", "my.app"), ("--database-name", ""), ("--collection-name", "a$b")]
)
def test_a_name_that_cannot_be_is_a_wrong_command_line(run: Run, command: list[str], flag: str, wrong: str) -> None:
    ended = run(*command, flag, wrong)
    as_json = run(*command, flag, wrong, "--json")

    assert ended.code == as_json.code == 2
    assert ended.out == as_json.out == ""
    [line] = ended.err.splitlines()
    assert line.startswith(f"error: {flag}: it must ")
    assert json.loads(as_json.err)["error"]["message"] in line


WRONG_COMMAND_LINES = {
    "value": ["sessions", "list", "--limit", "0"],
    "option": ["sessions", "list", "--nope"],
    "argument": ["sessions", "show"],
    "more arguments": ["stats", "more"],
    "command": ["nope"],
    "choice": ["sessions", "export", "s-1", "--format", "xml"],
    "name": ["sessions", "show", ""],
    "key": ["sessions", "list", "--metadata", "$where=1"],
    "date": ["sessions", "list", "--since", "yesterday"],
    "time": ["doctor", "--timeout", "inf"],
}


@pytest.mark.parametrize("command", WRONG_COMMAND_LINES.values(), ids=WRONG_COMMAND_LINES)
def test_a_wrong_command_line_is_2_and_json_where_that_is_asked_for(run: Run, command: list[str]) -> None:
    ended = run(*command)
    as_json = run(*command, "--json")

    assert (ended.code, as_json.code) == (2, 2)
    assert as_json.out == ""
    assert json.loads(as_json.err)["error"]["message"]


@pytest.mark.parametrize("command", READING, ids="-".join)
def test_an_address_that_dns_does_not_know_is_one_line_and_4(
    run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns.resolver, "resolve", unknown_to_dns)

    ended = run(*command, MONGODB_CONNECTION_STRING=f"mongodb+srv://ada:hunter2@{UNKNOWN}/")

    said = " ".join((ended.plain + ended.err).split())
    assert ended.code == 4
    assert UNKNOWN in said
    assert "DNS does not know its servers" in said
    assert "hunter2" not in said
    assert len(ended.err.splitlines()) <= 1


def test_a_file_of_settings_that_is_no_utf_8_is_one_line(run: Run) -> None:
    Path(".env").write_bytes(b"DATABASE_NAME=caf\xe9\n")

    ended = run("sessions", "list")

    assert ended.code == 2
    assert ended.err == "error: cannot read .env in this folder: it must be text in UTF-8\n"
