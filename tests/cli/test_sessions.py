from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Fill, Run
from tests.fixtures.sessions import COLLECTION, Sessions


def test_list_is_a_table_lines_with_tabs_or_json(run: Run, fill: Fill) -> None:
    fill("s-1", "a-session-with-an-id-of-" + "x" * 60, priority="high")
    fill("s-2")

    piped = run("sessions", "list")
    table = run("sessions", "list", terminal=80)
    document = run("sessions", "list", "--json").json

    assert [line.split("\t")[0] for line in piped.out.splitlines()] == [
        "session",
        "s-2",
        "a-session-with-an-id-of-" + "x" * 60,
        "s-1",
    ]
    assert max(map(len, table.plain.splitlines())) <= 80
    assert "\x1b[" in table.out
    assert "".join(table.plain.split()).count("x") >= 60  # an id is folded, never cut
    assert [entry["session_id"] for entry in document["sessions"]][::2] == ["s-2", "s-1"]
    assert document["sessions"][0]["updated_at"].endswith("Z")
    assert document["next_cursor"] is None


def test_list_filters_and_goes_on(run: Run, fill: Fill) -> None:
    fill(*(f"s-{number}" for number in range(3)), priority="high", score=3)
    fill("other", priority="3")

    by_text = run("sessions", "list", "--metadata", "priority=high", "--json").json
    by_number = run("sessions", "list", "--metadata", "score=3", "--metadata", "priority=high", "--json").json
    by_agent = run("sessions", "list", "--agent", "nobody", "--json").json
    later = run("sessions", "list", "--since", "2999-01-01", "--json").json
    first = run("sessions", "list", "-n", "3", "--json").json
    rest = run("sessions", "list", "--cursor", first["next_cursor"], "--json").json

    assert len(by_text["sessions"]) == len(by_number["sessions"]) == 3
    assert by_agent["sessions"] == later["sessions"] == []
    assert [entry["session_id"] for entry in first["sessions"] + rest["sessions"]] == ["other", "s-2", "s-1", "s-0"]


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--metadata", "priority"], ["--since", "9999999999w"]])
def test_what_cannot_be_understood_is_a_wrong_command_line(run: Run, arguments: list[str]) -> None:
    ended = run("sessions", "list", *arguments)

    assert ended.code == 2
    assert all(argument in ended.err for argument in arguments)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("moment", ["2999-11-28T05:00", "2999-11-28 05:00:00.5", "29991128T05"])
@pytest.mark.parametrize(
    ("command", "flag"),
    [(["sessions", "list"], "--since"), (["sessions", "delete"], "--older-than"), (["sweep"], "--older-than")],
)
def test_a_time_that_selects_says_its_zone(
    run: Run, fill: Fill, sessions: Sessions, command: list[str], flag: str, moment: str
) -> None:
    fill("s-1")

    refused = run(*command, *(["--yes"] if flag == "--older-than" else []), flag, moment)
    in_utc = run(*command, flag, f"{moment}Z", "--json", *(["--dry-run"] if flag == "--older-than" else []))
    elsewhere = run(*command, flag, f"{moment}+01:00", "--json", *(["--dry-run"] if flag == "--older-than" else []))

    assert (refused.code, in_utc.code, elsewhere.code) == (2, 0, 0)
    rule = "a date with a time must say its zone, such as Z or +01:00"
    assert refused.err == f"error: invalid {flag}: {moment!r}: {rule}\n"
    assert [document["_id"] for document in sessions.raw.find()] == ["s-1"]


def test_a_bare_date_is_the_beginning_of_a_day_in_utc(run: Run, fill: Fill, sessions: Sessions) -> None:
    fill("before", "after")
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    for session_id, created_at in (("before", midnight - timedelta(milliseconds=1)), ("after", midnight)):
        sessions.raw.update_one({"_id": session_id}, {"$set": {"created_at": created_at}})

    found = {
        moment: [entry["session_id"] for entry in run("sessions", "list", "--since", moment, "--json").json["sessions"]]
        for moment in ("2026-01-31", "2026-01-31T00:00Z", "2026-01-31T09:00+09:00", "2026-01-31T00:00:00.001Z")
    }

    assert list(found.values()) == [["after"], ["after"], ["after"], []]


