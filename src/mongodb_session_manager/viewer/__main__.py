"""Starts the viewer: `python -m mongodb_session_manager.viewer`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from ..web import run, settings_problems
from .app import create_app
from .settings import ViewerSettings


def main() -> None:
    """Serve the viewer as the environment and `.env` say.

    Raises:
        SystemExit: A setting is not allowed, or the server cannot be started; the message says why.
    """
    try:
        settings = ViewerSettings()
    except ValidationError as error:
        sys.exit(f"the viewer cannot start: {settings_problems(error)}")
    app = create_app(settings)
    run(
        app,
        title="Session Viewer",
        host=settings.backend_host,
        port=settings.backend_port,
        stopping=app.state.stopping,
        connection_string=settings.connection_string,
        log_level=settings.log_level,
    )


if __name__ == "__main__":
    main()
