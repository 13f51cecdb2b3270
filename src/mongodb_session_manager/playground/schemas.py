"""What goes in and out of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from ..web.inputs import Input
from .attachments import MOST_BYTES, MOST_FILES
from .tuning import Tuning

SESSION_ID = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
LONGEST_MESSAGE = 20_000
LONGEST_COMMENT = 2_000
LONGEST_TITLE = 120

SessionId = Annotated[
    str,
    StringConstraints(pattern=SESSION_ID),
    Field(description="1 to 128 letters, digits and `. _ : @ -`, beginning with a letter or digit"),
]
_Text = StringConstraints(strip_whitespace=True, min_length=1)


class Attachment(Input):
    """A file, as base64. What it is shows in its content; its name tells kinds of text apart."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    data: Annotated[str, Field(max_length=MOST_BYTES * 4 // 3 + 100)]


class ChatRequest(Input):
    """One message of the user.

    Attributes:
        message: What they said; may be empty beside an image.
        attachments: Images and documents.
        tuning: A new choice for the conversation, stored with it; None leaves the one it has.
    """

    session_id: SessionId
    message: Annotated[str, StringConstraints(strip_whitespace=True), Field(max_length=LONGEST_MESSAGE)]
    attachments: Annotated[list[Attachment], Field(max_length=MOST_FILES, default_factory=list)]
    tuning: Tuning | None = None


class SessionChange(Input):
    """What is to change; what is not named stays."""

    title: Annotated[str, _Text, Field(max_length=LONGEST_TITLE)] | None = None
    tuning: Tuning | None = None


class ForkRequest(Input):
    """Where a fork ends: after the message of this number; None takes the whole conversation."""

    up_to_message: Annotated[int, Field(ge=0, le=2**53)] | None = None


class Forked(BaseModel):
    """The new conversation."""

    session_id: str


class FeedbackRequest(Input):
    """What the user thinks of a reply, or of the conversation.

    Attributes:
        key: Chosen by the sender: requests with the same one store one feedback, also by several processes.
    """

    rating: Literal["up", "down"]
    comment: Annotated[str, StringConstraints(strip_whitespace=True), Field(max_length=LONGEST_COMMENT)] = ""
    message_id: Annotated[int, Field(ge=0, le=2**53)] | None = None
    key: str | None = Field(default=None, min_length=1, max_length=64, exclude=True)


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
        prompt: What was said; None when the last stored message is answered.
        files: What was attached to it.
        messages_before: Messages that were there when it began, which its events do not tell of; None as long as it
            waits for another process.
    """

    turn_id: str
    prompt: str | None
    files: list[dict[str, Any]]
    messages_before: int | None


class Conversation(BaseModel):
    """A session as it is stored, with its newest messages.

    Attributes:
        messages: Oldest first; `first` is the position of the first of them, 0 when none is older.
        turn: The reply that is being made in this process.
        agent_id: Whose messages these are; None as long as there is no agent.
        tuning: System prompt and temperature that were chosen for it.
        system_prompt: What the agent is told, as it is recorded.
    """

    session_id: str
    title: str
    created_at: datetime | None
    updated_at: datetime | None
    metadata: dict[str, Any]
    state: dict[str, Any]
    agent_id: str | None
    model: str | None
    system_prompt: str | None
    tuning: Tuning
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


class FoundConversation(ConversationSummary):
    """A conversation that a search found; `excerpt` is what was said there, None when only the title says it."""

    excerpt: str | None


class FoundPage(BaseModel):
    """What a search found, newest first.

    Attributes:
        searched_until: How far back it looked in its time; None when it looked through all.
    """

    sessions: list[FoundConversation]
    next_cursor: str | None
    searched_until: datetime | None


class Stopped(BaseModel):
    """Whether there was a reply to stop."""

    stopped: bool


class Health(BaseModel):
    """Whether the playground can work.

    Attributes:
        model: What answers: the id of the model, or where the user's own agent comes from.
        agent: Where the user's own agent comes from; None for the playground's.
    """

    status: Literal["ok", "unavailable"]
    mongodb: Literal["connected", "unreachable"]
    version: str
    model: str
    agent: str | None
    takes_temperature: bool


class PoolMetrics(BaseModel):
    """The connection pool, as `get_connection_stats()` reports it, and the turns of this process."""

    pool: dict[str, Any]
    turns: dict[str, int]
