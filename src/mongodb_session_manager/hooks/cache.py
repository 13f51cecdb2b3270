"""A hook that answers reads of metadata from memory for a while."""

from __future__ import annotations

import copy
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, cast

from ..schema.numbers import check_seconds, check_whole_number
from .watching import any_face, watched, watched_to_its_end

_STRIPES = 1024

_Key = tuple[Hashable, str]
"""What tells a collection from others, and the session's id."""


_caches: weakref.WeakSet[CachedMetadata] = weakref.WeakSet()


@any_face
class CachedMetadata:
    """A metadata hook that keeps what `get_metadata` returned, per session, for at most `ttl_seconds`.

    Updates and deletions that pass through the same object take effect at once: make one per process (for example as
    a factory's default hook) and share it. What other processes change is seen when the time is over, and so is a
    session that was deleted. One object may serve managers of both kinds, from any thread and event loop, and
    sessions of several collections. Every caller gets a copy of its own.

    It tells sessions of several collections apart by the session manager that it is called for. A wrapper around it
    that does not pass `session_manager` on takes that away: then nothing is kept, and every read is a read.

    Hooks inside it (later in a chain) do not see reads that are answered from memory: an audit or a check of access
    goes before it.
    """

    def __init__(self, ttl_seconds: float, max_sessions: int = 1000) -> None:
        """Start empty.

        Args:
            ttl_seconds: How old an answer may be.
            max_sessions: Sessions that are kept; the one that was not asked for longest makes room.

        Raises:
            TypeError: One of them is no number.
            ValueError: One of them is not greater than 0.
        """
        if isinstance(ttl_seconds, int | float) and not ttl_seconds > 0:
            raise ValueError(f"invalid ttl_seconds: it must be greater than 0, got {ttl_seconds!r}")
        check_seconds("ttl_seconds", ttl_seconds, endless=True)
        if check_whole_number("max_sessions", max_sessions) < 1:
            raise ValueError(f"invalid max_sessions: it must be greater than 0, got {max_sessions!r}")
        self._ttl_s = ttl_seconds
        self._max_sessions = max_sessions
        self._lock = threading.Lock()
        _caches.add(self)
        self._kept: OrderedDict[_Key, tuple[float, Any]] = OrderedDict()
        # Writes that ended, by hash of their session. Sessions may share a number, which only costs a cached answer.
        self._writes = [0] * _STRIPES

    def __call__(
        self,
        original_func: Callable[..., Any],
        action: str,
        session_id: str,
        *,
        session_manager: object | None = None,
        **payload: Any,
    ) -> Any:
        """Run one operation, or answer it from memory; a hook is called by its session manager."""
        namespace = _namespace_of(session_manager)
        if action == "get":
            # Sessions of one id may be stored in several collections, for several tenants even.
            return original_func() if namespace is None else self._read((namespace, session_id), original_func)
        # When it is over, however it ended: reads that overlapped it may hold either value.
        return watched_to_its_end(
            lambda: original_func(*payload.values()), lambda error, result: self._forget(namespace, session_id)
        )

    def __repr__(self) -> str:
        """Show the limits, nothing of what is kept."""
        return f"CachedMetadata(ttl_seconds={self._ttl_s}, max_sessions={self._max_sessions})"

    def _read(self, key: _Key, original_func: Callable[..., Any]) -> Any:
        asked_at = time.monotonic()
        stripe = hash(key[1]) % _STRIPES
        with self._lock:
            expires_at, kept = self._kept.get(key, (asked_at, None))
            if asked_at < expires_at:
                self._kept.move_to_end(key)
            else:
                self._kept.pop(key, None)
            writes = self._writes[stripe]
        if asked_at < expires_at:
            return copy.deepcopy(kept)  # outside the lock: a kept answer is never changed

        def keep(error: BaseException | None, result: Any) -> None:
            if error is not None:
                return
            answer = copy.deepcopy(result)
            with self._lock:
                if writes == self._writes[stripe]:
                    self._kept[key] = asked_at + self._ttl_s, answer
                    self._kept.move_to_end(key)
                    if len(self._kept) > self._max_sessions:
                        self._kept.popitem(last=False)

        return watched(original_func, keep)

    def _forget(self, namespace: Hashable | None, session_id: str) -> None:
        with self._lock:
            self._writes[hash(session_id) % _STRIPES] += 1
            if namespace is None:  # a write that says not where: it may be any
                for key in [key for key in self._kept if key[1] == session_id]:
                    del self._kept[key]
            else:
                self._kept.pop((namespace, session_id), None)


def _namespace_of(session_manager: object | None) -> Hashable | None:
    """Return what tells the manager's collection from others, None when that is not known."""
    for name in ("repository", "session_repository"):
        repository = getattr(session_manager, name, None)
        if (namespace := getattr(repository, "_namespace", None)) is not None:
            return cast("Hashable", namespace)
    return None


def _after_fork_in_child() -> None:
    # A thread of the parent may have held it, and is not there to give it back.
    for cache in list(_caches):
        cache._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
