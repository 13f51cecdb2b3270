"""What users ask of an open session: metadata, feedback, configurations, metrics, and the session as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from strands.types.session import Session

from .. import hooks
from ..errors import AgentNotFoundError
from ..metadata_tool import PROTECTED, create_metadata_tool
from ..schema.names import check_agent_id, encode_name
from ..store import AsyncMongoDBSessionRepository, session_data
from ..store.updates import Update
from .lifetime import SessionLifetime
from .writer import RefusedUpdateError, SessionWriter


class SessionOperations:
    """The part of a session manager that has nothing to do with Strands' lifecycle.

    What changes something goes through the writer of the open session, after what is pending; what reads is asked of
    the repository.
    """

    def __init__(
        self,
        lifetime: SessionLifetime,
        repository: AsyncMongoDBSessionRepository,
        *,
        submit: Callable[[Update], Awaitable[None]],
        metadata_hooks: Sequence[Callable[..., Any]],
        feedback_hooks: Sequence[Callable[..., Any]],
    ) -> None:
        """Work on a session, which need not be open yet.

        Args:
            lifetime: The session.
            repository: On the same store.
            submit: Applies an update of its own, after what is pending.
            metadata_hooks: What surrounds metadata operations, the first outermost.
            feedback_hooks: The same around feedback.
        """
        self.session_id = lifetime.session_id
        self._lifetime = lifetime
        self._repository = repository
        self._submit = submit
        self._metadata_hooks = tuple(metadata_hooks)
        self._feedback_hooks = tuple(feedback_hooks)

    async def flush(self) -> None:
        """Write what is pending; nothing pending: no command.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
            SessionNotFoundError: The session was deleted.
        """
        await self._writer.flush()

    # -- metadata and feedback

    async def update_metadata(self, metadata: dict[str, Any]) -> Any:
        """Set some metadata fields, the others stay; dots in a key address nested fields.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            InvalidNameError: A key is not allowed, leads into a plain value, or would lengthen a list by more than it
                holds plus one.
            MetadataTooLargeError: The update is larger than 256 KB, or all metadata with it than 1 MB.
            SessionNotFoundError: The session was deleted.
            TypeError: Not a dict, or a value cannot be stored.
        """
        return await hooks.apply(
            self._metadata_hooks,
            self._update_metadata,
            "update",
            self.session_id,
            session_manager=self,
            metadata=metadata,
        )

    async def _update_metadata(self, metadata: dict[str, Any]) -> None:
        self._lifetime.check_open()
        await session_data.update_metadata(self._lifetime.store, self.session_id, metadata, self._submit_unless_refused)

    async def delete_metadata(self, metadata_keys: Sequence[str]) -> Any:
        """Delete some metadata fields.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            InvalidNameError: A key is not allowed.
            SessionNotFoundError: The session was deleted.
            TypeError: Not a list of keys; a plain string is not taken for one.
        """
        return await hooks.apply(
            self._metadata_hooks,
            self._delete_metadata,
            "delete",
            self.session_id,
            session_manager=self,
            keys=metadata_keys,
        )

    async def _delete_metadata(self, metadata_keys: Sequence[str]) -> None:
        self._lifetime.check_open()
        await session_data.delete_metadata(
            self._lifetime.store, self.session_id, metadata_keys, self._submit_unless_refused
        )

    async def _submit_unless_refused(self, update: Update) -> bool:
        try:
            await self._submit(update)
        except RefusedUpdateError:
            return False
        return True

    async def get_metadata(self) -> dict[str, Any]:
        """Return `{"metadata": {...}}`, as stored or as a hook returns it; dates are UTC with milliseconds.

        Raises:
            SessionNotFoundError: The session was deleted.
        """
        self._check_not_closed()  # here as well: a hook may answer from memory
        found: dict[str, Any] = await hooks.apply(
            self._metadata_hooks, self._get_metadata, "get", self.session_id, session_manager=self
        )
        return found

    async def _get_metadata(self) -> dict[str, Any]:
        self._lifetime.check_open()
        return await self._repository.get_metadata(self.session_id)

    def get_metadata_tool(self, fields: Iterable[str] | None = None, protected: Iterable[str] = PROTECTED) -> Any:
        """Return the Strands tool `manage_metadata`, with which an agent reads and changes the metadata itself.

        Args:
            fields: The fields that the model may see and change, None for all. Dots address nested fields.
            protected: Fields that it can neither see nor change. By default those that say where notifications of
                the WebSocket hook go, which a model must not redirect.

        Raises:
            InvalidNameError: A name cannot be a metadata key.
            TypeError: A plain string where several names are meant.
        """
        return create_metadata_tool(self, fields, protected)

    async def add_feedback(self, feedback: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
        """Add a feedback, such as `{"rating": "up", "comment": "..."}`; `created_at` is added.

        Args:
            feedback: What is stored.
            idempotency_key: Names the request, the same for each of its retries; at most 256 characters. A session
                remembers the last 200 keys, and stores nothing for a key that it remembers.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            SessionNotFoundError: The session was deleted.
            TypeError: Not a dict, or a value cannot be stored.
            ValueError: The key is empty or too long.
        """
        return await hooks.apply(
            self._feedback_hooks,
            partial(self._add_feedback, idempotency_key=idempotency_key),
            "add",
            self.session_id,
            session_manager=self,
            feedback=feedback,
        )

    async def _add_feedback(self, feedback: dict[str, Any], *, idempotency_key: str | None = None) -> None:
        self._lifetime.check_open()
        with suppress(RefusedUpdateError):  # by a session that remembers the key
            await self._submit(session_data.feedback_addition(feedback, idempotency_key))

    async def get_feedbacks(self) -> list[dict[str, Any]]:
        """Return the feedbacks in order of submission.

        Raises:
            SessionNotFoundError: The session was deleted.
        """
        self._lifetime.check_open()
        return await self._repository.get_feedbacks(self.session_id)

    # -- agents

    async def get_agent_config(self, agent_id: str) -> dict[str, Any] | None:
        """Return `{"agent_id", "model", "system_prompt", "prompt_metadata"}`, None for an unknown agent."""
        await self.flush()
        return await self._repository.get_agent_config(self.session_id, agent_id)

    async def update_agent_config(
        self,
        agent_id: str,
        model: str | None = None,
        system_prompt: str | None = None,
        prompt_metadata: Any = None,
    ) -> None:
        """Change an agent's recorded configuration; None leaves a part as it is.

        It stands until the live agent's own configuration changes. The live agent is not touched.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        given = {"model": model, "system_prompt": system_prompt, "prompt_metadata": prompt_metadata}
        update = session_data.config_update(encode_name(check_agent_id(agent_id)), **given)
        await self._change_config(agent_id, update)

    async def set_prompt_metadata(self, agent_id: str, prompt_metadata: Any) -> None:
        """Record what describes an agent's prompt, such as its version; None deletes the record.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        update = session_data.prompt_metadata_update(encode_name(check_agent_id(agent_id)), prompt_metadata)
        await self._change_config(agent_id, update)

    async def _change_config(self, agent_id: str, update: Update) -> None:
        await self.flush()
        try:
            await self._submit(update)
        except RefusedUpdateError:
            raise AgentNotFoundError(self.session_id, agent_id) from None

    async def list_agents(self) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents of the session."""
        await self.flush()
        return await self._repository.list_agents(self.session_id)

    async def get_message_count(self, agent_id: str) -> int:
        """Return how many messages an agent has; 0 for an unknown agent."""
        await self.flush()
        return await self._repository.get_message_count(self.session_id, agent_id)

    async def get_trace_id(self, agent_id: str, message_id: int) -> str | None:
        """Return the id of the trace that a message of the assistant came from; None for one that was not traced.

        Raises:
            MessageNotFoundError: The agent has no such message.
            SessionNotFoundError: The session was deleted.
            TypeError: The number of the message is no integer.
        """
        await self.flush()
        return await self._repository.get_trace_id(self.session_id, agent_id, message_id)

    async def get_metrics_summary(self, agent_id: str | None = None) -> dict[str, Any]:
        """Return totals over the whole session, across restarts, or of one agent; unknown is None, not 0.

        Returns:
            `{"tokens": {"input", "output", "total", "cache_read", "cache_write"}, "latency_ms", "model_calls",
            "tool_calls": {tool: {"call_count", "success_count", "error_count", "total_time"}}}`, times of tools in s.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        await self.flush()
        return await self._repository.get_metrics_summary(self.session_id, agent_id)

    # -- the session as a whole

    async def get_session_viewer_password(self) -> str | None:
        """Return the password that opens this session in a viewer."""
        self._lifetime.check_open()
        return await self._repository.get_session_viewer_password(self.session_id)

    async def get_application_name(self) -> str | None:
        """Return the application that created the session."""
        self._lifetime.check_open()
        return await self._repository.get_application_name(self.session_id)

    async def check_session_exists(self) -> bool:
        """Tell whether the session is (still) stored."""
        self._check_not_closed()
        return await self._repository.check_session_exists(self.session_id)

    async def repair_session(self, dry_run: bool = True) -> dict[str, Any]:
        """Find broken tool-use pairs among the stored messages, and repair them unless `dry_run`.

        Returns:
            `{"session_id", "dry_run", "broken", "mended", "agents": {agent_id: [{"message_id", "kind",
            "tool_use_ids"}]}}`. Live agents keep their own, already repaired history.
        """
        await self.flush()
        return await self._repository.repair_session(self.session_id, dry_run)

    async def fork(self, new_session_id: str, up_to_message: int | None = None, agent_id: str | None = None) -> Session:
        """Make a new session that holds what this one holds, whole or up to a message; this one goes on as it is.

        What is pending is written first. See `AsyncMongoDBSessionRepository.fork_session`.

        Args:
            new_session_id: Id of the fork, which a manager of its own opens.
            up_to_message: Number of the last message that the fork holds; None for all.
            agent_id: The agent that has this message; may be left out in a session of one agent.

        Raises:
            AgentNotFoundError: The session has no such agent.
            MessageNotFoundError: The agent has no such message.
            SessionExistsError: A session of the new id exists; it was not touched.
            SessionNotFoundError: The session was deleted.
            ValueError: The session has several agents, and none was named.
        """
        await self.flush()
        return await self._repository.fork_session(
            self.session_id, new_session_id, up_to_message=up_to_message, agent_id=agent_id
        )

    async def delete_session(self) -> int:
        """Delete the session with everything in it; what is pending is given up. Safe to repeat.

        Returns:
            How many sessions were deleted: 1, or 0 when there was none.

        Raises:
            PyMongoError: It could not be deleted, as far as is known; what is pending stays pending.
            SessionClosedError: The manager was closed.
        """
        self._check_not_closed()
        deleted = await self._repository.delete_session(self.session_id)
        # Only now: a session that could not be deleted goes on, with the numbers that what is pending has.
        self._lifetime.discard()
        return deleted

    def _check_not_closed(self) -> None:
        self._lifetime.check_not_closed()

    @property
    def _writer(self) -> SessionWriter:
        return self._lifetime.writer
