"""Live numbers of a connection pool, counted from the driver's events."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from pymongo import monitoring

SAMPLE_SIZE = 512
"""Latest checkouts per server that the percentiles are taken from."""


def server_name(address: tuple[str, int | None]) -> str:
    """Return an address as `host:port`; a Unix socket has no port."""
    host, port = address
    return host if port is None else f"{host}:{port}"


class _Server:
    """Counters of one server's pool."""

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.ready: set[int] = set()
        self.in_use = 0
        self.waiting = 0
        self.created = 0
        self.closed = 0
        self.checkouts = 0
        self.checkout_failures = 0
        self.checkout_total_s = 0.0
        self.checkout_max_s = 0.0
        self.latest_s: deque[float] = deque(maxlen=SAMPLE_SIZE)

    def snapshot(self) -> dict[str, Any]:
        return {
            "open": len(self.connections),
            "in_use": self.in_use,
            "idle": max(0, len(self.ready) - self.in_use),
            "waiting": self.waiting,
            "created": self.created,
            "closed": self.closed,
            "checkouts": self.checkouts,
            "checkout_failures": self.checkout_failures,
            "checkout_ms": self._checkout_ms(),
        }

    def _checkout_ms(self) -> dict[str, float | None]:
        if not self.latest_s:
            return {"mean": None, "max": None, "p50": None, "p99": None}
        ordered = sorted(self.latest_s)
        return {
            "mean": round(1000 * self.checkout_total_s / self.checkouts, 3),
            "max": round(1000 * self.checkout_max_s, 3),
            "p50": round(1000 * ordered[len(ordered) // 2], 3),
            "p99": round(1000 * ordered[len(ordered) * 99 // 100], 3),
        }


class PoolStatistics(monitoring.ConnectionPoolListener):
    """Counts a client's connections and checkouts, per server.

    The driver calls it from whatever thread uses the pool. One lock makes a snapshot consistent.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._checkout_began = threading.local()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the numbers of every server by `host:port`; times in milliseconds, None before the first checkout.

        `waiting` are operations in the driver's queue for a connection, `checkout_ms` the time they spent there;
        median and 99th percentile are of the latest checkouts.
        """
        with self._lock:
            return {address: server.snapshot() for address, server in self._servers.items()}

    def _server(self, event: Any) -> _Server:
        return self._servers.setdefault(server_name(event.address), _Server())

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """Know the server from now on."""
        with self._lock:
            self._server(event)

    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """Count nothing: the connections say it themselves."""

    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """Count nothing: each connection is closed with an event of its own."""

    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """Count nothing: each connection is closed with an event of its own."""

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        """Count a connection that is being opened."""
        with self._lock:
            server = self._server(event)
            server.created += 1
            server.connections.add(event.connection_id)

    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """Count a connection that can be used."""
        with self._lock:
            self._server(event).ready.add(event.connection_id)

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        """Count a connection out."""
        with self._lock:
            server = self._server(event)
            server.closed += 1
            server.connections.discard(event.connection_id)
            server.ready.discard(event.connection_id)

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:
        """Count an operation that waits for a connection."""
        # One thread checks out one connection at a time, and all three events come from that thread.
        self._checkout_began.at = time.perf_counter()
        with self._lock:
            self._server(event).waiting += 1

    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        """Count an operation that got no connection."""
        with self._lock:
            server = self._server(event)
            server.waiting -= 1
            server.checkout_failures += 1

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        """Count a connection in use, and how long it took to get it."""
        took_s = time.perf_counter() - self._checkout_began.at
        with self._lock:
            server = self._server(event)
            server.waiting -= 1
            server.in_use += 1
            server.checkouts += 1
            server.checkout_total_s += took_s
            server.checkout_max_s = max(server.checkout_max_s, took_s)
            server.latest_s.append(took_s)

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:
        """Count a connection that came back."""
        with self._lock:
            self._server(event).in_use -= 1
