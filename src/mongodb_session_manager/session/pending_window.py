"""Which messages of one agent its window holds, and how that differs from what is stored. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from ..schema.windows import EVERYTHING, Ranges
from ..store.updates import WindowChange
from .record import Origin, Record, RecordState


class PendingWindow:
    """The window of an agent: what is stored, what the agent held when it was last looked at, and the difference.

    Messages that the agent never held stay in: those of other writers, and those that were appended by hand.

    Attributes:
        is_dirty: Whether it is to be written.
        out: Messages that the agent held and holds no more, stored so or not.
        taken_out: Those of them that are in the stored window.
        put_back: Messages that it holds again, and that are not in the stored window.
    """

    def __init__(self, stored: Ranges | None = None, head: int = 0) -> None:
        """Start from the stored window, None where there is none, and its head."""
        self._stored = stored
        self._base: Ranges = stored or EVERYTHING
        self._head = head
        self._order: list[Record] | None = None
        self._held: list[Record] = []
        self.is_dirty = False
        self._is_missing = False  # from the document, and written with what is written next
        self.out: set[Record] = set()
        self.taken_out: dict[Record, None] = {}
        self.put_back: dict[Record, None] = {}

    @property
    def known(self) -> list[Record]:
        """All messages of which it keeps something."""
        return [*self.taken_out, *self.put_back, *self.out]

    def restored(self, window: Ranges) -> None:
        """Go on from the window that the agent was restored with, where the document holds none."""
        self._base, self._is_missing = window, True

    def see_others(self, known: Sequence[Record], held: Sequence[Record]) -> None:
        """Note which messages are out, and which are in again.

        Args:
            known: What the agent held or may have held.
            held: What it holds.
        """
        present = set(held)
        for record in known:
            can_leave = record.origin is not Origin.BY_HAND and record.state is not RecordState.GONE
            if can_leave and record not in present and record not in self.out:
                self.out.add(record)
                self.put_back.pop(record, None)
                self.taken_out[record] = None
                self.is_dirty = True
        for record in held:
            if record in self.out:
                self.out.discard(record)
                self.taken_out.pop(record, None)
                self.put_back[record] = None
                self.is_dirty = True

    def see_order(self, held: Sequence[Record], head: int, next_id: int) -> None:
        """Note in which order the agent holds its messages, and how many stand before what was put in."""
        self._held = list(held)
        order = None if _rises(held) and _is_sorted(self._base) else list(held)
        if head != self._head or (order != self._order and self._is_another(order, next_id)):
            self.is_dirty = True
        self._head, self._order = head, order

    def _is_another(self, order: list[Record] | None, next_id: int) -> bool:
        """Tell whether the window is another one than the stored one with its messages in this order."""
        return self._change(self._base, order, 0).ranges(next_id) != [list(part) for part in self._base]

    def forget(self, known: Collection[Record]) -> None:
        """Keep only what is known of these messages."""
        self.out.intersection_update(known)

    def yields(self) -> None:
        """Drop what is pending: another writer stored a newer one."""
        self.is_dirty = self._is_missing = False

    def freeze(self) -> WindowChange | None:
        """Hand over what changed, or all where the document holds none; None for nothing."""
        if not (self.is_dirty or self._is_missing):
            return None
        self.is_dirty = self._is_missing = False
        return self._change(self._base, self._order, self._head)

    def _change(self, base: Ranges, order: list[Record] | None, head: int) -> WindowChange:
        return WindowChange(self._stored, base, list(self.taken_out), list(self.put_back), order, head, self._held)

    def acknowledge(self, change: WindowChange, next_message_id: int) -> None:
        """Note that a change is stored."""
        self._base = self._stored = change.ranges(next_message_id)
        for kept, written in ((self.taken_out, change.taken_out), (self.put_back, change.put_back)):
            for record in written:
                kept.pop(record, None)  # type: ignore[call-overload]

    def lose_stored(self) -> WindowChange:
        """Go on without what was stored, which is gone; return the change that writes what is left."""
        for kept in (self.taken_out, self.put_back):
            for record in [record for record in kept if record.state is RecordState.GONE]:
                del kept[record]
        self.out = {record for record in self.out if record.state is not RecordState.GONE}
        self._base, self._stored, self._order = EVERYTHING, None, None
        return self._change(EVERYTHING, None, 0)


def _rises(records: Sequence[Record]) -> bool:
    return all(one.message_id < other.message_id for one, other in pairwise(records))


def _is_sorted(window: Ranges) -> bool:
    firsts = [first or 0 for first, _ in window]
    return all(one < other for one, other in pairwise(firsts))
