"""The title of a session: the first thing that a person said in it, on one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import paths
from .messages import has_tool_result, text_of

TITLE_CHARACTERS = 120
"""Most characters of a title."""

_READ_CHARACTERS = 4096


def title_of(message: Mapping[str, Any]) -> str | None:
    """Return the title that a message gives a session, None for one that no person said or that has no text.

    Args:
        message: Role and content; a redaction may lack the role. With a redaction beside them, as older tools store
            it, that gives the title.
    """
    if not is_said_by_person(message):
        return None
    redacted = message.get(paths.REDACT_MESSAGE)
    shown = redacted if isinstance(redacted, Mapping) else message
    # Blank space of any kind becomes one space each; what is far behind the limit is not looked at.
    return cut_title(text_of(shown)[:_READ_CHARACTERS])


def is_said_by_person(message: Mapping[str, Any]) -> bool:
    """Tell whether a message is neither a model's nor a tool's."""
    return message.get("role", "user") == "user" and not has_tool_result(message)


def cut_title(text: str) -> str | None:
    """Return text as a title, one line of at most `TITLE_CHARACTERS`; None for blank text."""
    line = " ".join(text.split())
    if len(line) > TITLE_CHARACTERS:
        line = f"{line[: TITLE_CHARACTERS - 1].rstrip()}…"
    return line or None
