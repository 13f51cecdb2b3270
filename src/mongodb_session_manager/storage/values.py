"""The values of a storage in MongoDB: a head document each, and chunks where it is large.

What readers see changes with one update of the head, so a value is the old one or the new one, whatever dies meanwhile:
new chunks are written before it, those of the old value are deleted after it. Every write carries a token, so that one
whose reply was lost counts once however often it is sent.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.binary import Binary
from pymongo.errors import DuplicateKeyError, OperationFailure

from ..client import ClientHandle
from ..errors import SessionNotFoundError, StorageConflictError
from ..schema import paths
from ..schema.messages import now
from ..schema.numbers import INT64_MAX, is_measure, stored_count
from ..schema.sessions import new_token
from .chunks import CHUNK_BYTES, SWEEP_AFTER, Document, Generation
from .keys import key_range
from .owner import Expiry, Owner, Scope

INLINE_BYTES = CHUNK_BYTES
"""Values up to this size stand in their head document: one command to write, one to read."""

CHUNKS_SUFFIX = "_chunks"

SESSION_SUFFIX = "_storage"
"""What the collection of sessions' own values is called, after that of the sessions."""

_TOKEN_RING = 16
"""How many writes a head remembers: one may be overtaken by so many others and still count once."""

# BadValue and TypeMismatch: what is to be raised is no number or as large as can be, what is appended to is no array.
_ODD_FIELDS = frozenset({2, 14})

_READ_ATTEMPTS = 5
_PAUSE_S = 0.05


class UnreadableValueError(Exception):
    """Chunks of a value are missing, and stay so; or what is there was written by another tool."""


@dataclass(frozen=True)
class StorageStat:
    """What is known of a stored value.

    Attributes:
        key: Its key, as `list` returns it.
        size: Its length in bytes.
        version: 1 when it was written for the first time, one more with each write.
        created_at: When it was first written, UTC.
        updated_at: When it was last written, UTC.
        expires_at: When it expires, UTC; None for never, or with the session that it belongs to.
    """

    key: str
    size: int
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None


