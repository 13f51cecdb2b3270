"""Stored message <-> Strands message.

A message is stored flat, beside what the library adds to it::

    {message_id, role, content, tracking_id?, metadata?, created_at, updated_at,
     redact_message?, window_content?, event_loop_metrics?, guardrail_event?, trace_id?, extra?, payloads?, legacy?}

`window_content` is what the agent holds now where that differs from what was said (a truncated tool result, a
repaired pair); `trace_id` names the trace of the turn that an answer belongs to; `extra` holds keys of the message
itself that would collide with the names above; `payloads` names the large bytes that are stored outside the document;
`legacy` is what an older tool kept under a name that means something else today.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, cast

import bson
from strands.types.content import ContentBlock, Message
from strands.types.session import SessionMessage

from ..errors import CorruptMessageError, MessageTooLargeError
from . import paths, payloads, values
from .numbers import is_integer

MESSAGE_LIMIT_BYTES = 15 * 1024 * 1024
"""Largest encoded message without its large bytes. A document may take 16 MiB (MongoDB's BSON limit); the rest of it
needs room, too."""

_STORED_WITH_BYTES = 64
"""What a message is stored with: its number, two dates, its place in the list."""

_FLAT_METRICS = frozenset({"latency_ms", "input_tokens", "output_tokens"})
_STRANDS_KEYS = ("role", "content", "tracking_id", "metadata")
_TOOL_BLOCKS = frozenset({"toolUse", "toolResult"})
_OUTSIDE_NESTED = (*_STRANDS_KEYS, paths.EXTRA, paths.WINDOW_CONTENT, paths.PAYLOADS, paths.TRACE_ID, paths.LEGACY)
_OUTSIDE_FLAT = (paths.EXTRA, paths.WINDOW_CONTENT, paths.PAYLOADS, paths.TRACE_ID, paths.LEGACY)


def encode_sized_message(message: Mapping[str, Any], *, agent_id: str) -> tuple[dict[str, Any], int, dict[str, bytes]]:
    """Return a fresh document of what Strands holds of a message: role, content and its other keys.

    Returns:
        The document, about how many bytes it takes once it is stored, and the large bytes that it refers to, by name.

    Raises:
        TypeError: It has no role or no content, or a value cannot be stored; the error says where it sits.
        ValueError: The message is nested too deeply.
        MessageTooLargeError: It is larger than a document may be, without large bytes.
    """
    check_message(message)
    if not isinstance(message["role"], str):
        raise TypeError(f"invalid role: it must be a string, not {type(message['role']).__name__}")
    document: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in message.items():
        if key in _STRANDS_KEYS:
            document[key] = encode_content(value) if key == "content" else values.encode(value, where=key, foreign=True)
        else:
            extra[key] = value
    if extra:
        document[paths.EXTRA] = values.encode(extra, where="message", foreign=True)
    taken = payloads.take(document)
    size_bytes = len(bson.encode(document))
    if size_bytes > MESSAGE_LIMIT_BYTES and taken.take_rest():
        size_bytes = len(bson.encode(document))
    if size_bytes > MESSAGE_LIMIT_BYTES:
        raise MessageTooLargeError(agent_id, size_bytes, MESSAGE_LIMIT_BYTES)
    if found := taken.named():
        document[paths.PAYLOADS] = sorted(found)
    return document, size_bytes + _STORED_WITH_BYTES, found


def check_message(message: object) -> None:
    """Refuse what is no message at all, of which nothing could be stored.

    Raises:
        TypeError: It is no dict, or has no role or no content.
    """
    if not isinstance(message, Mapping):
        raise TypeError(f"invalid message: it must be a dict with role and content, not {type(message).__name__}")
    for name in ("role", "content"):
        if name not in message:
            raise TypeError(f"invalid message: it must have {'a role' if name == 'role' else 'content'}")


def encode_content(content: Any) -> list[Any]:
    """Return the content of a message as it is stored, a fresh structure.

    What tools say, and models to tools, may be anything that Strands' own session managers take, deep nesting and
    instances of dataclasses included; the other kinds of blocks are Strands' own.

    Raises:
        TypeError: It is no list of blocks, which could not be read again; or a value cannot be stored. The error says
            where it sits.
        ValueError: It is nested too deeply.
    """
    blocks = _blocks(content)
    if not isinstance(blocks, list | tuple):
        raise TypeError(f"invalid content: it must be text or a list of blocks, not {type(content).__name__}")
    for position, block in enumerate(blocks):
        if not isinstance(block, Mapping):
            raise TypeError(f"invalid content[{position}]: a block must be a dict, not {type(block).__name__}")
    return [
        values.encode(block, where=f"content[{position}]", max_depth=values.MAX_DEPTH - 1, foreign=_is_of_a_tool(block))
        for position, block in enumerate(blocks)
    ]


def _is_of_a_tool(block: object) -> bool:
    return isinstance(block, Mapping) and not _TOOL_BLOCKS.isdisjoint(block)


def encode_message(message: Mapping[str, Any], *, agent_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the document of a message and the large bytes that it refers to; see `encode_sized_message`."""
    document, _, payloads = encode_sized_message(message, agent_id=agent_id)
    return document, payloads


def encode_storable(
    message: Mapping[str, Any], reason: str, *, agent_id: str
) -> tuple[dict[str, Any], int, dict[str, bytes]]:
    """Return what `encode_sized_message` does, of as much of a message as can be stored; a note stands for the rest.

    Tool-use pairs stay whole, since models refuse a history with half of one. Of what is too much, the largest goes.
    """
    role, note = str(message.get("role", "user")), {"text": f"[not stored: {reason}]"}

    def size_of(part: Mapping[str, Any]) -> float:
        try:
            return encode_sized_message({"role": role, "content": [], **part}, agent_id=agent_id)[1]
        except (TypeError, ValueError, MessageTooLargeError):
            return inf

    def storable(block: object) -> dict[str, Any]:
        if not isinstance(block, Mapping):
            return note
        if size_of({"content": [block]}) < inf:
            return {**block}
        emptied = _emptied(block, note)
        if "toolResult" in emptied:
            items = _as_list(block["toolResult"].get("content"))
            kept = [
                item if size_of({"content": [{"toolResult": {"content": [item]}}]}) < inf else note for item in items
            ]
            reduced = {"toolResult": {**emptied["toolResult"], "content": kept or [note]}}
            return reduced if size_of({"content": [reduced]}) < inf else emptied
        return emptied

    content = [storable(block) for block in _as_list(_blocks(message.get("content")))] or [note]
    others = {key: value for key, value in message.items() if key not in ("role", "content")}
    others = {key: value for key, value in others.items() if size_of({key: value}) < inf}
    sizes = [size_of({"content": [block]}) for block in content]
    total = sum(sizes) + size_of(others)
    for position in sorted(range(len(content)), key=lambda position: -sizes[position]):
        if total <= MESSAGE_LIMIT_BYTES:
            break
        content[position] = _emptied(content[position], note)
        total += size_of({"content": content[position : position + 1]}) - sizes[position]
    if total > MESSAGE_LIMIT_BYTES:
        others = {key: value for key, value in others.items() if key == "tracking_id"}
    try:
        return encode_sized_message({"role": role, "content": content, **others}, agent_id=agent_id)
    except MessageTooLargeError:  # also of what stands for the blocks
        role = role if role in ("user", "assistant") else "user"
        return encode_sized_message({"role": role, "content": [note]}, agent_id=agent_id)


def _emptied(block: Mapping[str, Any], note: dict[str, Any]) -> dict[str, Any]:
    """Return what stands for a block that is not stored: half of the same tool-use pair, or a note."""
    if isinstance(use := block.get("toolUse"), Mapping):
        return {"toolUse": {"toolUseId": str(use.get("toolUseId", "")), "name": str(use.get("name", "")), "input": {}}}
    if isinstance(result := block.get("toolResult"), Mapping):
        identity = {"toolUseId": str(result.get("toolUseId", "")), "status": str(result.get("status", "error"))}
        return {"toolResult": {**identity, "content": [note]}}
    return note


def decode_message(document: Mapping[str, Any]) -> Message:
    """Return the message that a stored document holds for the agent's window, as a fresh structure."""
    message: dict[str, Any] = {
        "role": document["role"],
        "content": values.decode(document.get(paths.WINDOW_CONTENT, document["content"])),
    }
    if "tracking_id" in document:
        message["tracking_id"] = document["tracking_id"]
    if "metadata" in document:
        message["metadata"] = values.decode(document["metadata"])
    if paths.EXTRA in document:
        message |= values.decode(document[paths.EXTRA])
    return cast("Message", message)


def original_message(document: Mapping[str, Any]) -> Message:
    """Return the message as it was said, whatever the agent's window holds of it now."""
    return decode_message({key: value for key, value in document.items() if key != paths.WINDOW_CONTENT})


def session_message(document: Mapping[str, Any], *, original: bool = False, dated: bool = True) -> SessionMessage:
    """Return Strands' record of a stored message; built directly, since `SessionMessage.from_dict` is slow.

    Args:
        document: The message in today's form.
        original: As it was said, with the redaction as it was stored; else as the agent's window holds it.
        dated: With its dates, which restoring an agent does not look at.
    """
    redact = document.get(paths.REDACT_MESSAGE)
    if redact is not None and not original:
        # The window may have changed since: a result truncated, the message pinned.
        shown = {key: document[key] for key in ("tracking_id", "metadata", paths.WINDOW_CONTENT) if key in document}
        redact = {**redact, **shown}
    message = original_message(document) if original else decode_message(document)
    redacted = None if redact is None else decode_message(redact)
    if not dated:
        return SessionMessage(message, document[paths.MESSAGE_ID], redacted, "", "")
    created, updated = document.get(paths.CREATED_AT), document.get(paths.UPDATED_AT)
    created_at = iso_date(created)
    updated_at = created_at if created == updated else iso_date(updated)
    return SessionMessage(message, document[paths.MESSAGE_ID], redacted, created_at, updated_at)


def set_aside(document: dict[str, Any], names: Iterable[str]) -> None:
    """Move fields of an older tool whose names mean something else today into the field `legacy`."""
    found = {name: document.pop(name) for name in names if name in document}
    if found:
        document[paths.LEGACY] = {**document.get(paths.LEGACY, {}), **found}


def stable_tracking_id(session_id: str, agent_id: str, message_id: int) -> str:
    """Return the tracking id of a message that an older tool stored without, the same whenever it is asked for."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{session_id!r}/{agent_id!r}/{message_id}"))


def flatten_message(
    raw: object, *, agent_id: str, position: int, legacy: bool = False, fallback_date: datetime | None = None
) -> dict[str, Any]:
    """Return a stored message in today's form, whichever form it has.

    Older tools nest the message (`{message: {role, content}, message_id, ...}`), store content as a plain string,
    dates as ISO strings, bytes as Strands' base64 markers, and metrics flat.

    Args:
        raw: The element of the `messages` array.
        agent_id: For the error.
        position: Its place in the array, for a message without an id of its own.
        legacy: An older tool wrote it, so it holds bytes as markers, and some names mean something else.
        fallback_date: Date of a message that has none.

    Raises:
        CorruptMessageError: It is no message at all.
    """
    if not legacy and isinstance(raw, dict) and _has_todays_form(raw):
        return {**raw}
    if not isinstance(raw, Mapping):
        raise CorruptMessageError(agent_id, position, f"it is {type(raw).__name__}, not a document")
    document = dict(raw)
    message_id = document.get(paths.MESSAGE_ID, position)
    if isinstance(document.get("message"), Mapping) and "content" not in document:
        document = _unnested(document)
    elif legacy:
        set_aside(document, _OUTSIDE_FLAT)
    if not is_integer(message_id):
        raise CorruptMessageError(agent_id, message_id, "its message_id is not an integer")
    if not isinstance(document.get("role"), str):
        raise CorruptMessageError(agent_id, message_id, "it has no role")
    document[paths.MESSAGE_ID] = message_id
    document["content"] = _checked_blocks(document.get("content"), agent_id, message_id, legacy)
    if legacy and "metadata" in document:
        document["metadata"] = values.decode_legacy_bytes(document["metadata"])
    _read_dates(document, fallback_date)
    _read_redaction(document, agent_id, message_id)
    _nest_flat_metrics(document)
    return document


def _has_todays_form(raw: dict[str, Any]) -> bool:
    """Tell whether a stored message is one as this library writes it and nothing of it has to be read in a special way.

    Resuming asks this for each message, so it is one look at what nearly all of them are.
    """
    if "message" in raw or paths.REDACT_MESSAGE in raw or type(raw.get("role")) is not str:
        return False
    content, created, updated = raw.get("content"), raw.get(paths.CREATED_AT), raw.get(paths.UPDATED_AT)
    if type(raw.get(paths.MESSAGE_ID)) is not int or type(content) is not list:
        return False
    if type(created) is not datetime or type(updated) is not datetime or None in (created.tzinfo, updated.tzinfo):
        return False
    return all(type(block) is dict for block in content) and _FLAT_METRICS.isdisjoint(raw)


def _read_dates(document: dict[str, Any], fallback: datetime | None) -> None:
    if _is_dated(document.get(paths.CREATED_AT)) and _is_dated(document.get(paths.UPDATED_AT)):
        return
    given = {key: document.get(key) for key in (paths.CREATED_AT, paths.UPDATED_AT)}
    found = {key: read_date(value) for key, value in given.items()}
    set_aside(document, [key for key, value in given.items() if value is not None and found[key] is None])
    usable = found[paths.CREATED_AT] or found[paths.UPDATED_AT] or fallback
    document |= {key: value or parse_date(usable) for key, value in found.items()}


def _is_dated(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _unnested(document: dict[str, Any]) -> dict[str, Any]:
    nested = values.decode_legacy_bytes(dict(document.pop("message")))
    set_aside(document, _OUTSIDE_NESTED)
    message = {key: nested.pop(key) for key in _STRANDS_KEYS if key in nested}
    return {**message, **document, **({paths.EXTRA: nested} if nested else {})}


def _checked_blocks(content: object, agent_id: str, message_id: object, legacy: bool) -> list[Any]:
    blocks = _blocks(content)
    if not isinstance(blocks, list):
        raise CorruptMessageError(agent_id, message_id, "its content is neither text nor a list of blocks")
    for block in blocks:
        if type(block) is not dict and not isinstance(block, Mapping):  # What a driver decodes takes the quick way.
            raise CorruptMessageError(agent_id, message_id, "its content holds something that is not a block")
    return cast("list[Any]", values.decode_legacy_bytes(blocks) if legacy else blocks)


def _read_redaction(document: dict[str, Any], agent_id: str, message_id: object) -> None:
    redact = document.pop(paths.REDACT_MESSAGE, None)
    if redact is None:
        return
    given = values.decode_legacy_bytes(dict(redact)) if isinstance(redact, Mapping) else {"content": redact}
    content = _checked_blocks(given.get("content"), agent_id, message_id, legacy=False)
    document[paths.REDACT_MESSAGE] = {"role": document["role"], **given, "content": content}


def _nest_flat_metrics(document: dict[str, Any]) -> None:
    if paths.EVENT_LOOP_METRICS in document or _FLAT_METRICS.isdisjoint(document):
        return
    flat = {key: document.pop(key) for key in _FLAT_METRICS if key in document}
    metrics: dict[str, Any] = {}
    if flat.get("latency_ms") is not None:
        metrics["accumulated_metrics"] = {"latencyMs": flat["latency_ms"]}
    tokens = {"inputTokens": flat.get("input_tokens"), "outputTokens": flat.get("output_tokens")}
    usage = {key: count for key, count in tokens.items() if count is not None}
    if len(usage) == len(tokens) and all(isinstance(count, int | float) for count in usage.values()):
        usage["totalTokens"] = sum(usage.values())
    if usage:
        metrics["accumulated_usage"] = usage
    if metrics:
        document[paths.EVENT_LOOP_METRICS] = metrics


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text blocks of a message, joined."""
    blocks = _as_list(_blocks(message.get("content")))
    return "".join(
        block["text"] for block in blocks if isinstance(block, Mapping) and isinstance(block.get("text"), str)
    )


def with_tracking_id(message: Message) -> None:
    """Give a message the id that Strands would give it later, when a resumed copy could not get the same any more."""
    if not message.get("tracking_id"):
        message["tracking_id"] = str(uuid.uuid4())


def has_whole_calls(content: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether all tool calls and results have what pairs them, and calls a name; Strands relies on that."""
    for block in content:
        if "toolUse" in block and not _has_text(block["toolUse"], "toolUseId", "name"):
            return False
        if "toolResult" in block and not _has_text(block["toolResult"], "toolUseId"):
            return False
    return True


def _has_text(part: object, *names: str) -> bool:
    return isinstance(part, Mapping) and all(isinstance(part.get(name), str) for name in names)


def say_the_same(message: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two messages have the same role and content."""
    return bool(message["role"] == other["role"] and message["content"] == other["content"])


def has_tool_result(message: Mapping[str, Any]) -> bool:
    """Tell whether a message carries results of tools, as opposed to what a person said."""
    blocks = _as_list(message.get("content"))
    return any(isinstance(block, Mapping) and "toolResult" in block for block in blocks)


def normalized(message: Message) -> Message:
    """Return the message with plain-string content as a text block; the same object when it has blocks already."""
    content: object = message.get("content")
    if not isinstance(content, str):
        return message
    return cast("Message", {**message, "content": [ContentBlock(text=content)]})


def parse_date(value: object) -> datetime:
    """Return a date as BSON keeps it: UTC, milliseconds. ISO strings of older documents are read; else the epoch."""
    return read_date(value) or datetime.fromtimestamp(0, UTC)


def read_date(value: object) -> datetime | None:
    """Return a date as BSON keeps it out of a date or an ISO string, None out of anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return bson_date(moment) if isinstance(moment, datetime) else None
    except (ValueError, OverflowError):  # no date at all, or one that UTC cannot express
        return None


def dated(item: Any, name: str) -> Any:
    """Return a feedback or guardrail event with the ISO string that older tools stored there as a date."""
    if not isinstance(item, Mapping) or not isinstance(item.get(name), str):
        return item
    return {**item, name: read_date(item[name]) or item[name]}


def bson_date(value: datetime) -> datetime:
    """Return the date in UTC, cut to the milliseconds that BSON holds; a naive one is taken as UTC."""
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def iso_date(value: object) -> str:
    """Return Strands' form of a date, an ISO 8601 string."""
    return value.isoformat() if isinstance(value, datetime) else str(value or "")


def now() -> datetime:
    """Return the present as BSON keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _blocks(content: object) -> object:
    return [{"text": content}] if isinstance(content, str) else content


def _as_list(content: object) -> Sequence[Any]:
    return content if isinstance(content, list | tuple) else []
