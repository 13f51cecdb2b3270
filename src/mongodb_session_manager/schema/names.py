"""Names that users choose, as field names and field paths, and of where the sessions are.

Agent ids, multi-agent ids and tool names may hold any character; `encode_name` makes one path segment of each, and
`decode_name` the name again. Metadata keys are paths already (dots address nested fields) and are checked, not encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, KeysView
from functools import lru_cache
from typing import Any

from pymongo.errors import InvalidName

from ..errors import InvalidNameError
from .paths import metadata as metadata_field

RESERVED_KEY = "__bson__"
"""Field that marks an encoded value inside stored data; a metadata path cannot address it."""

MAX_PATH_SEGMENTS = 20
"""Deepest field a metadata key may address. With `values.MAX_DEPTH` it stays below the server's 180 stored levels."""

MAX_IDEMPOTENCY_KEY = 256
"""Most characters of an idempotency key."""

MAX_DATABASE_NAME = 63
"""Most bytes of a database's name."""

_NOT_IN_DATABASES = re.compile(r'[/\\. "$\x00]')
_NOT_IN_COLLECTIONS = re.compile(r"[$\x00]|\.\.")

_EMPTY_NAME = "%"
_UNSAFE = re.compile("[.$%\x00\ud800-\udfff]")
_ESCAPE = re.compile("%(?:u([0-9A-F]{4})|([0-9A-F]{2}))")


def encode_name(name: str) -> str:
    """Make a single field path segment of any string; an ordinary name stays as it is.

    `.`, `$`, `%` and NUL are written as `%2E`, `%24`, `%25` and `%00`, a lone surrogate as `%uD800`, the empty name
    as `%`. Different names have different encodings.
    """
    if not name:
        return _EMPTY_NAME
    return _UNSAFE.sub(_escape, name)


def decode_name(key: str) -> str:
    """Return the name that `encode_name` made this key from.

    A key that `encode_name` cannot have made, such as a raw `100%` written by another tool, is returned unchanged.
    """
    if "%" not in key:
        return key
    if key == _EMPTY_NAME:
        return ""
    name = _ESCAPE.sub(_unescape, key)
    return name if encode_name(name) == key else key


def is_path(name: str) -> bool:
    """Tell whether a name is a field path as it is: older tools used agent ids so, with dots for nested fields."""
    return "" not in name.split(".") and _UNSAFE.search(name.replace(".", "").replace("%", "")) is None


def check_session_id(session_id: object) -> str:
    """Return the session id if it is a non-empty string that UTF-8 can hold.

    Raises:
        InvalidNameError: It is anything else, for example a dict that a query would take for operators.
    """
    return _checked("session id", session_id)


def check_agent_id(agent_id: object, kind: str = "agent id") -> str:
    """Return the id of an agent, or of a graph or swarm, if it is a string, of whatever characters.

    Raises:
        InvalidNameError: It is not a string.
    """
    if not isinstance(agent_id, str):
        raise InvalidNameError(kind, agent_id, "it must be a string")
    return str.__str__(agent_id)


def check_names(parameter: str, names: Iterable[str], what: str = "names") -> list[str]:
    """Return several names, each of which is still to be checked.

    Args:
        parameter: What they were given as, for errors.
        names: What was given.
        what: What they name, for errors.

    Raises:
        TypeError: A plain string, each letter of which would be a name, or nothing that holds several.
    """
    if isinstance(names, str):
        raise TypeError(f"invalid {parameter}: it must be a list of {what}, such as [{names!r}], not a plain string")
    given: object = names
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"invalid {parameter}: it must be a list of {what}, not {type(names).__name__}")
    return list(names)


class InvalidPlaceNameError(InvalidNameError, InvalidName):
    """A database or collection of a name that MongoDB does not take; also what the driver would raise for it, later."""


def check_place(database_name: object, collection_name: object) -> None:
    """Check the names of a database and a collection before anything is sent.

    Raises:
        InvalidPlaceNameError: One is no string, empty, or holds what MongoDB keeps for itself.
    """
    for kind, name, rule in (
        ("database_name", database_name, database_rule),
        ("collection_name", collection_name, collection_rule),
    ):
        broken = rule(name) if isinstance(name, str) else "it must be a string"
        if broken is not None:
            raise InvalidPlaceNameError(kind, name, broken)


@lru_cache
def database_rule(name: str) -> str | None:
    """Return the rule that a database's name breaks, None for a name that MongoDB takes."""
    if not name or not _is_utf8(name):
        return "it must be text that UTF-8 can encode, and not empty"
    if (refused := _NOT_IN_DATABASES.search(name)) is not None:
        return f"it must not hold {refused[0]!r}"
    if len(name.encode(errors="replace")) > MAX_DATABASE_NAME:
        return f"it must not have more than {MAX_DATABASE_NAME} bytes"
    return None


