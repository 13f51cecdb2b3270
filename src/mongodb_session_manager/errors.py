"""Everything this library raises, apart from the driver's own errors.

::

    SessionStoreError (a Strands SessionException)
    ├ SessionNotFoundError, AgentNotFoundError, MessageNotFoundError   (also ValueError)
    ├ SessionExistsError, AgentExistsError
    ├ SessionNotOpenError, SessionClosedError
    ├ WrongLoopError
    ├ LeaseUnavailableError, LeaseLostError
    ├ MessageTooLargeError
    ├ MetadataTooLargeError, SessionFullError
    └ CorruptSessionError, CorruptMessageError
    InvalidNameError (a ValueError)
    StorageConflictError (a Strands StorageError)

``pymongo.errors.PyMongoError`` passes through unchanged. No message holds content, a URI or a password.
"""

from __future__ import annotations

from typing import Any

from strands.types.exceptions import SessionException, StorageError

_SHOWN_CHARACTERS = 200
"""A name is part of an error; one of a megabyte tells no more than its beginning."""


def _reduce(error: BaseException) -> tuple[Any, ...]:
    """Say how `pickle` and `copy` make an error again: not by its constructor, which takes no text.

    Process pools and task queues carry errors that way, and one that cannot be made again breaks the pool.
    """
    return _made_again, (type(error), error.args), error.__dict__


def _made_again(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)


class SessionStoreError(SessionException):
    """The stored session and what was asked of it do not fit together."""

    __reduce__ = _reduce


class SessionNotFoundError(SessionStoreError, ValueError):
    """The session does not exist, or was deleted since it was opened."""

    def __init__(self, session_id: str) -> None:
        """Name the missing session."""
        super().__init__(
            f"session {session_id!r} does not exist (any more); open a session manager for it to create it"
        )
        self.session_id = session_id


class AgentNotFoundError(SessionStoreError, ValueError):
    """The session holds no agent of that id."""

    def __init__(self, session_id: str, agent_id: str) -> None:
        """Name the session and the missing agent."""
        super().__init__(
            f"session {session_id!r} has no agent {agent_id!r}; list_agents() names those it has, "
            "and an agent is stored with its first message"
        )
        self.session_id = session_id
        self.agent_id = agent_id


class MessageNotFoundError(SessionStoreError, ValueError):
    """The agent holds no message of that id."""

    def __init__(self, session_id: str, agent_id: str, message_id: int) -> None:
        """Name the session, the agent and the missing message."""
        super().__init__(f"session {session_id!r}, agent {agent_id!r} has no message {message_id}")
        self.session_id = session_id
        self.agent_id = agent_id
        self.message_id = message_id


class SessionExistsError(SessionStoreError):
    """A session of that id is stored already; nothing was overwritten."""

    def __init__(self, session_id: str) -> None:
        """Name the session."""
        super().__init__(f"session {session_id!r} exists already; read it, or delete it first")
        self.session_id = session_id


class AgentExistsError(SessionStoreError):
    """An agent of that id is stored already; nothing was overwritten."""

    def __init__(self, session_id: str, agent_id: str) -> None:
        """Name the session and the agent."""
        super().__init__(f"session {session_id!r} has an agent {agent_id!r} already; update it instead")
        self.session_id = session_id
        self.agent_id = agent_id


class SessionNotOpenError(SessionStoreError):
    """An async manager was used before it was opened."""

    def __init__(self, session_id: str, before: str = "using it") -> None:
        """Say what to call, and before what."""
        super().__init__(
            f"session manager for {session_id!r} is not open; use `async with manager:` or "
            f"`await manager.open()` before {before}"
        )
        self.session_id = session_id


class SessionClosedError(SessionStoreError):
    """A manager was used after `close()`."""

    def __init__(self, session_id: str) -> None:
        """Say what to do instead."""
        super().__init__(f"session manager for {session_id!r} is closed; make a new one to go on with the session")
        self.session_id = session_id


class WrongLoopError(SessionStoreError):
    """A client that lives on one event loop was used from another."""

    def __init__(self) -> None:
        """Say which clients work on any loop."""
        super().__init__(
            "an AsyncMongoClient works on the event loop that first used it and on no other; give the session manager "
            "a connection string, a MongoClient or an AsyncIOMotorClient to use it from any loop or thread"
        )


