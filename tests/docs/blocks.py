"""The Python code blocks of the documentation, made into modules.

A block stands as a reader sees it. Around it, out of sight:

- names that it uses and does not define, such as `manager` or `session_id`, are declared by `GIVEN`, and names that
  the package exports are imported;
- more can be declared in a comment right before the block: `<!-- given` and a line break, then code, then `-->`;
- `await`, `async with` and `async for` at the top level are put into a coroutine function;
- a block that does not run as it is pasted, since it needs such names or awaits outside of a function, says so to its
  reader: it is a "fragment" by its title;
- a comment `<!-- check only -->` before a block that is complete keeps it from being run.

A block that is complete is run; every block is checked by mypy.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mongodb_session_manager

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"^[ ]*(?:<!-- (?P<comment>given\n.*?|check only)\s*-->\s*?\n+[ ]*)?"
    r"```python(?P<title>[^\n]*)\n(?P<code>.*?)^[ ]*```",
    re.DOTALL | re.MULTILINE,
)

_FROM_PACKAGE = "from mongodb_session_manager import {0} as _{0}\n{1}: _{0}"
GIVEN = {
    "agent": "from strands import Agent as _Agent\nagent: _Agent",
    "app": "from fastapi import FastAPI as _FastAPI\napp: _FastAPI",
    "client": "from typing import Any as _Any\nclient: _Any",
    "factory": _FROM_PACKAGE.format("AsyncMongoDBSessionManagerFactory", "factory"),
    "manager": _FROM_PACKAGE.format("AsyncMongoDBSessionManager", "manager"),
    "message": "message: str",
    "model": "from strands.models.model import Model as _Model\nmodel: _Model",
    "prompt": "prompt: str",
    "repository": _FROM_PACKAGE.format("AsyncMongoDBSessionRepository", "repository"),
    "request_id": "request_id: str",
    "session_id": "session_id: str",
    "uri": "uri: str",
}
SYNC_GIVEN = GIVEN | {
    "factory": _FROM_PACKAGE.format("MongoDBSessionManagerFactory", "factory"),
    "manager": _FROM_PACKAGE.format("MongoDBSessionManager", "manager"),
    "repository": _FROM_PACKAGE.format("MongoDBSessionRepository", "repository"),
}

# Readers are spared annotations; everything inside is checked all the same. The rest is the project's own strictness.
_RELAXED = (
    "# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False\n"
    '# mypy: disallow-untyped-decorators=False, disable-error-code="var-annotated,empty-body"\n'
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: Where it stands, relative to the project.
        line: Its first line there.
        code: What the reader sees.
        given: What a comment before it declares.
        check_only: Whether a comment keeps it from being run.
        marked: Whether its title says that it is a fragment.
    """

    page: str
    line: int
    code: str
    given: str = ""
    check_only: bool = False
    marked: bool = False

    @property
    def name(self) -> str:
        """A name for its module."""
        return re.sub(r"\W", "_", self.page.removesuffix(".md")).lower() + f"_{self.line}"

    @property
    def undefined(self) -> list[str]:
        """Names that it uses and nothing in it or before it defines."""
        used, defined = _names(self.given + "\n" + self.code)
        return sorted(used - defined - set(dir(builtins)) - {"__name__"})

    @property
    def complete(self) -> bool:
        """Whether it can be run as it stands."""
        return not (self.undefined or self.given or self.check_only)

    @property
    def fragment(self) -> bool:
        """Whether a reader cannot run it as it is pasted."""
        return bool(self.undefined or self.given or self.awaits)

    @property
    def awaits(self) -> bool:
        """Whether it awaits something outside of any function."""
        return _awaits(_parsed(self.code))

    def module(self) -> str:
        """Return it as a module that mypy can check and Python can run."""
        table = GIVEN if self.awaits else SYNC_GIVEN
        exported = {name: f"from mongodb_session_manager import {name}" for name in mongodb_session_manager.__all__}
        declared = "\n".join((table | exported)[name] for name in self.undefined if name in table | exported)
        code = self.code
        if self.awaits:
            code = f"async def _block() -> None:\n{textwrap.indent(code, '    ')}"
        return f"{_RELAXED}{declared}\n{self.given}\n{code}"


def pages() -> list[Path]:
    """Return every page of the documentation, the README first."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def all_blocks() -> list[Block]:
    """Return every Python block of every page."""
    return [block for page in pages() for block in _blocks(page)]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        comment = found["comment"] or ""
        yield Block(
            page=str(page.relative_to(ROOT)),
            line=text[: found.start("code")].count("\n") + 1,
            code=textwrap.dedent(found["code"]),
            given=textwrap.dedent(comment.partition("\n")[2]) if comment.startswith("given") else "",
            check_only=comment == "check only",
            marked='title="fragment"' in found["title"],
        )


def _parsed(code: str) -> ast.Module:
    return compile(code, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)  # type: ignore[no-any-return]


def _names(code: str) -> tuple[set[str], set[str]]:
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(_parsed(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                defined |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
    return used, defined


def _awaits(node: ast.AST) -> bool:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Await | ast.AsyncWith | ast.AsyncFor) or _awaits(child):
            return True
    return False
