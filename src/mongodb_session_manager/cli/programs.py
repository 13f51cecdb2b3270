"""The group of all commands: the two apps are imported when they are asked for, and faults are JSON where that is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ..extras import needs
from ..flags import COMMAND
from .commands import FAILED, PROGRAM, USAGE
from .output import Output

_APPS = {
    "viewer": ("Show sessions in a browser: search, read, follow, export.", "--port 9000"),
    "playground": ("Chat in a browser with an agent whose sessions are kept.", "--port 9001"),
}


# Typer has no name of its own for what is wrong with a command line.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


class Programs(TyperGroup):
    """A group whose apps are imported when one is asked for; with `--json` a wrong command line is JSON, too."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; the arguments are Typer's own.

        Raises:
            SystemExit: With the exit code, unless not in `standalone_mode`.
        """
        given = sys.argv[1:] if args is None else list(args)
        if not (standalone_mode and _asks_for_json(given)):
            return super().main(args, prog_name, complete_var, standalone_mode, windows_expand_args, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            code = FAILED
        except _USAGE_ERROR as error:
            said = error.format_message()
            Output(as_json=True).failed(said[:1].lower() + said[1:].rstrip("."), kind=type(error).__name__)
            code = USAGE
        sys.exit(code)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command that the arguments name, of an app the one with all its flags."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _app(name) if name in _APPS else command, rest


def _asks_for_json(given: Sequence[str]) -> bool:
    return "--json" in (given[: given.index("--")] if "--" in given else given)


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
