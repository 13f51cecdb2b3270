from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pymongo.collection import Collection
from strands.session import RepositorySessionManager, SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import (
    AgentExistsError,
    MongoDBSessionRepository,
    SessionExistsError,
    SessionNotFoundError,
)
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent
from tests.support.models import texts


@pytest.fixture
def repository(sessions: Sessions) -> Iterator[MongoDBSessionRepository]:
    with MongoDBSessionRepository(
        sessions.uri, sessions.database_name, COLLECTION, application_name="support", **sessions.client_options()
    ) as repository:
        yield repository


def session(session_id: str = "s-1") -> Session:
    return Session(session_id=session_id, session_type=SessionType.AGENT)


def agent() -> SessionAgent:
    return SessionAgent(agent_id="a", state={"n": 1}, conversation_manager_state={})


def message(index: int, text: str) -> SessionMessage:
    return SessionMessage(message_id=index, message={"role": "user", "content": [{"text": text}]})


def test_strands_contract_from_end_to_end(repository: MongoDBSessionRepository, sessions: Sessions) -> None:
    assert isinstance(repository, SessionRepository)
    assert repository.create_session(session()).session_id == "s-1"
    repository.create_agent("s-1", agent())
    for index, text in enumerate(["zero", "one", "two"]):
        repository.create_message("s-1", "a", message(index, text))
    repository.update_message("s-1", "a", message(1, "changed"))

    assert repository.read_session("s-1") is not None
    assert repository.read_session("s-2") is None
    stored = repository.read_agent("s-1", "a")
    assert stored is not None
    assert stored.state == {"n": 1}
    window = repository.list_messages("s-1", "a", limit=1, offset=1)
    assert texts([found.to_message() for found in window]) == ["changed"]
    assert repository.get_message_count("s-1", "a") == 3
    assert sessions.texts("a") == ["zero", "changed", "two"]
    with pytest.raises(SessionExistsError):
        repository.create_session(session())
    with pytest.raises(AgentExistsError):
        repository.create_agent("s-1", agent())


def test_strands_own_session_manager_works_on_it(repository: MongoDBSessionRepository, sessions: Sessions) -> None:
    make_agent(RepositorySessionManager("s-1", repository), "1")("one")
    resumed = make_agent(RepositorySessionManager("s-1", repository), "2")
    resumed("two")

    assert texts(resumed.messages) == ["one", "1", "two", "2"]
    assert sessions.texts() == ["one", "1", "two", "2"]


def test_sessions_are_listed_counted_and_deleted(repository: MongoDBSessionRepository) -> None:
    for number in range(3):
        repository.create_session(session(f"s-{number}"))
        repository.update_metadata(f"s-{number}", {"even": number % 2 == 0})

    page = repository.list_sessions(limit=2)
    rest = repository.list_sessions(limit=2, cursor=page["next_cursor"])

    found = [item["session_id"] for item in (*page["sessions"], *rest["sessions"])]
    assert found == ["s-2", "s-1", "s-0"]
    assert repository.count_sessions(metadata={"even": True}) == 2
    assert repository.count_sessions(application_name="support") == 3
    assert repository.delete_sessions(older_than=timedelta(0), dry_run=True) == 3
    assert repository.delete_session("s-0") == 1
    assert repository.delete_sessions(older_than=timedelta(0), dry_run=False) == 2
    with pytest.raises(SessionNotFoundError):
        repository.get_metadata("s-0")


def test_collection_is_pymongos(repository: MongoDBSessionRepository) -> None:
    repository.create_session(session())

    assert isinstance(repository.collection, Collection)
    assert repository.collection.distinct("_id") == ["s-1"]
