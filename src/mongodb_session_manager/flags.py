"""Settings of a program as flags of its command line: one flag for each, over the environment and `.env`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from docstring_parser import DocstringStyle
from docstring_parser import parse as parse_docstring
from pydantic import AfterValidator, AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from .extras import needs
from .schema.names import collection_rule, database_rule

with needs("cli"):
    import typer

S = TypeVar("S", bound=BaseSettings)

COMMAND: dict[str, Any] = {
    "rich_markup_mode": "rich",
    "pretty_exceptions_enable": False,
}
"""How every command line of this package is set up: an unexpected error shows Python's own traceback, no values."""

# The part of a setting's name that tells it from those of other programs, and says nothing in an app's own flags.
_OWN_PREFIX = re.compile(r"^(?:backend|viewer|playground|mongodb)_(?=port$|host$|password$|connection_string$)|_str$")


@dataclass(frozen=True)
class Flag:
    """The flag of one setting.

    Attributes:
        name: Such as `--port`.
        variable: The environment variable of the setting.
        help: What it is for.
        annotation: `bool | None` for a switch, `str | None` for everything else: the settings check their values.
        metavar: What the help shows as its value.
    """

    name: str
    variable: str
    help: str
    annotation: Any
    metavar: str | None


def flags_of(settings: type[BaseSettings]) -> dict[str, Flag]:
    """Return the flag of each field of a settings class.

    The help comes from the class's docstring, section `Attributes`.
    """
    explained = {
        entry.arg_name: entry.description or ""
        for entry in parse_docstring(inspect.getdoc(settings) or "", DocstringStyle.GOOGLE).params
    }
    return {name: _flag(name, field, explained.get(name, "")) for name, field in settings.model_fields.items()}


def settings_command(settings: type[S], start: Callable[[S], None], *, title: str) -> Callable[..., None]:
    """Return a command for Typer that has a flag for each setting and starts an app.

    Args:
        settings: What the app needs to know. A flag wins over the environment, and that over `.env`.
        start: Starts the app; what it raises as `SystemExit` ends the program.
        title: Names the app in errors, such as `Session Viewer`.
    """

    def command(**given: str | bool | None) -> None:
        chosen = {name: value for name, value in given.items() if value is not None}
        start(read_settings(settings, chosen, title=title))

    return with_parameters(command, flag_parameters(settings))


def with_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Give a function that takes keywords the parameters that Typer is to see."""
    command.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return command


def flag_parameters(settings: type[BaseSettings]) -> list[inspect.Parameter]:
    """Return the flags of a settings class as parameters of a command for Typer."""
    return [_parameter(name, flag) for name, flag in flags_of(settings).items()]


def read_settings(settings: type[S], given: Mapping[str, Any], *, title: str) -> S:
    """Return settings from the environment and `.env`, with the values of flags over them.

    Raises:
        SystemExit: A setting is not allowed; one line names the setting, or the flag when that gave it.
    """
    try:
        return settings(**dict(given))
    except ValidationError as error:
        raise SystemExit(f"{title} cannot start: {settings_problems(error, settings, given)}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise SystemExit(f"{title} cannot start: {file_problem(error)}") from None


def file_problem(error: UnicodeDecodeError | OSError) -> str:
    """Return why the file of settings could not be read, in one line and with nothing of what it holds."""
    reason = "it must be text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"{error.strerror}"
    return f"cannot read .env in this folder: {reason}"


def _named(rule: Callable[[str], str | None]) -> AfterValidator:
    def check(name: str) -> str:
        if (broken := rule(name)) is not None:
            raise ValueError(broken)
        return name

    return AfterValidator(check)


DatabaseName = Annotated[str, _named(database_rule)]
CollectionName = Annotated[str, _named(collection_rule)]


def settings_problems(
    error: ValidationError, settings: type[BaseSettings] | None = None, given: Mapping[str, Any] | None = None
) -> str:
    """Return what is wrong with an app's settings, in one line and without the values, of which some are secret.

    Args:
        error: What pydantic found.
        settings: The class of the settings, to name flags.
        given: Settings that flags gave, by the names of their fields.
    """
    by_flag: dict[str, str] = {}
    if settings is not None:
        for name, flag in flags_of(settings).items():
            if name in (given or {}):
                by_flag |= dict.fromkeys({name, *_variables(name, settings.model_fields[name])}, flag.name)
    said: list[str] = []
    for problem in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        setting = by_flag.get(place) or place.upper()
        # pydantic puts this before what a validator of ours said.
        message = problem["msg"].removeprefix("Value error, ")
        said.append(f"{setting}: {message}" if setting else message)
    return "; ".join(said)


def run_command(
    command: Callable[..., None], *, module: str, about: str, arguments: Sequence[str] | None = None
) -> None:
    """Run a program that is one command.

    Args:
        command: What `settings_command` returned.
        module: How the program is started, for its help: `mongodb_session_manager.viewer`.
        about: The text of its help; `{program}` stands for the way it is started.
        arguments: Its command line; None takes the process's.
    """
    program = f"python -m {module}"
    app = typer.Typer(add_completion=False, **COMMAND)
    app.command(help=about.format(program=program))(command)
    # Under a name of its own: Typer would show `__main__.py`.
    app(args=None if arguments is None else list(arguments), prog_name=program)


def _flag(name: str, field: FieldInfo, explained: str) -> Flag:
    variable = _variables(name, field)[0]
    # The reference repeats the variable at the beginning.
    text = re.sub(rf"^`{variable}`[:;.,]?\s*", "", " ".join(explained.split()))
    text = text[:1].upper() + text[1:]
    secret = SecretStr in (field.annotation, *get_args(field.annotation))
    if secret and "connection" not in name:
        text += " Others on this machine can see it in the list of processes; the variable is safer."
    if get_origin(field.annotation) is Literal:
        text += f" One of {', '.join(map(str, get_args(field.annotation)))}."
    shown = f"[env: {variable}]" if field.default in (None, "") else f"[env: {variable}] [default: {field.default}]"
    is_switch = field.annotation is bool
    return Flag(
        name="--" + _OWN_PREFIX.sub("", name).replace("_", "-"),
        variable=variable,
        help=f"{text} {shown}".strip().replace("[", "\\["),
        annotation=bool | None if is_switch else str | None,
        metavar=None if is_switch else "NUMBER" if field.annotation in (int, float) else "TEXT",
    )


def _variables(name: str, field: FieldInfo) -> list[str]:
    """Return the environment variables of a field, the one to use first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias] if isinstance(alias, str) else [name.upper()]


def _option(flag: Flag) -> Any:
    is_switch = flag.annotation == (bool | None)
    names = f"{flag.name}/--no-{flag.name[2:]}" if is_switch else flag.name
    declared = typer.Option(names, help=flag.help, metavar=flag.metavar, show_default=False)
    return Annotated[flag.annotation, declared]


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(flag))
