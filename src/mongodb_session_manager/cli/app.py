"""The command line as a whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

from .._version import __version__
from ..extras import needs

with needs("cli"):
    import typer

from ..flags import COMMAND
from .commands import PROGRAM
from .demo import add_demo
from .doctor import add_doctor
from .moving import add_migrate
from .programs import Programs, add_programs
from .sessions import sessions_app
from .signals import ending_in_order
from .streams import standard_streams
from .upkeep import add_upkeep


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def create() -> typer.Typer:
    """Return the command line, for Typer."""
    app = typer.Typer(
        name=PROGRAM,
        cls=Programs,
        no_args_is_help=True,
        help="Sessions of Strands Agents in MongoDB: look at them, move them, keep them up.\n\n"
        f"Example: [bold]{PROGRAM} sessions list --connection-string mongodb://localhost:27017/[/bold]\n\n"
        "Each flag is also an environment variable, or a line in a file `.env`. Exit codes: 0 done, 1 failed, "
        "2 wrong command line, 3 no such session, 4 no MongoDB, 130 interrupted.",
        **COMMAND,
    )

    @app.callback()
    def about(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
        ] = False,
    ) -> None:
        """Take the options that stand before a command."""

    app.add_typer(sessions_app(), name="sessions", rich_help_panel="Sessions")
    add_upkeep(app)
    add_migrate(app)
    add_doctor(app)
    add_programs(app)
    add_demo(app)
    return app


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Raises:
        SystemExit: Always, with the exit code.
    """
    # What the library warns of is told once, as the error of the command.
    logging.getLogger("mongodb_session_manager").addHandler(logging.NullHandler())
    with ending_in_order(), standard_streams():
        create()(args=None if arguments is None else list(arguments), prog_name=PROGRAM)
