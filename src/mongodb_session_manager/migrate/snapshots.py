"""Snapshots of Strands' `SnapshotSessionManager`, on any `Storage`.

::

    session/<session id>/scopes/agent/<agent id>/snapshots/snapshot_latest.json
                                                           immutable_history/snapshot_<id>.json
                         scopes/multiAgent/<id>/snapshots/snapshot_latest.json
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from .records import (
    UNSTORABLE,
    Document,
    FoundSession,
    Problem,
    Source,
    SourceMessage,
    SourceSession,
    UnreadableSourceError,
    agent_of,
    message_of,
    newest,
)

_KEY = re.compile(r"([^/]+)/scopes/(agent|multiAgent)/([^/]+)/snapshots/(snapshot_latest\.json|immutable_history/.+)")


class SnapshotSource(Source):
    """The storage of a `SnapshotSessionManager`. A snapshot is read as a whole: that is what its store holds."""

    kind = "snapshots"

    def __init__(self, storage: Any) -> None:
        """Take the storage as the session manager was given it: raw, or a namespaced view."""
        self._storage = storage
        # Strands puts its own namespace in front, except where it was given a view with one.
        self._prefix = "" if getattr(storage, "_namespaced", None) is not None else "session/"

    async def sessions(self) -> AsyncIterator[FoundSession]:
        """Yield its sessions, each once."""
        keys = (_KEY.fullmatch(key, len(self._prefix)) for key in sorted(await self._storage.list(self._prefix)))
        for session_id, found in groupby(filter(None, keys), itemgetter(1)):
            yield FoundSession(session_id, partial(self._read, session_id, list(found)))

    async def _read(self, session_id: str, keys: Sequence[re.Match[str]]) -> SourceSession:
        session = SourceSession(session_id)
        checkpoints: Counter[str] = Counter()
        for found in keys:
            key = found.string
            if found[4] != "snapshot_latest.json":
                checkpoints[found[3]] += 1
                continue
            agent_id = found[3]
            try:
                snapshot = await self._snapshot(key)
                data, date = snapshot["data"], snapshot.get("created_at")
                session.updated_at = newest(session.updated_at, date)
                if found[2] == "multiAgent":
                    session.multi_agents[str(data.get("orchestrator_id") or agent_id)] = data.get("state")
                    continue
                if snapshot.get("app_data"):
                    session.problems.append(Problem(session_id, "app_data of the snapshot", agent_id))
                self._add_agent(session, agent_id, data, date, key)
            except UnreadableSourceError as error:
                session.problems.append(Problem(session_id, str(error), agent_id))
            except UNSTORABLE:
                session.problems.append(Problem(session_id, "its state cannot be stored", agent_id))
        for agent_id, count in checkpoints.items():
            reason = f"{count} checkpoints (immutable_history): a message log keeps one history"
            session.problems.append(Problem(session_id, reason, agent_id))
        return session

    def _add_agent(self, session: SourceSession, agent_id: str, data: Document, date: Any, key: str) -> None:
        # What was trimmed is in no snapshot, so that nothing is left to be skipped.
        manager_state = {**(data.get("conversation_manager_state") or {})}
        if "removed_message_count" in manager_state:
            manager_state["removed_message_count"] = 0
        internal = {name: data[name] for name in ("interrupt_state", "model_state") if name in data}
        record = {
            "state": data.get("state"),
            "conversation_manager_state": manager_state,
            "_internal_state": internal,
            "created_at": date,
            "updated_at": date,
        }
        agent = agent_of(record, agent_id)

        async def messages() -> AsyncIterator[SourceMessage | Problem]:
            position = 0
            held = (await self._snapshot(key))["data"].get("messages")
            for number, message in enumerate(held if isinstance(held, list) else ()):
                raw = {"message": message, "created_at": date, "updated_at": date}
                found = message_of(raw, session.session_id, agent_id, position, str(number))
                position += isinstance(found, SourceMessage)
                yield found

        agent.messages = messages
        session.agents.append(agent)

    async def _snapshot(self, key: str) -> Document:
        stored = await self._storage.read(key)
        if stored is None:
            raise UnreadableSourceError("the snapshot is gone")
        try:
            snapshot = json.loads(stored)
        except (ValueError, RecursionError):
            raise UnreadableSourceError("the snapshot is not JSON") from None
        if not isinstance(snapshot, dict) or not isinstance(snapshot.get("data"), dict):
            raise UnreadableSourceError("the snapshot is not a JSON object with data")
        if snapshot.get("schema_version") != "1.0":
            raise UnreadableSourceError("the snapshot has a schema_version other than '1.0'")
        return snapshot
