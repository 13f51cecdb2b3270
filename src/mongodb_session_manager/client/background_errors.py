"""What the driver logs of connections that it opens in the background, without forty lines of traceback each time."""

from __future__ import annotations

import logging

from pymongo.errors import AutoReconnect, OperationFailure

from ..advice import AUTHENTICATION_CODES


class _InOneLine(logging.Filter):
    """Shortens records about a server that is away or a user that is refused: operations raise that error, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        refused = isinstance(error, OperationFailure) and error.code in AUTHENTICATION_CODES
        if refused or isinstance(error, AutoReconnect):
            record.exc_info = None
            record.msg = f"MongoClient background task: {type(error).__name__}"
        return True


_filter = _InOneLine()


def shorten_background_errors() -> None:
    """Keep the driver's log short. Repeating it does nothing."""
    logging.getLogger("pymongo.client").addFilter(_filter)
