"""Which clients' servers fail at the moment, so that an outage is told once, however many commands wait for its end."""

from __future__ import annotations

import os
import threading
import weakref


class Outages:
    """The outages of this process, one for each client. A client is told by its identity and never kept alive."""

    def __init__(self) -> None:
        """Know of no outage."""
        self.forget()

    def forget(self) -> None:
        """Know of none from now on, in a process that was just forked: a thread of the parent may hold the lock."""
        self._lock = threading.Lock()
        self._waiting: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Whether there is any: asked after every command, so without a lock."""
        return bool(self._waiting)

    def began(self, client: object) -> bool:
        """Note that one more command waits for the server; True for the first of an outage."""
        with self._lock:
            is_first = id(client) not in self._waiting
            if is_first:
                weakref.finalize(client, self._waiting.pop, id(client), None).atexit = False
            self._waiting[id(client)] = self._waiting.get(id(client), 0) + 1
            return is_first

    def gave_up(self, client: object) -> None:
        """Note that a command waits no longer, while the outage goes on."""
        with self._lock:
            if self._waiting.get(id(client)):
                self._waiting[id(client)] -= 1

    def ended(self, client: object, *, waited: bool) -> bool:
        """Note that a command succeeded; True when that is the end of an outage.

        Args:
            client: Whose command.
            waited: It failed before. One that did not proves nothing while others still wait: a server may answer some
                commands and refuse others.
        """
        with self._lock:
            if not waited and self._waiting.get(id(client)):
                return False
            return self._waiting.pop(id(client), None) is not None


outages = Outages()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=outages.forget)
