"""What goes in and out of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SESSION_ID = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
LONGEST_MESSAGE = 20_000
LONGEST_COMMENT = 2_000

SessionId = Annotated[
    str,
    StringConstraints(pattern=SESSION_ID),
    Field(description="1 to 128 letters, digits and `. _ : @ -`, beginning with a letter or digit"),
]
_Text = StringConstraints(strip_whitespace=True, min_length=1)


class Input(BaseModel):
    """A request's body: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")


class ChatRequest(Input):
    """One message of the user."""

    session_id: SessionId
    message: Annotated[str, _Text, Field(max_length=LONGEST_MESSAGE)]


class FeedbackRequest(Input):
    """What the user thinks of a reply, or of the conversation."""

    rating: Literal["up", "down"]
    comment: Annotated[str, StringConstraints(strip_whitespace=True), Field(max_length=LONGEST_COMMENT)] = ""
    message_id: Annotated[int, Field(ge=0, le=2**53)] | None = None


class Usage(BaseModel):
    """Tokens; unknown is None."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None


class ChatMessage(BaseModel):
    """A stored message. Usage and times are of the model call that made it."""

    message_id: int
    role: str
    blocks: list[dict[str, Any]]
    created_at: str
    redacted: bool
    usage: Usage | None
    latency_ms: float | None
    time_to_first_byte_ms: float | None


class Feedback(BaseModel):
    """A stored feedback."""

    rating: str
    comment: str
    message_id: int | None
    created_at: datetime | None


class Metrics(BaseModel):
    """Totals over the whole session; unknown is None."""

    tokens: Usage
    latency_ms: float | None
    model_calls: int | None
    tool_calls: dict[str, Any]


class RunningTurn(BaseModel):
    """A reply that is being made: its events are at `/api/sessions/{session_id}/turn`.

    Attributes:
        messages_before: Messages that were there when it began, which its events do not tell of; None as long as it
            waits for another process.
    """

    turn_id: str
    prompt: str
    messages_before: int | None


class Conversation(BaseModel):
    """A session as it is stored, with its newest messages.

    Attributes:
        messages: Oldest first; `first` is the position of the first of them, 0 when none is older.
        turn: The reply that is being made in this process.
    """

    session_id: str
    title: str
    created_at: datetime | None
    updated_at: datetime | None
    metadata: dict[str, Any]
    state: dict[str, Any]
    model: str | None
    messages: list[ChatMessage]
    messages_count: int
    first: int
    feedbacks: list[Feedback]
    metrics: Metrics
    turn: RunningTurn | None
    viewer_url: str | None


class ConversationSummary(BaseModel):
    """A line of the list of conversations."""

    session_id: str
    title: str
    created_at: datetime | None
    updated_at: datetime | None
    messages_count: int | None
    running: bool


class ConversationPage(BaseModel):
    """A page of conversations, newest first."""

    sessions: list[ConversationSummary]
    next_cursor: str | None


class Stopped(BaseModel):
    """Whether there was a reply to stop."""

    stopped: bool


class Health(BaseModel):
    """Whether the playground can work."""

    status: Literal["ok", "unavailable"]
    mongodb: Literal["connected", "unreachable"]
    version: str
    model: str


class PoolMetrics(BaseModel):
    """The connection pool, as `get_connection_stats()` reports it, and the turns of this process."""

    pool: dict[str, Any]
    turns: dict[str, int]
