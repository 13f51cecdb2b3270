"""A session document in memory that takes rendered updates as the server does, for tests of what renders them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from mongodb_session_manager.schema import paths
from mongodb_session_manager.schema.sessions import new_session
from mongodb_session_manager.store.executor import Conflict
from mongodb_session_manager.store.head import SessionHead
from mongodb_session_manager.store.updates import Update

Document = dict[str, Any]

_MISSING = object()


class DocumentInMemory:
    """Knows the operators that the engine uses, and refuses what the server refuses.

    Attributes:
        document: What is stored.
        applied: The tokens of what was applied, in order.
    """

    def __init__(self, session_id: str = "s-1") -> None:
        """Begin with a new session."""
        self.document = new_session(session_id, datetime(2026, 1, 1, tzinfo=UTC))
        self.applied: list[str] = []

    def apply(self, update: Update, head: SessionHead | None = None) -> bool:
        """Apply an update once; False when its guard refuses it. One that was applied before is no refusal."""
        if update.token in self.applied:
            return True
        head = head or self.head()
        guard, changes = update.render(title=update.title(head.has_title, head.title_of))
        check_no_conflict(changes)
        matched = {path: _matched(self._at(path), wanted) for path, wanted in guard.items() if path != "$nor"}
        if not all(position is not None for position in matched.values()):
            return False
        for path, value in changes.get("$set", {}).items():
            self._set(_resolved(path, matched), copy.deepcopy(value))
        for path in changes.get("$unset", {}):
            self._unset(_resolved(path, matched))
        for path, amount in changes.get("$inc", {}).items():
            self._set(path, (0 if (before := self._at(path)) is _MISSING else before) + amount)
        for path, push in changes.get("$push", {}).items():
            items = [] if (before := self._at(path)) is _MISSING else before
            items = [*items, *copy.deepcopy(push["$each"])]
            self._set(path, items[push["$slice"] :] if "$slice" in push else items)
        self.applied.append(update.token)
        self.document["revision"] = self.document.get("revision", 0) + 1
        return True

    def head(self) -> SessionHead:
        """Return the head of what is stored."""
        return SessionHead.read(self.document)

    def conflict(self, update: Update) -> Conflict:
        """Return what a refused update is told."""
        agents = self.document["agents"]
        numbers = {c.key: agents[c.key]["next_message_id"] for c in update.agents if c.key in agents}
        found = False
        if (change := update.message) is not None:
            messages = agents.get(change.key, {}).get("messages", [])
            found = any(message["message_id"] == change.message.message_id for message in messages)
        windows = {c.key: agents[c.key]["window"] for c in update.agents if "window" in agents.get(c.key, {})}
        archive_ids = {key: agents[key]["archive"]["id"] for key in update.keys if key in agents}
        return Conflict(self.head(), numbers, found, windows, archive_ids)

    def messages(self, key: str) -> list[Document]:
        """Return the stored messages of an agent, none of one that is not stored."""
        agent = self.document["agents"].get(key)
        return [] if agent is None else agent[paths.MESSAGES]

    def seal(self, key: str, count: int) -> list[Document]:
        """Take the oldest messages of an agent out of the document, and return them."""
        messages = self.messages(key)
        gone, messages[:count] = messages[:count], []
        return gone

    def _at(self, path: str) -> Any:
        node: Any = self.document
        for name in path.split("."):
            if isinstance(node, list):
                node = node[int(name)]
            elif isinstance(node, Mapping) and name in node:
                node = node[name]
            else:
                return _MISSING
        return node

    def _set(self, path: str, value: Any) -> None:
        *parents, name = path.split(".")
        node: Any = self.document
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node.setdefault(parent, {})
        if isinstance(node, list):
            node[int(name)] = value
        else:
            node[name] = value

    def _unset(self, path: str) -> None:
        parent, _, name = path.rpartition(".")
        node = self._at(parent) if parent else self.document
        if isinstance(node, dict):
            node.pop(name, None)


def check_no_conflict(changes: Document) -> None:
    """Assert that no two operators touch the same field, or one a part of what another one does (error 40)."""
    touched = sorted(tuple(path.split(".")) for content in changes.values() for path in content)
    for one, other in pairwise(touched):
        assert other[: len(one)] != one, f"{'.'.join(one)} and {'.'.join(other)} in one update"


def _matched(value: Any, wanted: Any) -> int | None:
    """Return the position of the item that a condition matched, 0 for a match without one, None for no match."""
    if not isinstance(wanted, Mapping):
        return 0 if (None if value is _MISSING else value) == wanted else None
    if "$exists" in wanted:
        return 0 if (value is not _MISSING) == wanted["$exists"] else None
    if "$elemMatch" in wanted:
        items = value if isinstance(value, list) else []
        fits = (all(item.get(name) == part for name, part in wanted["$elemMatch"].items()) for item in items)
        return next((position for position, fit in enumerate(fits) if fit), None)
    raise AssertionError(f"an operator that this document does not know: {wanted}")


def _resolved(path: str, matched: Mapping[str, int | None]) -> str:
    items, dollar, field = path.partition(".$.")
    return f"{items}.{matched[items]}.{field}" if dollar else path
