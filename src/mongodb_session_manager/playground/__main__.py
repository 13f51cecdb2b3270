"""Starts the playground: `python -m mongodb_session_manager.playground`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..web import Stopping, run, run_command, settings_command
from .agents import AgentError
from .app import create_app
from .failures import described
from .settings import PlaygroundSettings

ABOUT = """Chat in a browser with a Strands agent whose sessions are kept.

Each setting is a flag, an environment variable or a line in a file `.env`; the first of them that is there counts.
Without a connection string a MongoDB server of its own is started; without a model an offline one answers.

Example: [bold]{program} --model openai:gpt-4o-mini --port 9000[/bold]
"""


def start(settings: PlaygroundSettings) -> None:
    """Serve the playground until it is told to end.

    Raises:
        SystemExit: A setting makes no sense, or the server could not be started.
    """
    stopping = Stopping()
    try:
        app = create_app(settings, stopping=stopping)
    except AgentError as error:
        sys.exit(f"Chat playground cannot start: PLAYGROUND_AGENT: {described(error).message}")
    except (ImportError, ValueError) as error:
        sys.exit(f"Chat playground cannot start: PLAYGROUND_MODEL: {error}")
    given = settings.connection_string
    run(
        app,
        title="Chat playground",
        host=settings.host,
        port=settings.port,
        stopping=stopping,
        connection_string=given.get_secret_value() if given else None,
        port_setting="PLAYGROUND_PORT",
        log_level=settings.log_level,
        forwarded_allow_ips=settings.forwarded_allow_ips,
    )


command = settings_command(PlaygroundSettings, start, title="Chat playground")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the playground as the flags, the environment and `.env` say, until it is told to end.

    Args:
        arguments: The command line; None takes the process's.

    Raises:
        SystemExit: A setting makes no sense, or the server could not be started.
    """
    run_command(command, module="mongodb_session_manager.playground", about=ABOUT, arguments=arguments)


if __name__ == "__main__":
    main()
