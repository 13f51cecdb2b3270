"""Strands' record of a message, as code hands it to a repository -> stored message."""

from __future__ import annotations

from typing import Any

from strands.types.session import SessionMessage

from . import paths
from .messages import encode_sized_message, now


def encode_session_message(message: SessionMessage, agent_id: str) -> tuple[dict[str, Any], int, dict[str, bytes]]:
    """Return the document of a message, its bytes, and the large bytes that it refers to; no redacted original.

    Raises:
        MessageTooLargeError: It is larger than a document may be, without large bytes.
        TypeError: A value cannot be stored; the error says where it sits.
        ValueError: The message is nested too deeply.
    """
    document, size, payloads = encode_sized_message(message.to_message(), agent_id=agent_id)
    if message.redact_message is not None:
        redacted, more_size, more = encode_sized_message(message.redact_message, agent_id=agent_id)
        size += more_size
        redacted.pop(paths.PAYLOADS, None)
        document[paths.REDACT_MESSAGE] = redacted
        payloads |= more
    if payloads:
        document[paths.PAYLOADS] = sorted(payloads)
    moment = now()
    return {**document, paths.CREATED_AT: moment, paths.UPDATED_AT: moment}, size, payloads
