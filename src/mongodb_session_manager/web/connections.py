"""Connections of clients that are slow, idle or too many: they end, so that others are served."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 1_000
"""Connections that are open at the same time."""

HEAD_S = 10.0
"""Seconds that a client has to send the head of a request."""

STALLED_S = 60.0
"""Seconds that a client may leave the answer unread."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with time limits for clients, and a limit of connections.

    uvicorn ends connections that idle between two requests. This also ends those on which a request's head does not
    arrive, or whose client does not read its answer. When too many are open it ends the one that waited longest for a
    head, and when all are answered, as event streams and long files are, the oldest of the address with the most of
    them: a client with one password must not keep all others out. Bodies have a time limit of their own, `BodyLimit`.
    """

    most_connections = MOST_CONNECTIONS
    head_s = HEAD_S
    stalled_s = STALLED_S

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun_at = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None

    @property
    def awaits_head_until(self) -> float | None:
        """When its client has to have sent a head, on the loop's clock; None while a request is served."""
        return None if self._head_timer is None else self._head_timer.when()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._begun_at = self.loop.time()
        self._await_head()
        if len(self.connections) > self.most_connections:
            others = [other for other in self.connections if isinstance(other, PatientProtocol) and other is not self]
            self._least_missed(others)._end()

    def _least_missed(self, others: list[PatientProtocol]) -> PatientProtocol:
        """Return the connection that has to end for this one."""
        waiting = [(until, id(other), other) for other in others if (until := other.awaits_head_until) is not None]
        if waiting:
            return min(waiting)[2]
        if not others:
            return self
        addresses = Counter(other._address for other in others)
        most, _ = addresses.most_common(1)[0]
        return min((other for other in others if other._address == most), key=lambda other: other._begun_at)

    @property
    def _address(self) -> str | None:
        return None if self.client is None else self.client[0]

    def data_received(self, data: bytes) -> None:
        """Take what the client sent; a whole head ends the wait for it."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_head()

    def on_response_complete(self) -> None:
        """Wait for the next request; the rest of a body that was not read counts as waiting, too."""
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting."""
        self._cancel_head()
        self._cancel_stalled()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered: it has `STALLED_S` to go on."""
        super().pause_writing()
        if self._stalled_timer is None:
            self._stalled_timer = self.loop.call_later(self.stalled_s, self._end)

    def resume_writing(self) -> None:
        """The client has read again."""
        self._cancel_stalled()
        super().resume_writing()

    def _await_head(self) -> None:
        self._cancel_head()
        self._head_timer = self.loop.call_later(self.head_s, self._end)

    def _end(self) -> None:
        self._cancel_head()
        # Not closed in order: that would wait for the client to read.
        self.transport.abort()

    def _cancel_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_stalled(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
