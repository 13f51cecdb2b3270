"""The sessions of one collection, for the life of an application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from .. import hooks
from ..client import MongoDBClient
from ..extras import needs
from ..factory import AsyncMongoDBSessionManagerFactory, check_defaults
from ..schema.names import check_place
from ..schema.numbers import check_seconds
from ..session import AsyncMongoDBSessionManager
from ..store import AsyncMongoDBSessionRepository
from .answers import answers
from .streaming import ending_streams
from .turn import SessionTurn

with needs("fastapi"):
    from fastapi import Header
    from starlette.requests import Request
    from starlette.responses import Response

T = TypeVar("T")

MAX_KEY_LENGTH = 256
"""Characters of an idempotency key."""


class Sessions:
    """The sessions of one collection, for the handlers of an application.

    Holds a factory and a repository, with one connection pool, from the start of the application to its end. What a
    request gets is its own: a manager that is open before the handler runs and closed when the answer was sent.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        *,
        wait_s: float | None = 30,
        lease_s: float = 30,
        **options: Any,
    ) -> None:
        """Note how to connect; nothing is made before the application starts.

        Args:
            connection_string: MongoDB URI; also taken from `MONGODB_CONNECTION_STRING`.
            database_name: Database of the sessions.
            collection_name: Collection of the sessions.
            client: A client to borrow: Motor, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            wait_s: How long a request waits for the session's turn, in seconds; None for as long as it takes.
            lease_s: Seconds without a sign of life after which the turn of another process is taken over.
            **options: Other arguments of `AsyncMongoDBSessionManagerFactory`, MongoDB client options included.

        Raises:
            InvalidNameError: MongoDB takes no such database or collection.
            TypeError: An argument is misspelt, or its value is of another kind.
            ValueError: A value has no meaning.
        """
        check_place(database_name, collection_name)
        options = hooks.current_names(options)
        check_defaults(options)
        self._address = (connection_string, database_name, collection_name, client)
        self._options = options
        self._wait_s = None if wait_s is None else check_seconds("wait_s", wait_s, endless=True)
        self._lease_s = check_seconds("lease_s", lease_s, zero=False)
        self._factory: AsyncMongoDBSessionManagerFactory | None = None
        self._repository: AsyncMongoDBSessionRepository | None = None

    # -- the application

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """Hold the connection pool while the application runs: `FastAPI(lifespan=sessions.lifespan)`.

        An application with a lifespan of its own enters this one there: `async with sessions.lifespan(app): yield`.
        """
        connection_string, database_name, collection_name, client = self._address
        async with AsyncMongoDBSessionManagerFactory(
            connection_string, database_name, collection_name, client, **self._options
        ) as factory:
            handle = factory._handle
            deadline = {name: self._options[name] for name in ("write_deadline_s",) if name in self._options}
            # It borrows the factory's client, so both have one pool.
            self._repository = AsyncMongoDBSessionRepository(
                client=handle.client, database_name=database_name, collection_name=collection_name, **deadline
            )
            self._factory = factory
            try:
                yield
            finally:
                self._factory = self._repository = None

    @property
    def factory(self) -> AsyncMongoDBSessionManagerFactory:
        """Makes the managers, and knows the statistics of the pool.

        Raises:
            RuntimeError: The application does not run the lifespan.
        """
        return self._running(self._factory)

    @property
    def repository(self) -> AsyncMongoDBSessionRepository:
        """Reads and changes sessions by their ids, and makes none.

        Raises:
            RuntimeError: The application does not run the lifespan.
        """
        return self._running(self._repository)

    def _running(self, part: T | None) -> T:
        if part is None:
            raise RuntimeError(
                "the sessions are not open: give the application lifespan=sessions.lifespan, and run it (in tests: "
                "`with TestClient(app) as client:`)"
            )
        return part

    @property
    def exception_handlers(
        self,
    ) -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
        """Answers for what may happen to a session: `FastAPI(exception_handlers=sessions.exception_handlers)`.

        | what happened                                      | status                     |
        |----------------------------------------------------|----------------------------|
        | a name or key breaks its rule                      | 422                        |
        | the session, agent or message does not exist       | 404                        |
        | another request has the turn, or took it over      | 409                        |
        | what is to be created, or a newer value, is there  | 409                        |
        | a message or the session is too large              | 413                        |
        | MongoDB does not answer                            | 503 with `Retry-After`     |
        | MongoDB refuses (rights, a full disk)              | 500, and a line in the log |

        The body is FastAPI's own, `{"detail": "..."}`. A WebSocket that was not accepted yet is refused with the same
        answer; one that was is closed with the text as its reason, and with code 1008 (the session, a name), 1009 (too
        large), 1013 (MongoDB does not answer) or 1011. Handlers of your own for the same classes come first:
        `exception_handlers={**sessions.exception_handlers, SessionNotFoundError: mine}`.
        """
        return answers()

    # -- dependencies, for FastAPI's `Depends`

    async def manager(self, session_id: str) -> AsyncGenerator[AsyncMongoDBSessionManager]:
        """Yield the open manager of the request's session, which is closed when the answer was sent.

        `session_id` is the parameter of that name in the path, or in the query where the path has none. A session that
        does not exist is created.
        """
        async with self.open(session_id) as manager, ending_streams():
            yield manager

    async def turn(
        self,
        session_id: str,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY_LENGTH)] = None,
    ) -> AsyncGenerator[SessionTurn]:
        """Yield the turn of the request, to be taken with `async with`, on an open manager.

        The header `Idempotency-Key` names the request: one that is sent again with the same key is stored once.
        """
        async with self.open(session_id) as manager, ending_streams():
            yield SessionTurn(manager, idempotency_key, wait_s=self._wait_s, lease_s=self._lease_s)

    # -- the same, for handlers that take no dependencies

    def open(self, session_id: str, **options: Any) -> AsyncMongoDBSessionManager:
        """Return the manager of a session, to be entered: `async with sessions.open(session_id) as manager:`.

        Args:
            session_id: Which session.
            **options: Arguments of `create_session_manager`, such as hooks.

        Raises:
            InvalidNameError: The session id breaks its rule.
            RuntimeError: The application does not run the lifespan.
        """
        return self.factory.create_session_manager(session_id, **options)

    @asynccontextmanager
    async def take_turn(
        self, session_id: str, idempotency_key: str | None = None, **options: Any
    ) -> AsyncGenerator[SessionTurn]:
        """Open a session and take its turn: `async with sessions.take_turn(session_id) as turn:`.

        Args:
            session_id: Which session.
            idempotency_key: Names the request, the same for each of its retries.
            **options: Arguments of `create_session_manager`, such as hooks.
        """
        async with (
            self.open(session_id, **options) as manager,
            SessionTurn(manager, idempotency_key, wait_s=self._wait_s, lease_s=self._lease_s) as turn,
        ):
            yield turn
