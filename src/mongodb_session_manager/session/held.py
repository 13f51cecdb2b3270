"""What a live agent holds of its messages: which of them is recorded, and what was taken out or rewritten."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from operator import is_

from strands.types.agent import LocalAgent
from strands.types.content import Message

from ..schema import paths, values
from ..schema.messages import encode_content
from .live_agent import restored_by_manager
from .pairing import Pairs, pair
from .pending_agent import PendingAgent
from .record import Record, inputs_of, objects_of, seen_objects_of


class HeldMessages:
    """The messages of one agent as they were when they were looked at last; what changed since is noted as pending."""

    def __init__(self, agent: LocalAgent, pending: PendingAgent, *, is_restored: bool) -> None:
        """Look at an agent for the first time.

        Args:
            agent: It was just restored from what is stored, or is a new one.
            pending: What is pending of it.
            is_restored: It is not a new one.
        """
        self._pending = pending
        self._seen_objects: list[object] | None = None
        self._seen_recorded = -1
        self._all_recorded = False
        # Answers whose tools run, and the inputs that were seen last: hooks change those in place.
        self._calls: list[tuple[Record, list[object]]] = []
        # What Strands put in to repair a restored history is no message that somebody said.
        self._put_in = [m for record, m in self.pairs(agent) if record is None] if is_restored else []

    def pairs(self, agent: LocalAgent) -> Pairs:
        """Return the messages that the agent holds, each with its record; None for one without."""
        return pair(self._pending.records, agent.messages)

    def without_record(self, agent: LocalAgent, before: Message | None) -> list[Message]:
        """Return messages that stand in the agent's history without a record and without an event to come.

        Interventions, context managers and loaded snapshots put messages there directly. What the conversation
        manager restores by itself, and what Strands put in to repair a restored history, is left out.

        Args:
            agent: The live agent.
            before: Only those that stand right before this message, which Strands just added.
        """
        if before is None:
            found = [message for record, message in self.pairs(agent) if record is None]
        else:
            found = self._right_before(agent, before)
            if found:
                recorded = {id(message) for record, message in self.pairs(agent) if record is not None}
                found = [message for message in found if id(message) not in recorded]
        if not found:
            return []
        restored = restored_by_manager(agent)
        return [m for m in found if not any(own is m for own in self._put_in) and m not in restored]

    def _right_before(self, agent: LocalAgent, message: Message) -> list[Message]:
        end = next(i for i in range(len(agent.messages) - 1, -1, -1) if agent.messages[i] is message)
        start = end
        while start and not self._is_recorded(agent.messages[start - 1]):
            start -= 1
        return agent.messages[start:end]

    def _is_recorded(self, message: Message) -> bool:
        tracking_id = message.get("tracking_id")
        return any(
            record.message is message or (tracking_id and record.tracking_id == tracking_id)
            for record in reversed(self._pending.records)
        )

    def note_calls(self, record: Record) -> None:
        """Note the inputs of the tools that an answer calls, which hooks may change before these run."""
        if inputs := inputs_of(record.message):
            self._calls.append((record, copy.deepcopy(inputs)))

    def are_as_seen(self, agent: LocalAgent) -> bool:
        """Tell whether all of them were recorded at the last look, and nothing changed since."""
        return self._all_recorded and self._window_is_as_seen(objects_of(agent.messages), agent)

    def capture(self, agent: LocalAgent) -> None:
        """Note what changed since the last look, in the inputs of calls, too."""
        self._capture_inputs()
        self.capture_window(agent)

    def capture_window(self, agent: LocalAgent) -> None:
        """Note what was added, taken out or rewritten since the last look."""
        objects = objects_of(agent.messages)
        if self._window_is_as_seen(objects, agent):
            return
        self._seen_objects, self._seen_recorded = objects, self._pending.next_id
        pairs = self.pairs(agent)
        held = [record for record, _ in pairs if record is not None]
        self._all_recorded = len(held) == len(pairs)
        if not self._all_recorded or not _are_the_same(seen_objects_of(held), objects):
            for record, message in pairs:
                if record is not None and not record.looks_as_seen(message):
                    self._capture_rewriting(record, message)
        self._pending.see_window(held, self._head(agent, pairs))

    def _window_is_as_seen(self, objects: list[object] | None, agent: LocalAgent) -> bool:
        """Tell whether nothing was added, taken out or rewritten, as nearly always when this is asked again."""
        forgets = len(self._pending.records) > len(agent.messages) + 1
        recorded = self._pending.next_id == self._seen_recorded
        return recorded and not forgets and _are_the_same(self._seen_objects, objects)

    def _head(self, agent: LocalAgent, pairs: Sequence[tuple[Record | None, Message]]) -> int:
        """Return how many stored messages stand before what the conversation manager put in, 0 without any."""
        count = 0
        for record, message in pairs:
            if record is not None:
                count += 1
            elif not any(message is own for own in self._put_in) or message in restored_by_manager(agent):
                return count
        return 0

    def _capture_inputs(self) -> None:
        """Note where the inputs of calls were changed, as hooks do before a tool runs."""
        noted, self._calls = self._calls, self._calls[-1:]  # Those of the last answer may still be under way.
        for record, inputs in noted:
            if not record.is_redacted and inputs_of(record.message) != inputs:
                inputs[:] = copy.deepcopy(inputs_of(record.message))
                self._rewrite(record, record.message)
                record.see()

    def _capture_rewriting(self, record: Record, message: Message) -> None:
        """Note where a message was rewritten, in place or in a copy; what was said stays beside it."""
        content_stays, custom_stays = record.content_looks_as_seen(message), record.custom_looks_as_seen(message)
        copied, before = record.message is not message, record.seen_content
        record.message = message
        record.see()
        if copied and record.is_redacted:
            return  # What was redacted must not come back out of a copy of it.
        if not content_stays and not (copied and message["content"] == before):
            self._rewrite(record, message)
        if not custom_stays:
            if "metadata" in message:
                self._pending.change(
                    record, {"metadata": values.encode(message["metadata"], where="metadata", foreign=True)}
                )
            else:
                self._pending.change(record, {}, removed=["metadata"])

    def _rewrite(self, record: Record, message: Message) -> None:
        encoded = encode_content(message["content"])
        if record.written_content(encoded):
            self._pending.change(record, {paths.WINDOW_CONTENT: encoded})


def _are_the_same(seen: list[object] | None, objects: list[object] | None) -> bool:
    return seen is not None and objects is not None and len(seen) == len(objects) and all(map(is_, seen, objects))
