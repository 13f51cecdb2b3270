"""Which record belongs to which of the messages that an agent holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import is_

from strands.types.content import Message

from ..schema.messages import say_the_same
from .record import Origin, Record

Pairs = Sequence[tuple[Record | None, Message]]


def pair(records: Sequence[Record], messages: Sequence[Message]) -> Pairs:
    """Return the messages, each with its record; None for those that are not stored with the others."""
    latest = records[-len(messages) :] if messages else []
    if len(latest) == len(messages) and all(map(is_, [record.message for record in latest], messages)):
        return list(zip(latest, messages, strict=True))  # nearly always
    by_object: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_object[id(record.message)].append(record)
    copied: _Copied | None = None
    pairs: list[tuple[Record | None, Message]] = []
    # From the end: where one object was added more than once, it is the older ones that windows drop.
    for message in reversed(messages):
        if held := by_object.get(id(message)):
            pairs.append((held.pop(), message))
        else:
            copied = copied or _Copied(records, messages)
            pairs.append((copied.take(message), message))
    pairs.reverse()
    return pairs


class _Copied:
    """The records whose messages are held as copies, if at all: those of a snapshot, of another program's history."""

    def __init__(self, records: Sequence[Record], messages: Sequence[Message]) -> None:
        present = {id(message) for message in messages}
        self._records = [record for record in records if id(record.message) not in present]
        self._by_tracking_id: dict[str, list[Record]] = defaultdict(list)
        for record in self._records:
            if record.tracking_id:
                self._by_tracking_id[record.tracking_id].append(record)
        self._taken: set[Record] = set()

    def take(self, message: Message) -> Record | None:
        """Return the last record that a message may be a copy of; each is returned once.

        Ids tell copies, in order, since equal prompts may share one; where they were lost, what was said does.
        """
        tracking_id = message.get("tracking_id")
        candidates = self._by_tracking_id.get(tracking_id, []) if tracking_id else self._records
        for place in range(len(candidates) - 1, -1, -1):
            record = candidates[place]
            if record not in self._taken and (tracking_id or _says_the_same(record, message)):
                self._taken.add(record)
                return candidates.pop(place)
        return None


def _says_the_same(record: Record, message: Message) -> bool:
    if record.origin is Origin.BY_HAND:
        return False  # which the agent never held
    return say_the_same(record.message, message)
