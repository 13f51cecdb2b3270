"""Copies a session, whole or up to a message, to a new id: readable at once or not at all, whatever its length.

1. Segments and payloads are copied page by page under a new incarnation, which no session has yet: no reader finds it.
2. The session is read again, and what changed of what was copied is copied once more, so that nothing which was
   redacted meanwhile goes with the fork.
3. The document is inserted. From then on the fork is there, whole.
4. What was redacted in between is changed in the fork, too, and copies are looked for once more: the deletion of an
   earlier session of the new id, or a sweep of orphans, may have removed some as left over.

A crash before 3 leaves segments and payloads of an incarnation without a session, which `OrphanSweep` removes. The
session that is forked is only read.
"""

from __future__ import annotations

import copy
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Any

from pymongo.errors import PyMongoError

from ..errors import AgentNotFoundError, MessageNotFoundError, SessionExistsError, SessionNotFoundError
from ..schema import paths
from ..schema.agents import StoredAgent, find_agents
from ..schema.archives import GUARDRAIL_EVENTS, Archive, SealedList, SealedPart
from ..schema.forks import Course, Cut, cut_agent, fork_document, sliding_width, sound
from ..schema.messages import now, read_date
from ..schema.migrate import upgrade
from ..schema.names import check_agent_id, check_session_id, decode_name, encode_name
from ..schema.numbers import is_integer
from ..schema.payloads import names_in, payloads_of
from ..schema.sessions import identity, ttl_of, version_of
from ..schema.values import encoded_size
from . import sealing
from .payloads import PayloadStore
from .related_copies import Copying, LostCopiesError, RelatedCopies, is_newer
from .segments import MissingSegmentsError, Segments
from .store import SessionStore
from .updates import Document

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_LOOKS = 5
"""How often what was redacted is looked for once the fork is there, while others go on writing to its source."""


_OLDER = "older"
"""Stands for the incarnation of a document of an older tool, which has none and no segments either."""

_NOTHING: Any = object()


