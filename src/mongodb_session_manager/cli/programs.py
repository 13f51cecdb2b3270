"""Commands that start something: the two apps. Other commands do not wait for what these import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from ..extras import needs
from ..flags import COMMAND
from .commands import PROGRAM

_APPS = {
    "viewer": ("Show sessions in a browser: search, read, follow, export.", "--port 9000"),
    "playground": ("Chat in a browser with an agent whose sessions are kept.", "--port 9001"),
}


class Programs(TyperGroup):
    """A group whose apps are imported when one of them is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command that the arguments name, of an app the one with all its flags."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _app(name) if name in _APPS else command, rest


def add_programs(app: typer.Typer) -> None:
    """Add `viewer` and `playground`, by what the list of commands says of them; `app` is of the class `Programs`."""
    for name in _APPS:
        app.command(name, help=_help(name), rich_help_panel="Apps")(lambda: None)


def _app(name: str) -> Any:
    """Return the command of an app with the flags of its settings; without its extra, one that names it."""
    alone = typer.Typer(add_completion=False, **COMMAND)
    alone.command(name, help=_help(name))(_command(name))
    return typer.main.get_command(alone)


def _command(name: str) -> Callable[..., None]:
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

    return command


def _help(name: str) -> str:
    about, flags = _APPS[name]
    return f"{about}\n\nExample: [bold]{PROGRAM} {name} {flags}[/bold]"
