"""What happens in a turn, as a bounded log that any number of readers follow, each from where it stopped."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from ..web import ServerSentEvent

Kind = Literal["token", "tool_call", "tool_result", "metrics", "error", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        number: Counts from 1 within its log.
        kind: What it is.
        data: JSON-compatible details.
    """

    number: int
    kind: Kind
    data: dict[str, Any]


class EventLog:
    """Events of one turn. Lives on one event loop.

    What is kept is bounded: when a turn says more than `most_chars`, its oldest events are dropped, and a reader who
    was that far behind goes on with the oldest that is left. Nothing is lost by that: the reply is stored as a whole.
    """

    def __init__(self, most_chars: int = 500_000) -> None:
        """Begin empty; no event loop is needed yet."""
        self._most_chars = most_chars
        self._events: deque[tuple[Event, int]] = deque()
        self._chars = 0
        self._last = 0
        self._changed = asyncio.Event()
        self.closed = False

    def add(self, kind: Kind, /, **data: Any) -> None:
        """Append an event and wake the readers."""
        self._last += 1
        # What a Python object costs beside its text counts, too: a reply comes in many small pieces.
        size = 100 + len(json.dumps(data))
        self._events.append((Event(self._last, kind, data), size))
        self._chars += size
        while self._chars > self._most_chars and len(self._events) > 1:
            self._chars -= self._events.popleft()[1]
        self._wake()

    def close(self) -> None:
        """End the log: readers stop after its last event."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after a number, as they come, until the log is closed.

        Tokens that a reader has not received yet come as one event.

        Args:
            after: Number of the last event that the reader has.
        """
        while True:
            changed = self._changed
            for event in self._since(after):
                after = event.number
                yield event
            if self._last > after:
                continue
            if self.closed:
                return
            await changed.wait()

    def _since(self, number: int) -> list[Event]:
        found: list[Event] = []
        for event, _ in self._events:
            if event.number <= number:
                continue
            if found and event.kind == "token" and found[-1].kind == "token":
                found[-1] = Event(event.number, "token", {"text": found[-1].data["text"] + event.data["text"]})
            else:
                found.append(event)
        return found


def as_sse(turn_id: str, event: Event) -> ServerSentEvent:
    """Return an event as it is sent.

    Its id names the turn as well, so that a reader of an earlier turn is not taken for one who has seen this one.
    """
    return ServerSentEvent(event=event.kind, id=f"{turn_id}-{event.number}", data=event.data)


def position(turn_id: str, last_event_id: str | None) -> int:
    """Return the number of the last event that a reader has of a turn, 0 for none."""
    turn, _, number = (last_event_id or "").rpartition("-")
    return int(number) if turn == turn_id and number.isascii() and number.isdigit() and len(number) < 16 else 0
