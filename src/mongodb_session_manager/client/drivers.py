"""A driver's collection, and where its commands run: on worker threads, or on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ReadPreference, _csot
from pymongo.command_cursor import CommandCursor
from pymongo.cursor import Cursor

from .settling import settled, settled_job
from .threads import no_answer
from .together import OperationTogether, SentTogether
from .workers import Workers

T = TypeVar("T")
Document = dict[str, Any]

Command = Callable[[Any], T | Awaitable[T]]
"""Sends a command over the driver's collection: returns its result, or what has to be awaited for it."""

CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=UTC,
    # UUIDs stay binary, which `values.decode` reads: the driver refuses a whole reply for one of another length.
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    # A date outside Python's range, written by another tool, must not make a whole session unreadable.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    # Nor must text that is no UTF-8.
    unicode_decode_error_handler="replace",
)
MOCK_CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict, tz_aware=True)


class Driver(Protocol):
    """A collection with the engine's options, and a way to run its commands."""

    native: Any

    def run(self, command: Command[T], timeout_s: float | None = None, *, settles: bool = False) -> Awaitable[T]:
        """Send a command, and wait for the answer for at most so many seconds, None for as long as it takes.

        A caller that is cancelled waits until a command that `settles` is no longer under way; see `settled`.

        Raises:
            NetworkTimeout: There was no answer; the command may still arrive.
        """
        ...


class OnWorkers:
    """PyMongo's synchronous collection, on the worker threads of its client; for any event loop."""

    __slots__ = ("_workers", "native")

    def __init__(self, database: Any, name: str, workers: Workers) -> None:
        """Borrow the database and the threads."""
        self.native = _collection(database, name)
        self._workers = workers

    def run(self, command: Command[T], timeout_s: float | None = None, *, settles: bool = False) -> Awaitable[T]:
        """Send a command on one of the threads, perhaps along with others."""
        # What limits the time of one caller's commands is not to limit those of others.
        if isinstance(command, SentTogether) and _csot.get_timeout() is None:
            operation: Callable[[], Any] = OperationTogether(command, self.native)
        else:
            operation = partial(command, self.native)
        job = self._workers.submit(operation, asyncio.get_running_loop(), timeout_s)
        return settled_job(job, self._workers.withdraw) if settles else job.future


class OnLoop:
    """An async driver's collection, on the running event loop."""

    __slots__ = ("native",)

    def __init__(self, database: Any, name: str, options: CodecOptions[dict[str, Any]] = CODEC_OPTIONS) -> None:
        """Borrow the database."""
        self.native = _collection(database, name, options)

    def run(self, command: Command[T], timeout_s: float | None = None, *, settles: bool = False) -> Awaitable[T]:
        """Send a command."""
        sent = self._run(command, timeout_s)
        return settled(sent) if settles else sent

    async def _run(self, command: Command[T], timeout_s: float | None) -> T:
        sent = cast("Awaitable[T]", command(self.native))
        if timeout_s is None:
            return await sent
        patience = asyncio.timeout(timeout_s)
        try:
            async with patience:
                return await sent
        except TimeoutError:
            if not patience.expired():
                raise
            raise no_answer(timeout_s) from None


def _collection(database: Any, name: str, options: CodecOptions[dict[str, Any]] = CODEC_OPTIONS) -> Any:
    """Return a collection that reads from the primary and decodes to plain `dict` with UTC dates."""
    return database.get_collection(name, codec_options=options, read_preference=ReadPreference.PRIMARY)


def all_of(found: Any) -> Any:
    """Return all documents of a cursor: a list of PyMongo's synchronous one, else what has to be awaited for it."""
    return list(found) if isinstance(found, Cursor | CommandCursor) else _all_awaited(found)


async def _all_awaited(found: Any) -> list[Document]:
    # PyMongo's own `aggregate` is a coroutine, the mock's gives a cursor at once.
    cursor = found if hasattr(found, "to_list") else await found
    documents: list[Document] = await cursor.to_list(None)
    return documents


def next_of(cursor: Any, count: int) -> Any:
    """Return the next documents of a cursor, at most so many; likewise."""
    return list(islice(cursor, count)) if isinstance(cursor, Cursor) else cursor.to_list(count)
