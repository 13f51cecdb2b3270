"""The MongoDB server of an app: the user's, or an embedded one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from pymongo.errors import PyMongoError

from ..client.options import check_connection_string as check_options
from ..embedded import EmbeddedMongo, find_mongod

logger = logging.getLogger(__name__)


@asynccontextmanager
async def mongodb_server(connection_string: str | None) -> AsyncIterator[str]:
    """Yield the connection string to use; without one, of an embedded server.

    That one is shared by the apps of this user on this machine, and ends with the last of them; its data is temporary.
    It is a replica set of one node, so change streams work.

    Raises:
        EmbeddedMongoError: There is no connection string and no `mongod` on this machine, or it does not start.
    """
    if connection_string:
        yield connection_string
        return
    # Only here: file locks are POSIX, as embedded servers are; with a connection string the apps run anywhere.
    from .shared_server import SharedServer

    shared = SharedServer()
    try:
        uri = await anyio.to_thread.run_sync(_started, shared.start)
        if uri is not None:
            logger.info("embedded MongoDB server started, its data is temporary")
            yield uri
            return
    finally:
        shared.stop()
    async with EmbeddedMongo("replica_set") as server:
        yield server.uri


def _started(start: Callable[[], str]) -> str | None:
    try:
        return start()
    except OSError as error:
        logger.warning("error=<%s> | this app gets an embedded MongoDB server that other apps do not share", error)
        return None


def check_server_program(connection_string: str | None) -> None:
    """Fail early, with advice, when an embedded server is needed and cannot be had.

    Raises:
        MongodNotFoundError: There is no connection string and no `mongod` on this machine.
    """
    if not connection_string:
        find_mongod()


def check_connection_string(connection_string: str | None) -> None:
    """Fail early when a connection string cannot be understood; nothing is sent.

    Raises:
        ValueError: It cannot; the message shows no part of it that is secret.
    """
    if connection_string:
        try:
            check_options(connection_string)
        except (PyMongoError, TypeError, OSError) as error:
            raise ValueError(str(error)) from None
