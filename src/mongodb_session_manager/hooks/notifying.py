"""What the notifying hooks have in common: the stored operation first, then a message in the background."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from ..runtime import Counters, Outbox, Outcome, UnsendableError
from .stored import StoredSession
from .watching import watched_to_its_end

T = TypeVar("T")


class NotifyingHook(ABC, Generic[T]):
    """A hook that lets the operation run, and then leaves a message about it to the library's background.

    The caller gets the operation's result or error, and nothing of what becomes of the message: failures are logged
    with the session's id, and counted. Messages of a session are sent in order. The manager's `close()` waits for them.

    One hook serves any number of managers of both faces; make one for the application, not one for each request.
    """

    runs_on_any_face = True  # see `watching`

    _name: ClassVar[str]
    _actions: ClassVar[frozenset[str]]
    _most: ClassVar[int] = 1
    _most_bytes: ClassVar[int] = 0

    def __init__(self) -> None:
        """Take no part in the operation."""
        self._outbox: Outbox[T] = Outbox(self._name, self._send, most=self._most, most_bytes=self._most_bytes)

    @property
    def counters(self) -> Counters:
        """How many notifications were sent, failed, were dropped, or are pending, over all sessions."""
        return self._outbox.counters

    def __repr__(self) -> str:
        """Show the counters; addresses stay out of logs."""
        return f"<{type(self).__name__} {self.counters}>"

    def __call__(
        self,
        original_func: Callable[..., Any],
        action: str,
        session_id: str,
        *,
        session_manager: object | None = None,
        **payload: Any,
    ) -> Any:
        """Run the operation and, when it succeeded, leave the message to the background.

        With a plain `original_func` this returns its result, with a coroutine function an awaitable.
        """

        def ended(error: BaseException | None, result: Any) -> None:
            if error is None:
                self._notify(action, session_id, payload, session_manager)

        return watched_to_its_end(lambda: original_func(*payload.values()), ended)

    def _notify(self, action: str, session_id: str, payload: dict[str, Any], session_manager: object | None) -> None:
        if action not in self._actions:
            return
        try:
            [value] = payload.values()
            prepared = self._prepare(action, session_id, value, StoredSession(session_id, session_manager))
        except Exception as error:
            self._outbox.refuse(session_id, error)
            return
        if prepared is not None:
            message, size = prepared
            self._outbox.put(session_id, message, size)

    @abstractmethod
    def _prepare(self, action: str, session_id: str, value: Any, stored: StoredSession) -> tuple[T, int] | None:
        """Return a message and its size in bytes; None when there is nothing to say.

        It is complete but for what has to be read from the database: the caller's dict may change from now on.
        """

    @abstractmethod
    async def _send(self, messages: Sequence[T]) -> Sequence[Outcome]:
        """Send messages of one session, at most `_most`, and return what became of each."""


def check_size(size: int, limit: int, service: str) -> None:
    """Refuse a message that the service would refuse.

    Raises:
        UnsendableError: It is larger than `limit`.
    """
    if size > limit:
        raise UnsendableError(f"{size} bytes are over the limit of {service}, {limit} bytes")
