"""The indexes of a sessions collection, and of the collections beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from ..client import ClientHandle, Collection, index_building
from ..client.index_building import EXISTS_OTHERWISE, FINISH_WAIT_S, UNAUTHORIZED, build_once
from ..errors import SessionStoreError
from ..runtime.home import Job
from ..schema import paths
from ..schema.names import check_names, metadata_path
from .related import INDEXED, expiry_index, related_index_specs

_EXPIRY_NAME = "expires_at_1"
_COUNTED = (
    paths.SUMMARY_FEEDBACKS,
    paths.summary_ratings("up"),
    paths.summary_ratings("down"),
    paths.SUMMARY_ERRORS,
)
_ORDERS = (paths.SUMMARY_MESSAGES, paths.summary_usage("totalTokens"))

_expires: set[Hashable] = set()


def index_specs(metadata_fields: Iterable[str] | None = None) -> list[IndexModel]:
    """Return the indexes that a sessions collection should have.

    Those of ratings and failed turns hold only sessions that have any, and change with a feedback or a failed turn.

    Args:
        metadata_fields: Metadata keys that sessions are searched by; dots address nested fields.

    Raises:
        InvalidNameError: A field that cannot be a metadata key.
        TypeError: A plain string where several fields are meant.
    """
    keys = [[paths.CREATED_AT, "_id"], [paths.UPDATED_AT, "_id"], [paths.APPLICATION_NAME]]
    keys += [[path, paths.CREATED_AT, "_id"] for path in _metadata_paths(metadata_fields)]
    return [*map(IndexModel, keys), expiry_index(), *map(_counted, _COUNTED)]


def order_index_specs() -> list[IndexModel]:
    """Return the indexes by which sessions are listed by messages and by tokens.

    The library never makes them on its own: they change with each turn, which costs a write, and only those who list
    sessions in these orders need them.
    """
    return [IndexModel([path, "_id"]) for path in _ORDERS]


def _counted(path: str) -> IndexModel:
    return IndexModel([paths.CREATED_AT, "_id", path], partialFilterExpression={path: {"$gt": 0}})


def _metadata_paths(metadata_fields: Iterable[str] | None) -> list[str]:
    fields = () if metadata_fields is None else check_names("metadata_fields", metadata_fields, "fields")
    return list(dict.fromkeys(metadata_path(field) for field in fields))


def ensure_indexes(
    handle: ClientHandle, database: str, collection: str, metadata_fields: Iterable[str] | None = None
) -> Job | None:
    """Start making the indexes, unless this process did so for the same client, collection and fields.

    Nothing waits for it; see `build_once`.

    Returns:
        The work that was started, None when there is none to do.

    Raises:
        InvalidNameError: A field that cannot be a metadata key.
        TypeError: A plain string where several fields are meant.
    """
    fields = _metadata_paths(metadata_fields)
    names = (collection, *(f"{collection}{suffix}" for suffix in INDEXED))

    def specs() -> list[list[IndexModel]]:
        return [index_specs(metadata_fields), *related_index_specs().values()]

    return build_once(handle, database, names, specs, frozenset(fields))


class _ExpiryIndexError(SessionStoreError, ValueError):
    """An index stands where the one has to be that lets sessions expire."""


async def check_expiry(handle: ClientHandle, database: str, collection: str, *, make: bool) -> None:
    """Check that no index keeps sessions, and what belongs to them, from expiring; once per process and collection.

    The server keeps one index of a kind on a field: one on `expires_at` under other options keeps out the one that this
    library makes. Nothing is checked where the indexes cannot be read. With `make` the index is made on the way, which
    the server refuses at once when another one is there.

    Raises:
        SessionStoreError: There is such an index; the message says how to drop it.
    """
    key = (handle.identity, database, collection)
    if key in _expires:
        return
    for name in (collection, *(f"{collection}{suffix}" for suffix in related_index_specs())):
        target = handle.collection(database, name)
        try:
            if make and await _makes_expiry(target):
                continue
            information = await target.index_information()
        except TimeoutError:
            continue  # It is being made, so nothing is in its way.
        except PyMongoError as error:
            # Without the privilege it stays unknown; without the server, opening a session says so anyway.
            if getattr(error, "code", None) == UNAUTHORIZED:
                break
            return
        if (obstacle := _obstacle(information)) is not None:
            raise _ExpiryIndexError(
                f"invalid ttl: sessions cannot expire: in the collection {name!r} the index {obstacle!r} takes the "
                "place of the one on 'expires_at' that lets them. "
                f"Drop it, db.getCollection({name!r}).dropIndex({obstacle!r}); the index to have "
                "instead is {expires_at: 1} with expireAfterSeconds: 0, which is made when a session is opened"
            )
    _expires.add(key)


async def _makes_expiry(target: Collection) -> bool:
    """Make the index that lets sessions expire; False when another one is in its way, or may be."""
    try:
        async with asyncio.timeout(FINISH_WAIT_S):
            await target.create_indexes([expiry_index()])
    except OperationFailure as error:
        if error.code not in EXISTS_OTHERWISE:
            raise
        return False
    return True


def _obstacle(information: Mapping[str, Any]) -> str | None:
    """Return the name of an index that stands in the way of expiry; None when sessions expire, or can."""
    named: str | None = None
    for name, index in information.items():
        fields = [field for field, _ in index["key"]]
        if (
            fields == [paths.EXPIRES_AT]
            and index.get("expireAfterSeconds") == 0
            and not index.get("partialFilterExpression")
        ):
            return None
        if list(index["key"]) == [(paths.EXPIRES_AT, ASCENDING)] or name == _EXPIRY_NAME:
            named = name
    return named


async def wait_for_builds(handle: ClientHandle) -> None:
    """Wait for indexes that are being made with a client, for at most `FINISH_WAIT_S`; they go on all the same."""
    await index_building.wait_for_builds(handle, FINISH_WAIT_S)
