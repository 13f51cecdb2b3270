"""Takes the sessions of a source into a collection, one by one, each readable at once or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bson.errors import BSONError
from pymongo.errors import PyMongoError, WriteError

from ..errors import SessionStoreError
from ..runtime import portal
from ..schema import paths, values
from ..schema.forks import Course
from ..schema.messages import now
from ..schema.names import check_session_id, encode_name
from ..schema.numbers import check_whole_number
from ..schema.payloads import offload_state
from ..schema.sessions import new_session
from ..schema.totals import total_usage
from ..store import AsyncMongoDBSessionRepository
from ..store.imports import SessionImport
from ..sync import MongoDBSessionRepository
from .digests import Digest
from .records import (
    UNSTORABLE,
    Document,
    FoundSession,
    Problem,
    Source,
    SourceAgent,
    SourceSession,
    UnreadableSourceError,
)

logger = logging.getLogger(__name__)

PROBLEMS_KEPT = 1000
"""How many problems a report holds; all are counted and logged."""

_PAGE = 200


@dataclass
class Progress:
    """How far a migration has come.

    Attributes:
        done: Sessions that were looked at.
        total: Sessions of the source, None where that is not known.
        messages: Messages that were taken, or would be.
        problems: How many things could not be taken.
    """

    done: int = 0
    total: int | None = None
    messages: int = 0
    problems: int = 0


@dataclass
class MigrationReport:
    """The result of a migration.

    Attributes:
        dry_run: Whether nothing was written.
        sessions: Sessions of the source.
        migrated: Those that were taken, or would be.
        present: Those that an earlier run took.
        failed: Those that were not taken.
        messages: Messages of the sessions that were taken, or would be.
        problem_count: How many things could not be taken.
        problems: What and why, the first `PROBLEMS_KEPT`.
    """

    dry_run: bool
    sessions: int = 0
    migrated: int = 0
    present: int = 0
    failed: int = 0
    messages: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything of the source was taken, or would be."""
        return not self.failed and not self.problem_count

    def note(self, problem: Problem) -> None:
        """Record something that could not be taken."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)
        logger.warning(
            "session_id=<%r>, agent_id=<%r>, message=<%r>, reason=<%s> | not taken",
            problem.session_id,
            problem.agent_id,
            problem.message,
            problem.reason,
        )


async def migrate(
    source: Source,
    target: AsyncMongoDBSessionRepository,
    *,
    dry_run: bool = True,
    progress: Callable[[Progress], None] | None = None,
    concurrency: int = 4,
) -> MigrationReport:
    """Take the sessions of a source into the collection of a repository; nothing of the source is changed.

    A session is there as a whole or not at all; it is read back, and compared with the source by count and digest. The
    call can be repeated after an interruption: sessions that are there already are compared and not taken again.

    Args:
        source: Where the sessions come from.
        target: Where they go to.
        dry_run: Only read all of the source, and report.
        progress: Is called after each session.
        concurrency: How many sessions are taken at once.

    Raises:
        PyMongoError: The target cannot be reached; repeat it.
        ValueError: Source and target are one collection, or a concurrency below 1.
    """
    if check_whole_number("concurrency", concurrency) < 1:
        raise ValueError(f"invalid concurrency: it must be at least 1, got {concurrency!r}")
    source.check_apart_from(target._namespace)
    migration = _Migration(source, target, MigrationReport(dry_run), progress)
    migration.progress.total = await source.count()
    sessions = source.sessions()
    turn = asyncio.Lock()

    async def work() -> None:
        while True:
            async with turn:
                found = await anext(sessions, None)
            if found is None:
                return
            await migration.take(found)

    tasks = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    report = migration.report
    logger.info(
        "kind=<%s>, dry_run=<%s>, migrated=<%s>, present=<%s>, failed=<%s>, messages=<%s>, problems=<%s> | migrated",
        source.kind,
        dry_run,
        report.migrated,
        report.present,
        report.failed,
        report.messages,
        report.problem_count,
    )
    return report


def migrate_sessions(
    source: Source,
    target: MongoDBSessionRepository,
    *,
    dry_run: bool = True,
    progress: Callable[[Progress], None] | None = None,
    concurrency: int = 4,
) -> MigrationReport:
    """Take the sessions of a source into a collection, as `migrate` does, for code without an event loop.

    `progress` is called on another thread.
    """
    return portal.call(migrate, source, target._async, dry_run=dry_run, progress=progress, concurrency=concurrency)


class _Migration:
    """One run."""

    def __init__(
        self,
        source: Source,
        target: AsyncMongoDBSessionRepository,
        report: MigrationReport,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._source = source
        self._target = target
        self._store = target._store
        self.report = report
        self.progress = Progress()
        self._tell = tell

    async def take(self, found: FoundSession) -> None:
        """Take one session; what is wrong with it is recorded, and the migration goes on."""
        session_id = found.session_id
        self.report.sessions += 1
        try:
            await self._take(found)
        except UnreadableSourceError as error:
            self._fail(session_id, str(error))
        except (SessionStoreError, *UNSTORABLE, BSONError, WriteError) as error:
            reason = str(error) if isinstance(error, SessionStoreError) else "it cannot be stored"
            self._fail(session_id, f"{type(error).__name__}: {reason}")
        self.progress.done += 1
        self.progress.messages, self.progress.problems = self.report.messages, self.report.problem_count
        if self._tell is not None:
            self._tell(self.progress)

    def _fail(self, session_id: str, reason: str) -> None:
        self.report.failed += 1
        self.report.note(Problem(session_id, reason))

    async def _take(self, found: FoundSession) -> None:
        check_session_id(found.session_id)
        fields = {"migrated_from": 1, paths.INCARNATION: 1}
        present = await self._store.find_one({"_id": found.session_id}, fields)
        session = await found.read()
        session.agents.sort(key=lambda agent: agent.agent_id)
        for problem in session.problems:
            self.report.note(problem)
        if present is not None:
            await self._compare(session, present)
            return
        reading = _Reading(session, self.report)
        if self.report.dry_run:
            await reading.run(None)
        elif not await self._store_session(session, reading):
            return
        self.report.migrated += 1
        self.report.messages += reading.count

    async def _compare(self, session: SourceSession, present: Document) -> None:
        """Compare a session that is there with the source, and finish what an earlier run could not."""
        origin = present.get("migrated_from")
        if not isinstance(origin, dict) or origin.get("kind") != self._source.kind:
            self._fail(session.session_id, "a session of that id is there, which came from elsewhere")
            return
        reading = _Reading(session, self.report)
        await reading.run(None)
        if str(reading.digest) != origin.get("digest"):
            self._fail(session.session_id, "it was taken earlier, and changed in the source since")
            return
        if not origin.get("verified") and not self.report.dry_run:
            await self._verify(session, reading, present[paths.INCARNATION])
        self.report.present += 1

    async def _store_session(self, session: SourceSession, reading: _Reading) -> bool:
        target = self._target
        made = SessionImport(
            self._store, target._segments, target._payloads, session.session_id, agents=len(session.agents)
        )
        try:
            agents = await reading.run(made)
            document = await self._document(session, reading, agents, made)
        except BaseException:
            with suppress(PyMongoError):
                await made.discard()
            raise
        if not await made.insert(document):
            await made.discard()
            self._fail(session.session_id, "a session of that id came into being meanwhile")
            return False
        try:
            await self._verify(session, reading, made.incarnation)
        except SessionStoreError:
            own = {paths.INCARNATION: made.incarnation, paths.REVISION: {"$exists": False}}
            if await self._store.delete(session.session_id, own):
                await made.discard()
            raise
        return True

    async def _document(
        self, session: SourceSession, reading: _Reading, agents: dict[str, Document], made: SessionImport
    ) -> Document:
        created_at = session.created_at or reading.first_date or session.updated_at or now()
        graphs: Document = {}
        for multi_agent_id, state in session.multi_agents.items():
            encoded, payloads = offload_state(values.encode(state, where=f"multi-agent {multi_agent_id!r}"))
            await made.add_payloads(payloads)
            graphs[encode_name(multi_agent_id)] = encoded
        document: Document = {
            **new_session(session.session_id, created_at, application_name=self._target._application_name),
            paths.MULTI_AGENTS: graphs,
            **session.fields,
            paths.SESSION_TYPE: session.session_type,
            "created_at": created_at,
            "updated_at": max(filter(None, (session.updated_at, reading.last_date, created_at))),
            "agents": agents,
            "migrated_from": {
                "kind": self._source.kind,
                "digest": str(reading.digest),
                "messages": reading.count,
                "at": now(),
                "verified": False,
            },
        }
        document["summary"] = {
            **document["summary"],
            "agents": len(agents),
            "messages": reading.count,
            "usage": total_usage(agent["usage"] for agent in agents.values()),
        }
        return document

    async def _verify(self, session: SourceSession, reading: _Reading, incarnation: str) -> None:
        """Read back what was stored, compare it, and note that it is equal.

        Raises:
            SessionStoreError: It is not.
        """
        session_id, digest, count = session.session_id, Digest(), 0
        for agent in session.agents:
            digest.add(agent.agent_id)
            offset = 0
            while True:
                page = await self._target.list_messages(session_id, agent.agent_id, limit=_PAGE, offset=offset)
                for message in page:
                    digest.add_message(Digest.message(message))
                offset += len(page)
                if len(page) < _PAGE:
                    break
            count += offset
            stored = await self._target.read_agent(session_id, agent.agent_id)
            states = () if stored is None else (stored.state, stored.conversation_manager_state, stored._internal_state)
            digest.add(*states)
        for multi_agent_id in sorted(session.multi_agents):
            digest.add(multi_agent_id, await self._target.read_multi_agent(session_id, multi_agent_id))
        if count != reading.count or str(digest) != str(reading.digest):
            raise SessionStoreError(
                f"session {session_id!r} reads back otherwise than it was taken: {count} messages of {reading.count}"
            )
        guard = {"_id": session_id, paths.INCARNATION: incarnation}
        await self._store.update(session_id, guard, {"$set": {"migrated_from.verified": True}})


class _Reading:
    """One pass over a session's agents: their digest, and on the way their storing."""

    def __init__(self, session: SourceSession, report: MigrationReport) -> None:
        self._session = session
        self._report = report
        self.digest = Digest()
        self.count = 0
        self.first_date: Any = None
        self.last_date: Any = None

    async def run(self, made: SessionImport | None) -> dict[str, Document]:
        """Read all agents, store them where there is an import, and return their part of the document by key."""
        agents: dict[str, Document] = {}
        for agent in self._session.agents:
            agents[encode_name(agent.agent_id)] = await self._agent(agent, made)
        for multi_agent_id in sorted(self._session.multi_agents):
            self.digest.add(multi_agent_id, self._session.multi_agents[multi_agent_id])
        return agents

    async def _agent(self, agent: SourceAgent, made: SessionImport | None) -> Document:
        key, course, skipped, number = encode_name(agent.agent_id), Course(), 0, 0
        removed = agent.states[1].get("removed_message_count")
        self.digest.add(agent.agent_id)
        if made is not None:
            await made.add_payloads(agent.payloads)
            made.begin_agent(key, agent.fields["archive"]["id"])
        async for message in agent.messages():
            number += 1
            if isinstance(message, Problem):
                self._report.note(message)
                skipped += isinstance(removed, int) and number <= removed
                continue
            self.digest.add_message(message.digested)
            course.note(message.document["message_id"], message.document)
            self._note_date(message.document.get("created_at"))
            if made is not None:
                await made.add_payloads(message.payloads)
                await made.add_message(message.document)
        self.count += course.count
        fields = {**agent.fields, paths.NEXT_MESSAGE_ID: course.next_id}
        fields["usage"] = fields.get("usage") or course.totals.usage
        if skipped:
            # It counts from the first message, and some of those it counts are not there.
            agent.states[1] = {**agent.states[1], "removed_message_count": removed - skipped}
            manager_state = fields[paths.AGENT_DATA][paths.MANAGER_STATE]
            if "removed_message_count" in manager_state:
                manager_state = {**manager_state, "removed_message_count": removed - skipped}
                fields[paths.AGENT_DATA] = {**fields[paths.AGENT_DATA], paths.MANAGER_STATE: manager_state}
        self.digest.add(*agent.states)
        return fields if made is None else {**fields, **await made.end_agent()}

    def _note_date(self, date: Any) -> None:
        if date is not None:
            self.first_date = date if self.first_date is None else min(self.first_date, date)
            self.last_date = date if self.last_date is None else max(self.last_date, date)
