"""What the viewer's API answers about one session, logins and itself.

Times are UTC with `Z`; what JSON cannot say of a stored value is rendered as text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from ..web.inputs import Input
from .answer import Answer, Moment
from .block_schemas import Block


class Health(Answer):
    """Whether the viewer can do its work."""

    status: Literal["ok", "unavailable"]
    mongodb: Literal["connected", "unreachable"]
    version: str


class GuardrailNote(Answer):
    """What a guardrail did to a message."""

    action: str | None
    timestamp: Moment | None
    stop_reason: str | None
    policies_triggered: dict[str, list[str]]


class MessageMetrics(Answer):
    """What one answer cost; `accumulated` when the numbers are those of the whole run up to it. Unknown is null."""

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    total_tokens: int | float | None = None
    cache_read_tokens: int | float | None = None
    cache_write_tokens: int | float | None = None
    latency_ms: int | float | None = None
    time_to_first_byte_ms: int | float | None = None
    accumulated: bool = False


class Traced(Answer):
    """What belongs to a turn; both are left out where nothing is known of its trace."""

    trace_id: str | None = None
    trace_url: str | None = None

    @model_serializer(mode="wrap")
    def _without_unknown_trace(self, serialize: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # keeps the schema
        found = serialize(self)
        return {name: value for name, value in found.items() if value is not None or not name.startswith("trace_")}


class MessageItem(Traced):
    """A message of an agent.

    Of a redacted one only the replacement is shown. `problem` says what is odd about it; `cut` that a part of it was
    left out because of its size, which `GET .../message` gives. `trace_id` is that of its turn, `trace_url` where the
    trace is to be seen, if the viewer was told.
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


class FeedbackItem(Answer):
    """A feedback; `extra` are the caller's other keys."""

    type: Literal["feedback"] = "feedback"
    timestamp: Moment | None
    rating: Any
    comment: str | None
    extra: dict[str, Any] = Field(default_factory=dict)
    problem: str | None = None


class GuardrailItem(Answer):
    """An intervention of a guardrail."""

    type: Literal["guardrail"] = "guardrail"
    timestamp: Moment | None
    agent_id: str | None
    message_id: int | None
    action: str | None
    stop_reason: str | None
    policies_triggered: dict[str, list[str]]
    problem: str | None = None


class ErrorItem(Traced):
    """A turn that failed: the class of its error, never its text; its trace as with messages."""

    type: Literal["error"] = "error"
    timestamp: Moment | None
    agent_id: str | None
    error: str
    problem: str | None = None


TimelineItem = Annotated[MessageItem | FeedbackItem | GuardrailItem | ErrorItem, Field(discriminator="type")]


class ToolTotals(Answer):
    """Calls of one tool; `total_time_s` in seconds."""

    call_count: int | float
    success_count: int | float
    error_count: int | float
    total_time_s: float


class UsageTotals(Answer):
    """What a session or an agent used; unknown is null, not 0."""

    input_tokens: int | float | None
    output_tokens: int | float | None
    total_tokens: int | float | None
    cache_read_tokens: int | float | None
    cache_write_tokens: int | float | None
    latency_ms: int | float | None
    model_calls: int | float | None
    tools: dict[str, ToolTotals]


class AgentSummary(Answer):
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


class Counts(Answer):
    """How many of each there are in a session."""

    messages: int
    feedbacks: int
    guardrails: int


class SessionHead(Answer):
    """What is known of a session besides its timeline."""

    session_id: str
    title: str | None
    application_name: str | None
    created_at: Moment | None
    updated_at: Moment | None
    expires_at: Moment | None
    metadata: dict[str, Any]
    agents_summary: list[AgentSummary]
    usage: UsageTotals
    counts: Counts
    errors_count: int


class SessionDetail(SessionHead):
    """A session with a page of its timeline.

    `next_cursor` continues the page, null at the end. `previous_cursor` is given for a page that begins at a message:
    it continues backwards, with `order=desc`. `live_cursor` is where the event stream continues after everything that
    is stored now.
    """

    timeline: list[TimelineItem]
    next_cursor: str | None
    previous_cursor: str | None = None
    live_cursor: str


class MessageAnswer(Answer):
    """One message, nothing left out."""

    message: MessageItem


class FoundMessage(Answer):
    """A message that holds a text: where it stands, and what is written around the text."""

    agent_id: str
    message_id: int | None
    timestamp: Moment | None
    excerpt: str


class FoundMessages(Answer):
    """The messages of a session that hold a text, oldest first; `complete` is false when there are more."""

    found: list[FoundMessage]
    complete: bool


class UsagePoint(Answer):
    """One answer of a model; for long sessions several neighbouring ones of an agent together, `answers` of them."""

    timestamp: Moment | None
    agent_id: str
    message_id: int | None
    answers: int
    input_tokens: int | float | None
    output_tokens: int | float | None
    latency_ms: int | float | None
    time_to_first_byte_ms: int | float | None


class UsageSeries(Answer):
    """What a session used over time; `complete` is false when only its newest messages were looked at."""

    points: list[UsagePoint]
    complete: bool


class LoginRequest(Input):
    """A password for everything, or with `session_id` the password of that session."""

    password: str = Field(max_length=1024)
    session_id: str | None = Field(default=None, max_length=1024)


class Access(Answer):
    """What the asking browser may see: everything, one session, or nothing before it logs in."""

    access: Literal["all", "session", "none"]
    session_id: str | None
    login_required: bool


class LiveReady(Answer):
    """First event of a stream; `mode` says how changes are noticed."""

    mode: Literal["change_stream", "polling"]
    cursor: str


class LiveItems(Answer):
    """New items of the timeline, oldest first."""

    items: list[TimelineItem]
    cursor: str
