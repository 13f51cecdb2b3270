"""Sessions in FastAPI and Starlette applications: one object for the life of the application, a manager per request.

```python
sessions = Sessions("mongodb://localhost:27017/", database_name="my_app", collection_name="sessions")
app = FastAPI(lifespan=sessions.lifespan, exception_handlers=sessions.exception_handlers)


@app.post("/chat/{session_id}")
async def chat(
    turn: Annotated[SessionTurn, Depends(sessions.turn)], message: Annotated[str, Body(embed=True)]
) -> StreamingResponse:
    agent = Agent(agent_id="support", session_manager=turn.manager, callback_handler=None)
    return await streamed(turn.stream(agent, message))
```
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import anyio
from pymongo.errors import ConnectionFailure, DocumentTooLarge, PyMongoError, WTimeoutError
from strands.types.content import Message
from strands.types.exceptions import EventLoopException

from . import errors
from .client import MongoDBClient, is_transient
from .extras import needs
from .factory import AsyncMongoDBSessionManagerFactory
from .schema.messages import has_tool_result, text_of
from .schema.numbers import check_seconds
from .session import AsyncMongoDBSessionManager
from .store import AsyncMongoDBSessionRepository
from .store.lease import Turn

with needs("fastapi"):
    from fastapi import Header
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.websockets import WebSocket, WebSocketState

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send
    from strands import Agent

__all__ = ["SessionTurn", "Sessions", "streamed"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_AFTER_S = 2
"""What clients are told to wait while MongoDB does not answer, in seconds."""

MAX_KEY_LENGTH = 256
"""Characters of an idempotency key."""

_CLOSE_S = 10.0


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
        """
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
        | a message or the session is too large              | 413                        |
        | MongoDB does not answer                            | 503 with `Retry-After`     |
        | MongoDB refuses (rights, a full disk)              | 500, and a line in the log |

        The body is FastAPI's own, `{"detail": "..."}`. A WebSocket that was not accepted yet is refused with the same
        answer; one that was is closed with the text as its reason, and with code 1008 (the session, a name), 1009 (too
        large), 1013 (MongoDB does not answer) or 1011. Handlers of your own for the same classes come first:
        `exception_handlers={**sessions.exception_handlers, SessionNotFoundError: mine}`.
        """
        kinds: list[int | type[Exception]] = [*_STATUS, PyMongoError, DocumentTooLarge, EventLoopException]
        return dict.fromkeys(kinds, _answer)

    # -- dependencies, for FastAPI's `Depends`

    async def manager(self, session_id: str) -> AsyncGenerator[AsyncMongoDBSessionManager]:
        """Yield the open manager of the request's session, which is closed when the answer was sent.

        `session_id` is the parameter of that name in the path, or in the query where the path has none. A session that
        does not exist is created.
        """
        async with self.open(session_id) as manager:
            yield manager

    async def turn(
        self,
        session_id: str,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY_LENGTH)] = None,
    ) -> AsyncGenerator[SessionTurn]:
        """Yield the turn of the request, to be taken with `async with`, on an open manager.

        The header `Idempotency-Key` names the request: one that is sent again with the same key is stored once.
        """
        async with self.open(session_id) as manager:
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


class SessionTurn:
    """One request's turn of a session: `async with turn:`; what was said is stored when the block ends.

    Attributes:
        manager: The open manager of the session.
        idempotency_key: What the client calls the request, None when it calls it nothing.
    """

    def __init__(
        self,
        manager: AsyncMongoDBSessionManager,
        idempotency_key: str | None = None,
        *,
        wait_s: float | None = 30,
        lease_s: float = 30,
    ) -> None:
        """Note how to take the turn; the manager is borrowed."""
        self.manager = manager
        self.idempotency_key = idempotency_key
        self._wait_s, self._lease_s = wait_s, lease_s
        self._held: AbstractAsyncContextManager[Turn] | None = None
        self._turn: Turn | None = None

    @property
    def replayed(self) -> bool:
        """Whether this request was stored before: leave the agent alone then, its last message is the answer.

        Raises:
            RuntimeError: The turn was not taken yet.
        """
        if self._turn is None:
            raise RuntimeError("the turn is not taken yet; read `replayed` inside of `async with turn:`")
        return self._turn.replayed

    async def __aenter__(self) -> Self:
        """Take the turn, when no other request has it any more.

        Raises:
            LeaseUnavailableError: Another one kept it for too long.
        """
        self._held = self.manager.turn(self._wait_s, self._lease_s, self.idempotency_key)
        self._turn = await self._held.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        """Store what is pending and give the turn back."""
        assert self._held is not None
        return await self._held.__aexit__(*error)

    async def stream(self, agent: Agent, prompt: Any, **options: Any) -> AsyncGenerator[str]:
        """Take the turn, and yield the text of the agent's answer, piece by piece; it ends when all is stored.

        A request that was stored before gets its answer again, in one piece.

        Args:
            agent: Built on `manager`.
            prompt: What `agent.stream_async` takes.
            **options: More of what it takes.
        """
        async with self:
            if self.replayed:
                yield _answer_to(prompt, agent)
                return
            async for event in agent.stream_async(prompt, **options):
                if "data" in event:
                    yield event["data"]


def _answer_to(prompt: Any, agent: Agent) -> str:
    """Return the text that answered a prompt; where it does not stand in the window any more, the last answer.

    Another request of the session may have come after it.
    """
    said = [{"text": prompt}] if isinstance(prompt, str) else prompt
    answer: Message | None = None
    for message in reversed(agent.messages):
        if message["role"] == "assistant":
            answer = answer or message
        elif message["content"] == said:
            break
        elif not has_tool_result(message):
            answer = None  # That was the answer to something else.
    else:
        answer = next((message for message in reversed(agent.messages) if message["role"] == "assistant"), None)
    return "" if answer is None else text_of(answer)


# -- streaming


async def streamed(
    chunks: AsyncIterator[str | bytes],
    *,
    media_type: str = "text/plain",
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a response that is sent piece by piece, once there is a first piece.

    What fails before that is an error with its status, as it would be in a handler that does not stream. What fails
    later cuts the answer off, so that the client does not take it for whole. When the client leaves, the generator is
    ended at once, before the request's dependencies are.

    Args:
        chunks: The pieces, usually of an async generator: `return await streamed(reply())`.
        media_type: Such as `text/event-stream`.
        headers: More headers of the answer.
    """
    source = _Source(chunks)
    await source.start()
    return _StreamedResponse(source, media_type=media_type, headers=headers)


