from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import strands.agent.agent

from mongodb_session_manager import close_global_factory
from mongodb_session_manager.offline import OfflineModel
from tests.docs.blocks import ROOT, Block, all_blocks, pages

BLOCKS = all_blocks()
SERVER_IN_DOCS = "mongodb://localhost:27017/"


def test_every_page_is_looked_at() -> None:
    fences = sum(page.read_text().count("```python") for page in pages())

    assert fences == len(BLOCKS) > 50


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_blocks_are_correctly_typed(tmp_path: Path) -> None:
    assert type_errors(BLOCKS, tmp_path) == []


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_mistakes_in_blocks_are_found(tmp_path: Path) -> None:
    mistakes = {
        "await manager.no_such_method()\n": "no_such_method",
        "manager.delete_metadata(1)\n": "arg-type",
        "print(never_heard_of)\n": "never_heard_of",
        "def hook(original_func):\n    return undefined_inside\n": "undefined_inside",
    }
    blocks = [Block("page.md", line, code) for line, code in enumerate(mistakes)]

    found = type_errors(blocks, tmp_path)

    assert len(found) == len(mistakes)
    assert all(mistake in error for mistake, error in zip(mistakes.values(), found, strict=True))


def type_errors(blocks: Sequence[Block], folder: Path) -> list[str]:
    """Return mypy's errors, a line for each."""
    for block in blocks:
        (folder / f"{block.name}.py").write_text(block.module())
    # With the project's own configuration, and so with its cache: only the blocks are new.
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(folder)],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode in (0, 1), checked.stdout + checked.stderr
    # From the cache come the paths of the run that filled it.
    return sorted(re.sub(r"^\S*/", "", line) for line in checked.stdout.splitlines() if ": error:" in line)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_fragment_says_so_and_nothing_else_does(block: Block) -> None:
    assert block.marked == block.fragment, f'begin it with ```python title="fragment" ({block.undefined})'


def test_a_block_is_told_by_what_it_needs() -> None:
    complete = Block("page.md", 1, "import os\n\n\ndef name():\n    return os.name\n")
    needs = Block("page.md", 2, "async with manager as opened:\n    print(opened, session_id)\n")

    assert (complete.complete, complete.awaits) == (True, False)
    assert (complete.fragment, needs.fragment) == (False, True)
    assert (needs.complete, needs.awaits, needs.undefined) == (False, True, ["manager", "session_id"])
    assert "import AsyncMongoDBSessionManager" in needs.module()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.complete], ids=lambda block: block.name)
def test_complete_block_runs(
    block: Block, mongo_uri: str, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The model that an Agent has unless it is given one needs a network and credentials.
    monkeypatch.setattr(strands.agent.agent, "BedrockModel", lambda **_: OfflineModel())
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", mongo_uri)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.chdir(tmp_path)
    with_options = f"{mongo_uri}{'&' if '?' in mongo_uri else '?'}"
    code = block.module().replace(f"{SERVER_IN_DOCS}?", with_options).replace(SERVER_IN_DOCS, mongo_uri)
    for name in ("my_app", "chats"):
        code = code.replace(f'"{name}"', f'"{database_name}"')
    namespace: dict[str, Any] = {"__name__": f"docs_{block.name}"}

    try:
        exec(compile(code, f"{block.page}:{block.line}", "exec", dont_inherit=True), namespace)
        if block.awaits:
            asyncio.run(namespace["_block"]())
    finally:
        close_global_factory()
