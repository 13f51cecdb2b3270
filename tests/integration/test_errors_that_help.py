"""What a newcomer runs into says what it is and what to do, each in a program of its own or in one line."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from pydantic import BaseModel
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import InvalidURI, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from strands.types.exceptions import SessionException

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    MongoDBSessionManager,
    MongoDBSessionManagerFactory,
    MongoDBSessionRepository,
    SessionNotOpenError,
    placeholders,
)
from mongodb_session_manager.extras import needs
from mongodb_session_manager.sync import running_loop
from tests.cli.test_doctor import a_user
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent

NOWHERE = "mongodb://ada:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100"

MANAGER = "MongoDBSessionManager('s-1', os.environ['URI'], 'db', 'sessions')"
OPENING = {
    "sync": MANAGER,
    "async": f"async def main():\n    async with Async{MANAGER}:\n        pass\nasyncio.run(main())",
    "open": f"async def main():\n    await Async{MANAGER}.open()\nasyncio.run(main())",
}


def ended(code: str, uri: str, tmp_path: Path) -> str:
    """Return what a program says that ends with an error; a traceback shows its source, so the URI is elsewhere."""
    file = tmp_path / "program.py"
    file.write_text(f"import asyncio, os\nfrom mongodb_session_manager import *\n{code}\n")
    done = subprocess.run(
        [sys.executable, str(file)], env=os.environ | {"URI": uri}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("face", OPENING)
def test_a_server_that_is_not_there_takes_a_few_lines(face: str, tmp_path: Path) -> None:
    said = ended(OPENING[face], NOWHERE, tmp_path)

    assert len(said.splitlines()) < 30
    assert "ServerSelectionTimeoutError: 127.0.0.1:1" in said
    assert said.splitlines()[-1].startswith("What to try: MongoDB does not answer at 127.0.0.1:1; check that it runs")
    assert "hunter2" not in said


@pytest.mark.parametrize("face", OPENING)
def test_a_wrong_password_names_the_host_and_what_to_check(face: str, sessions: Sessions, tmp_path: Path) -> None:
    with a_user(sessions, "readWrite", "hunter2") as variables:
        said = ended(OPENING[face], variables["MONGODB_CONNECTION_STRING"], tmp_path)

    assert len(said.splitlines()) < 30
    assert "OperationFailure: Authentication failed" in said
    assert "What to try: MongoDB at 127.0.0.1:" in said
    assert "authSource" in said
    assert "hunter2" not in said


def collect() -> None:
    with warnings.catch_warnings():
        # The driver's async monitor leaves a socket behind that was being refused.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_advice_is_given_for_every_client_and_operation_and_once() -> None:
    motor = AsyncMongoDBSessionRepository(NOWHERE, "db", "sessions")
    borrowed = AsyncMongoClient[dict[str, Any]](NOWHERE)
    manager = AsyncMongoDBSessionManager("s-1", client=borrowed, database_name="db", collection_name="sessions")
    found: list[PyMongoError] = []
    for operation in (motor.list_sessions, lambda: motor.get_metadata("s-1"), manager.open):
        with pytest.raises(ServerSelectionTimeoutError) as error:
            await operation()
        found.append(error.value)
    await motor.close()
    await manager.close()
    await borrowed.close()
    del borrowed, manager, operation
    collect()

    for said in found:
        assert [note.partition(";")[0] for note in said.__notes__] == [
            "What to try: MongoDB does not answer at 127.0.0.1:1"
        ]


def test_an_error_without_advice_keeps_its_whole_traceback(sessions: Sessions) -> None:
    with sessions_repository(sessions) as repository, pytest.raises(OperationFailure) as error:
        repository.collection.database.command("noSuchCommand")

    assert not hasattr(error.value, "__notes__")
    assert len(traceback.extract_tb(error.value.__traceback__)) > 3


def sessions_repository(sessions: Sessions) -> MongoDBSessionRepository:
    return MongoDBSessionRepository(sessions.uri, sessions.database_name, "sessions")


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize("make", [AsyncMongoDBSessionManagerFactory, MongoDBSessionManagerFactory])
def test_credentials_that_are_not_encoded_are_not_taken_for_a_host(make: Callable[..., Any], scheme: str) -> None:
    with pytest.raises(InvalidURI, match="percent-encoded") as error:
        make(f"{scheme}://ada:p@ss/w@db.example.com/")

    told = [error.value, error.value.__cause__, error.value.__context__]
    assert not any(part in str(said) for said in told for part in ("p@ss", "ss/w", "ada"))


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize("kind", [AsyncMongoDBSessionManager, MongoDBSessionManager])
def test_a_connection_string_is_no_session_id(kind: type[Any], scheme: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid session_id: it must not be a connection string") as error:
        kind(f"{scheme}://ada:hunter2@db.example.com/", "s-1")

    assert "hunter2" not in "".join(traceback.format_exception(error.value, limit=0))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that was not warned yet."""
    monkeypatch.setattr(placeholders._Told, "placeholders", False)
    monkeypatch.setattr(running_loop._Told, "running_loop", False)


