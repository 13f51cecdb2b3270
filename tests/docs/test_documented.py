from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from pydantic import AliasChoices

import mongodb_session_manager
from mongodb_session_manager.playground.settings import PlaygroundSettings
from mongodb_session_manager.viewer.settings import ViewerSettings
from tests.docs.blocks import DOCS

REFERENCE = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
SETTINGS = (DOCS / "reference" / "settings.md").read_text()

_ENTRY = re.compile(
    r"^::: (?P<path>[\w.]+)$|^#+ `(?P<heading>\w+)`$|\[`(?P<elsewhere>\w+)`\]\([\w./]+\.md", re.MULTILINE
)


def _documented(package: str) -> set[str]:
    names = set()
    for entry in _ENTRY.finditer(REFERENCE):
        module, _, name = (entry["path"] or "").rpartition(".")
        if module == package:
            names.add(name)
        names |= {entry["heading"] or "", entry["elsewhere"] or ""}
    return names


@pytest.mark.parametrize("package", ["", ".embedded", ".fastapi", ".hooks", ".otel", ".storage", ".testing"])
def test_every_exported_name_has_an_entry_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"mongodb_session_manager{package}")

    assert set(module.__all__) - _documented(module.__name__) == set()


def test_every_public_name_has_its_place_among_the_others() -> None:
    page = (DOCS / "reference" / "index.md").read_text()

    assert set(mongodb_session_manager.__all__) - set(re.findall(r"`(\w+)`", page)) == set()


def test_every_entry_in_the_reference_exists() -> None:
    for entry in re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE):
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module), name), entry


def _settings(model: type[Any]) -> dict[str, str]:
    """Return the environment variables of an app, and what their defaults look like in a table."""
    found = {}
    for name, field in model.model_fields.items():
        default = field.default
        alias = field.validation_alias
        variable = alias.choices[0] if isinstance(alias, AliasChoices) else alias
        found[str(variable or name.upper())] = f"`{default}`" if default not in (None, "") else ""
    return found


@pytest.mark.parametrize(
    ("heading", "model"), [("## Session Viewer", ViewerSettings), ("## Chat playground", PlaygroundSettings)]
)
def test_every_setting_is_documented_with_its_default(heading: str, model: type[Any]) -> None:
    section = SETTINGS.partition(heading)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", section, re.MULTILINE)

    assert dict(rows) == _settings(model)
