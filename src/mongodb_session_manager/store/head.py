"""What a writer has to know of a session before it writes to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self

from ..schema import paths
from ..schema.numbers import stored_count
from ..schema.sessions import HEAD_FIELDS, SCHEMA_VERSION, ttl_of, version_of

HEAD_PROJECTION: dict[str, Any] = dict.fromkeys(HEAD_FIELDS, 1)


class SessionHead(NamedTuple):
    """What a writer has to know of a session. It is replaced as a whole, never changed in parts.

    Attributes:
        session_id: The session.
        version: Version of the document's schema, 0 for one that an older tool wrote.
        incarnation: Random value that tells the session from an earlier one of its id; None in older documents.
        revision: How many writes there were.
        ttl_s: Seconds that the session lives after its last activity, None for ever.
        live_bytes: About how many bytes of messages, feedbacks and events stand in the document.
        has_related: Whether segments or payloads may belong to it.
        has_payloads: Whether payloads may.
        has_storage: Whether values of its storage may.
        related_expire_at: From when on these may expire, None for never.
        has_title: Whether it has a title.
        title_of: Agent key and number of the message that the title was taken from.
    """

    session_id: str
    version: int = SCHEMA_VERSION
    incarnation: str | None = None
    revision: int = 0
    ttl_s: float | None = None
    live_bytes: int = 0
    has_related: bool = False
    has_payloads: bool = False
    has_storage: bool = False
    related_expire_at: datetime | None = None
    has_title: bool = False
    title_of: tuple[str, int] | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> SessionHead:
        """Read it from a session document, or from its projection on `HEAD_PROJECTION`.

        Raises:
            SessionStoreError: A newer version of this library wrote the document.
        """
        version = version_of(document)
        if not version:
            # Another tool may mean anything by the names of the other fields.
            return cls(session_id=document["_id"], version=0, ttl_s=ttl_of(document))
        source, expire_at = document.get(paths.TITLE_OF), document.get(paths.RELATED_EXPIRE_AT)
        return cls(
            session_id=document["_id"],
            version=version,
            incarnation=document[paths.INCARNATION],
            revision=stored_count(document.get(paths.REVISION)),
            ttl_s=ttl_of(document),
            live_bytes=stored_count(document.get(paths.LIVE_BYTES)),
            has_related=bool(document.get(paths.HAS_RELATED)),
            has_payloads=bool(document.get(paths.HAS_PAYLOADS)),
            has_storage=bool(document.get(paths.HAS_STORAGE)),
            related_expire_at=expire_at if isinstance(expire_at, datetime) else None,
            has_title=document.get(paths.TITLE) is not None,
            title_of=(source.get(paths.AGENT, ""), source.get(paths.MESSAGE_ID, -1))
            if isinstance(source, Mapping)
            else None,
        )

    @property
    def is_current(self) -> bool:
        """Whether the document has today's form, so that it may be written to."""
        return self.version == SCHEMA_VERSION

    def but(self, **changes: Any) -> Self:
        """Return the head with some other values."""
        return self._replace(**changes)
