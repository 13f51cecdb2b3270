"""Handlers on `mongodb_session_manager.fastapi`, behind a real server."""

# Annotations name what is local to a function, so they are not put off.
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import dns.resolver
import httpx
import pytest
from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pymongo.errors import AutoReconnect, NotPrimaryError, OperationFailure, ServerSelectionTimeoutError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from strands import Agent
from strands.types.exceptions import EventLoopException, StorageError

from mongodb_session_manager import (
    AgentExistsError,
    AgentNotFoundError,
    AsyncMongoDBSessionManager,
    InvalidNameError,
    LeaseLostError,
    LeaseUnavailableError,
    MessageNotFoundError,
    MessageTooLargeError,
    MetadataTooLargeError,
    SessionExistsError,
    SessionFullError,
    SessionNotFoundError,
    SessionStoreError,
    StorageConflictError,
    errors,
)
from mongodb_session_manager import fastapi as integration
from mongodb_session_manager.fastapi import SessionTurn, streamed
from mongodb_session_manager.offline import OfflineModel
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S, eventually
from tests.support.agents import AGENT_ID, make_agent
from tests.support.models import Reply
from tests.support.names import UNKNOWN, unknown_to_dns
from tests.support.serving import serving

NOWHERE = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"


def sessions_of(sessions: Sessions, **options: Any) -> integration.Sessions:
    """Return the object under test, on the database of a test."""
    options = {"connection_string": sessions.uri, **sessions.client_options(), **options}
    return integration.Sessions(
        database_name=sessions.database_name, collection_name=COLLECTION, ensure_indexes=False, **options
    )


def chat_app(held: integration.Sessions, **agent: Any) -> FastAPI:
    """Return an application as the README has it, with a route for each way to use a session."""
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)
    options = agent or {"model": OfflineModel()}

    @app.post("/chat/{session_id}")
    async def chat(
        turn: Annotated[SessionTurn, Depends(held.turn)], message: Annotated[str, Body(embed=True)]
    ) -> StreamingResponse:
        return await streamed(turn.stream(make_agent(turn.manager, **options), message))

    @app.get("/metadata/{session_id}")
    async def metadata(manager: Annotated[AsyncMongoDBSessionManager, Depends(held.manager)]) -> dict[str, Any]:
        return await manager.get_metadata()

    @app.get("/stored/{session_id}")
    async def stored(session_id: str) -> dict[str, int]:
        return {"messages": await held.repository.get_message_count(session_id, AGENT_ID)}

    return app


async def say(client: httpx.AsyncClient, session_id: str, message: str, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post(f"/chat/{session_id}", json={"message": message}, headers=headers)


async def test_a_streamed_turn_is_stored_when_the_answer_has_ended(sessions: Sessions) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        first = await say(client, "s-1", "My name is Ada.")
        texts = sessions.texts()
        second = await say(client, "s-1", "What is my name?")
        counted = await client.get("/stored/s-1")

    assert (first.status_code, second.status_code) == (200, 200)
    assert "Ada" in second.text
    assert texts == ["My name is Ada.", first.text]
    assert counted.json() == {"messages": 4}
    assert "lease" not in sessions.document()


async def test_a_request_that_is_sent_again_after_others_gets_its_own_answer(sessions: Sessions) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        answers = {name: (await say(client, "s-1", f"My name is {name}.", name)).text for name in ("Ada", "Bo", "Cy")}
        again = {name: (await say(client, "s-1", f"My name is {name}.", name)).text for name in answers}

    assert again == answers
    assert all(name in answer for name, answer in answers.items())
    assert len(sessions.messages()) == 6


async def test_a_request_that_is_sent_again_is_stored_once_and_answered_again(sessions: Sessions) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        first = await say(client, "s-1", "My name is Ada.", "k-1")
        again = await say(client, "s-1", "My name is Ada.", "k-1")
        other = await say(client, "s-1", "My name is Ada.", "k-2")

    assert again.text == first.text != ""
    assert other.status_code == 200
    assert len(sessions.texts()) == 4


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_that_cannot_be_is_422(sessions: Sessions, key: str) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        answer = await client.post("/chat/s-1", json={"message": "Hi"}, headers={"Idempotency-Key": key})

    assert answer.status_code == 422
    assert "dempotency" in answer.text


@pytest.mark.parametrize(
    "path", ["/turn?key=", f"/turn?key={'k' * 257}", "/file?key=../secret", "/file?key=/", "/files?key=.."]
)
async def test_a_key_that_a_handler_takes_from_its_client_is_422_too(sessions: Sessions, path: str) -> None:
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)

    @app.get("/turn")
    async def turn(key: str) -> None:
        async with held.take_turn("s-1", key):
            pass

    @app.get("/file")
    async def file(key: str) -> None:
        async with held.open("s-1") as manager:
            await manager.storage.read(key)

    @app.get("/files")
    async def files(key: str) -> None:
        async with held.open("s-1") as manager:
            await manager.storage.list(key)

    async with serving(app) as client:
        answer = await client.get(path)

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("invalid ")


