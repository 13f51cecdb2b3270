"""Stored messages and feedback as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strands.types.session import SessionMessage

from ..errors import CorruptMessageError
from ..schema.messages import iso_date, read_date
from ..web.plain import count_or_none, number_or_none, storable_text
from .blocks import json_text, plain, shown_blocks
from .schemas import ChatMessage, Feedback, Usage


def message_blocks(message: SessionMessage) -> list[dict[str, Any]]:
    """Return the blocks of a stored message, of a redacted one those that take its place."""
    shown = message.message if message.redact_message is None else message.redact_message
    return shown_blocks(shown.get("content"))


def chat_message(message: SessionMessage) -> ChatMessage:
    """Return a stored message as the API gives it."""
    metadata = message.message.get("metadata")
    usage, metrics = _fields(metadata, "usage"), _fields(metadata, "metrics")
    return ChatMessage(
        message_id=message.message_id,
        role=storable_text(str(message.message["role"])),
        blocks=message_blocks(message),
        created_at=message.created_at,
        redacted=message.redact_message is not None,
        usage=_usage(usage) if any(usage.values()) else None,
        # 0 stands for unknown.
        latency_ms=number_or_none(metrics.get("latencyMs")) or None,
        time_to_first_byte_ms=number_or_none(metrics.get("timeToFirstByteMs")) or None,
    )


def unreadable_message(position: int, error: CorruptMessageError) -> ChatMessage:
    """Return what stands in the place of a stored message that cannot be read."""
    number = error.message_id
    return ChatMessage(
        message_id=number if isinstance(number, int) else position,
        role="unknown",
        blocks=[{"type": "other", "kind": "unreadable message"}],
        created_at=iso_date(None),
        redacted=False,
        usage=None,
        latency_ms=None,
        time_to_first_byte_ms=None,
    )


def _fields(holder: object, name: str) -> Mapping[str, Any]:
    """Return an object in an object; an empty one where another tool left something else."""
    found = holder.get(name) if isinstance(holder, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=count_or_none(usage.get("inputTokens")),
        output=count_or_none(usage.get("outputTokens")),
        total=count_or_none(usage.get("totalTokens")),
        cache_read=count_or_none(usage.get("cacheReadInputTokens")),
        cache_write=count_or_none(usage.get("cacheWriteInputTokens")),
    )


def chat_feedback(feedback: Mapping[str, Any]) -> Feedback:
    """Return a stored feedback as the API gives it; nothing in it is relied upon."""
    return Feedback(
        rating=_text(feedback.get("rating", "")),
        comment=_text(feedback.get("comment") or ""),
        message_id=count_or_none(feedback.get("message_id")),
        created_at=read_date(feedback.get("created_at")),
    )


def _text(value: object) -> str:
    return value_text if isinstance(value_text := plain(value), str) else json_text(value)
