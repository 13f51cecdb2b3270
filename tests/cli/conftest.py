"""Command lines, run in this process on a collection of the test."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.rich_utils  # reads FORCE_COLOR when it is imported, which is not to be inside of a test  # noqa: F401
from typer.testing import CliRunner

from mongodb_session_manager.cli.app import create
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Ran:
    """What a command line printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def plain(self) -> str:
        """The output without the styles of a terminal."""
        return _COLOURS.sub("", self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line: `run("sessions", "list")`; `terminal=80` on a terminal of that width, `typed` is typed."""
    monkeypatch.chdir(tmp_path)  # no `.env` here
    app = create()

    def run(*arguments: str, terminal: int | None = None, typed: str = "", **environment: str | None) -> Ran:
        given: dict[str, str | None] = {
            "MONGODB_CONNECTION_STRING": sessions.uri,
            "DATABASE_NAME": sessions.database_name,
            "COLLECTION_NAME": COLLECTION,
            "COLUMNS": str(terminal or 80),
            "FORCE_COLOR": "1" if terminal else None,
            **environment,
        }
        result = CliRunner().invoke(app, arguments, env=given, input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


Fill = Callable[..., None]


@pytest.fixture
def fill(sessions: Sessions) -> Fill:
    """Store sessions, each with one turn."""

    def fill(*session_ids: str, said: str = "Hello", answer: str = "Hi there", **metadata: Any) -> None:
        async def store() -> None:
            for session_id in session_ids:
                async with sessions.manager(session_id) as manager:
                    await make_agent(manager, answer).invoke_async(said)
                    if metadata:
                        await manager.update_metadata(metadata)

        asyncio.run(store())

    return fill