@pytest.mark.parametrize("path", ["/chat/s-1", "/metadata/s-1", "/stored/s-1"])
async def test_without_a_server_each_kind_of_handler_answers_503(sessions: Sessions, path: str) -> None:
    away = sessions_of(sessions, connection_string=NOWHERE, serverSelectionTimeoutMS=100)
    async with serving(chat_app(away)) as client:
        method = "POST" if path.startswith("/chat") else "GET"
        answer = await client.request(method, path, json={"message": "Hi"})

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("path", ["/chat/s-1", "/metadata/s-1", "/stored/s-1"])
async def test_where_dns_does_not_know_the_servers_each_kind_of_handler_answers_503(
    sessions: Sessions, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dns.resolver, "resolve", unknown_to_dns)
    async with serving(chat_app(sessions_of(sessions, connection_string=f"mongodb+srv://{UNKNOWN}/"))) as client:
        method = "POST" if path.startswith("/chat") else "GET"
        answer = await client.request(method, path, json={"message": "Hi"})

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert UNKNOWN not in answer.text
    assert "DNS does not know its servers" in caplog.text


async def test_what_fails_before_the_first_word_has_its_status(sessions: Sessions) -> None:
    """The manager is open by then, and Strands has wrapped the error."""
    failing = make_agent(None, Reply(error=ServerSelectionTimeoutError("away"))).model

    async with serving(chat_app(sessions_of(sessions), model=failing)) as client:
        answer = await say(client, "s-1", "Hi")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


async def test_what_fails_later_cuts_the_answer_off(sessions: Sessions) -> None:
    failing = make_agent(None, Reply(text="The answer is", error=ServerSelectionTimeoutError("away"))).model

    async with serving(chat_app(sessions_of(sessions), model=failing)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await say(client, "s-1", "Hi")


async def test_a_turn_that_is_taken_is_409(sessions: Sessions) -> None:
    async with sessions.manager() as other, other.turn(), serving(chat_app(sessions_of(sessions, wait_s=0))) as client:
        answer = await say(client, "s-1", "Hi")

    assert answer.status_code == 409


async def test_reading_a_session_that_is_not_there_is_404_and_makes_none(sessions: Sessions) -> None:
    async with serving(chat_app(sessions_of(sessions))) as client:
        answer = await client.get("/stored/gone")

    assert answer.status_code == 404
    assert sessions.raw.count_documents({}) == 0


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


OF_THE_PACKAGE: list[tuple[Exception, int]] = [
    (InvalidNameError("session id", "", "not empty"), 422),
    (SessionNotFoundError("s-1"), 404),
    (AgentNotFoundError("s-1", "a"), 404),
    (MessageNotFoundError("s-1", "a", 1), 404),
    (SessionExistsError("s-1"), 409),
    (AgentExistsError("s-1", "a"), 409),
    (LeaseUnavailableError("taken"), 409),
    (LeaseLostError("lost"), 409),
    (StorageConflictError("k", 1, 2), 409),
    (MessageTooLargeError("a", 2, 1), 413),
    (MetadataTooLargeError("s-1", "metadata", 2, 1), 413),
    (SessionFullError("s-1", 2, 1), 413),
]
FAULTS_OF_THE_PROGRAM = {
    errors.SessionStoreError,
    errors.SessionNotOpenError,
    errors.SessionClosedError,
    errors.WrongLoopError,
    errors.CorruptMessageError,
    errors.CorruptSessionError,
}


def test_every_error_of_the_package_has_a_status_or_is_no_matter_of_the_client() -> None:
    there = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__}

    assert there == {type(error) for error, _ in OF_THE_PACKAGE} | FAULTS_OF_THE_PROGRAM


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *OF_THE_PACKAGE,
        (ServerSelectionTimeoutError("a secret host"), 503),
        (AutoReconnect("a secret host"), 503),
        (NotPrimaryError("a secret host"), 503),
        (OperationFailure("a secret user may not", 13), 500),
        (EventLoopException(LeaseLostError("lost")), 409),
        (EventLoopException(AutoReconnect("a secret host")), 503),
        (caused(StorageError("failed to read"), AutoReconnect("a secret host")), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_status_in_both_frameworks(error: Exception, status: int) -> None:
    held = integration.Sessions(NOWHERE)
    api = FastAPI(exception_handlers=held.exception_handlers)

    async def failing(request: Request) -> JSONResponse:
        raise error

    api.get("/")(failing)
    plain = Starlette(routes=[Route("/", failing)], exception_handlers=held.exception_handlers)

    for app in (api, plain):
        answer = TestClient(app, raise_server_exceptions=False).get("/")
        assert answer.status_code == status
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert set(answer.json()) == {"detail"}
        assert "secret" not in answer.text


@pytest.mark.parametrize(
    "error", [EventLoopException(KeyError("model")), StorageError("invalid storage key")], ids=["agent", "storage"]
)
def test_an_error_of_another_kind_is_not_touched(error: Exception) -> None:
    app = FastAPI(exception_handlers=integration.Sessions(NOWHERE).exception_handlers)

    @app.get("/")
    async def failing() -> None:
        raise error

    with pytest.raises(type(error)):
        TestClient(app).get("/")


def test_without_its_lifespan_the_error_says_what_to_do(sessions: Sessions) -> None:
    with pytest.raises(RuntimeError, match=r"lifespan=sessions\.lifespan"):
        TestClient(chat_app(sessions_of(sessions))).get("/metadata/s-1")


async def test_a_client_that_leaves_ends_the_turn_and_frees_the_session(sessions: Sessions) -> None:
    said, ended = asyncio.Event(), asyncio.Event()
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan)

    @app.post("/chat/{session_id}")
    async def chat(turn: Annotated[SessionTurn, Depends(held.turn)]) -> StreamingResponse:
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
        async with client.stream("POST", "/chat/s-1"):
            await asyncio.wait_for(said.wait(), WAIT_S)
        await asyncio.wait_for(ended.wait(), WAIT_S)
        await eventually(lambda: "lease" not in sessions.document())


