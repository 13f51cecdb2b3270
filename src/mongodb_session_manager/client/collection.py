"""One collection as the engine uses it: the same calls and results over every driver, sent again where that helps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import IndexModel
from pymongo.results import DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from .. import tracing
from ..errors import WrongLoopError
from .retry import Retry

if TYPE_CHECKING:
    from .handle import ClientHandle

T = TypeVar("T")
Document = dict[str, Any]
Filter = Mapping[str, Any]
Update = Mapping[str, Any]
Projection = Mapping[str, Any] | Sequence[str] | None
Sort = Sequence[tuple[str, int]] | None

BATCH_SIZE = 500
"""Documents that `iterate` asks the server for at a time."""


class Collection:
    """A collection for the engine: reads from the primary, decodes to plain `dict` with UTC dates.

    What the user's client sets for reads and decoding has no influence; its write concern stays. Results are the
    driver's own. Every method may raise `WrongLoopError` over an `AsyncMongoClient`, and `PyMongoError`.

    With a deadline, every command is sent again until it succeeds, fails for good or the deadline has passed, so only
    commands that may be repeated are given to it. Cursors (`iterate`) and indexes are left to the caller.
    """

    def __init__(self, handle: ClientHandle, native: Callable[[], Any], deadline_s: float | None = None) -> None:
        """Borrow the handle.

        Args:
            handle: The client.
            native: Makes the driver's collection with the engine's options.
            deadline_s: Seconds for which a command is sent again; None sends each once.
        """
        self._handle = handle
        self._make_native = native
        self._native: Any = None
        self._generation = -1
        self._retry = None if deadline_s is None else Retry(deadline_s, lambda: handle.reached, handle.driver_client)

    def _driver(self) -> Any:
        self._handle.check_usable()
        if self._native is None or self._generation != self._handle.generation:
            self._generation = self._handle.generation
            self._native = self._make_native()
        return self._native

    async def _once(self, command: str, send: Callable[[Any], Awaitable[T]]) -> T:
        """Send a command, named as the method is, with the driver's complaint about another event loop translated."""
        if tracing.active is not None:
            tracing.active.count_command()
        try:
            result = await send(self._driver())
        except RuntimeError as error:
            if self._handle.is_wrong_loop(error):
                raise WrongLoopError() from error
            raise
        self._handle.note_reached()
        return result

    async def _send(
        self,
        command: str,
        send: Callable[[Any], Awaitable[T]],
        about: Filter,
        *,
        bounded: bool = True,
        deadline_s: float | None = None,
    ) -> T:
        if self._retry is None:
            return await self._once(command, send)
        session_id = about.get("session_id", about.get("_id"))
        return await self._retry.run(
            lambda: self._once(command, send), session_id, bounded=bounded, deadline_s=deadline_s
        )

    async def find_one(
        self, filter: Filter, projection: Projection = None, *, sort: Sort = None, bounded: bool = True
    ) -> Document | None:
        """Return the first matching document, None without one."""
        return await self._send(
            "find_one", lambda native: native.find_one(filter, projection, **_given(sort=sort)), filter, bounded=bounded
        )

    async def find(
        self,
        filter: Filter,
        projection: Projection = None,
        *,
        sort: Sort = None,
        limit: int = 0,
        skip: int = 0,
        max_time_ms: int | None = None,
        hint: Any = None,
        bounded: bool = True,
    ) -> list[Document]:
        """Return the matching documents; `limit=0` means all. `bounded=False` for what may take long: much to read."""
        options = _given(sort=sort, max_time_ms=max_time_ms, hint=hint)

        async def send(native: Any) -> list[Document]:
            found: list[Document] = await native.find(filter, projection, limit=limit, skip=skip, **options).to_list(
                None
            )
            return found

        return await self._send("find", send, filter, bounded=bounded)

    async def iterate(
        self,
        filter: Filter,
        projection: Projection = None,
        *,
        sort: Sort = None,
        limit: int = 0,
        skip: int = 0,
        max_time_ms: int | None = None,
        hint: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> AsyncIterator[Document]:
        """Yield the matching documents, fetched `batch_size` at a time; never sent again."""
        options = _given(sort=sort, max_time_ms=max_time_ms, hint=hint)
        cursor = self._driver().find(filter, projection, limit=limit, skip=skip, **options).batch_size(batch_size)
        try:
            while batch := await self._once("iterate", lambda _: cursor.to_list(batch_size)):
                for document in batch:
                    yield document
        finally:
            await cursor.close()

    async def gather(self, collect: Callable[[Collection], Awaitable[T]], about: Filter) -> T:
        """Run a whole read of several batches, from its beginning again after a failure."""
        if self._retry is None:
            return await collect(self)
        return await self._retry.run(lambda: collect(self), about.get("session_id"), bounded=False)

    async def insert_one(self, document: Document) -> InsertOneResult:
        """Insert a document under an `_id` of the caller's."""
        return await self._send("insert_one", lambda native: native.insert_one(document), document)

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool = True) -> InsertManyResult:
        """Insert documents, once; `ordered` stops at the first failure."""
        return await self._once("insert_many", lambda native: native.insert_many(documents, ordered=ordered))

    async def update_one(
        self,
        filter: Filter,
        update: Update,
        *,
        upsert: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Any = None,
        deadline_s: float | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> UpdateResult:
        """Update the first matching document; `before_send` is called before each attempt, and may raise."""
        options = _given(array_filters=array_filters, hint=hint)

        async def send(native: Any) -> UpdateResult:
            if before_send is not None:
                before_send()
            result: UpdateResult = await native.update_one(filter, update, upsert=upsert, **options)
            return result

        return await self._send("update_one", send, filter, deadline_s=deadline_s)

    async def update_many(
        self,
        filter: Filter,
        update: Update,
        *,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Any = None,
        bounded: bool = True,
    ) -> UpdateResult:
        """Update every matching document."""
        options = _given(array_filters=array_filters, hint=hint)
        return await self._send(
            "update_many", lambda native: native.update_many(filter, update, **options), filter, bounded=bounded
        )

    async def find_one_and_update(
        self,
        filter: Filter,
        update: Update,
        projection: Projection = None,
        *,
        sort: Sort = None,
        upsert: bool = False,
        return_document: bool = False,
    ) -> Document | None:
        """Update one document and return it as it was, or with `return_document=ReturnDocument.AFTER` as it is."""
        return await self._send(
            "find_one_and_update",
            lambda native: native.find_one_and_update(
                filter,
                update,
                projection=projection,
                upsert=upsert,
                return_document=return_document,
                **_given(sort=sort),
            ),
            filter,
        )

    async def delete_one(self, filter: Filter) -> DeleteResult:
        """Delete the first matching document."""
        return await self._send("delete_one", lambda native: native.delete_one(filter), filter)

    async def delete_many(self, filter: Filter) -> DeleteResult:
        """Delete every matching document."""
        return await self._send("delete_many", lambda native: native.delete_many(filter), filter)

    async def count_documents(
        self, filter: Filter, *, limit: int | None = None, max_time_ms: int | None = None, hint: Any = None
    ) -> int:
        """Count the matching documents, up to `limit`."""
        options = _given(limit=limit, maxTimeMS=max_time_ms, hint=hint)
        return await self._send(
            "count_documents", lambda native: native.count_documents(filter, **options), filter, bounded=False
        )

    async def aggregate(
        self, pipeline: Sequence[Mapping[str, Any]], *, bounded: bool = True, **options: Any
    ) -> list[Document]:
        """Return the documents that come out of the pipeline."""

        async def send(native: Any) -> list[Document]:
            cursor = native.aggregate(pipeline, **options)
            if not hasattr(cursor, "to_list"):
                cursor = await cursor  # PyMongo's own coroutine, where Motor gives a cursor at once
            found: list[Document] = await cursor.to_list(None)
            return found

        return await self._send("aggregate", send, pipeline[0].get("$match", {}) if pipeline else {}, bounded=bounded)

    async def create_indexes(self, models: Sequence[IndexModel]) -> list[str]:
        """Create indexes and return their names; those that exist already are left as they are."""
        return await self._once("create_indexes", lambda native: native.create_indexes(list(models)))

    async def index_information(self) -> dict[str, Any]:
        """Return the indexes by name."""
        return await self._once("index_information", lambda native: native.index_information())


def _given(**options: Any) -> dict[str, Any]:
    # The mock does not know every option, so only those that are set are passed on.
    return {name: value for name, value in options.items() if value is not None}
