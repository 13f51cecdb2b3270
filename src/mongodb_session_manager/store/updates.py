"""What a write changes of one session, rendered into one guarded update that counts once.

An update has up to three parts: what agents add (`AppendMessages`), one stored message that changes (`ChangeMessage`),
and fields of the session itself (`SetFields`). The server takes a `$push` and a change of an element of the same array
only in updates of their own (error 40), so an update keeps these two apart for each agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..schema import paths
from ..schema.agents import new_agent
from ..schema.messages import iso_date, now
from ..schema.sessions import KEY_RING, new_token
from ..schema.titles import is_said_by_person, title_of
from ..schema.values import encoded_size
from ..schema.windows import EVERYTHING, MOST_RANGES, Ranges, bounded, changed, in_order

Document = dict[str, Any]

UPDATE_BYTES = 4 * 1024 * 1024
"""Most bytes of messages in one update; more are split over several, so that a tail can be sealed in between."""

WHOLE_BYTES = 8 * 1024 * 1024
"""Most bytes of messages in one update that must not be split. There is room for them in a document beside what a seal
leaves of it, which is half of what makes it crowded at most."""


@dataclass(eq=False, slots=True)
class NewMessage:
    """A message that is to be appended.

    Attributes:
        message_id: Its number; provisional until it is stored.
        document: The encoded message without its number, None once it is stored.
        size: Its bytes.
        payloads: Large bytes that it refers to and that may have to be stored yet, by name.
    """

    message_id: int
    document: Document | None = None
    size: int = 0
    payloads: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class WindowChange:
    """How the live window of an agent differs from the one that is stored.

    Attributes:
        stored: The window that the document must hold for this to match, None where it holds none.
        base: What it is changed from: that one, or what the agent was restored with where none is stored.
        taken_out: Messages that the agent held and holds no more.
        put_back: Messages that it holds again.
        order: All that it holds, where that is not the order of their numbers.
        head: How many of them stand before what the conversation manager put in.
        held: All that it holds, in any order.
    """

    stored: Ranges | None = None
    base: Ranges = EVERYTHING
    taken_out: Sequence[NewMessage] = ()
    put_back: Sequence[NewMessage] = ()
    order: Sequence[NewMessage] | None = None
    head: int = 0
    held: Sequence[NewMessage] = ()

    def ranges(self, next_message_id: int) -> list[list[int | None]]:
        """Return the window as it is to be stored, with the numbers that messages have by now."""
        taken_out = {message.message_id for message in self.taken_out}
        window = changed(self.base, taken_out, {message.message_id for message in self.put_back})
        if self.order is not None:
            window = in_order(window, [message.message_id for message in self.order], next_message_id)
        if len(window) <= MOST_RANGES:
            return window
        return bounded(window, [message.message_id for message in self.held])


@dataclass(slots=True)
class AppendMessages:
    """What changes of one agent.

    Attributes:
        agent_id: The agent.
        key: Its field under `agents`.
        create: The agent is not stored yet.
        expected: The next message number that the document must hold for this to match.
        messages: What is appended.
        fields: Fields to set, below the agent.
        increments: Counters to raise, below the agent.
        window: How the window changes, None when the stored one stands.
        payloads: Large bytes that the fields refer to, by name.
        referred_before: Names of payloads that the fields referred to before.
        archive_id: What tells the agent from an earlier or later one of its id; None to take the one that is there.
    """

    agent_id: str
    key: str
    create: bool
    expected: int = 0
    messages: Sequence[NewMessage] = ()
    fields: Document = field(default_factory=dict)
    increments: dict[str, float] = field(default_factory=dict)
    window: WindowChange | None = None
    payloads: dict[str, bytes] = field(default_factory=dict)
    referred_before: set[str] = field(default_factory=set)
    archive_id: str | None = None

    @property
    def next_message_id(self) -> int:
        """The number that the document holds once this is applied."""
        return self.expected + len(self.messages)

    def split(self) -> list[AppendMessages]:
        """Return it in parts where its messages are too many bytes for one update."""
        parts: list[list[NewMessage]] = [[]]
        size = 0
        for message in self.messages:
            if parts[-1] and size + message.size > UPDATE_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(message)
            size += message.size
        if len(parts) == 1:
            return [self]
        # The window names messages of the last part, so it goes with that one.
        window, self.window, self.messages = self.window, None, parts[0]
        result, expected = [self], self.next_message_id
        for messages in parts[1:]:
            part = AppendMessages(self.agent_id, self.key, create=False, expected=expected, messages=messages)
            part.archive_id = self.archive_id
            result.append(part)
            expected = part.next_message_id
        result[-1].window = window
        return result

    def _documents(self) -> list[Document]:
        return [{paths.MESSAGE_ID: message.message_id, **(message.document or {})} for message in self.messages]

    def render(self, into: _Rendering) -> None:
        """Add its part to an update."""
        if self.create:
            self._render_new(into)
        else:
            self._render_stored(into)
        for path, amount in self.increments.items():
            _, _, name = path.partition(".")
            if path == paths.usage(name) and "." not in name:
                into.increase(paths.summary_usage(name), amount)
        into.increase(paths.SUMMARY_MESSAGES, len(self.messages))

    def _render_new(self, into: _Rendering) -> None:
        agent = new_agent(self.agent_id, now())
        for path, value in {**self.fields, **self.increments}.items():
            *parents, name = path.split(".")
            target = agent
            for parent in parents:
                target = target.setdefault(parent, {})
            target[name] = value
        if self.archive_id is not None:
            agent[paths.ARCHIVE] = {"id": self.archive_id}
        agent[paths.NEXT_MESSAGE_ID] = self.next_message_id
        agent[paths.MESSAGES] = self._documents()
        agent |= self._window()
        into.guard[paths.agent(self.key)] = {"$exists": False}
        into.sets[paths.agent(self.key)] = agent
        into.increase(paths.SUMMARY_AGENTS, 1)

    def _render_stored(self, into: _Rendering) -> None:
        moment = now()
        # Also where nothing is appended: setting a field of an agent that is gone would leave half an agent behind.
        counter = paths.agent(self.key, paths.NEXT_MESSAGE_ID)
        into.guard[counter] = self.expected if self.messages else {"$exists": True}
        _guard_archive(into, self.key, self.archive_id)
        if self.window is not None:
            # Another writer took other messages out: a window that does not know of them would bring them back.
            stored = self.window.stored
            into.guard[paths.agent(self.key, paths.WINDOW)] = stored and [list(part) for part in stored]
        for path, value in {**self.fields, **self._window()}.items():
            into.sets[paths.agent(self.key, path)] = value
        into.sets[paths.agent(self.key, paths.UPDATED_AT)] = moment
        if any(path.startswith(paths.agent_data("")) for path in self.fields):
            into.sets[paths.agent(self.key, paths.agent_data(paths.UPDATED_AT))] = iso_date(moment)
        for path, amount in self.increments.items():
            into.increase(paths.agent(self.key, path), amount)
        if self.messages:
            into.pushes[paths.messages(self.key)] = {"$each": self._documents()}
            into.sets[counter] = self.next_message_id

    def _window(self) -> Document:
        if self.window is None:
            return {}
        return {paths.WINDOW: self.window.ranges(self.next_message_id), paths.WINDOW_HEAD: self.window.head}


@dataclass(slots=True)
class ChangeMessage:
    """Fields of one stored message that change.

    Attributes:
        key: The agent's field under `agents`.
        message: The message.
        fields: Fields to set.
        removed: Fields to remove.
        payloads: Large bytes that the fields refer to, by name.
        referred_before: Names of payloads that the message referred to before.
        sealed: The message is in a segment, which is changed once the update is applied. In the session document
            nothing changes then: the update proves that the writer may, and tells others that something changed.
        archive_id: What tells the agent from an earlier or later one of its id; None to take the one that is there.
    """

    key: str
    message: NewMessage
    fields: Document = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    payloads: dict[str, bytes] = field(default_factory=dict)
    referred_before: set[str] = field(default_factory=set)
    sealed: bool = False
    archive_id: str | None = None

    @property
    def rewrites(self) -> bool:
        """Whether the message gets another content, so that no copy of it may be left."""
        return "content" in self.fields

    def render(self, into: _Rendering) -> None:
        """Add its part to an update."""
        _guard_archive(into, self.key, self.archive_id)
        if self.sealed:
            return
        items = paths.messages(self.key)
        into.guard[items] = {"$elemMatch": {paths.MESSAGE_ID: self.message.message_id}}
        for name, value in self.fields.items():
            into.sets[paths.matched(items, name)] = value
        into.sets[paths.matched(items, paths.UPDATED_AT)] = now()
        for name in self.removed:
            into.unsets[paths.matched(items, name)] = ""
        # Guards seals: a sealer that read the message before this change must not commit its older copy.
        into.increase(paths.agent(self.key, paths.REDACTIONS), 1)


@dataclass(slots=True)
class SetFields:
    """What changes of the session itself, by path.

    Attributes:
        fields: Fields to set.
        removed: Fields to remove.
        pushes: Items to append, by the path of their list.
        keep: Most items that such a list keeps, the newest; None for all.
        increments: Counters to raise.
        guard: A further condition.
        payloads: Large bytes that the fields refer to, by name.
        referred_before: Names of payloads that the fields referred to before.
    """

    fields: Document = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    pushes: dict[str, list[Document]] = field(default_factory=dict)
    keep: dict[str, int] = field(default_factory=dict)
    increments: dict[str, float] = field(default_factory=dict)
    guard: Document = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    referred_before: set[str] = field(default_factory=set)

    def render(self, into: _Rendering) -> None:
        """Add its part to an update."""
        into.guard |= self.guard
        into.sets |= self.fields
        into.unsets |= dict.fromkeys(self.removed, "")
        for path, items in self.pushes.items():
            into.pushes[path] = {"$each": items}
            if path in self.keep:
                into.pushes[path]["$slice"] = -self.keep[path]
        for path, amount in self.increments.items():
            into.increase(path, amount)


@dataclass(slots=True)
class _Rendering:
    guard: Document = field(default_factory=dict)
    sets: Document = field(default_factory=dict)
    unsets: Document = field(default_factory=dict)
    pushes: Document = field(default_factory=dict)
    increments: dict[str, float] = field(default_factory=dict)

    def increase(self, path: str, amount: float) -> None:
        if amount:
            self.increments[path] = self.increments.get(path, 0) + amount


def _guard_archive(into: _Rendering, key: str, archive_id: str | None) -> None:
    # An agent may have been deleted, and made anew by another writer: its messages have the same numbers.
    if archive_id is not None:
        into.guard[paths.agent(key, paths.ARCHIVE_ID)] = archive_id


@dataclass(eq=False, slots=True)
class Update:
    """One update of a session document, which counts once however often it is sent.

    Attributes:
        agents: What changes of agents.
        message: What changes of one stored message.
        session: What changes of the session itself.
        key: The idempotency key of the turn that ends with this update.
        token: What makes it count once.
        repeats: Another attempt will bring the same token, so that this one may count whenever it arrives.
    """

    agents: list[AppendMessages] = field(default_factory=list)
    message: ChangeMessage | None = None
    session: SetFields = field(default_factory=SetFields)
    key: str | None = None
    token: str = field(default_factory=new_token)
    repeats: bool = False

    @property
    def _parts(self) -> list[AppendMessages | ChangeMessage | SetFields]:
        return [self.session, *self.agents, *(() if self.message is None else (self.message,))]

    @property
    def size(self) -> int:
        """About how many bytes it adds to the lists of the document."""
        size = sum(message.size for _, message in self._appended())
        size += sum(encoded_size(items) for items in self.session.pushes.values())
        if self.message is not None and not self.message.sealed:
            size += encoded_size(self.message.fields)
        return size

    @property
    def payloads(self) -> dict[str, bytes]:
        """Everything large that it refers to, by name."""
        found: dict[str, bytes] = {}
        for part in (*self._parts, *(message for _, message in self._appended())):
            found |= part.payloads
        return found

    @property
    def referred_before(self) -> set[str]:
        """The names of all payloads that it may leave without a reference."""
        return set().union(*(part.referred_before for part in self._parts))

    @property
    def keys(self) -> set[str]:
        """The keys of the agents that it changes."""
        keys = {changes.key for changes in self.agents}
        return keys if self.message is None else keys | {self.message.key}

    @property
    def changes_conversations(self) -> bool:
        """Whether an agent that was restored before it holds something else than is stored after it."""
        removes_agent = any(path.startswith(paths.agent("")) for path in self.session.removed)
        return bool(self.agents) or self.message is not None or removes_agent

    def render(self, *, title: Document | None = None) -> tuple[Document, Document]:
        """Return the filter and the update, without what the executor adds to each (session, token, dates)."""
        into = _Rendering()
        for part in self._parts:
            part.render(into)
        if self.key is not None:
            into.pushes[paths.IDEMPOTENCY_KEYS] = {"$each": [self.key], "$slice": -KEY_RING}
        if title is not None:
            into.sets |= title
        into.increase(paths.LIVE_BYTES, self.size)
        operators = {"$set": into.sets, "$unset": into.unsets, "$push": into.pushes, "$inc": into.increments}
        return into.guard, {operator: content for operator, content in operators.items() if content}

    def title(self, head_has_title: bool, title_of_message: tuple[str, int] | None) -> Document | None:
        """Return the fields of the title that it gives the session, None where the stored one stands.

        Args:
            head_has_title: The session has a title already.
            title_of_message: Agent key and number of the message that it was taken from.
        """
        change = self.message
        if change is not None and change.rewrites and title_of_message == (change.key, change.message.message_id):
            return {paths.TITLE: title_of(change.fields) or ""}
        for key, message in () if head_has_title else self._appended():
            if message.document is not None and (found := title_of(message.document)) is not None:
                return {paths.TITLE: found, paths.TITLE_OF: {paths.AGENT: key, paths.MESSAGE_ID: message.message_id}}
        return None

    @property
    def may_give_title(self) -> bool:
        """Whether it may give a title to a session without one: a person says something in it."""
        return any(
            message.document is not None and is_said_by_person(message.document) for _, message in self._appended()
        )

    def _appended(self) -> Iterator[tuple[str, NewMessage]]:
        for changes in self.agents:
            for message in changes.messages:
                yield changes.key, message


def fits_whole(changes: Sequence[AppendMessages]) -> bool:
    """Tell whether the messages of all these agents may go into one update."""
    return sum(message.size for change in changes for message in change.messages) <= WHOLE_BYTES
