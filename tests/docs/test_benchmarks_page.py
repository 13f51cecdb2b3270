from __future__ import annotations

import importlib
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import DOCS, ROOT

RESULTS = DOCS / "benchmarks" / "peers.json"
PLOTS = ("requests.svg", "lag.svg", "growth.svg")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Benchmarks are scripts: they import what lies beside them by its bare name.
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("peers.report")


def test_the_page_shows_what_was_measured(report: Any, tmp_path: Path) -> None:
    page = Path(shutil.copy(DOCS / "benchmarks.md", tmp_path))

    report.write_page(json.loads(RESULTS.read_text()), page)

    assert page.read_text() == (DOCS / "benchmarks.md").read_text(), "write it again: make bench-peers ARGS=--page"
    for plot in PLOTS:
        assert (tmp_path / "benchmarks" / plot).read_text() == (DOCS / "benchmarks" / plot).read_text()


def test_plots_name_every_system(report: Any) -> None:
    found = json.loads(RESULTS.read_text())

    for plot in PLOTS:
        tree = ElementTree.parse(DOCS / "benchmarks" / plot)
        texts = {element.text for element in tree.iter() if element.tag.endswith("text")}
        assert texts.issuperset(found["systems"]), plot


def test_a_page_without_a_place_for_the_numbers_is_an_error(report: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")

    with pytest.raises(ValueError, match="has no lines"):
        report.write_page(json.loads(RESULTS.read_text()), page)

    assert page.read_text() == "# Nothing\n"