class Values:
    """The values of one owner. Keys are normalised already; the driver's errors pass through.

    Every method may raise `PyMongoError`, and `SessionStoreError` when the owner is gone.
    """

    def __init__(
        self, handle: ClientHandle, database: str, collection: str, owner: Owner, *, deadline_s: float = 30
    ) -> None:
        """Address the collection of the heads, and the one of the chunks beside it; no I/O."""
        self.heads = handle.collection(database, collection, deadline_s=deadline_s)
        self.chunks = handle.collection(database, f"{collection}{CHUNKS_SUFFIX}", deadline_s=deadline_s)
        self._owner = owner

    # -- writing

    async def write(self, key: str, data: bytes, *, if_version: int | None = None, text: str | None = None) -> None:
        """Store a value in the place of what is there.

        Args:
            key: Its key.
            data: The value.
            if_version: The version that has to be there; 0 for none, None for any.
            text: What a text index is to find it by.

        Raises:
            SessionStoreError: The owner is gone, before or by now; nothing of the value stays.
            StorageConflictError: Another version is there.
        """
        scope, expiry = await self._owner.scope(), await self._owner.admit()
        token, began = new_token(), now()
        head: Document = {paths.SIZE: len(data), paths.UPDATED_AT: began, **expiry.fields(expiry.head)}
        if text is not None:
            head[paths.TEXT] = text
        if len(data) <= INLINE_BYTES:
            head[paths.DATA] = Binary(data)
            replaced = await self._swap(scope, key, head, token, if_version)
        else:
            if if_version is not None:
                await self._check_version(scope, key, if_version)
            chunks = self._generation(scope, key, token)
            head |= {paths.GENERATION: token, paths.COUNT: await chunks.write(data, expiry)}
            try:
                replaced = await self._swap(scope, key, head, token, if_version)
            except StorageConflictError:
                await chunks.delete()
                raise
            await self._confirm(scope, key, data, token, expiry, began)
        if replaced is not None and replaced != token:
            await self._generation(scope, key, replaced).delete()
        try:
            await self._owner.confirm(scope)
        except SessionNotFoundError:
            # What was removed along with the owner may not have been all of it yet.
            await self._delete(scope, key)
            raise

    async def _swap(self, scope: Scope, key: str, head: Document, token: str, if_version: int | None) -> str | None:
        """Put a head in the place of what is there, once, and return the generation that the old one named."""
        identity = {**scope.fields, "_id": scope.prefix + key}
        if if_version == 0:
            document = {
                **identity,
                **scope.marks,
                **head,
                paths.VERSION: 1,
                paths.WRITES: [token],
                paths.CREATED_AT: head[paths.UPDATED_AT],
            }
            try:
                await self.heads.insert_one(document)
            except DuplicateKeyError:
                await self._refused(scope, key, token, if_version)
            return None
        query: Document = {**identity, paths.WRITES: {"$ne": token}}
        if if_version is not None:
            query[paths.VERSION] = min(if_version, INT64_MAX)  # No value gets so far, and MongoDB holds no more.
        update: Document = {
            "$set": {**scope.marks, **head},
            "$unset": {name: "" for name in _OPTIONAL if name not in head},
            "$inc": {paths.VERSION: 1},
            "$push": {paths.WRITES: {"$each": [token], "$slice": -_TOKEN_RING}},
            "$setOnInsert": {paths.CREATED_AT: head[paths.UPDATED_AT]},
        }
        # Over what another tool left there, whose fields can neither be raised nor appended to.
        anew: Document = {
            "$set": {
                **update["$set"],
                paths.VERSION: 1,
                paths.WRITES: [token],
                paths.CREATED_AT: head[paths.UPDATED_AT],
            },
            "$unset": update["$unset"],
        }
        upsert = if_version is None
        if paths.GENERATION not in head and await self._swap_small(query, update, upsert=upsert):
            return None
        while True:
            try:
                before = await self.heads.find_one_and_update(query, update, {paths.GENERATION: 1}, upsert=upsert)
            except DuplicateKeyError:
                # This very write, sent before, or another first one at the same moment.
                if await self._refused(scope, key, token, if_version):
                    return None
                continue
            except OperationFailure as error:
                if error.code not in _ODD_FIELDS or update is anew or if_version is not None:
                    raise
                update = anew
                continue
            if before is None and if_version is not None:
                await self._refused(scope, key, token, if_version)
            return None if before is None else before.get(paths.GENERATION)

    async def _swap_small(self, query: Document, update: Document, *, upsert: bool) -> bool:
        """Put a small value in the place of none or of another small one; False when that is not what is there.

        With a plain update: for one that returns what it replaced, the server keeps a copy of that.
        """
        try:
            result = await self.heads.update_one({**query, paths.GENERATION: {"$exists": False}}, update, upsert=upsert)
        except DuplicateKeyError:
            return False
        except OperationFailure as error:
            if error.code not in _ODD_FIELDS:
                raise
            return False
        return bool(result.matched_count or result.upserted_id is not None)

    async def _refused(self, scope: Scope, key: str, token: str, if_version: int | None) -> bool:
        """Tell whether a write that was refused is stored already.

        Raises:
            StorageConflictError: It is not, and another version is there than it may replace.
        """
        found = await self._head(scope, key, {paths.VERSION: 1, paths.WRITES: 1})
        if found is not None and isinstance(found.get(paths.WRITES), list) and token in found[paths.WRITES]:
            return True
        if if_version is not None:
            raise StorageConflictError(key, if_version, _version(found))
        return False

    async def _check_version(self, scope: Scope, key: str, if_version: int) -> None:
        version = _version(await self._head(scope, key, {paths.VERSION: 1}))
        if (version or 0) != if_version:
            raise StorageConflictError(key, if_version, version)

    async def _confirm(self, scope: Scope, key: str, data: bytes, token: str, expiry: Expiry, began: datetime) -> None:
        """See to it that the chunks are there, now that a head names them.

        A write that was stopped for long (a frozen process) may have been taken for left behind meanwhile, and a
        failover may have undone what was acknowledged.
        """
        chunks = self._generation(scope, key, token)
        if now() - began < SWEEP_AFTER / 4 and await chunks.is_whole(data):
            return
        if await self._names(scope, key, token):
            await chunks.restore(data, expiry)
            if await self._names(scope, key, token):
                return
        # Overwritten or deleted meanwhile, by a process that may not have met all of them.
        await chunks.delete()

    async def _names(self, scope: Scope, key: str, token: str) -> bool:
        found = await self._head(scope, key, {paths.GENERATION: 1})
        return found is not None and found.get(paths.GENERATION) == token

    # -- reading

    async def read(self, key: str) -> bytes | None:
        """Return a value, None without one.

        Raises:
            UnreadableValueError: Chunks of it are missing, or it is another tool's.
        """
        scope = await self._owner.scope()
        return await self._read(scope, key, await self._head(scope, key, _VALUE))

    async def _read(self, scope: Scope, key: str, head: Document | None) -> bytes | None:
        incomplete = 0
        while head is not None:
            if paths.GENERATION not in head:
                return bytes(_field(head, paths.DATA, bytes, key))
            generation = self._generation(scope, key, _field(head, paths.GENERATION, str, key))
            found = await generation.read(head.get(paths.COUNT), head.get(paths.SIZE))
            if found is not None:
                return found
            # It was overwritten or deleted while its chunks were read, and then the head tells.
            previous, head = head[paths.GENERATION], await self._head(scope, key, _VALUE)
            if head is not None and head.get(paths.GENERATION) == previous:
                incomplete += 1
                if incomplete == _READ_ATTEMPTS:
                    raise UnreadableValueError(f"chunks of {key!r} are missing; write it again, or delete it")
                await asyncio.sleep(_PAUSE_S * incomplete)
        return None

    async def stat(self, key: str) -> StorageStat | None:
        """Return what is known of a value, None without one."""
        scope = await self._owner.scope()
        found = await self._head(scope, key, dict.fromkeys((paths.SIZE, paths.VERSION, *_DATES), 1))
        if found is None:
            return None
        # Tools on JavaScript leave whole numbers as floats.
        size, version = (int(_field(found, name, int | float, key)) for name in (paths.SIZE, paths.VERSION))
        dates = {name: found.get(name) for name in _DATES}
        if scope.fields:
            dates[paths.EXPIRES_AT] = None
        return StorageStat(key=key, size=size, version=version, **dates)  # type: ignore[arg-type]

    async def list(self, prefix: str) -> builtins.list[str]:
        """Return the keys that begin with a prefix, in the order of their code points."""
        scope = await self._owner.scope()
        found = await self.heads.find(_range(scope, prefix), {"_id": 1}, sort=[("_id", 1)], bounded=False)
        return [document["_id"][len(scope.prefix) :] for document in found]

    async def each(self, prefix: str, *, at_once: int) -> AsyncIterator[tuple[str, bytes]]:
        """Yield keys and values, a few in memory at a time; those that cannot be read are left out."""
        scope = await self._owner.scope()
        query, fields = _range(scope, prefix), {**_VALUE, "_id": 1}
        # Not by a cursor, which a failover ends.
        while heads := await self.heads.find(query, fields, sort=[("_id", 1)], limit=at_once, bounded=False):
            query["_id"] = {**query["_id"], "$gt": heads[-1]["_id"]}
            for head in heads:
                key = head["_id"][len(scope.prefix) :]
                try:
                    data = await self._read(scope, key, head)
                except UnreadableValueError:
                    continue
                if data is not None:
                    yield key, data

    async def find_text(self, prefix: str, words: str, limit: int) -> builtins.list[tuple[str, float]]:
        """Return the keys of the texts that hold one of the words, with their scores, best first."""
        scope = await self._owner.scope()
        pipeline: builtins.list[Document] = [
            {"$match": {**_range(scope, prefix), "$text": {"$search": words}}},
            {"$project": {"score": {"$meta": "textScore"}}},
            {"$sort": {"score": -1, "_id": 1}},
            {"$limit": limit},
        ]
        found = await self.heads.aggregate(pipeline, bounded=False)
        return [(document["_id"][len(scope.prefix) :], float(document["score"])) for document in found]

    # -- deleting

    async def delete(self, key: str) -> bool:
        """Delete a value; False when there was none."""
        scope = await self._owner.scope()
        return await self._delete(scope, key)

    async def _delete(self, scope: Scope, key: str) -> bool:
        identity = {**scope.fields, "_id": scope.prefix + key}
        if (await self.heads.delete_one({**identity, paths.GENERATION: None})).deleted_count:
            return True
        while (head := await self._head(scope, key, {paths.GENERATION: 1})) is not None:
            generation = head.get(paths.GENERATION)
            gone = (await self.heads.delete_one({**identity, paths.GENERATION: generation})).deleted_count
            # With the head gone, by this call or another, nothing else can name its chunks.
            if generation is not None and not await self._names(scope, key, generation):
                await self._generation(scope, key, generation).delete()
                gone = 1
            if gone:
                return True
        return False

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the values whose keys begin with a prefix, and return how many there were."""
        scope = await self._owner.scope()
        inside = _range(scope, prefix)
        deleted = int((await self.heads.delete_many({**inside, paths.GENERATION: None})).deleted_count)
        found = await self.heads.find({**inside, paths.GENERATION: {"$ne": None}}, {"_id": 1}, bounded=False)
        for document in found:
            deleted += await self._delete(scope, document["_id"][len(scope.prefix) :])
        return deleted

    # -- inside

    async def _head(self, scope: Scope, key: str, fields: Mapping[str, int]) -> Document | None:
        return await self.heads.find_one({**scope.fields, "_id": scope.prefix + key}, fields)

    def _generation(self, scope: Scope, key: str, token: str) -> Generation:
        return Generation(self.chunks, scope, scope.prefix + key, token)


_OPTIONAL = (paths.DATA, paths.GENERATION, paths.COUNT, paths.TEXT, paths.EXPIRES_AT)
_VALUE = {paths.DATA: 1, paths.GENERATION: 1, paths.COUNT: 1, paths.SIZE: 1}
_DATES = (paths.CREATED_AT, paths.UPDATED_AT, paths.EXPIRES_AT)


def _field(head: Document, name: str, kind: Any, key: str) -> Any:
    value = head.get(name)
    if not isinstance(value, kind) or (isinstance(value, int | float) and not is_measure(value)):
        raise UnreadableValueError(f"{key!r} is not what this library writes; write it again, or delete it")
    return value


def _version(head: Document | None) -> int | None:
    """Return the version of a value, None without one; 0, which no value has, of what another tool wrote."""
    return None if head is None else stored_count(head.get(paths.VERSION))


def _range(scope: Scope, prefix: str) -> dict[str, Any]:
    return {**scope.fields, "_id": key_range(scope.prefix + prefix)}
