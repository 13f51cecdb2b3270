"""Clients made from connection strings: one per process for equal arguments, leased, closed with the last lease."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Hashable, Mapping
from typing import Any

import motor
from pymongo import MongoClient
from pymongo.driver_info import DriverInfo

from .any_loop import AnyLoopMotorClient
from .background_errors import shorten_background_errors
from .options import comparable, safe_error, with_defaults
from .statistics import PoolStatistics
from .workers import Workers

MOTOR_VERSION: str = motor.version  # type: ignore[attr-defined]


class SharedClient:
    """One client of this process, and how many leases it has.

    A forked child keeps the leases it inherited, but the client is made anew there: sockets cannot be shared.
    """

    def __init__(self, key: Hashable, connection_string: str, options: Mapping[str, Any]) -> None:
        """Make the client; it connects with its first operation."""
        self.key = key
        self.leases = 0
        self.connection_string = connection_string
        self.options = dict(options)
        self._inherited: AnyLoopMotorClient | None = None
        self._lock = threading.Lock()
        self.motor, self.statistics = self._make()
        self.generation = 0

    def _make(self) -> tuple[AnyLoopMotorClient, PoolStatistics]:
        statistics = PoolStatistics()
        failure: Exception
        try:
            options = with_defaults(self.connection_string, self.options)
            options.setdefault("driver", DriverInfo("Motor", MOTOR_VERSION, "asyncio"))
            listeners = next((name for name in options if name.lower() == "event_listeners"), "event_listeners")
            options[listeners] = [*options.get(listeners, ()), statistics]
            shorten_background_errors()
            delegate: MongoClient[Any] = MongoClient(self.connection_string, **options)
            return AnyLoopMotorClient(delegate, Workers(delegate)), statistics
        except Exception as error:
            failure = safe_error(error, self.connection_string, self.options)
        # Raised here, so that a message which quotes the password is not even in the error's context.
        raise failure

    def after_fork(self) -> None:
        """Forget the parent's client, in the child."""
        self._lock = threading.Lock()
        if self._inherited is None:
            self._inherited = self.motor
        self.generation += 1

    def current(self) -> AnyLoopMotorClient:
        """Return this process's client."""
        if self._inherited is not None:
            with self._lock:
                inherited = self._inherited
                if inherited is not None:
                    self.motor, self.statistics = self._make()
                    # Last: a thread that sees None here takes the new client without the lock.
                    self._inherited = None
                    # The driver gave its copy in the child new and unopened internals, so this touches no socket of
                    # the parent's, and spares the user a warning about an unclosed client.
                    inherited.delegate.close()
        return self.motor


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: dict[Hashable, SharedClient] = {}

    def acquire(self, connection_string: str, options: Mapping[str, Any]) -> SharedClient:
        key = (connection_string, comparable({name.lower(): value for name, value in options.items()}))
        with self.lock:
            shared = self.clients.get(key)
            if shared is None:
                shared = self.clients[key] = SharedClient(key, connection_string, options)
            shared.leases += 1
            return shared

    def acquire_again(self, shared: SharedClient) -> SharedClient:
        """Take one more lease of a client, or of another like it when its last one was given back."""
        with self.lock:
            if self.clients.get(shared.key) is shared:
                shared.leases += 1
                return shared
        return self.acquire(shared.connection_string, shared.options)

    def release(self, shared: SharedClient) -> bool:
        """Give one lease back; True when it was the last."""
        with self.lock:
            shared.leases -= 1
            if shared.leases:
                return False
            self.clients.pop(shared.key, None)
            return True

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        for shared in self.clients.values():
            shared.after_fork()


_registry = _Registry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.after_fork)


class Lease:
    """A share in the process's client for a connection string and options."""

    def __init__(self, connection_string: str, options: Mapping[str, Any]) -> None:
        """Take a share, making the client if there is none.

        Raises:
            pymongo.errors.ConfigurationError: The driver refuses the connection string or an option. Some of its
                refusals are plain `ValueError` or `TypeError`.
        """
        self._shared = _registry.acquire(connection_string, options)
        self._released = False

    @property
    def identity(self) -> Hashable:
        """What is equal for equal clients, also when they are closed and opened again."""
        return self._shared.key

    @property
    def generation(self) -> int:
        """Rises when the client was made anew after a fork."""
        return self._shared.generation

    @property
    def motor(self) -> AnyLoopMotorClient:
        """The client, as a Motor client."""
        return self._shared.current()

    @property
    def statistics(self) -> PoolStatistics:
        """The live numbers of its pool."""
        self._shared.current()
        return self._shared.statistics

    def share(self) -> Lease:
        """Take another share in the same client."""
        other = Lease.__new__(Lease)
        other._shared, other._released = _registry.acquire_again(self._shared), False
        return other

    async def release(self) -> None:
        """Give the share back; the last one closes the client. Repeating it does nothing."""
        if self._released:
            return
        self._released = True
        if _registry.release(self._shared):
            # Closing tells the server, and waits for that. It goes on when the caller is cancelled.
            await asyncio.shield(asyncio.to_thread(_close, self._shared.motor))


def _close(client: AnyLoopMotorClient) -> None:
    client.close()
    client.workers.shutdown()
