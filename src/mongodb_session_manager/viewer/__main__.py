"""Starts the viewer: `python -m mongodb_session_manager.viewer`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from ..web import run
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
        # Without the values, of which some are secret.
        problems = "; ".join(
            ".".join(str(part).upper() for part in problem["loc"]) + ": " * bool(problem["loc"]) + problem["msg"]
            for problem in error.errors(include_input=False, include_url=False)
        )
        sys.exit(f"the viewer cannot start: {problems}")
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
