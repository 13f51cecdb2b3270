"""The one warning about synchronous calls that hold up an event loop."""

from __future__ import annotations

import asyncio
import logging
import sys

logger = logging.getLogger(__name__)


class _Told:
    """Whether this process was warned."""

    running_loop = False


def note_running_loop(name: str) -> None:
    """Warn, once for the process, when a synchronous class is used in a thread whose event loop runs.

    In a notebook the loop always runs, and holding it up is no harm.
    """
    if _Told.running_loop or _in_notebook():
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _Told.running_loop = True
    logger.warning(
        "class=<%s>, instead=<Async%s> | used inside of a running event loop, which stands still during each call",
        name,
        name,
    )


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
