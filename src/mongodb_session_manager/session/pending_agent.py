"""What is pending of one agent, and what has to be known of what is stored of it. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from typing import Any

import bson

from ..schema import paths, values
from ..schema.agents import STATE_FIELDS, StoredAgent, new_archive
from ..schema.names import encode_name
from ..schema.payloads import names_in, offload_state
from ..schema.windows import Ranges
from ..store.updates import (
    AppendMessages,
    ChangeMessage,
    Document,
    NewMessage,
)
from .pending_window import PendingWindow
from .record import Origin, Record, RecordState

logger = logging.getLogger(__name__)


class PendingAgent:
    """What is pending of one agent, and what has to be known of what is stored of it."""

    def __init__(self, agent_id: str, stored: StoredAgent | None = None) -> None:
        """Start from what is stored of the agent; None for a new one."""
        self.agent_id = agent_id
        self.key = encode_name(agent_id) if stored is None else stored.key
        self.exists = stored is not None
        self.expected = self.next_id = 0 if stored is None else stored.next_message_id
        self.records: list[Record] = []
        self.latest_assistant: Record | None = None
        self.archive_id: str | None = _archive_id(stored)
        self.wants_all = False
        self._has_lost = False
        self._new: list[Record] = []
        self._changes: dict[Record, ChangeMessage] = {}
        self._fields: Document = {}
        self._increments: dict[str, float] = {}
        self._seen: dict[str, bytes] = {}
        self._initial: dict[str, bytes] = {}
        self._payloads: dict[str, dict[str, bytes]] = {}
        self._references: dict[str, set[str]] = {}
        self.window = PendingWindow() if stored is None else PendingWindow(stored.window, stored.window_head)
        if stored is None:
            self.window.is_dirty = True  # A new agent has it stored with it.
        else:
            # As stored, not as restored: what older tools left empty is to be filled in.
            data = stored.raw.get(paths.AGENT_DATA)
            for name in STATE_FIELDS:
                found = (data.get(name) if isinstance(data, dict) else None) or {}
                self._seen[paths.agent_data(name)] = fingerprint(found)
                if stored.payloads is not None:
                    self._references[paths.agent_data(name)] = names_in(found)

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._new or self._changes or self._fields or self._increments) or self.window.is_dirty

    # -- fields

    def capture_state(self, name: str, value: Any) -> None:
        """Note the present value of a state; it is written when its encoded form differs from the last one."""
        path = paths.agent_data(name)
        encoded = values.encode(value, where=f"agent {self.agent_id!r} {name}", foreign=True)
        encoded, payloads = offload_state(encoded)
        seen = fingerprint(encoded)
        if not self.exists:
            self._initial.setdefault(path, seen)
        if self._seen.get(path) != seen:
            self._seen[path] = seen
            self._payloads[path] = payloads
            self.set_field(path, encoded)

    def set_field(self, path: str, encoded: Any) -> None:
        """Set a field below the agent."""
        self._fields[path] = encoded

    def increase(self, path: str, amount: float) -> None:
        """Raise a running total."""
        if amount:
            self._increments[path] = self._increments.get(path, 0) + amount

    # -- messages

    def restored(self, records: list[Record], window: Ranges | None) -> None:
        """Go on from the messages that the agent was restored with.

        Args:
            records: The messages.
            window: The window that they are, where the document holds none.
        """
        self.records = records
        if window is not None:
            self.window.restored(window)

    def append(self, record: Record) -> None:
        """Queue a message, under the agent's next number."""
        record.message_id = self.next_id
        self.next_id += 1
        self.records.append(record)
        self._new.append(record)

    def change(
        self,
        record: Record,
        fields: Document,
        removed: Iterable[str] = (),
        payloads: Mapping[str, bytes] | None = None,
    ) -> None:
        """Change fields of a message: in the copy that is still to be sent, and in the document where it may be."""
        change: ChangeMessage | None = None
        if record.state in (RecordState.FROZEN, RecordState.STORED):
            change = self._changes.setdefault(record, ChangeMessage(self.key, record))
        record.change(change, dict(fields), set(removed), payloads or {})

    def see_window(self, held: Sequence[Record], head: int) -> None:
        """Note which messages the agent holds now: what it held and holds no more is taken out of the window."""
        if self._has_lost:
            head = sum(record.state is not RecordState.GONE for record in held[:head])
            self._forget({*held, *(record for record in self.records if record.state is not RecordState.GONE)})
            held = [record for record in held if record.state is not RecordState.GONE]
        if len(held) != len(self.records) or self.window.out or not all(map(is_, held, self.records)):
            self.window.see_others(self.records, held)
            self._forget({*held, *(record for record in self.records if record.state is RecordState.GONE)})
        self.window.see_order(held, head, self.next_id)

    def _forget(self, present: set[Record]) -> None:
        """Forget records that are stored and that the agent no longer holds; the latest may yet be redacted.

        So may every record of an object that it holds: a prompt that is passed again is one object in several records.
        """
        present.update(self.records[-1:])
        held = {id(record.message) for record in present}
        self.records = [
            record
            for record in self.records
            if record in present or id(record.message) in held or record.state in _ON_THEIR_WAY
        ]
        self.window.forget(self.records)

    # -- writing

    def go_behind(self, stored: StoredAgent, parts: Sequence[AppendMessages]) -> None:
        """Number what is not stored yet behind what others stored, unless another agent has the id by now."""
        for part in parts:
            part.archive_id = self.archive_id
        if self.archive_id == _archive_id(stored):
            self.move_to(stored.next_message_id, parts)

    def yield_state(self, stored: StoredAgent) -> None:
        """Drop what is pending of the state and the window, of which others stored newer ones; messages stay."""
        if not self.exists:
            self.archive_id = _archive_id(stored)
        self.exists, self._fields, self._payloads = True, {}, {}
        self.window.yields()

    def inherit(self) -> None:
        """Take what is frozen for stored: another process stores it, and may have done so."""
        self.next_id = self.expected
        for record in self.records:
            record.state, record.document = RecordState.STORED, None

    def freeze(self) -> tuple[list[ChangeMessage], AppendMessages]:
        """Hand over what is pending."""
        changed, self._changes = list(self._changes.values()), {}
        for change in changed:
            change.archive_id = self.archive_id
        changes = AppendMessages(
            self.agent_id,
            self.key,
            create=not self.exists,
            expected=self.expected,
            messages=self._new,
            fields=self._fields,
            increments=self._increments,
            window=self.window.freeze(),
            archive_id=self.archive_id,
        )
        for path in self._fields.keys() & self._payloads.keys():
            payloads = self._payloads.pop(path)
            changes.payloads |= payloads
            changes.referred_before |= self._references.get(path, set()) - payloads.keys()
            self._references[path] = set(payloads)
        for record in self._new:
            record.state = RecordState.FROZEN
        self._new, self._fields, self._increments = [], {}, {}
        return changed, changes

    def acknowledge(self, changes: AppendMessages) -> None:
        """Note that changes are stored."""
        self.exists = True
        self.expected = changes.next_message_id
        for record in changes.messages:
            assert isinstance(record, Record)
            record.state, record.payloads, record.named_in = RecordState.STORED, {}, []
            if record.origin is not Origin.BY_HAND:
                record.document = None
        if changes.window is not None:
            self.window.acknowledge(changes.window, changes.next_message_id)

    def yield_creation(self, changes: AppendMessages, archive_id: str | None) -> None:
        """Append to an agent that another writer created first, whose state stands until this one changes its own."""
        self.exists, changes.create = True, False
        self.archive_id = changes.archive_id = archive_id
        for path, initial in self._initial.items():
            if path in changes.fields and fingerprint(changes.fields[path]) == initial:
                del changes.fields[path]

    def lose_stored(self, archive_id: str | None, changes: AppendMessages) -> None:
        """Go on without what was stored of the agent: it was deleted, and another of its id may be there.

        What was deleted stays so. The live agent still holds it, which is no reason to store it again.

        Args:
            archive_id: What tells the agent that is there now; None where `changes` create it.
            changes: What is to be stored next.
        """
        self._has_lost = True
        for record in [*self.records, *self._changes, *self.window.known]:
            if record.state is RecordState.STORED:
                record.state = RecordState.GONE
        self._changes = {record: change for record, change in self._changes.items() if record.state in _ON_THEIR_WAY}
        window = self.window.lose_stored()
        if archive_id is None:
            # A new one has nothing yet of what the live one has: the next capture brings all of it.
            self.wants_all, self._seen = True, {}
        self.archive_id = changes.archive_id = archive_id or new_archive()["id"]
        changes.window = window if changes.window is not None or archive_id is None else None

    def move_to(self, expected: int, parts: Sequence[AppendMessages]) -> None:
        """Renumber what is not stored yet, frozen parts first: another writer took the numbers before `expected`."""
        self.expected = number = expected
        for part in parts:
            part.expected = number
            number = _renumber(part.messages, number)
        self.next_id = _renumber(self._new, number)


_ON_THEIR_WAY = (RecordState.PENDING, RecordState.FROZEN)


def _archive_id(stored: StoredAgent | None) -> str | None:
    if stored is None:
        return new_archive()["id"]
    archive = None if stored.legacy else stored.raw.get(paths.ARCHIVE)
    found = archive.get("id") if isinstance(archive, Mapping) else None
    return found if isinstance(found, str) else None


def _renumber(messages: Sequence[NewMessage], number: int) -> int:
    for message in messages:
        assert isinstance(message, Record)
        message.renumber(number)
        number += 1
    return number


def fingerprint(encoded: Any) -> bytes:
    """Return what tells an encoded value from others."""
    return bson.encode({"v": encoded})
