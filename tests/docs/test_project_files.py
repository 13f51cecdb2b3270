"""Files that other tools read: they name what there is."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mongodb_session_manager.playground.settings import PlaygroundSettings
from mongodb_session_manager.viewer.settings import ViewerSettings
from tests.docs.blocks import ROOT, pages

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
APPS = {name: service for name, service in COMPOSE["services"].items() if name != "mongodb"}
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no `.env` here


@pytest.mark.parametrize("name", APPS)
def test_a_composed_service_runs_what_there_is(name: str) -> None:
    program, *rest = APPS[name]["command"]

    assert program == "python"
    if rest[0] == "-m":
        assert importlib.util.find_spec(f"{rest[1]}.__main__")
    else:
        assert (ROOT / rest[0]).is_file()
    assert set(re.findall(r"\[([\w,]+)\]", APPS[name]["build"]["dockerfile_inline"])) == {"fastapi,playground,viewer"}


def test_composed_services_are_built_under_names_of_their_own() -> None:
    names = [service.get("image", service_name) for service_name, service in APPS.items() if "build" in service]

    # Docker builds them at the same time, and refuses the second of two that export to one name.
    assert len(set(names)) == len(names) > 1


@pytest.mark.parametrize(("name", "settings"), [("viewer", ViewerSettings), ("playground", PlaygroundSettings)])
def test_composed_apps_take_their_settings(name: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in APPS[name]["environment"].items():
        monkeypatch.setenv(variable, value)

    found = settings()

    given = getattr(found, "mongodb_connection_string", None) or found.connection_string
    assert given.get_secret_value() == "mongodb://localhost:27017/?replicaSet=rs0"
    assert (found.database_name, found.collection_name) == ("examples", "sessions")


def test_the_composed_example_takes_its_settings() -> None:
    source = (ROOT / "examples" / "_shared.py").read_text()

    assert all(f'"{variable}"' in source for variable in APPS["example"]["environment"])


def test_what_compose_says_of_the_example_is_there() -> None:
    text = (ROOT / "compose.yaml").read_text()
    source = (ROOT / APPS["example"]["command"][1]).read_text()
    port = APPS["example"]["environment"]["EXAMPLE_PORT"]

    asked = re.findall(r"POST (/\S*?),? ", text) + re.findall(rf"127\.0\.0\.1:{port}(/\S+)", text)

    assert len(asked) >= 2
    assert all(f'@app.post("{path}")' in source for path in asked), asked
    assert all(header in source for header in re.findall(r"-H ('[^']+')", text))


def test_hooks_before_a_commit_run_the_tools_of_make() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]

    for hook in hooks:
        program, *rest = hook["entry"].split()
        known = f"\n{rest[0]}:" if program == "make" else f"$(BIN)/{Path(program).name} {rest[0]}"
        assert known in MAKEFILE, hook["id"]
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "mypy"}
    # What `ruff check .` looks at, notebooks included.
    assert all(set(hook["types_or"]) == {"python", "pyi", "jupyter"} for hook in hooks if "ruff" in hook["entry"])


def test_the_workflow_runs_every_python_that_is_promised_with_both_ends() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [name.rpartition(":: ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]

    matrix = jobs["tests"]["strategy"]["matrix"]

    assert (matrix["python"], matrix["versions"]) == (promised, ["lowest", "newest"])
    verbs = {verb for job in jobs.values() for step in job["steps"] for verb in _make(step.get("run", ""))}
    assert {"lint", "types", "docs", "test-browser", "dist"} <= verbs
    assert all(f"\n{verb}:" in MAKEFILE for verb in verbs)


def _make(command: str) -> list[str]:
    return command.removeprefix("make ").split() if command.startswith("make ") else []


def test_the_tree_in_contributing_names_every_room_and_no_other() -> None:
    package = ROOT / "src" / "mongodb_session_manager"
    tree = (ROOT / "CONTRIBUTING.md").read_text().partition("src/mongodb_session_manager/\n")[2].partition("```")[0]
    named = set(re.findall(r"\b(\w+(?:/|\.py))(?![\w<])", tree)) - {
        "tests/",
        "examples/",
        "benchmarks/",
        "docs/",
        "ci/",
    }

    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in package.glob("*.py")} - {"_version.py"}

    assert named == there


def test_every_dependency_has_a_lowest_version_to_test() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert all(re.match(r"[\w.-]+>=\d", dependency) for dependency in project["dependencies"])
    assert project["requires-python"] == ">=3.11"
    assert project["authors"]
    assert {"Documentation", "Repository", "Issues", "Changelog"} <= project["urls"].keys()


def test_what_is_to_be_installed_is_installed_from_a_clone() -> None:
    files = [*pages(), *(path for path in (ROOT / "examples").iterdir() if path.is_file())]
    asked = {str(path): re.findall(r"pip install[^`\n]*mongodb-session-manager", path.read_text()) for path in files}

    assert {path: commands for path, commands in asked.items() if commands} == {}
