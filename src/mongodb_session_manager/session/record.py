"""A message on its way between a live agent and the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from typing import Any, cast

import bson
from strands.types.content import Message

from ..errors import MessageTooLargeError
from ..schema import paths
from ..schema.messages import encode_sized_message, now, placeholder
from ..schema.payloads import names_by_field, names_in, take
from ..store.updates import ChangeMessage, Document, NewMessage


class RecordState(Enum):
    """How far a message has come; it only ever goes forward."""

    PENDING = auto()
    FROZEN = auto()  # part of a batch that may have been sent
    STORED = auto()


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
    """

    message: Message = field(default_factory=lambda: cast("Message", {}))
    state: RecordState = RecordState.PENDING
    origin: Origin = Origin.EVENT
    tracking_id: str | None = None
    references: dict[str, frozenset[str]] = field(default_factory=dict)
    is_redacted: bool = False
    _seen: tuple[object, ...] = ()
    _custom: object = None
    _written: bytes | None = None

    @classmethod
    def of(cls, message: Message, agent_id: str) -> tuple[Record, Exception | None]:
        """Return the record of a new message; with a placeholder, and the error, where it cannot be stored."""
        problem: Exception | None = None
        try:
            document, size, payloads = encode_sized_message(message, agent_id=agent_id)
        except (TypeError, ValueError, MessageTooLargeError) as error:
            problem = error
            document, size, payloads = placeholder(message, type(error).__name__)
        moment = now()
        document[paths.CREATED_AT] = document[paths.UPDATED_AT] = moment
        record = cls(0, document, size, payloads, message, tracking_id=message.get("tracking_id"))
        if payloads:
            record.references = names_by_field(document)
        record.see()
        return record, problem

    @classmethod
    def stored(cls, message_id: int, message: Message, references: Mapping[str, frozenset[str]]) -> Record:
        """Return the record of a message that was loaded."""
        record = cls(message_id, message=message, state=RecordState.STORED, tracking_id=message.get("tracking_id"))
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
        self._seen = _parts(self.message)
        self._custom = _custom(self.message)

    def content_looks_as_seen(self, message: Message) -> bool:
        """Tell whether a message has the content that was seen last, in the same objects."""
        parts = _parts(message)
        return len(parts) == len(self._seen) and all(map(_is, parts, self._seen))

    def custom_looks_as_seen(self, message: Message) -> bool:
        """Tell whether a message has the custom metadata (pins) that was seen last."""
        return _custom(message) == self._custom

    @property
    def seen(self) -> tuple[object, ...]:
        """All that the message was made of at the last look."""
        return self._seen

    @property
    def seen_content(self) -> object:
        """The content at the last look."""
        return self._seen[0] if self._seen else None

    def written_content(self, encoded: object) -> bool:
        """Note the content that is written, encoded; False when it is the one that was written last."""
        fingerprint = sha256(bson.encode({"v": encoded})).digest()
        before, self._written = self._written, fingerprint
        return fingerprint != before

    # -- changing what is stored

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
            fields["payloads"] = sorted(referred)
        else:
            removed.add("payloads")

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
        change.released |= before - self.referred
        change.fields.update(fields)
        change.removed.update(removed)
        change.removed.difference_update(fields)
        for name in removed:
            change.fields.pop(name, None)


def _is(one: object, other: object) -> bool:
    return one is other


def _parts(message: Message) -> tuple[object, ...]:
    """Return the objects that a message is made of, down to the items of tool results.

    Whatever rewrites a message in place (truncation, offloading, summaries of results) puts another object somewhere
    here. They are held and not only named by `id()`, which a new object may get again.
    """
    content: Any = message.get("content")
    parts: list[object] = [content]
    for block in content if isinstance(content, list) else ():
        parts.append(block)
        if isinstance(block, dict):
            for value in block.values():
                parts.append(value)
                if isinstance(value, dict) and isinstance(items := value.get("content"), list):
                    parts.append(items)
                    parts += items
                    parts += (part for item in items if isinstance(item, dict) for part in item.values())
    return tuple(parts)


def _custom(message: Message) -> object:
    metadata = message.get("metadata")
    custom = metadata.get("custom") if metadata else None
    return dict(custom) if custom else None
