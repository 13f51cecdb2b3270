"""Refusals of documents that are too large, as an error of the library's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import DocumentTooLarge, OperationFailure

from ..errors import SessionFullError

_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
_TOO_LARGE = frozenset({10334, 17419})  # BSONObjectTooLarge; the result of an update would be
_SIZE = re.compile(r"BSONObj size: (\d{1,12}) ")


@contextmanager
def within_document(session_id: str) -> Iterator[None]:
    """Turn the refusal of a write that makes a session document too large into `SessionFullError`.

    The error of the driver is not kept as its cause: the server quotes the document's beginning in it.
    """
    try:
        yield
    except DocumentTooLarge:
        raise SessionFullError(session_id, None, _MAX_DOCUMENT_BYTES) from None
    except OperationFailure as error:
        if error.code not in _TOO_LARGE:
            raise
        size = _SIZE.search(str(error))
        raise SessionFullError(session_id, int(size[1]) if size else None, _MAX_DOCUMENT_BYTES) from None
