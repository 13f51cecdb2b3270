"""Stored fields are spelled out in `schema/paths.py`; everything else names them by its constants and functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mongodb_session_manager
from mongodb_session_manager.schema import paths

SOURCE = Path(mongodb_session_manager.__file__).parent
HOME = "schema/paths.py"

STORED = {
    name for key, path in vars(paths).items() if key.isupper() and isinstance(path, str) for name in path.split(".")
}
"""Every name of a field that is stored, whatever it is below."""

ENGINE = ("schema/", "store/", "session/", "storage/")
"""Where a word that is the name of a stored field is taken for one; elsewhere only in a path, or where it is rare."""

COMMON = {
    *("action", "agent", "agent_id", "agents", "application_name", "archive", "count", "created_at", "data", "end"),
    *("error", "errors", "expires_at", "extra", "feedbacks", "generation", "id", "items", "key", "lease", "list"),
    *("message_id", "messages", "metadata", "model", "number", "payloads", "prompt_metadata", "rating", "ratings"),
    *("session_id", "session_type", "size", "start", "state", "stop_reason", "summary", "system_prompt", "text"),
    *("timestamp", "title", "token", "trace", "updated_at", "usage", "version", "window"),
}
"""Names that APIs, hooks and other tools have as well: outside the engine such a word alone is no stored field."""

GENERIC = {"agent", "count", "data", "end", "error", "id", "items", "key", "list", "number", "size", "start", "text"}
GENERIC |= {"action", "generation", "state", "title", "token", "trace", "version", "writes", "timestamp", "model"}
"""Names that mean many things in the engine, too: only a path of several names, or one after `$`, is taken for them."""

OPERATORS = {"size", "text"}
"""`$size` and `$text` are MongoDB's own."""

EXCEPTIONS = {
    ("schema/messages.py", "metadata"): "Strands' key of a message, stored as it is",
    ("schema/metrics.py", "metadata"): "Strands' key of a message",
    ("schema/forks.py", "metadata"): "Strands' key of a message",
    ("schema/forks.py", "usage"): "Strands' key below a message's metadata",
    ("schema/migrate.py", "metadata"): "Strands' key of a message",
    ("session/record.py", "metadata"): "Strands' key of a message",
    ("session/held.py", "metadata"): "Strands' key of a message",
    ("session/tracker.py", "metadata"): "Strands' key of a message",
    ("session/redactions.py", "stop_reason"): "argument of `redact_latest_message`",
    ("session/manager.py", "agents"): "argument of `open`, named in errors",
    ("session/operations.py", "system_prompt"): "argument of `update_agent_config`",
    ("session/operations.py", "prompt_metadata"): "argument of `update_agent_config`",
    ("store/repository.py", "system_prompt"): "argument of `update_agent_config`",
    ("store/repository.py", "prompt_metadata"): "argument of `update_agent_config`",
    ("store/repository.py", "message_id"): "argument, named in errors",
    ("session/view.py", "message_id"): "argument, named in errors",
    ("store/repository.py", "session_id"): "report of `repair_session`",
    ("store/repository.py", "agents"): "report of `repair_session`",
    ("store/repair.py", "message_id"): "report of `repair_session`",
    ("store/orphans.py", "payloads"): "report of a sweep",
    ("session/turn.py", "lease"): "name of a background job",
    ("migrate/snapshots.py", "conversation_manager_state"): "form of Strands' snapshots",
    ("migrate/snapshots.py", "_internal_state"): "form of Strands' snapshots",
    ("migrate/snapshots.py", "schema_version"): "form of Strands' snapshots",
    ("migrate/logs.py", "multi_agents"): "folder of Strands' message logs",
    ("session/turn.py", "lease_s"): "argument of `turn`, named in errors",
    ("fastapi/sessions.py", "lease_s"): "argument of `turn`",
    ("store/lease.py", "lease"): "name of a background job",
}
"""What is spelled like a stored field and is none, by file and name."""


def test_stored_fields_are_spelled_out_in_one_module() -> None:
    found = {
        (place.relative_to(SOURCE).as_posix(), line, text, name)
        for place in sorted(SOURCE.rglob("*.py"))
        for line, text, name in fields_in(place.read_text(), place.relative_to(SOURCE).as_posix())
    }

    strays = [f"{file}:{line}: {text!r}" for file, line, text, name in sorted(found) if (file, name) not in EXCEPTIONS]

    assert not strays, "name these by schema/paths.py, or add an exception with its reason:\n" + "\n".join(strays)
    assert EXCEPTIONS.keys() <= {(file, name) for file, _, _, name in found}, "an exception is not needed any more"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("document['archived_count']", "archived_count"),
        ("document.get('messages')", "messages"),
        ("query = {'lease.token': token}", "lease"),
        ("expression = '$metadata.x'", "metadata"),
        ("expression = '$$agent.v.messages'", "messages"),
        ("path = f'agents.{key}'", "agents"),
        ("path = f'{holder}.redactions'", "redactions"),
        ("path = f'{holder}.$.updated_at'", "updated_at"),
    ],
)
def test_a_planted_field_is_found(code: str, name: str) -> None:
    assert name in {found for _, _, found in fields_in(code, "store/planted.py")}


@pytest.mark.parametrize("code", ["{'$size': 1}", "say('the messages of agents')", "'''metadata'''", "'$$agent.k'"])
def test_what_is_no_field_is_not_taken_for_one(code: str) -> None:
    assert not list(fields_in(code, "store/planted.py"))


def test_outside_the_engine_paths_are_found_and_common_words_are_not() -> None:
    code = "answer['messages'], '$summary.messages', document['archived_count']"

    assert {text for _, text, _ in fields_in(code, "viewer/planted.py")} == {"$summary.messages", "archived_count"}


def test_every_field_has_one_name() -> None:
    names = [path for key, path in vars(paths).items() if key.isupper() and isinstance(path, str)]

    assert len(names) == len(set(names))


def fields_in(code: str, file: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, literal and name of the stored fields that code spells out."""
    if file == HOME:
        return
    tree = ast.parse(code)
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    pieces = {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in described:
            continue
        for name in _fields_of(node.value, is_piece=id(node) in pieces, is_engine=file.startswith(ENGINE)):
            yield node.lineno, node.value, name


def _fields_of(text: str, *, is_piece: bool, is_engine: bool) -> set[str]:
    """Return the stored fields that a literal names.

    Args:
        text: The literal.
        is_piece: It is a part of an f-string, so a dot at its end leads on.
        is_engine: It stands in the engine.
    """
    if re.fullmatch(r"[$\w.]+", text) is None:
        return set()
    is_expression = text.startswith("$") and not text.startswith("$.")
    names = [name for name in re.sub(r"^\$\$\w+|^\$", "", text).split(".") if name and name != "$"]
    if is_piece and not ("." in text or is_expression):
        return set()  # A word inside a sentence or a name of its own.
    is_path = is_expression or "." in text.strip(".") or is_piece
    found = STORED.intersection(names)
    if is_expression and len(names) == 1:
        return found - OPERATORS - (set() if is_engine else GENERIC)
    if is_path:
        # Other dotted texts, such as the name of a file or a module, have no more than one word in common with them.
        is_certain = is_expression or is_piece or STORED.issuperset(names[:1])
        return found - GENERIC if is_certain else set()
    return found - GENERIC if is_engine else found - GENERIC - COMMON
