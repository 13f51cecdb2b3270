"""The seam between the engine and what traces it, which is nothing before `otel.instrument()` is called.

It knows of no tracing library. What is not traced costs a look at `active`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol, Self

Work = Literal[
    "open_session", "flush_session", "update_session", "seal_session", "restore_agent", "restore_multi_agent"
]
Fact = Literal[
    "gen_ai.agent.id",
    "mongodb_session_manager.message.count",
    "mongodb_session_manager.multi_agent.id",
    "mongodb_session_manager.is_new",
    "mongodb_session_manager.size",
    "mongodb_session_manager.superseded",
    "mongodb_session_manager.update.count",
]

AGENT_ID: Fact = "gen_ai.agent.id"
IS_NEW: Fact = "mongodb_session_manager.is_new"
MESSAGES: Fact = "mongodb_session_manager.message.count"
MULTI_AGENT_ID: Fact = "mongodb_session_manager.multi_agent.id"
SIZE: Fact = "mongodb_session_manager.size"
SUPERSEDED: Fact = "mongodb_session_manager.superseded"
UPDATES: Fact = "mongodb_session_manager.update.count"


class Span(Protocol):
    """One piece of the engine's work while it is done."""

    def note(self, fact: Fact, value: str | int) -> None:
        """Add what is known of it: ids, counts and bytes, never what a session holds."""

    def fail(self, error: BaseException) -> None:
        """Note that it failed: the error's class, never its text. An error that leaves the block is noted by itself."""


class Tracing(Protocol):
    """Makes spans of the engine's work."""

    def span(
        self, work: Work, session_id: str, database: str, collection: str, *, origin: object = None
    ) -> AbstractContextManager[Span]:
        """Trace the work of a `with` block.

        Args:
            work: What is done.
            session_id: To which session.
            database: Where it is stored.
            collection: Likewise.
            origin: What `here()` returned where the work was asked for; None for here.
        """

    def here(self) -> object:
        """Return the place in the trace at which the caller is."""

    def trace_id(self, agent: object) -> str | None:
        """Return the id of the trace that an agent's present turn is in, None when that is not recorded."""

    def count_command(self) -> None:
        """Count a command that is sent to the server."""


active: Tracing | None = None
"""What traces the engine, looked up whenever there is something to trace; None for nothing."""


class _Untraced:
    """The span of work that is not traced."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, fact: Fact, value: str | int) -> None:
        """Note nothing."""

    def fail(self, error: BaseException) -> None:
        """Note nothing."""


_UNTRACED = _Untraced()


def span(
    work: Work, session_id: str, database: str, collection: str, *, origin: object = None
) -> AbstractContextManager[Span]:
    """Trace the work of a `with` block, where anything is traced; arguments are those of `Tracing.span`."""
    return _UNTRACED if active is None else active.span(work, session_id, database, collection, origin=origin)


def here() -> object:
    """Return the place in the trace at which the caller is; None where nothing is traced."""
    return None if active is None else active.here()


def trace_id(agent: object) -> str | None:
    """Return the id of the trace that an agent's present turn is in, None when that is not recorded."""
    return None if active is None else active.trace_id(agent)
