"""The client of a session manager, repository or factory: its own, or one it was lent."""

from __future__ import annotations

import os
import weakref
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, cast

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import InvalidOperation

from ..errors import WrongLoopError
from ..green_threads import check_threads
from .any_loop import AnyLoopMotorClient
from .collection import Collection
from .drivers import CODEC_OPTIONS, MOCK_CODEC_OPTIONS, Driver, OnLoop
from .shared import Lease
from .statistics import PoolStatistics, server_name
from .workers import Workers

CONNECTION_STRING_VARIABLE = "MONGODB_CONNECTION_STRING"


class ClientHandle:
    """A MongoDB client of whatever kind, with what the engine needs of it.

    Made from a connection string, it has a lease on the process's client for these arguments and gives it back with
    `aclose`. Made from a client, it borrows that and never closes it. Making one does no I/O.

    | client                                            | event loops | `user_collection`        | sync collection |
    |---------------------------------------------------|-------------|--------------------------|-----------------|
    | connection string, `AsyncIOMotorClient`,          | any, in any | `AsyncIOMotorCollection` | yes             |
    | `MongoClient`                                     | thread      | for any loop             |                 |
    | `AsyncMongoClient`                                | its own     | `AsyncCollection`        | no              |
    | `AsyncMongoMockClient` (mongomock-motor)          | any         | the mock's               | no              |
    """

    def __init__(
        self,
        connection_string: str | None = None,
        *,
        client: object | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a lease, or borrow `client`.

        Args:
            connection_string: MongoDB URI. None takes `MONGODB_CONNECTION_STRING` from the environment. A given
                client comes first.
            client: An `AsyncIOMotorClient`, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            options: The driver's client options, for a connection string only.

        Raises:
            ValueError: Neither a client nor a connection string, or options for a client that exists already.
            TypeError: Another kind of client.
            RuntimeError: gevent or eventlet has replaced this process's threads.
            pymongo.errors.ConfigurationError: The driver refuses an option or the connection string.
        """
        check_threads()
        self._lease: Lease | None = None
        self._closed = False
        self._server_version: str | None = None
        if client is None:
            self._lease = Lease(_connection_string(connection_string), options or {})
            return
        if options:
            raise ValueError(
                f"invalid client options: {sorted(options)} have no effect on a client that exists already; "
                "set them where that client is made, or give a connection string instead of the client"
            )
        self._borrowed = _borrow(client)

    @property
    def borrowed(self) -> bool:
        """Whether the client is the caller's, who closes it."""
        return self._lease is None

    @property
    def any_loop(self) -> bool:
        """Whether it can be used from every event loop and thread."""
        return not isinstance(self.client, AsyncMongoClient)

    @property
    def on_portal(self) -> bool:
        """Whether work for it can be left to the library's own loop."""
        return isinstance(self.client, AnyLoopMotorClient)

    @property
    def client(self) -> Any:
        """The async client: Motor's for a connection string, `AsyncIOMotorClient` and `MongoClient`."""
        return self._borrowed if self._lease is None else self._lease.motor

    @property
    def reached(self) -> bool:
        """Whether the client's server has answered before, to any user of it in this process."""
        return _known(self.driver_client()).was_reached

    def note_reached(self) -> None:
        """Note that the server answered."""
        _known(self.driver_client()).was_reached = True

    @property
    def generation(self) -> int:
        """Rises when the client was made anew, in a forked child."""
        return 0 if self._lease is None else self._lease.generation

    @property
    def identity(self) -> Hashable:
        """What is equal for handles of the same client."""
        return _known(self.driver_client()) if self._lease is None else self._lease.identity

    @property
    def statistics(self) -> PoolStatistics | None:
        """Live numbers of the pool; None for a borrowed client, whose events are its owner's."""
        return None if self._lease is None else self._lease.statistics

    @property
    def queued(self) -> int:
        """Operations that wait for a worker thread because every connection is in use."""
        client = self.client
        return client.workers.queued if isinstance(client, AnyLoopMotorClient) else 0

    @property
    def acknowledges_writes(self) -> bool:
        """False when the client's write concern is `w=0`: the outcome of a write is unknown."""
        client = self.driver_client()
        return _is_mock(client) or bool(client.write_concern.acknowledged)

    def collection(self, database: str, name: str, *, deadline_s: float | None = None) -> Collection:
        """Return a collection for the engine, whose commands are sent again for `deadline_s` seconds."""
        return Collection(self, database, name, deadline_s)

    def engine_driver(self, database: str, name: str) -> Driver:
        """Return the driver's collection with the engine's options, and where its commands run."""
        client = self.client
        if isinstance(client, AnyLoopMotorClient):
            return client.engine_driver(database, name)
        return OnLoop(client[database], name, MOCK_CODEC_OPTIONS if _is_mock(client) else CODEC_OPTIONS)

    def user_collection(self, database: str, name: str) -> Any:
        """Return the async driver's own collection, with the client's own settings."""
        self.check_usable()
        return self.client[database][name]

    def sync_user_collection(self, database: str, name: str) -> Any:
        """Return pymongo's synchronous collection, on the same pool.

        Raises:
            TypeError: The client has no synchronous side.
        """
        return self.sync_client()[database][name]

    def sync_client(self) -> MongoClient[Any]:
        """Return pymongo's synchronous client, with the same pool.

        Raises:
            TypeError: The client has no synchronous side.
        """
        self.check_usable()
        if not isinstance(self.client, AnyLoopMotorClient):
            raise TypeError(
                f"invalid client: {_type_name(self.client)} has no synchronous collection; give a connection string, a "
                "MongoClient or an AsyncIOMotorClient, or use the async session manager's collection"
            )
        delegate: MongoClient[Any] = self.client.delegate
        return delegate

    async def server_version(self) -> str:
        """Return the server's version. A server that the driver's heartbeat knows to be up is asked only once.

        Raises:
            PyMongoError: The server does not answer.
            WrongLoopError: An `AsyncMongoClient` on another event loop than its own.
        """
        self.check_usable()
        if self._server_version is not None and self.writable_servers():
            return self._server_version
        try:
            info = await self.client.server_info()
        except RuntimeError as error:
            if self.is_wrong_loop(error):
                raise WrongLoopError() from error
            raise
        self._server_version = str(info["version"])
        return self._server_version

    def writable_servers(self) -> list[str]:
        """Return the servers, as `host:port`, that the driver knows to be up and to accept writes. Sends nothing."""
        client = self.driver_client()
        if _is_mock(client):
            return []
        servers = client.topology_description.server_descriptions().items()
        return [server_name(address) for address, server in servers if server.is_writable]

    def pool_config(self) -> dict[str, Any]:
        """Return the settings of the pool that are in force, times in milliseconds; None is no limit."""
        client = self.driver_client()
        if _is_mock(client):
            return {}
        options = client.options
        pool = options.pool_options
        return {
            "maxPoolSize": pool.max_pool_size or None,
            "minPoolSize": pool.min_pool_size,
            "maxIdleTimeMS": _milliseconds(pool.max_idle_time_seconds),
            "waitQueueTimeoutMS": _milliseconds(pool.wait_queue_timeout),
            "serverSelectionTimeoutMS": _milliseconds(options.server_selection_timeout),
            "connectTimeoutMS": _milliseconds(pool.connect_timeout),
            "retryWrites": options.retry_writes,
            "retryReads": options.retry_reads,
        }

    def is_wrong_loop(self, error: RuntimeError) -> bool:
        """Tell the driver's complaint about another event loop from other errors; it has no type of its own."""
        return not self.any_loop and "event loop" in str(error)

    def share(self) -> ClientHandle:
        """Return another handle of the same client, with a lease of its own."""
        self.check_usable()
        check_threads()
        other = ClientHandle.__new__(ClientHandle)
        other._closed = False
        other._server_version = self._server_version
        other._lease = None if self._lease is None else self._lease.share()
        if self._lease is None:
            other._borrowed = self._borrowed
        return other

    def check_usable(self) -> None:
        """Raise `InvalidOperation` when the handle is closed."""
        if self._closed:
            raise InvalidOperation(
                "the client is closed, because the factory, pool or repository that it belongs to was closed"
            )

    async def aclose(self) -> None:
        """Give the lease back; a borrowed client stays open. Repeating it does nothing."""
        self._closed = True
        if self._lease is not None:
            await self._lease.release()

    def driver_client(self) -> Any:
        """Return the driver's client, the same for every handle that shares it."""
        client = self.client
        return client.delegate if isinstance(client, AnyLoopMotorClient) else client

    def __repr__(self) -> str:
        """Name the kind of client, never its address."""
        kind = "borrowed" if self.borrowed else "leased"
        return f"<ClientHandle {kind} {_type_name(self.client)}{' closed' if self._closed else ''}>"


def _connection_string(given: str | None) -> str:
    if given is not None and not isinstance(given, str):
        raise TypeError(f"invalid connection_string: it must be a string, not {_type_name(given)}")
    found = given or os.environ.get(CONNECTION_STRING_VARIABLE)
    if not found:
        raise ValueError(
            "no MongoDB to connect to: give connection_string='mongodb://...', or client=<a MongoDB client you "
            f"have>, or set {CONNECTION_STRING_VARIABLE} in the environment"
        )
    return found


def _borrow(client: object) -> Any:
    """Return the client in the form the engine uses it in."""
    # The mock passes for a Motor client in isinstance(), so it is looked at first.
    if _is_mock(client) or isinstance(client, AsyncMongoClient | AnyLoopMotorClient):
        return client
    if isinstance(client, AsyncIOMotorClient):
        client = client.delegate
    if isinstance(client, MongoClient):
        return AnyLoopMotorClient(client, _workers_of(client))
    raise TypeError(
        "invalid client: it must be an AsyncIOMotorClient, a pymongo MongoClient or AsyncMongoClient, "
        f"or an AsyncMongoMockClient, not {_type_name(client)}"
    )


def _is_mock(client: object) -> bool:
    return _is_kind_of_mock(cast("Hashable", type(client)))


@cache  # Every session asks for it.
def _is_kind_of_mock(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "mongomock_motor" for base in kind.__mro__)


def _type_name(value: object) -> str:
    kind = next((base for base in type(value).__mro__ if base.__module__.startswith("mongomock_motor")), type(value))
    return kind.__name__


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


class _Known:
    """What this process knows of a driver's client; the object itself tells that one from others."""

    was_reached = False


# Kept by the id of a client while it lives: drivers call two clients of one address equal, and these must not mix them.
_borrowed_workers: dict[int, Workers] = {}
_known_clients: dict[int, _Known] = {}


def _workers_of(client: MongoClient[Any]) -> Workers:
    """Return the worker threads of a borrowed client, the same for all who borrow it."""
    workers = _borrowed_workers.get(id(client))
    if workers is None:
        workers = _borrowed_workers.setdefault(id(client), Workers(client))
        weakref.finalize(client, _forget_workers, id(client)).atexit = False
    return workers


def _forget_workers(client_id: int) -> None:
    workers = _borrowed_workers.pop(client_id, None)
    if workers is not None:
        workers.shutdown()


def _known(client: object) -> _Known:
    known = _known_clients.get(id(client))
    if known is None:
        known = _known_clients.setdefault(id(client), _Known())
        weakref.finalize(client, _known_clients.pop, id(client), None).atexit = False
    return known
