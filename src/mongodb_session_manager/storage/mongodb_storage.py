"""Strands' `Storage` on MongoDB."""

from __future__ import annotations

import asyncio
import builtins
import copy
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from ..client import ClientHandle, MongoDBClient
from ..client.index_building import build_once, wait_for_builds
from ..errors import StorageConflictError
from ..runtime import portal
from ..schema.moments import cutoff
from ..schema.names import check_place
from ..schema.numbers import check_seconds
from . import search
from .ages import seconds
from .contract import NAMESPACED, StorageError, StorageSearchResult
from .indexes import chunk_index_specs, head_index_specs
from .keys import check_length, namespace_prefix, normalize_key, normalize_prefix
from .owner import Owner, Unowned
from .sweep import StorageSweep
from .values import CHUNKS_SUFFIX, StorageStat, Values

T = TypeVar("T")

_NO_TEXT_INDEX = 27


class MongoDBStorage:
    """Bytes under string keys, for everything in Strands that takes a `Storage`.

    Values may be of any size: up to 4 MB they are one document, beyond that chunks in a collection beside it
    (`<collection_name>_chunks`). An overwrite is atomic for readers, whatever dies meanwhile. Reads see what was
    written before, as they go to the primary. Usable from any event loop and thread, Strands' own throw-away loops
    included, unless it was given an `AsyncMongoClient`, which lives on one loop. Commands are sent again through a
    failover.

    It owns the client that it makes from a connection string, until `close()`, and borrows one that it is given. Every
    failure is a `StorageError`, with the driver's error as its cause.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "storage",
        client: MongoDBClient | None = None,
        *,
        ttl: timedelta | float | None = None,
        searchable: bool = False,
        write_deadline_s: float = 30,
        ensure_indexes: bool = True,
        **kwargs: Any,
    ) -> None:
        """Address a storage; no I/O.

        Args:
            connection_string: MongoDB URI; also taken from `MONGODB_CONNECTION_STRING`.
            database_name: Database of the values.
            collection_name: Collection of the values; large ones also use `<collection_name>_chunks`.
            client: A client to borrow: Motor, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            ttl: How long a value lives after it was last written (a timedelta or seconds). None for ever.
            searchable: Keep what is text in a text index, which `search` asks then; it finds what was written since,
                by whole words. Without it `search` reads the values of its namespace.
            write_deadline_s: How long a command is sent again when the server fails over, and how long a silent server
                is waited for, in seconds.
            ensure_indexes: Create the indexes for expiry, sweeps and search, once per process and off the caller's
                path.
            **kwargs: MongoDB client options, checked by the driver.

        Raises:
            InvalidNameError: MongoDB takes no such database or collection.
            TypeError: The client, or the ttl, is of another kind.
            ValueError: Neither client nor connection string; or a ttl that is not positive.
        """
        check_place(database_name, collection_name)
        handle = ClientHandle(connection_string, client=client, options=kwargs)
        ttl_s = seconds(ttl)
        deadline_s = check_seconds("write_deadline_s", write_deadline_s, endless=True)
        self._set_up(
            handle, database_name, collection_name, Unowned(ttl_s), searchable=searchable, deadline_s=deadline_s
        )
        self._ttl_s = ttl_s
        self._owns_handle = True
        self._ensure_indexes = ensure_indexes

    def _set_up(
        self,
        handle: ClientHandle,
        database: str,
        collection: str,
        owner: Owner,
        *,
        searchable: bool = False,
        deadline_s: float = 30,
    ) -> None:
        self._handle = handle
        self._database = database
        self._collection = collection
        self._values = Values(handle, database, collection, owner, deadline_s=deadline_s)
        self._owned = not isinstance(owner, Unowned)
        self._searchable = searchable
        self._prefix = ""
        # Where a client lives that is bound to the library's own loop; None: it works wherever it is called.
        self._home: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[Any]] | None = None
        self._owns_handle = False
        self._ensure_indexes = False

    @classmethod
    def _of_owner(
        cls,
        handle: ClientHandle,
        database: str,
        collection: str,
        owner: Owner,
        *,
        deadline_s: float,
        on_library_loop: bool = False,
        ensure_indexes: bool = True,
    ) -> Self:
        """Return a storage of values that belong to an owner, on a client that stays the caller's."""
        storage = cls.__new__(cls)
        storage._set_up(handle, database, collection, owner, deadline_s=deadline_s)
        storage._ttl_s = None
        storage._home = _on_library_loop if on_library_loop else None
        storage._ensure_indexes = ensure_indexes
        return storage

    @property
    def ttl(self) -> timedelta | None:
        """How long a value lives after it was last written; None for ever, or as long as what it belongs to."""
        return None if self._ttl_s is None else timedelta(seconds=self._ttl_s)

    # -- Strands' contract

    async def write(self, key: str, data: bytes, *, if_version: int | None = None) -> None:
        """Store data under a key, in the place of what is there.

        Args:
            key: The key. Runs of `/` are one, and none is at its beginning or end.
            data: The value.
            if_version: Only in the place of this version (`version(key)`); 0: only where there is none.

        Raises:
            StorageConflictError: Another version is there, or none; nothing was overwritten.
            StorageError: The key is not allowed, or the value could not be stored.
        """
        full_key = self._full_key(key)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise StorageError(f"invalid value of storage key {key!r}: it must be bytes, not {type(data).__name__}")
        if if_version is not None and (isinstance(if_version, bool) or not isinstance(if_version, int)):
            raise StorageError(f"invalid if_version: it must be an integer, not {type(if_version).__name__}")
        if if_version is not None and if_version < 0:
            raise StorageError(f"invalid if_version: it must not be negative, got {if_version}")
        value = bytes(data)
        self._check_write_concern()
        text = search.indexed_text(full_key, value) if self._searchable else None

        async def write() -> None:
            self._make_indexes()
            try:
                await self._values.write(full_key, value, if_version=if_version, text=text)
            except StorageConflictError as error:
                raise StorageConflictError(full_key[len(self._prefix) :], error.expected, error.found) from None

        await self._run(write, f"write {key!r}")

    async def read(self, key: str) -> bytes | None:
        """Return the value of a key, None without one.

        Raises:
            StorageError: The key is not allowed, or the value could not be read.
        """
        full_key = self._full_key(key)
        return await self._run(lambda: self._values.read(full_key), f"read {key!r}")

    async def delete(self, key: str) -> None:
        """Delete the value of a key; nothing without one.

        Raises:
            StorageError: The key is not allowed, or the value could not be deleted.
        """
        full_key = self._full_key(key)
        self._check_write_concern()
        await self._run(lambda: self._values.delete(full_key), f"delete {key!r}")

    async def list(self, query: str = "") -> builtins.list[str]:
        """Return the keys that begin with a prefix, whole and sorted. An empty prefix: all of them.

        Raises:
            StorageError: The prefix is not allowed, or the keys could not be read.
        """
        prefix = self._prefix + normalize_prefix(query)
        keys = await self._run(lambda: self._values.list(prefix), f"list {query!r}")
        return [key[len(self._prefix) :] for key in keys]

    async def search(self, query: str) -> builtins.list[StorageSearchResult]:
        """Return the keys of the values that hold words of the query, best first, at most 1,000; without the values.

        Raises:
            StorageError: The values could not be searched.
        """
        if not isinstance(query, str):
            raise StorageError(f"invalid search query: it must be a string, not {type(query).__name__}")
        words = search.words_of(query)
        if not words:
            return []
        return await self._run(lambda: self._search(words), "search")

    async def _search(self, words: set[str]) -> builtins.list[StorageSearchResult]:
        prefix = self._prefix
        if self._searchable:
            try:
                found = await self._values.find_text(prefix, " ".join(sorted(words)), search.MAX_RESULTS)
                return [StorageSearchResult(key=key[len(prefix) :], score=score) for key, score in found]
            except NotImplementedError:
                pass  # The mock knows no text index.
            except OperationFailure as error:
                # It is still being made, or the user may not make it.
                if error.code != _NO_TEXT_INDEX:
                    raise
        return await search.scan(self._values.each(prefix, at_once=search.AT_ONCE), words, prefix)

    def namespace(self, prefix: str) -> Self:
        """Return a view whose keys are those below a prefix, and which reaches nothing else.

        Strands' subsystems take its prefix for theirs and add none of their own. It lives as long as this storage;
        closing it does nothing.

        Raises:
            StorageError: The prefix is not allowed.
        """
        view = copy.copy(self)
        view._prefix = namespace_prefix(self._prefix, prefix)
        check_length(view._prefix)
        view._owns_handle = False
        view._namespaced = NAMESPACED  # type: ignore[attr-defined]
        return view

    # -- beyond it

    async def version(self, key: str) -> int | None:
        """Return the version of a value, for `write(..., if_version=...)`; None without one.

        It is 1 when a key is written for the first time, also after a deletion, and one more with each write.

        Raises:
            StorageError: The key is not allowed, or the server failed.
        """
        found = await self.stat(key)
        return None if found is None else found.version

    async def stat(self, key: str) -> StorageStat | None:
        """Return size, version and dates of a value, None without one.

        Raises:
            StorageError: The key is not allowed, or the server failed.
        """
        full_key = self._full_key(key)
        found = await self._run(lambda: self._values.stat(full_key), f"read {key!r}")
        if found is None:
            return None
        own_key = full_key[len(self._prefix) :]
        return StorageStat(own_key, found.size, found.version, found.created_at, found.updated_at, found.expires_at)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the values whose keys begin with a prefix, and return how many. An empty prefix: all of them.

        Raises:
            StorageError: The prefix is not allowed, or the server failed; some may be deleted.
        """
        full = self._prefix + normalize_prefix(prefix)
        self._check_write_concern()
        return await self._run(lambda: self._values.delete_prefix(full), f"delete all of {prefix!r}")

    async def sweep(self, *, older_than: datetime | timedelta = timedelta(hours=1), dry_run: bool = False) -> int:
        """Remove what processes that died in the middle of a large write left behind, which nothing reads.

        It goes through all large values of the collection, of every namespace, so it is for now and then.

        Args:
            older_than: A moment, or how long ago; what was written since may be about to be used.
            dry_run: Only count.

        Returns:
            How many chunks (of up to 4 MB) were removed, or would be.

        Raises:
            StorageError: The server failed.
            TypeError: Neither a date nor a time span.
            ValueError: A date without a time zone.
        """
        moment = cutoff(older_than)
        if not dry_run:
            self._check_write_concern()
        sweep = StorageSweep(self._values.heads, self._values.chunks, moment, dry_run=dry_run)
        return await self._run(sweep.run, "sweep")

    # -- lifetime

    async def close(self) -> None:
        """Give the client back that was made from a connection string. Idempotent; a view's does nothing."""
        if self._owns_handle:
            await wait_for_builds(self._handle)
            await self._handle.aclose()

    async def __aenter__(self) -> Self:
        """Return the storage."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    def __repr__(self) -> str:
        """Name the collection and the namespace, never the server."""
        where = f"{self._database}.{self._collection}"
        return f"<{type(self).__name__} {where!r}{f' namespace={self._prefix!r}' if self._prefix else ''}>"

    # -- inside

    def _full_key(self, key: str) -> str:
        full_key = self._prefix + normalize_key(key)
        check_length(full_key)
        return full_key

    def _check_write_concern(self) -> None:
        if not self._handle.acknowledges_writes:
            raise StorageError("the client's write concern is w=0, which tells nothing of a write; use w=1 or majority")

    def _make_indexes(self) -> None:
        if self._ensure_indexes:
            self._ensure_indexes = False
            names = (self._collection, f"{self._collection}{CHUNKS_SUFFIX}")
            build_once(self._handle, self._database, names, self._index_specs, ("storage", self._searchable))

    def _index_specs(self) -> Sequence[Sequence[IndexModel]]:
        heads = head_index_specs(owned=self._owned, searchable=self._searchable)
        return heads, chunk_index_specs(owned=self._owned)

    async def _run(self, operation: Callable[[], Coroutine[Any, Any, T]], what: str) -> T:
        """Run an operation where the client lives; what fails is a `StorageError`."""
        try:
            if self._home is None:
                return await operation()
            result: T = await self._home(operation)
            return result
        except StorageError:
            raise
        except Exception as error:
            raise StorageError(f"failed to {what}: {type(error).__name__}") from error


async def _on_library_loop(operation: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    if portal.is_current():
        return await operation()
    return await asyncio.wrap_future(portal.start(operation))
