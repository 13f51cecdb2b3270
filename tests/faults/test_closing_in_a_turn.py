"""A manager that is closed while its turn is under way, or while it waits for one."""

# Annotations name what is local to a function, so they are not put off.
import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    MongoDBSessionManager,
    SessionClosedError,
    SessionNotFoundError,
    SessionStoreError,
)
from mongodb_session_manager.fastapi import SessionTurn
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.fixtures.waiting import WAIT_S
from tests.integration.test_fastapi import sessions_of
from tests.support.agents import make_agent
from tests.support.models import ScriptedModel
from tests.support.serving import serving

HOUR_S = 3600


@pytest.mark.parametrize("key", [None, "request-1"])
async def test_it_gives_the_turn_back_and_the_end_of_the_block_says_why(sessions: Sessions, key: str | None) -> None:
    manager = await sessions.manager()

    async def talk() -> AsyncIterator[str]:
        async with manager.turn(lease_s=HOUR_S, idempotency_key=key):
            yield str(await make_agent(manager, "Hi.").invoke_async("Hello"))
            yield "never"

    async with sessions.manager() as other:
        reply = talk()
        assert await anext(reply) == "Hi.\n"
        await asyncio.wait_for(manager.close(), WAIT_S)
        async with other.turn(wait_s=WAIT_S, idempotency_key=key) as turn:
            assert not turn.replayed
            # Of a keyed turn all is stored at its end, or nothing.
            said = sessions.document()["agents"]
            assert {name: len(agent["messages"]) for name, agent in said.items()} == (
                {} if key is not None else {"assistant": 2}
            )
        assert await anext(reply) == "never"
        with pytest.raises(SessionClosedError):
            await anext(reply)
        assert "lease" not in sessions.document()


async def test_it_gives_the_turn_back_also_when_what_is_pending_cannot_be_written(sessions: Sessions) -> None:
    async with AsyncMongoDBSessionManagerFactory(
        sessions.uri, sessions.database_name, COLLECTION, **sessions.client_options()
    ) as factory:
        manager = await factory.create_session_manager(SESSION_ID)

        async def talk() -> AsyncIterator[None]:
            async with manager.turn(lease_s=HOUR_S):
                make_agent(manager).messages.append({"role": "user", "content": [{"text": "Hello"}]})
                yield

        reply = talk()
        await anext(reply)
        sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"agents": "of another tool"}})
        with pytest.raises(SessionStoreError):
            await manager.close()

        assert "lease" not in (sessions.raw.find_one({"_id": SESSION_ID}) or {"lease": "?"})
        with pytest.raises(SessionClosedError):
            await anext(reply)


async def test_it_waits_for_a_server_that_is_away_once_and_leaves_the_turn_to_expire(
    sessions: Sessions, mongo_client: MongoClient[Document], caplog: pytest.LogCaptureFixture
) -> None:
    away = {"failCommands": ["update"], "errorCode": 89, "appName": "away"}
    manager = await sessions.manager(write_deadline_s=0.3, retryWrites=False, appname="away")
    agent = make_agent(manager)

    async def talk() -> AsyncIterator[None]:
        async with manager.turn(lease_s=1):
            agent.state.set("mood", "fine")
            yield

    reply = talk()
    await anext(reply)
    with fail_point(mongo_client, "alwaysOn", away), pytest.raises(PyMongoError):
        await manager.close()
    with pytest.raises(SessionClosedError):
        await anext(reply)

    assert "lease not given back" not in caplog.text  # what a second wait would have ended with
    async with sessions.manager() as other, other.turn(wait_s=WAIT_S):
        assert "lease" in sessions.document()


async def test_a_task_that_waits_for_the_turn_is_told(sessions: Sessions) -> None:
    manager = await sessions.manager()
    async with sessions.manager() as holder, holder.turn(lease_s=HOUR_S):
        entered = []

        async def wait() -> None:
            async with manager.turn(lease_s=HOUR_S):
                entered.append("a turn")

        waiting = asyncio.create_task(wait())
        # It has looked in vain once.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.05)
        await asyncio.wait_for(manager.close(), WAIT_S)
        with pytest.raises(SessionClosedError):
            await asyncio.wait_for(waiting, WAIT_S)

    assert entered == []
    assert "lease" not in sessions.document()


def test_the_synchronous_face_closes_inside_of_its_turn(sessions: Sessions) -> None:
    options: Any = {"database_name": sessions.database_name, "collection_name": COLLECTION, "ensure_indexes": False}
    manager = MongoDBSessionManager(SESSION_ID, sessions.uri, **options)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with manager.turn(lease_s=HOUR_S):
                make_agent(manager, "Hi.")("Hello")
                manager.close()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WAIT_S)

    assert [type(error) for error in raised] == [SessionClosedError]
    assert sessions.texts() == ["Hello", "Hi."]
    assert "lease" not in sessions.document()


def chat_app(sessions: Sessions) -> FastAPI:
    """Return an application whose handlers fail in the middle of a stream that a name holds."""
    held = sessions_of(sessions, lease_s=HOUR_S)
    app = FastAPI(lifespan=held.lifespan, exception_handlers=held.exception_handlers)

    async def begun(turn: SessionTurn) -> AsyncIterator[str]:
        stream = turn.stream(make_agent(turn.manager, model=ScriptedModel(otherwise="one two three")), "Hello")
        await anext(stream)
        return stream

    @app.post("/chat/{session_id}")
    async def chat(turn: Annotated[SessionTurn, Depends(held.turn)]) -> None:
        stream = await begun(turn)
        raise HTTPException(418, f"no {type(stream).__name__}")

    @app.websocket("/talk/{session_id}")
    async def talk(socket: WebSocket, turn: Annotated[SessionTurn, Depends(held.turn)]) -> None:
        await socket.accept()
        stream = await begun(turn)
        raise SessionNotFoundError(f"no {type(stream).__name__}")

    return app


async def test_a_handler_that_fails_in_the_middle_of_its_stream_frees_the_session(sessions: Sessions) -> None:
    async with serving(chat_app(sessions)) as client:
        answers = [await client.post("/chat/s-1") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [418, 418]
    assert "lease" not in sessions.document()


async def test_a_socket_that_fails_in_the_middle_of_its_stream_frees_the_session(sessions: Sessions) -> None:
    def speak() -> list[Any]:
        with TestClient(chat_app(sessions)) as client:
            messages = []
            for _ in range(2):
                with client.websocket_connect("/talk/s-1") as socket:
                    messages.append(socket.receive())
            return messages

    closed = await asyncio.wait_for(asyncio.to_thread(speak), WAIT_S)

    assert [message["code"] for message in closed] == [1008, 1008]
    assert "lease" not in sessions.document()
