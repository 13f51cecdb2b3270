"""Commands for different documents that go to the server as one, when more of them wait than the process keeps up with.

A command costs the process much the same whatever it says. Where operations wait for a worker thread, one thread takes
those of a kind along with its own: updates of several sessions in one bulk write, sessions to load in one `find`. Each
gets the outcome that it would have had by itself; where that is not known from the answer, each is sent by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

from pymongo import UpdateOne
from pymongo.results import UpdateResult

Document = dict[str, Any]
Outcome = tuple[Any, Exception | None]
"""What a command came to: its result, or its error."""


class SentTogether(ABC):
    """A command over a driver's collection that can be sent along with others of its kind; it may be repeated.

    Attributes:
        document_id: The `_id` of its document; two for the same one are not sent as one.
    """

    __slots__ = ("document_id",)

    document_id: str

    @abstractmethod
    def __call__(self, native: Any) -> Any:
        """Send it by itself."""

    @abstractmethod
    def joins(self, other: object) -> bool:
        """Tell whether it can be sent along with another one."""

    @abstractmethod
    def send_with(self, others: Sequence[Self], native: Any) -> list[Outcome] | None:
        """Send it and others as one.

        Returns:
            The outcome of each, its own first; None where the answer does not tell, and each has to be sent by itself.
        """


class UpdateById(SentTogether):
    """An update of the document of one `_id`."""

    __slots__ = ("filter", "update")

    def __init__(self, filter: Mapping[str, Any], update: Mapping[str, Any]) -> None:
        """Take what `update_one` takes; the filter names an `_id`."""
        self.document_id = filter["_id"]
        self.filter = filter
        self.update = update

    def __call__(self, native: Any) -> Any:
        """Send it by itself."""
        return native.update_one(self.filter, self.update)

    def joins(self, other: object) -> bool:
        """Tell whether the other one is an update, too."""
        return isinstance(other, UpdateById)

    def send_with(self, others: Sequence[Self], native: Any) -> list[Outcome] | None:
        """Send one bulk write; its answer says how many documents matched, not which."""
        updates = [UpdateOne(command.filter, command.update) for command in (self, *others)]
        result = native.bulk_write(updates, ordered=False)
        if not result.acknowledged or result.matched_count != len(updates):
            return None
        return [(UpdateResult({"ok": 1.0, "n": 1, "nModified": 1}, True), None) for _ in updates]


class ReadById(SentTogether):
    """A read of the document of one `_id`, and what is made of it on the thread where it was decoded."""

    __slots__ = ("projection", "read")

    def __init__(self, document_id: str, projection: Mapping[str, Any], read: Callable[[Document], Any]) -> None:
        """Take the document's `_id`, what to read of it, and what to make of that."""
        self.document_id = document_id
        self.projection = projection
        self.read = read

    def __call__(self, native: Any) -> Any:
        """Send it by itself."""
        found = native.find_one({"_id": self.document_id}, self.projection)
        if found is None or isinstance(found, dict):
            return None if found is None else self.read(found)
        return self._read_awaited(found)

    async def _read_awaited(self, found: Awaitable[Document | None]) -> Any:
        document = await found
        return None if document is None else self.read(document)

    def joins(self, other: object) -> bool:
        """Tell whether the other one reads the same fields."""
        return isinstance(other, ReadById) and self.projection == other.projection

    def send_with(self, others: Sequence[Self], native: Any) -> list[Outcome] | None:
        """Send one `find`."""
        commands = (self, *others)
        outcomes: dict[str, Outcome] = {}
        by_id = {command.document_id: command for command in commands}
        with native.find({"_id": {"$in": list(by_id)}}, self.projection) as found:
            for document in found:
                document_id = document["_id"]
                try:
                    outcomes[document_id] = by_id[document_id].read(document), None
                except Exception as error:
                    outcomes[document_id] = None, error
        return [outcomes.get(command.document_id, (None, None)) for command in commands]


class OperationTogether:
    """An operation that takes along others of its kind that wait."""

    __slots__ = ("command", "native")

    def __init__(self, command: SentTogether, native: Any) -> None:
        """Take a command, and the driver's collection."""
        self.command = command
        self.native = native

    def __call__(self) -> Any:
        """Send the command by itself."""
        return self.command(self.native)

    def joins(self, other: object) -> bool:
        """Tell whether another operation can be run along with it."""
        return (
            isinstance(other, OperationTogether) and other.native is self.native and self.command.joins(other.command)
        )

    def run_with(self, others: Sequence[OperationTogether]) -> list[Outcome] | None:
        """Run it and others as one; None where that does not tell what became of each."""
        return self.command.send_with([other.command for other in others], self.native)
