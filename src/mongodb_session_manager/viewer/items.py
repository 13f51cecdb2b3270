"""Stored messages, feedbacks and guardrail events as the API shows them; odd ones as what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CorruptMessageError
from ..schema import paths, values
from ..schema.agents import StoredAgent
from ..schema.messages import read_date
from ..web.plain import Plain, number_or_none, storable_text, text_or_none
from .addresses import session_url
from .block_schemas import UnknownBlock
from .blocks import BlockReader
from .reading import ItemList
from .schemas import ErrorItem, FeedbackItem, GuardrailItem, GuardrailNote, MessageItem, MessageMetrics
from .traces import Traces, trace_id_of

Item = MessageItem | FeedbackItem | GuardrailItem | ErrorItem

_USAGE = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "total_tokens": "totalTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheWriteInputTokens",
}
_LATENCY = {"latency_ms": "latencyMs", "time_to_first_byte_ms": "timeToFirstByteMs"}
_REDACTION = paths.REDACT_MESSAGE
_MOST_POLICIES = 100


class ItemReader:
    """Reads items of one session."""

    def __init__(self, session_id: str, traces: Traces, *, whole: bool = False) -> None:
        """Read for a session; `whole` leaves nothing out because of its size."""
        self._session_id = session_id
        self._traces = traces
        self._whole = whole

    def items(self, entry: ItemList, stored: Sequence[Any], start: int) -> list[Item]:
        """Return a stretch of a list that begins at the position `start`."""
        match entry.kind:
            case "message":
                assert entry.agent is not None
                numbers: Sequence[int] = range(start, start + len(stored))
                if entry.held is not None:
                    # Of today's documents numbers are positions; an older tool's may be anything.
                    numbers = entry.numbers[start : start + len(stored)]
                return list(self._messages(entry.agent, stored, numbers))
            case "feedback":
                return [self._feedback(item) for item in stored]
            case "guardrail":
                return [self._guardrail(item) for item in stored]
            case "error":
                return [self._error(item) for item in stored]

    def _messages(self, agent: StoredAgent, stored: Sequence[Any], numbers: Sequence[int]) -> Iterator[MessageItem]:
        part = StoredAgent(
            agent.agent_id,
            agent.key,
            {"messages": list(stored), "created_at": agent.raw.get("created_at"), paths.NEXT_MESSAGE_ID: 0},
            legacy=agent.legacy,
        )
        for raw, message, number in zip(stored, part.messages(), numbers, strict=True):
            if isinstance(message, CorruptMessageError):
                yield self._corrupt(agent, raw, number, message)
            else:
                yield self._message(agent, raw, message, number)

    def _message(self, agent: StoredAgent, raw: Any, message: Mapping[str, Any], number: int) -> MessageItem:
        plain = Plain(whole=self._whole)
        redaction = message.get(_REDACTION)
        content = message["content"] if redaction is None else redaction["content"]

        def image_address(place: str) -> str:
            return session_url(self._session_id, "image", agent_id=agent.agent_id, message_id=number, place=place)

        event = message.get(paths.GUARDRAIL_EVENT)
        trace_id = trace_id_of(message.get(paths.TRACE_ID))
        return MessageItem(
            timestamp=read_date(message.get("created_at")) if _is_dated(raw) else None,
            agent_id=storable_text(agent.agent_id),
            message_id=number,
            role=storable_text(message["role"])[:200],
            content=BlockReader(plain, image_address).blocks(values.decode(content)),
            redacted=redaction is not None,
            guardrail=_note(event) if isinstance(event, Mapping) else None,
            metrics=_message_metrics(message),
            trace_id=trace_id,
            trace_url=self._traces.address(trace_id),
            cut=plain.cut,
        )

    def _corrupt(self, agent: StoredAgent, raw: Any, number: int, error: CorruptMessageError) -> MessageItem:
        plain = Plain(whole=self._whole)
        # Where anything was redacted, what is left may be the original.
        shown = "(redacted)" if _mentions_redaction(raw) else plain.value(values.decode(raw))
        role = raw.get("role") if isinstance(raw, Mapping) else None
        return MessageItem(
            timestamp=read_date(raw.get("created_at")) if isinstance(raw, Mapping) else None,
            agent_id=storable_text(agent.agent_id),
            message_id=number,
            role=text_or_none(role) or "unknown",
            content=[UnknownBlock(value=shown)],
            redacted=_mentions_redaction(raw),
            cut=plain.cut,
            problem=f"this message cannot be read: {error.reason}",
        )

    def _feedback(self, item: object) -> FeedbackItem:
        plain = Plain(whole=self._whole)
        given = values.decode(item)
        if not isinstance(item, Mapping) or not isinstance(given, Mapping):
            shown = {"value": plain.value(given)}
            return FeedbackItem(timestamp=None, rating=None, comment=None, extra=shown, problem="it is no document")
        comment = given.get("comment")
        extra = {key: value for key, value in given.items() if key not in ("rating", "comment", "created_at")}
        problem = None
        if comment is not None and not isinstance(comment, str):
            extra["comment"] = comment
            problem = "its comment is no text"
        return FeedbackItem(
            timestamp=read_date(item.get("created_at")),
            rating=plain.value(given.get("rating")),
            comment=plain.text(comment)[0] if isinstance(comment, str) else None,
            extra=plain.fields(extra),
            problem=problem,
        )

    def _guardrail(self, item: object) -> GuardrailItem:
        if not isinstance(item, Mapping):
            return GuardrailItem(
                timestamp=None,
                agent_id=None,
                message_id=None,
                action=None,
                stop_reason=None,
                policies_triggered={},
                problem="it is no document",
            )
        note = _note(item)
        number = number_or_none(item.get("message_id"))
        return GuardrailItem(
            timestamp=note.timestamp,
            agent_id=text_or_none(values.decode(item.get("agent_id"))),
            message_id=None if number is None else int(number),
            action=note.action,
            stop_reason=note.stop_reason,
            policies_triggered=note.policies_triggered,
        )

    def _error(self, item: object) -> ErrorItem:
        given = item if isinstance(item, Mapping) else {}
        name = text_or_none(given.get("error"))
        trace_id = trace_id_of(given.get(paths.TRACE_ID))
        return ErrorItem(
            timestamp=read_date(given.get("timestamp")),
            agent_id=text_or_none(values.decode(given.get("agent_id"))),
            error=(name or "unknown")[:200],
            trace_id=trace_id,
            trace_url=self._traces.address(trace_id),
            problem=None if name else "it does not say which error",
        )


@dataclass(frozen=True)
class Reported:
    """What an answer cost: known numbers by their names in `MessageMetrics`; `accumulated` as there."""

    numbers: Mapping[str, int | float]
    accumulated: bool


def reported(message: Mapping[str, Any]) -> Reported | None:
    """Return what an answer cost: what its model reported for it, else the totals of its run; None without either."""
    found = _metrics(values.decode(message.get("metadata")), "usage", "metrics")
    if found:
        return Reported(found, accumulated=False)
    found = _metrics(message.get(paths.EVENT_LOOP_METRICS), "accumulated_usage", "accumulated_metrics")
    return Reported(found, accumulated=True) if found else None


def _message_metrics(message: Mapping[str, Any]) -> MessageMetrics | None:
    found = reported(message)
    return None if found is None else MessageMetrics(**found.numbers, accumulated=found.accumulated)


def _metrics(holder: object, usage: str, latency: str) -> dict[str, int | float]:
    found: dict[str, int | float] = {}
    if not isinstance(holder, Mapping):
        return found
    for section, names in ((usage, _USAGE), (latency, _LATENCY)):
        part = holder.get(section)
        if isinstance(part, Mapping):
            found |= {
                name: number for name, key in names.items() if (number := number_or_none(part.get(key))) is not None
            }
    return found


def _note(event: Mapping[str, Any]) -> GuardrailNote:
    policies = values.decode(event.get(paths.POLICIES_TRIGGERED))
    shown: dict[str, list[str]] = {}
    for name, finds in list(policies.items())[:_MOST_POLICIES] if isinstance(policies, Mapping) else ():
        listed = finds if isinstance(finds, list | tuple) else [finds]
        shown[storable_text(str(name))] = [Plain().text(find)[0][:500] for find in listed[:_MOST_POLICIES]]
    return GuardrailNote(
        action=text_or_none(event.get("action")),
        timestamp=read_date(event.get("timestamp")),
        stop_reason=text_or_none(event.get("stop_reason")),
        policies_triggered=shown,
    )


def _is_dated(raw: object) -> bool:
    """Tell whether a message has a date of its own: one that has none gets another one's when it is read."""
    if not isinstance(raw, Mapping):
        return False
    nested = raw.get("message")
    holders = [raw, nested] if isinstance(nested, Mapping) else [raw]
    return any(read_date(holder.get(name)) for holder in holders for name in ("created_at", "updated_at"))


def _mentions_redaction(raw: object) -> bool:
    if not isinstance(raw, Mapping):
        return False
    nested = raw.get("message")
    return raw.get(_REDACTION) is not None or (isinstance(nested, Mapping) and nested.get(_REDACTION) is not None)
