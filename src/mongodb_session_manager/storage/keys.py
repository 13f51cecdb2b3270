"""Keys of a storage: which are allowed, what they become, and which range of them a prefix means."""

from __future__ import annotations

import re

from ..errors import InvalidNameError
from .contract import StorageError

MAX_KEY_BYTES = 1024
"""Longest key, in UTF-8, with the prefixes of the views it is given through."""

_SLASHES = re.compile("/+")
_FIRST_SURROGATE, _AFTER_SURROGATES, _LAST = 0xD800, 0xE000, 0x10FFFF


def normalize_key(key: object) -> str:
    """Return a key as it is stored: runs of `/` are one, and none is at its beginning or end.

    Raises:
        StorageError: It is no string, empty, too long, or holds a backslash, a NUL or a `..` segment.
    """
    normalized = _checked("key", key).strip("/")
    if not normalized:
        raise _refusal("key", key, "it must not be empty")
    return normalized


def normalize_prefix(prefix: object) -> str:
    """Return a prefix as keys are compared with it: like a key, but it may be empty and may end with `/`.

    Raises:
        StorageError: It is no string, too long, or holds a backslash, a NUL or a `..` segment.
    """
    return _checked("prefix", prefix).lstrip("/")


def namespace_prefix(namespace: str, prefix: object) -> str:
    """Return what stands before the keys of a view within a view.

    Raises:
        StorageError: The prefix is not allowed.
    """
    normalized = normalize_prefix(prefix).rstrip("/")
    return f"{namespace}{normalized}/" if normalized else namespace


def check_length(key: str) -> None:
    """Raise `StorageError` when a key is too long, with what stands before it."""
    if len(key.encode()) > MAX_KEY_BYTES:
        rule = f"it must not be longer than {MAX_KEY_BYTES} bytes, namespaces included"
        raise _refusal("key", key, rule)


def _checked(kind: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refusal(kind, value, f"it must be a string, not {type(value).__name__}")
    rule = None
    if "\\" in value:
        rule = "backslashes are not allowed"
    elif "\0" in value:
        rule = "NUL is not allowed"
    elif ".." in value.split("/"):
        rule = "'..' segments are not allowed"
    else:
        try:
            value.encode()
        except UnicodeEncodeError:
            rule = "it must be valid Unicode"
    if rule is not None:
        raise _refusal(kind, value, rule)
    return _SLASHES.sub("/", value)


def _refusal(kind: str, value: object, rule: str) -> StorageError:
    shown = f" {_short(value)}" if isinstance(value, str) and value.strip("/") else ""
    error = StorageError(f"invalid storage {kind}{shown}: {rule}")
    # Strands' contract has one class for every failure; by the cause an application knows that this is its client's.
    error.__cause__ = InvalidNameError(f"storage {kind}", value, rule)
    return error


def _short(value: str) -> str:
    return repr(value if len(value) <= 100 else f"{value[:100]}...")


def key_range(prefix: str) -> dict[str, str]:
    """Return the range of strings that begin with a prefix, as a filter on one field; the order is MongoDB's."""
    successor = _successor(prefix)
    return {"$gte": prefix} if successor is None else {"$gte": prefix, "$lt": successor}


def _successor(prefix: str) -> str | None:
    """Return the first string after all that begin with the prefix, None when there is none."""
    # Bytes of UTF-8 have the order of the code points.
    for length in range(len(prefix), 0, -1):
        code = ord(prefix[length - 1])
        if code < _LAST:
            following = _AFTER_SURROGATES if code + 1 == _FIRST_SURROGATE else code + 1
            return prefix[: length - 1] + chr(following)
    return None
