"""Runs the examples as a user does: as programs of their own, which must leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from pymongo import MongoClient

Document = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "examples"
COLLECTION = "sessions"
_MARK = "TEST_EXAMPLE_RUN"
_TIMEOUT_S = 240.0


class Examples:
    """The examples, on a database of this test.

    Attributes:
        stored: The collection that they fill.
    """

    def __init__(self, uri: str, client: MongoClient[Document], database_name: str) -> None:
        self.stored = client[database_name][COLLECTION]
        self._mark = uuid4().hex
        self._environment = {
            # No variable of whoever runs the tests names a model, a server or credentials.
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "MONGOD_BINARY") if name in os.environ},
            "MONGODB_CONNECTION_STRING": uri,
            "DATABASE_NAME": database_name,
            "COLLECTION_NAME": COLLECTION,
            "PYTHONIOENCODING": "utf-8",
            _MARK: self._mark,
        }

    def run(self, name: str, *, server: bool = True, **environment: str) -> str:
        """Run an example to its end and return what it printed.

        Args:
            name: Such as `example_calculator_tool`.
            server: Use the server of the tests; without it the example starts one of its own.
            **environment: More variables.
        """
        done = subprocess.run(
            [sys.executable, FOLDER / f"{name}.py"],
            env=self._variables(server=server, more=environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    @contextmanager
    def serving(self, name: str, *, server: bool = True, **environment: str) -> Iterator[str]:
        """Start a web application and yield its address; it is ended with SIGTERM."""
        process = subprocess.Popen(
            [sys.executable, FOLDER / f"{name}.py"],
            env={**self._variables(server=server, more=environment), "EXAMPLE_PORT": "0"},
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        kill = threading.Timer(_TIMEOUT_S, process.kill)
        kill.start()
        assert process.stderr is not None
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                    # From here on somebody must read what it says, or it stops when the pipe is full.
                    reader = threading.Thread(target=said.extend, args=(process.stderr,))
                    reader.start()
                    yield found[1]
                    process.terminate()
                    process.wait()
                    reader.join()
                    break
            else:
                pytest.fail(f"{name} did not start:\n{''.join(said)}")
        finally:
            kill.cancel()
            process.kill()
            process.wait()
            process.stderr.close()
        assert "Traceback" not in "".join(said), "".join(said)

    def document(self, **query: Any) -> Document:
        """Return the one stored session, or the one that fits."""
        found = list(self.stored.find(query))
        assert len(found) == 1, [document["_id"] for document in found]
        return found[0]

    def check_nothing_is_left(self) -> None:
        """Assert that every process that an example started has ended, or ends without help."""
        left = [process for process in psutil.process_iter() if self._mark in _environment(process).get(_MARK, "")]
        # The watcher of an embedded server ends by itself, a moment after its example.
        _, alive = psutil.wait_procs(left, timeout=60)
        assert not alive, [process.cmdline() for process in alive]

    def _variables(self, *, server: bool, more: Mapping[str, str]) -> dict[str, str]:
        variables = {**self._environment, **more}
        if not server:
            del variables["MONGODB_CONNECTION_STRING"]
        return variables


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        # Somebody else's, or gone in the meantime.
        return {}


@pytest.fixture
def examples(mongo_uri: str, mongo_client: MongoClient[Document], database_name: str) -> Iterator[Examples]:
    """The examples, on a database of this test; when it ends, so has every process."""
    examples = Examples(mongo_uri, mongo_client, database_name)
    yield examples
    examples.check_nothing_is_left()
