"""The synchronous session manager: the async one, on the library's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pymongo.collection import Collection
from strands.hooks import HookRegistry
from strands.session import RepositorySessionManager
from strands.types.content import Message
from strands.types.session import Session

from .. import hooks, runtime
from ..client import MongoDBClient
from ..metadata_tool import PROTECTED, create_blocking_metadata_tool
from ..runtime import portal
from ..runtime.cancellation import NOT_WRITTEN, cleaning_up
from ..session import AsyncMongoDBSessionManager, FlushOn, Hooks
from ..session.storage import session_storage
from ..storage import MongoDBStorage
from ..store.lease import Turn
from .exit import close_at_exit
from .repository import MongoDBSessionRepository
from .running_loop import note_running_loop
from .turn import BlockingTurn

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent


class WrappedSessionManager(AsyncMongoDBSessionManager):
    """The async manager inside a synchronous one.

    Strands awaits its handlers on the loop that the agent runs on. What they write goes from that loop where the client
    allows it, and otherwise from the library's loop, which is where a client that is bound to one lives.
    """

    async def _flush_from_event(self) -> None:
        if self._store.handle.any_loop:
            await self.flush()
        else:
            await asyncio.wrap_future(portal.start(self.flush))

    def _make_storage(self) -> MongoDBStorage:
        bound = not self._store.handle.any_loop
        return session_storage(
            self._lifetime, self._executor, on_library_loop=bound, ensure_indexes=self._ensure_indexes
        )

    def _flush_soon(self) -> None:
        if self._store.handle.any_loop:
            super()._flush_soon()
        else:
            portal.start(self._flush_soon_there)

    async def _flush_soon_there(self) -> None:
        super()._flush_soon()

    def _flush_outside_invocation(self, agent: LocalAgent) -> None:
        """Do nothing: the synchronous method flushes, and waits for that."""


class MongoDBSessionManager(RepositorySessionManager):
    """One session, for any number of agents, graphs and swarms; see `AsyncMongoDBSessionManager`.

    The constructor opens the session, and creates it when it is new. Every method waits until what it does is stored.
    Usable from any thread; agents that use it may run on any event loop, where Strands awaits the writes without
    holding the loop up. A `with` block, or `close()`, writes what is pending and closes the client that is owned.

    After `close()` every method that needs the session raises `SessionClosedError`; the driver's `PyMongoError` passes
    through unchanged.
    """

    def __init__(
        self,
        session_id: str,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        metadata_fields: Sequence[str] | None = None,
        metadata_hook: Hooks = None,
        feedback_hook: Hooks = None,
        application_name: str | None = None,
        *,
        flush_on: FlushOn = "message",
        ttl: timedelta | float | None = None,
        write_deadline_s: float = 30,
        lazy: bool = False,
        skip_corrupt_messages: bool = False,
        ensure_indexes: bool = True,
        **kwargs: Any,
    ) -> None:
        """Open the session.

        The arguments are those of `AsyncMongoDBSessionManager`; `lazy` changes nothing here, where the constructor
        opens.

        Raises:
            InvalidNameError: The session id is not a non-empty string.
            PyMongoError: The server cannot be reached.
            RuntimeError: Called from the library's own event loop.
            TypeError: The client is of another kind.
            ValueError: Neither client nor connection string; or an option has no meaning.
        """
        # Here and not in the wrapped manager: the warning about an old name has to find the caller's line.
        options = hooks.current_names(kwargs, metadata_hook=metadata_hook, feedback_hook=feedback_hook)

        async def opened() -> WrappedSessionManager:
            return await WrappedSessionManager(
                session_id,
                connection_string,
                database_name,
                collection_name,
                client,
                metadata_fields,
                application_name=application_name,
                flush_on=flush_on,
                ttl=ttl,
                write_deadline_s=write_deadline_s,
                lazy=lazy,
                skip_corrupt_messages=skip_corrupt_messages,
                ensure_indexes=ensure_indexes,
                **options,
            )

        self._wrap(portal.call(opened))

    def _wrap(self, manager: WrappedSessionManager) -> None:
        note_running_loop(type(self).__name__)
        self._async = manager
        self._repository = MongoDBSessionRepository._around(manager.repository)
        self.session_id = manager.session_id
        close_at_exit(manager)

    @classmethod
    def _around(cls, manager: WrappedSessionManager) -> Self:
        """Return the synchronous face of a manager that is open."""
        face = cls.__new__(cls)
        face._wrap(manager)
        return face

    def __repr__(self) -> str:
        """Name the session and whether it is open."""
        return repr(self._async).replace(type(self._async).__name__, type(self).__name__, 1)

    # -- lifecycle

    def open(self, agents: Iterable[str] | None = None) -> Self:
        """Return the manager, which its constructor opened.

        Raises:
            SessionClosedError: The manager was closed.
        """
        portal.call(self._async.open, agents)
        return self

    def __enter__(self) -> Self:
        """Return the manager."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is pending and close; an interruption (Ctrl-C) stays one, and what fails then is logged."""
        with cleaning_up(error, self.session_id, NOT_WRITTEN):
            self.close()

    def close(self, drain_s: float = runtime.DRAIN_S) -> None:
        """Write what is pending, deliver the session's notifications, and close the client that is owned. Idempotent.

        Args:
            drain_s: How long to wait for notifications while none is delivered, in seconds; what is left is dropped.

        Raises:
            PyMongoError: Something could not be written; the client is closed all the same.
            SessionNotFoundError: The session was deleted, so what is pending has no place.
            TypeError: Code left something in an agent that cannot be stored; the rest is stored all the same.
        """
        portal.finish(self._async.close, drain_s)

    def flush(self) -> None:
        """Write what is pending; nothing pending: no command.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
            SessionNotFoundError: The session was deleted.
        """
        portal.call(self._async.flush)

    # -- what Strands calls

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for every lifecycle event that changes what is stored."""
        self._async.register_hooks(registry, **kwargs)

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent from the session, or add it as a new one; in memory, without I/O.

        Repeating it for the same agent object does nothing. Its model, tools and system prompt are never changed.

        Raises:
            CorruptMessageError: One of its stored messages cannot be read.
            SessionClosedError: The manager was closed.
            SessionException: Another agent object with this id is in use with this manager.
        """
        self._async.initialize(agent, **kwargs)

    def append_message(self, message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Add a message to an agent's conversation and store it; with `flush_on="invocation"` the next flush does.

        Strands does this for every message; code need not. A message that code appends by hand all the same is
        not stored twice.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a note is stored for its largest blocks.
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
            SessionStoreError: The agent was not built with this manager.
            TypeError: It holds something that cannot be stored; likewise. Or it is no dict with role and content, and
                nothing is stored.
            ValueError: It is nested too deeply; likewise.
        """
        self._async.append_message(message, agent, **kwargs)
        if self._async._flush_on == "message":
            self.flush()

    def redact_latest_message(self, redact_message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Replace an agent's latest message; the original is nowhere afterwards.

        Args:
            redact_message: What takes the message's place.
            agent: The agent whose latest message it is.
            **kwargs: `action` ("BLOCKED" by default), `stop_reason` and `guardrail_trace` of the guardrail.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
            SessionException: There is no message to redact.
            TypeError: What takes the place is no dict with role and content, and nothing changes. Or it, or the
                trace, holds something that cannot be stored: the redaction stands without that.
        """
        self._async.redact_latest_message(redact_message, agent, **kwargs)
        self.flush()

    def sync_agent(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Store what changed of an agent: state, window, configuration, metrics; nothing changed: no command.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
        """
        self._async.sync_agent(agent, **kwargs)
        self.flush()

    def initialize_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Restore a graph or swarm from the session, or add it as a new one; in memory, without I/O."""
        self._async.initialize_multi_agent(source, **kwargs)

    def sync_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of a graph or swarm.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
        """
        self._async.sync_multi_agent(source, **kwargs)
        self.flush()

    # -- turns

    @contextmanager
    def turn(
        self, wait_s: float | None = None, lease_s: float = 30, idempotency_key: str | None = None
    ) -> Iterator[Turn]:
        """Take the session's turn: `with manager.turn() as turn:`. One holder at a time, across processes.

        When others wrote since this manager loaded the session, its agents are restored again first. The lease is
        renewed while it is held, and freed `lease_s` seconds after its process died. Writers without it are refused.
        For `idempotency_key` see `AsyncMongoDBSessionManager.turn`.

        Args:
            wait_s: Longest time to wait for another holder, in seconds; None for as long as it takes.
            lease_s: Seconds without a renewal after which others may take over.
            idempotency_key: Names the request, the same for each of its retries; at most 256 characters.

        Raises:
            LeaseLostError: The turn was taken over. What it still had to write is discarded.
            LeaseUnavailableError: Another holder kept it longer than `wait_s`.
            SessionNotFoundError: The session was deleted.
            SessionStoreError: This manager has the turn already.
            ValueError: A time that is not positive, or an empty key.
        """
        turn = BlockingTurn(self._async.turn(wait_s, lease_s, idempotency_key))
        taken = turn.take()
        try:
            yield taken
        except BaseException as error:
            if not turn.give_back(error):
                raise
        else:
            turn.give_back(None)

    # -- metadata and feedback

    def update_metadata(self, metadata: dict[str, Any]) -> Any:
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
        manager = self._async
        return self._hooked(manager._metadata_hooks, manager._update_metadata, "update", metadata=metadata)

    def delete_metadata(self, metadata_keys: Sequence[str]) -> Any:
        """Delete some metadata fields.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            InvalidNameError: A key is not allowed.
            SessionNotFoundError: The session was deleted.
            TypeError: Not a list of keys; a plain string is not taken for one.
        """
        manager = self._async
        return self._hooked(manager._metadata_hooks, manager._delete_metadata, "delete", keys=metadata_keys)

    def get_metadata(self) -> dict[str, Any]:
        """Return `{"metadata": {...}}`, as stored or as a hook returns it; dates are UTC with milliseconds.

        Raises:
            SessionNotFoundError: The session was deleted.
        """
        manager = self._async
        manager._check_not_closed()  # here as well: a hook may answer from memory
        found: dict[str, Any] = self._hooked(manager._metadata_hooks, manager._get_metadata, "get")
        return found

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
        return create_blocking_metadata_tool(self, fields, protected)

    def add_feedback(self, feedback: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
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
        manager = self._async
        return self._hooked(
            manager._feedback_hooks,
            partial(manager._add_feedback, idempotency_key=idempotency_key),
            "add",
            feedback=feedback,
        )

    def get_feedbacks(self) -> list[dict[str, Any]]:
        """Return the feedbacks in order of submission.

        Raises:
            SessionNotFoundError: The session was deleted.
        """
        return portal.call(self._async.get_feedbacks)

    def _hooked(
        self,
        chain: Sequence[hooks.Hook],
        operation: Callable[..., Coroutine[Any, Any, Any]],
        action: str,
        **payload: Any,
    ) -> Any:
        def blocking(*arguments: Any) -> Any:
            return portal.call(operation, *arguments)

        return hooks.apply_blocking(
            chain, blocking, action, self.session_id, call_async=portal.call, session_manager=self, **payload
        )

    # -- agents

    def get_agent_config(self, agent_id: str) -> dict[str, Any] | None:
        """Return `{"agent_id", "model", "system_prompt", "prompt_metadata"}`, None for an unknown agent."""
        return portal.call(self._async.get_agent_config, agent_id)

    def update_agent_config(
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
        portal.call(self._async.update_agent_config, agent_id, model, system_prompt, prompt_metadata)

    def set_prompt_metadata(self, agent_id: str, prompt_metadata: Any) -> None:
        """Record what describes an agent's prompt, such as its version.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        portal.call(self._async.set_prompt_metadata, agent_id, prompt_metadata)

    def list_agents(self) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents of the session."""
        return portal.call(self._async.list_agents)

    def get_message_count(self, agent_id: str) -> int:
        """Return how many messages an agent has; 0 for an unknown agent."""
        return portal.call(self._async.get_message_count, agent_id)

    def get_trace_id(self, agent_id: str, message_id: int) -> str | None:
        """Return the id of the trace that a message of the assistant came from; None for one that was not traced."""
        return portal.call(self._async.get_trace_id, agent_id, message_id)

    def set_token_counts(self, input_tokens: int, output_tokens: int) -> None:
        """Give the usage of a model that reports none; it is counted into the next synced assistant message.

        Raises:
            TypeError: A count is no integer.
            ValueError: A negative count, or one beyond 2**53.
        """
        self._async.set_token_counts(input_tokens, output_tokens)

    def get_metrics_summary(self, agent_id: str | None = None) -> dict[str, Any]:
        """Return totals over the whole session, across restarts, or of one agent; unknown is None, not 0.

        Returns:
            `{"tokens": {"input", "output", "total", "cache_read", "cache_write"}, "latency_ms", "model_calls",
            "tool_calls": {tool: {"call_count", "success_count", "error_count", "total_time"}}}`, times of tools in s.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        return portal.call(self._async.get_metrics_summary, agent_id)

    # -- the session as a whole

    def get_session_viewer_password(self) -> str | None:
        """Return the password that opens this session in a viewer."""
        return portal.call(self._async.get_session_viewer_password)

    def get_application_name(self) -> str | None:
        """Return the application that created the session."""
        return portal.call(self._async.get_application_name)

    def check_session_exists(self) -> bool:
        """Tell whether the session is (still) stored."""
        return portal.call(self._async.check_session_exists)

    def repair_session(self, dry_run: bool = True) -> dict[str, Any]:
        """Find broken tool-use pairs among the stored messages, and repair them unless `dry_run`.

        Returns:
            `{"session_id", "dry_run", "broken", "mended", "agents": {agent_id: [{"message_id", "kind",
            "tool_use_ids"}]}}`. Live agents keep their own, already repaired history.
        """
        return portal.call(self._async.repair_session, dry_run)

    def fork(self, new_session_id: str, up_to_message: int | None = None, agent_id: str | None = None) -> Session:
        """Make a new session that holds what this one holds, whole or up to a message; this one goes on as it is.

        What is pending is written first. See `MongoDBSessionRepository.fork_session`.
        """
        return portal.call(self._async.fork, new_session_id, up_to_message, agent_id)

    def delete_session(self) -> int:
        """Delete the session with everything in it; what is pending is given up. Safe to repeat.

        Returns:
            How many sessions were deleted: 1, or 0 when there was none.
        """
        return portal.call(self._async.delete_session)

    @property
    def session(self) -> Session:
        """Strands' record of the session."""
        return self._async.session

    @session.setter
    def session(self, value: Session) -> None:
        raise AttributeError("the session is what the constructor loaded")

    @property
    def repository(self) -> MongoDBSessionRepository:
        """The MongoDB repository, for operations by session id."""
        return self._repository

    @property
    def session_repository(self) -> Any:
        """The same as `repository`, which is what Strands' contract says."""
        return self._repository

    @session_repository.setter
    def session_repository(self, value: object) -> None:
        raise AttributeError("the session repository belongs to the manager")

    @property
    def storage(self) -> MongoDBStorage:
        """A storage of the session's own, for `Agent(storage=...)` and whatever else of Strands takes one.

        What lies in it is deleted with the session and expires with it; a fork begins with none. It works while the
        session is open. Strands' storages are asynchronous on both faces: `asyncio.run(manager.storage.read(key))`.
        """
        return self._async.storage

    @property
    def collection(self) -> Collection[dict[str, Any]]:
        """PyMongo's own collection, for queries of your own.

        Raises:
            TypeError: The client has no synchronous side (`AsyncMongoClient`, `AsyncMongoMockClient`).
        """
        self._async._check_not_closed()
        return self._repository.collection
