"""Stored messages and feedback as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strands.types.session import SessionMessage

from ..web.plain import storable_text
from .blocks import shown_blocks
from .schemas import ChatMessage, Feedback, Usage


def message_blocks(message: SessionMessage) -> list[dict[str, Any]]:
    """Return the blocks of a stored message, of a redacted one those that take its place."""
    shown = message.message if message.redact_message is None else message.redact_message
    return shown_blocks(shown.get("content"))


def chat_message(message: SessionMessage) -> ChatMessage:
    """Return a stored message as the API gives it."""
    details: Mapping[str, Any] = message.message.get("metadata") or {}
    usage, metrics = details.get("usage") or {}, details.get("metrics") or {}
    return ChatMessage(
        message_id=message.message_id,
        role=storable_text(str(message.message["role"])),
        blocks=message_blocks(message),
        created_at=message.created_at,
        redacted=message.redact_message is not None,
        usage=_usage(usage) if any(usage.values()) else None,
        # 0 stands for unknown.
        latency_ms=metrics.get("latencyMs") or None,
        time_to_first_byte_ms=metrics.get("timeToFirstByteMs") or None,
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=usage.get("inputTokens"),
        output=usage.get("outputTokens"),
        total=usage.get("totalTokens"),
        cache_read=usage.get("cacheReadInputTokens"),
        cache_write=usage.get("cacheWriteInputTokens"),
    )


def chat_feedback(feedback: Mapping[str, Any]) -> Feedback:
    """Return a stored feedback as the API gives it; nothing in it is relied upon."""
    message_id = feedback.get("message_id")
    return Feedback(
        rating=storable_text(str(feedback.get("rating", ""))),
        comment=storable_text(str(feedback.get("comment") or "")),
        message_id=message_id if isinstance(message_id, int) else None,
        created_at=feedback.get("created_at"),
    )