def test_show_and_tail_show_what_was_said(run: Run, fill: Fill) -> None:
    fill("s-1", said="My name is Ada", answer="Hello Ada", priority="high")

    shown = run("sessions", "show", "s-1")
    document = run("sessions", "show", "s-1", "-n", "1", "--json").json
    tail = run("sessions", "tail", "s-1", "--no-follow")
    lines = [json.loads(line) for line in run("sessions", "tail", "s-1", "--no-follow", "--json").out.splitlines()]

    assert "0 user: My name is Ada" in shown.out
    assert "1 assistant: Hello Ada" in shown.out
    assert document["metadata"] == {"priority": "high"}
    assert [message["message_id"] for message in document["messages"]] == [1]
    assert tail.out == "0 user: My name is Ada\n1 assistant: Hello Ada\n"
    assert [line["role"] for line in lines] == ["user", "assistant"]


def test_stored_text_cannot_command_the_terminal(run: Run, fill: Fill) -> None:
    evil = "\x1b]0;owned\x07 \x1b[2J \u202egnp.exe \x9b31m [bold]markup[/bold]"
    fill("s-\x1b[2J", said=evil, answer="ok", **{"key": evil})

    for arguments in (
        ["sessions", "list"],
        ["sessions", "show", "s-\x1b[2J"],
        ["sessions", "tail", "s-\x1b[2J", "--no-follow"],
        ["sessions", "export", "s-\x1b[2J", "--format", "markdown"],
        ["sessions", "delete", "s-\x1b[2J", "--dry-run"],
    ):
        ended = run(*arguments, terminal=80)
        assert ended.code == 0
        for sign in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x9b"):
            assert sign not in ended.out, arguments
    assert "[bold]markup[/bold]" in run("sessions", "show", "s-\x1b[2J", terminal=200).plain


@pytest.mark.parametrize("form", ["json", "jsonl", "markdown"])
def test_an_export_is_whole_to_a_pipe_and_into_a_file(run: Run, fill: Fill, tmp_path: Path, form: str) -> None:
    fill("s-1", said="Grüße, 世界 \ud800", answer="# no heading\n```\nfence", priority="high")
    file = tmp_path / "out"

    piped = run("sessions", "export", "s-1", "--format", form)
    ended = run("sessions", "export", "s-1", "--format", form, "-o", str(file))

    assert (piped.code, ended.code) == (0, 0)
    assert "Grüße, 世界" in file.read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.part"))
    if form == "json":
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        assert document["messages"][1]["content"] == [{"text": "# no heading\n```\nfence"}]
        assert document["messages"][0]["content"] == [{"text": "Grüße, 世界 \ud800"}]
    if form == "jsonl":
        kinds = [json.loads(line)["type"] for line in file.read_text(encoding="utf-8").splitlines()]
        assert kinds == ["session", "message", "message"]


def test_several_sessions_go_into_a_folder_or_into_lines(run: Run, fill: Fill, tmp_path: Path) -> None:
    fill("s/1", "s-2")

    refused = run("sessions", "export", "s/1", "s-2")
    ended = run("sessions", "export", "s/1", "s-2", "-o", str(tmp_path), "--json")
    lines = run("sessions", "export", "s/1", "s-2", "--format", "jsonl", "-o", str(tmp_path / "all.jsonl"))

    assert refused.code == 2
    assert [Path(entry["file"]).name for entry in ended.json["exported"]] == ["s-1.json", "s-2.json"]
    assert lines.code == 0
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 6


def test_ids_that_look_alike_in_names_of_files_have_a_file_each(run: Run, fill: Fill, tmp_path: Path) -> None:
    ids = ["a/b", "a-b", "a b", "A-B", "a-b-2", "..", "session", "x" * 99 + "1", "x" * 99 + "2"]
    fill(*ids)

    ended = run("sessions", "export", *ids, "-o", str(tmp_path), "--json")

    files = [Path(entry["file"]) for entry in ended.json["exported"]]
    assert [json.loads(file.read_text())["session_id"] for file in files] == ids
    assert len({file.name.lower() for file in files}) == len(ids)


def test_a_session_that_is_missing_among_several_leaves_no_file(run: Run, fill: Fill, tmp_path: Path) -> None:
    fill("s-1")

    ended = run("sessions", "export", "s-1", "gone", "--format", "jsonl", "-o", str(tmp_path / "all.jsonl"))

    assert ended.code == 3
    assert not list(tmp_path.glob("all*"))


