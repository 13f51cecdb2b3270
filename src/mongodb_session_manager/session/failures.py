"""What ended an invocation or a turn, told from what Strands and the store make of it."""

from __future__ import annotations

from pymongo.errors import PyMongoError
from strands.types.exceptions import EventLoopException

from ..client import is_transient
from ..errors import SessionStoreError


def original(error: BaseException | None) -> BaseException | None:
    """Return the error that Strands wrapped, or the one that it is."""
    while isinstance(error, EventLoopException):
        error = error.original_exception
    return error


def is_of_the_store(error: BaseException | None) -> bool:
    """Tell whether it is the store that failed, which says nothing of what was to be stored."""
    return isinstance(original(error), PyMongoError | SessionStoreError)


def is_outage(error: BaseException | None) -> bool:
    """Tell whether the server could not be reached, or did not answer; the next command would wait as long."""
    found = original(error)
    return isinstance(found, PyMongoError) and is_transient(found)
