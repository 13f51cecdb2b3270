"""Starts the playground: `python -m mongodb_session_manager.playground`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from ..web import Stopping, run, settings_problems
from .app import create_app
from .settings import PlaygroundSettings


def main() -> None:
    """Serve the playground until it is told to end.

    Raises:
        SystemExit: A setting makes no sense, or the server could not be started.
    """
    stopping = Stopping()
    try:
        settings = PlaygroundSettings()
        app = create_app(settings, stopping=stopping)
    except ValidationError as error:
        sys.exit(f"the playground cannot start: {settings_problems(error)}")
    except (ImportError, ValueError) as error:
        sys.exit(f"the playground cannot start: PLAYGROUND_MODEL: {error}")
    given = settings.connection_string
    run(
        app,
        title="Chat playground",
        host=settings.host,
        port=settings.port,
        stopping=stopping,
        connection_string=given.get_secret_value() if given else None,
        log_level=settings.log_level,
    )


if __name__ == "__main__":
    main()
