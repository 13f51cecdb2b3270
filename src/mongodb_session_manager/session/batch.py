"""Updates of a session that are sent in order, and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import tracing
from ..store.updates import Update


@dataclass(eq=False, slots=True)
class Batch:
    """Updates to be applied in order, each once; done when all of them are, or when it was given up.

    Attributes:
        updates: What to apply.
        is_kept: A failure keeps it for a later flush; else a failure ends it.
        position: The update that comes next; all of those before it are applied.
        refusals: How often that one was refused, and nothing could be adjusted.
        was_sent: Whether any of it may have reached the server.
        is_abandoned: Its submitter was cancelled and does not wait for it.
        error: Why it was given up, None while it was not.
        origin: Where in a trace it was asked for.
    """

    updates: list[Update]
    is_kept: bool = True
    is_abandoned: bool = False
    position: int = 0
    refusals: int = 0
    was_sent: bool = False
    error: Exception | None = None
    origin: object = None

    @property
    def is_done(self) -> bool:
        """Whether it was applied or given up."""
        return self.error is not None or self.position == len(self.updates)

    @property
    def left(self) -> Sequence[Update]:
        """The updates that are not known to be applied."""
        return self.updates[self.position :]

    @property
    def work(self) -> tracing.Work:
        """What sending it is called in a trace."""
        return "flush_session" if self.is_kept else "update_session"

    def describe(self, span: tracing.Span) -> None:
        """Tell a span what is to be sent."""
        left = self.left
        span.note(tracing.UPDATES, len(left))
        agents = {changes.agent_id for update in left for changes in update.agents}
        if len(agents) == 1:
            span.note(tracing.AGENT_ID, *agents)
        span.note(tracing.MESSAGES, sum(len(changes.messages) for update in left for changes in update.agents))
        span.note(tracing.SIZE, sum(update.size for update in left))

    def advance(self) -> None:
        """Go on to the next update: this one is applied."""
        self.position += 1
        self.refusals = 0

    def withdraw(self, error: Exception) -> None:
        """Give up what is not applied, if anything."""
        if not self.is_done:
            self.error = error
