"""Background work that no caller waits for: notifications, each owned, bounded, counted, and drained before an end.

It runs on the library's own event loop (`portal`), so it is safe to hand over from any loop or thread, and it outlives
the caller's loop. What waits here is in memory: a process that is killed loses it.
"""

from .draining import DRAIN_S, close_at_exit, drain, preparing
from .errors import UnsendableError, error_code
from .outbox import MAX_IN_FLIGHT, Counters, Outbox, Outcome, SkippedError

__all__ = [
    "DRAIN_S",
    "MAX_IN_FLIGHT",
    "Counters",
    "Outbox",
    "Outcome",
    "SkippedError",
    "UnsendableError",
    "close_at_exit",
    "drain",
    "error_code",
    "preparing",
]
