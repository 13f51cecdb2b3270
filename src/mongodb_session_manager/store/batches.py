"""What one flush writes: frozen changes, rendered into guarded updates of one session document.

A batch is a list of steps, nearly always one. `$push` and an update of elements of the same array cannot share an
update (server error 40), so a change to a message that is stored already takes a step of its own. Each step carries
a token: the repository applies a token once, however often the step is sent.

A step is rendered anew each time it is sent, since another writer may have taken the numbers it expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from strands.types.content import Message
from strands.types.session import SessionMessage

from ..schema.agents import new_agent, ranges
from ..schema.messages import iso_date, now
from ..schema.sessions import KEY_RING, new_token
from ..schema.values import encoded_size

Document = dict[str, Any]


class RefusedStepError(Exception):
    """The document refused a step whose submitter decides what follows from that."""


@dataclass(eq=False, slots=True)
class Record:
    """A message on its way between a live agent and the document.

    Attributes:
        message_id: Its number; provisional until it is stored.
        message: The very object that the agent holds, which tells it from an equal one.
        session_message: Strands' record of it, kept in step with the number.
        document: The encoded message, until it is stored.
        stored: Whether the server acknowledged it.
        frozen: Whether it is part of a batch that may have been sent.
        by_hand: Whether user code appended it, not Strands.
        unannounced: Whether it was found among the agent's messages, without an event that it was added.
        tracking_id: Strands' id of the message, which tells a copy of it from others.
        content: The content object at the last capture; another one means that Strands rewrote the message.
        size: Bytes of the encoded message.
        custom: The message's custom metadata at the last capture (pins).
        payloads: Large bytes that it refers to and that may have to be stored yet, by name.
        references: The names of all that it refers to, by field.
    """

    message_id: int
    message: Message
    session_message: SessionMessage
    document: Document | None = None
    stored: bool = False
    frozen: bool = False
    by_hand: bool = False
    unannounced: bool = False
    tracking_id: str | None = None
    content: object = None
    custom: object = None
    size: int = 0
    payloads: dict[str, bytes] = field(default_factory=dict)
    references: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def referred(self) -> set[str]:
        """The names of all payloads that it refers to."""
        return set().union(*self.references.values())

    def renumber(self, message_id: int) -> None:
        """Take another number."""
        self.message_id = message_id
        self.session_message.message_id = message_id


@dataclass
class ElementChange:
    """Fields of one stored message that change.

    Attributes:
        key: The agent's field under `agents`.
        record: The message.
        fields: Fields to set.
        removed: Fields to remove.
        payloads: Large bytes that the fields refer to, by name.
        released: Names of payloads that the message referred to before.
    """

    key: str
    record: Record
    fields: Document = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    payloads: dict[str, bytes] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)


@dataclass
class AgentChanges:
    """What changes of one agent.

    Attributes:
        key: Its field under `agents`.
        create: The agent is not stored yet.
        expected: The next message number that the document must hold for this step to match.
        records: Messages to append.
        fields: Fields to set, below the agent.
        increments: Counters to raise, below the agent.
        window: The records that the agent holds, None when the stored window stands.
        window_head: How many of them come before what the conversation manager put in.
        payloads: Large bytes that the fields refer to, by name.
        released: Names of payloads that the fields referred to before.
    """

    agent_id: str
    key: str
    create: bool
    expected: int
    records: list[Record] = field(default_factory=list)
    fields: Document = field(default_factory=dict)
    increments: dict[str, float] = field(default_factory=dict)
    window: list[Record] | None = None
    window_head: int = 0
    payloads: dict[str, bytes] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)

    @property
    def next_message_id(self) -> int:
        """The number that the document holds once this is applied."""
        return self.expected + len(self.records)


@dataclass
class Step:
    """One update of the session document.

    Attributes:
        agents: What changes of agents.
        element: Fields of one stored message that change.
        sealed: That message is in a segment, which is changed once this step is applied. The step itself changes
            nothing: it proves that the writer may, and tells others that something changed.
        fields: Fields to set.
        removed: Fields to remove.
        pushes: Items to append, by the path of their list.
        increments: Counters to raise.
        guard: A further condition.
        awaits_refusal: A refusal by the document ends the step, and whoever submitted it hears of that
            (`RefusedStepError`) instead of sending it again.
        payloads: Large bytes that its own fields refer to, by name.
        released: Names of payloads that these fields referred to before.
        key: The idempotency key of the turn that ends with this step.
        token: What makes the step count once.
    """

    agents: list[AgentChanges] = field(default_factory=list)
    element: ElementChange | None = None
    fields: Document = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    pushes: dict[str, list[Document]] = field(default_factory=dict)
    increments: dict[str, float] = field(default_factory=dict)
    guard: Document = field(default_factory=dict)
    awaits_refusal: bool = False
    payloads: dict[str, bytes] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    sealed: bool = False
    key: str | None = None
    token: str = field(default_factory=new_token)

    @property
    def rewrites(self) -> str | None:
        """The field of the agent of whose messages one gets another content, so that no copy of it may be left."""
        return None if self.element is None or "content" not in self.element.fields else self.element.key

    @property
    def size(self) -> int:
        """About how many bytes the step adds to the lists of the document."""
        size = sum(record.size for changes in self.agents for record in changes.records)
        size += sum(encoded_size(items) for items in self.pushes.values())
        if self.element is not None and not self.sealed:
            size += encoded_size(self.element.fields)
        return size

    def all_payloads(self) -> dict[str, bytes]:
        """Return everything large that the step refers to, by name."""
        found = dict(self.payloads)
        for changes in self.agents:
            found |= changes.payloads
            for record in changes.records:
                found |= record.payloads
        return found if self.element is None else found | self.element.payloads

    def all_released(self) -> set[str]:
        """Return the names of all payloads that the step may leave without a reference."""
        found = self.released.union(*(changes.released for changes in self.agents))
        return found if self.element is None else found | self.element.released

    def render(self) -> tuple[Document, Document]:
        """Return the filter and the update, without what the repository adds to each (session, token, dates)."""
        filter_: Document = dict(self.guard)
        sets: Document = dict(self.fields)
        pushes: Document = {name: {"$each": items} for name, items in self.pushes.items()}
        if self.key is not None:
            pushes["idempotency_keys"] = {"$each": [self.key], "$slice": -KEY_RING}
        increments: dict[str, float] = dict(self.increments)
        unsets = dict.fromkeys(self.removed, "")
        for changes in self.agents:
            render_agent = _render_new_agent if changes.create else _render_stored_agent
            render_agent(changes, filter_, sets, pushes, increments)
        if self.element is not None and not self.sealed:
            _render_element(self.element, filter_, sets, unsets, increments)
        _add(increments, "live_bytes", self.size)
        operators = {"$set": sets, "$unset": unsets, "$push": pushes, "$inc": increments}
        return filter_, {operator: content for operator, content in operators.items() if content}


def _documents(changes: AgentChanges) -> list[Document]:
    return [{"message_id": record.message_id, **(record.document or {})} for record in changes.records]


def _render_new_agent(
    changes: AgentChanges, filter_: Document, sets: Document, pushes: Document, increments: dict[str, float]
) -> None:
    agent = new_agent(changes.agent_id, now())
    for path, value in {**changes.fields, **changes.increments}.items():
        *parents, name = path.split(".")
        target = agent
        for parent in parents:
            target = target.setdefault(parent, {})
        target[name] = value
    agent["next_message_id"] = changes.next_message_id
    agent["messages"] = _documents(changes)
    if changes.window is not None:
        agent |= _window(changes)
    filter_[f"agents.{changes.key}"] = {"$exists": False}
    sets[f"agents.{changes.key}"] = agent
    _add(increments, "summary.agents", 1)
    _add(increments, "summary.messages", len(changes.records))
    _raise_summary(changes, increments)


def _render_stored_agent(
    changes: AgentChanges, filter_: Document, sets: Document, pushes: Document, increments: dict[str, float]
) -> None:
    prefix = f"agents.{changes.key}"
    moment = now()
    # Also where nothing is appended: setting a field of an agent that is gone would leave half an agent behind.
    filter_[f"{prefix}.next_message_id"] = changes.expected if changes.records else {"$exists": True}
    for path, value in changes.fields.items():
        sets[f"{prefix}.{path}"] = value
    sets[f"{prefix}.updated_at"] = moment
    if any(path.startswith("agent_data.") for path in changes.fields):
        sets[f"{prefix}.agent_data.updated_at"] = iso_date(moment)
    if changes.window is not None:
        for name, value in _window(changes).items():
            sets[f"{prefix}.{name}"] = value
    for path, amount in changes.increments.items():
        _add(increments, f"{prefix}.{path}", amount)
    if changes.records:
        pushes[f"{prefix}.messages"] = {"$each": _documents(changes)}
        sets[f"{prefix}.next_message_id"] = changes.next_message_id
        _add(increments, "summary.messages", len(changes.records))
    _raise_summary(changes, increments)


def _window(changes: AgentChanges) -> Document:
    held = [record.message_id for record in changes.window or ()]
    return {"window": ranges(held, changes.next_message_id), "window_head": changes.window_head}


def _raise_summary(changes: AgentChanges, increments: dict[str, float]) -> None:
    for path, amount in changes.increments.items():
        if path.startswith("usage.") and path.count(".") == 1:
            _add(increments, f"summary.{path}", amount)


def _render_element(
    element: ElementChange, filter_: Document, sets: Document, unsets: Document, increments: dict[str, float]
) -> None:
    messages = f"agents.{element.key}.messages"
    filter_[messages] = {"$elemMatch": {"message_id": element.record.message_id}}
    for name, value in element.fields.items():
        sets[f"{messages}.$.{name}"] = value
    sets[f"{messages}.$.updated_at"] = now()
    # Guards seals: a sealer that read the message before this change must not commit its older copy.
    _add(increments, f"agents.{element.key}.redactions", 1)
    for name in element.removed:
        unsets[f"{messages}.$.{name}"] = ""


def _add(increments: dict[str, float], path: str, amount: float) -> None:
    if amount:
        increments[path] = increments.get(path, 0) + amount


@dataclass(eq=False)
class Batch:
    """Steps to be applied in order, each once.

    Attributes:
        steps: What to apply.
        withdrawable: A failure ends it; it is not kept for a later flush.
        position: The step that comes next.
        version: Raised when that step was adjusted to what another writer did.
        refusals: How often that step was refused and nothing could be adjusted.
        sent: Whether any of it may have reached the server.
        abandoned: Nobody waits for it any more.
        error: Why it was given up.
    """

    steps: list[Step]
    withdrawable: bool = False
    position: int = 0
    version: int = 0
    refusals: int = 0
    sent: bool = False
    abandoned: bool = False
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        """Whether every step is known to be applied, or the batch was given up."""
        return self.error is not None or self.position >= len(self.steps)


BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of messages in one step; more are split over several, so that a tail can be sealed in between."""


