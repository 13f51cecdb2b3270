"""Repairs stored tool-use pairs: which messages change, and to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from strands.types.content import Message
from strands.types.session import SessionMessage

from .tool_pairs import PairRepair


def repair_agent(messages: Sequence[SessionMessage]) -> tuple[list[dict[str, Any]], list[SessionMessage]]:
    """Return what is broken in one agent's history, and the messages that a repair changes.

    Returns:
        Reports `{"message_id", "kind", "tool_use_ids"}`, and the changed messages; those redacted stay redacted.
    """
    repair = PairRepair([(message.message_id, message.to_message()) for message in messages])
    broken = [
        {"message_id": pair.message_id, "kind": pair.kind, "tool_use_ids": list(pair.tool_use_ids)}
        for pair in repair.broken_pairs()
    ]
    by_id = {message.message_id: message for message in messages}
    return broken, [_with_content(by_id[message_id], content) for message_id, content in repair.new_contents()]


def _with_content(message: SessionMessage, content: list[Any]) -> SessionMessage:
    changed = cast("Message", {**message.to_message(), "content": content})
    if message.redact_message is not None:
        return replace(message, redact_message=changed)
    return replace(message, message=changed)
