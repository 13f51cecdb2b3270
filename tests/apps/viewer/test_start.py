"""Starting the viewer: from its settings, with the samples, and as a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from pymongo import MongoClient

from mongodb_session_manager.viewer import ViewerSettings
from mongodb_session_manager.viewer.samples import store_samples
from tests.apps.viewer.conftest import PASSWORD, OpenViewer, make_settings
from tests.fixtures.sessions import (
    COLLECTION,
    Sessions,
)
from tests.support.invariants import check_stored


def program(tmp_path: Path, **environment: str) -> subprocess.Popen[str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIEWER_", "BACKEND_", "MONGODB_"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "mongodb_session_manager.viewer"],
        env={**inherited, "VIEWER_MIN_POOL_SIZE": "1", **environment},
        cwd=tmp_path,  # no `.env` of anybody's
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_says_where_it_is_serves_and_ends_on_a_signal(tmp_path: Path, sessions: Sessions) -> None:
    process = program(
        tmp_path, MONGODB_CONNECTION_STRING=sessions.uri, DATABASE_NAME=sessions.database_name, VIEWER_PORT="0"
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Session Viewer: http://127.0.0.1:"), line + (process.stderr or process.stdout).read()
        with httpx.Client(base_url=line.partition(": ")[2].strip(), timeout=30) as client:
            health = client.get("/health").json()
            page = client.get("/")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()

    assert health["status"] == "ok"
    assert page.headers["Content-Type"].startswith("text/html")
    assert "Traceback" not in log


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"VIEWER_HOST": "0.0.0.0"}, "VIEWER_PASSWORD must have at least 12 characters (it has none)"),
        ({"VIEWER_MAX_PAGE_SIZE": "0", "VIEWER_PASSWORD": PASSWORD}, "VIEWER_MAX_PAGE_SIZE: Input should be greater"),
        ({"MONGODB_CONNECTION_STRING": "", "MONGOD_BINARY": "/nowhere/mongod"}, "no MongoDB server:"),
    ],
)
def test_it_refuses_to_start_with_a_line_that_says_why(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    process = program(tmp_path, **{"MONGODB_CONNECTION_STRING": "mongodb://127.0.0.1:1/", **environment})
    out, log = process.communicate(timeout=60)

    assert process.returncode != 0
    assert said in log
    assert "Traceback" not in log
    assert not {PASSWORD, "elevenchars"} & set(log.split())
    assert out == ""


async def test_the_samples_show_every_kind_of_thing(sessions: Sessions, open_viewer: OpenViewer) -> None:
    count = await store_samples(sessions.uri, sessions.database_name, COLLECTION)
    again = await store_samples(sessions.uri, sessions.database_name, COLLECTION)
    with MongoClient[dict[str, Any]](sessions.uri, tz_aware=True) as client:
        ids = [document["_id"] for document in sessions.raw.find({}, {"_id": 1})]
        for session_id in ids:
            check_stored(client[sessions.database_name], session_id)

    async with open_viewer(max_page_size=200) as viewer:
        found = (await viewer.search(limit=200))["sessions"]
        items = [
            item
            for entry in found
            for item in await viewer.timeline(f"/api/v1/sessions/{entry['session_id']}", limit=200)
        ]
        fields = (await viewer.get("/api/v1/metadata-fields"))["fields"]
        pictures = [
            (await viewer.client.get(block["url"])).headers["Content-Type"]
            for item in items
            if item["type"] == "message"
            for block in item["content"]
            if block["type"] == "image"
        ]

    assert (count, again) == (len(ids), 0)
    assert len({entry["application_name"] for entry in found}) > 2
    assert len({entry["created_at"][:10] for entry in found}) > 10
    assert {item["type"] for item in items} == {"message", "feedback", "guardrail", "error"}
    blocks = {block["type"] for item in items if item["type"] == "message" for block in item["content"]}
    assert blocks == {"text", "image", "tool_use", "tool_result", "reasoning"}
    assert any(item.get("redacted") for item in items)
    assert not any(item["problem"] for item in items)
    assert max(entry["agents_count"] for entry in found) == 3
    assert max(entry["messages_count"] for entry in found) == 300
    assert {field["type"] for field in fields} == {"string", "number", "boolean", "date"}
    assert pictures == ["image/png"] * len(pictures) != []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend_port": 70000}, "less than or equal to 65535"),
        (
            {"default_page_size": 50, "max_page_size": 20},
            "invalid VIEWER_DEFAULT_PAGE_SIZE: it must be at most VIEWER_MAX_PAGE_SIZE=20, got 50",
        ),
        (
            {"min_pool_size": 20, "max_pool_size": 10},
            "invalid VIEWER_MIN_POOL_SIZE: it must be at most VIEWER_MAX_POOL_SIZE=10, got 20",
        ),
        ({"allowed_origins_str": "*"}, "it must hold origins only, .*, got '\\*'"),
        ({"allowed_origins_str": "https://a.example/path"}, "it must hold origins only"),
        ({"log_level": "LOUD"}, "DEBUG"),
        ({"max_idle_time_ms": 10**20}, "less than or equal to 1000000000"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_settings(**options)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DATABASE_NAME=from_file\nVIEWER_ENUM_FIELDS=a, metadata.b\nUNRELATED=1\n")
    monkeypatch.setenv("COLLECTION_NAME", "from_environment")
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", "")
    monkeypatch.setenv("LOG_LEVEL", "debug")

    settings = ViewerSettings()

    assert (settings.database_name, settings.collection_name) == ("from_file", "from_environment")
    assert settings.enum_fields == {"a", "b"}
    assert settings.connection_string is None
    assert settings.log_level == "DEBUG"
    assert (settings.backend_host, settings.backend_port) == ("127.0.0.1", 8882)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_old_names_work_and_say_the_new_ones(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    old = {
        "BACKEND_PASSWORD": PASSWORD,
        "BACKEND_HOST": "0.0.0.0",
        "BACKEND_PORT": "9000",
        "ALLOWED_ORIGINS_STR": "https://a.example",
        "MAX_POOL_SIZE": "7",
        "MIN_POOL_SIZE": "3",
        "MAX_IDLE_TIME_MS": "1000",
        "DEFAULT_PAGE_SIZE": "5",
        "MAX_PAGE_SIZE": "50",
        "ENUM_FIELDS_STR": "status",
        "ENUM_MAX_VALUES": "9",
    }
    if place == "file":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in old.items()))
    else:
        for name, value in old.items():
            monkeypatch.setenv(name, value)

    settings = ViewerSettings()

    assert settings.password == PASSWORD
    assert (settings.backend_host, settings.backend_port) == ("0.0.0.0", 9000)
    assert settings.allowed_origins == {"https://a.example"}
    assert settings.client_options() == {"maxPoolSize": 7, "minPoolSize": 3, "maxIdleTimeMS": 1000}
    assert (settings.default_page_size, settings.max_page_size) == (5, 50)
    assert (settings.enum_fields, settings.enum_max_values) == (frozenset({"status"}), 9)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(old)
    assert "setting=<BACKEND_PORT> | renamed, use VIEWER_PORT" in said
    assert "setting=<ENUM_FIELDS_STR> | renamed, use VIEWER_ENUM_FIELDS" in said
    assert PASSWORD not in caplog.text


def test_a_new_name_goes_before_the_old_one_and_is_no_news(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKEND_PORT", "9000")
    monkeypatch.setenv("VIEWER_PORT", "9001")

    assert ViewerSettings().backend_port == 9001
    assert ViewerSettings(backend_port=9002).backend_port == 9002
    assert not caplog.records


def test_a_setting_is_called_what_the_user_calls_it(tmp_path: Path) -> None:
    process = program(tmp_path, BACKEND_HOST="0.0.0.0")
    _, log = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "setting=<BACKEND_HOST> | renamed, use VIEWER_HOST" in log
    assert "invalid BACKEND_HOST: 0.0.0.0 can be reached" in log
    assert "BACKEND_PASSWORD must have at least 12 characters (it has none)" in log
