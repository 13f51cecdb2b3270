"""What a session used over time: one point per answer, neighbouring ones together where there are many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import CorruptMessageError
from ..schema import paths
from ..schema.messages import flatten_message, read_date
from ..web.plain import number_or_none, storable_text
from .items import reported
from .reading import ItemList, ListKind, ListMovedError, SessionReader, StoredHead
from .schemas import UsagePoint, UsageSeries

MOST_POINTS = 500
NEWEST_MESSAGES = 10_000
"""Messages that are looked at, of all agents together."""

_PART = 500
"""Messages that are read at once; between two parts the event loop has a turn."""

_ATTEMPTS = 5
_FIELDS: Mapping[ListKind, tuple[str, ...]] = {
    "message": ("message_id", "created_at", "metadata", paths.EVENT_LOOP_METRICS),
    "feedback": (),
    "guardrail": (),
    "error": (),
}
_COUNTS = ("input_tokens", "output_tokens", "latency_ms", "time_to_first_byte_ms")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class _Answer:
    timestamp: datetime | None
    agent_id: str
    message_id: int | None
    counts: Mapping[str, Any]


async def usage_series(reader: SessionReader, session_id: str) -> UsageSeries:
    """Return what the answers of a session used, oldest first.

    Raises:
        SessionNotFoundError: No such session.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await _series(reader, await reader.head(session_id))
        except ListMovedError:
            continue
    return await _series(reader, await reader.head(session_id))


async def _series(reader: SessionReader, head: StoredHead) -> UsageSeries:
    lists = [entry for entry in head.lists if entry.agent is not None]
    share = NEWEST_MESSAGES // max(len(lists), 1)
    answers = [[answer async for answer in _answers(reader, head, entry, share)] for entry in lists]
    together = -(-sum(map(len, answers)) // MOST_POINTS)
    points = [point for of_agent in answers for point in _merged(of_agent, together)]
    points.sort(key=lambda point: point.timestamp or _NEVER)
    return UsageSeries(points=points, complete=all(entry.count <= share for entry in lists))


async def _answers(reader: SessionReader, head: StoredHead, entry: ItemList, share: int) -> AsyncIterator[_Answer]:
    assert entry.agent is not None
    before: dict[str, float] = {}
    for start in range(max(entry.count - share, 0), entry.count, _PART):
        stop = min(start + _PART, entry.count)
        found = await reader.stretch(head, {entry.key: (start, stop)}, _FIELDS)
        for answer in _read(entry, found[entry.key], start, before):
            yield answer
        if entry.held is not None:
            await asyncio.sleep(0)  # nothing was waited for: these messages were there already


def _read(entry: ItemList, stored: Iterable[Any], start: int, before: dict[str, float]) -> Iterator[_Answer]:
    assert entry.agent is not None
    for place, raw in enumerate(stored, start):
        if not isinstance(raw, Mapping):
            continue
        message: Mapping[str, Any] = raw
        if entry.held is not None:
            try:
                message = flatten_message(raw, agent_id=entry.agent.agent_id, position=place, legacy=entry.agent.legacy)
            except CorruptMessageError:
                continue
        found = reported(message)
        if found is None:
            continue
        counts = {name: found.numbers.get(name) for name in _COUNTS}
        if found.accumulated:
            counts = _difference(counts, before)
        number = number_or_none(message.get("message_id"))
        yield _Answer(
            read_date(message.get("created_at")),
            entry.agent.agent_id,
            None if number is None else int(number),
            counts,
        )


def _difference(counts: dict[str, Any], before: dict[str, float]) -> dict[str, Any]:
    """Return what was added since the message before; a count that falls begins anew with another run."""
    added = dict(counts)
    for name, count in counts.items():
        if count is None or name == "time_to_first_byte_ms":
            continue
        earlier = before.get(name, 0)
        added[name] = count - earlier if count >= earlier else count
        before[name] = count
    return added


def _merged(answers: list[_Answer], together: int) -> Iterator[UsagePoint]:
    for first in range(0, len(answers), max(together, 1)):
        part = answers[first : first + max(together, 1)]
        found = {name: [a.counts[name] for a in part if a.counts[name] is not None] for name in _COUNTS}
        yield UsagePoint(
            timestamp=part[-1].timestamp,
            agent_id=storable_text(part[-1].agent_id),
            message_id=part[-1].message_id,
            answers=len(part),
            input_tokens=sum(found["input_tokens"]) if found["input_tokens"] else None,
            output_tokens=sum(found["output_tokens"]) if found["output_tokens"] else None,
            latency_ms=_average(found["latency_ms"]),
            time_to_first_byte_ms=_average(found["time_to_first_byte_ms"]),
        )


def _average(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