def test_an_export_goes_into_a_pipe_and_behind_a_link(run: Run, fill: Fill, tmp_path: Path) -> None:
    fill("s-1")
    pipe, link, target = tmp_path / "pipe", tmp_path / "latest.json", tmp_path / "today.json"
    os.mkfifo(pipe)
    target.write_text("yesterday")
    link.symlink_to(target)
    # Open on both sides, so that neither side waits for the other.
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        piped = run("sessions", "export", "s-1", "-o", str(pipe))
        received = os.read(reader, 1_000_000)
    finally:
        os.close(reader)
    linked = run("sessions", "export", "s-1", "-o", str(link))

    assert (piped.code, linked.code) == (0, 0)
    assert pipe.is_fifo()
    assert json.loads(received)["session_id"] == "s-1"
    assert link.is_symlink()
    assert json.loads(target.read_text()) == json.loads(received)


def test_delete_says_first_what_it_would_delete_and_asks(
    run: Run, fill: Fill, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("s-1", "s-2", "s-3")

    looked = run("sessions", "delete", "s-1", "--dry-run")
    unasked = run("sessions", "delete", "s-1")
    assert sessions.raw.count_documents({}) == 3
    monkeypatch.setattr("mongodb_session_manager.cli.output.can_ask", lambda: True)
    refused = run("sessions", "delete", "s-1", typed="n\n")
    assert sessions.raw.count_documents({}) == 3
    agreed = run("sessions", "delete", "s-1", typed="y\n")
    forced = run("sessions", "delete", "s-2", "gone", "--yes", "--json")

    assert "s-1" in looked.out
    assert (looked.code, unasked.code, refused.code, agreed.code, forced.code) == (0, 2, 1, 0, 3)
    assert "--yes" in unasked.err
    assert forced.json == {"deleted": 1, "found": ["s-2"], "missing": ["gone"], "dry_run": False}
    assert [document["_id"] for document in sessions.raw.find()] == ["s-3"]


def test_delete_by_age_leaves_what_is_younger(run: Run, fill: Fill, sessions: Sessions) -> None:
    fill("old", "young")
    sessions.raw.update_one({"_id": "old"}, {"$set": {"updated_at": datetime.now(UTC) - timedelta(days=100)}})

    looked = run("sessions", "delete", "--older-than", "90d", "--dry-run", "--json").json
    ended = run("sessions", "delete", "--older-than", "90d", "--yes", "--json").json

    assert looked == {"deleted": 0, "found": 1, "dry_run": True}
    assert ended == {"deleted": 1, "found": 1, "dry_run": False}
    assert [document["_id"] for document in sessions.raw.find()] == ["young"]


@pytest.mark.parametrize("arguments", [[], ["s-1", "--older-than", "1d"]])
def test_delete_needs_ids_or_an_age(run: Run, arguments: list[str]) -> None:
    assert run("sessions", "delete", *arguments, "--yes").code == 2


def test_fork_copies_the_beginning(run: Run, fill: Fill, sessions: Sessions) -> None:
    fill("s-1", said="one", answer="two")

    ended = run("sessions", "fork", "s-1", "s-2", "--up-to-message", "0", "--json")
    again = run("sessions", "fork", "s-1", "s-2")

    assert ended.json == {"session_id": "s-1", "new_session_id": "s-2", "messages": 1}
    assert sessions.texts(session_id="s-2") == ["one"]
    assert again.code == 1
    assert "exists already" in again.err


@pytest.mark.parametrize("command", ["show", "tail", "export", "fork"])
def test_a_session_that_is_not_there_ends_with_3(run: Run, sessions: Sessions, command: str) -> None:
    more = ["new"] if command == "fork" else []

    ended = run("sessions", command, "gone", *more)
    as_json = run("sessions", command, "gone", *more, "--json")

    assert ended.code == as_json.code == 3
    assert ended.out == as_json.out == ""
    assert ended.err == f"error: no such session in {sessions.database_name}.{COLLECTION}: 'gone'\n"
    assert json.loads(as_json.err)["error"]["kind"] == "SessionNotFoundError"
