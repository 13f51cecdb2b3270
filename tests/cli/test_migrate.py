"""`migrate`, from a folder and from a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.session import FileSessionManager

from mongodb_session_manager.offline import OfflineModel
from tests.cli.conftest import Run
from tests.fixtures.sessions import COLLECTION, Sessions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sessions of Strands' own session manager."""
    place = tmp_path / "files"
    place.mkdir()
    for session_id in ("s-1", "s-2"):
        manager = FileSessionManager(session_id=session_id, storage_dir=str(place))
        agent = Agent(model=OfflineModel(), agent_id="support", session_manager=manager, callback_handler=None)
        agent("My name is Ada.")
    return place


def test_it_says_what_it_would_take_asks_and_takes_it_once(run: Run, sessions: Sessions, folder: Path) -> None:
    looked = run("migrate", "file", str(folder), "--dry-run", "--json")
    unasked = run("migrate", "file", str(folder))
    assert sessions.raw.count_documents({}) == 0
    taken = run("migrate", "file", str(folder), "--yes", "--json")
    again = run("migrate", "file", str(folder), "--yes", "--json")

    assert (looked.code, unasked.code, taken.code, again.code) == (0, 2, 0, 0)
    assert (looked.json["dry_run"], looked.json["migrated"], looked.json["messages"]) == (True, 2, 4)
    assert (taken.json["dry_run"], taken.json["migrated"], taken.json["complete"]) == (False, 2, True)
    assert (again.json["migrated"], again.json["present"]) == (0, 2)
    assert sessions.texts("support", "s-2")[0] == "My name is Ada."


def test_what_cannot_be_read_is_told_and_ends_with_1(run: Run, sessions: Sessions, folder: Path) -> None:
    [message] = folder.glob("session_s-1/agents/agent_support/messages/message_0.json")
    message.write_text("{")

    ended = run("migrate", "file", str(folder), "--yes", terminal=80)

    assert ended.code == 1
    assert "s-1" in ended.plain
    assert sessions.texts("support", "s-2")[0] == "My name is Ada."


def test_a_collection_of_older_documents(run: Run, sessions: Sessions) -> None:
    message: dict[str, Any] = {"role": "user", "content": [{"text": "old"}]}
    agent = {"agent_data": {"agent_id": "support", "state": {}}, "messages": [{"message": message, "message_id": 0}]}
    database = sessions.raw.database
    database["older"].insert_one({"_id": "s-1", "session_id": "s-1", "agents": {"support": agent}})

    taken = run("migrate", "documents", f"{sessions.database_name}.older", "--yes", "--json")

    assert taken.json["migrated"] == 1
    assert sessions.texts("support", "s-1") == ["old"]


@pytest.mark.parametrize("kind", ["documents", "messages"])
def test_a_collection_is_not_migrated_into_itself(run: Run, sessions: Sessions, kind: str) -> None:
    sessions.raw.insert_one({"_id": "s-1", "session_id": "s-1", "agents": {}})

    ended = run("migrate", kind, f"{sessions.database_name}.{COLLECTION}", "--yes")

    assert ended.code == 1
    assert "it must be another collection than the source" in ended.err


@pytest.mark.parametrize(("kind", "place"), [("file", "/no/such/folder"), ("documents", "nodot"), ("other", "x")])
def test_a_place_that_cannot_be_is_told(run: Run, kind: str, place: str) -> None:
    ended = run("migrate", kind, place)

    assert ended.code in (1, 2)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("uri", ["http://ada:hunter2@127.0.0.1:1/", "mongodb://ada:hun/ter2@127.0.0.1:1/"])
def test_a_malformed_connection_string_of_the_source_is_2_and_names_the_flag(run: Run, uri: str) -> None:
    ended = run("migrate", "documents", "old.sessions", "--source-connection-string", uri)

    [line] = ended.err.splitlines()
    assert ended.code == 2
    assert line.startswith("error: --source-connection-string: ")
    assert "ter2" not in line


def test_a_source_that_is_away_is_named_and_not_the_target(run: Run) -> None:
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    ended = run("migrate", "documents", "old.sessions", "--source-connection-string", uri)

    assert ended.code == 4
    assert "127.0.0.1:1;" in ended.err


@pytest.mark.parametrize("place", ["old.", ".sessions", "o ld.sessions", "old.$sessions"])
def test_a_place_that_mongodb_has_no_name_for_is_2(run: Run, place: str) -> None:
    ended = run("migrate", "documents", place)

    assert ended.code == 2
    assert ended.err.startswith("error: invalid ")


@pytest.mark.parametrize("place", ["bucket", "not a bucket"])
def test_a_bucket_that_cannot_be_read_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    ended = run("migrate", "s3", place)

    [line] = ended.err.splitlines()
    assert ended.code == 1
    assert line.startswith("error: cannot read the bucket: ")
