"""The page on MongoDB versions names every operator that the code sends, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import DOCS, ROOT

PACKAGE = ROOT / "src" / "mongodb_session_manager"
PAGE = (DOCS / "how-to" / "mongodb-versions.md").read_text()
OPERATOR = re.compile(r"\$[a-z][a-zA-Z]+")
NOT_SENT = {
    "offline.py": {"$ref", "$defs"},  # JSON Schema
    "schema/archives.py": {"$message"},  # paths of an aggregation
    "viewer/totals.py": {"$used"},
}
"""Texts that look like operators, by module."""


def operators(code: str) -> set[str]:
    """Return the texts of a module that may be operators: a whole text, as keys of queries are."""
    return set(filter(OPERATOR.fullmatch, _texts(ast.parse(code))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                yield text


def _sent() -> dict[str, set[str]]:
    sent = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        sent[name] = operators(path.read_text()) - NOT_SENT.get(name, set())
    return sent


def _rows(heading: str) -> dict[str, set[str]]:
    section = PAGE.partition(f"{heading}\n")[2].partition("\n#")[0]
    rows = (line.strip("|").split("|", 1) for line in section.splitlines() if line.startswith("| "))
    return {where.strip(): set(re.findall(r"`(\$[a-zA-Z]+)`", names)) for where, names in rows}


def test_the_page_names_every_operator_that_is_sent_and_no_other() -> None:
    sent = set().union(*_sent().values())
    named = set().union(*_rows("### All operators").values())

    assert sent - named == set()
    assert named - sent == set()


def test_what_sessions_need_is_not_hidden_among_the_apps() -> None:
    of_apps = _rows("### All operators")["the apps"] | _rows("### All operators")["`doctor`"]
    engine = {
        name: found & of_apps
        for name, found in _sent().items()
        if Path(name).parts[0] in ("client", "session", "store", "schema", "storage", "sync")
    }

    assert {name: found for name, found in engine.items() if found} == {}


def test_what_looks_like_an_operator_is_still_there() -> None:
    gone = {name: names - operators((PACKAGE / name).read_text()) for name, names in NOT_SENT.items()}

    assert not any(gone.values()), gone


def test_operators_are_found() -> None:
    assert operators('f({"$set": {"a.$": 1}, "$$this": "$field of"}, "$in")') == {"$set", "$in"}
