"""What a fork holds: the document of a new session out of an older one's, whole or up to a message.

What belongs to the newest message cannot belong to a conversation that ends before it. So of an agent whose newest
messages stay behind, these are left out or made anew:

- state, interrupts and the model's own state: the agent starts with what the application builds it with;
- the window: what a conversation manager took out after the cut is in again. A summary stays where all that it covers
  is older than the cut; a sliding window stays as wide as it was, and begins with something that a person said;
- running totals: what the messages that are kept report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from . import paths, values
from .agents import STATE_FIELDS
from .fields import FIELDS
from .messages import has_tool_result, iso_date, read_date
from .metadata import metadata_size
from .metrics import USAGE_COUNTS
from .names import encode_name
from .numbers import is_measure, stored_count
from .sessions import new_session, ttl_of
from .totals import RunningTotals, metric_counts, total_usage
from .windows import is_window

Document = dict[str, Any]

_LEFT_BEHIND: Final = frozenset(field.name for field in FIELDS if not field.is_forked)
"""Fields of a session that are its own: who it is, who writes it, what was thought of it."""

_SESSION_OBJECTS = (paths.AGENTS, paths.SUMMARY, paths.METADATA)
_SESSION_LISTS = (paths.GUARDRAIL_EVENTS, paths.ERRORS)
_AGENT_OBJECTS = (paths.AGENT_DATA, paths.ARCHIVE, paths.USAGE)
_MANAGER_STATE = paths.agent_data(paths.MANAGER_STATE)
_SLIDING = "SlidingWindowConversationManager"


@dataclass(frozen=True)
class Cut:
    """The message that a fork ends with.

    Attributes:
        key: The agent's field under `agents`.
        message_id: The message's number.
        moment: When it was stored, which is where the other agents end.
    """

    key: str
    message_id: int
    moment: datetime

    def keeps(self, key: str, number: int, item: object) -> bool:
        """Tell whether a message comes before the cut; once one does not, no later one does."""
        if key == self.key:
            return number <= self.message_id
        return self.is_before(item, paths.CREATED_AT)

    def is_before(self, item: object, name: str) -> bool:
        """Tell whether something is dated before the cut; what has no date is."""
        moment = read_date(item.get(name)) if isinstance(item, Mapping) else None
        return moment is None or moment <= self.moment


@dataclass
class Course:
    """What is noted of an agent's messages while they pass by, oldest first.

    Attributes:
        width: How many messages its sliding window holds; 0 where nothing slides.
        count: How many messages passed.
        next_id: The number after the last one.
        totals: What they used.
    """

    width: int = 0
    count: int = 0
    next_id: int = 0
    totals: RunningTotals = field(default_factory=RunningTotals)
    _starts: deque[int] = field(default_factory=deque)
    _tools: dict[str, str] = field(default_factory=dict)

    def note(self, number: int, item: object) -> None:
        """Take note of the next message."""
        self.count += 1
        self.next_id = number + 1
        if not isinstance(item, Mapping):
            return
        if item.get("role") == "assistant":
            self._note_answer(item)
            return
        if self.width and not has_tool_result(item):
            self._prune()
            self._starts.append(number)
        for result in _blocks(item, "toolResult"):
            self._note_result(result)

    def window_start(self) -> int:
        """Return the first message of a window of the same width that ends with the last message."""
        self._prune()
        first = self.next_id - self.width
        return self._starts[0] if self._starts and self._starts[0] <= first else 0

    def _prune(self) -> None:
        while len(self._starts) > 1 and self._starts[1] <= self.next_id - self.width:
            self._starts.popleft()

    def _note_answer(self, item: Mapping[str, Any]) -> None:
        reported = paths.at(item, "metadata.usage")
        self._tools.clear()
        if isinstance(reported, Mapping):
            # Strands' own record of this one call of the model.
            for name in USAGE_COUNTS:
                self._add((name,), reported.get(name))
            self._add(("latencyMs",), paths.at(item, "metadata.metrics.latencyMs"))
            self._add(("modelCalls",), 1)
            for use in _blocks(item, "toolUse"):
                name = values.decode(use.get("name"))
                if isinstance(name, str) and isinstance(use.get("toolUseId"), str):
                    self._tools[use["toolUseId"]] = encode_name(name)
        for path, count in metric_counts(item.get(paths.EVENT_LOOP_METRICS)):
            growth = self.totals.growth(path, count)
            if not isinstance(reported, Mapping) or path[-1] == "total_time":
                self._add(path, growth)

    def _note_result(self, result: Mapping[str, Any]) -> None:
        name = self._tools.pop(str(result.get("toolUseId")), None)
        if name is not None:
            self._add(("tools", name, "call_count"), 1)
            outcome = "error_count" if result.get("status") == "error" else "success_count"
            self._add(("tools", name, outcome), 1)

    def _add(self, path: tuple[str, ...], amount: Any) -> None:
        if is_measure(amount) and amount:
            self.totals.add(path, amount)


def _blocks(message: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    for block in paths.list_at(message, "content"):
        if isinstance(block, Mapping) and isinstance(block.get(kind), Mapping):
            yield block[kind]


def sliding_width(agent: Mapping[str, Any]) -> int:
    """Return how many messages the sliding window of a stored agent holds, 0 where nothing slides."""
    if paths.at(agent, f"{_MANAGER_STATE}.__name__") != _SLIDING:
        return 0
    first = _window(agent)[-1][0]  # Without what is pinned, further up.
    return max(stored_count(agent.get(paths.NEXT_MESSAGE_ID)) - first, 1) if first else 0


def _window(agent: Mapping[str, Any]) -> list[list[Any]]:
    stored = agent.get(paths.WINDOW)
    if is_window(stored) and (ranges := [[first, last] for first, last in stored if first is not None]):
        return ranges
    removed = paths.at(agent, f"{_MANAGER_STATE}.removed_message_count")
    return [[removed if isinstance(removed, int) else 0, None]]


def sound(document: Document) -> Document:
    """Return a session document without what is of no use to a fork: what other tools left in the place of objects.

    The agents that are there may lack their objects, too, but hold nothing else in their place.
    """
    objects = {name: paths.object_at(document, name) for name in _SESSION_OBJECTS}
    kept = {name: value for name, value in document.items() if name not in _SESSION_LISTS or isinstance(value, list)}
    found = objects[paths.AGENTS].items()
    agents = {key: _sound_agent(agent) for key, agent in found if isinstance(agent, Mapping)}
    return {**kept, **objects, paths.AGENTS: agents}


def _sound_agent(agent: Mapping[str, Any]) -> Document:
    sound = {name: value for name, value in agent.items() if name not in _AGENT_OBJECTS or isinstance(value, Mapping)}
    return {**sound, paths.MESSAGES: paths.list_at(agent, paths.MESSAGES)}


def cut_agent(agent: Document, course: Course, moment: datetime) -> Document:
    """Return a stored agent whose newest messages are left behind, still without those that are kept.

    Args:
        agent: The agent as it is stored.
        course: What was counted of its messages up to the cut.
        moment: The present.
    """
    data = {name: value for name, value in (agent.get(paths.AGENT_DATA) or {}).items() if name not in STATE_FIELDS}
    data[paths.INTERNAL_STATE] = {}
    data[paths.UPDATED_AT] = iso_date(moment)
    rest = {name: value for name, value in agent.items() if name not in (paths.WINDOW, paths.WINDOW_HEAD)}
    window = _window(agent)
    last = course.next_id - 1
    if course.width and course.count:
        start = course.window_start()
        # What was pinned, further up.
        pinned = [
            [first, start - 1 if end is None else min(end, start - 1)] for first, end in window[:-1] if first < start
        ]
        if pinned and pinned[-1][1] == start - 1:
            start = pinned.pop()[0]
        rest[paths.WINDOW] = [*pinned, [start, None]]
        manager_state: Mapping[str, Any] = {}
    elif course.count and window[-1][0] <= last:
        manager_state = paths.object_at(agent, _MANAGER_STATE)
        if is_window(agent.get(paths.WINDOW)):
            rest |= {name: agent[name] for name in (paths.WINDOW, paths.WINDOW_HEAD) if name in agent}
    else:
        manager_state = {}
        rest[paths.WINDOW] = [[0, None]]
    data[paths.MANAGER_STATE] = manager_state
    return {
        **rest,
        paths.AGENT_DATA: data,
        paths.UPDATED_AT: moment,
        paths.NEXT_MESSAGE_ID: course.next_id,
        paths.USAGE: course.totals.usage,
    }


def fork_document(
    source: Mapping[str, Any],
    agents: Mapping[str, Document],
    *,
    session_id: str,
    incarnation: str,
    cut: Cut | None,
    message_count: int,
    events: Mapping[str, Any],
    metadata: bool,
    moment: datetime,
) -> Document:
    """Return the document of a fork, without the fields that tell of segments and payloads.

    Args:
        source: The document of the session that is forked, in today's form.
        agents: Its agents as the fork has them, by key.
        session_id: The fork's id.
        incarnation: The fork's incarnation.
        cut: Where it ends; None for all of it.
        message_count: How many messages it has, sealed ones included.
        events: Its guardrail events, and what is sealed of them.
        metadata: Whether it takes the metadata along.
        moment: The present.
    """
    taken = {name: value for name, value in source.items() if name not in _LEFT_BEHIND}
    document = {**new_session(session_id, moment, ttl_s=ttl_of(source)), **taken}
    errors = paths.list_at(source, paths.ERRORS)
    if cut is not None:
        # Graphs and swarms say where they are now, which is after the cut.
        document[paths.MULTI_AGENTS] = {}
        errors = [error for error in errors if cut.is_before(error, paths.TIMESTAMP)]
    if not metadata:
        document[paths.METADATA] = {}
    document[paths.METADATA_BYTES] = metadata_size(document.get(paths.METADATA))
    document |= {
        paths.INCARNATION: incarnation,
        **events,
        paths.AGENTS: dict(agents),
        paths.ERRORS: errors,
        paths.SUMMARY: _summary(source, agents, message_count, errors),
    }
    lists = [[agent.get(paths.MESSAGES) for agent in agents.values()], document.get(paths.GUARDRAIL_EVENTS)]
    document[paths.LIVE_BYTES] = values.encoded_size(lists)
    return document


def _summary(
    source: Mapping[str, Any], agents: Mapping[str, Document], message_count: int, errors: list[Any]
) -> Document:
    usage = total_usage(paths.object_at(agent, paths.USAGE) for agent in agents.values())
    summary = {paths.AGENTS: len(agents), paths.MESSAGES: message_count, paths.FEEDBACKS: 0, paths.USAGE: usage}
    before = source.get(paths.SUMMARY) or {}
    if paths.RATINGS in before:
        summary[paths.RATINGS] = dict.fromkeys(paths.object_at(before, paths.RATINGS), 0)
    if paths.ERRORS in before:
        gone, count = len(paths.list_at(source, paths.ERRORS)) - len(errors), before[paths.ERRORS]
        summary[paths.ERRORS] = max(stored_count(count) - gone, len(errors)) if gone else count
    return summary