@pytest.mark.parametrize("outcome", ["raises", "answers otherwise"])
async def test_an_answer_that_is_begun_and_not_sent_ends_with_its_request(sessions: Sessions, outcome: str) -> None:
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)

    @app.post("/chat/{session_id}")
    async def chat(turn: Annotated[SessionTurn, Depends(held.turn)]) -> Response:
        agent = make_agent(turn.manager, model=OfflineModel())
        answer = await streamed(turn.stream(agent, "Hello"))
        if outcome == "raises":
            raise HTTPException(418, f"no {answer.media_type}")
        return JSONResponse({"detail": f"no {answer.media_type}"}, 418)

    async with serving(app) as client:
        refused = [await client.post("/chat/s-1") for _ in range(2)]
        document = sessions.document()

    assert [(answer.status_code, answer.json()) for answer in refused] == [(418, {"detail": "no text/plain"})] * 2
    assert "lease" not in document


async def test_an_answer_that_is_dropped_by_a_handler_without_dependencies_frees_the_session(
    sessions: Sessions,
) -> None:
    held = sessions_of(sessions)
    app = FastAPI(lifespan=held.lifespan)
    ended = asyncio.Event()

    @app.post("/chat/{session_id}")
    async def chat(session_id: str) -> None:
        async def reply() -> AsyncIterator[str]:
            try:
                async with held.take_turn(session_id):
                    yield "word"
                    yield "word"
                    yield "word"
            finally:
                ended.set()

        await streamed(reply())
        raise HTTPException(418)

    async with serving(app) as client:
        assert (await client.post("/chat/s-1")).status_code == 418
        await asyncio.wait_for(ended.wait(), WAIT_S)
        assert "lease" not in sessions.document()


async def test_a_turn_that_is_taken_twice_is_an_error_and_is_given_back(sessions: Sessions) -> None:
    held = sessions_of(sessions)
    async with held.lifespan(), held.open("s-1") as manager:
        turn = SessionTurn(manager)

        with pytest.raises(SessionStoreError, match="has the turn of session 's-1' already"):
            async with turn:
                await streamed(turn.stream(make_agent(manager, model=OfflineModel()), "Hello"))

        assert "lease" not in sessions.document()
        async with turn:
            assert "lease" in sessions.document()


async def test_requests_share_one_pool_and_leave_no_connection_behind(sessions: Sessions) -> None:
    held = sessions_of(sessions, maxPoolSize=5, minPoolSize=0)
    async with serving(chat_app(held)) as client:
        answers = await asyncio.gather(*(say(client, f"s-{number}", "My name is Ada.") for number in range(30)))
        stats = await held.factory.get_connection_stats()

    assert {answer.status_code for answer in answers} == {200}
    [server] = stats["servers"].values()
    assert server["open"] <= 5
    assert server["in_use"] == 0


async def test_a_lifespan_of_ones_own_and_an_app_that_starts_twice(sessions: Sessions) -> None:
    held = sessions_of(sessions)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with held.lifespan(app):
            yield

    app = chat_app(held)
    app.router.lifespan_context = lifespan

    for _ in range(2):
        async with serving(app) as client:
            assert (await client.get("/metadata/s-1")).json() == {"metadata": {}}


async def test_a_starlette_handler(sessions: Sessions) -> None:
    held = sessions_of(sessions)

    async def chat(request: Request) -> StreamingResponse:
        key = request.headers.get("Idempotency-Key")

        async def reply() -> AsyncIterator[str]:
            async with held.take_turn(request.path_params["session_id"], key) as turn:
                agent = Agent(model=OfflineModel(), agent_id=AGENT_ID, session_manager=turn.manager)
                if not turn.replayed:
                    yield str(await agent.invoke_async("My name is Ada."))

        return await streamed(reply())

    app = Starlette(
        routes=[Route("/chat/{session_id}", chat, methods=["POST"])],
        lifespan=held.lifespan,
        exception_handlers=held.exception_handlers,
    )
    async with serving(app) as client:
        first, again = [await say(client, "s-1", "", "k-1") for _ in range(2)]

    assert "Ada" in first.text
    assert again.text == ""
    assert len(sessions.texts()) == 2
