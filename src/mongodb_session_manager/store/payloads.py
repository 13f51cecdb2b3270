"""Large bytes of a session, in chunk documents of `<collection>_payloads`; equal bytes once per session.

A payload is written before the update that refers to it, and removed after the last reference is gone, so that a reader
of a reference finds its bytes. No writer locks anything; three rules keep writers of equal bytes from harm:

- a process that removes chunks marks them as doomed first, then looks for references, then removes those that are
  still doomed;
- a process that writes chunks takes this mark from those that are there already;
- and looks again once its update is stored: what was removed before that is written once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Names
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

from bson.binary import Binary
from pymongo.errors import DuplicateKeyError

from ..client import Collection
from ..schema import paths
from ..schema.agents import STATE_FIELDS, StoredAgent
from ..schema.archives import Archive, SealedList, SealedPart
from ..schema.expressions import array
from ..schema.messages import now
from ..schema.payloads import names_by_field, names_in, payloads_of
from ..schema.sessions import belonging_to, identity, new_token
from ..schema.windows import contains
from .head import SessionHead
from .loaded import StoredSession
from .related import PAYLOADS, announcement, related_expiry
from .segments import Segments
from .store import SessionStore
from .updates import Document, Update

CHUNK_BYTES = 4 * 1024 * 1024
"""Size of the chunks, all but the last. Chunks that are stored have it, so it cannot change."""

_CHUNKS_PER_READ = 4
_READ_HERE_BYTES = 256 * 1024
"""Payloads up to this size are checked on the event loop, larger ones in a thread: hashing takes 0.6 ms per MB."""


class PayloadStore:
    """The payloads of a collection's sessions."""

    def __init__(self, store: SessionStore, segments: Segments) -> None:
        """Address `<collection>_payloads`; no I/O."""
        self._store = store
        self._segments = segments

    @property
    def chunks(self) -> Collection:
        """The collection of chunks."""
        return self._store.sibling(PAYLOADS)

    # -- around an update

    async def prepare(self, head: SessionHead, update: Update, payloads: Mapping[str, bytes]) -> SessionHead:
        """Get ready for an update: store what it refers to, and note what a message refers to that it changes.

        Args:
            head: The session.
            update: What is going to be applied.
            payloads: The large bytes that it refers to, by name.

        Returns:
            The session as it is then.
        """
        change = update.message
        if head.has_payloads and change is not None and change.rewrites:
            stored = await self._message(head, change.key, change.message.message_id)
            change.referred_before |= payloads_of(stored or {})
        if payloads:
            await self.ensure(head, payloads)
            if not head.has_payloads:
                return await self._announce(head)
        return head

    async def finish(self, head: SessionHead, payloads: Mapping[str, bytes], referred_before: Names[str]) -> None:
        """Finish an update: what it refers to is there, and what nothing refers to any more is not."""
        assert head.incarnation is not None
        if payloads:
            await self.ensure(head, payloads)
        await self.remove_unreferred(head.session_id, head.incarnation, referred_before)

    async def _announce(self, head: SessionHead) -> SessionHead:
        """Note in the session that there are payloads, for readers and for writers that postpone their expiry."""
        expires_at = related_expiry(head.ttl_s)
        session, update = identity(head.session_id, head.incarnation), announcement(expires_at, paths.HAS_PAYLOADS)
        await self._store.update(head.session_id, session, update)
        dates = [date for date in (expires_at, head.related_expire_at) if date is not None]
        return head.but(has_payloads=True, has_related=True, related_expire_at=min(dates, default=None))

    # -- writing

    async def ensure(self, head: SessionHead, payloads: Mapping[str, bytes]) -> None:
        """Store payloads by name, those that are not there yet; may be repeated."""
        session_id, incarnation = head.session_id, head.incarnation
        assert incarnation is not None
        expires_at = related_expiry(head.ttl_s)
        present: Document = {paths.USED_AT: now(), **({} if expires_at is None else {paths.EXPIRES_AT: expires_at})}
        counts = {name: max(-(-len(data) // CHUNK_BYTES), 1) for name, data in payloads.items()}
        query = _named(session_id, incarnation, payloads)
        result = await self.chunks.update_many(query, {"$set": present, "$unset": {paths.DOOMED: ""}})
        if result.matched_count >= sum(counts.values()):
            return
        found = await self.chunks.find(query, {"_id": 1})
        stored = {chunk["_id"] for chunk in found}
        for name, data in payloads.items():
            for number in range(counts[name]):
                place = f"{session_id}/{incarnation}/{name}/{number}"
                if place in stored:
                    continue
                chunk = {
                    paths.INCARNATION: incarnation,
                    paths.SHA256: name,
                    paths.NUMBER: number,
                    paths.COUNT: counts[name],
                    paths.DATA: Binary(data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]),
                    paths.CREATED_AT: present[paths.USED_AT],
                }
                await self._insert({"_id": place, paths.SESSION_ID: session_id}, chunk, present)

    async def _insert(self, query: Document, chunk: Document, present: Document) -> None:
        # An upsert that changes nothing where it exists: the same chunk may be sent twice.
        update = {"$setOnInsert": chunk, "$set": present, "$unset": {paths.DOOMED: ""}}
        # Inserted by another writer at the same moment is as good.
        with suppress(DuplicateKeyError):
            await self.chunks.update_one(query, update, upsert=True)

    # -- reading

    async def fetch(self, session_id: str, incarnation: str, names: Names[str]) -> dict[str, bytes]:
        """Return payloads by name, with one find; those that are missing or damaged are left out."""
        if not names:
            return {}
        query = _named(session_id, incarnation, names)
        return await self.chunks.gather(lambda chunks: _fetch(chunks, query), query)

    async def complete(self, session: StoredSession) -> None:
        """Load what the windows and states of a session refer to: with one find, or none."""
        if not session.head.has_payloads or session.head.incarnation is None:
            return
        wanted = {agent_id: _needed_by(agent) for agent_id, agent in session.agents.items()}
        graphs = names_in(session.multi_agents)
        found = await self.fetch(session.session_id, session.head.incarnation, graphs.union(*wanted.values()))
        session.payloads = {name: found[name] for name in graphs if name in found}
        for agent_id, agent in session.agents.items():
            agent.payloads = {name: found[name] for name in wanted[agent_id] if name in found}

    async def references_of(self, head: SessionHead, key: str, message_id: int) -> dict[str, frozenset[str]]:
        """Return what a stored message refers to, by field; of none where there is no such message."""
        return names_by_field(await self._message(head, key, message_id) or {})

    async def _message(self, head: SessionHead, key: str, message_id: int) -> Document | None:
        """Return a message as it is stored, wherever it is."""
        session, entry = identity(head.session_id, head.incarnation), SealedList.of_agent(key)
        messages = only_message(array(f"${entry.path}"), message_id)
        fields = {paths.MESSAGES: messages, **entry.projection()}
        pipeline: list[Document] = [{"$match": session}, {"$project": fields}]
        found = await self._store.collection.aggregate(pipeline)
        if not found or found[0][paths.MESSAGES]:
            return found[0][paths.MESSAGES][0] if found else None
        return await self._segments.find_message(SealedPart.read(found[0], entry), message_id)

    # -- removing

    async def remove_unreferred(
        self,
        session_id: str,
        incarnation: str,
        names: Names[str],
        *,
        unused_since: datetime | None = None,
    ) -> set[str]:
        """Remove those of some payloads that nothing in the session refers to any more, and return their names.

        Args:
            session_id: The session.
            incarnation: Which session of that id.
            names: The payloads.
            unused_since: Only those that were written before then: the update of a later writer may be on its way.
        """
        if not names:
            return set()
        query = _named(session_id, incarnation, names)
        if unused_since is not None:
            query[paths.USED_AT] = {"$lt": unused_since}
        token = new_token()
        doomed = await self.chunks.update_many(query, {"$set": {paths.DOOMED: token}})
        if not doomed.matched_count:
            return set()
        used = await self.references(session_id, incarnation, names)
        if kept := used.intersection(names):
            pardoned = {**_named(session_id, incarnation, kept), paths.DOOMED: token}
            await self.chunks.update_many(pardoned, {"$unset": {paths.DOOMED: ""}})
        if unused := set(names) - used:
            query = {**_named(session_id, incarnation, unused), paths.DOOMED: token}
            await self.chunks.delete_many(query)
        return unused

    async def references(self, session_id: str, incarnation: str, names: Names[str]) -> set[str]:
        """Return which of some payloads are referred to: by the session document, or by a segment that counts."""
        # The document first, as for all readers: what is sealed since was in it.
        session = identity(session_id, incarnation)
        document = await self._store.collection.find_one(session, {paths.AGENTS: 1, paths.MULTI_AGENTS: 1})
        if document is None:
            return set()
        agents: dict[str, Any] = document.get(paths.AGENTS) or {}
        used = names_in(document.get(paths.MULTI_AGENTS))
        for agent in agents.values():
            used |= _listed_in(agent)
        tokens = [Archive.read(agent).token for agent in agents.values()]
        query = {
            **belonging_to(session_id, incarnation),
            paths.AGENT: {"$in": list(agents)},
            paths.ITEM_PAYLOADS: {"$in": list(names)},
            "$or": [{paths.COMMITTED: True}, {paths.TOKEN: {"$in": tokens}}],
        }
        return (used | await self._listed_by(query)).intersection(names)

    async def of_agent(self, session_id: str, incarnation: str, key: str) -> set[str]:
        """Return everything that an agent refers to, its sealed messages included."""
        document = await self._store.find_one(identity(session_id, incarnation), {paths.agent(key): 1})
        query = {**belonging_to(session_id, incarnation), paths.AGENT: key, paths.ITEM_PAYLOADS: {"$exists": True}}
        return await self._listed_by(query) | _listed_in(paths.at(document or {}, paths.agent(key)))

    async def _listed_by(self, query: Document) -> set[str]:
        """Return what the messages of some segments refer to."""
        segments = await self._segments.segments.find(query, {paths.ITEM_PAYLOADS: 1})
        return {name for segment in segments for item in segment[paths.ITEMS] for name in payloads_of(item)}


def only_message(messages: Document, message_id: int) -> Document:
    """Return the expression for those of a document's messages that have a number."""
    condition = {"$eq": [f"$$message.{paths.MESSAGE_ID}", {"$literal": message_id}]}
    return {"$filter": {"input": messages, "as": "message", "cond": condition}}


def _named(session_id: str, incarnation: str, names: Names[str]) -> Document:
    return {**belonging_to(session_id, incarnation), paths.SHA256: {"$in": sorted(names)}}


def _listed_in(agent: object) -> set[str]:
    """Return what an agent of a session document refers to."""
    messages = (message for message in paths.list_at(agent, paths.MESSAGES) if isinstance(message, Mapping))
    return names_in(paths.at(agent, paths.AGENT_DATA)).union(*map(payloads_of, messages))


def _needed_by(agent: StoredAgent) -> set[str]:
    """Return what restoring an agent needs: its states, and the messages of its window."""
    needed = set().union(*(names_in(agent.data.get(name)) for name in STATE_FIELDS))
    for message in agent.raw_messages:
        if not isinstance(message, Mapping) or paths.PAYLOADS not in message:
            continue
        if agent.window is None or contains(message[paths.MESSAGE_ID], agent.window):
            needed |= payloads_of(message)
    return needed


async def _fetch(chunks: Collection, query: Document) -> dict[str, bytes]:
    parts: dict[str, dict[int, bytes]] = {}
    found: dict[str, bytes] = {}
    projection = {paths.SHA256: 1, paths.NUMBER: 1, paths.COUNT: 1, paths.DATA: 1}
    async for chunk in chunks.iterate(query, projection, batch_size=_CHUNKS_PER_READ):
        name, held = chunk[paths.SHA256], parts.setdefault(chunk[paths.SHA256], {})
        held[chunk[paths.NUMBER]] = bytes(chunk[paths.DATA])
        if len(held) == chunk[paths.COUNT] and (data := await _joined(parts.pop(name), name)) is not None:
            found[name] = data
    return found


async def _joined(parts: Mapping[int, bytes], name: str) -> bytes | None:
    if sum(map(len, parts.values())) <= _READ_HERE_BYTES:
        return _checked(parts, name)
    return await asyncio.to_thread(_checked, parts, name)


def _checked(parts: Mapping[int, bytes], name: str) -> bytes | None:
    """Return the bytes that the parts make up, None when they are not those that the name stands for."""
    data = parts[0] if len(parts) == 1 and 0 in parts else b"".join(parts[number] for number in sorted(parts))
    return data if sha256(data).hexdigest() == name else None
