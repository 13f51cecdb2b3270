"""The `manage_metadata` tool: an agent reads and writes the metadata of its own session."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, Literal, Protocol

from pymongo.errors import PyMongoError
from strands import tool
from strands.tools.decorator import DecoratedFunctionTool

from .metadata_access import MISSING, MetadataAccess
from .schema.numbers import digits, is_too_long

logger = logging.getLogger(__name__)

PROTECTED = ("connection_id", "ws_connection_id")
"""Fields that say where notifications go: a model that set them could send them to another user's browser."""

MAX_ANSWER_BYTES = 64 * 1024
"""Most bytes of an answer, in UTF-8: it becomes part of the conversation."""

_MOST_LOOKED_BYTES = 4 * 1024 * 1024
"""Bytes of fields that are looked at for one answer: a request may ask for the same megabyte by hundreds of names."""

_NOTE_BYTES = 4 * 1024
_NAME_CHARACTERS = 80
_SEPARATOR = ", "
_is_position = re.compile("0|[1-9][0-9]{0,8}").fullmatch

_DESCRIPTION = """Read and write the metadata of the current session: facts that are kept beside the conversation.

Actions:
- get: all metadata, or only the fields named in `keys`
- set or update: store the fields in `metadata`; all other fields stay as they are
- delete: remove the fields named in `keys`

A dot in a field name addresses a nested field: "preferences.language"."""


class MetadataStore(Protocol):
    """What the blocking tool needs of a session manager."""

    def get_metadata(self) -> Any:
        """Return ``{"metadata": {...}}``."""

    def update_metadata(self, metadata: dict[str, Any], /) -> Any:
        """Store fields, leaving the others."""

    def delete_metadata(self, metadata_keys: list[str], /) -> Any:
        """Remove fields."""


class AsyncMetadataStore(Protocol):
    """What the async tool needs of a session manager."""

    def get_metadata(self) -> Awaitable[Any]:
        """Return ``{"metadata": {...}}``."""

    def update_metadata(self, metadata: dict[str, Any], /) -> Awaitable[Any]:
        """Store fields, leaving the others."""

    def delete_metadata(self, metadata_keys: list[str], /) -> Awaitable[Any]:
        """Remove fields."""


def create_metadata_tool(
    manager: AsyncMetadataStore,
    fields: Iterable[str] | None = None,
    protected: Iterable[str] = PROTECTED,
) -> DecoratedFunctionTool[..., Coroutine[Any, Any, str]]:
    """Make the Strands tool `manage_metadata` for an async session manager.

    Its function is a coroutine function: ``await tool(action="get")``. It answers with text and never raises.

    Args:
        manager: Whose metadata.
        fields: The fields that the model may see and change, None for all.
        protected: Fields that it can neither see nor change.

    Raises:
        InvalidNameError: A name cannot be a metadata key.
        TypeError: A plain string where several names are meant.
    """
    access = MetadataAccess(fields, protected)

    @tool(name="manage_metadata", description=_description(access), inputSchema=_input_schema())
    async def manage_metadata(action: Any = None, metadata: Any = None, keys: Any = None) -> str:
        """Read and write session metadata."""
        try:
            request = _parse(action, metadata, keys, access)
            return _bounded(_answer(request, await _send(request, manager), access))
        except Exception as error:
            return _bounded(_describe(error, manager))

    return manage_metadata


def create_blocking_metadata_tool(
    manager: MetadataStore,
    fields: Iterable[str] | None = None,
    protected: Iterable[str] = PROTECTED,
) -> DecoratedFunctionTool[..., str]:
    """Make the Strands tool `manage_metadata` for a synchronous session manager.

    It can be called directly, ``tool(action="get")``. It answers with text and never raises. Arguments and errors are
    those of `create_metadata_tool`.
    """
    access = MetadataAccess(fields, protected)

    @tool(name="manage_metadata", description=_description(access), inputSchema=_input_schema())
    def manage_metadata(action: Any = None, metadata: Any = None, keys: Any = None) -> str:
        """Read and write session metadata."""
        try:
            request = _parse(action, metadata, keys, access)
            return _bounded(_answer(request, _send(request, manager), access))
        except Exception as error:
            return _bounded(_describe(error, manager))

    return manage_metadata


