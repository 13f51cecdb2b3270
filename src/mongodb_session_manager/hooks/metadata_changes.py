"""The message that both metadata hooks send about an update or a deletion."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import urlsplit

from ..schema.names import check_names
from .payloads import changed_fields, timestamp, to_json

EVENT = "metadata_update"

ACTIONS = frozenset({"update", "delete"})
"""What is told. An action that is neither, a new one for instance, is not taken for one of them."""

# The label of a host that is a region: sqs.eu-west-1.amazonaws.com, abc.execute-api.us-gov-west-1.amazonaws.com.
_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d+")


def checked_fields(metadata_fields: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the fields that are of interest; None for all.

    Raises:
        TypeError: A plain string, which would be one field per letter, or a field that is no string.
    """
    if metadata_fields is None:
        return None
    fields = tuple(check_names("metadata_fields", metadata_fields, "field names"))
    for field in fields:
        if not isinstance(field, str):
            raise TypeError(f"invalid metadata_fields: it must be a list of field names, got {field!r} in it")
    return fields


def change_message(
    action: str, session_id: str, value: Any, wanted: tuple[str, ...] | None, hidden: Collection[str] = ()
) -> str | None:
    """Return the JSON message about a change; None when nothing of interest changed, and for other actions.

    Args:
        action: "update", "delete", or another one, which changes nothing that these messages could tell of.
        session_id: The session that changed.
        value: The update's dict, or the deleted keys.
        wanted: Fields of interest; None for all.
        hidden: Fields that are never part of it.
    """
    if action not in ACTIONS:
        return None
    changed = value if action == "update" else dict.fromkeys(value)
    metadata = {key: part for key, part in changed_fields(changed, wanted).items() if key not in hidden}
    if not metadata:
        return None
    return to_json(
        {
            "session_id": session_id,
            "event": EVENT,
            "operation": action,
            "metadata": metadata,
            "timestamp": timestamp(),
        }
    )


def region_of(url: str) -> str | None:
    """Return the region that an AWS address names, None when it names none."""
    host = urlsplit(url).hostname or ""
    return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)
