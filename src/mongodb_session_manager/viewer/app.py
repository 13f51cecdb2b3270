"""The viewer as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from .._version import __version__
from ..web import Policy, Stopping, install_errors, install_pages, install_security, mongodb_server
from .access import PASSWORD_HEADER, SESSION_PASSWORD_HEADER, Gate
from .addresses import EncodedSlashes
from .database import Database
from .routes import router
from .samples import ENUM_FIELDS, store_samples
from .settings import ViewerSettings

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"


def create_app(settings: ViewerSettings | None = None) -> FastAPI:
    """Return the viewer, to be served by any ASGI server that runs its lifespan.

    Args:
        settings: How it is set up; None reads the environment and `.env`.

    Raises:
        pydantic.ValidationError: A setting is missing or not allowed.
    """
    settings = settings or ViewerSettings()
    app = FastAPI(
        title="Session Viewer",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,  # they load scripts from another host
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.settings = settings
    app.state.stopping = Stopping()
    install_errors(app)
    app.include_router(router)
    install_pages(app, STATIC)
    app.add_middleware(EncodedSlashes)
    install_security(
        app,
        Policy(
            open_to_loopback_only=settings.password is None,
            allowed_hosts=settings.allowed_hosts,
            hosts_setting="VIEWER_ALLOWED_HOSTS",
            allowed_origins=settings.allowed_origins,
            allowed_headers=(PASSWORD_HEADER, SESSION_PASSWORD_HEADER),
        ),
    )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ViewerSettings = app.state.settings
    async with mongodb_server(settings.connection_string) as uri:
        enum_fields = settings.enum_fields
        if settings.connection_string is None:
            await store_samples(uri, settings.database_name, settings.collection_name)
            enum_fields |= ENUM_FIELDS
        database = Database(uri, settings, enum_fields)
        app.state.database = database
        database.start()
        app.state.gate = Gate(
            settings.password,
            database.viewer_password,
            # Browsers send cookies to every port of a host.
            cookie=f"session_viewer_{settings.backend_port}",
        )
        try:
            yield
        finally:
            app.state.stopping.set()
            await database.close()
