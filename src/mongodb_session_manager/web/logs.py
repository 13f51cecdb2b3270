"""What an app writes to its log, and what never stands there: passwords, messages, and errors that quote either."""

from __future__ import annotations

import logging
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

PACKAGE = __name__.partition(".")[0]
_FORMAT = "%(asctime)s %(levelname)s %(name)s | %(message)s"
_MOST_CAUSES = 20

logger = logging.getLogger(__name__)


def configure_logging(level: str) -> None:
    """Log to standard error.

    The level is that of the package's own loggers. Drivers, SDKs and the server log from INFO on, whatever it is: at
    DEBUG they write commands and requests, with what these hold.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    wanted = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    handler.setFormatter(QuietFormatter(_FORMAT))
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler])
    logging.getLogger(PACKAGE).setLevel(wanted)
    warnings.showwarning = _log_warning


class QuietFormatter(logging.Formatter):
    """Writes of an exception its class and where it came from, not its text, which may quote anything."""

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return the classes of an exception and its causes, each with its frames."""
        return "" if ei[1] is None else where_it_failed(ei[1])


def where_it_failed(error: BaseException) -> str:
    """Return the classes of an exception and its causes, each with the lines of code that it came through."""
    parts: list[str] = []
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(parts) < _MOST_CAUSES:
        current = left.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{type(current).__module__}.{type(current).__qualname__}\n{frames}".rstrip())
        if isinstance(current, BaseExceptionGroup):
            left.extend(current.exceptions)
        left.append(current.__cause__ or (None if current.__suppress_context__ else current.__context__))
    return "\ncaused by ".join(parts)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
    **more: Any,
) -> None:
    logger.warning("warning=<%s>, place=<%s:%d> | warning", category.__name__, filename, lineno)
