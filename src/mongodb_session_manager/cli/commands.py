"""How a command is made: its own arguments, those that all have, one way to fail, and exit codes."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pymongo.errors import OperationFailure, PyMongoError

from ..advice import AUTHENTICATION_CODES, advice, is_away, told, wants_user
from ..client import ClientHandle
from ..client.options import check_connection_string, safe_error
from ..errors import (
    AgentNotFoundError,
    InvalidNameError,
    MessageNotFoundError,
    SessionNotFoundError,
    SessionStoreError,
)
from ..flags import CollectionName, DatabaseName, file_problem, flag_parameters, settings_problems, with_parameters
from ..schema.moments import NoZoneError, read_moment
from ..store import AsyncMongoDBSessionRepository
from .output import Output

FAILED, USAGE, NOT_FOUND, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes, besides 0: it could not be done; the command line is wrong; no such session; no server; Ctrl+C."""

PROGRAM = "mongodb-session-manager"


class Target(BaseSettings):
    """Where the sessions are.

    Attributes:
        connection_string: `MONGODB_CONNECTION_STRING`: MongoDB server.
        database_name: `DATABASE_NAME`: database of the sessions.
        collection_name: `COLLECTION_NAME`: collection of the sessions.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    connection_string: SecretStr | None = Field(default=None, validation_alias="MONGODB_CONNECTION_STRING")
    database_name: DatabaseName = Field(default="examples", validation_alias="DATABASE_NAME")
    collection_name: CollectionName = Field(default="sessions", validation_alias="COLLECTION_NAME")


@dataclass(frozen=True)
class Context:
    """What a command gets besides its own arguments.

    Attributes:
        target: Where the sessions are.
        out: Where to print.
    """

    target: Target
    out: Output

    @property
    def uri(self) -> str:
        """The connection string.

        Raises:
            typer.Exit: There is none, or none that can be understood; 2.
        """
        if (problem := self.uri_problem()) is not None:
            self.out.failed(problem)
            raise typer.Exit(USAGE)
        return self.given

    def uri_problem(self) -> str | None:
        """Return what is wrong with the connection string, None when it can be used. Sends nothing."""
        if not self.given:
            return (
                "no MongoDB server: give --connection-string mongodb://..., or set MONGODB_CONNECTION_STRING in the "
                "environment or in a file .env"
            )
        return self.problem_of(self.given, _URI)

    def problem_of(self, uri: str, setting: str) -> str | None:
        """Return what is wrong with the connection string of a setting, None when it can be used. Sends nothing."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                check_connection_string(uri)
            except (PyMongoError, ValueError, TypeError, OSError) as error:
                return f"{setting}: {error}"
        if told:
            said = "; ".join(dict.fromkeys(str(warning.message) for warning in told))
            self.out.warn(f"{setting}: {safe_error(ValueError(said), uri, {})}")
            # The driver would repeat it in lines of its own for each client.
            warnings.filterwarnings("ignore", category=UserWarning, module="pymongo")
        return None

    @property
    def given(self) -> str:
        """The connection string as it was given, empty when there is none."""
        given = self.target.connection_string
        return "" if given is None else given.get_secret_value()

    @property
    def place(self) -> str:
        """Database and collection, for people."""
        return f"{self.target.database_name}.{self.target.collection_name}"

    def handle(self, **options: Any) -> ClientHandle:
        """Return a client of the server; close it."""
        return ClientHandle(self.uri, options={"minPoolSize": 0, "appname": PROGRAM, **options})

    @asynccontextmanager
    async def repository(self) -> AsyncIterator[AsyncMongoDBSessionRepository]:
        """Give the sessions, by their ids."""
        async with AsyncMongoDBSessionRepository(
            self.uri,
            self.target.database_name,
            self.target.collection_name,
            minPoolSize=0,
            appname=PROGRAM,
            write_deadline_s=5,
        ) as repository:
            yield repository


_URI = "--connection-string, or MONGODB_CONNECTION_STRING"

Command = Callable[..., Coroutine[Any, Any, None]]


