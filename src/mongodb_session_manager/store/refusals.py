"""Refusals of writes to a session document, as errors of the library's: by the server, and by what nothing explains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import DocumentTooLarge, OperationFailure, WriteError

from ..errors import CorruptSessionError, SessionFullError, SessionStoreError

MOST_REFUSALS = 10
"""How often a change is refused, and nothing explains it, before it is given up."""

_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
_TOO_LARGE = frozenset({10334, 17419})  # BSONObjectTooLarge; the result of an update would be
_OF_ANOTHER_KIND = frozenset({2, 14, 28})
"""Codes of updates that overflow a number, or need a list, a number or an object where there is something else."""

_SIZE = re.compile(r"BSONObj size: (\d{1,12}) ")


@contextmanager
def explained(session_id: str) -> Iterator[None]:
    """Turn the refusal of a write to a session document into an error that says what is wrong with the document.

    The error of the driver is not kept as its cause: the server quotes what is stored in it.

    Raises:
        CorruptSessionError: Something in the document is of another kind than what is written there.
        SessionFullError: The document would become too large.
    """
    try:
        yield
    except DocumentTooLarge:
        raise SessionFullError(session_id, None, _MAX_DOCUMENT_BYTES) from None
    except OperationFailure as error:
        if isinstance(error, WriteError) and error.code in _OF_ANOTHER_KIND:
            raise CorruptSessionError(session_id) from None
        if error.code not in _TOO_LARGE:
            raise
        size = _SIZE.search(str(error))
        raise SessionFullError(session_id, int(size[1]) if size else None, _MAX_DOCUMENT_BYTES) from None


class Refusals:
    """Counts refusals of one change by its own condition, and gives up when nothing explains them.

    A writer that others keep overtaking is not stuck: each time it reads another state of the document.
    """

    def __init__(self, session_id: str) -> None:
        """Count for a change of this session."""
        self._session_id = session_id
        self._seen: object = None
        self._count = 0

    def note(self, seen: object = None) -> None:
        """Note a refusal.

        Args:
            seen: What the condition was made of.

        Raises:
            SessionStoreError: The change was refused `MOST_REFUSALS` times in one state.
        """
        self._count = self._count + 1 if seen == self._seen else 1
        self._seen = seen
        if self._count == MOST_REFUSALS:
            raise refused_without_reason(self._session_id)


def refused_without_reason(session_id: str) -> SessionStoreError:
    """Return the error for a session that refuses a change, `MOST_REFUSALS` times, and nothing in it says why."""
    return SessionStoreError(
        f"session {session_id!r} refuses a change again and again: its document is not as this library writes it, so "
        "another tool may have changed it"
    )