WHOLE_BYTES = 8 * 1024 * 1024
"""Most bytes of messages in one step that must not be split. There is room for them in a document beside what a seal
leaves of it, which is half of what makes it crowded at most."""


def fits_whole(changes: Sequence[AgentChanges]) -> bool:
    """Tell whether the messages of all these agents may go into one step."""
    return sum(record.size for change in changes for record in change.records) <= WHOLE_BYTES


def split(changes: AgentChanges) -> list[AgentChanges]:
    """Split the messages of one agent over several steps where they are too many bytes for one."""
    parts: list[list[Record]] = [[]]
    size = 0
    for record in changes.records:
        if parts[-1] and size + record.size > BATCH_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += record.size
    rest: list[AgentChanges] = []
    expected = changes.expected + len(parts[0])
    for records in parts[1:]:
        rest.append(AgentChanges(changes.agent_id, changes.key, create=False, expected=expected, records=records))
        expected += len(records)
    if rest:
        # The window names messages of the last part, so it goes with that one.
        rest[-1].window, rest[-1].window_head, changes.window = changes.window, changes.window_head, None
    changes.records = parts[0]
    return [changes, *rest]


@dataclass(frozen=True)
class Head:
    """What a refused step needs to know of the document: who holds which next number, and which message is there.

    Attributes:
        next_ids: Next message number by agent key; an agent that is not stored is missing.
        element_found: Whether the message that the step changes is in the document.
        lease: The lease that stands on the session, None when nobody holds it.
        children_expire_at: When the documents that belong to the session expire; None for never.
        has_children: Whether segments or payloads may belong to the session.
    """

    next_ids: Mapping[str, int]
    element_found: bool
    lease: Mapping[str, Any] | None = None
    children_expire_at: datetime | None = None
    has_children: bool = False
