"""Making indexes once per process, off every caller's path."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence

from pymongo import IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from ..runtime.home import Home, Job, wait_for
from .collection import Collection
from .handle import ClientHandle

logger = logging.getLogger(__name__)

FINISH_WAIT_S = 2.0
"""How long the end of a client's holder waits for indexes that are being made, in seconds."""

UNAUTHORIZED = 13
EXISTS_OTHERWISE = {85, 86}  # IndexOptionsConflict, IndexKeySpecsConflict

_lock = threading.Lock()
_known: set[Hashable] = set()
_running: dict[Job, Hashable] = {}


def _after_fork_in_child() -> None:
    # What is being made the parent makes: its work never ends in the child.
    global _lock
    _lock = threading.Lock()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def build_once(
    handle: ClientHandle,
    database: str,
    names: Sequence[str],
    specs: Callable[[], Sequence[Sequence[IndexModel]]],
    variant: Hashable = None,
) -> Job | None:
    """Start making indexes, unless this process did so for the same client, collections and variant.

    Nothing waits for it: it runs on the library's own loop, or for a client that cannot be used there as a task on the
    running one. A failure is one warning in the log. After a failure that may pass, the next call tries again.

    Args:
        handle: The client.
        database: The database.
        names: The collections.
        specs: Returns the indexes of each. Called only when they are to be made, since every session asks for that.
        variant: Tells sets of indexes of the same collections apart.

    Returns:
        The work that was started, None when there is none to do.
    """
    key = (handle.identity, database, tuple(names), variant)
    with _lock:
        if key in _known:
            return None
        _known.add(key)
    try:
        collections = dict(zip(names, specs(), strict=True))
        # A lease of its own: the caller may be closed before the indexes are made.
        own = handle.share()
        home = Home(names[0], on_portal=handle.on_portal)
        # An empty context: a time limit that the caller has set (`pymongo.timeout`) is not for this.
        start = contextvars.Context().run
        work: Job = start(home.start, "indexes", lambda: _make(own, database, collections, key))
    except BaseException:
        _forget(key)
        raise
    _running[work] = handle.identity
    work.add_done_callback(lambda _: _running.pop(work, None))
    return work


async def wait_for_builds(handle: ClientHandle, wait_s: float = FINISH_WAIT_S) -> None:
    """Wait for indexes that are being made with a client, for at most `wait_s` seconds; they go on all the same.

    A script that stops its server right after its last session would otherwise cut that off.
    """
    await wait_for([work for work, identity in tuple(_running.items()) if identity == handle.identity], wait_s)


def _forget(key: Hashable) -> None:
    with _lock:
        _known.discard(key)


async def _make(
    handle: ClientHandle, database: str, collections: Mapping[str, Sequence[IndexModel]], key: Hashable
) -> None:
    main = next(iter(collections))
    try:
        for name, models in collections.items():
            await _create(handle.collection(database, name), models, name)
    except OperationFailure as error:
        reason = "the user has no privilege to create them" if error.code == UNAUTHORIZED else type(error).__name__
        logger.warning(
            "collection=<%s>, code=<%s>, reason=<%s> | indexes not created, searches may be slow; create them by hand, "
            "or turn this off with ensure_indexes=False",
            main,
            error.code,
            reason,
        )
    except PyMongoError as error:
        logger.warning("collection=<%s>, error=<%s> | indexes not created yet", main, type(error).__name__)
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
        if error.code == UNAUTHORIZED or (len(models) == 1 and error.code not in EXISTS_OTHERWISE):
            raise
    # The server takes all or none; one that exists with other options, or of a kind that a compatible server does not
    # know, must not keep the others out.
    conflicts: list[str] = []
    refused: list[tuple[str, OperationFailure]] = []
    for model in models:
        try:
            await target.create_indexes([model])
        except OperationFailure as error:
            if error.code in EXISTS_OTHERWISE:
                conflicts.append(model.document["name"])
            else:
                refused.append((model.document["name"], error))
    if len(refused) == len(models):
        raise refused[0][1]
    if conflicts:
        logger.warning(
            "collection=<%s>, indexes=<%s> | exist with other options and were left as they are",
            collection,
            ", ".join(conflicts),
        )
    if refused:
        logger.warning(
            "collection=<%s>, code=<%s>, indexes=<%s> | refused by the server, searches by them may be slow",
            collection,
            refused[0][1].code,
            ", ".join(name for name, _ in refused),
        )