@pytest.mark.usefixtures("told")
async def test_a_sync_manager_in_a_running_loop_is_one_warning(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        MongoDBSessionManager(f"s-{number}", sessions.uri, sessions.database_name, "sessions").close()

    [record] = [record for record in caplog.records if "running event loop" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "AsyncMongoDBSessionManager" in record.getMessage()


@pytest.mark.usefixtures("told")
def test_a_sync_manager_elsewhere_is_none(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    MongoDBSessionManager("s-1", sessions.uri, sessions.database_name, "sessions").close()

    assert not [record for record in caplog.records if "event loop" in record.getMessage()]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    "names", [{}, {"database_name": "mine"}, {"collection_name": "mine"}], ids=["both", "collection", "database"]
)
def test_placeholder_names_are_one_warning(names: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient(), **names)

    [record] = [record for record in caplog.records if "placeholders" in record.getMessage()]
    assert "database_name=" in record.getMessage()


@pytest.mark.usefixtures("told")
def test_names_of_ones_own_are_none(caplog: pytest.LogCaptureFixture) -> None:
    AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient(), database_name="mine", collection_name="sessions")

    assert not caplog.records


@pytest.mark.parametrize(
    "make",
    [
        lambda: AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient()),
        lambda: AsyncMongoDBSessionManagerFactory(client=AsyncMongoMockClient()),
        lambda: AsyncMongoDBSessionRepository(client=AsyncMongoMockClient()),
    ],
    ids=["manager", "factory", "repository"],
)
def test_with_on_an_async_class_says_the_other(make: Callable[[], Any]) -> None:
    held = make()
    other = type(held).__name__.removeprefix("Async")

    with pytest.raises(TypeError, match=f"use `async with`, or {other} with a plain `with`"), held:
        pass


@pytest.mark.parametrize("kind", [MongoDBSessionManager, MongoDBSessionManagerFactory, MongoDBSessionRepository])
async def test_async_with_on_a_sync_class_says_the_other(kind: type[Any]) -> None:
    with pytest.raises(TypeError, match=f"use `with`, or Async{kind.__name__} with `async with`"):
        async with object.__new__(kind):
            pass


async def test_what_is_not_open_says_so_for_the_call_that_was_made() -> None:
    manager = AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient())

    with pytest.raises(SessionNotOpenError, match=r"open\(\)` before agents, graphs and swarms are built on it"):
        make_agent(manager, "hi")
    for call in (manager.get_metadata, manager.flush, manager.list_agents):
        with pytest.raises(SessionNotOpenError, match=r"open\(\)` before using it"):
            await call()


class Model(BaseModel):
    tier: str = "gold"


@dataclasses.dataclass
class Record:
    tier: str = "gold"


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Model(), r"\.model_dump\(\)"),
        (Record(), r"dataclasses\.asdict\(\)"),
        ({"a"}, "store a list"),
        (Record, "an instance's values"),
        (object(), "str, bytes, dates"),
        ([{"deep": Model()}], r"\[0\]\.deep: cannot store a Model; .*\.model_dump\(\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_value_that_cannot_be_stored_says_what_can(value: Any, advice: str) -> None:
    async with AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient(), ensure_indexes=False) as manager:
        with pytest.raises(TypeError, match=advice) as error:
            await manager.update_metadata({"customer": value})

    assert "customer" in str(error.value)
    assert "gold" not in str(error.value)


@pytest.mark.parametrize("name", ["update_metadata", "flush", "list_agents", "add_feedback", "get_metrics_summary"])
async def test_a_coroutine_that_is_not_awaited_is_named_by_its_public_class(name: str) -> None:
    manager = AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient())
    arguments: list[dict[str, Any]] = [{}] if name in ("update_metadata", "add_feedback") else []

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(manager, name)(*arguments)

    [warning] = [str(entry.message) for entry in caught if "never awaited" in str(entry.message)]
    assert f"'AsyncMongoDBSessionManager.{name}'" in warning


async def test_two_agents_without_ids_say_how_to_name_them() -> None:
    from strands import Agent

    from mongodb_session_manager.offline import OfflineModel

    async with AsyncMongoDBSessionManager("s-1", client=AsyncMongoMockClient(), ensure_indexes=False) as manager:
        Agent(model=OfflineModel(), session_manager=manager, callback_handler=None)
        with pytest.raises(SessionException, match=r"Agent\(agent_id='support', \.\.\.\)"):
            Agent(model=OfflineModel(), session_manager=manager, callback_handler=None)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({}, "pip install 'mongodb-session-manager[cli]'"),
        (
            {"url": "file:///home/ada/my%20clone", "dir_info": {"editable": True}},
            "pip install -e '/home/ada/my clone[cli]'",
        ),
        ({"url": "file:///srv/clone", "dir_info": {}}, "pip install '/srv/clone[cli]'"),
        (
            {
                "url": "https://ada:token@example.com/it.git",
                "vcs_info": {"vcs": "git", "commit_id": "1", "requested_revision": "v1"},
            },
            "pip install 'mongodb-session-manager[cli] @ git+https://example.com/it.git@v1'",
        ),
        (
            {"url": "https://example.com/it.whl", "archive_info": {}},
            "pip install 'mongodb-session-manager[cli] @ https://example.com/it.whl'",
        ),
    ],
    ids=["index", "editable", "folder", "git", "file"],
)
def test_a_missing_extra_is_installed_from_where_this_was(
    origin: dict[str, Any], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return json.dumps(origin) if origin else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution())

    with pytest.raises(ImportError) as error, needs("cli"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401

    assert str(error.value).endswith(f"install it with: {command}")


def test_a_borrowed_client_is_not_kept_alive_by_its_advice() -> None:
    import weakref

    client = MongoClient[dict[str, Any]](NOWHERE, connect=False)
    gone = weakref.ref(client)
    AsyncMongoDBSessionManager("s-1", client=client, database_name="db", collection_name="sessions")
    client.close()
    del client
    collect()

    assert gone() is None