class _MalformedRequestError(ValueError):
    """The parameters make no request; the text tells the model what to send instead."""


@dataclass(frozen=True, slots=True)
class _Request:
    action: Literal["get", "set", "delete"]
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)


def _description(access: MetadataAccess) -> str:
    return _DESCRIPTION if access.fields is None else f"{_DESCRIPTION}\n\nFields: {', '.join(access.fields) or 'none'}"


def _input_schema() -> dict[str, Any]:
    # Written out, and the functions' own parameters untyped: models send objects and arrays as JSON text at times,
    # which the model that Strands derives from typed parameters would refuse before our code sees it.
    return {
        "json": {
            "type": "object",
            "properties": {
                "action": {
                    "type": "string",
                    "enum": ["get", "set", "update", "delete"],
                    "description": "What to do.",
                },
                "metadata": {
                    "type": "object",
                    "description": "For set and update: the fields to store, by name.",
                },
                "keys": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "For get: the fields to return (all when left out). For delete: those to remove.",
                },
            },
            "required": ["action"],
        }
    }


def _parse(action: object, metadata: object, keys: object, access: MetadataAccess) -> _Request:
    request = _understood(action, metadata, keys)
    for key in (*request.metadata, *request.keys):
        if isinstance(key, str) and (refusal := access.refusal(key, changes=request.action != "get")):
            raise _MalformedRequestError(refusal)
    return request


def _understood(action: object, metadata: object, keys: object) -> _Request:
    if action is None:
        raise _MalformedRequestError("action is required. Use 'get', 'set', 'update', or 'delete'")
    match action.strip().lower() if isinstance(action, str) else action:
        case "get":
            return _Request("get", keys=[] if keys is None else _parse_keys(keys))
        case "set" | "update":
            return _Request("set", metadata=_parse_metadata(metadata))
        case "delete":
            wanted = [] if keys is None else _parse_keys(keys)
            if not wanted:
                raise _MalformedRequestError("keys is required for 'delete': an array of field names")
            return _Request("delete", keys=wanted)
    raise _MalformedRequestError(f"Unknown action '{action}'. Use 'get', 'set', 'update', or 'delete'")


def _parse_metadata(metadata: object) -> dict[str, Any]:
    if isinstance(metadata, str):
        metadata = _loads("metadata", metadata)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise _MalformedRequestError(f"invalid metadata: it must be an object, got {type(metadata).__name__}")
    if not metadata:
        raise _MalformedRequestError("metadata is required for 'set' and 'update': an object with the fields to store")
    return dict(metadata)


def _parse_keys(keys: object) -> list[str]:
    if isinstance(keys, str):
        # A bare name is one key; only what begins like JSON is read as such.
        keys = _loads("keys", keys) if keys.lstrip().startswith(("[", '"', "{")) else keys
        keys = [keys] if isinstance(keys, str) else keys
    if not isinstance(keys, Sequence | set | frozenset) or isinstance(keys, bytes | bytearray):
        raise _MalformedRequestError(f"invalid keys: they must be an array of field names, got {type(keys).__name__}")
    for key in keys:
        if not isinstance(key, str):
            raise _MalformedRequestError(f"invalid keys: they must hold field names only, got {type(key).__name__}")
    return list(dict.fromkeys(keys))