class SessionFork:
    """One fork of one session."""

    def __init__(
        self,
        store: SessionStore,
        segments: Segments,
        payloads: PayloadStore,
        session_id: str,
        new_session_id: str,
        *,
        up_to_message: int | None,
        agent_id: str | None,
        metadata: bool,
    ) -> None:
        """Prepare a fork; no I/O.

        Args:
            store: The sessions.
            segments: Their segments.
            payloads: Their payloads.
            session_id: The session to fork.
            new_session_id: The fork's id.
            up_to_message: Number of the last message of the fork, None for all.
            agent_id: The agent that has this message; may be left out where there is only one.
            metadata: Whether the fork takes the metadata along.

        Raises:
            InvalidNameError: An id is not allowed.
            TypeError: The number of the message is no integer.
        """
        if up_to_message is not None and not is_integer(up_to_message):
            raise TypeError(f"invalid up_to_message: it must be an integer, not {type(up_to_message).__name__}")
        self._store = store
        self._history = segments
        self._payloads = payloads
        self._id = check_session_id(session_id)
        self._new_id = check_session_id(new_session_id)
        self._number = up_to_message
        self._agent_id = None if agent_id is None else check_agent_id(agent_id)
        self._metadata = metadata
        self._cut: Cut | None = None
        self._incarnation: str | None = None

    async def run(self) -> Document:
        """Make the fork and return its document.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageNotFoundError: The agent has no such message.
            SessionExistsError: There is a session of the new id; it was not touched.
            SessionNotFoundError: No such session, or it was deleted meanwhile.
            ValueError: The agent has to be named, since the session has several.
        """
        head = await self._head()
        await self._find_cut(head)
        if await self._store.find_one({"_id": self._new_id}, {"_id": 1}) is not None:
            raise SessionExistsError(self._new_id)
        for _ in range(_ATTEMPTS - 1):
            # An agent was deleted while it was copied, or the copies were.
            with suppress(MissingSegmentsError, LostCopiesError):
                return await self._attempt(head)
            head = await self._head()
            await self._find_cut(head)  # Again: what it is of may be what was deleted.
        return await self._attempt(head)

    async def _attempt(self, head: Document) -> Document:
        incarnation = secrets.token_hex(8)
        related = RelatedCopies(
            self._store,
            source=(self._id, head[paths.INCARNATION]),
            target=(self._new_id, incarnation),
            ttl_s=ttl_of(head),
        )
        try:
            first = await self._copy(head, incarnation, related)
            await related.renew()
            document = await self._copy(await self._head(), incarnation, related)
            related.outdated |= names_in(first) - names_in(document)
            await related.check_there()
        except Exception:
            with suppress(PyMongoError):
                await related.discard()
            raise
        # An insert that failed may still arrive, and must find what belongs to it then; so nothing is removed.
        if not await self._store.insert(document):
            with suppress(PyMongoError):
                await related.discard()
            raise SessionExistsError(self._new_id)
        try:
            await related.check_there()
        except LostCopiesError:
            untouched = {paths.INCARNATION: incarnation, paths.REVISION: {"$exists": False}}
            if await self._store.delete(self._new_id, untouched):
                await related.discard()
                raise
        await self._carry_over(document, related)
        logger.info("session_id=<%r>, new_session_id=<%r> | forked", self._id, self._new_id)
        return document

    # -- reading the source

    async def _head(self) -> Document:
        """Return the document of the source in today's form; an older tool's is read so, and stays as it is."""
        document = await self._store.find_one({"_id": self._id})
        if document is None:
            raise SessionNotFoundError(self._id)
        if not version_of(document):
            _, update = upgrade(document, now())
            document = {**document, **update["$set"], paths.INCARNATION: _OLDER}
        if self._incarnation is None:
            self._incarnation = document[paths.INCARNATION]
        elif self._incarnation != document[paths.INCARNATION] and self._incarnation != _OLDER:
            raise SessionNotFoundError(self._id)  # Another session of that id.
        return sound(document)

    async def _find_cut(self, head: Document) -> None:
        agents = {_id_of(key, agent): key for key, agent in head[paths.AGENTS].items()}
        agent_id = self._agent_id
        if agent_id is not None and agent_id not in agents:
            raise AgentNotFoundError(self._id, agent_id)
        if self._number is None:
            return
        if agent_id is None:
            if len(agents) != 1:
                raise ValueError(
                    f"invalid agent_id: it must name the agent that up_to_message belongs to: session {self._id!r} has "
                    f"{len(agents)} agents"
                )
            (agent_id,) = agents
        key = agents[agent_id]
        item = dict(_numbered(key, head[paths.AGENTS][key])).get(self._number, _NOTHING)
        if item is _NOTHING:
            sealed = SealedPart.read(head, SealedList.of_agent(key))
            item = await self._history.find_message(sealed, self._number)
            if item is None:
                raise MessageNotFoundError(self._id, agent_id, self._number)
        moment = read_date(item.get(paths.CREATED_AT)) if isinstance(item, Mapping) else None
        self._cut = Cut(key, self._number, moment or now())

    # -- copying

    async def _copy(self, head: Document, incarnation: str, related: RelatedCopies) -> Document:
        """Copy what is not copied yet, change what was changed since, and return the fork's document."""
        moment = now()
        agents: dict[str, Document] = {}
        message_count = 0
        if not related.copied.keys() - {GUARDRAIL_EVENTS.path} <= set(map(paths.messages, head[paths.AGENTS])):
            raise MissingSegmentsError(self._id)
        for key in head[paths.AGENTS]:
            agent, count = await self._copy_agent(head, key, related, moment)
            if agent is not None:
                agents[key] = agent
                message_count += count
        document = fork_document(
            head,
            agents,
            session_id=self._new_id,
            incarnation=incarnation,
            cut=self._cut,
            message_count=message_count,
            events=await self._copy_events(head, agents, related),
            metadata=self._metadata,
            moment=moment,
        )
        await related.copy_payloads(names_in(document))
        return {**document, **related.fields()}

    async def _copy_agent(
        self, head: Document, key: str, related: RelatedCopies, moment: datetime
    ) -> tuple[Document | None, int]:
        sealed, stored, cut = SealedPart.read(head, SealedList.of_agent(key)), head[paths.AGENTS][key], self._cut
        if sealed.entry.path in related.copied:
            await related.refresh(sealed)
        # What is copied as a whole needs no notes.
        course = None if cut is None else Course(sliding_width(stored))
        made = related.copied.setdefault(sealed.entry.path, Copying(sealed.archive.id, course))

        def keeps(item: Document) -> bool:
            return cut is None or cut.keeps(key, item[paths.MESSAGE_ID], item)

        segment = await related.copy(sealed, keeps)
        if segment is not None:
            numbered = [(item[paths.MESSAGE_ID], item) for item in segment[paths.ITEMS]]
        else:
            numbered = list(_numbered(key, stored))
        kept = numbered if cut is None else list(takewhile(lambda one: cut.keeps(key, *one), numbered))
        count = made.count + len(kept)
        if cut is not None and not count and key != cut.key and not cut.is_before(stored, paths.CREATED_AT):
            return None, 0  # It was not there by then.
        if made.course is None or (segment is None and len(kept) == len(numbered)):
            return stored, count
        course = copy.deepcopy(made.course)
        for number, item in kept:
            course.note(number, item)
        agent = cut_agent(stored, course, moment)
        archived, tail = made.count, [item for _, item in kept]
        moved = sealing.overflow([encoded_size(item) for item in tail], sealing.TAIL_BYTES)
        if segment is not None and moved:
            await related.copy_cut(segment, sealed, tail[:moved])
            archived, tail = archived + moved, tail[moved:]
        token = made.cut_token if made.is_cut else made.token
        agent[paths.MESSAGES] = tail
        agent[paths.ARCHIVE] = {**(stored.get(paths.ARCHIVE) or {}), paths.TOKEN: token}
        agent[paths.ARCHIVED_COUNT] = archived
        if not archived:
            del agent[paths.ARCHIVED_COUNT], agent[paths.ARCHIVE][paths.TOKEN]
        return agent, count

    async def _copy_events(self, head: Document, agents: Mapping[str, Document], related: RelatedCopies) -> Document:
        """Copy the guardrail events of messages that are kept, and return what the fork's document holds of them."""
        entry, sealed = GUARDRAIL_EVENTS, SealedPart.read(head, GUARDRAIL_EVENTS)
        made = related.copied.setdefault(entry.path, Copying(sealed.archive.id))
        cut = self._cut

        def keeps(event: object) -> bool:
            if cut is None or not isinstance(event, Mapping):
                return True
            key, number = encode_name(str(event.get(paths.AGENT_ID))), event.get(paths.MESSAGE_ID)
            agent = agents.get(key)
            if agent is not None and isinstance(number, int):
                return number < StoredAgent(decode_name(key), key, agent).next_message_id
            return agent is not None and cut.is_before(event, paths.TIMESTAMP)

        await related.copy(sealed, keeps)
        events: Document = {entry.path: [event for event in paths.at(head, entry.path) or [] if keeps(event)]}
        if made.count:
            noted = {**paths.at(head, entry.archive), paths.ARCHIVED_COUNT: made.count}
            noted[paths.ARCHIVE] = {**(noted.get(paths.ARCHIVE) or {}), paths.TOKEN: made.token}
            events[entry.archive] = noted
        return events

    # -- once it is there

    async def _carry_over(self, document: Document, related: RelatedCopies) -> None:
        """Carry over what was redacted of the source before the fork was there, and drop its payloads."""
        try:
            for _ in range(_LOOKS):
                head = await self._head()
                await self._bring_up_to_date(document, head, related)
                seen = await self._store.find_one({"_id": self._id}, {paths.REVISION: 1})
                if seen is None or seen.get(paths.REVISION) == head.get(paths.REVISION):
                    break
        except (SessionNotFoundError, MissingSegmentsError):
            pass  # Deleted since, which is no concern of the fork's.
        await self._payloads.remove_unreferred(self._new_id, document[paths.INCARNATION], related.outdated)

    async def _bring_up_to_date(self, document: Document, head: Document, related: RelatedCopies) -> None:
        for key, agent in document[paths.AGENTS].items():
            sealed = SealedPart.read(head, SealedList.of_agent(key))
            if key in head[paths.AGENTS] and sealed.archive.id == Archive.read(agent).id:
                await related.refresh(sealed)
                await self._bring_tail_up_to_date(sealed, agent, document, head, related)
        title = head.get(paths.TITLE, _NOTHING)
        if title is not _NOTHING and title != document.get(paths.TITLE):
            fork = identity(self._new_id, document[paths.INCARNATION])
            guard = {**fork, paths.TITLE: document.get(paths.TITLE)}
            await self._store.update(self._new_id, guard, {"$set": {paths.TITLE: title}, "$inc": {paths.REVISION: 1}})

    async def _bring_tail_up_to_date(
        self, sealed: SealedPart, agent: Document, document: Document, head: Document, related: RelatedCopies
    ) -> None:
        entry = sealed.entry
        copied = {item[paths.MESSAGE_ID]: item for item in agent[paths.MESSAGES] if entry.may_hold(item)}
        stored = [item for item in paths.at(head, entry.path) or [] if entry.may_hold(item)]
        seen = {item[paths.MESSAGE_ID] for item in stored}
        for number in copied.keys() - seen if sealed.archive.count else ():
            item = await self._history.find_message(sealed, number)
            stored += [item] if item is not None else []
        for item in stored:
            older = copied.get(item[paths.MESSAGE_ID])
            if older is None or not is_newer(item, older):
                continue
            await related.copy_payloads(payloads_of(item))
            place = {paths.MESSAGE_ID: item[paths.MESSAGE_ID], paths.UPDATED_AT: older.get(paths.UPDATED_AT)}
            guard = {**identity(self._new_id, document[paths.INCARNATION]), entry.path: {"$elemMatch": place}}
            counted = {entry.noted(paths.REDACTIONS): 1, paths.REVISION: 1}
            update = {"$set": {f"{entry.path}.$": item}, "$inc": counted}
            if not await self._store.update(self._new_id, guard, update):
                await related.change_copy(sealed, item)  # Sealed since.
            await self._history.remove_refused(self._new_id, document[paths.INCARNATION], entry.agent or "")
            related.outdated |= payloads_of(older)


def _id_of(key: str, agent: Document) -> str:
    return find_agents({key: agent}).popitem()[0]


def _numbered(key: str, agent: Document) -> Iterator[tuple[int, Any]]:
    stored = StoredAgent(decode_name(key), key, agent)
    return zip(stored.message_numbers, stored.raw_messages, strict=True)
