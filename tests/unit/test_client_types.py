"""What type checkers say, outside of this project, of `client=` on everything that takes one."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mongodb_session_manager
import mongodb_session_manager.fastapi
import mongodb_session_manager.migrate
from mongodb_session_manager.client import MongoDBClient

S3 = "S3Source"
PLACES = {
    f"{module.__name__}.{name}": value
    for module in (mongodb_session_manager, mongodb_session_manager.fastapi, mongodb_session_manager.migrate)
    for name in module.__all__
    if callable(value := getattr(module, name)) and name != S3
    if not (isinstance(value, type) and issubclass(value, Exception))
    if "client" in inspect.signature(value).parameters
}
CLIENTS = """
from motor.motor_asyncio import AsyncIOMotorClient
from mongomock_motor import AsyncMongoMockClient
from pymongo import AsyncMongoClient, MongoClient

Document = dict[str, object]
motor: AsyncIOMotorClient[Document] = AsyncIOMotorClient()
blocking: MongoClient[Document] = MongoClient()
own_async: AsyncMongoClient[Document] = AsyncMongoClient()
mock: AsyncMongoMockClient[Document] = AsyncMongoMockClient()
"""
ACCEPTED = ("motor", "blocking", "own_async", "mock", "None")
REFUSED = ('"mongodb://localhost:27017/"', "motor.database", "object()", "27017")


def call(name: str, client: str) -> str:
    takes = inspect.signature(PLACES[name]).parameters
    first = "session_id='s', " if "session_id" in takes else ""
    return f"print({name}({first}client={client}))"


def test_every_place_that_takes_a_client_is_known() -> None:
    names = {name.rpartition(".")[2] for name in PLACES}

    assert names >= {
        *("AsyncMongoDBSessionManager", "MongoDBSessionManager", "AsyncMongoDBSessionRepository"),
        *("MongoDBSessionRepository", "AsyncMongoDBSessionManagerFactory", "MongoDBSessionManagerFactory"),
        *("MongoDBStorage", "Sessions", "initialize_async_global_factory", "initialize_global_factory"),
        *("create_async_mongodb_session_manager", "create_mongodb_session_manager", "OlderDocumentSource"),
    }


@pytest.mark.parametrize("name", PLACES)
def test_every_place_names_the_same_kinds(name: str) -> None:
    client = inspect.signature(PLACES[name]).parameters["client"]

    assert client.annotation == "MongoDBClient | None"
    assert client.default is None
    assert len(MongoDBClient.__args__) == 3


@pytest.mark.slow
def test_a_user_sees_which_clients_may_be_given(tmp_path: Path) -> None:
    lines = [call(name, client) for name in PLACES for client in (*ACCEPTED, *REFUSED)]
    modules = "".join(f"import {name}\n" for name in sorted({name.rpartition(".")[0] for name in PLACES}))
    program = tmp_path / "program.py"
    program.write_text(f"{modules}{CLIENTS}\n" + "\n".join(lines) + "\n")
    (tmp_path / "mypy.ini").write_text("[mypy]\n")
    first = program.read_text().splitlines().index(lines[0]) + 1

    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)

    said = re.findall(r"^program\.py:(\d+): error: (.*?)  \[(.*)\]$", checked.stdout, re.MULTILINE)
    refused = {lines[int(line) - first] for line, _, kind in said if kind == "arg-type"}
    assert refused == {call(name, client) for name in PLACES for client in REFUSED}, checked.stdout
    assert len(said) == len(refused), checked.stdout
