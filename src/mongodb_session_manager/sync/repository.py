"""The synchronous face of the repository."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from pymongo.collection import Collection
from strands.session import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage

from ..client import MongoDBClient
from ..runtime import portal
from ..store import AsyncMongoDBSessionRepository

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase


class MongoDBSessionRepository(SessionRepository):
    """Sessions with their agents and messages, one MongoDB document each; see `AsyncMongoDBSessionRepository`.

    Usable from any thread. A client that is given is borrowed and never closed. Arguments, results and errors are those
    of the method of the same name there.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        database_name: str = "database_name",
        collection_name: str = "collection_name",
        client: MongoDBClient | None = None,
        application_name: str | None = None,
        *,
        write_deadline_s: float = 30,
        **kwargs: Any,
    ) -> None:
        """Address a collection; nothing is sent before the first operation.

        The arguments and errors are those of `AsyncMongoDBSessionRepository`.
        """

        async def create() -> AsyncMongoDBSessionRepository:
            return AsyncMongoDBSessionRepository(
                connection_string,
                database_name,
                collection_name,
                client,
                application_name,
                write_deadline_s=write_deadline_s,
                **kwargs,
            )

        self._async = portal.call(create)

    @classmethod
    def _around(cls, repository: AsyncMongoDBSessionRepository) -> Self:
        """Return the synchronous face of an async repository."""
        face = cls.__new__(cls)
        face._async = repository
        return face

    @property
    def collection(self) -> Collection[dict[str, Any]]:
        """PyMongo's own collection, for queries of your own.

        Raises:
            TypeError: The client has no synchronous side (`AsyncMongoClient`, `AsyncMongoMockClient`).
        """
        store = self._async._store
        found: Collection[dict[str, Any]] = store.handle.sync_user_collection(
            store.database_name, store.collection_name
        )
        return found

    @property
    def _namespace(self) -> Hashable:
        return self._async._namespace

    def close(self) -> None:
        """Close the client, unless it was borrowed or is used elsewhere. Idempotent."""
        portal.finish(self._async.close)

    def __enter__(self) -> Self:
        """Return the repository."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client that is owned."""
        self.close()

    # -- sessions

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session."""
        return portal.call(self._async.create_session, session, **kwargs)

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, None when there is none."""
        return portal.call(self._async.read_session, session_id, **kwargs)

    def check_session_exists(self, session_id: str) -> bool:
        """Tell whether a session exists."""
        return portal.call(self._async.check_session_exists, session_id)

    def rename_session(self, session_id: str, title: str) -> None:
        """Give a session another title, one line of at most 120 characters; longer ones are cut."""
        portal.call(self._async.rename_session, session_id, title)

    def delete_session(self, session_id: str) -> int:
        """Delete a session with everything in it, and return how many were deleted: 1, or 0 when there was none."""
        return portal.call(self._async.delete_session, session_id)

    def fork_session(
        self,
        session_id: str,
        new_session_id: str,
        *,
        up_to_message: int | None = None,
        agent_id: str | None = None,
        metadata: bool = True,
    ) -> Session:
        """Make a new session that holds what a session holds, whole or up to a message."""
        return portal.call(
            self._async.fork_session,
            session_id,
            new_session_id,
            up_to_message=up_to_message,
            agent_id=agent_id,
            metadata=metadata,
        )

    # -- agents

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent in a session."""
        portal.call(self._async.create_agent, session_id, session_agent, **kwargs)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent, None when the session has none of that id."""
        return portal.call(self._async.read_agent, session_id, agent_id, **kwargs)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent's state; its recorded configuration stays as it is."""
        portal.call(self._async.update_agent, session_id, session_agent, **kwargs)

    def delete_agent(self, session_id: str, agent_id: str) -> bool:
        """Delete an agent with its messages; False when the session has none of that id."""
        return portal.call(self._async.delete_agent, session_id, agent_id)

    def list_agents(self, session_id: str) -> list[dict[str, Any]]:
        """Return the recorded configurations of all agents: `{agent_id, model, system_prompt, prompt_metadata}`."""
        return portal.call(self._async.list_agents, session_id)

    def get_agent_config(self, session_id: str, agent_id: str) -> dict[str, Any] | None:
        """Return an agent's recorded configuration, None when the session has no such agent."""
        return portal.call(self._async.get_agent_config, session_id, agent_id)

    def update_agent_config(
        self,
        session_id: str,
        agent_id: str,
        model: str | None = None,
        system_prompt: str | None = None,
        prompt_metadata: Any = None,
    ) -> None:
        """Change an agent's recorded configuration; None leaves a part as it is."""
        portal.call(self._async.update_agent_config, session_id, agent_id, model, system_prompt, prompt_metadata)

    def set_prompt_metadata(self, session_id: str, agent_id: str, prompt_metadata: Any) -> None:
        """Record what describes an agent's prompt, such as its version; None deletes the record."""
        portal.call(self._async.set_prompt_metadata, session_id, agent_id, prompt_metadata)

    # -- messages

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Append a message; its `message_id` must be the agent's next."""
        portal.call(self._async.create_message, session_id, agent_id, session_message, **kwargs)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message as it was said, None when the agent has none of that number."""
        return portal.call(self._async.read_message, session_id, agent_id, message_id, **kwargs)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Change a message's content or redact it; its metrics and guardrail record stay."""
        portal.call(self._async.update_message, session_id, agent_id, session_message, **kwargs)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return messages as they were said, oldest first; only those are read."""
        return portal.call(self._async.list_messages, session_id, agent_id, limit, offset, **kwargs)

    def get_message_count(self, session_id: str, agent_id: str) -> int:
        """Return how many messages an agent has; 0 for an unknown agent."""
        return portal.call(self._async.get_message_count, session_id, agent_id)

    def get_trace_id(self, session_id: str, agent_id: str, message_id: int) -> str | None:
        """Return the id of the trace that a message of the assistant came from; None for one that was not traced."""
        return portal.call(self._async.get_trace_id, session_id, agent_id, message_id)

    def messages_pipeline(self, session_id: str, agent_id: str | None = None) -> list[dict[str, Any]]:
        """Return an aggregation pipeline over `collection` that gives all messages of a session, for analytics."""
        return portal.call(self._async.messages_pipeline, session_id, agent_id)

    def repair_session(self, session_id: str, dry_run: bool = True) -> dict[str, Any]:
        """Find tool uses without results and results without uses among the stored messages, and repair them."""
        return portal.call(self._async.repair_session, session_id, dry_run)

    # -- graphs and swarms

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of a graph or swarm."""
        portal.call(self._async.create_multi_agent, session_id, multi_agent, **kwargs)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of a graph or swarm, None when there is none."""
        return portal.call(self._async.read_multi_agent, session_id, multi_agent_id, **kwargs)

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        """Store the state of a graph or swarm."""
        portal.call(self._async.update_multi_agent, session_id, multi_agent, **kwargs)

    # -- metadata, feedback, records

    def update_metadata(self, session_id: str, metadata: dict[str, Any]) -> None:
        """Set some metadata fields, the others stay; dots in a key address nested fields."""
        portal.call(self._async.update_metadata, session_id, metadata)

    def get_metadata(self, session_id: str) -> dict[str, Any]:
        """Return `{"metadata": {...}}`; dates are UTC."""
        return portal.call(self._async.get_metadata, session_id)

    def delete_metadata(self, session_id: str, metadata_keys: Sequence[str]) -> None:
        """Delete some metadata fields."""
        portal.call(self._async.delete_metadata, session_id, metadata_keys)

    def add_feedback(self, session_id: str, feedback: dict[str, Any], *, idempotency_key: str | None = None) -> None:
        """Add a feedback; `created_at` is added. With a key that the session remembers, nothing."""
        portal.call(self._async.add_feedback, session_id, feedback, idempotency_key=idempotency_key)

    def get_feedbacks(self, session_id: str) -> list[dict[str, Any]]:
        """Return the feedbacks in order of submission."""
        return portal.call(self._async.get_feedbacks, session_id)

    def get_session_viewer_password(self, session_id: str) -> str | None:
        """Return the password that opens this session in the viewer, None for documents without."""
        return portal.call(self._async.get_session_viewer_password, session_id)

    def get_application_name(self, session_id: str) -> str | None:
        """Return the application that created the session."""
        return portal.call(self._async.get_application_name, session_id)

    def get_metrics_summary(self, session_id: str, agent_id: str | None = None) -> dict[str, Any]:
        """Return totals over the whole session, or one agent of it; what no model reported is None, not 0."""
        return portal.call(self._async.get_metrics_summary, session_id, agent_id)

    # -- many sessions

    def list_sessions(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        agent_id: str | None = None,
        application_name: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        updated_from: datetime | None = None,
        updated_before: datetime | None = None,
    ) -> dict[str, Any]:
        """Return a page of sessions, newest first, without their messages; every page costs the same."""
        return portal.call(
            self._async.list_sessions,
            limit=limit,
            cursor=cursor,
            metadata=metadata,
            agent_id=agent_id,
            application_name=application_name,
            created_from=created_from,
            created_before=created_before,
            updated_from=updated_from,
            updated_before=updated_before,
        )

    def count_sessions(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        agent_id: str | None = None,
        application_name: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        updated_from: datetime | None = None,
        updated_before: datetime | None = None,
    ) -> int:
        """Return how many sessions fulfil the conditions, which are those of `list_sessions`."""
        return portal.call(
            self._async.count_sessions,
            metadata=metadata,
            agent_id=agent_id,
            application_name=application_name,
            created_from=created_from,
            created_before=created_before,
            updated_from=updated_from,
            updated_before=updated_before,
        )

    def delete_sessions(self, *, older_than: datetime | timedelta, dry_run: bool = True) -> int:
        """Delete sessions without activity since then, each with everything in it."""
        return portal.call(self._async.delete_sessions, older_than=older_than, dry_run=dry_run)

    def sweep_orphans(
        self, *, older_than: datetime | timedelta = timedelta(hours=1), dry_run: bool = True
    ) -> dict[str, int]:
        """Remove what a process that died left in the collections beside this one, which no reader finds."""
        return portal.call(self._async.sweep_orphans, older_than=older_than, dry_run=dry_run)
