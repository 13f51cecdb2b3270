"""A session as it was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from strands.types.session import Session, SessionType

from ..schema import paths
from ..schema.agents import StoredAgent, find_agents
from ..schema.messages import iso_date, parse_date
from ..schema.names import decode_name
from .head import SessionHead


@dataclass
class StoredSession:
    """A session document as loaded.

    Attributes:
        head: What a writer has to know of it.
        agents: Its agents by id, those that were loaded.
        multi_agents: State of graphs and swarms by id, encoded.
        agent_ids: The ids that loading was narrowed to, None when all agents were loaded.
        payloads: Large bytes that its graphs and swarms refer to, by name.
        prepared: What `prepare` of `SessionStore.load` made of its agents, by id.
    """

    head: SessionHead
    session_type: str
    created_at: datetime
    updated_at: datetime
    application_name: str | None = None
    agents: dict[str, StoredAgent] = field(default_factory=dict)
    multi_agents: dict[str, Any] = field(default_factory=dict)
    agent_ids: frozenset[str] | None = None
    payloads: dict[str, bytes] = field(default_factory=dict)
    prepared: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], agent_ids: Iterable[str] | None = None) -> StoredSession:
        """Read a stored document of any age.

        Raises:
            SessionStoreError: A newer version of this library wrote it.
        """
        head = SessionHead.read(document)
        graphs = paths.object_at(document, paths.MULTI_AGENTS)
        return cls(
            head=head,
            session_type=str(document.get(paths.SESSION_TYPE) or SessionType.AGENT.value),
            created_at=parse_date(document.get(paths.CREATED_AT)),
            updated_at=parse_date(document.get(paths.UPDATED_AT)),
            application_name=document.get(paths.APPLICATION_NAME),
            agents=find_agents(document.get(paths.AGENTS), legacy=not head.version),
            multi_agents={decode_name(key): value for key, value in graphs.items()},
            agent_ids=None if agent_ids is None else frozenset(agent_ids),
        )

    @property
    def session_id(self) -> str:
        """Its id."""
        return self.head.session_id

    def session(self) -> Session:
        """Return Strands' record of the session."""
        return Session(
            self.session_id, session_type(self.session_type), iso_date(self.created_at), iso_date(self.updated_at)
        )


def session_type(stored: str) -> SessionType:
    """Return a session type as Strands has it: a member of `SessionType`, or the string itself where it knows none."""
    try:
        return SessionType(stored)
    except ValueError:
        return cast("SessionType", stored)
