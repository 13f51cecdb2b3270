"""The notebook of the quick start, run cell by cell in a kernel of its own."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.blocks import ROOT

NOTEBOOK = ROOT / "examples" / "quick_start.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_is_stored_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.thorough
async def test_the_notebook_runs_from_top_to_bottom(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")

    ran = await NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).async_execute()

    said = [printed(cell) for cell in ran.cells if cell.cell_type == "code"]
    assert "Alice" in said[1]
    assert "Alice" in said[2]
    assert said[3].splitlines() == ["{'customer': {'tier': 'gold'}, 'priority': 'high'}", "['up']"]
    assert said[4].splitlines()[0] == "4 messages"
    assert "Alice" in said[4]
    assert said[5].strip() == "['customer-12345']"
