"""The servers that the compared session managers talk to, started for one run and ended with it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongo

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
IN_MEMORY = ("--save", "", "--appendonly", "no")
EVERY_WRITE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
_START_S = 10.0


@dataclass
class Places:
    """Where each system keeps its sessions; goes to the worker processes as JSON.

    Attributes:
        mongodb: Connection string.
        database: Prefix of the databases; each system has one of its own.
        s3: Endpoint of the S3 server.
        redis: Ports of the Redis servers by name, none when there is no Redis.
        folder: For systems that keep files.
        versions: Of the servers.
    """

    mongodb: str
    database: str
    s3: str
    folder: str
    redis: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@contextmanager
def servers() -> Iterator[Places]:
    """Start everything, and give where it is."""
    with ExitStack() as stack:
        uri = os.environ.get(CONNECTION_STRING) or stack.enter_context(EmbeddedMongo()).uri
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-"))
        places = Places(uri, f"peers_{uuid.uuid4().hex[:8]}", stack.enter_context(_s3()), folder)
        with MongoClient[dict[str, Any]](uri) as client:
            places.versions["MongoDB"] = client.server_info()["version"]
        program = shutil.which("redis-server")
        if program and importlib.util.find_spec("strands_valkey_session_manager"):
            answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            places.versions["Redis"] = next(part[2:] for part in answer.split() if part.startswith("v="))
            for name, options in (("memory", IN_MEMORY), ("every write", EVERY_WRITE)):
                places.redis[name] = stack.enter_context(_redis(program, Path(folder, f"redis {name}"), options))
        try:
            yield places
        finally:
            _drop(places)


def _drop(places: Places) -> None:
    with MongoClient[dict[str, Any]](places.mongodb) as client:
        for name in client.list_database_names():
            if name.startswith(f"{places.database}_"):
                client.drop_database(name)


@contextmanager
def _s3() -> Iterator[str]:
    # A line for each request would slow it down.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@contextmanager
def _redis(program: str, folder: Path, options: tuple[str, ...]) -> Iterator[int]:
    folder.mkdir()
    port = _free_port()
    where = ("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder))
    with subprocess.Popen([program, *where, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + _START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"redis-server did not start on port {port}") from None
            time.sleep(0.02)
