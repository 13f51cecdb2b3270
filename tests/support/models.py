"""The scripted model, by the names the tests know, and what a message says."""

from __future__ import annotations

from collections.abc import Sequence

from strands.types.content import Message

from mongodb_session_manager.testing import (
    HistoryRefusedError,
    Reply,
    Scripted,
    ScriptedModel,
    blocked,
    calls,
    check_history,
)

__all__ = [
    "HistoryRefusedError",
    "Reply",
    "Scripted",
    "ScriptedModel",
    "blocked",
    "calls",
    "check_history",
    "text_of",
    "texts",
]


def text_of(message: Message) -> str:
    """Return the text blocks of a message, joined."""
    return "".join(block["text"] for block in message["content"] if "text" in block)


def texts(messages: Sequence[Message]) -> list[str]:
    """Return the text of each message, "" for those that only carry tool calls or results."""
    return [text_of(message) for message in messages]
