"""What the viewer's API answers about many sessions: fields, cards and pages."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .answer import Answer, Moment

FieldType = Literal["string", "number", "boolean", "date", "enum"]


class MetadataField(Answer):
    """A metadata field that sessions can be filtered by.

    `type` is the one that most of the values have. `values` are given for the type `enum` only; a text among them
    stands for whatever the API shows as this text.

    Attributes:
        types: All types that occur; for the server only.
    """

    field: str
    type: FieldType
    types: tuple[FieldType, ...] = Field(default=(), exclude=True)
    values: list[str | int | float | bool] | None = None


class MetadataFields(Answer):
    """All fields that sessions can be filtered by."""

    fields: list[MetadataField]


class Ratings(Answer):
    """Feedbacks of a session by rating."""

    up: int
    down: int
    other: int


class SessionCard(Answer):
    """What a list shows of a session.

    Counts are null where an older document does not have them and they could not be worked out in time.
    """

    session_id: str
    title: str | None
    ratings: Ratings | None
    errors_count: int | None
    application_name: str | None
    created_at: Moment | None
    updated_at: Moment | None
    metadata: dict[str, Any]
    agents_count: int | None
    messages_count: int | None
    feedbacks_count: int | None
    usage: dict[str, Any]


class SearchPage(Answer):
    """A page of sessions, in the order that was asked for.

    `total` is exact when `total_exact`; else there are at least so many.
    """

    sessions: list[SessionCard]
    total: int
    total_exact: bool
    limit: int
    offset: int
    has_more: bool
    next_cursor: str | None


class Hit(Answer):
    """Where a session says the text that was looked for; without a message it is in the title."""

    agent_id: str | None
    message_id: int | None
    excerpt: str


class FoundCard(SessionCard):
    """A session that says the text that was looked for."""

    hit: Hit | None


class TextPage(SearchPage):
    """The sessions that say a text, of those that were looked through.

    `searched_until` is how far back the search looked: the date by which the list is sorted, of the last session.
    `next_cursor` goes on from there, null at the end. `skipped` sessions could not be looked through: they are too
    large for the time, or hold text that is no UTF-8.
    """

    sessions: list[FoundCard]  # type: ignore[assignment]
    searched: int
    searched_bytes: int
    searched_until: Moment | None
    skipped: int


class ChangedCard(SessionCard):
    """A session that changed, or that is new."""

    is_new: bool


class FeedReady(Answer):
    """First event of the list's stream; `mode` says how changes are noticed."""

    mode: Literal["change_stream", "polling"]


class FeedSessions(Answer):
    """Sessions of a list that changed; after more than it can name, `missed` says to read the list again."""

    sessions: list[ChangedCard]
    deleted: list[str]
    missed: bool
