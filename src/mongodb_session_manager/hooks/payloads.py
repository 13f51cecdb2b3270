"""What notifications say: stored values as JSON, the fields that changed, and text that AWS accepts."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from ..schema.numbers import digits, is_too_long

# What SNS and SQS accept in texts: XML 1.0 characters.
_REFUSED = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What they take as the group of a message to a FIFO queue or topic.
_GROUP = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")
_GAP = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def timestamp() -> str:
    """Return the time, UTC, as ISO-8601 with offset."""
    return datetime.now(UTC).isoformat()


def to_json(value: Any) -> str:
    """Return JSON, ASCII only; what JSON does not know becomes text (dates as ISO-8601, bytes as base64)."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int():
            return digits(value) if is_too_long(value) else value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {key if isinstance(key, str) else str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(entry) for entry in value]
        case datetime():
            # MongoDB stores UTC, and takes a date without offset for that.
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case _:
            return str(value)


def changed_fields(changed: Mapping[str, Any], wanted: Iterable[str] | None) -> dict[str, Any]:
    """Return what changed of the wanted fields, all of it with None.

    Dots address nested fields on both sides. A wanted `customer` takes a changed `customer.tier` as it is; of a changed
    `customer` a wanted `customer.tier` takes its part, None when it is not there any more.
    """
    if wanted is None:
        return dict(changed)
    fields: dict[str, Any] = {}
    for field in wanted:
        for key, value in changed.items():
            if key == field or key.startswith(f"{field}."):
                fields[key] = value
            elif field.startswith(f"{key}."):
                fields[field] = _inside(value, field[len(key) + 1 :].split("."))
    return fields


def _inside(value: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def accepted_text(text: str) -> str:
    """Return a text with U+FFFD in the place of characters that SNS and SQS refuse."""
    return _REFUSED.sub("\ufffd", text)


def one_line(text: str, most: int) -> str:
    """Return a text without line breaks and control characters, cut to `most` characters."""
    return accepted_text(_GAP.sub(" ", text)).strip()[:most].rstrip()


def fifo_attributes(session_id: str) -> dict[str, str]:
    """Return what a FIFO queue or topic asks for: the session as the group, which keeps its order, and an id."""
    group = session_id
    if not _GROUP.fullmatch(group):
        group = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
    # One id per message and not of its content: a status that is set twice was changed twice.
    return {"MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex}
