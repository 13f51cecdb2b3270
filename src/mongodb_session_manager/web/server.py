"""Starting an app with uvicorn."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..embedded import EmbeddedMongoError
from .connections import PatientProtocol
from .databases import check_connection_string, check_server_program
from .event_streams import Stopping
from .logs import configure_logging

_GRACE_S = 5
"""Seconds that requests in progress have when the server ends."""


def run(
    app: FastAPI,
    *,
    title: str,
    host: str,
    port: int,
    stopping: Stopping,
    connection_string: str | None,
    port_setting: str,
    log_level: str = "info",
    forwarded_allow_ips: str = "",
) -> None:
    """Serve an app until it is told to end, and print where it is.

    Args:
        app: The app.
        title: What it is, for people.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose.
        stopping: Told when the server is about to end.
        connection_string: The user's MongoDB server; None for the embedded one, which is looked for at once.
        port_setting: The environment variable of the port, to name when the port cannot be had.
        log_level: `debug`, `info`, `warning` or `error`.
        forwarded_allow_ips: Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count,
            separated by commas; empty for none.

    Raises:
        SystemExit: It could not be started; the message says why.
    """
    try:
        check_server_program(connection_string)
        check_connection_string(connection_string)
        sockets = _bound(host, port)
    except EmbeddedMongoError as error:
        sys.exit(f"no MongoDB server: {error}; or set MONGODB_CONNECTION_STRING")
    except ValueError as error:
        sys.exit(f"{title} cannot start: MONGODB_CONNECTION_STRING: {error}")
    except OSError as error:
        sys.exit(f"{title} cannot start: {port_setting}: {_binding_problem(error, host, port)}")
    configure_logging(log_level)
    server = _Server(server_config(app, host, port, forwarded_allow_ips), title, stopping)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        sys.exit(1)


def server_config(app: FastAPI, host: str, port: int, forwarded_allow_ips: str = "") -> uvicorn.Config:
    """Return how uvicorn is to serve an app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        # Its loggers are set up like all others.
        log_config=None,
        # Addresses hold session ids: uvicorn's access log is left to the proxy in front.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        # Left to itself uvicorn believes every client on this machine.
        proxy_headers=bool(forwarded_allow_ips.strip()),
        forwarded_allow_ips=forwarded_allow_ips.strip(),
    )


def _bound(host: str, port: int) -> list[socket.socket]:
    """Take the addresses before anything else is started: a port that is in use is found at once."""
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    if port == 0:
        del found[1:]  # each would have a port of its own
    with contextlib.ExitStack() as bound:
        sockets = []
        for family, kind, protocol, _, address in found:
            listener = bound.enter_context(contextlib.closing(socket.socket(family, kind, protocol)))
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            sockets.append(listener)
        bound.pop_all()
    return sockets


def _binding_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program; choose another with --port, or end that program"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has; choose one from 1024 on with --port"
    return f"{host}:{port} cannot be listened on: {error.strerror or type(error).__name__}"


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
