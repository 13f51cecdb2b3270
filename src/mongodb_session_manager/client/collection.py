"""One collection as the engine uses it: the same calls and results over every driver, sent again where that helps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import IndexModel
from pymongo.results import DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from .. import tracing
from ..errors import WrongLoopError
from .drivers import Command, Driver, all_of, next_of
from .retry import Retry
from .together import ReadById, UpdateById

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

    A caller that is cancelled waits until what it changes is no longer under way (a few seconds at most), so that it
    cannot arrive after what the caller changes next.

    With a deadline, every command is sent again until it succeeds, fails for good or the deadline has passed, so only
    commands that may be repeated are given to it. Cursors (`iterate`) and indexes are left to the caller.
    """

    def __init__(self, handle: ClientHandle, database: str, name: str, deadline_s: float | None = None) -> None:
        """Borrow the handle.

        Args:
            handle: The client.
            database: The database.
            name: The collection.
            deadline_s: Seconds for which a command is sent again; None sends each once.
        """
        self._handle = handle
        self._database = database
        self._name = name
        self._driver: Driver | None = None
        self._generation = -1
        self._was_reached = False
        self._retry = None if deadline_s is None else Retry(deadline_s, lambda: handle.reached, handle.driver_client)

    def _current(self) -> Driver:
        self._handle.check_usable()
        if self._driver is None or self._generation != self._handle.generation:
            self._generation, self._was_reached = self._handle.generation, False
            self._driver = self._handle.engine_driver(self._database, self._name)
        return self._driver

    async def _once(self, command: str, send: Callable[[Driver], Awaitable[T]]) -> T:
        """Send a command, named as the method is, with the driver's complaint about another event loop translated."""
        if tracing.active is not None:
            tracing.active.count_command()
        try:
            result = await send(self._current())
        except RuntimeError as error:
            if self._handle.is_wrong_loop(error):
                raise WrongLoopError() from error
            raise
        if not self._was_reached:
            self._handle.note_reached()
            self._was_reached = True
        return result

    async def _send(
        self,
        name: str,
        command: Command[T],
        about: Filter,
        *,
        bounded: bool = True,
        deadline_s: float | None = None,
        before_send: Callable[[], None] | None = None,
        changes: bool = False,
    ) -> T:
        def once(timeout_s: float | None) -> Awaitable[T]:
            def send(driver: Driver) -> Awaitable[T]:
                if before_send is not None:
                    before_send()
                return driver.run(command, timeout_s, settles=changes)

            return self._once(name, send)

        if self._retry is None:
            return await once(None)
        session_id = about.get("session_id", about.get("_id"))
        return await self._retry.run(once, session_id, bounded=bounded, deadline_s=deadline_s)

    async def find_one(
        self, filter: Filter, projection: Projection = None, *, sort: Sort = None, bounded: bool = True
    ) -> Document | None:
        """Return the first matching document, None without one."""
        options = _given(sort=sort)
        return await self._send(
            "find_one", lambda native: native.find_one(filter, projection, **options), filter, bounded=bounded
        )

    async def read_by_id(
        self, document_id: str, projection: Mapping[str, Any], read: Callable[[Document], T]
    ) -> T | None:
        """Return what `read` makes of the document of that `_id`, None without one.

        It is called where the document was decoded, on a worker thread if the client has them, so that a large one does
        not hold up the event loop.
        """
        return await self._send("find_one", ReadById(document_id, projection, read), {"_id": document_id})

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

        def send(native: Any) -> Any:
            return all_of(native.find(filter, projection, limit=limit, skip=skip, **options))

        return await self._send("find", send, filter, bounded=bounded)

    async def iterate(
        self,
        filter: Filter,
        projection: Projection = None,
        *,
        sort: Sort = None,
        batch_size: int = BATCH_SIZE,
    ) -> AsyncIterator[Document]:
        """Yield the matching documents, fetched `batch_size` at a time; never sent again."""
        own = self._current()
        cursor = own.native.find(filter, projection, **_given(sort=sort)).batch_size(batch_size)

        def fetch(driver: Driver) -> Awaitable[list[Document]]:
            return driver.run(lambda _: next_of(cursor, batch_size))

        try:
            while batch := await self._once("iterate", fetch):
                for document in batch:
                    yield document
        finally:
            await own.run(lambda _: cursor.close())

    async def gather(self, collect: Callable[[Collection], Awaitable[T]], about: Filter) -> T:
        """Run a whole read of several batches, from its beginning again after a failure."""
        if self._retry is None:
            return await collect(self)
        return await self._retry.run(lambda _: collect(self), about.get("session_id"), bounded=False)

    async def insert_one(self, document: Document) -> InsertOneResult:
        """Insert a document under an `_id` of the caller's."""
        return await self._send("insert_one", lambda native: native.insert_one(document), document, changes=True)

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool = True) -> InsertManyResult:
        """Insert documents, once; `ordered` stops at the first failure."""
        result: InsertManyResult = await self._once(
            "insert_many", lambda driver: driver.run(lambda native: native.insert_many(documents, ordered=ordered))
        )
        return result

    async def update_one(
        self,
        filter: Filter,
        update: Update,
        *,
        upsert: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Any = None,
        deadline_s: float | None = None,
    ) -> UpdateResult:
        """Update the first matching document."""
        options = _given(array_filters=array_filters, hint=hint)
        result: UpdateResult = await self._send(
            "update_one",
            lambda native: native.update_one(filter, update, upsert=upsert, **options),
            filter,
            deadline_s=deadline_s,
            changes=True,
        )
        return result

    async def update_by_id(
        self, filter: Filter, update: Update, *, before_send: Callable[[], None] | None = None
    ) -> UpdateResult:
        """Update the document of one `_id`; `before_send` is called before each attempt, and may raise.

        Sent twice, it must be able to tell that it was there before: under load it is sent along with others, and when
        the filter of one of them refuses it, each is sent again by itself.
        """
        return await self._send("update_one", UpdateById(filter, update), filter, before_send=before_send, changes=True)

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
            "update_many",
            lambda native: native.update_many(filter, update, **options),
            filter,
            bounded=bounded,
            changes=True,
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
            changes=True,
        )

    async def delete_one(self, filter: Filter) -> DeleteResult:
        """Delete the first matching document."""
        return await self._send("delete_one", lambda native: native.delete_one(filter), filter, changes=True)

    async def delete_many(self, filter: Filter) -> DeleteResult:
        """Delete every matching document."""
        return await self._send("delete_many", lambda native: native.delete_many(filter), filter, changes=True)

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
        about = pipeline[0].get("$match", {}) if pipeline else {}
        return await self._send(
            "aggregate", lambda native: all_of(native.aggregate(pipeline, **options)), about, bounded=bounded
        )

    async def create_indexes(self, models: Sequence[IndexModel]) -> list[str]:
        """Create indexes and return their names; those that exist already are left as they are."""
        return await self._once(
            "create_indexes", lambda driver: driver.run(lambda native: native.create_indexes(list(models)))
        )

    async def index_information(self) -> dict[str, Any]:
        """Return the indexes by name."""
        return await self._once(
            "index_information", lambda driver: driver.run(lambda native: native.index_information())
        )


def _given(**options: Any) -> dict[str, Any]:
    # The mock does not know every option, so only those that are set are passed on.
    return {name: value for name, value in options.items() if value is not None}
