"""The snapshots that Strands' `SnapshotSessionManager` keeps in a storage: which there are, and removing old ones."""

from __future__ import annotations

import asyncio
import builtins
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..schema.moments import cutoff
from ..schema.numbers import check_whole_number
from .contract import Storage, is_namespaced

_ROOT = "session/"
_KEY = re.compile(
    r"(?P<session>[^/]+)/scopes/agent/(?P<agent>[^/]+)/snapshots/immutable_history/"
    r"snapshot_(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\.json"
)
_DELETES_AT_ONCE = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An id has room for later moments than a date.
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True)
class SnapshotRecord:
    """A checkpoint of an agent; `SnapshotSessionManager.restore_snapshot(agent, snapshot_id=...)` goes back to it.

    Attributes:
        session_id: The session of the `SnapshotSessionManager`.
        agent_id: The agent.
        snapshot_id: What Strands calls it.
        created_at: When it was taken, UTC, with milliseconds.
        key: Where it is in the storage.
    """

    session_id: str
    agent_id: str
    snapshot_id: str
    created_at: datetime
    key: str


class Snapshots:
    """The checkpoints in a storage, of all sessions; not `snapshot_latest`, which is one per agent and overwritten.

    Give it the storage that `SnapshotSessionManager` was given: the storage itself, or the view. Strands' own storages
    will do as well. Ages come from the snapshots' ids, so nothing but keys is read.
    """

    def __init__(self, storage: Storage) -> None:
        """Look at a storage, which stays the caller's."""
        self._storage = storage
        self._root = "" if is_namespaced(storage) else _ROOT

    async def list(self, session_id: str | None = None, agent_id: str | None = None) -> builtins.list[SnapshotRecord]:
        """Return the snapshots, the oldest of each agent first, sessions and agents in the order of their ids.

        Args:
            session_id: Of this session only.
            agent_id: Of agents with this id only.

        Raises:
            StorageError: The storage cannot be read, or the session id cannot be part of a key.
        """
        prefix = self._root if session_id is None else f"{self._root}{session_id}/"
        found = [self._record(key) for key in await self._storage.list(prefix)]
        records = [record for record in found if record is not None]
        if session_id is not None:
            records = [record for record in records if record.session_id == session_id]
        if agent_id is not None:
            records = [record for record in records if record.agent_id == agent_id]
        return sorted(records, key=lambda record: (record.session_id, record.agent_id, record.snapshot_id))

    async def delete(
        self,
        older_than: datetime | timedelta,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        keep: int = 0,
        dry_run: bool = False,
    ) -> builtins.list[SnapshotRecord]:
        """Delete old snapshots and return those that were deleted, or would be.

        Args:
            older_than: A moment, or how long ago.
            session_id: Of this session only.
            agent_id: Of agents with this id only.
            keep: So many of each agent's newest stay, however old they are.
            dry_run: Only tell.

        Raises:
            StorageError: The storage failed; some may be deleted.
            TypeError: Neither a date nor a time span.
            ValueError: A date without a time zone, or `keep` is negative.
        """
        moment = cutoff(older_than)
        if check_whole_number("keep", keep) < 0:
            raise ValueError(f"invalid keep: it must not be negative, got {keep!r}")
        agents: dict[tuple[str, str], builtins.list[SnapshotRecord]] = {}
        for record in await self.list(session_id, agent_id):
            agents.setdefault((record.session_id, record.agent_id), []).append(record)
        old = [
            record
            for records in agents.values()
            for record in records[: len(records) - keep]
            if record.created_at < moment
        ]
        if not dry_run:
            for start in range(0, len(old), _DELETES_AT_ONCE):
                batch = old[start : start + _DELETES_AT_ONCE]
                await asyncio.gather(*(self._storage.delete(record.key) for record in batch))
        return old

    def _record(self, key: str) -> SnapshotRecord | None:
        match = _KEY.fullmatch(key, len(self._root)) if key.startswith(self._root) else None
        if match is None:
            return None
        milliseconds = min(uuid.UUID(match["id"]).int >> 80, _LAST_MS)
        created_at = _EPOCH + timedelta(milliseconds=milliseconds)
        return SnapshotRecord(match["session"], match["agent"], match["id"], created_at, key)
