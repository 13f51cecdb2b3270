"""Large bytes of a session, in chunk documents of `<collection>_payloads`; equal bytes once per session.

A payload is written before the batch that refers to it, and removed after the last reference is gone, so that whoever
finds a reference finds its bytes. Nobody locks anything; three rules keep writers of equal bytes from harm:

- who removes, marks the chunks as doomed first, then looks for references, then removes those that are still doomed;
- who writes, lifts the doom of what is there already;
- and looks again once its batch is stored: whatever was removed before that is written once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Names
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from bson.binary import Binary
from pymongo.errors import DuplicateKeyError

from ..client import Collection
from ..schema.agents import STATE_FIELDS, StoredAgent, in_window
from ..schema.archives import Archive, SealedList, at
from ..schema.messages import now
from ..schema.payloads import names_in, payloads_of
from ..schema.sessions import StoredSession, new_token
from .batches import Document, Step
from .children import PAYLOADS, Children
from .history import History
from .store import SessionStore

CHUNK_BYTES = 4 * 1024 * 1024
"""Size of the chunks, all but the last. Chunks that are stored have it, so it cannot change."""

_CHUNKS_PER_READ = 4
_READ_HERE_BYTES = 256 * 1024
"""Payloads up to this size are checked on the event loop, larger ones in a thread: hashing takes 0.6 ms per MB."""


class PayloadStore:
    """The payloads of a collection's sessions."""

    def __init__(self, store: SessionStore, history: History) -> None:
        """Address `<collection>_payloads`; no I/O."""
        self._store = store
        self._history = history
        self._children = Children(store)

    @property
    def chunks(self) -> Collection:
        """The collection of chunks."""
        return self._children.collection(PAYLOADS)

    # -- around a step

    async def prepare(
        self, session_id: str, incarnation: str, step: Step, *, has_payloads: bool, ttl_s: float | None = None
    ) -> None:
        """Get ready for a step: store what it refers to, and note what a message refers to that it changes.

        Args:
            session_id: The session.
            incarnation: Which session of that id.
            step: What is going to be applied.
            has_payloads: Whether the session may have payloads already.
            ttl_s: Its time to live, which its payloads outlive.
        """
        if needed := step.all_payloads():
            expires_at = self._children.expiry(ttl_s)
            await self.ensure(session_id, incarnation, needed, expires_at=expires_at)
            if not has_payloads:
                await self._announce(session_id, incarnation, expires_at)
        element = step.element
        if has_payloads and element is not None and "content" in element.fields:
            number = element.record.message_id
            element.released |= await self._referred_by(session_id, incarnation, element.key, number)

    async def settle(self, session_id: str, incarnation: str, step: Step, *, ttl_s: float | None = None) -> None:
        """Finish a step that was applied: what it refers to is there, and what nothing refers to any more is not."""
        if needed := step.all_payloads():
            await self.ensure(session_id, incarnation, needed, expires_at=self._children.expiry(ttl_s))
        if released := step.all_released():
            await self.release(session_id, incarnation, released)

    async def _announce(self, session_id: str, incarnation: str, expires_at: datetime | None) -> None:
        """Note in the session that there are payloads, for readers and for whoever postpones their expiry."""
        update: Document = {"$set": {"has_payloads": True, "has_children": True}}
        if expires_at is not None:
            update["$min"] = {"children_expire_at": expires_at}
        await self._store.update(session_id, {"_id": session_id, "incarnation": incarnation}, update)

    # -- writing

    async def ensure(
        self,
        session_id: str,
        incarnation: str,
        payloads: Mapping[str, bytes],
        *,
        expires_at: datetime | None = None,
    ) -> None:
        """Store payloads by name, those that are not there yet; may be repeated."""
        present: Document = {"used_at": now(), **({} if expires_at is None else {"expires_at": expires_at})}
        counts = {name: max(-(-len(data) // CHUNK_BYTES), 1) for name, data in payloads.items()}
        query = _named(session_id, incarnation, payloads)
        result = await self._retrying(
            session_id, lambda: self.chunks.update_many(query, {"$set": present, "$unset": {"doomed": ""}})
        )
        if result.matched_count >= sum(counts.values()):
            return
        found = await self._retrying(session_id, lambda: self.chunks.find(query, {"_id": 1}))
        stored = {chunk["_id"] for chunk in found}
        for name, data in payloads.items():
            for number in range(counts[name]):
                identity = {"_id": f"{session_id}/{incarnation}/{name}/{number}", "session_id": session_id}
                if identity["_id"] in stored:
                    continue
                chunk = {
                    "incarnation": incarnation,
                    "sha256": name,
                    "number": number,
                    "count": counts[name],
                    "data": Binary(data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]),
                    "created_at": present["used_at"],
                }
                await self._insert(identity, chunk, present)

    async def _insert(self, identity: Document, chunk: Document, present: Document) -> None:
        # An upsert that changes nothing where it exists: the same chunk may be sent twice.
        update = {"$setOnInsert": chunk, "$set": present, "$unset": {"doomed": ""}}

        async def send() -> None:
            try:
                await self.chunks.update_one(identity, update, upsert=True)
            except DuplicateKeyError:  # Inserted by another writer at the same moment, which is as good.
                return

        await self._retrying(identity["session_id"], send)

    # -- reading

    async def fetch(self, session_id: str, incarnation: str, names: Names[str]) -> dict[str, bytes]:
        """Return payloads by name, with one find; those that are missing or damaged are left out."""
        if not names:
            return {}
        query = _named(session_id, incarnation, names)
        return await self._store.retrying(lambda: self._fetch(query), session_id, bounded=False)

    async def _fetch(self, query: Document) -> dict[str, bytes]:
        parts: dict[str, dict[int, bytes]] = {}
        found: dict[str, bytes] = {}
        projection = {"sha256": 1, "number": 1, "count": 1, "data": 1}
        async for chunk in self.chunks.iterate(query, projection, batch_size=_CHUNKS_PER_READ):
            name, held = chunk["sha256"], parts.setdefault(chunk["sha256"], {})
            held[chunk["number"]] = bytes(chunk["data"])
            if len(held) == chunk["count"] and (data := await _joined(parts.pop(name), name)) is not None:
                found[name] = data
        return found

    async def complete(self, session: StoredSession) -> None:
        """Load what the windows and states of a session refer to: with one find, or none."""
        if not session.has_payloads or session.incarnation is None:
            return
        wanted = {agent_id: _needed_by(agent) for agent_id, agent in session.agents.items()}
        graphs = names_in(session.multi_agents)
        found = await self.fetch(session.session_id, session.incarnation, graphs.union(*wanted.values()))
        session.payloads = {name: found[name] for name in graphs if name in found}
        for agent_id, agent in session.agents.items():
            agent.payloads = {name: found[name] for name in wanted[agent_id] if name in found}

    async def _referred_by(self, session_id: str, incarnation: str, key: str, message_id: int) -> set[str]:
        """Return what a stored message refers to, wherever it is."""
        entry = SealedList.of_agent(key)
        condition = {"$eq": ["$$message.message_id", {"$literal": message_id}]}
        messages = {"$filter": {"input": {"$ifNull": [f"${entry.path}", []]}, "as": "message", "cond": condition}}
        fields = {
            "messages": messages,
            "incarnation": 1,
            "archived_count": f"${entry.archive}.archived_count",
            "archive": f"${entry.archive}.archive",
        }
        pipeline: list[Document] = [{"$match": {"_id": session_id, "incarnation": incarnation}}, {"$project": fields}]
        found = await self._retrying(session_id, lambda: self._store.collection.aggregate(pipeline))
        if not found:
            return set()
        document: Document = found[0]
        if document["messages"]:
            return payloads_of(document["messages"][0])
        archive = Archive.read(document)
        sealed = await self._retrying(
            session_id, lambda: self._history.find_message(document, entry, archive, message_id)
        )
        return set() if sealed is None else payloads_of(sealed)

    # -- removing

    async def release(
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
            unused_since: Only those that nobody has written since then, whose batch may be on its way.
        """
        if not names:
            return set()
        query = _named(session_id, incarnation, names)
        if unused_since is not None:
            query["used_at"] = {"$lt": unused_since}
        token = new_token()
        doomed = await self._retrying(session_id, lambda: self.chunks.update_many(query, {"$set": {"doomed": token}}))
        if not doomed.matched_count:
            return set()
        used = await self.references(session_id, incarnation, names)
        if kept := used.intersection(names):
            pardoned = {**_named(session_id, incarnation, kept), "doomed": token}
            await self._retrying(session_id, lambda: self.chunks.update_many(pardoned, {"$unset": {"doomed": ""}}))
        if unused := set(names) - used:
            query = {**_named(session_id, incarnation, unused), "doomed": token}
            await self._retrying(session_id, lambda: self.chunks.delete_many(query))
        return unused

    async def references(self, session_id: str, incarnation: str, names: Names[str]) -> set[str]:
        """Return which of some payloads are referred to: by the session document, or by a segment that counts."""
        # The document first, as for all readers: what is sealed since was in it.
        identity = {"_id": session_id, "incarnation": incarnation}
        document = await self._retrying(
            session_id, lambda: self._store.collection.find_one(identity, {"agents": 1, "multi_agents": 1})
        )
        if document is None:
            return set()
        agents: dict[str, Any] = document.get("agents") or {}
        used = names_in(document.get("multi_agents"))
        for agent in agents.values():
            used |= _listed_in(agent)
        query = {
            "session_id": session_id,
            "incarnation": incarnation,
            "agent": {"$in": list(agents)},
            "items.payloads": {"$in": list(names)},
            "$or": [{"committed": True}, {"token": {"$in": [Archive.read(agent).token for agent in agents.values()]}}],
        }
        segments = await self._retrying(session_id, lambda: self._history.segments.find(query, {"items.payloads": 1}))
        used |= {name for segment in segments for item in segment["items"] for name in payloads_of(item)}
        return used.intersection(names)

    async def of_agent(self, session_id: str, incarnation: str, key: str) -> set[str]:
        """Return everything that an agent refers to, its sealed messages included."""
        identity = {"_id": session_id, "incarnation": incarnation}
        document = await self._store.find_one(identity, {f"agents.{key}": 1})
        query = {
            "session_id": session_id,
            "incarnation": incarnation,
            "agent": key,
            "items.payloads": {"$exists": True},
        }
        segments = await self._retrying(session_id, lambda: self._history.segments.find(query, {"items.payloads": 1}))
        used = {name for segment in segments for item in segment["items"] for name in payloads_of(item)}
        return used | _listed_in(at(document or {}, f"agents.{key}"))

    async def _retrying(self, session_id: str, send: Any) -> Any:
        return await self._store.retrying(send, session_id)


def _named(session_id: str, incarnation: str, names: Names[str]) -> Document:
    return {"session_id": session_id, "incarnation": incarnation, "sha256": {"$in": sorted(names)}}


def _listed_in(agent: object) -> set[str]:
    """Return what an agent of a session document refers to."""
    if not isinstance(agent, Mapping):
        return set()
    messages = agent.get("messages")
    used = names_in(agent.get("agent_data"))
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, Mapping):
            used |= payloads_of(message)
    return used


def _needed_by(agent: StoredAgent) -> set[str]:
    """Return what restoring an agent needs: its states, and the messages of its window."""
    needed = set().union(*(names_in(agent.data.get(name)) for name in STATE_FIELDS))
    for message in agent.raw_messages:
        if not isinstance(message, Mapping) or "payloads" not in message:
            continue
        if agent.window is None or in_window(message["message_id"], agent.window):
            needed |= payloads_of(message)
    return needed


async def _joined(parts: Mapping[int, bytes], name: str) -> bytes | None:
    if sum(map(len, parts.values())) <= _READ_HERE_BYTES:
        return _checked(parts, name)
    return await asyncio.to_thread(_checked, parts, name)


def _checked(parts: Mapping[int, bytes], name: str) -> bytes | None:
    """Return the bytes that the parts make up, None when they are not those that the name stands for."""
    data = parts[0] if len(parts) == 1 and 0 in parts else b"".join(parts[number] for number in sorted(parts))
    return data if sha256(data).hexdigest() == name else None
