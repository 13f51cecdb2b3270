"""Hooks as users write them, and in-memory managers of both faces to hang them on."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from mongodb_session_manager.hooks import Hook, apply, apply_blocking

logger = logging.getLogger("hooks")

SESSION_ID = "combined-hooks-session"
Hooks = Hook | Sequence[Hook] | None


class Stored:
    """What the managers below have stored.

    Attributes:
        metadata: Stored metadata.
        feedbacks: Stored feedback.
        calls: Actions that reached the store, in order.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.feedbacks: list[dict[str, Any]] = []
        self.calls: list[str] = []

    async def update(self, metadata: dict[str, Any]) -> None:
        self.calls.append("update")
        await asyncio.sleep(0)
        self.metadata.update(metadata)

    async def get(self) -> dict[str, Any]:
        self.calls.append("get")
        await asyncio.sleep(0)
        return {"metadata": dict(self.metadata)}

    async def delete(self, keys: list[str]) -> None:
        self.calls.append("delete")
        await asyncio.sleep(0)
        for key in keys:
            self.metadata.pop(key, None)

    async def add(self, feedback: dict[str, Any]) -> None:
        self.calls.append("add")
        await asyncio.sleep(0)
        self.feedbacks.append(feedback)


class Repository:
    """What `CachedMetadata` tells the collections of several managers apart by."""

    def __init__(self) -> None:
        self._namespace = object()


class AsyncStore:
    """The async face: operations are coroutines on the caller's loop."""

    session_id = SESSION_ID

    def __init__(self, hooks: Hooks = None) -> None:
        self.stored, self.hooks, self.session_repository = Stored(), hooks, Repository()

    async def update_metadata(self, metadata: dict[str, Any]) -> Any:
        return await apply(
            self.hooks, self.stored.update, "update", SESSION_ID, session_manager=self, metadata=metadata
        )

    async def get_metadata(self) -> Any:
        return await apply(self.hooks, self.stored.get, "get", SESSION_ID, session_manager=self)

    async def delete_metadata(self, metadata_keys: list[str]) -> Any:
        return await apply(
            self.hooks, self.stored.delete, "delete", SESSION_ID, session_manager=self, keys=metadata_keys
        )

    async def add_feedback(self, feedback: dict[str, Any]) -> Any:
        return await apply(self.hooks, self.stored.add, "add", SESSION_ID, session_manager=self, feedback=feedback)


