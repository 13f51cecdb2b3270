"""Session documents in one collection: load, create, bring up to date, and apply steps, each exactly once.

Everything addresses one session by `_id`. No operation needs a transaction, a pipeline-form update or `$$NOW`, so
standalone servers and compatible databases work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from ..client import ClientHandle, Collection
from ..errors import SessionNotFoundError
from ..schema.messages import now
from ..schema.sessions import TOKEN_RING, StoredSession, expiry, load_projection, new_session, upgrade
from .batches import Document, Head, Step
from .fullness import within_document

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Server errors after which the same write may be sent again: elections, shutdowns and lost connections
# (MongoDB's retryable writes specification), and a write concern that was not met in time.
_TRANSIENT_CODES = frozenset({6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

_SHORTEST_SEND_S = 1.0
"""What a command is given at least: a short deadline is no reason to give up on a server that is busy."""


def is_transient(error: PyMongoError) -> bool:
    """Tell whether sending the same thing again may succeed."""
    if isinstance(error, AutoReconnect | WaitQueueTimeoutError) or error.has_error_label("RetryableWriteError"):
        return True
    return getattr(error, "code", None) in _TRANSIENT_CODES


def _never(error: PyMongoError) -> bool:
    return False


async def retrying(
    send: Callable[[], Awaitable[T]],
    deadline_s: float,
    session_id: str,
    *,
    unless: Callable[[PyMongoError], bool] = _never,
    bounded: bool = True,
) -> T:
    """Send until it succeeds, fails for good, or the deadline has passed; only for what may be repeated.

    A server that is silent is not waited for any longer than that either, whatever the client's socket timeout: what
    was sent may still arrive, which is no harm to what may be repeated.

    Args:
        send: Sends it once.
        deadline_s: Seconds until it is given up.
        session_id: For the log.
        unless: Tells errors that are final although they are of a kind that may pass.
        bounded: False for what may rightly take longer than the deadline: reading a lot.

    Raises:
        PyMongoError: The last failure; `NetworkTimeout` when there was no answer.
    """
    give_up_at = time.monotonic() + deadline_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            left_s = max(give_up_at - time.monotonic(), _SHORTEST_SEND_S)
            return await _answered(send, left_s if bounded else None)
        except PyMongoError as error:
            if not is_transient(error) or unless(error) or time.monotonic() + pause_s >= give_up_at:
                raise
            logger.warning(
                "session_id=<%r>, error=<%s>, pause_s=<%s> | command failed, sending it again",
                session_id,
                type(error).__name__,
                pause_s,
            )
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _answered(send: Callable[[], Awaitable[T]], timeout_s: float | None) -> T:
    # Not the driver's own timeout (`pymongo.timeout`): that one puts maxTimeMS on writes, which not every compatible
    # database knows, and takes the user's wtimeout away. A thread that is left waiting for the silent server ends when
    # the driver's monitor gives that server up, or with the client's socket timeout.
    patience = asyncio.timeout(timeout_s)
    try:
        async with patience:
            return await send()
    except TimeoutError:
        if not patience.expired():
            raise
        raise NetworkTimeout(f"no answer from the server within {timeout_s:.1f} s") from None


class SessionStore:
    """Sessions of one collection. Borrows its client handle; usable from any loop that the client allows."""

    def __init__(
        self, handle: ClientHandle, database_name: str, collection_name: str, *, write_deadline_s: float = 30
    ) -> None:
        """Address a collection; no I/O."""
        self.handle = handle
        self.database_name = database_name
        self.collection_name = collection_name
        self.write_deadline_s = write_deadline_s
        self._collection: Collection | None = None

    @property
    def collection(self) -> Collection:
        """The engine's view of the collection: primary reads, UTC dates."""
        if self._collection is None:
            self._collection = self.handle.collection(self.database_name, self.collection_name)
        return self._collection

    async def retrying(self, send: Callable[[], Awaitable[T]], session_id: str, *, bounded: bool = True) -> T:
        """Send what may be repeated, reads included, until it succeeds or the write deadline has passed.

        A failover is waited for. A server that this client never reached is not: that is more likely a wrong address,
        and fails with the client's own `serverSelectionTimeoutMS`.
        """

        def is_first_contact(error: PyMongoError) -> bool:
            return isinstance(error, ServerSelectionTimeoutError) and not self.handle.reached

        return await retrying(send, self.write_deadline_s, session_id, unless=is_first_contact, bounded=bounded)

    async def find_one(
        self, filter_: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> Document | None:
        """Return one session document, None when none matches. The filter names its `_id`."""
        return await self.retrying(lambda: self.collection.find_one(filter_, projection), filter_["_id"])

    async def load(self, session_id: str, agent_ids: Iterable[str] | None = None) -> StoredSession | None:
        """Load a session with one find; None when there is none."""
        names = None if agent_ids is None else list(agent_ids)
        document = await self.find_one({"_id": session_id}, load_projection(names))
        if document is not None and names is not None and "schema_version" not in document:
            # Older tools may keep an agent anywhere under its raw id, so narrowing has to wait for the upgrade.
            document, names = await self.find_one({"_id": session_id}, load_projection(None)), None
        return None if document is None else StoredSession.from_document(document, names)

    async def load_or_create(
        self,
        session_id: str,
        agent_ids: Iterable[str] | None = None,
        *,
        application_name: str | None = None,
        ttl_s: float | None = None,
    ) -> tuple[StoredSession, bool]:
        """Load a session, or create it; any number of processes may do so at once.

        Returns:
            The session, and whether this call created it.
        """
        names = None if agent_ids is None else list(agent_ids)
        while True:
            stored = await self.load(session_id, names)
            if stored is not None:
                return stored, False
            document = new_session(session_id, now(), application_name=application_name, ttl_s=ttl_s)
            if await self.insert(document):
                return StoredSession.from_document(document, names), True

    async def insert(self, document: Document) -> bool:
        """Insert a session document; False when the session exists."""
        try:
            with within_document(document["_id"]):
                await self.retrying(lambda: self.collection.insert_one(document), document["_id"])
        except DuplicateKeyError:
            # It may be this very document: inserted by an attempt whose reply was lost.
            own = {"_id": document["_id"], "incarnation": document["incarnation"]}
            return await self.find_one(own, {"_id": 1}) is not None
        return True

    async def bring_up_to_date(self, session_id: str) -> str:
        """Bring an older tool's document into today's form and return its incarnation.

        Raises:
            SessionNotFoundError: No such session.
        """
        while True:
            document = await self.find_one({"_id": session_id})
            if document is None:
                raise SessionNotFoundError(session_id)
            if "schema_version" in document:
                return str(document["incarnation"])
            guard, update = upgrade(document, now())
            matched = await self.update(session_id, guard, update)
            if matched:
                logger.info("session_id=<%r> | brought a document of an older tool up to date", session_id)

    async def update(self, session_id: str, filter_: Mapping[str, Any], update: Mapping[str, Any]) -> int:
        """Send one update that may be repeated, and return how many documents matched."""

        async def send() -> int:
            result = await self.collection.update_one(filter_, update)
            return int(result.matched_count)

        with within_document(session_id):
            return await self.retrying(send, session_id)

    async def apply(
        self,
        session_id: str,
        render: Callable[[], tuple[Document, Document]],
        step: Step,
        *,
        incarnation: str | None = None,
        ttl_s: float | None = None,
        fence: Sequence[str] = (),
        lease: str | None = None,
        childless: bool = False,
    ) -> Head | None:
        """Apply a step once, however often it is sent.

        Args:
            session_id: The session.
            render: Gives the step's filter and update as they stand now; called for each attempt.
            step: The step, for its token and for what to look up when it is refused.
            incarnation: The incarnation that the step is meant for; None means whichever there is.
            ttl_s: Seconds until the session expires, None when it does not.
            fence: Tokens of writes that were given up, so that a late one is refused.
            lease: Token of the lease that the writer holds. Without one, a lease of anybody refuses the step.
            childless: Refuse the step when segments or payloads may belong to the session.

        Returns:
            None when it is applied; the head of the document when its guard refused it.

        Raises:
            SessionNotFoundError: No such session, or another incarnation of it.
            PyMongoError: Not applied within the write deadline, as far as is known.
            SessionFullError: The document has no room for it.
        """
        identity: Document = {"_id": session_id}
        if incarnation is not None:
            identity["incarnation"] = incarnation
        turn: Document = {"lease": {"$exists": False}} if lease is None else {"lease.token": lease}
        if childless:
            turn["has_children"] = {"$ne": True}

        async def send() -> int:
            guard, update = render()
            moment = now()
            expires = expiry(moment, ttl_s)
            sets = {**update.get("$set", {}), "updated_at": moment, **expires}
            # Whatever this writer knows of them: a session must not live on without what belongs to it.
            outlived = {"children_expire_at": {"$not": {"$lt": expires["expires_at"]}}} if expires else {}
            increments = {**update.get("$inc", {}), "revision": 1}
            ring = {"$each": [*fence, step.token], "$slice": -TOKEN_RING}
            result = await self.collection.update_one(
                {**identity, **turn, **outlived, "applied": {"$ne": step.token}, **guard},
                {**update, "$set": sets, "$inc": increments, "$push": {**update.get("$push", {}), "applied": ring}},
            )
            return int(result.matched_count)

        with within_document(session_id):
            if await self.retrying(send, session_id):
                return None
        return await self._explain(identity, step)

    async def _explain(self, identity: Document, step: Step) -> Head | None:
        keys = [changes.key for changes in step.agents]
        fields = ["applied", "lease", "children_expire_at", "has_children"]
        fields += [f"agents.{key}.next_message_id" for key in keys]
        if step.element is not None:
            fields.append(f"agents.{step.element.key}.messages.message_id")
        document = await self.find_one(identity, dict.fromkeys(fields, 1))
        if document is None:
            raise SessionNotFoundError(identity["_id"])
        if step.token in document.get("applied", ()):
            return None
        agents = document.get("agents") or {}
        found = False
        if step.element is not None:
            messages = (agents.get(step.element.key) or {}).get("messages") or []
            found = any(message.get("message_id") == step.element.record.message_id for message in messages)
        return Head(
            {key: agents[key]["next_message_id"] for key in keys if "next_message_id" in agents.get(key, {})},
            found,
            document.get("lease"),
            document.get("children_expire_at"),
            bool(document.get("has_children")),
        )

    async def find(self, session_id: str, projection: Mapping[str, Any]) -> Document:
        """Return some fields of a session.

        Raises:
            SessionNotFoundError: No such session.
        """
        document = await self.find_one({"_id": session_id}, projection)
        if document is None:
            raise SessionNotFoundError(session_id)
        return document

    async def delete(self, session_id: str, condition: Mapping[str, Any] | None = None) -> int:
        """Delete a session, where it fulfils the condition; 0 when there is none."""

        async def send() -> int:
            result = await self.collection.delete_one({**(condition or {}), "_id": session_id})
            return int(result.deleted_count)

        return await self.retrying(send, session_id)
