"""What the examples have in common: a MongoDB server, a model, a plain way to print, and a count of MongoDB commands.

Without any setting everything runs on this machine: a MongoDB server that ends with the example, and a model that needs
no network. Real ones come from the environment:

    MONGODB_CONNECTION_STRING   a MongoDB server of yours
    EXAMPLE_MODEL               a model of yours, as provider:id, for instance
                                bedrock:us.anthropic.claude-sonnet-4-20250514-v1:0, openai:gpt-4o-mini,
                                anthropic:claude-sonnet-4-20250514 or ollama:llama3.1
    DATABASE_NAME               the database, "examples" by default
    COLLECTION_NAME             the collection, "sessions" by default
    EXAMPLE_PORT                where the web applications listen on 127.0.0.1, 8000 by default; 0 for any free port
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands.models.model import Model

from mongodb_session_manager.embedded import EmbeddedMongo, EmbeddedMongoError
from mongodb_session_manager.models import model_by_name

if TYPE_CHECKING:
    from fastapi import FastAPI

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
DATABASE = os.environ.get("DATABASE_NAME") or "examples"
COLLECTION = os.environ.get("COLLECTION_NAME") or "sessions"
_BACKGROUND = {"createIndexes", "listIndexes", "endSessions", "saslStart", "saslContinue"}


def run(story: Callable[[str], Coroutine[Any, Any, None] | None]) -> None:
    """Run an example, async or not, with the connection string of its server, and end with one line if it cannot."""
    try:
        told = story(os.environ.get(CONNECTION_STRING) or _server_until_exit())
        if told is not None:
            asyncio.run(told)
    except EmbeddedMongoError as error:
        sys.exit(f"no MongoDB server: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def serve(app: FastAPI) -> None:
    """Run a web application until it is interrupted; it takes its server from `MONGODB_CONNECTION_STRING`."""

    import uvicorn

    def story(uri: str) -> None:
        os.environ[CONNECTION_STRING] = uri
        uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("EXAMPLE_PORT") or 8000), access_log=False)

    run(story)


def _server_until_exit() -> str:
    # Not `with`: it ends with the process, after the library's work in the background, such as making indexes.
    server = EmbeddedMongo()
    server.start()
    return server.uri


def new_session_id(about: str) -> str:
    """Return a session id that was never used, so that an example can run again on a server that keeps its data."""
    return f"{about}-{uuid.uuid4().hex[:8]}"


def heading(text: str) -> None:
    """Print the title of a chapter."""
    print(f"\n{text}\n{'-' * len(text)}")


def say(who: str, text: object) -> None:
    """Print what somebody said, or a field and its value."""
    print(f"  {who + ':' if who else '':<10} {str(text).strip()}".rstrip(), flush=True)


@contextmanager
def mongodb() -> Iterator[str]:
    """Give a connection string: yours, or that of a server that runs as long as the block."""
    if given := os.environ.get(CONNECTION_STRING):
        yield given
        return
    with EmbeddedMongo() as server:
        yield server.uri


def chosen_model(variable: str = "EXAMPLE_MODEL") -> Model:
    """Make the model that an environment variable names as `provider:id`; the offline model without one.

    Raises:
        SystemExit: With advice, if the variable cannot be understood or the provider's package is missing.
    """
    try:
        return model_by_name(os.environ.get(variable, ""))
    except (ImportError, ValueError) as error:
        raise SystemExit(f"{variable}: {error}") from error


@dataclass
class Commands:
    """MongoDB commands of one step: how often each was sent, and how long the server took for all of them."""

    counts: Counter[str] = field(default_factory=Counter)
    server_ms: float = 0.0


class CommandCounter(CommandListener):
    """Count the commands that a client sends; those of connections, indexes and closing are left out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = Commands()

    def take(self) -> Commands:
        """Return the commands since the last call."""
        with self._lock:
            taken, self._current = self._current, Commands()
        return taken

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            with self._lock:
                self._current.counts[event.command_name] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._add(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self._add(event)

    def _add(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            with self._lock:
                self._current.server_ms += event.duration_micros / 1000