class BlockingStore:
    """The sync face: operations block, and refuse to be called on the portal's own loop, as real ones do."""

    session_id = SESSION_ID

    def __init__(self, portal: BlockingPortal, hooks: Hooks = None) -> None:
        self.stored, self.hooks, self._portal = Stored(), hooks, portal
        self.session_repository = Repository()

    def call_async(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._portal.call(partial(function, *args, **kwargs))

    def update_metadata(self, metadata: dict[str, Any]) -> Any:
        return self._apply(self.stored.update, "update", session_manager=self, metadata=metadata)

    def get_metadata(self) -> Any:
        return self._apply(self.stored.get, "get", session_manager=self)

    def delete_metadata(self, metadata_keys: list[str]) -> Any:
        return self._apply(self.stored.delete, "delete", session_manager=self, keys=metadata_keys)

    def add_feedback(self, feedback: dict[str, Any]) -> Any:
        return self._apply(self.stored.add, "add", session_manager=self, feedback=feedback)

    def _apply(self, operation: Callable[..., Any], action: str, **payload: Any) -> Any:
        blocking = partial(self.call_async, operation)
        return apply_blocking(self.hooks, blocking, action, SESSION_ID, call_async=self.call_async, **payload)


class AnyFace:
    """One script for both faces: calls are plain, results are the same."""

    def __init__(self, portal: BlockingPortal, face: str, hooks: Hooks) -> None:
        self._portal = portal
        self._manager: AsyncStore | BlockingStore = (
            AsyncStore(hooks) if face == "async" else BlockingStore(portal, hooks)
        )
        self.stored = self._manager.stored

    def call(self, method: str, *args: Any) -> Any:
        bound = getattr(self._manager, method)
        return self._portal.call(bound, *args) if isinstance(self._manager, AsyncStore) else bound(*args)


@contextmanager
def a_portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


def passed_on(original_func: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Call `original_func` with whatever this action has."""
    return original_func(*(kwargs[key] for key in ("metadata", "keys", "feedback") if key in kwargs))


def audit_hook(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    logger.info("[AUDIT] %s on session %s", action, session_id)
    if action == "update" and "metadata" in kwargs:
        logger.info("[AUDIT] Data: %s", json.dumps(kwargs["metadata"], default=str))

    if action == "update":
        result = original_func(kwargs["metadata"])
    elif action == "delete":
        result = original_func(kwargs["keys"])
    else:
        result = original_func()

    logger.info("[AUDIT] %s completed", action)
    return result


def validation_hook(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    protected = ["_id", "session_id", "created_at"]
    if action == "update" and "metadata" in kwargs:
        metadata = kwargs["metadata"]
        for name in protected:
            if name in metadata:
                raise ValueError(f"Cannot update protected field: {name}")
        metadata.setdefault("last_updated", "2024-01-26T10:00:00")
        metadata.setdefault("updated_by", "system")
        logger.info("[VALIDATION] Validated for %s", session_id)
        return original_func(metadata)
    if action == "delete" and "keys" in kwargs:
        if set(kwargs["keys"]) & set(protected):
            raise ValueError("Cannot delete protected fields")
        return original_func(kwargs["keys"])
    return original_func()


class MetadataCacheHook:
    def __init__(self) -> None:
        self.cache: dict[str, Any] = {}

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "get":
            if session_id in self.cache:
                return self.cache[session_id]
            result = original_func()
            self.cache[session_id] = result
            return result
        self.cache.pop(session_id, None)
        if action == "update":
            return original_func(kwargs["metadata"])
        return original_func(kwargs["keys"])


class ExternalSyncHook:
    """Sends changes away in the background: on the running loop when there is one, else on a loop of its own."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.ways: list[str] = []
        self.arrived = threading.Semaphore(0)
        self._tasks: set[asyncio.Task[None]] = set()

    async def sync_to_external(self, metadata: dict[str, Any], operation: str) -> None:
        await asyncio.sleep(0)
        self.sent.append((operation, metadata))
        self.arrived.release()

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        if action == "get":
            return original_func()
        if action == "update":
            changed = kwargs["metadata"]
            result = original_func(changed)
        else:
            changed = dict.fromkeys(kwargs["keys"])
            result = original_func(kwargs["keys"])
        try:
            task = asyncio.get_running_loop().create_task(self.sync_to_external(changed, action))
            self._tasks.add(task)
            self.ways.append("task")
        except RuntimeError:
            self.ways.append("thread")
            threading.Thread(target=lambda: asyncio.run(self.sync_to_external(changed, action)), daemon=True).start()
        return result


class NotificationHook:
    def __init__(self) -> None:
        self.alerts: list[str] = []

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        result = original_func(kwargs["feedback"])
        feedback = kwargs["feedback"]
        if feedback.get("rating") == "down":
            self.alerts.append(f"Negative feedback on session {session_id}: {feedback.get('comment', 'No comment')}")
        return result


class AnalyticsHook:
    def __init__(self) -> None:
        self.tracked: list[dict[str, Any]] = []

    def __call__(self, original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
        feedback = kwargs["feedback"]
        started = time.monotonic()
        result = original_func(feedback)
        assert time.monotonic() >= started
        self.tracked.append({"rating": feedback.get("rating"), "has_comment": bool(feedback.get("comment"))})
        return result


def feedback_validation_hook(original_func: Callable[..., Any], action: str, session_id: str, **kwargs: Any) -> Any:
    feedback = kwargs["feedback"]
    if feedback.get("rating") == "down" and not feedback.get("comment"):
        raise ValueError("Please provide a comment with negative feedback")
    return original_func(feedback)
