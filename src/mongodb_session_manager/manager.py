"""The async session manager: Strands' lifecycle on an in-memory journal, written to MongoDB in batches."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from pymongo.errors import PyMongoError
from strands.bidi.agent import BidiAgent
from strands.bidi.hooks import BidiAgentStopEvent, BidiBeforeConnectionRestartEvent
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterMultiAgentInvocationEvent,
    AfterNodeCallEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    HookOrder,
    HookRegistry,
    MessageAddedEvent,
    MessageUpdatedEvent,
    MultiAgentInitializedEvent,
)
from strands.session import RepositorySessionManager
from strands.types.content import Message
from strands.types.session import Session

from . import background, hooks, session_data
from .batches import Step
from .capture import (
    LiveAgent,
    Redaction,
    announced_late,
    hand_appended,
    is_held,
    is_stored_already,
    repeats_answer,
    replaced_record,
)
from .client import ClientHandle
from .delivery import Delivery
from .documents import values
from .documents.messages import has_tool_result, normalized, now
from .documents.names import check_agent_id, check_session_id, encode_name
from .documents.sessions import StoredSession
from .errors import (
    AgentNotFoundError,
    LeaseLostError,
    SessionClosedError,
    SessionNotFoundError,
    SessionNotOpenError,
    SessionStoreError,
)
from .guardrails import GUARDRAIL_STOP_REASONS, event_summary, guardrail_event
from .history import History, MissingSegmentsError
from .indexes import ensure_indexes as make_indexes
from .indexes import index_specs
from .journal import Journal
from .lease import Lease, Turn
from .metadata_tool import create_metadata_tool
from .payloads import PayloadStore
from .repository import AsyncMongoDBSessionRepository
from .restore import RestoringSessionManager
from .store import SessionStore

if TYPE_CHECKING:
    from strands.agent import Agent
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent

logger = logging.getLogger(__name__)

FlushOn = Literal["message", "invocation"]
Hooks = Callable[..., Any] | Sequence[Callable[..., Any]] | None


class AsyncMongoDBSessionManager(RepositorySessionManager):
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
        client: Any = None,
        metadata_fields: Sequence[str] | None = None,
        metadata_hook: Hooks = None,
        feedback_hook: Hooks = None,
        application_name: str | None = None,
        *,
        flush_on: FlushOn = "message",
        ttl: timedelta | float | None = None,
        write_deadline_s: float = 30,
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
            skip_corrupt_messages: Leave out stored messages that cannot be read, with a warning, instead of raising.
            ensure_indexes: Create the indexes of `index_specs()`, once per process and off the caller's path.
            **kwargs: MongoDB client options, checked by the driver.

        Raises:
            InvalidNameError: The session id is not a non-empty string.
            TypeError: The client is of another kind.
            ValueError: Neither client nor connection string; or an option has no meaning.
        """
        self.session_id = check_session_id(session_id)
        options = hooks.current_names(kwargs, metadata_hook=metadata_hook, feedback_hook=feedback_hook)
        if flush_on not in ("message", "invocation"):
            raise ValueError(f"flush_on must be 'message' or 'invocation', got {flush_on!r}")
        self._flush_on = flush_on
        self._ttl_s = _seconds(ttl)
        self._metadata_hooks = hooks.flatten(options.pop("metadata_hook"))
        self._feedback_hooks = hooks.flatten(options.pop("feedback_hook"))
        self._application_name = application_name
        index_specs(metadata_fields)  # Refuses a plain string, and what cannot be a metadata key.
        self._metadata_fields = tuple(metadata_fields or ())
        self._skip_corrupt_messages = skip_corrupt_messages
        self._ensure_indexes = ensure_indexes
        handle = _handle(connection_string, client, options)
        self._store = SessionStore(handle, database_name, collection_name, write_deadline_s=write_deadline_s)
        self._history = History(self._store)
        self._payloads = PayloadStore(self._store, self._history)
        self._repository = AsyncMongoDBSessionRepository._on(self._store, self._lease)
        self._journal: Journal | None = None
        self._delivery: Delivery | None = None
        self._strands: RestoringSessionManager | None = None
        self._live: dict[str, LiveAgent] = {}
        # Weakly: a graph or swarm holds its manager.
        self._graphs: dict[str, weakref.ref[MultiAgentBase]] = {}
        self._token_counts: dict[str, int] | None = None
        self._stale = False
        self._closed = False

    def __repr__(self) -> str:
        """Name the session and whether it is open."""
        state = "closed" if self._closed else "open" if self._journal is not None else "not open"
        return f"<{type(self).__name__} session_id={self.session_id!r} {state}>"

    # -- lifecycle

    async def open(self, agents: Iterable[str] | None = None) -> Self:
        """Load the session, or create it. Idempotent.

        Args:
            agents: Ids of the agents to load, for sessions with many; None loads all.

        Raises:
            PyMongoError: The server cannot be reached.
            SessionClosedError: The manager was closed.
            ValueError: The client's writes are not acknowledged (`w=0`).
        """
        self._check_not_closed()
        if self._journal is not None:
            return self
        if not self._store.handle.acknowledges_writes:
            raise ValueError(
                "the client's write concern is w=0, so nobody would know what is stored; use w=1 or majority"
            )
        names = None if agents is None else [check_agent_id(agent_id) for agent_id in agents]
        while True:
            stored, is_new = await self._store.load_or_create(
                self.session_id, names, application_name=self._application_name, ttl_s=self._ttl_s
            )
            if await self._complete(stored):
                break
        if not self._adopt(stored, is_new=is_new):
            return self  # Opened by another task meanwhile; that one's view is in use.
        if self._ensure_indexes:
            store = self._store
            make_indexes(store.handle, store.database_name, store.collection_name, self._metadata_fields)
        return self

    async def _complete(self, stored: StoredSession) -> bool:
        """Load what a loaded session needs beside its document; False when it is out of date already."""
        try:
            await self._history.complete(stored)
        except MissingSegmentsError:
            # It may have been deleted meanwhile, or one of its agents.
            query = {"_id": self.session_id, "incarnation": stored.incarnation, "revision": stored.revision or None}
            if await self._store.find_one(query, {"_id": 1}) is None:
                return False
            if not self._skip_corrupt_messages:
                raise
            logger.warning("session_id=<%s> | skipping older messages, their segments are missing", self.session_id)
        await self._payloads.complete(stored)
        return True

    def _adopt(self, stored: StoredSession, *, is_new: bool) -> bool:
        if self._journal is not None:
            return False
        journal = Journal(stored, is_new=is_new, skip_corrupt_messages=self._skip_corrupt_messages)
        self._delivery = Delivery(self._store, self._history, journal, ttl_s=self._ttl_s)
        self._strands = RestoringSessionManager(self.session_id, journal)
        self._journal = journal
        return True

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
            # Whoever wrote `async with factory.create_session_manager(...)` has no manager to close.
            if self._journal is None:
                await self.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Write what is pending and close."""
        await self.close()

    async def close(self, drain_s: float = background.DRAIN_S) -> None:
        """Write what is pending, deliver the session's notifications, and close the client that is owned. Idempotent.

        When this is cancelled, all of it is done in the background.

        Args:
            drain_s: How long to wait for notifications while none is delivered, in seconds; what is left is dropped.

        Raises:
            PyMongoError: Something could not be written; the client is closed all the same.
            SessionNotFoundError: The session was deleted, so what is pending has no place.
        """
        if self._closed:
            return
        try:
            try:
                if self._delivery is not None:
                    await self._delivery.flush()
                    await self._delivery.settle()
            except Exception:
                await self._drain(drain_s)
                raise
            await self._drain(drain_s)
        except asyncio.CancelledError:
            self._closed = True
            # A web server whose client leaves cancels every await of its handler, and those in a `finally`, too. The
            # client has to stay open until what is pending is written.
            assert self._delivery is not None
            self._delivery.drain_later(lambda: self._drain_and_release(drain_s))
            raise
        except BaseException:
            await self._release()
            raise
        await self._release()

    async def _drain(self, drain_s: float) -> None:
        # A manager that was never opened has told nothing.
        if self._delivery is not None:
            await background.drain(self.session_id, drain_s)

    async def _drain_and_release(self, drain_s: float) -> None:
        try:
            await self._drain(drain_s)
        finally:
            await self._release()

    async def _release(self) -> None:
        self._closed = True
        await self._store.handle.aclose()

    async def flush(self) -> None:
        """Write what is pending; nothing pending: no command.

        Raises:
            PyMongoError: Not written within the deadline. It stays pending, and the next flush sends it first.
            SessionNotFoundError: The session was deleted.
        """
        await self._opened_delivery().flush()

    # -- what Strands calls

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for every lifecycle event that changes what is stored."""
        registry.add_callback(AgentInitializedEvent, self._on_agent_initialized)
        registry.add_callback(BeforeInvocationEvent, self._on_before_invocation)
        registry.add_callback(MessageAddedEvent, self._on_message_added)
        registry.add_callback(MessageUpdatedEvent, self._on_message_updated)
        registry.add_callback(AfterModelCallEvent, self._on_after_model_call)
        registry.add_callback(AfterInvocationEvent, self._on_after_invocation)
        # Last, so that what users' own stop hooks change is stored, too.
        registry.add_callback(BidiAgentStopEvent, self._on_bidi_pause, order=HookOrder.SDK_LAST)
        registry.add_callback(BidiBeforeConnectionRestartEvent, self._on_bidi_pause, order=HookOrder.SDK_LAST)
        registry.add_callback(MultiAgentInitializedEvent, self._on_multi_agent_initialized)
        registry.add_callback(AfterNodeCallEvent, self._on_after_node_call)
        registry.add_callback(AfterMultiAgentInvocationEvent, self._on_after_multi_agent_invocation)

    def _on_agent_initialized(self, event: AgentInitializedEvent[Any]) -> None:
        self.initialize(event.agent)

    def _on_before_invocation(self, event: BeforeInvocationEvent) -> None:
        journal = self._opened_journal()
        with journal.lock:
            self._live_agent(event.agent).identify(self.session_id)

    async def _on_message_added(self, event: MessageAddedEvent[Any]) -> None:
        flush_now = self._flush_on == "message" or isinstance(event.agent, BidiAgent)
        try:
            self._append(event.message, event.agent)
        finally:
            # Also when the message cannot be stored: a placeholder holds its place, and that has to be written.
            if flush_now:
                self._capture(event.agent, final=False)
        if flush_now:
            await self._flush_from_event()

    async def _on_message_updated(self, event: MessageUpdatedEvent[Any]) -> None:
        journal = self._opened_journal()
        agent = journal.agents[event.agent.agent_id]
        record = next((r for r in reversed(agent.records) if r.message.get("tracking_id") == event.tracking_id), None)
        if record is None:
            self._append(event.message, event.agent)
        else:
            journal.replace_message(event.agent.agent_id, record, event.message)
        self._capture(event.agent, final=False)
        if self._flush_on == "message" or isinstance(event.agent, BidiAgent):
            await self._flush_from_event()

    def _on_after_model_call(self, event: AfterModelCallEvent) -> None:
        live = self._live.get(event.agent.agent_id)
        if live is not None and event.stop_response is not None:
            self._learn_stop_reason(live, event.stop_response.stop_reason)

    async def _on_after_invocation(self, event: AfterInvocationEvent) -> None:
        self.sync_agent(event.agent)
        await self._flush_from_event()

    async def _on_bidi_pause(self, event: BidiAgentStopEvent | BidiBeforeConnectionRestartEvent) -> None:
        self.sync_agent(event.agent)
        await self._flush_from_event()

    def _on_multi_agent_initialized(self, event: MultiAgentInitializedEvent) -> None:
        self.initialize_multi_agent(event.source)

    async def _on_after_node_call(self, event: AfterNodeCallEvent) -> None:
        self.sync_multi_agent(event.source)
        if self._flush_on == "message":
            await self._flush_from_event()

    async def _on_after_multi_agent_invocation(self, event: AfterMultiAgentInvocationEvent) -> None:
        self.sync_multi_agent(event.source)
        await self._flush_from_event()

    async def _flush_from_event(self) -> None:
        await self.flush()

    def initialize(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Restore an agent from the session, or add it as a new one; in memory, without I/O.

        Repeating it for the same agent object does nothing. Its model, tools and system prompt are never changed.

        Raises:
            CorruptMessageError: One of its stored messages cannot be read.
            SessionClosedError: The manager was closed.
            SessionException: Another agent object with this id is in use with this manager.
            SessionNotOpenError: The manager was not opened.
        """
        journal = self._opened_journal()
        agent_id = check_agent_id(agent.agent_id)
        known = self._live.get(agent_id)
        if known is not None and known.is_same(agent):
            return
        with journal.lock:
            self._opened_strands().initialize(agent, **kwargs)
            restored = journal.agents[agent_id]
            live = self._live[agent_id] = LiveAgent(agent, restored)
            if not restored.exists:
                live.capture(agent, final=False)
            restored.release()

    def append_message(self, message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Add a message to an agent's conversation, in memory; the next flush writes it.

        Strands does this for every message, so nobody has to. A message that code appends by hand all the same is
        not stored twice: it gives way to the equal one that Strands adds next, and is dropped when it repeats the
        assistant's text since the last user message, or is a message of the agent's that is stored already.

        Raises:
            MessageTooLargeError: It is larger than a document may be; a placeholder is stored in its place.
            SessionStoreError: The agent was not built with this manager.
            TypeError: It holds something that cannot be stored; likewise.
            ValueError: It is nested too deeply; likewise.
        """
        journal = self._opened_journal()
        pending = self._live_agent(agent).journal
        with journal.lock:
            if is_stored_already(agent, pending, message):
                logger.debug(
                    "session_id=<%s>, agent_id=<%s> | dropped a message that is stored already",
                    self.session_id,
                    agent.agent_id,
                )
                return
            self._append(message, agent)

    def _append(self, message: Message, agent: LocalAgent) -> None:
        journal = self._opened_journal()
        live = self._live_agent(agent)
        pending = live.journal
        message = normalized(message)
        with journal.lock:
            if not is_held(agent, message):
                self._append_by_hand(message, agent, live)
                return
            self._append_unannounced(agent, live, before=message)
            if (record := announced_late(pending, message)) is not None:
                record.unannounced = False
            elif (record := replaced_record(agent, pending, message)) is not None:
                journal.replace_message(agent.agent_id, record, message)
            elif (record := hand_appended(pending, message)) is not None:
                record.by_hand = False
                journal.replace_message(agent.agent_id, record, message)
            else:
                try:
                    self._opened_strands().append_message(message, agent)
                finally:
                    record = pending.records[-1]
            if message["role"] == "assistant":
                pending.latest_assistant = record
            elif not has_tool_result(message):
                pending.latest_assistant = None

    def _append_by_hand(self, message: Message, agent: LocalAgent, live: LiveAgent) -> None:
        if repeats_answer(agent, message):
            logger.debug(
                "session_id=<%s>, agent_id=<%s> | dropped a message that repeats the stored answer",
                self.session_id,
                agent.agent_id,
            )
            return
        self._opened_strands().append_message({**message}, agent)
        live.journal.records[-1].by_hand = True

    def _append_unannounced(self, agent: LocalAgent, live: LiveAgent, before: Message | None = None) -> None:
        for message in live.unannounced(agent, before):
            self._opened_strands().append_message(message, agent)
            live.journal.records[-1].unannounced = True

    def redact_latest_message(self, redact_message: Message, agent: LocalAgent, **kwargs: Any) -> None:
        """Replace an agent's latest message, in memory, and start writing that at once.

        The original is nowhere afterwards. Strands calls this when a guardrail intervenes.

        Args:
            redact_message: What takes the message's place.
            agent: The agent whose latest message it is.
            **kwargs: `action` ("BLOCKED" by default), `stop_reason` and `guardrail_trace` of the guardrail.

        Raises:
            SessionException: There is no message to redact.
        """
        journal = self._opened_journal()
        live = self._live_agent(agent)
        event = guardrail_event(
            action=kwargs.get("action") or "BLOCKED",
            stop_reason=kwargs.get("stop_reason"),
            trace=kwargs.get("guardrail_trace"),
            now=now(),
        )
        event = values.encode(event, where="guardrail_trace", native_dates=True)
        with journal.lock:
            self._append_unannounced(agent, live)
            self._opened_strands().redact_latest_message(redact_message, agent)
            record = live.journal.records[-1]
            live.journal.change(record, {"guardrail_event": event})
            summary = values.encode(event_summary(event, record.message_id, agent.agent_id), native_dates=True)
            journal.add_guardrail_event(summary)
            live.redaction = Redaction(record, event, summary)
        self._flush_redaction()

    def _flush_redaction(self) -> None:
        self._opened_delivery().flush_soon()

    def _learn_stop_reason(self, live: LiveAgent, stop_reason: str) -> None:
        redaction, live.redaction = live.redaction, None
        if redaction is None or "stop_reason" in redaction.event or stop_reason not in GUARDRAIL_STOP_REASONS:
            return
        journal = self._opened_journal()
        with journal.lock:
            journal.amend_guardrail_event(redaction.summary, {"stop_reason": stop_reason})
            live.journal.change(redaction.record, {"guardrail_event": {**redaction.event, "stop_reason": stop_reason}})

    def sync_agent(self, agent: LocalAgent, **kwargs: Any) -> None:
        """Note what changed of an agent: state, window, configuration, metrics. In memory; the next flush writes it."""
        self._capture(agent, final=True)

    def _capture(self, agent: LocalAgent, *, final: bool) -> None:
        journal = self._opened_journal()
        live = self._live_agent(agent)
        with journal.lock:
            if final:
                self._append_unannounced(agent, live)
            if live.capture(agent, final=final, token_counts=self._token_counts if final else None):
                self._token_counts = None

    def initialize_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Restore a graph or swarm from the session, or add it as a new one; in memory, without I/O."""
        self._opened_strands().initialize_multi_agent(source, **kwargs)
        self._graphs[source.id] = weakref.ref(source)

    def sync_multi_agent(self, source: MultiAgentBase, **kwargs: Any) -> None:
        """Note the state of a graph or swarm, in memory; the next flush writes it."""
        self._opened_strands().sync_multi_agent(source, **kwargs)

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
            idempotency_key: Names the request, the same for each of its retries.

        Raises:
            LeaseLostError: The turn was taken over (this process was stopped for too long). What it still had to write
                is discarded, and the agents hold what is stored.
            LeaseUnavailableError: Another holder kept it longer than `wait_s`.
            SessionNotFoundError: The session was deleted.
            SessionStoreError: This manager has the turn already.
            ValueError: A time that is not positive, or an empty key.
        """
        _check_turn(wait_s, lease_s, idempotency_key)
        delivery = self._opened_delivery()
        await delivery.begin_turn(lease_s, wait_s)
        try:
            await self._refresh()
            await delivery.flush()
            replayed = idempotency_key is not None and await self._has_key(idempotency_key)
            if idempotency_key is not None:
                delivery.hold(idempotency_key, replayed=replayed)
            try:
                yield Turn(replayed=replayed)
                if not replayed:
                    await delivery.end_turn()
                elif self._opened_journal().dirty:
                    await self._give_up("the turn was taken before")
            except BaseException as error:
                await self._after_failure(error, keyed=idempotency_key is not None)
                raise
        finally:
            if await delivery.release_turn() and delivery.pending:
                # Written later, it would come after what the other holder wrote.
                await self._give_up("the lease was lost")

    async def _after_failure(self, error: BaseException, *, keyed: bool) -> None:
        """Discard what a turn that failed must not write any more; raises when it failed since its lease was lost."""
        delivery = self._opened_delivery()
        if delivery.lost_turn:
            lost = error if isinstance(error, LeaseLostError) else delivery.lost()
            await self._give_up("the lease was lost", lost)
            if isinstance(error, Exception) and lost is not error:
                raise lost from error  # Strands wraps what its hooks raise.
        elif keyed:
            await self._give_up("the turn failed")

    def _lease(self) -> Lease | None:
        return None if self._delivery is None else self._delivery.lease

    async def _has_key(self, idempotency_key: str) -> bool:
        query = {"_id": self.session_id, "idempotency_keys": idempotency_key}
        return await self._store.find_one(query, {"_id": 1}) is not None

    async def _give_up(self, reason: str, error: Exception | None = None) -> None:
        """Discard what is pending, and let the agents hold what is stored."""
        logger.warning("session_id=<%s>, reason=<%s> | discarding what was not stored", self.session_id, reason)
        self._opened_delivery().discard(error)
        self._stale = True
        try:
            await self._refresh()
        except (PyMongoError, SessionNotFoundError) as problem:
            # The next turn does it; the caller should hear of what made this one fail.
            logger.warning(
                "session_id=<%s>, error=<%s> | agents not restored yet", self.session_id, type(problem).__name__
            )

    async def _refresh(self) -> None:
        """Restore the live agents from what is stored, where that is not what they hold."""
        journal, delivery = self._opened_journal(), self._opened_delivery()
        stored = await self._store.load(self.session_id, journal.session.agent_ids)
        if stored is None or stored.incarnation != delivery.incarnation:
            raise SessionNotFoundError(self.session_id)
        if stored.revision == delivery.revision and not self._stale:
            return
        if self._stale:
            delivery.discard()
        elif delivery.pending:
            # What was said before the turn is not lost, but belongs before what is restored.
            delivery.yield_to(stored)
            await delivery.flush()
            await self._refresh()
            return
        if not await self._complete(stored):
            await self._refresh()
            return
        with journal.lock:
            changed_graphs = journal.reload(stored)
            self._opened_strands().reloaded()
            delivery.adopt(stored)
            for agent_id, live in list(self._live.items()):
                del self._live[agent_id]
                self._opened_strands().forget(agent_id)
                if (agent := live.agent) is None:
                    continue
                if agent_id not in stored.agents:
                    agent.messages.clear()
                self.initialize(agent)
            for graph_id in changed_graphs & self._graphs.keys():
                if (graph := self._graphs[graph_id]()) is not None:
                    self.initialize_multi_agent(graph)
            self._stale = False

    # -- metadata and feedback

    async def update_metadata(self, metadata: dict[str, Any]) -> Any:
        """Set some metadata fields, the others stay; dots in a key address nested fields.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            InvalidNameError: A key is not allowed.
            SessionNotFoundError: The session was deleted.
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
        delivery = self._opened_delivery()
        if (step := session_data.metadata_update(metadata)) is not None:
            await delivery.submit(step)

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
        delivery = self._opened_delivery()
        if (step := session_data.metadata_deletion(metadata_keys)) is not None:
            await delivery.submit(step)

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
        self._opened_journal()
        return await self._repository.get_metadata(self.session_id)

    def get_metadata_tool(self) -> Any:
        """Return the Strands tool `manage_metadata`, with which an agent reads and changes the metadata itself."""
        return create_metadata_tool(self)

    async def add_feedback(self, feedback: dict[str, Any]) -> Any:
        """Add a feedback, such as `{"rating": "up", "comment": "..."}`; `created_at` is added.

        Returns:
            None, or what the outermost hook returns.

        Raises:
            SessionNotFoundError: The session was deleted.
            TypeError: Not a dict, or a value cannot be stored.
        """
        return await hooks.apply(
            self._feedback_hooks,
            self._add_feedback,
            "add",
            self.session_id,
            session_manager=self,
            feedback=feedback,
        )

    async def _add_feedback(self, feedback: dict[str, Any]) -> None:
        await self._opened_delivery().submit(session_data.feedback_addition(feedback))

    async def get_feedbacks(self) -> list[dict[str, Any]]:
        """Return the feedbacks in order of submission.

        Raises:
            SessionNotFoundError: The session was deleted.
        """
        self._opened_journal()
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
        step = session_data.config_update(encode_name(check_agent_id(agent_id)), **given)
        await self._change_config(agent_id, step)

    async def set_prompt_metadata(self, agent_id: str, prompt_metadata: Any) -> None:
        """Record what describes an agent's prompt, such as its version; None deletes the record.

        Raises:
            AgentNotFoundError: The session has no such agent.
        """
        step = session_data.prompt_metadata_update(encode_name(check_agent_id(agent_id)), prompt_metadata)
        await self._change_config(agent_id, step)

    async def _change_config(self, agent_id: str, step: Step) -> None:
        await self.flush()
        if await self._repository.get_agent_config(self.session_id, agent_id) is None:
            raise AgentNotFoundError(self.session_id, agent_id)
        await self._opened_delivery().submit(step)

    async def list_agents(self) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents of the session."""
        await self.flush()
        return await self._repository.list_agents(self.session_id)

    async def get_message_count(self, agent_id: str) -> int:
        """Return how many messages an agent has; 0 for an unknown agent."""
        await self.flush()
        return await self._repository.get_message_count(self.session_id, agent_id)

    def set_token_counts(self, input_tokens: int, output_tokens: int) -> None:
        """Give the usage of a model that reports none; it is counted into the next synced assistant message.

        Raises:
            ValueError: A negative count.
        """
        self._check_not_closed()
        if input_tokens < 0 or output_tokens < 0:
            raise ValueError(f"token counts must not be negative, got {input_tokens!r} and {output_tokens!r}")
        self._token_counts = {
            "inputTokens": input_tokens,
            "outputTokens": output_tokens,
            "totalTokens": input_tokens + output_tokens,
        }

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
        self._opened_journal()
        return await self._repository.get_session_viewer_password(self.session_id)

    async def get_application_name(self) -> str | None:
        """Return the application that created the session."""
        self._opened_journal()
        return await self._repository.get_application_name(self.session_id)

    async def check_session_exists(self) -> bool:
        """Tell whether the session is (still) stored."""
        self._check_not_closed()
        return await self._repository.check_session_exists(self.session_id)

    async def repair_session(self, dry_run: bool = True) -> dict[str, Any]:
        """Find broken tool-use pairs among the stored messages, and mend them unless `dry_run`.

        Returns:
            `{"session_id", "dry_run", "broken", "mended", "agents": {agent_id: [{"message_id", "kind",
            "tool_use_ids"}]}}`. Live agents keep their own, already repaired history.
        """
        await self.flush()
        return await self._repository.repair_session(self.session_id, dry_run)

    async def delete_session(self) -> int:
        """Delete the session with everything in it; what is pending is given up. Safe to repeat.

        Returns:
            How many sessions were deleted: 1, or 0 when there was none.
        """
        self._check_not_closed()
        if self._delivery is not None:
            self._delivery.discard()
        return await self._repository.delete_session(self.session_id)

    @property
    def session(self) -> Session:
        """Strands' record of the session."""
        return self._opened_journal().session.session()

    @session.setter
    def session(self, value: Session) -> None:
        raise AttributeError("the session is what open() loaded")

    @property
    def session_repository(self) -> Any:
        """The MongoDB repository, for operations by session id."""
        return self._repository

    @session_repository.setter
    def session_repository(self, value: object) -> None:
        raise AttributeError("the session repository belongs to the manager")

    @property
    def collection(self) -> Any:
        """The driver's own async collection, for queries of your own."""
        self._check_not_closed()
        return self._repository.collection

    # -- inside

    def _check_not_closed(self) -> None:
        if self._closed:
            raise SessionClosedError(self.session_id)

    def _opened_journal(self) -> Journal:
        self._check_not_closed()
        if self._journal is None:
            raise SessionNotOpenError(self.session_id)
        return self._journal

    def _opened_delivery(self) -> Delivery:
        self._opened_journal()
        assert self._delivery is not None
        return self._delivery

    def _opened_strands(self) -> RestoringSessionManager:
        self._opened_journal()
        assert self._strands is not None
        return self._strands

    def _live_agent(self, agent: LocalAgent | Agent) -> LiveAgent:
        self._check_not_closed()
        live = self._live.get(agent.agent_id)
        if live is None:
            raise SessionStoreError(
                f"agent {agent.agent_id!r} was not built with this manager of session {self.session_id!r}; "
                "pass session_manager=... to it, or call initialize(agent)"
            )
        return live


def _check_turn(wait_s: float | None, lease_s: float, idempotency_key: str | None) -> None:
    if wait_s is not None and not wait_s >= 0:
        raise ValueError(f"wait_s must be 0 or more seconds, or None, got {wait_s!r}")
    if not 0 < lease_s < float("inf"):
        raise ValueError(f"lease_s must be more than 0 seconds, got {lease_s!r}")
    if idempotency_key is not None and not (isinstance(idempotency_key, str) and idempotency_key):
        raise ValueError(f"idempotency_key must be a non-empty string, got {idempotency_key!r}")


def _seconds(ttl: timedelta | float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, timedelta | int | float):
        raise TypeError(f"ttl must be a timedelta or a number of seconds, not {type(ttl).__name__}")
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"ttl must be more than 0 seconds, got {ttl!r}")
    return seconds


def _handle(connection_string: str | None, client: Any, options: dict[str, Any]) -> ClientHandle:
    if not isinstance(client, ClientHandle):
        return ClientHandle(connection_string, client=client, options=options)
    if options:  # A factory's client, which has its options already.
        raise ValueError(f"client options {sorted(options)} belong to the factory, not to the managers that it makes")
    return client.share()