def add(app: typer.Typer, name: str, function: Command, *, example: str = "", panel: str | None = None) -> None:
    """Add a command: a coroutine function that takes a `Context`, then its own arguments as Typer takes them.

    Every command also has the flags of `Target`, and `--json`. Its help is the docstring's first paragraph.

    Args:
        app: Where to add it.
        name: What users type.
        function: The command.
        example: A command line, without the program's name.
        panel: Heading in the list of commands.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    option = typer.Option("--json", help="Print JSON, for programs.", show_default=False)
    as_json = inspect.Parameter("as_json", _KEYWORD, default=False, annotation=Annotated[bool, option])
    target = flag_parameters(Target)

    def command(**given: Any) -> None:
        out = Output(as_json=given.pop("as_json"))
        chosen = {name: given.pop(name) for name in Target.model_fields}
        named = {name: value for name, value in chosen.items() if value is not None}
        try:
            context = Context(Target(**named), out)
        except ValidationError as error:
            out.failed(settings_problems(error, Target, named), kind=type(error).__name__)
            raise typer.Exit(USAGE) from None
        except (UnicodeDecodeError, OSError) as error:
            out.failed(file_problem(error), kind=type(error).__name__)
            raise typer.Exit(USAGE) from None
        run(lambda: function(context, **given), context)

    text = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
    if example:
        text += f"\n\nExample: [bold]{PROGRAM} {example}[/bold]"
    app.command(name, help=text, rich_help_panel=panel)(with_parameters(command, [*own, *target, as_json]))


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def run(work: Callable[[], Coroutine[Any, Any, None]], context: Context) -> None:
    """Run a command to its end.

    Raises:
        typer.Exit: It failed; one line on standard error says why.
    """
    out = context.out
    try:
        asyncio.run(work())
        sys.stdout.flush()  # What cannot be written is known only now.
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whatever read the output has seen enough.
        raise typer.Exit(0) from None
    except typer.BadParameter as error:
        # In one line, which Typer would fold into a box.
        out.failed(f"invalid {error.param_hint}: {error.message}", kind=type(error).__name__)
        raise typer.Exit(USAGE) from None
    except SessionNotFoundError as error:
        # The library's own text advises programs.
        out.failed(f"no such session in {context.place}: {error.session_id!r}", kind=type(error).__name__)
        raise typer.Exit(NOT_FOUND) from None
    except (AgentNotFoundError, MessageNotFoundError) as error:
        out.failed(str(error), kind=type(error).__name__)
        raise typer.Exit(NOT_FOUND) from None
    except InvalidNameError as error:
        # The names of a command are those that were typed.
        out.failed(str(error), kind=type(error).__name__)
        raise typer.Exit(USAGE) from None
    except PyMongoError as error:
        out.failed(_database_problem(error, context), kind=type(error).__name__)
        raise typer.Exit(UNREACHABLE if _is_unusable(error) else FAILED) from None
    except (SessionStoreError, ValueError, TypeError, OSError) as error:
        out.failed(str(error), kind=type(error).__name__)
        raise typer.Exit(FAILED) from None


def _is_unusable(error: PyMongoError) -> bool:
    return is_away(error) or wants_user(error) or getattr(error, "code", None) in AUTHENTICATION_CODES


def _database_problem(error: PyMongoError, context: Context) -> str:
    # Its note names the hosts of the client that failed, of which there may be two.
    said = told(error) or advice(error, context.uri)
    if said is not None:
        return said
    if isinstance(error, OperationFailure):
        # What the server says names commands and collections, and no content.
        details = error.details or {}
        return f"MongoDB refused it: {details.get('codeName') or type(error).__name__} ({error.code})"
    return f"{type(error).__name__}: {error}"


_SPAN = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, flag: str) -> datetime:
    """Return a moment that a user named: how long ago, or a date.

    Args:
        text: What the user gave: `30d`, `12h`; `2026-01-31`, the beginning of that day in UTC; or a date and time with
            a zone, `2026-01-31T09:30Z`.
        flag: With which flag, for the error.

    Raises:
        typer.BadParameter: None of them, or a time without a zone.
    """
    if span := _SPAN.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is too long ago", param_hint=flag) from None
    try:
        return read_moment(text.strip())[0]
    except NoZoneError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=flag) from None
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither a time span such as 30d, 12h or 90m, nor a date such as 2026-01-31 or "
            "2026-01-31T09:30Z",
            param_hint=flag,
        ) from None
