"""The indexes of a sessions collection: which ones, and making them once, off every caller's path."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from ..client import ClientHandle, Collection
from ..errors import SessionStoreError
from ..runtime import portal
from ..schema.names import metadata_path
from .related import related_index_specs

logger = logging.getLogger(__name__)

IndexWork = asyncio.Task[None] | concurrent.futures.Future[None]

FINISH_WAIT_S = 2.0
"""How long the end of a pool or factory waits for indexes that are being made, in seconds."""

_UNAUTHORIZED = 13
_EXISTS_OTHERWISE = {85, 86}  # IndexOptionsConflict, IndexKeySpecsConflict

_EXPIRY_NAME = "expires_at_1"

_lock = threading.Lock()
_expires: set[Hashable] = set()
_known: set[Hashable] = set()
_running: dict[IndexWork, Hashable] = {}


def index_specs(metadata_fields: Iterable[str] | None = None) -> list[IndexModel]:
    """Return the indexes that a sessions collection should have.

    Args:
        metadata_fields: Metadata keys that sessions are searched by; dots address nested fields.

    Raises:
        InvalidNameError: A field that cannot be a metadata key.
        TypeError: A plain string where several fields are meant.
    """
    keys = [
        [("created_at", ASCENDING), ("_id", ASCENDING)],
        [("updated_at", ASCENDING), ("_id", ASCENDING)],
        [("application_name", ASCENDING)],
    ]
    for path in _metadata_paths(metadata_fields):
        keys.append([(path, ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)])
    expiry = IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)
    return [*(IndexModel(key) for key in keys), expiry]


def _metadata_paths(metadata_fields: Iterable[str] | None) -> list[str]:
    if isinstance(metadata_fields, str):
        raise TypeError(f"metadata_fields takes a list of fields: [{metadata_fields!r}]")
    return list(dict.fromkeys(metadata_path(field) for field in metadata_fields or ()))


def ensure_indexes(
    handle: ClientHandle, database: str, collection: str, metadata_fields: Iterable[str] | None = None
) -> IndexWork | None:
    """Start making the indexes, unless this process did so for the same client, collection and fields.

    Nothing waits for it: it runs on the library's own loop, or for a client that cannot be used there as a task on the
    running one. A failure is one warning in the log. After a failure that may pass, the next call tries again.

    Returns:
        The work that was started, None when there is none to do.

    Raises:
        InvalidNameError: A field that cannot be a metadata key.
        TypeError: A plain string where several fields are meant.
    """
    key = (handle.identity, database, collection, frozenset(_metadata_paths(metadata_fields)))
    with _lock:
        if key in _known:
            return None
        _known.add(key)
    work: IndexWork
    try:
        models = index_specs(metadata_fields)
        # A lease of its own: the caller may be closed before the indexes are made.
        own = handle.share()
        # An empty context: a time limit that the caller has set (`pymongo.timeout`) is not for this.
        context = contextvars.Context()
        if handle.on_portal:
            work = context.run(portal.start, _make, own, database, collection, models, key)
        else:
            making = _make(own, database, collection, models, key)
            work = asyncio.get_running_loop().create_task(making, name=f"indexes:{collection}", context=context)
    except BaseException:
        _forget(key)
        raise
    _running[work] = handle.identity
    work.add_done_callback(_ended)
    return work


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
    with _lock:
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
            if getattr(error, "code", None) == _UNAUTHORIZED:
                break
            return
        if (obstacle := _obstacle(information)) is not None:
            raise _ExpiryIndexError(
                f"sessions cannot expire as ttl asks for: in the collection {name!r} the index {obstacle!r} takes the "
                "place of the one on 'expires_at' that lets them. "
                f"Drop it, db.getCollection({name!r}).dropIndex({obstacle!r}); the index to have "
                "instead is {expires_at: 1} with expireAfterSeconds: 0, which is made when a session is opened"
            )
    with _lock:
        _expires.add(key)


async def _makes_expiry(target: Collection) -> bool:
    """Make the index that lets sessions expire; False when another one is in its way, or may be."""
    try:
        async with asyncio.timeout(FINISH_WAIT_S):
            await target.create_indexes([IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)])
    except OperationFailure as error:
        if error.code not in _EXISTS_OTHERWISE:
            raise
        return False
    return True


def _obstacle(information: Mapping[str, Any]) -> str | None:
    """Return the name of an index that stands in the way of expiry; None when sessions expire, or can."""
    named: str | None = None
    for name, index in information.items():
        fields = [field for field, _ in index["key"]]
        if fields == ["expires_at"] and index.get("expireAfterSeconds") == 0 and not _is_partial(index):
            return None
        if list(index["key"]) == [("expires_at", ASCENDING)] or name == _EXPIRY_NAME:
            named = name
    return named


def _is_partial(index: Mapping[str, Any]) -> bool:
    return bool(index.get("partialFilterExpression"))


async def settle(handle: ClientHandle) -> None:
    """Wait for indexes that are being made with a client, for at most `FINISH_WAIT_S`; they go on all the same.

    A script that stops its server right after its last session would otherwise cut that off.
    """
    loop = asyncio.get_running_loop()
    works = [work for work, identity in tuple(_running.items()) if identity == handle.identity]
    waited = [
        work if isinstance(work, asyncio.Task) else asyncio.wrap_future(work)
        for work in works
        if not isinstance(work, asyncio.Task) or work.get_loop() is loop
    ]
    if waited:
        await asyncio.wait(waited, timeout=FINISH_WAIT_S)


def _ended(work: Any) -> None:
    _running.pop(work, None)


def _forget(key: Hashable) -> None:
    with _lock:
        _known.discard(key)


async def _make(
    handle: ClientHandle, database: str, collection: str, models: Sequence[IndexModel], key: Hashable
) -> None:
    try:
        await _create(handle.collection(database, collection), models, collection)
        for suffix, child_models in related_index_specs().items():
            name = f"{collection}{suffix}"
            await _create(handle.collection(database, name), child_models, name)
    except OperationFailure as error:
        reason = "the user has no privilege to create them" if error.code == _UNAUTHORIZED else type(error).__name__
        logger.warning(
            "collection=<%s>, code=<%s>, reason=<%s> | indexes not created, searches may be slow; create them by hand, "
            "or turn this off with ensure_indexes=False",
            collection,
            error.code,
            reason,
        )
    except PyMongoError as error:
        logger.warning("collection=<%s>, error=<%s> | indexes not created yet", collection, type(error).__name__)
        _forget(key)
    except BaseException:
        _forget(key)
        raise
    finally:
        await handle.aclose()


async def _create(target: Collection, models: Sequence[IndexModel], collection: str) -> None:
    try:
        await target.create_indexes(models)
        return
    except OperationFailure as error:
        if error.code not in _EXISTS_OTHERWISE:
            raise
    # The server takes all or none; an index that exists with other options must not keep the others out.
    conflicts: list[str] = []
    for model in models:
        try:
            await target.create_indexes([model])
        except OperationFailure as error:
            if error.code not in _EXISTS_OTHERWISE:
                raise
            conflicts.append(model.document["name"])
    logger.warning(
        "collection=<%s>, indexes=<%s> | exist with other options and were left as they are",
        collection,
        ", ".join(conflicts),
    )
