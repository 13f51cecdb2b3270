"""What a notification needs from the database, read where the session's client may be used."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import to_thread

from ..errors import SessionNotFoundError
from .worker import running_loop

T = TypeVar("T")


class StoredSession:
    """A session as it is stored, for a message that is sent later, on the library's loop.

    Reads go past the manager's hooks: a notification about a notification would follow from that.
    """

    def __init__(self, session_id: str, session_manager: object | None) -> None:
        """Note whose session it is, on the loop of the hook's caller."""
        self._session_id = session_id
        # The synchronous manager holds an async one, whose repository is the one for an event loop.
        self._manager: Any = getattr(session_manager, "_async", session_manager)
        self._home = running_loop()

    async def viewer_password(self) -> str | None:
        """Return the session's viewer password, None when it has none, is deleted or out of reach without a manager."""
        password = await self._call("get_session_viewer_password")
        return password if isinstance(password, str) else None

    async def metadata(self) -> dict[str, Any]:
        """Return the stored metadata, empty when they are deleted or out of reach without a manager."""
        found = await self._call("get_metadata")
        metadata = found.get("metadata") if isinstance(found, dict) else None
        return metadata if isinstance(metadata, dict) else {}

    async def remove(self, field: str, value: str) -> None:
        """Delete a metadata field, unless it has another value by now."""
        if self._of_repository("_remove_metadata") is not None:
            await self._call("_remove_metadata", field, value)
        elif (await self.metadata()).get(field) == value:
            await self._call("delete_metadata", [field])

    async def _call(self, operation: str, *args: Any) -> Any:
        if self._manager is None:
            return None
        bound = self._of_repository(operation)
        if bound is not None:
            try:
                return await self._on_its_loop(bound, self._session_id, *args)
            except SessionNotFoundError:
                return None  # What was done before it was deleted is told all the same.
        # Another kind of manager, of either face.
        bound = getattr(self._manager, operation)
        if inspect.iscoroutinefunction(bound):
            return await bound(*args)
        return await to_thread.run_sync(bound, *args)

    def _of_repository(self, operation: str) -> Callable[..., Any] | None:
        """Return a coroutine function of the manager's repository, None when it has none of that name."""
        bound: Callable[..., Any] | None = getattr(getattr(self._manager, "repository", None), operation, None)
        return bound if inspect.iscoroutinefunction(bound) else None

    async def _on_its_loop(self, bound: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        if self._manager._store.handle.any_loop or self._home is asyncio.get_running_loop():
            return await bound(*args)
        # An `AsyncMongoClient` lives on its caller's loop. The message's time limit ends this waiting.
        if self._home is None or not self._home.is_running():
            raise RuntimeError("the event loop of the session's client has ended")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(bound(*args), self._home))
