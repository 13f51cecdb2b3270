"""`mongodb_session_manager.fastapi` in applications that are put together of several parts, and on WebSockets."""

# Annotations name what is local to a function, so they are not put off.
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from pymongo.errors import AutoReconnect, OperationFailure
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    InvalidNameError,
    LeaseUnavailableError,
    MessageTooLargeError,
    SessionNotFoundError,
)
from mongodb_session_manager import fastapi as integration
from mongodb_session_manager.fastapi import SessionTurn, streamed
from mongodb_session_manager.offline import OfflineModel
from tests.fixtures.sessions import Sessions
from tests.fixtures.waiting import WAIT_S, eventually
from tests.integration.test_fastapi import NOWHERE, chat_app, say, sessions_of
from tests.support.agents import make_agent
from tests.support.serving import serving


@pytest.mark.parametrize("key", ["schlüssel", "キー", "a b", "'\"$.\\", "x" * 256, "0"])
async def test_a_key_of_any_letters_counts_once(sessions: Sessions, key: str) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        headers = [(b"Idempotency-Key", key.encode())]
        answers = [
            await client.post("/chat/s-1", json={"message": "My name is Ada."}, headers=headers) for _ in range(2)
        ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].text == answers[1].text
    assert len(sessions.texts()) == 2


@pytest.mark.parametrize("session_id", ["%F0%9F%98%80", "a%20b", "%24where", "a.b", "%FF%FE", "x" * 1000])
async def test_an_id_of_any_letters_is_a_session_or_a_status(sessions: Sessions, session_id: str) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        answer = await say(client, session_id, "My name is Ada.")

    assert answer.status_code in (200, 422)


async def test_a_mounted_application_under_the_lifespan_of_the_outer_one(sessions: Sessions) -> None:
    held = sessions_of(sessions)
    outer = FastAPI(lifespan=held.lifespan)
    outer.mount("/inner", chat_app(held))

    async with serving(outer) as client:
        said = await client.post("/inner/chat/s-1", json={"message": "My name is Ada."})
        missing = await client.get("/inner/stored/s-2")

    assert "Ada" in said.text
    assert missing.status_code == 404


async def test_two_objects_in_one_application_beside_a_lifespan_of_ones_own(sessions: Sessions) -> None:
    first, second = sessions_of(sessions), sessions_of(sessions)
    second._address = (second._address[0], second._address[1], "others", None)
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            for held in (first, second):
                await stack.enter_async_context(held.lifespan(app))
            events.append("begins")
            yield {"greeting": "hello"}
            # What ends here may still use sessions.
            assert await first.repository.check_session_exists("s-1")
            events.append("ends")

    app = FastAPI(lifespan=lifespan, exception_handlers=first.exception_handlers)

    @app.get("/{session_id}")
    async def both(
        request: Request,
        session_id: str,
        one: Annotated[AsyncMongoDBSessionManager, Depends(first.manager)],
        other: Annotated[AsyncMongoDBSessionManager, Depends(second.manager)],
    ) -> list[str]:
        await one.update_metadata({"of": "one"})
        return [one.collection.name, other.collection.name, request.state.greeting, str(await other.get_metadata())]

    async with serving(app) as client:
        answer = await client.get("/s-1")

    assert answer.json() == ["sessions", "others", "hello", "{'metadata': {}}"]
    assert events == ["begins", "ends"]
    for held in (first, second):
        with pytest.raises(RuntimeError, match="lifespan"):
            held.open("s-1")


