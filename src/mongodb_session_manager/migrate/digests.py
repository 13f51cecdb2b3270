"""A fingerprint of what a session says, equal for what was read of a source and what is read back."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from strands.types.session import SessionMessage, encode_bytes_values

from ..schema.messages import iso_date, read_date


class Digest:
    """A running digest of a session's agents and messages, in their order."""

    def __init__(self) -> None:
        """Begin without content."""
        self._hash = sha256()

    @staticmethod
    def message(message: SessionMessage) -> bytes:
        """Return what counts of a message: what was said, its redaction and when."""
        return _bytes(
            [message.message, message.redact_message, iso_date(read_date(message.created_at)), message.message_id]
        )

    def add_message(self, digested: bytes) -> None:
        """Add a message, as `message` returns it."""
        self._hash.update(digested)

    def add(self, *what: Any) -> None:
        """Add values that JSON can hold, or bytes."""
        self._hash.update(_bytes(what))

    def __str__(self) -> str:
        """Return the digest as text."""
        return self._hash.hexdigest()


def _bytes(value: Any) -> bytes:
    text = json.dumps(encode_bytes_values(value), sort_keys=True, default=str)
    return sha256(text.encode()).digest()
