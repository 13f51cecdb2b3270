"""A playground behind a real uvicorn, a client that reads its events, and a model that waits in mid-sentence."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from strands.models.model import Model
from strands.types.streaming import StreamEvent

from mongodb_session_manager.offline import OfflineModel
from mongodb_session_manager.playground import PlaygroundSettings, create_app
from mongodb_session_manager.playground.agent import AGENT_ID
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.fixtures.waiting import WAIT_S
from tests.support.models import ScriptedModel


@dataclass(frozen=True)
class Seen:
    """An event as a client received it."""

    kind: str
    data: dict[str, Any]
    event_id: str


class PausingModel(ScriptedModel):
    """Plays its script, but stops after the first piece of each text until it is told to go on.

    Attributes:
        paused: Set when it has said the first piece and waits.
        resume: Set it to let the model go on.
    """

    def __init__(self, *script: Any, **options: Any) -> None:
        super().__init__(*script, **options)
        self.paused, self.resume = asyncio.Event(), asyncio.Event()

    async def stream(self, *arguments: Any, **options: Any) -> AsyncIterable[StreamEvent]:
        said = False
        async for event in super().stream(*arguments, **options):
            yield event
            if not said and "text" in event.get("contentBlockDelta", {}).get("delta", {}):
                said = True
                self.paused.set()
                await self.resume.wait()


class Playground:
    """A running playground, with the sessions that it stores."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, sessions: Sessions, server: Server) -> None:
        self.app, self.client, self.sessions, self.server = app, client, sessions, server

    async def chat(self, session_id: str, message: str) -> list[Seen]:
        """Say something and return all events of the reply."""
        async with self.stream(session_id, message) as events:
            return [event async for event in events]

    @asynccontextmanager
    async def stream(self, session_id: str, message: str) -> AsyncIterator[AsyncIterator[Seen]]:
        """Say something; leaving the block closes the connection, whatever was read."""
        body = {"session_id": session_id, "message": message}
        async with self.client.stream("POST", "/api/chat", json=body) as response:
            if response.status_code != 200:
                await response.aread()
            response.raise_for_status()
            yield read_events(response)

    async def rejoin(self, session_id: str, last_event_id: str | None = None) -> list[Seen]:
        """Return the events of the reply in the making, after the one named."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        url = f"/api/sessions/{session_id}/turn"
        async with self.client.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200
            return [event async for event in read_events(response)]

    async def read(self, session_id: str, **query: Any) -> dict[str, Any]:
        """Return a conversation as the API gives it."""
        response = await self.client.get(f"/api/sessions/{session_id}", params=query)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found

    async def ended(self, session_id: str) -> None:
        """Wait until no reply is in the making."""
        turn = self.app.state.services.turns.running_in(session_id)
        if turn is not None:
            assert await turn.wait(WAIT_S)

    async def told_to_stop(self, session_id: str) -> None:
        """Wait until the reply in the making was told to stop."""
        await asyncio.wait_for(self.app.state.services.turns.running_in(session_id).stopping.wait(), WAIT_S)

    def stored(self, session_id: str) -> list[tuple[str, str]]:
        """Return role and text of each message that is stored."""
        messages = self.sessions.messages(AGENT_ID, session_id)
        texts = self.sessions.texts(AGENT_ID, session_id)
        return [(message["role"], text) for message, text in zip(messages, texts, strict=True)]


class Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, app: FastAPI) -> None:
        options: Mapping[str, Any] = {"log_config": None, "lifespan": "on", "timeout_graceful_shutdown": 5}
        super().__init__(uvicorn.Config(app, **options))
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def playground(sessions: Sessions, model: Model | None = None, **options: Any) -> AsyncIterator[Playground]:
    """Serve a playground on the database of a test."""
    settings = PlaygroundSettings.model_validate(
        {
            "connection_string": sessions.uri,
            "database_name": sessions.database_name,
            "collection_name": COLLECTION,
            "shutdown_grace_s": WAIT_S,
            **options,
        }
    )
    app = create_app(settings, model=model or OfflineModel())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = Server(app)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            await asyncio.wait_for(server.ready.wait(), WAIT_S)
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=address, timeout=WAIT_S, trust_env=False) as client:
                yield Playground(app, client, sessions, server)
        finally:
            app.state.stopping.set()
            server.should_exit = True
            await serving


async def read_events(response: httpx.Response) -> AsyncIterator[Seen]:
    """Yield the events of a stream, comments left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Seen(fields["event"], json.loads(fields["data"]), fields["id"])
            fields = {}
        else:
            fields = {}


def said(events: Sequence[Seen]) -> str:
    """Return the text of the tokens, joined."""
    return "".join(event.data["text"] for event in events if event.kind == "token")


def kinds(events: Sequence[Seen]) -> list[str]:
    """Return the kinds of the events, repeated ones once."""
    found = [event.kind for event in events]
    return [kind for number, kind in enumerate(found) if number == 0 or kind != found[number - 1]]
