"""gevent and eventlet: told before they make something hang, with what works in their place."""

from __future__ import annotations

import sys

_GEVENT = (("_thread", "start_new_thread"), ("socket", "socket"), ("select", "select"), ("queue", "SimpleQueue"))
"""What asyncio, worker threads and the driver cannot do without, as gevent names it: module and object."""


def check_threads() -> None:
    """Check that the threads and sockets of this process are Python's own. Neither package is imported.

    Strands agents and this library's synchronous classes run asyncio event loops in threads of their own. On what
    `gevent.monkey` and `eventlet.monkey_patch` put in the place of threads, two such loops share one thread: one of
    them ends with "cannot be called from a running event loop", or waits for ever.

    Raises:
        RuntimeError: They were replaced; it says what works instead.
    """
    if "gevent.monkey" in sys.modules and (replaced := _by_gevent()):
        raise RuntimeError(
            f"gevent.monkey has replaced {', '.join(replaced)} in this process, and event loops, which Strands agents "
            "and MongoDB sessions run on, cannot work on that; use a process without the patch: Gunicorn with "
            "`-k gthread` or `-k uvicorn_worker.UvicornWorker`, Celery with `--pool threads` or `--pool prefork`; or "
            "patch with `monkey.patch_all(thread=False, socket=False, select=False, queue=False)` and run agents in "
            "`gevent.get_hub().threadpool`"
        )
    if "eventlet.patcher" in sys.modules and _by_eventlet():
        raise RuntimeError(
            "eventlet has replaced threading in this process, and event loops, which Strands agents and MongoDB "
            "sessions run on, cannot work on that; use a process without the patch: Gunicorn with `-k gthread` or "
            "`-k uvicorn_worker.UvicornWorker`, Celery with `--pool threads` or `--pool prefork`; or patch with "
            "`eventlet.monkey_patch(thread=False)` and run agents with `eventlet.tpool.execute`"
        )


def _by_gevent() -> list[str]:
    is_replaced = getattr(sys.modules["gevent.monkey"], "is_object_patched", None)
    if is_replaced is None:
        return []
    return [module.lstrip("_") for module, name in _GEVENT if is_replaced(module, name)]


def _by_eventlet() -> bool:
    is_replaced = getattr(sys.modules["eventlet.patcher"], "is_monkey_patched", None)
    return is_replaced is not None and bool(is_replaced("thread"))