@lru_cache
def collection_rule(name: str) -> str | None:
    """Return the rule that a collection's name breaks, None for a name that MongoDB takes."""
    if not name or not _is_utf8(name):
        return "it must be text that UTF-8 can encode, and not empty"
    if (refused := _NOT_IN_COLLECTIONS.search(name)) is not None:
        return f"it must not hold {refused[0]!r}"
    if name.startswith((".", "system.")) or name.endswith("."):
        return "it must not begin or end with a dot, or begin with 'system.'"
    return None


def check_application_name(name: object) -> str | None:
    """Return the application name if it is a string that UTF-8 can hold, or None.

    Raises:
        InvalidNameError: It is anything else.
    """
    if name is None or name == "":
        return name
    return _checked("application name", name)


def check_idempotency_key(key: object) -> str:
    """Return the idempotency key if it is a non-empty string of at most 256 characters; a session keeps the last ones.

    Raises:
        InvalidNameError: It is anything else.
    """
    kind = "idempotency_key"
    if not isinstance(key, str) or not key:
        raise InvalidNameError(kind, key, "it must be a non-empty string")
    if len(key) > MAX_IDEMPOTENCY_KEY:
        raise InvalidNameError(kind, key, f"it must have at most {MAX_IDEMPOTENCY_KEY} characters, not {len(key)}")
    if not _is_utf8(key):
        raise InvalidNameError(kind, key, "it must be text that UTF-8 can encode, without lone surrogates")
    return key


def parents(path: str) -> list[str]:
    """Return the paths of all that a field lies in, outermost first."""
    segments = path.split(".")
    return [".".join(segments[:end]) for end in range(1, len(segments))]


def metadata_path(key: object) -> str:
    """Return the field path of a metadata key: `a.b` is `metadata.a.b`.

    Raises:
        InvalidNameError: Not a string, or a segment is empty, starts with `$`, holds a NUL or a lone surrogate or is
            the reserved `__bson__`, or there are more than 20 segments.
    """
    path = _checked("metadata key", key)
    segments = path.split(".")
    if "\x00" in path:
        rule = "it must not hold a NUL character"
    elif "" in segments:
        rule = "dots separate the names of nested fields, and each needs a name"
    elif any(segment.startswith("$") for segment in segments):
        rule = "no part of it may start with '$'"
    elif RESERVED_KEY in segments:
        rule = f"'{RESERVED_KEY}' is reserved"
    elif len(segments) > MAX_PATH_SEGMENTS:
        rule = f"it may address fields at most {MAX_PATH_SEGMENTS} levels deep"
    else:
        return metadata_field(path)
    raise InvalidNameError("metadata key", key, rule)


def check_metadata_update(metadata: object) -> dict[str, Any]:
    """Return the update as field path to value, in the caller's order.

    Raises:
        TypeError: Not a dict.
        InvalidNameError: A key breaks a rule of `metadata_path`, or lies inside another key of the same update.
    """
    if not isinstance(metadata, dict):
        raise TypeError(f"invalid metadata: it must be a dict of keys to values, not {type(metadata).__name__}")
    paths = {metadata_path(key): value for key, value in metadata.items()}
    for path in paths:
        parent = _parent_in(path, paths)
        if parent is not None:
            outer, inner = _key_of(parent), _key_of(path)
            raise InvalidNameError("metadata key", inner, f"it lies inside {outer!r}, which the same update sets")
    return paths


def check_metadata_keys(keys: object) -> list[str]:
    """Return the field paths to delete, in order, without repeats and without those inside another one.

    Raises:
        TypeError: Not a list, tuple or set; a plain string would mean one key for each of its letters.
        InvalidNameError: A key breaks a rule of `metadata_path`.
    """
    if not isinstance(keys, list | tuple | set | frozenset | KeysView):
        raise TypeError(
            f"invalid metadata keys: they must be a list of strings, such as ['key'], not {type(keys).__name__}"
        )
    paths = dict.fromkeys(metadata_path(key) for key in keys)
    # The server refuses to unset a field together with one inside it; the outer one takes both away.
    return [path for path in paths if _parent_in(path, paths) is None]


def _checked(kind: str, name: object) -> str:
    if not isinstance(name, str):
        raise InvalidNameError(kind, name, "it must be a string")
    if not name:
        raise InvalidNameError(kind, name, "it must not be empty")
    if not _is_utf8(name):
        raise InvalidNameError(kind, name, "it must be text that UTF-8 can encode, without lone surrogates")
    return str.__str__(name)  # an enum or another subclass would be stored under its own rules


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"%{code:02X}" if code < 0x100 else f"%u{code:04X}"


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1] or match[2], 16))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parent_in(path: str, paths: dict[str, Any]) -> str | None:
    return next((parent for parent in reversed(parents(path)) if parent in paths), None)


def _key_of(path: str) -> str:
    return path.removeprefix(metadata_field(""))