class _Passing(BaseHTTPMiddleware):
    """What many applications have around their handlers; it runs them in a task of their own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Passed"] = "yes"
        return response


async def test_behind_a_middleware_answers_errors_and_clients_that_leave_are_the_same(sessions: Sessions) -> None:
    said, ended = asyncio.Event(), asyncio.Event()
    held = sessions_of(sessions)
    app = chat_app(held)
    app.add_middleware(_Passing)

    @app.post("/endless/{session_id}")
    async def endless(turn: Annotated[SessionTurn, Depends(held.turn)]) -> StreamingResponse:
        async def reply() -> AsyncIterator[str]:
            try:
                async with turn:
                    for _ in range(100_000):
                        yield "word " * 1000
                        said.set()
                        await asyncio.sleep(0)
            finally:
                ended.set()

        return await streamed(reply())

    async with serving(app) as client:
        answered = await say(client, "s-1", "My name is Ada.")
        missing = await client.get("/stored/s-2")
        async with client.stream("POST", "/endless/s-1"):
            await asyncio.wait_for(said.wait(), WAIT_S)
        await asyncio.wait_for(ended.wait(), WAIT_S)
        await eventually(lambda: "lease" not in sessions.document())
        again = await say(client, "s-1", "My name is Eve.")

    assert "Ada" in answered.text
    assert "Eve" in again.text
    assert (missing.status_code, missing.headers["X-Passed"]) == (404, "yes")


REFUSALS = [
    (InvalidNameError("session_id", "", "it must be a non-empty string"), 422, 1008),
    (SessionNotFoundError("s-1"), 404, 1008),
    (LeaseUnavailableError("taken"), 409, 1008),
    (MessageTooLargeError("a", 2, 1), 413, 1009),
    (OperationFailure("a secret user may not", 13), 500, 1011),
    (AutoReconnect("a secret host"), 503, 1013),
]


@pytest.mark.parametrize(("error", "status", "code"), REFUSALS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_a_websocket_is_refused_or_closed_with_the_reason(
    kind: type[Starlette], error: Exception, status: int, code: int
) -> None:
    async def before(socket: WebSocket) -> None:
        raise error

    async def after(socket: WebSocket) -> None:
        await socket.accept()
        raise error

    handlers: Any = integration.Sessions(NOWHERE).exception_handlers
    app = kind(routes=[WebSocketRoute("/before", before), WebSocketRoute("/after", after)], exception_handlers=handlers)
    client = TestClient(app)

    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/before"):
        pass
    assert denied.value.status_code == status
    assert "secret" not in denied.value.text

    with client.websocket_connect("/after") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert closed.value.code == code
    assert closed.value.reason
    assert "secret" not in closed.value.reason


def test_a_long_reason_fits_the_frame_and_a_socket_that_is_closed_stays_so() -> None:
    async def long(socket: WebSocket) -> None:
        await socket.accept()
        raise SessionNotFoundError("ä" * 500)

    async def gone(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(4000, "mine")
        raise SessionNotFoundError("s-1")

    handlers: Any = integration.Sessions(NOWHERE).exception_handlers
    app = Starlette(routes=[WebSocketRoute("/long", long), WebSocketRoute("/gone", gone)], exception_handlers=handlers)
    client = TestClient(app)

    with client.websocket_connect("/long") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert 100 < len(closed.value.reason.encode()) <= 123

    with client.websocket_connect("/gone") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (4000, "mine")


async def test_a_websocket_has_a_manager_of_its_own(sessions: Sessions) -> None:
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)

    @app.websocket("/{session_id}")
    async def talk(socket: WebSocket, manager: Annotated[AsyncMongoDBSessionManager, Depends(held.manager)]) -> None:
        await socket.accept()
        await manager.update_metadata({"heard": await socket.receive_text()})
        await socket.send_json(await manager.get_metadata())

    def speak() -> Any:
        with TestClient(app) as client, client.websocket_connect("/s-1") as socket:
            socket.send_text("hello")
            return socket.receive_json()

    assert await asyncio.to_thread(speak) == {"metadata": {"heard": "hello"}}


async def test_each_turn_of_a_socket_is_stored_also_when_its_request_has_a_key(sessions: Sessions) -> None:
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)

    @app.websocket("/{session_id}")
    async def talk(socket: WebSocket, turn: Annotated[SessionTurn, Depends(held.turn)]) -> None:
        await socket.accept()
        agent = make_agent(turn.manager, model=OfflineModel())
        async for text in socket.iter_text():
            await socket.send_text("".join([piece async for piece in turn.stream(agent, text)]))

    def speak(*texts: str, key: str) -> list[str]:
        headers = {"Idempotency-Key": key}
        with TestClient(app) as client, client.websocket_connect("/s-1", headers=headers) as socket:
            answers = []
            for text in texts:
                socket.send_text(text)
                answers.append(socket.receive_text())
            return answers

    said = ["My name is Ada.", "What is my name?", "I live in Lisbon."]
    answers = await asyncio.to_thread(speak, *said[:2], key="x" * 256)
    again = await asyncio.to_thread(speak, *said, key="x" * 256)
    other = await asyncio.to_thread(speak, said[0], key="another")

    assert again[:2] == answers
    assert "Ada" in other[0]
    assert sessions.texts()[::2] == [*said, said[0]]
