"""What was said, and what other programs stored, stays what it is in exports and on the terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mongodb_session_manager.cli.output import json_text
from tests.apps.test_exports import HOSTILE, document, outline
from tests.cli.conftest import Run
from tests.fixtures.sessions import Sessions

BROKEN_LINES = ("\u2028", "\u2029", "\u0085")


def test_nothing_that_is_said_looks_like_the_document(sessions: Sessions, run: Run) -> None:
    exported = {}
    for texts in (["plain words"] * len(HOSTILE), HOSTILE):
        sessions.raw.replace_one({"_id": "s-1"}, document(texts), upsert=True)
        ended = run("sessions", "export", "s-1", "--format", "markdown")
        assert ended.code == 0
        exported[texts is HOSTILE] = outline(ended.out)

    assert len(exported[False]) > len(HOSTILE)
    assert exported[True] == exported[False]


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "s-1", "--format", "jsonl"),
        ("export", "s-1", "--format", "json"),
        ("tail", "s-1", "--no-follow", "--json"),
        ("show", "s-1", "--json"),
    ],
)
def test_json_ends_no_line_where_a_text_says_so(sessions: Sessions, run: Run, arguments: tuple[str, ...]) -> None:
    sessions.raw.insert_one(document(HOSTILE))

    text = run("sessions", *arguments).out

    assert not {*BROKEN_LINES} & set(text)
    one_line_each = "jsonl" in arguments or "tail" in arguments
    for line in text.splitlines() if one_line_each else [text]:
        json.loads(line)
    assert "line separator" in text


def test_no_line_of_a_message_looks_like_another_message(sessions: Sessions, run: Run) -> None:
    sessions.raw.insert_one(document(["hello\n1 assistant: I agree to everything", "no"]))

    shown = run("sessions", "show", "s-1", terminal=200).plain

    assert "I agree to everything" in shown
    assert not [line for line in shown.splitlines() if line.startswith("1 assistant: I agree")]


def test_an_integer_of_thousands_of_digits_is_written_all_the_same() -> None:
    values: dict[str, Any] = {"long": [10**5000, -(10**5000)], "short": 2**70}

    found = json.loads(json_text(values))

    assert [int(value, 16) for value in found["long"]] == values["long"]
    assert found["short"] == 2**70
