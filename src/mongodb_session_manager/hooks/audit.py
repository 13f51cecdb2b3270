"""A hook that writes to a log what was done to a session's metadata and feedback."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from .invocation import Hook
from .watching import any_face, watched


def audit_hook(logger: logging.Logger | logging.LoggerAdapter[Any], level: int = logging.INFO) -> Hook:
    """Make a hook that logs each operation when it is over: what, on which session, which fields, how it ended.

    One record per operation, for metadata and for feedback::

        session_id=<'s-1'>, action=<update>, fields=<["priority"]>, outcome=<done>, ms=<1.8> | audited

    Field names are logged and values never are. A failed operation is logged at WARNING at least, with the type of
    its error as the outcome, and raises as it would without the hook. Put it first in a chain to see operations as
    callers ask for them and to see those that other hooks refuse; last to see what is stored.

    Args:
        logger: Where to.
        level: Level of records of operations that succeeded.
    """

    @any_face
    def audit(original_func: Callable[..., Any], action: str, session_id: str, **payload: Any) -> Any:
        fields, started = _field_names(payload), time.perf_counter()

        def record(error: BaseException | None, result: Any) -> None:
            logger.log(
                level if error is None else max(level, logging.WARNING),
                "session_id=<%r>, action=<%s>, fields=<%s>, outcome=<%s>, ms=<%.1f> | audited",
                session_id,
                action,
                fields,
                "done" if error is None else type(error).__name__,
                (time.perf_counter() - started) * 1000,
            )

        return watched(lambda: original_func(*payload.values()), record)

    return audit


def _field_names(payload: dict[str, Any]) -> str:
    # As JSON: a name with a line break in it must not begin a line of the log.
    names = next(iter(payload.values()), ())
    try:
        return json.dumps([str(name) for name in names])
    except TypeError:  # not iterable: the operation refuses it
        return "[]"
