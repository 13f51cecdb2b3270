"""A message on its way between a live agent and the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from operator import is_
from typing import Any, cast

import bson
from strands.types.content import Message

from ..errors import MessageTooLargeError
from ..schema import paths
from ..schema.messages import encode_sized_message, encode_storable, now
from ..schema.payloads import names_by_field, names_in, take
from ..store.updates import ChangeMessage, Document, NewMessage


class RecordState(Enum):
    """How far a message has come; it only ever goes forward."""

    PENDING = auto()
    FROZEN = auto()  # part of a batch that may have been sent
    STORED = auto()
    GONE = auto()  # its agent was deleted


class Origin(Enum):
    """How a message came to be recorded."""

    EVENT = auto()  # Strands said that it added it
    FOUND = auto()  # it stood among the agent's messages, without an event
    BY_HAND = auto()  # code appended it, and the agent does not hold it


@dataclass(eq=False, slots=True)
class Record(NewMessage):
    """A message of one agent.

    Attributes:
        message: The very object that the agent holds, which tells it from an equal one.
        state: How far it has come.
        origin: How it came to be recorded.
        tracking_id: Strands' id of the message, which tells a copy of it from others.
        references: The names of the payloads that it refers to, by field.
        is_redacted: Whether a guardrail had its content replaced.
        dates: When it was created and last changed, as they are stored; None where that is not known.
        named_in: What is pending elsewhere and names the message by its number.
    """

    message: Message = field(default_factory=lambda: cast("Message", {}))
    state: RecordState = RecordState.PENDING
    origin: Origin = Origin.EVENT
    tracking_id: str | None = None
    references: dict[str, frozenset[str]] = field(default_factory=dict)
    is_redacted: bool = False
    dates: tuple[object, object] = (None, None)
    named_in: list[Document] = field(default_factory=list)
    _content: object = None
    _objects: tuple[object, ...] = ()
    _custom: object = None
    _written: bytes | None = None

    @classmethod
    def of(cls, message: Message, agent_id: str) -> tuple[Record, Exception | None]:
        """Return the record of a new message; of what can be stored of it, and the error, where not all can be."""
        problem: Exception | None = None
        try:
            document, size, payloads = encode_sized_message(message, agent_id=agent_id)
        except (TypeError, ValueError, MessageTooLargeError) as error:
            problem = error
            document, size, payloads = encode_storable(message, type(error).__name__, agent_id=agent_id)
        moment = now()
        document[paths.CREATED_AT] = document[paths.UPDATED_AT] = moment
        record = cls(0, document, size, payloads, message, tracking_id=message.get("tracking_id"))
        if payloads:
            record.references = names_by_field(document)
        record.dates = (moment, moment)
        record.see()
        return record, problem

    @classmethod
    def stored(
        cls,
        message_id: int,
        message: Message,
        references: Mapping[str, frozenset[str]],
        dates: tuple[object, object] = (None, None),
    ) -> Record:
        """Return the record of a message that was loaded."""
        record = cls(message_id, message=message, state=RecordState.STORED, tracking_id=message.get("tracking_id"))
        record.dates = dates
        if references:
            record.references = dict(references)
        record.see()
        return record

    @property
    def referred(self) -> set[str]:
        """The names of all payloads that it refers to."""
        return set().union(*self.references.values())

    # -- what Strands does to it

    def see(self) -> None:
        """Note how the message looks now, to notice when Strands rewrites it."""
        self._content = self.message.get("content")
        self._objects = tuple(_objects_in(self._content, []))
        self._custom = _custom(self.message) if "metadata" in self.message else None

    def looks_as_seen(self, message: Message) -> bool:
        """Tell whether a message is the one that was seen last, and was not rewritten since."""
        return (
            message is self.message
            and isinstance(message.get("content"), list)
            and self.content_looks_as_seen(message)
            and (("metadata" not in message and self._custom is None) or self.custom_looks_as_seen(message))
        )

    def content_looks_as_seen(self, message: Message) -> bool:
        """Tell whether a message has the content that was seen last, in the same objects.

        Whatever rewrites a message (truncation, offloading, summaries of results, hooks that mask a text) puts another
        object in the place of its content, of a block, of its text, or of an item of a result. They are held and not
        only named by `id()`, which a new object may get again.
        """
        content: Any = message.get("content")
        if content is not self._content:
            return False
        objects = _objects_in(content, [])
        return len(objects) == len(self._objects) and all(map(is_, objects, self._objects))

    def custom_looks_as_seen(self, message: Message) -> bool:
        """Tell whether a message has the custom metadata (pins) that was seen last."""
        return _custom(message) == self._custom

    @property
    def seen(self) -> tuple[object, ...]:
        """All that the message was made of at the last look."""
        return (self._content, *self._objects)

    @property
    def seen_content(self) -> object:
        """The content at the last look."""
        return self._content

    def written_content(self, encoded: object) -> bool:
        """Note the content that is written, encoded; False when it is the one that was written last."""
        fingerprint = sha256(bson.encode({"v": encoded})).digest()
        before, self._written = self._written, fingerprint
        return fingerprint != before

    # -- changing what is stored

    def renumber(self, message_id: int) -> None:
        """Give the message another number, wherever that is pending."""
        self.message_id = message_id
        for document in self.named_in:
            document[paths.MESSAGE_ID] = message_id

    def refer(self, fields: Document, removed: set[str], payloads: Mapping[str, bytes]) -> None:
        """Keep track of what the message refers to after a change, and let the change list it."""
        for name in {*removed, *fields}:
            self.references.pop(name, None)
        for name, value in fields.items():
            if found := names_in(value):
                self.references[name] = frozenset(found)
        referred = self.referred
        self.payloads = {name: data for name, data in {**self.payloads, **payloads}.items() if name in referred}
        if referred:
            fields[paths.PAYLOADS] = sorted(referred)
        else:
            removed.add(paths.PAYLOADS)

    def change(
        self, change: ChangeMessage | None, fields: Document, removed: set[str], payloads: Mapping[str, bytes]
    ) -> None:
        """Change fields of the message: in the copy that is still to be sent, and in the change that is.

        Args:
            change: Where changes of the stored message are collected; None while it may not be stored yet.
            fields: Fields to set, encoded.
            removed: Fields to remove.
            payloads: Large bytes that were taken out of the fields already, by name.
        """
        before = self.referred
        payloads = {**payloads, **take(fields).named()}
        if payloads or before or paths.REDACT_MESSAGE in fields:
            self.refer(fields, removed, payloads)
        if self.document is not None:
            self.document.update(fields)
            for name in removed:
                self.document.pop(name, None)
        if change is None:
            return
        needed = {**change.payloads, **self.payloads}
        change.payloads = {name: data for name, data in needed.items() if name in self.referred}
        change.referred_before |= before - self.referred
        change.fields.update(fields)
        change.removed.update(removed)
        change.removed.difference_update(fields)
        for name in removed:
            change.fields.pop(name, None)


def objects_of(messages: Iterable[Message]) -> list[object] | None:
    """Return all that messages are made of, in order, which tells whether any of them was rewritten or replaced.

    None where identity does not tell: pins are values in a dict that code changes in place.
    """
    found: list[object] = []
    for message in messages:
        content: Any = message.get("content")
        # Asked for all that an agent holds at each write: one text, as nearly all of it is, takes no call.
        if type(content) is list and len(content) == 1 and type(block := content[0]) is dict and "text" in block:
            found += (message, content, block, block["text"])
        else:
            found += (message, content)
            _objects_in(content, found)
        metadata: Any = message.get("metadata")
        # Nor does what models report with an answer.
        if metadata is not None and (type(metadata) is not dict or "custom" in metadata) and _custom(message):
            return None
    return found


def seen_objects_of(records: Iterable[Record]) -> list[object] | None:
    """Return what `objects_of` gave for the messages of these records when each was seen last; likewise."""
    found: list[object] = []
    for record in records:
        if record._custom is not None:
            return None
        found += (record.message, record._content)
        found += record._objects
    return found


def _objects_in(content: object, found: list[object]) -> list[object]:
    """Add what a content is made of to a list: its blocks, their texts, calls of tools, the items of results."""
    if not isinstance(content, list):
        return found
    for block in content:
        found.append(block)
        if not isinstance(block, dict):
            continue
        if "text" in block:  # nearly all of them
            found.append(block["text"])
            continue
        for kind, value in block.items():
            found.append(value)
            if not isinstance(value, dict):
                continue
            for part in value.values():
                found.append(part)
                # The source of an image, for one; the input of a call is compared as a whole.
                if isinstance(part, dict) and kind != "toolUse":
                    found += part.values()
            items = value.get("content")
            for item in items if isinstance(items, list) else ():
                found.append(item)
                if isinstance(item, dict):
                    found += item.values()
    return found


def inputs_of(message: Message) -> list[object]:
    """Return the inputs of the tool calls of a message."""
    content: Any = message.get("content")
    if type(content) is not list:
        return []
    calls = [block["toolUse"] for block in content if isinstance(block, dict) and "toolUse" in block]
    return [call.get("input") for call in calls if isinstance(call, dict)]


def _custom(message: Message) -> object:
    metadata: Any = message.get("metadata")  # Looked at for each message at each write, so by hand.
    custom = metadata.get("custom") if isinstance(metadata, dict) else None
    return {**custom} if isinstance(custom, dict) and custom else custom or None
