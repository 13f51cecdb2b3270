"""Session documents: how a new one looks, how any stored one is read, and how an older one becomes today's."""

from __future__ import annotations

import os
import random
import secrets
import string
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from bson.datetime_ms import DatetimeMS
from strands.types.session import SessionType

from ..errors import SessionStoreError
from . import paths
from .fields import FIELDS, Read
from .metadata import COUNTER
from .names import encode_name
from .numbers import LONGEST_S, is_integer

SCHEMA_VERSION = 2
"""Version of the form that sessions are stored in. 1 lacked titles, errors, and counts of ratings and errors."""

TOKEN_RING = 100
"""How many batch tokens a document remembers: a batch may be overtaken by so many later ones and still count once."""

ERROR_RING = 100
"""How many failed turns a document remembers."""

RATINGS = ("up", "down", "other")
"""What feedbacks are counted by: their `rating`, where that is `up` or `down`."""

KEY_RING = 200
"""How many idempotency keys a document remembers."""

LONGEST_TTL_S = LONGEST_S
"""Most seconds that a session may live. What is added to a date has to give a date; what belongs to a session expires
two lifetimes ahead."""

_PASSWORD_ALPHABET = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32
LOAD_PROJECTION: Final[dict[str, Any]] = {field.name: 0 for field in FIELDS if field.read is Read.APART}
"""What a session manager needs of a document; not what only grows."""

HEAD_FIELDS: Final = tuple(field.name for field in FIELDS if field.read is Read.BY_WRITERS)
"""What a writer needs of a document, whatever it writes."""

_SESSION_FIELDS: Final = tuple(field.name for field in FIELDS if field.read in (Read.BY_WRITERS, Read.ON_OPENING))


def version_of(document: Mapping[str, Any]) -> int:
    """Return the version of a document's schema, 0 for one that this library did not write, or only a part of.

    Raises:
        SessionStoreError: A newer version of the library wrote it.
    """
    version = document.get(paths.SCHEMA_VERSION)
    if not is_integer(version):
        return 0
    if version > SCHEMA_VERSION:  # of which this version cannot know what else it holds
        raise SessionStoreError(
            f"session {document.get('_id')!r} is stored in schema version {version}, and this version of "
            f"mongodb_session_manager knows {SCHEMA_VERSION} at most; use the version that wrote it, or a later one"
        )
    return max(version, 0) if isinstance(document.get(paths.INCARNATION), str) else 0


def ttl_of(document: Mapping[str, Any]) -> float | None:
    """Return the seconds that a session of any age lives, None for ever or where another tool means something else."""
    ttl_s = document.get(paths.TTL_S)
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= LONGEST_TTL_S:
        return None
    return ttl_s


def load_projection(agent_ids: Iterable[str] | None) -> dict[str, Any]:
    """Return the projection that loads a session, with all agents (None) or only some."""
    if agent_ids is None:
        return LOAD_PROJECTION
    return dict.fromkeys((*_SESSION_FIELDS, *(paths.agent(encode_name(agent_id)) for agent_id in agent_ids)), 1)


def new_session(
    session_id: str,
    now: datetime,
    *,
    session_type: str = SessionType.AGENT.value,
    application_name: str | None = None,
    ttl_s: float | None = None,
) -> dict[str, Any]:
    """Return the document of a new session."""
    return {
        "_id": session_id,
        paths.SESSION_ID: session_id,
        paths.SCHEMA_VERSION: SCHEMA_VERSION,
        paths.INCARNATION: secrets.token_hex(8),
        paths.APPLIED: [],
        paths.SESSION_TYPE: session_type,
        paths.APPLICATION_NAME: application_name,
        paths.VIEWER_PASSWORD: new_password(),
        paths.CREATED_AT: now,
        paths.UPDATED_AT: now,
        **expiry(now, ttl_s),
        **({} if ttl_s is None else {paths.TTL_S: ttl_s}),
        paths.METADATA: {},
        COUNTER: 0,
        paths.SUMMARY: new_summary(),
        paths.LIVE_BYTES: 0,
        paths.FEEDBACKS: [],
        paths.GUARDRAIL_EVENTS: [],
        paths.ERRORS: [],
        paths.MULTI_AGENTS: {},
        paths.AGENTS: {},
    }


def identity(session_id: str, incarnation: str | None) -> dict[str, Any]:
    """Return the query for a session, and for none that was created anew under its id."""
    return {"_id": session_id, paths.INCARNATION: incarnation}


def belonging_to(session_id: str, incarnation: str | None) -> dict[str, Any]:
    """Return the query for what belongs to a session and stands in collections of its own."""
    return {paths.SESSION_ID: session_id, paths.INCARNATION: incarnation}


def behind(query: Mapping[str, Any], field: str, value: object, session_id: str) -> dict[str, Any]:
    """Return the query for the sessions that come after one, listed by a field and then by id, both descending."""
    later: list[dict[str, Any]] = [{field: value, "_id": {"$lt": session_id}}]
    # A comparison finds values of its own type only; other tools leave text, numbers or nothing in place of a date.
    if value is not None:
        later += [{field: {"$lt": value}}, {field: None}]
    if isinstance(value, datetime | DatetimeMS):
        later.append({field: {"$type": "string"}})
    if isinstance(value, datetime | DatetimeMS | str):
        later.append({field: {"$gte": float("-inf")}})
    return {"$and": [query, {"$or": later}]} if query else {"$or": later}


def new_summary() -> dict[str, Any]:
    """Return the counts of a session without anything in it."""
    counts = dict.fromkeys((paths.AGENTS, paths.MESSAGES, paths.FEEDBACKS, paths.ERRORS), 0)
    return {**counts, paths.RATINGS: dict.fromkeys(RATINGS, 0), paths.USAGE: {}}


def rating_of(feedback: Mapping[str, Any]) -> str:
    """Return which of `RATINGS` a feedback is counted as."""
    rating = feedback.get(paths.RATING)
    return rating if rating in ("up", "down") else "other"


def expiry(now: datetime, ttl_s: float | None) -> dict[str, Any]:
    """Return the field that lets the session expire `ttl_s` seconds from now; nothing for one that is kept for ever."""
    return {} if ttl_s is None else {paths.EXPIRES_AT: now + timedelta(seconds=ttl_s)}


# Reading the system's randomness gives up the interpreter lock, which under load costs a turn in the queue for it.
# A token has to be unique, not secret, so a generator of our own does (users may seed the shared one of `random`).
_token_source = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_token_source.seed)


def new_token() -> str:
    """Return the random token that makes a batch count once."""
    return f"{_token_source.getrandbits(72):018x}"


def new_password() -> str:
    """Return a session viewer password: 32 letters and digits."""
    # One draw from the system for all of them, each still as likely as any other.
    number = secrets.randbelow(len(_PASSWORD_ALPHABET) ** _PASSWORD_LENGTH)
    letters = []
    for _ in range(_PASSWORD_LENGTH):
        number, index = divmod(number, len(_PASSWORD_ALPHABET))
        letters.append(_PASSWORD_ALPHABET[index])
    return "".join(letters)
