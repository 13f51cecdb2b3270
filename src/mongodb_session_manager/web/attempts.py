"""Failed password attempts, limited per client and per target."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

_MOST_CLIENTS = 10_000
_REMEMBERED_S = 24 * 3600.0
_LONGEST_NAME = 64


class AttemptLimiter:
    """Counts failed attempts in a sliding window; for one event loop.

    A client is an address, of IPv6 the /64 network, of which one machine may use every address. When more clients are
    remembered than a bound, those that failed longest ago are forgotten.
    """

    def __init__(
        self, limit: int = 10, window_s: float = 300.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without any failure.

        Args:
            limit: Failures within the window after which a client has to wait.
            window_s: Seconds that a failure counts.
            clock: Seconds that only ever rise.
        """
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, client: str) -> int:
        """Return how many seconds a client has to wait before its next attempt; 0 when it may try."""
        failures = self._failures.get(_remembered(client))
        if failures is None:
            return 0
        self._forget(failures)
        if len(failures) < self._limit:
            return 0
        return max(1, math.ceil(failures[0] + self._window_s - self._clock()))

    def failed(self, client: str) -> None:
        """Count a failed attempt."""
        network = _remembered(client)
        failures = self._failures.setdefault(network, deque(maxlen=self._limit))
        self._failures.move_to_end(network)
        failures.append(self._clock())
        if len(self._failures) > _MOST_CLIENTS:
            self._failures.popitem(last=False)

    def _forget(self, failures: deque[float]) -> None:
        while failures and failures[0] <= self._clock() - self._window_s:
            failures.popleft()


class TargetLimiter:
    """Counts failed attempts at each target, by whatever clients; for one event loop.

    Clients that gave the right password within the last day are not held up by what others guess.
    """

    def __init__(
        self, limit: int = 100, window_s: float = 300.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without any failure.

        Args:
            limit: Failures within the window after which clients have to wait, known ones excepted.
            window_s: Seconds that a failure counts.
            clock: Seconds that only ever rise.
        """
        self._clock = clock
        self._attempts = AttemptLimiter(limit, window_s, clock=clock)
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    def wait_s(self, target: str, client: str) -> int:
        """Return how many seconds a client has to wait before its next attempt at a target; 0 when it may try."""
        if self._known.get((_remembered(target), _remembered(client)), 0.0) > self._clock():
            return 0
        return self._attempts.wait_s(target)

    def failed(self, target: str) -> None:
        """Count a failed attempt."""
        self._attempts.failed(target)

    def succeeded(self, target: str, client: str) -> None:
        """Remember that a client knows the password."""
        key = (_remembered(target), _remembered(client))
        self._known[key] = self._clock() + _REMEMBERED_S
        self._known.move_to_end(key)
        if len(self._known) > _MOST_CLIENTS:
            self._known.popitem(last=False)


def _remembered(name: str) -> str:
    """Return what stands for a client or a target, of few bytes: both may have been chosen by somebody else."""
    network = _network(name)
    return network if len(network) <= _LONGEST_NAME else hashlib.sha256(network.encode("utf-8", "replace")).hexdigest()


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
