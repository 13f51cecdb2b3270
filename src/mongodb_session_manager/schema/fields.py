"""The fields at the top of a session document, and who takes them along: the table that a new field is added to."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from . import paths


class Read(Enum):
    """When a field is read."""

    BY_WRITERS = auto()
    """With each look at what a writer needs to know, whatever it writes."""

    ON_OPENING = auto()
    """When a session is opened, too."""

    IN_PARTS = auto()
    """When a session is opened, as a whole or only what belongs to some agents."""

    APART = auto()
    """Only by those who ask for it: it only grows, or few need it."""


class Field(NamedTuple):
    """A field at the top of a session document.

    Attributes:
        name: What it is called.
        read: When it is read.
        is_new: Whether the first documents had none of this name, so that another tool may use it for something else.
        is_forked: Whether a fork begins with the original's value.
        is_listed: Whether a list of sessions reads it.
    """

    name: str
    read: Read
    is_new: bool = True
    is_forked: bool = True
    is_listed: bool = False


FIELDS: Final = (
    Field("_id", Read.ON_OPENING, is_new=False, is_forked=False),
    Field(paths.SESSION_ID, Read.ON_OPENING, is_new=False, is_forked=False, is_listed=True),
    Field(paths.SCHEMA_VERSION, Read.BY_WRITERS, is_new=False),
    Field(paths.INCARNATION, Read.BY_WRITERS, is_forked=False),
    Field(paths.APPLIED, Read.APART, is_forked=False),
    Field(paths.REVISION, Read.BY_WRITERS, is_forked=False),
    Field(paths.LEASE, Read.APART, is_forked=False),
    Field(paths.LAST_LEASE, Read.APART, is_forked=False),
    Field(paths.SESSION_TYPE, Read.ON_OPENING, is_new=False),
    Field(paths.APPLICATION_NAME, Read.ON_OPENING, is_new=False, is_listed=True),
    Field(paths.VIEWER_PASSWORD, Read.APART, is_new=False, is_forked=False),
    Field(paths.CREATED_AT, Read.ON_OPENING, is_new=False, is_forked=False, is_listed=True),
    Field(paths.UPDATED_AT, Read.ON_OPENING, is_new=False, is_forked=False, is_listed=True),
    # Not new, as far as it says how long a session lives: see `sessions.ttl_of`.
    Field(paths.TTL_S, Read.BY_WRITERS, is_new=False),
    Field(paths.EXPIRES_AT, Read.APART, is_new=False, is_forked=False, is_listed=True),
    Field(paths.RELATED_EXPIRE_AT, Read.BY_WRITERS, is_forked=False),
    Field(paths.METADATA, Read.APART, is_new=False, is_listed=True),
    Field(paths.METADATA_BYTES, Read.APART),
    Field(paths.TITLE, Read.BY_WRITERS, is_listed=True),
    Field(paths.TITLE_OF, Read.BY_WRITERS),
    Field(paths.SUMMARY, Read.ON_OPENING, is_listed=True),
    Field(paths.AGENTS, Read.IN_PARTS, is_new=False),
    Field(paths.MULTI_AGENTS, Read.ON_OPENING, is_new=False),
    Field(paths.FEEDBACKS, Read.APART, is_new=False, is_forked=False),
    Field(paths.FEEDBACKS_SEALED, Read.ON_OPENING, is_forked=False),
    Field(paths.GUARDRAIL_EVENTS, Read.APART, is_new=False),
    Field(paths.GUARDRAIL_EVENTS_SEALED, Read.ON_OPENING),
    Field(paths.ERRORS, Read.APART),
    Field(paths.IDEMPOTENCY_KEYS, Read.APART, is_forked=False),
    Field(paths.LIVE_BYTES, Read.BY_WRITERS, is_forked=False),
    Field(paths.HAS_RELATED, Read.BY_WRITERS, is_forked=False),
    Field(paths.HAS_PAYLOADS, Read.BY_WRITERS, is_forked=False),
    Field(paths.HAS_STORAGE, Read.BY_WRITERS, is_forked=False),
    Field(paths.LEGACY, Read.APART),
)
