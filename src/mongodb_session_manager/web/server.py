"""Starting an app with uvicorn."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from ..embedded import EmbeddedMongoError
from .databases import check_server_program
from .event_streams import Stopping

_GRACE_S = 5
"""Seconds that requests in progress have when the server ends."""


def settings_problems(error: ValidationError) -> str:
    """Return what is wrong with an app's settings, in one line and without the values, of which some are secret."""
    said: list[str] = []
    for problem in error.errors(include_input=False, include_url=False):
        setting = ".".join(str(part).upper() for part in problem["loc"])
        # pydantic puts this before what a validator of ours said.
        message = problem["msg"].removeprefix("Value error, ")
        said.append(f"{setting}: {message}" if setting else message)
    return "; ".join(said)


def run(
    app: FastAPI,
    *,
    title: str,
    host: str,
    port: int,
    stopping: Stopping,
    connection_string: str | None,
    log_level: str = "info",
) -> None:
    """Serve an app until it is told to end, and print where it is.

    Args:
        app: The app.
        title: What it is, for people.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose.
        stopping: Told when the server is about to end.
        connection_string: The user's MongoDB server; None for the embedded one, which is looked for at once.
        log_level: `debug`, `info`, `warning` or `error`.

    Raises:
        SystemExit: It could not be started; the message says why.
    """
    try:
        check_server_program(connection_string)
    except EmbeddedMongoError as error:
        sys.exit(f"no MongoDB server: {error}; or set MONGODB_CONNECTION_STRING")
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s | %(message)s")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=log_level.lower(),
        # Addresses hold session ids: uvicorn's access log is left to the proxy in front.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config, title, stopping)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, title: str, stopping: Stopping) -> None:
        super().__init__(config)
        self._title = title
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"{self._title}: http://{shown}:{port}/", flush=True)  # noqa: T201 - what a person waits for

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._stopping.set()
