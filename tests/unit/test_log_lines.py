"""Ids are the callers' text: a line break in one must not begin a line of a log."""

from __future__ import annotations

import ast
from pathlib import Path

import mongodb_session_manager

SOURCES = sorted(Path(mongodb_session_manager.__file__).parent.rglob("*.py"))


def formats_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    levels = {"debug", "info", "warning", "error", "exception", "log"}
    arguments = [argument for call in calls if call.func.attr in levels for argument in call.args]  # type: ignore[attr-defined]
    return [node.value for node in arguments if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_every_log_call_escapes_the_ids_that_it_writes() -> None:
    formats = [text for path in SOURCES for text in formats_of(path)]

    assert sum("session_id=<%r>" in text for text in formats) > 20
    assert [text for text in formats if "session_id=<%s>" in text or "agent_id=<%s>" in text] == []