class _Source:
    """Runs a generator in one task from its first piece to its end, as generators with context variables need it."""

    def __init__(self, chunks: AsyncIterator[str | bytes]) -> None:
        self._chunks = chunks
        self._pieces: asyncio.Queue[str | bytes | None] = asyncio.Queue(1)
        self._waiting: str | bytes | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="streamed answer")
        try:
            self._waiting = await self._next()
        except BaseException:
            await self.close()
            raise

    async def _run(self) -> None:
        try:
            async for piece in self._chunks:
                await self._pieces.put(piece)
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()

    async def _next(self) -> str | bytes | None:
        """Return the next piece, None at the end; raises what the generator raised."""
        assert self._task is not None
        piece = asyncio.ensure_future(self._pieces.get())
        try:
            await asyncio.wait({piece, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if piece.done():
                return piece.result()
            await self._task
            # The end may have come with the last piece.
            return self._pieces.get_nowait() if not self._pieces.empty() else None
        finally:
            piece.cancel()

    async def __aiter__(self) -> AsyncGenerator[str | bytes]:
        while self._waiting is not None:
            yield self._waiting
            self._waiting = await self._next()

    async def close(self) -> None:
        assert self._task is not None
        self._task.cancel()
        # A client that left cancels every await of its request, this one included.
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await asyncio.wait({self._task})


class _StreamedResponse(StreamingResponse):
    def __init__(self, source: _Source, **options: Any) -> None:
        super().__init__(source, **options)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.close()


# -- errors

_STATUS: dict[type[Exception], int] = {
    errors.InvalidNameError: 422,
    errors.SessionNotFoundError: 404,
    errors.AgentNotFoundError: 404,
    errors.MessageNotFoundError: 404,
    errors.SessionExistsError: 409,
    errors.LeaseUnavailableError: 409,
    errors.LeaseLostError: 409,
    errors.MessageTooLargeError: 413,
}
for _name in ("MetadataTooLargeError", "SessionFullError"):
    if hasattr(errors, _name):
        _STATUS[getattr(errors, _name)] = 413


async def _answer(connection: Request | WebSocket, error: Exception) -> Response:
    """Answer for an error, or raise it again where nothing can be said about it."""
    found = _known(error)
    if found is None:
        raise error
    answer = _response(found)
    if isinstance(connection, WebSocket):
        # The framework has no use for an answer here, and would leave the client waiting.
        await _refuse(connection, answer)
    return answer


_CLOSE_CODES = {413: 1009, 500: 1011, 503: 1013}
_POLICY = 1008
_REASON_BYTES = 123
"""Bytes of a reason in a WebSocket's close frame."""


async def _refuse(socket: WebSocket, answer: Response) -> None:
    if WebSocketState.DISCONNECTED in (socket.application_state, socket.client_state):
        return
    accepted = socket.application_state is WebSocketState.CONNECTED
    if not accepted and "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(answer)
        return
    reason = json.loads(bytes(answer.body))["detail"].encode()[:_REASON_BYTES].decode(errors="ignore")
    await socket.close(_CLOSE_CODES.get(answer.status_code, _POLICY), reason)


def _response(found: Exception) -> Response:
    if isinstance(found, DocumentTooLarge):
        return _said(413, "what was to be stored is larger than a MongoDB document may be")
    if not isinstance(found, PyMongoError):
        return _said(next(status for kind, status in _STATUS.items() if isinstance(found, kind)), str(found))
    # The text of a driver's error may name hosts and users.
    code = getattr(found, "code", None)
    logger.warning("error=<%s>, code=<%s> | request failed in the database", type(found).__name__, code)
    if isinstance(found, ConnectionFailure | WTimeoutError) or found.timeout or is_transient(found):
        answer = _said(503, "the database does not answer; try again in a moment")
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer
    return _said(500, "the database refused the operation; the server's log has its code")


def _known(error: BaseException | None) -> Exception | None:
    """Return the error of this library or of the driver that an error is, or that it was raised for."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, PyMongoError | DocumentTooLarge) or (
            isinstance(error, Exception) and isinstance(error, tuple(_STATUS))
        ):
            return error
        error = getattr(error, "original_exception", None) or error.__cause__ or error.__context__
    return None


def _said(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
