"""Starts the viewer: `python -m mongodb_session_manager.viewer`."""

from __future__ import annotations

from collections.abc import Sequence

from ..web import run, run_command, settings_command
from .app import create_app
from .settings import ViewerSettings, called

ABOUT = """Show the sessions of a collection in a browser: search, read, follow, export.

Each setting is a flag, an environment variable or a line in a file `.env`; the first of them that is there counts.
Without a connection string a MongoDB server of its own is started, with sample conversations.

Example: [bold]{program} --connection-string mongodb://localhost:27017/ --database-name my_app --port 9000[/bold]
"""


def start(settings: ViewerSettings) -> None:
    """Serve the viewer until it is told to end.

    Raises:
        SystemExit: The server cannot be started; the message says why.
    """
    app = create_app(settings)
    run(
        app,
        title="Session Viewer",
        host=settings.backend_host,
        port=settings.backend_port,
        stopping=app.state.stopping,
        connection_string=settings.connection_string,
        port_setting=called("backend_port"),
        log_level=settings.log_level,
        forwarded_allow_ips=settings.forwarded_allow_ips,
    )


command = settings_command(ViewerSettings, start, title="Session Viewer")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the viewer as the flags, the environment and `.env` say.

    Args:
        arguments: The command line; None takes the process's.

    Raises:
        SystemExit: A setting is not allowed, or the server cannot be started; the message says why.
    """
    run_command(command, module="mongodb_session_manager.viewer", about=ABOUT, arguments=arguments)


if __name__ == "__main__":
    main()
