"""What the viewer's API answers. Times are UTC with `Z`; what JSON cannot say of a stored value is rendered as text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from ..web.plain import utc_text

Moment = Annotated[datetime, PlainSerializer(utc_text, return_type=str, when_used="json")]

FieldType = Literal["string", "number", "boolean", "date", "enum"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Health(_Model):
    """Whether the viewer can do its work."""

    status: Literal["ok", "unavailable"]
    mongodb: Literal["connected", "unreachable"]
    version: str


class MetadataField(_Model):
    """A metadata field that sessions can be filtered by.

    `values` are given for the type `enum` only.
    """

    field: str
    type: FieldType
    values: list[str | int | float | bool] | None = None


class MetadataFields(_Model):
    """All fields that sessions can be filtered by."""

    fields: list[MetadataField]


class SessionCard(_Model):
    """What a list shows of a session. Counts are null where an older tool's document does not have them."""

    session_id: str
    application_name: str | None
    created_at: Moment | None
    updated_at: Moment | None
    metadata: dict[str, Any]
    agents_count: int | None
    messages_count: int | None
    feedbacks_count: int | None
    usage: dict[str, Any]


class SearchPage(_Model):
    """A page of sessions, newest first.

    `total` is exact when `total_exact`; else there are at least so many.
    """

    sessions: list[SessionCard]
    total: int
    total_exact: bool
    limit: int
    offset: int
    has_more: bool
    next_cursor: str | None


class TextBlock(_Model):
    """Text. `cut` is how many characters are left out at its end."""

    type: Literal["text", "guard_content"] = "text"
    text: str
    cut: int = 0


class ReasoningBlock(_Model):
    """What a model thought; `hidden` when the provider gave it in encrypted form only."""

    type: Literal["reasoning"] = "reasoning"
    text: str
    hidden: bool = False
    cut: int = 0


class ImageBlock(_Model):
    """An image; `url` is null where it is of no kind that the viewer shows, or is stored elsewhere."""

    type: Literal["image"] = "image"
    format: str
    size: int | None
    url: str | None
    source: str | None = None


class FileBlock(_Model):
    """A document, video or audio, by name and size only."""

    type: Literal["document", "video", "audio"]
    format: str
    name: str | None
    size: int | None
    source: str | None = None


class ToolUseBlock(_Model):
    """A call of a tool."""

    type: Literal["tool_use"] = "tool_use"
    tool_use_id: str
    name: str
    input: Any


class ToolResultBlock(_Model):
    """What a tool returned."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    status: str
    content: list[Block]


class JsonBlock(_Model):
    """A value, as tools return them."""

    type: Literal["json"] = "json"
    value: Any


class CitationsBlock(_Model):
    """Text with its sources."""

    type: Literal["citations"] = "citations"
    text: str
    citations: Any
    cut: int = 0


class UnknownBlock(_Model):
    """Something that the viewer does not know, as it is stored."""

    type: Literal["unknown"] = "unknown"
    value: Any


Block = Annotated[
    TextBlock
    | ReasoningBlock
    | ImageBlock
    | FileBlock
    | ToolUseBlock
    | ToolResultBlock
    | JsonBlock
    | CitationsBlock
    | UnknownBlock,
    Field(discriminator="type"),
]


class GuardrailNote(_Model):
    """What a guardrail did to a message."""

    action: str | None
    timestamp: Moment | None
    stop_reason: str | None
    policies_triggered: dict[str, list[str]]


class MessageMetrics(_Model):
    """What one answer cost; `accumulated` when the numbers are those of the whole run up to it. Unknown is null."""

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    total_tokens: int | float | None = None
    cache_read_tokens: int | float | None = None
    cache_write_tokens: int | float | None = None
    latency_ms: int | float | None = None
    time_to_first_byte_ms: int | float | None = None
    accumulated: bool = False


class MessageItem(_Model):
    """A message of an agent.

    Of a redacted one only the replacement is shown. `problem` says what is odd about it; `cut` that a part of it was
    left out because of its size, which `GET .../message` gives.
    """

    type: Literal["message"] = "message"
    timestamp: Moment | None
    agent_id: str
    message_id: int | None
    role: str
    content: list[Block]
    redacted: bool = False
    guardrail: GuardrailNote | None = None
    metrics: MessageMetrics | None = None
    cut: bool = False
    problem: str | None = None


class FeedbackItem(_Model):
    """A feedback; `extra` are the caller's other keys."""

    type: Literal["feedback"] = "feedback"
    timestamp: Moment | None
    rating: Any
    comment: str | None
    extra: dict[str, Any] = {}
    problem: str | None = None


