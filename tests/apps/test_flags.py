"""The command lines of the apps: a flag for each setting, and one line for what keeps an app from starting."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mongodb_session_manager.flags import flags_of
from mongodb_session_manager.playground import __main__ as playground
from mongodb_session_manager.playground.settings import PlaygroundSettings
from mongodb_session_manager.viewer import __main__ as viewer
from mongodb_session_manager.viewer.settings import ViewerSettings
from mongodb_session_manager.web import run_command, settings_command

pytestmark = pytest.mark.timeout(60)

Main = Callable[[Sequence[str]], None]

APPS = [
    pytest.param(viewer.main, ViewerSettings, "VIEWER_PORT", id="viewer"),
    pytest.param(playground.main, PlaygroundSettings, "PLAYGROUND_PORT", id="playground"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no `.env` here
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", "mongodb://127.0.0.1:9/")


def ended(main: Main, *arguments: str) -> str:
    """Return the one line that a program ends with."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = end.value.code
    assert isinstance(said, str), said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_help_shows_every_setting_and_an_example(
    main: Main, settings: type[BaseSettings], port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])

    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "Example:" in shown
    assert max(map(len, shown.splitlines())) <= 80
    for flag in flags_of(settings).values():
        assert re.search(rf"{flag.name}\b", shown), flag
        assert flag.variable in shown
        assert len(flag.help.split("\\[")[0]) > 10, flag


@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_each_setting_has_a_flag_of_its_own(main: Main, settings: type[BaseSettings], port: str) -> None:
    flags = flags_of(settings)

    assert set(flags) == set(settings.model_fields)
    assert len({flag.name for flag in flags.values()}) == len(flags)
    assert {"--host", "--port", "--connection-string", "--database-name"} <= {flag.name for flag in flags.values()}


@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_a_busy_port_is_one_line_that_names_the_setting(main: Main, settings: type[BaseSettings], port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]

        said = ended(main, "--port", str(number))

    assert f"{port}: port {number} of 127.0.0.1 is in use" in said
    assert "--port" in said


@pytest.mark.parametrize(
    "uri",
    [
        "mongo://u:hunter2@127.0.0.1/",
        "mongodb://u:hunter2@ss/w@127.0.0.1/",
        "mongodb://u:hunter2/w@127.0.0.1/",
        "mongodb://u:hunter2@127.0.0.1:port/",
        "mongodb://",
    ],
)
@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_a_malformed_connection_string_is_one_line_without_it(
    main: Main, settings: type[BaseSettings], port: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_flag = ended(main, "--port", "0", "--connection-string", uri)
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", uri)
    by_variable = ended(main, "--port", "0")

    assert by_flag == by_variable
    assert "MONGODB_CONNECTION_STRING: " in by_flag
    assert "hunter2" not in by_flag


@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_a_value_that_cannot_be_names_its_flag_or_its_variable(
    main: Main, settings: type[BaseSettings], port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_flag = ended(main, "--port", "many")
    monkeypatch.setenv(port, "many")
    by_variable = ended(main)

    assert "--port: Input should be a valid integer" in by_flag
    assert f"{port}: Input should be a valid integer" in by_variable


@pytest.mark.parametrize(("main", "settings", "port"), APPS)
def test_a_file_of_settings_that_is_no_utf_8_is_one_line(main: Main, settings: type[BaseSettings], port: str) -> None:
    Path(".env").write_bytes(b"DATABASE_NAME=caf\xe9\n")

    assert ended(main).endswith(" cannot start: cannot read .env in this folder: it must be text in UTF-8")


class Settings(BaseSettings):
    """Settings of an app.

    Attributes:
        port: `APP_PORT`: where it listens.
        speed: How fast.
        reload: `APP_RELOAD`: starts again when a file changes.
    """

    model_config = SettingsConfigDict(env_file=".env", populate_by_name=True)

    port: int = Field(default=1, validation_alias=AliasChoices("APP_PORT", "OLD_PORT"))
    speed: float = 1.0
    reload: bool = Field(default=False, validation_alias="APP_RELOAD")


def test_a_flag_wins_over_the_environment_and_that_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    command = settings_command(Settings, lambda settings: started.append(settings.model_dump()), title="it")
    (tmp_path / ".env").write_text("APP_PORT=2\nSPEED=2\nAPP_RELOAD=true\n")
    monkeypatch.setenv("OLD_PORT", "3")

    for arguments in ([], ["--port", "4"], ["--no-reload", "--speed", "0.5"]):
        with pytest.raises(SystemExit) as end:
            run_command(command, module="app", about="It.", arguments=arguments)
        assert end.value.code == 0

    assert started == [
        {"port": 3, "speed": 2.0, "reload": True},
        {"port": 4, "speed": 2.0, "reload": True},
        {"port": 3, "speed": 0.5, "reload": False},
    ]