class LeaseUnavailableError(SessionStoreError):
    """Another holder has the session's turn, and kept it longer than the caller would wait."""


class LeaseLostError(SessionStoreError):
    """The turn was taken over by another holder; what was to be written was refused."""


class MessageTooLargeError(SessionStoreError):
    """A message is larger than a MongoDB document may be. Nothing was sent."""

    def __init__(self, agent_id: str, size_bytes: int, limit_bytes: int) -> None:
        """Name the agent and both sizes."""
        super().__init__(
            f"a message of agent {agent_id!r} takes {size_bytes} bytes, more than the {limit_bytes} that can be "
            "stored; in the conversation of an agent a note stands for its largest blocks, and the session stays usable"
        )
        self.agent_id = agent_id
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class MetadataTooLargeError(SessionStoreError):
    """An update of metadata, or all metadata of the session with it, is larger than allowed. Nothing was stored."""

    def __init__(self, session_id: str, what: str, size_bytes: int, limit_bytes: int) -> None:
        """Name the session, what is too large, and both sizes."""
        super().__init__(
            f"{what} of session {session_id!r} would take {size_bytes} bytes, more than the {limit_bytes} allowed; "
            "nothing was stored, and what is stored can be read, changed and deleted as before"
        )
        self.session_id = session_id
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SessionFullError(SessionStoreError):
    """The session's document would become larger than MongoDB stores. Nothing was stored."""

    def __init__(self, session_id: str, size_bytes: int | None, limit_bytes: int) -> None:
        """Name the session, the size where the server tells it, and the limit."""
        size = "more" if size_bytes is None else f"{size_bytes} bytes, more"
        super().__init__(
            f"the document of session {session_id!r} would take {size} than the {limit_bytes} bytes that MongoDB "
            "stores; nothing was stored. The session can be read as before, and takes writes again when something of "
            "its own, such as large metadata or a large agent configuration, was deleted"
        )
        self.session_id = session_id
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class CorruptSessionError(SessionStoreError):
    """A session cannot be written to: something else stands in its document where this library keeps what is its own.

    Another tool may have left it there. Nothing was stored.
    """

    def __init__(self, session_id: str, field: str | None = None) -> None:
        """Name the session, and the field where it is known."""
        place = "a field that is this library's" if field is None else f"the field {_shown(field)}"
        super().__init__(
            f"session {session_id!r} cannot be written to: {place} holds a value of another kind, as another tool may "
            "have left it; the session can be read, exported and deleted"
        )
        self.session_id = session_id
        self.field = field


class CorruptMessageError(SessionStoreError):
    """A stored message cannot be read.

    `message_id` is what is stored as its number; `number` is what may be logged of that: of something else only the
    kind, for it may be anything that was said.
    """

    def __init__(self, agent_id: str, message_id: object, reason: str) -> None:
        """Name the agent, the message and what is wrong with it, never its content."""
        self.agent_id = agent_id
        self.message_id = message_id
        self.number = str(message_id) if isinstance(message_id, int) else f"<{type(message_id).__name__}>"
        super().__init__(
            f"message {self.number} of agent {agent_id!r} cannot be read: {reason}; "
            "open the session with skip_corrupt_messages=True to go on without it"
        )
        self.reason = reason


class InvalidNameError(ValueError):
    """A session id, agent id, metadata key or idempotency key breaks the rule for its kind."""

    __reduce__ = _reduce

    def __init__(self, kind: str, name: object, rule: str) -> None:
        """Name the value and the rule it breaks."""
        super().__init__(f"invalid {kind}: {rule}, got {_shown(name)}")
        self.kind = kind
        self.name = name
        self.rule = rule


def _shown(name: object) -> str:
    shown = repr(name)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


class StorageConflictError(StorageError):
    """Another writer has written the value meanwhile; nothing was overwritten."""

    __reduce__ = _reduce

    def __init__(self, key: str, expected: int, found: int | None) -> None:
        """Name the key and both versions; `found` is None when there is no value."""
        now = "it does not exist" if found is None else f"its version is {found}"
        wanted = "it must not exist" if expected == 0 else f"version {expected} was expected"
        super().__init__(f"storage key {key!r} was not written: {wanted}, but {now}; read it again and decide anew")
        self.key = key
        self.expected = expected
        self.found = found