class GuardrailItem(_Model):
    """An intervention of a guardrail."""

    type: Literal["guardrail"] = "guardrail"
    timestamp: Moment | None
    agent_id: str | None
    message_id: int | None
    action: str | None
    stop_reason: str | None
    policies_triggered: dict[str, list[str]]
    problem: str | None = None


TimelineItem = Annotated[MessageItem | FeedbackItem | GuardrailItem, Field(discriminator="type")]


class ToolTotals(_Model):
    """Calls of one tool; `total_time_s` in seconds."""

    call_count: int | float
    success_count: int | float
    error_count: int | float
    total_time_s: float


class UsageTotals(_Model):
    """What a session or an agent used; unknown is null, not 0."""

    input_tokens: int | float | None
    output_tokens: int | float | None
    total_tokens: int | float | None
    cache_read_tokens: int | float | None
    cache_write_tokens: int | float | None
    latency_ms: int | float | None
    model_calls: int | float | None
    tools: dict[str, ToolTotals]


class AgentSummary(_Model):
    """An agent of a session: its recorded configuration, its state and what it used."""

    agent_id: str
    model: Any
    system_prompt: Any
    prompt_metadata: Any
    state: Any
    messages_count: int
    created_at: Moment | None
    updated_at: Moment | None
    usage: UsageTotals


class Counts(_Model):
    """How many of each there are in a session."""

    messages: int
    feedbacks: int
    guardrails: int


class SessionHead(_Model):
    """What is known of a session besides its timeline."""

    session_id: str
    application_name: str | None
    created_at: Moment | None
    updated_at: Moment | None
    expires_at: Moment | None
    metadata: dict[str, Any]
    agents_summary: list[AgentSummary]
    usage: UsageTotals
    counts: Counts


class SessionDetail(SessionHead):
    """A session with a page of its timeline.

    `next_cursor` continues the page, null at the end. `live_cursor` is where the event stream continues after
    everything that is stored now.
    """

    timeline: list[TimelineItem]
    next_cursor: str | None
    live_cursor: str


class MessageAnswer(_Model):
    """One message, nothing left out."""

    message: MessageItem


class UsagePoint(_Model):
    """One answer of a model; for long sessions several neighbouring ones of an agent together, `answers` of them."""

    timestamp: Moment | None
    agent_id: str
    message_id: int | None
    answers: int
    input_tokens: int | float | None
    output_tokens: int | float | None
    latency_ms: int | float | None
    time_to_first_byte_ms: int | float | None


class UsageSeries(_Model):
    """What a session used over time; `complete` is false when only its newest messages were looked at."""

    points: list[UsagePoint]
    complete: bool


class LoginRequest(_Model):
    """A password for everything, or with `session_id` the password of that session."""

    password: str = Field(max_length=1024)
    session_id: str | None = Field(default=None, max_length=1024)


class Access(_Model):
    """What the asking browser may see: everything, one session, or nothing before it logs in."""

    access: Literal["all", "session", "none"]
    session_id: str | None
    login_required: bool


class LiveReady(_Model):
    """First event of a stream; `mode` says how changes are noticed."""

    mode: Literal["change_stream", "polling"]
    cursor: str


class LiveItems(_Model):
    """New items of the timeline, oldest first."""

    items: list[TimelineItem]
    cursor: str


ToolResultBlock.model_rebuild()
