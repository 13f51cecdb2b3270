"""Commands that start something: the two apps, and the demo."""

from __future__ import annotations

import typer

from ..extras import needs
from .commands import PROGRAM


def add_programs(app: typer.Typer) -> None:
    """Add `viewer` and `playground`, with the flags of each; without its extra, a command that names it."""
    panel = "Apps"
    _add_app(app, "viewer", "Show sessions in a browser: search, read, follow, export.", "--port 9000", panel)
    _add_app(app, "playground", "Chat in a browser with an agent whose sessions are kept.", "--port 9001", panel)


def _add_app(app: typer.Typer, name: str, about: str, flags: str, panel: str) -> None:
    text = f"{about}\n\nExample: [bold]{PROGRAM} {name} {flags}[/bold]"
    try:
        with needs(name):
            if name == "viewer":
                from ..viewer.__main__ import command
            else:
                from ..playground.__main__ import command
    except ImportError as error:
        said = str(error)

        def command() -> None:
            raise SystemExit(said)

    app.command(name, help=text, rich_help_panel=panel)(command)
