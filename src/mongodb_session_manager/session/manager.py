"""The async session manager: Strands' lifecycle with what is pending in memory, written to MongoDB in batches."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pymongo.errors import PyMongoError
from strands.hooks import HookRegistry
from strands.session import RepositorySessionManager
from strands.types.content import Message
from strands.types.session import Session

from .. import hooks, runtime
from ..advice import hosts_of_client, with_advice
from ..client import ClientHandle, MongoDBClient
from ..errors import SessionNotOpenError
from ..placeholders import note_placeholders
from ..runtime.cancellation import NOT_WRITTEN, cleaning_up
from ..schema.names import check_agent_id, check_application_name, check_names, check_place, check_session_id
from ..schema.numbers import check_seconds
from ..storage import MongoDBStorage
from ..storage.ages import seconds
from ..store import AsyncMongoDBSessionRepository
from ..store.executor import UpdateExecutor
from ..store.indexes import check_expiry, index_specs
from ..store.indexes import ensure_indexes as make_indexes
from ..store.lease import Turn
from ..store.store import SessionStore
from .conversations import Conversations
from .lifecycle import LifecycleEvents
from .lifetime import SessionLifetime
from .operations import SessionOperations
from .storage import session_storage
from .turn import Turns
from .view import SessionView

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent

FlushOn = Literal["message", "invocation"]
Hooks = Callable[..., Any] | Sequence[Callable[..., Any]] | None


class AsyncMongoDBSessionManager(SessionOperations, RepositorySessionManager):
    """One session, for any number of agents, graphs and swarms.

    Open it before agents are built: `async with AsyncMongoDBSessionManager(...) as manager:`. Building an agent then
    restores it from memory, without any I/O, and its hooks write in the background of the conversation: every message
    when it is added (`flush_on="message"`), or the whole turn at its end (`flush_on="invocation"`).

    Usable from any event loop and thread, `agent("...")` included, unless it was given an `AsyncMongoClient`, which
    lives on one loop. It owns the client that it makes from a connection string and borrows one that it is given.

    Agents of one session may be spread over processes: messages are numbered without gaps and none is lost; an
    agent's state is the last writer's.
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
        """Address a session; no I/O before `open()`.

        Args:
            session_id: Which session; it is created when it does not exist.
            connection_string: MongoDB URI; also taken from `MONGODB_CONNECTION_STRING`.
            database_name: Database of the sessions.
            collection_name: Collection of the sessions.
            client: A client to borrow: Motor, `MongoClient`, `AsyncMongoClient` or `AsyncMongoMockClient`.
            metadata_fields: Metadata fields to index.
            metadata_hook: One hook around metadata operations, or several, the first outermost.
            feedback_hook: The same around feedback.
            application_name: Stored when the session is created, then immutable.
            flush_on: When messages are written: each by itself, or a whole turn at once.
            ttl: How long the session lives after its last activity (a timedelta or seconds). None keeps what is
                stored, which for a new session is for ever.
            write_deadline_s: How long a write or a read is sent again when the server fails over, and how long a silent
                server is waited for, in seconds. A server that was never reached is only waited for as long as the
                client is told to (`serverSelectionTimeoutMS`).
            lazy: Open the session with the first invocation, which restores the agents before anything else; for code
                that builds agents and cannot await. Until then `agent.messages` is what the caller gave.
            skip_corrupt_messages: Leave out stored messages that cannot be read, with a warning, instead of raising.
            ensure_indexes: Create the indexes of `index_specs()`, once per process and off the caller's path.
            **kwargs: MongoDB client options, checked by the driver.

        Raises:
            InvalidNameError: The session id is not a non-empty string, or the application's name no string, or MongoDB
                takes no such database or collection.
            TypeError: The client is of another kind.
            TypeError: An argument is misspelt.
            ValueError: Neither client nor connection string, or one in the place of the session id; or an option has no
                meaning.
        """
        session_id = check_session_id(session_id)
        # It would be stored, and logged, with its password.
        if session_id.startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("invalid session_id: it must not be a connection string, which is the argument after it")
        options = hooks.current_names(kwargs, metadata_hook=metadata_hook, feedback_hook=feedback_hook)
        check_flush_on(flush_on)
        application_name = check_application_name(application_name)
        ttl_s = seconds(ttl)
        metadata_hooks = hooks.flatten(options.pop("metadata_hook"))
        feedback_hooks = hooks.flatten(options.pop("feedback_hook"))
        if options:
            _check_spelling(options)
        if metadata_fields is not None:
            index_specs(metadata_fields)  # Refuses a plain string, and what cannot be a metadata key.
        self._flush_on = flush_on
        self._lazy = lazy
        self._waiting: list[tuple[object, Callable[[], None]]] = []
        self._waiting_lock = threading.RLock()
        self._metadata_fields = None if metadata_fields is None else tuple(metadata_fields)
        self._ensure_indexes = ensure_indexes
        self._wants_expiry = ttl_s is not None
        check_place(database_name, collection_name)
        handle = _handle(connection_string, client, options)
        note_placeholders(database_name, collection_name)
        self._store = SessionStore(handle, database_name, collection_name, write_deadline_s=write_deadline_s)
        executor = UpdateExecutor(self._store)
        lifetime = SessionLifetime(
            session_id,
            executor,
            application_name=application_name,
            ttl_s=ttl_s,
            skip_corrupt_messages=skip_corrupt_messages,
            shares_client=isinstance(client, ClientHandle),
        )
        repository = AsyncMongoDBSessionRepository._on(executor, lifetime.lease, lifetime.note_own)
        self._conversations = Conversations(lifetime)
        self._turns = Turns(lifetime, self._conversations)
        super().__init__(
            lifetime,
            repository,
            submit=self._turns.submit,
            metadata_hooks=metadata_hooks,
            feedback_hooks=feedback_hooks,
        )
        self._view = SessionView(lifetime, self._conversations, repository)
        self._executor = executor
        self._storage: MongoDBStorage | None = None

    def _make_storage(self) -> MongoDBStorage:
        return session_storage(
            self._lifetime, self._executor, on_library_loop=False, ensure_indexes=self._ensure_indexes
        )

    def __repr__(self) -> str:
        """Name the session and whether it is open."""
        return f"<{type(self).__name__} session_id={self.session_id!r} {self._lifetime.phase}>"

    # -- lifecycle

    async def open(self, agents: Iterable[str] | None = None) -> Self:
        """Load the session, or create it. Idempotent.

        Args:
            agents: Ids of the agents to load, for sessions with many; None loads all.

        Raises:
            PyMongoError: The server cannot be reached.
            SessionClosedError: The manager was closed.
            SessionStoreError: An index of the collection keeps sessions from expiring as `ttl` asks for.
            TypeError: `agents` is no list of ids.
            ValueError: The client's writes are not acknowledged (`w=0`).
        """
        self._check_not_closed()
        if self._lifetime.was_opened:
            return self
        if not self._store.handle.acknowledges_writes:
            raise ValueError(
                "invalid client: its write concern is w=0, so the outcome of a write is unknown; use w=1 or majority"
            )
        ids = None if agents is None else check_names("agents", agents, "agent ids")
        names = None if ids is None else [check_agent_id(agent_id) for agent_id in ids]
        try:
            if self._wants_expiry:
                address = self._store.handle, self._store.database_name, self._store.collection_name
                await check_expiry(*address, make=self._ensure_indexes)
            opened_here = await self._lifetime.open(names)
        except PyMongoError as error:
            self._check_not_closed()  # By another task meanwhile, and with it the client.
            raise with_advice(error, hosts_of_client(self._store.handle.client)) from error.__cause__
        if not opened_here:
            return self  # Opened by another task meanwhile; that one's view is in use.
        # Weakly: what is pending and what follows agents would hold each other otherwise.
        self._lifetime.changes.capture_all = weakref.WeakMethod(self._conversations.capture_all)
        if self._ensure_indexes:
            store = self._store
            make_indexes(store.handle, store.database_name, store.collection_name, self._metadata_fields)
        self._restore_waiting()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Open the session: `manager = await factory.create_session_manager(...)`."""
        return self._open_or_close().__await__()

    async def __aenter__(self) -> Self:
        """Open the session."""
        return await self._open_or_close()

    async def _open_or_close(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            # `async with factory.create_session_manager(...)` leaves its caller no manager to close.
            if not self._lifetime.was_opened:
                await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is pending and close; a cancellation stays one, and what fails then is logged."""
        with cleaning_up(error, self.session_id, NOT_WRITTEN):
            await self.close()

    async def close(self, drain_s: float = runtime.DRAIN_S) -> None:
        """Write what is pending, deliver the session's notifications, and close the client that is owned. Idempotent.

        When this is cancelled, all of it is done in the background.

        Args:
            drain_s: How long to wait for notifications while none is delivered, in seconds; what is left is dropped.

        Raises:
            PyMongoError: Something could not be written; the client is closed all the same.
            SessionNotFoundError: The session was deleted, so what is pending has no place.
            TypeError: Code left something in an agent that cannot be stored; the rest is stored all the same.
            ValueError: `drain_s` is no length of time.
        """
        check_seconds("drain_s", drain_s, endless=True)
        try:
            if self._lifetime.phase == "open":
                self._conversations.capture_all()
        finally:  # Also when code left something in an agent that cannot be stored.
            await self._lifetime.close(drain_s)

    # -- what Strands calls

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for every lifecycle event that changes what is stored."""
        each_message = self._flush_on == "message"
        # Held by the registry alone: it and its manager would hold each other otherwise.
        events = LifecycleEvents(
            self,
            self._conversations,
            each_message=each_message,
            prepare=self._prepare,
            flush=self._flush_from_event,
            flush_soon=self._flush_soon,
        )
        events.register(registry)

    async def _prepare(self, source: object) -> bool:
        """Open the session and restore what was built on it, where that was left to this invocation.

        Returns:
            Whether its agent, graph or swarm waited for that.
        """
        if not self._lazy:
            return await self._turns.restore_stale()
        was_open = self._lifetime.was_opened
        await self.open()
        waited = self._restore_waiting(source)
        return await self._turns.restore_stale() or waited or not was_open

    def _restore_waiting(self, source: object = None) -> bool:
        """Restore what was built before the session was open; what cannot be is an error of its own invocation alone.

        Returns:
            Whether the source was among it.
        """
        failed: Exception | None = None
        with self._waiting_lock:
            waiting, self._waiting = self._waiting, []
            for built, restore in waiting:
                try:
                    restore()
                except Exception as error:
                    self._waiting.append((built, restore))
                    failed = error if built is source else failed
        if failed is not None:
            raise failed
        return any(built is source for built, _ in waiting)

    async def _flush_from_event(self) -> None:
        await self._writer.flush()

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent from the session, or add it as a new one; in memory, without I/O.

        Repeating it for the same agent object does nothing. Its model, tools and system prompt are never changed.

        Raises:
            CorruptMessageError: One of its stored messages cannot be read.
            SessionClosedError: The manager was closed.
            SessionException: Another agent object with this id is in use with this manager.
            SessionNotOpenError: The manager was not opened.
        """
        self._restore_now_or_later(agent, partial(self._conversations.initialize, agent, **kwargs))

    def _restore_now_or_later(self, source: object, restore: Callable[[], None]) -> None:
        """Restore what is being built, or leave it to the first invocation."""
        self._check_not_closed()
        if self._lazy:
            with self._waiting_lock:
                if not self._lifetime.was_opened:
                    self._waiting.append((source, restore))
                    return
        if not self._lifetime.was_opened:
            raise SessionNotOpenError(
                self.session_id,
                "agents, graphs and swarms are built on it, or make it with lazy=True, which opens at the first "
                "invocation",
            )
        restore()

    def append_message(self, message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Add a message to an agent's conversation, in memory; the next flush writes it.

        Strands does this for every message; code need not. A message that code appends by hand all the same is
        not stored twice: it gives way to the equal one that Strands adds next, and is dropped when it repeats the
        assistant's text since the last user message, or is a message of the agent's that is stored already.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a note is stored for its largest blocks.
            SessionStoreError: The agent was not built with this manager.
            TypeError: It holds something that cannot be stored; likewise. Or it is no dict with role and content, and
                nothing is stored.
            ValueError: It is nested too deeply; likewise.
        """
        try:
            self._conversations.append_once(message, agent)
        finally:
            self._flush_outside_invocation(agent)

    def _flush_outside_invocation(self, agent: LocalAgent) -> None:
        """Start writing what code changed by itself; in an invocation the next event does."""
        if not self._conversations.is_in_invocation(agent):
            self._flush_soon()

    def redact_latest_message(self, redact_message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Replace an agent's latest message, in memory, and start writing that at once.

        The original is nowhere afterwards. Strands calls this when a guardrail intervenes.

        Args:
            redact_message: What takes the message's place.
            agent: The agent whose latest message it is.
            **kwargs: `action` ("BLOCKED" by default), `stop_reason` and `guardrail_trace` of the guardrail.

        Raises:
            SessionException: There is no message to redact.
            TypeError: What takes the place is no dict with role and content, and nothing changes. Or it, or the
                trace, holds something that cannot be stored: the redaction stands without that.
        """
        try:
            self._conversations.redact(redact_message, agent, kwargs)
        finally:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self._writer.flush_soon()

    def sync_agent(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Note what changed of an agent: state, window, configuration, metrics. In memory; the next flush writes it."""
        self._conversations.capture(agent, final=True)
        self._flush_outside_invocation(agent)

    def set_token_counts(self, input_tokens: int, output_tokens: int) -> None:
        """Give the usage of a model that reports none; it is counted into the next synced assistant message.

        Raises:
            TypeError: A count is no integer.
            ValueError: A negative count, or one beyond 2**53.
        """
        self._conversations.set_token_counts(input_tokens, output_tokens)

    def initialize_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Restore a graph or swarm from the session, or add it as a new one; in memory, without I/O."""
        self._restore_now_or_later(source, partial(self._conversations.initialize_multi_agent, source, **kwargs))

    def sync_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Note the state of a graph or swarm, in memory; the next flush writes it."""
        self._conversations.sync_multi_agent(source)
        self._flush_soon()

    # -- turns

    @asynccontextmanager
    async def turn(
        self, wait_s: float | None = None, lease_s: float = 30, idempotency_key: str | None = None
    ) -> AsyncIterator[Turn]:
        """Take the session's turn: `async with manager.turn() as turn:`. One holder at a time, across processes.

        When others wrote since this manager loaded the session, its agents, graphs and swarms are restored again first.
        The lease is renewed while it is held, and freed `lease_s` seconds after its process died. Writers without it
        are refused.

        With an idempotency key the agents' part of the turn is written at once at its end, along with the key (more
        than 8 MB of text: in several parts, so that an attempt that is killed between them leaves some of it behind);
        metadata and feedback at once, which a second attempt does not double. A turn that fails before its end leaves
        the agents as they are stored. A request that is taken again sees `turn.replayed` and should leave the agent
        alone; what it adds all the same is discarded.

        Args:
            wait_s: Longest time to wait for another holder, in seconds; None for as long as it takes.
            lease_s: Seconds without a renewal after which others may take over.
            idempotency_key: Names the request, the same for each of its retries; at most 256 characters.

        Raises:
            LeaseLostError: The turn was taken over (this process was stopped for too long). What it still had to write
                is discarded, and the agents hold what is stored.
            LeaseUnavailableError: Another holder kept it longer than `wait_s`.
            SessionNotFoundError: The session was deleted.
            SessionStoreError: This manager has the turn already.
            ValueError: A time that is not positive, or a key that is empty or longer than 256 characters.
        """
        async with self._turns.take(wait_s, lease_s, idempotency_key) as turn:
            yield turn

    # -- the session

    @property
    def session(self) -> Session:
        """Strands' record of the session."""
        return self._lifetime.session.session()

    @session.setter
    def session(self, value: Session) -> None:
        raise AttributeError("the session is what open() loaded")

    @property
    def repository(self) -> AsyncMongoDBSessionRepository:
        """The MongoDB repository, for operations by session id."""
        return self._repository

    @property
    def session_repository(self) -> Any:
        """The open session as the synchronous `SessionRepository` of Strands' contract: a view in memory, without I/O.

        It holds the agents and messages that are loaded. What is changed through it is written by a flush in the
        background, and by the next one. Another session's id, and what is not loaded, is an error that names
        `repository`.
        """
        return self._view

    @session_repository.setter
    def session_repository(self, value: object) -> None:
        raise AttributeError("the session repository belongs to the manager")

    @property
    def storage(self) -> MongoDBStorage:
        """A storage of the session's own, for `Agent(storage=...)` and whatever else of Strands takes one.

        What lies in it is deleted with the session and expires with it; a fork begins with none. It works while the
        session is open.
        """
        if self._storage is None:
            self._storage = self._make_storage()
        return self._storage

    @property
    def collection(self) -> Any:
        """The driver's own async collection, for queries of your own."""
        self._check_not_closed()
        return self._repository.collection


def check_flush_on(flush_on: object) -> None:
    """Check when messages are to be written.

    Raises:
        ValueError: It is neither "message" nor "invocation".
    """
    if flush_on not in ("message", "invocation"):
        raise ValueError(f"invalid flush_on: it must be 'message' or 'invocation', got {flush_on!r}")


def _check_spelling(options: Iterable[str]) -> None:
    """Refuse what looks like a misspelt argument of the manager's; everything else is for the driver to judge."""
    own = [name for name in inspect.signature(AsyncMongoDBSessionManager).parameters if "_" in name]
    for name in options:
        if meant := get_close_matches(name, own, n=1, cutoff=0.85):
            raise TypeError(f"unknown argument {name!r}; did you mean {meant[0]!r}?")


def _handle(connection_string: str | None, client: object, options: dict[str, Any]) -> ClientHandle:
    if not isinstance(client, ClientHandle):
        return ClientHandle(connection_string, client=client, options=options)
    if options:  # A factory's client, which has its options already.
        raise ValueError(f"invalid client options: {sorted(options)} belong to the factory, not to its managers")
    return client.share()
