"""Neither a password nor anything that was said stands in a log line, at any level."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from mongodb_session_manager.web.logs import QuietFormatter, configure_logging, where_it_failed
from tests.apps.playground.servers import playground
from tests.apps.served import APPS, App
from tests.apps.viewer.conftest import running, settings_for
from tests.apps.viewer.stored import message, session
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S
from tests.support.models import ScriptedModel

SECRET = "s3cr3t-zebra"
PASSWORD = f"{SECRET}-of-the-viewer"
OWN = f"{SECRET}-of-the-session-0123456789"
GUESS = f"{SECRET}-a-guess"
SAID = f"{SECRET} was said"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
TITLES: dict[App, str] = {"viewer": "Session Viewer: ", "playground": "Chat playground: "}


@contextmanager
def program(name: App, folder: Path, sessions: Sessions, level: str) -> Iterator[tuple[str, Path]]:
    """Run an app as a user does; yield its address, and the file with everything that it wrote."""
    own = ("VIEWER_", "BACKEND_", "PLAYGROUND_", "MONGODB_", "LOG_")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(own)},
        "MONGODB_CONNECTION_STRING": sessions.uri,
        "DATABASE_NAME": sessions.database_name,
        "COLLECTION_NAME": COLLECTION,
        "VIEWER_PORT": "0",
        "PLAYGROUND_PORT": "0",
        "PLAYGROUND_OFFLINE_DELAY_S": "0",
        "VIEWER_PASSWORD": PASSWORD,
        "VIEWER_MIN_POOL_SIZE": "0",
        "LOG_LEVEL": level,
    }
    log = folder / f"{name}-{level}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", f"mongodb_session_manager.{name}"],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(TITLES[name]), log.read_text()
            yield line.removeprefix(TITLES[name]).strip(), log
            process.terminate()
            process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
            process.communicate()


def use_viewer(client: httpx.Client) -> list[int]:
    """Log in, rightly and wrongly, and read what there is."""
    answers = [
        client.post("/api/v1/login", json={"password": GUESS}),
        client.post("/api/v1/login", json={"password": GUESS, "session_id": "s-1"}),
        client.post("/api/v1/login", json={"password": [GUESS]}),
        client.get("/api/v1/sessions/s-1", headers={"X-Session-Password": OWN}),
        client.get("/api/v1/sessions/s-1", headers={"X-Session-Password": GUESS}),
        client.post("/api/v1/login", json={"password": PASSWORD}),
        client.get("/api/v1/sessions/search"),
        client.get("/api/v1/sessions/s-1/export?format=markdown"),
        client.get("/api/v1/sessions/s-1/message", params={"agent_id": SAID, "message_id": 0}),
    ]
    return [answer.status_code for answer in answers]


def use_playground(client: httpx.Client) -> list[int]:
    """Say something, with tools, and give an opinion."""
    answers = [
        client.post("/api/chat", json={"session_id": "p-1", "message": f"Remember that my name is {SAID}"}),
        client.post("/api/chat", json={"session_id": "p-1", "message": f"What is 6 * 7, {SAID}?"}),
        client.post("/api/chat", json={"session_id": "p-1", "message": [SAID]}),
        client.post("/api/sessions/p-1/feedback", json={"rating": "up", "comment": SAID}),
        client.get("/api/sessions/p-1"),
        client.get("/api/sessions"),
    ]
    return [answer.status_code for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("level", LEVELS)
def test_no_line_of_a_program_holds_a_password_or_a_message(
    sessions: Sessions, tmp_path: Path, mongo_client: MongoClient[Any], name: App, level: str
) -> None:
    document = session("s-1", metadata={"topic": SAID}, agents={"a": [message("user", SAID)]})
    sessions.raw.insert_one({**document, "session_viewer_password": OWN})
    with (
        program(name, tmp_path, sessions, level) as (address, log),
        httpx.Client(base_url=address, timeout=WAIT_S) as client,
    ):
        use = use_viewer if name == "viewer" else use_playground
        statuses = use(client)
        failing = {"failCommands": ["find", "update", "aggregate"], "errorCode": 11601, "appName": ""}
        with fail_point(mongo_client, {"times": 3}, {**failing, "namespace": f"{sessions.database_name}.{COLLECTION}"}):
            use(client)
    said = log.read_text()

    expected = {"viewer": [401, 401, 422, 200, 401, 200, 200, 200, 404], "playground": [200, 200, 422, 201, 200, 200]}
    assert statuses == expected[name]
    assert SECRET not in said
    assert "pymongo" not in said.replace("pymongo.errors", "")
    assert ("DEBUG" in said) <= (level == "DEBUG")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Every line of the package's loggers at every level, with texts of exceptions, as any formatter writes them."""
    found: list[str] = []
    formatter = logging.Formatter("%(levelname)s %(name)s | %(message)s")

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(formatter.format(record))

    root = logging.getLogger("mongodb_session_manager")
    keeper, before = Keeper(logging.DEBUG), root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield found
    root.setLevel(before)
    root.removeHandler(keeper)


async def test_an_unexpected_error_is_logged_without_its_text(
    sessions: Sessions, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        try:
            raise LookupError(SAID)
        except LookupError as error:
            raise RuntimeError(f"{OWN} {SAID}") from error

    async with running(settings_for(sessions.uri, sessions.database_name, backend_password=PASSWORD)) as viewer:
        monkeypatch.setattr(viewer.app.state.database.search, "page", fail)
        answer = await viewer.client.get("/api/v1/sessions/search", headers={"X-Password": PASSWORD})

    said = "\n".join(lines)
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert SECRET not in said
    assert "builtins.RuntimeError" in said
    assert "builtins.LookupError" in said
    assert "in fail" in said


async def test_a_turn_that_fails_is_logged_without_what_the_model_said(sessions: Sessions, lines: list[str]) -> None:
    async with playground(sessions, ScriptedModel(ValueError(f"the provider quotes: {SAID}"))) as app:
        await app.chat("s-1", SAID)

    said = "\n".join(lines)
    assert "turn failed" in said
    assert SECRET not in said


def test_a_formatter_writes_where_and_not_what() -> None:
    try:
        raise ExceptionGroup(SAID, [ValueError(SAID), KeyError(SAID)])
    except ExceptionGroup as error:
        group = error
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "it failed", (), (type(group), group, group.__traceback__))

    line = QuietFormatter("%(message)s").format(record)

    assert SECRET not in line.replace("SAID", "")
    for name in ("ExceptionGroup", "ValueError", "KeyError"):
        assert f"builtins.{name}" in line
    assert "test_a_formatter_writes_where_and_not_what" in line


def test_errors_that_cause_each_other_are_written_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert where_it_failed(first).count("ValueError") == 2


@pytest.mark.parametrize("level", ["debug", "INFO", "warning", "error"])
def test_the_level_is_that_of_the_packages_loggers(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    root, own = logging.getLogger(), logging.getLogger("mongodb_session_manager")
    before = (root.handlers[:], root.level, own.level)
    root.handlers.clear()
    try:
        configure_logging(level)
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in ("pymongo.command", "botocore", "x")}
        own_level = logging.getLogger("mongodb_session_manager.playground.turns").getEffectiveLevel()
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])

    wanted = getattr(logging, level.upper())
    assert own_level == wanted
    assert set(levels.values()) == {max(wanted, logging.INFO)}
