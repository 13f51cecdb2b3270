"""The playground as an ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from strands.models.model import Model

from mongodb_session_manager import (
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    __version__,
)

from ..models import model_by_name
from ..web import Policy, Stopping, install_errors, install_pages, install_security, mongodb_server
from .agents import Agents, OwnModelAgents, UserAgents
from .conversations import Conversations
from .routes import Services, routers
from .settings import PlaygroundSettings
from .turns import Turns

MOST_BODY_BYTES = 10 * 1024 * 1024
"""Bytes that a request's body may have: room for images."""

STATIC = Path(__file__).parent / "static"


def create_app(
    settings: PlaygroundSettings | None = None, *, model: Model | None = None, stopping: Stopping | None = None
) -> FastAPI:
    """Return the app; it connects, and starts an embedded server when it has to, in its lifespan.

    Args:
        settings: None reads them from the environment.
        model: Answers instead of the one that the settings name; an agent of the user's brings its own.
        stopping: Ends the event streams when the server is about to end.

    Raises:
        AgentError: The user's own agent cannot be loaded.
        ImportError: The package of the model's provider is not installed.
        ValueError: A setting makes no sense; the message says which.
    """
    settings = settings or PlaygroundSettings()
    agents: Agents
    if settings.agent:
        agents = UserAgents(settings.agent, reload=settings.reload)
    else:
        agents = OwnModelAgents(
            model or model_by_name(settings.model, delay_s=settings.offline_delay_s, thinking_s=0.2)
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        given = settings.connection_string
        async with (
            mongodb_server(given.get_secret_value() if given else None) as uri,
            AsyncMongoDBSessionManagerFactory(
                uri, settings.database_name, settings.collection_name, application_name=settings.application_name
            ) as factory,
            AsyncMongoDBSessionRepository(uri, settings.database_name, settings.collection_name) as repository,
        ):
            turns = Turns(factory, agents, most_running=settings.max_turns)
            conversations = Conversations(
                repository, turns, agents, application_name=settings.application_name, viewer_url=settings.viewer_url
            )
            app.state.services = Services(factory, repository, turns, conversations, agents, app.state.stopping)
            try:
                yield
            finally:
                await turns.close(settings.shutdown_grace_s)

    app = FastAPI(
        title="Chat playground",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.stopping = stopping or Stopping()
    for router in routers:
        app.include_router(router)
    install_errors(app)
    install_pages(app, STATIC)
    install_security(
        app,
        Policy(
            open_to_loopback_only=True,
            behind_proxy=bool(settings.forwarded_allow_ips.strip()),
            allowed_hosts=settings.allowed_hosts,
            hosts_setting="PLAYGROUND_ALLOWED_HOSTS",
            most_body_bytes=MOST_BODY_BYTES,
        ),
    )
    return app
