"""The MongoDB server of an app: the user's, or an embedded one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..embedded import EmbeddedMongo, find_mongod

logger = logging.getLogger(__name__)


@asynccontextmanager
async def mongodb_server(connection_string: str | None) -> AsyncIterator[str]:
    """Yield the connection string to use; without one, of an embedded server that ends with the block.

    The embedded server is a replica set of one node, so change streams work. Its data is temporary.

    Raises:
        EmbeddedMongoError: There is no connection string and no `mongod` on this machine, or it does not start.
    """
    if connection_string:
        yield connection_string
        return
    async with EmbeddedMongo("replica_set") as server:
        logger.info("pids=<%s> | embedded MongoDB server started, its data is temporary", server.pids)
        yield server.uri


def check_server_program(connection_string: str | None) -> None:
    """Fail early, with advice, when an embedded server is needed and cannot be had.

    Raises:
        MongodNotFoundError: There is no connection string and no `mongod` on this machine.
    """
    if not connection_string:
        find_mongod()
