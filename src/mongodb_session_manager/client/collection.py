"""One collection as the engine uses it: the same calls and results over every driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymongo import IndexModel
from pymongo.results import DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from ..errors import WrongLoopError

if TYPE_CHECKING:
    from .handle import ClientHandle

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
    """

    def __init__(self, handle: ClientHandle, native: Callable[[], Any]) -> None:
        """Borrow the handle; `native` makes the driver's collection with the engine's options."""
        self._handle = handle
        self._make_native = native
        self._native: Any = None
        self._generation = -1

    @contextmanager
    def _driver(self) -> Iterator[Any]:
        """Yield the driver's collection, with its complaint about another event loop translated."""
        self._handle.check_usable()
        if self._native is None or self._generation != self._handle.generation:
            self._generation = self._handle.generation
            self._native = self._make_native()
        try:
            yield self._native
            self._handle.note_reached()
        except RuntimeError as error:
            if self._handle.is_wrong_loop(error):
                raise WrongLoopError() from error
            raise

    async def find_one(self, filter: Filter, projection: Projection = None, *, sort: Sort = None) -> Document | None:
        """Return the first matching document, None without one."""
        with self._driver() as native:
            found: Document | None = await native.find_one(filter, projection, **_given(sort=sort))
            return found

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
    ) -> list[Document]:
        """Return the matching documents; `limit=0` means all."""
        with self._driver() as native:
            options = _given(sort=sort, max_time_ms=max_time_ms, hint=hint)
            cursor = native.find(filter, projection, limit=limit, skip=skip, **options)
            found: list[Document] = await cursor.to_list(None)
            return found

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
        """Yield the matching documents, fetched `batch_size` at a time."""
        with self._driver() as native:
            options = _given(sort=sort, max_time_ms=max_time_ms, hint=hint)
            cursor = native.find(filter, projection, limit=limit, skip=skip, **options).batch_size(batch_size)
            try:
                while batch := await cursor.to_list(batch_size):
                    for document in batch:
                        yield document
            finally:
                await cursor.close()

    async def insert_one(self, document: Document) -> InsertOneResult:
        """Insert a document."""
        with self._driver() as native:
            result: InsertOneResult = await native.insert_one(document)
            return result

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool = True) -> InsertManyResult:
        """Insert documents; `ordered` stops at the first failure."""
        with self._driver() as native:
            result: InsertManyResult = await native.insert_many(documents, ordered=ordered)
            return result

    async def update_one(
        self,
        filter: Filter,
        update: Update,
        *,
        upsert: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Any = None,
    ) -> UpdateResult:
        """Update the first matching document."""
        with self._driver() as native:
            options = _given(array_filters=array_filters, hint=hint)
            result: UpdateResult = await native.update_one(filter, update, upsert=upsert, **options)
            return result

    async def update_many(
        self,
        filter: Filter,
        update: Update,
        *,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Any = None,
    ) -> UpdateResult:
        """Update every matching document."""
        with self._driver() as native:
            options = _given(array_filters=array_filters, hint=hint)
            result: UpdateResult = await native.update_many(filter, update, **options)
            return result

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
        with self._driver() as native:
            found: Document | None = await native.find_one_and_update(
                filter,
                update,
                projection=projection,
                upsert=upsert,
                return_document=return_document,
                **_given(sort=sort),
            )
            return found

    async def delete_one(self, filter: Filter) -> DeleteResult:
        """Delete the first matching document."""
        with self._driver() as native:
            result: DeleteResult = await native.delete_one(filter)
            return result

    async def delete_many(self, filter: Filter) -> DeleteResult:
        """Delete every matching document."""
        with self._driver() as native:
            result: DeleteResult = await native.delete_many(filter)
            return result

    async def count_documents(
        self, filter: Filter, *, limit: int | None = None, max_time_ms: int | None = None, hint: Any = None
    ) -> int:
        """Count the matching documents, up to `limit`."""
        with self._driver() as native:
            options = _given(limit=limit, maxTimeMS=max_time_ms, hint=hint)
            count: int = await native.count_documents(filter, **options)
            return count

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]], **options: Any) -> list[Document]:
        """Return the documents that come out of the pipeline."""
        with self._driver() as native:
            cursor = native.aggregate(pipeline, **options)
            if not hasattr(cursor, "to_list"):
                cursor = await cursor  # PyMongo's own coroutine, where Motor gives a cursor at once
            found: list[Document] = await cursor.to_list(None)
            return found

    async def create_indexes(self, models: Sequence[IndexModel]) -> list[str]:
        """Create indexes and return their names; those that exist already are left as they are."""
        with self._driver() as native:
            names: list[str] = await native.create_indexes(list(models))
            return names

    async def index_information(self) -> dict[str, Any]:
        """Return the indexes by name."""
        with self._driver() as native:
            information: dict[str, Any] = await native.index_information()
            return information


def _given(**options: Any) -> dict[str, Any]:
    # The mock does not know every option, so only those that are set are passed on.
    return {name: value for name, value in options.items() if value is not None}