def _loads(parameter: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _MalformedRequestError(f"invalid {parameter}: it must be valid JSON") from None


def _send(request: _Request, manager: Any) -> Any:
    """Start the one operation of the request: a result, or an awaitable of it on the async manager."""
    match request.action:
        case "get":
            return manager.get_metadata()
        case "set":
            return manager.update_metadata(request.metadata)
        case "delete":
            return manager.delete_metadata(request.keys)


def _answer(request: _Request, result: Any, access: MetadataAccess) -> str:
    match request.action:
        case "set":
            return f"Successfully updated metadata fields: {list(request.metadata)}"
        case "delete":
            return f"Successfully deleted metadata fields: {request.keys}"
    stored = result.get("metadata") if isinstance(result, Mapping) else None
    stored = access.visible(stored) if isinstance(stored, Mapping) else {}
    if request.keys:
        found = {key: value for key in request.keys if (value := _look_up(stored, key)) is not MISSING}
        if not found:
            return f"No metadata found for keys: {request.keys}"
        return _with_fields("Metadata retrieved: ", found)
    if not stored:
        return "No metadata stored in session"
    return _with_fields("All metadata: ", stored)


def _with_fields(beginning: str, fields: Mapping[str, Any]) -> str:
    """Return an answer with the fields as JSON; those for which it has no room are named instead."""
    texts: list[tuple[str, str, int]] = []
    total = 0
    for key, value in fields.items():
        if total > _MOST_LOOKED_BYTES:
            break
        text = _dumps({key: value})[1:-1]
        texts.append((key, text, _size(text) + len(_SEPARATOR)))
        total += texts[-1][2]
    if len(texts) == len(fields) and len(beginning) + total <= MAX_ANSWER_BYTES:
        return f"{beginning}{{{_SEPARATOR.join(text for _, text, _ in texts)}}}"
    room = MAX_ANSWER_BYTES - _NOTE_BYTES - len(beginning)
    kept: list[str] = []
    missing: list[str] = []
    for key, text, size in texts:
        if size <= room:
            kept.append(text)
            room -= size
        else:
            missing.append(f"{_cut(key)} ({size} bytes)")
    names = missing[: _NOTE_BYTES // (5 * _NAME_CHARACTERS)]
    count = len(fields) - len(kept) - len(names)
    more = f" and {count} more" if count else ""
    return (
        f"{beginning}{{{_SEPARATOR.join(kept)}}}\nLeft out, since an answer has at most {MAX_ANSWER_BYTES} bytes: "
        f"{', '.join(names)}{more}. Ask for parts of them with 'keys', by dotted names"
    )


def _bounded(answer: str) -> str:
    """Cut an answer that names too much, such as a request with very many keys."""
    size = _size(answer)
    if size <= MAX_ANSWER_BYTES:
        return answer
    cut = answer.encode()[: MAX_ANSWER_BYTES - _NOTE_BYTES].decode(errors="ignore")
    return f"{cut}... (cut: the answer has {size} bytes, {MAX_ANSWER_BYTES} are allowed)"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}..."


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _look_up(stored: Mapping[str, Any], key: str) -> Any:
    """Return the field at a dotted path the way MongoDB addresses it, array positions included."""
    if key in stored:
        return stored[key]
    value: Any = stored
    for segment in key.split("."):
        if isinstance(value, Mapping) and segment in value:
            value = value[segment]
        elif isinstance(value, list) and _is_position(segment) and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return MISSING
    return value


def _dumps(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=_as_text)
    except ValueError:  # an integer that Python does not write out
        text = json.dumps(_with_digits(value), ensure_ascii=False, default=_as_text)
    return _encodable(text)


def _with_digits(value: Any) -> Any:
    match value:
        case int() if is_too_long(value):
            return digits(value)
        case Mapping():
            return {key: _with_digits(item) for key, item in value.items()}
        case list() | tuple():
            return [_with_digits(item) for item in value]
    return value


def _encodable(text: str) -> str:
    # Half a surrogate pair cannot be sent to any model; its escape is valid JSON for the same string.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _as_text(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def _describe(error: Exception, manager: object) -> str:
    if isinstance(error, _MalformedRequestError):
        return _encodable(f"Error: {error}")
    session_id = getattr(manager, "session_id", None)
    logger.warning("session_id=<%r>, error=<%s> | metadata tool failed", session_id, type(error).__name__)
    if isinstance(error, PyMongoError):
        # The driver's texts hold host names, commands and values, and an answer becomes part of the conversation.
        return f"Error managing metadata: the database reported {type(error).__name__}"
    return _encodable(f"Error managing metadata: {str(error) or type(error).__name__}")
