"""What the page on migrating says about sessions of Strands' own managers, done with the code that stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.session import FileSessionManager, SnapshotSessionManager
from strands.storage import LocalFileStorage
from strands.types.content import Message, Messages

from mongodb_session_manager import MongoDBSessionManager, MongoDBSessionRepository, SessionExistsError
from tests.docs.blocks import all_blocks
from tests.support.models import ScriptedModel

WINDOW = 6


@pytest.fixture
def copy_session() -> Callable[..., int]:
    """The function that the page shows."""
    (block,) = [block for block in all_blocks() if "def copy_session" in block.code]
    namespace: dict[str, Any] = {}
    exec(compile(block.code, block.name, "exec", dont_inherit=True), namespace)
    function: Callable[..., int] = namespace["copy_session"]
    return function


@pytest.fixture
def target(mongo_uri: str, database_name: str) -> Iterator[MongoDBSessionRepository]:
    with MongoDBSessionRepository(mongo_uri, database_name, "sessions") as repository:
        yield repository


def agent_on(manager: Any, *answers: str) -> Agent:
    return Agent(
        model=ScriptedModel(*answers),
        agent_id="support",
        conversation_manager=SlidingWindowConversationManager(window_size=WINDOW),
        session_manager=manager,
        callback_handler=None,
    )


def without_ids(messages: Messages) -> list[Message]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def test_a_copied_session_goes_on_as_the_old_one_would(
    copy_session: Callable[..., int],
    target: MongoDBSessionRepository,
    mongo_uri: str,
    database_name: str,
    tmp_path: Path,
) -> None:
    talk = agent_on(FileSessionManager("s-1", storage_dir=str(tmp_path)), *[f"answer {n}" for n in range(5)])
    talk.state.set("tier", "gold")
    for number in range(5):
        talk(f"question {number}")
    old = FileSessionManager("s-1", storage_dir=str(tmp_path))

    copied = copy_session(old, target, "s-1", ["support", "never seen"])

    before = agent_on(old)
    with MongoDBSessionManager("s-1", mongo_uri, database_name, "sessions") as manager:
        after = agent_on(manager, "goes on")
        assert copied == manager.get_message_count("support") == 10
        assert without_ids(after.messages) == without_ids(before.messages)
        assert len(after.messages) == WINDOW
        assert after.state.get() == before.state.get() == {"tier": "gold"}
        after("and now?")
        assert manager.get_message_count("support") == 12
    with pytest.raises(SessionExistsError):
        copy_session(old, target, "s-1", ["support"])


def test_a_redacted_message_stays_redacted(
    copy_session: Callable[..., int], target: MongoDBSessionRepository, tmp_path: Path
) -> None:
    old = FileSessionManager("s-1", storage_dir=str(tmp_path))
    talk = agent_on(old, "a secret")
    talk("tell me")
    old.redact_latest_message({"role": "assistant", "content": [{"text": "[redacted]"}]}, talk)

    copy_session(old, target, "s-1", ["support"])

    texts = [message.to_message()["content"][0]["text"] for message in target.list_messages("s-1", "support")]
    assert texts == ["tell me", "[redacted]"]
    assert "a secret" not in str(target.collection.find_one({"_id": "s-1"}))


def test_a_snapshot_is_handed_on(mongo_uri: str, database_name: str, tmp_path: Path) -> None:
    snapshots = LocalFileStorage(str(tmp_path))
    talk = agent_on(SnapshotSessionManager("s-1", storage=snapshots), "hello")
    talk.state.set("tier", "gold")
    talk("hi")
    old = agent_on(SnapshotSessionManager("s-1", storage=snapshots))

    with MongoDBSessionManager("s-1", mongo_uri, database_name, "sessions") as manager:
        Agent(
            model=ScriptedModel(),
            agent_id="support",
            messages=old.messages,
            state=old.state.get(),
            session_manager=manager,
            callback_handler=None,
        )

    with MongoDBSessionManager("s-1", mongo_uri, database_name, "sessions") as manager:
        resumed = agent_on(manager)
        assert without_ids(resumed.messages) == without_ids(talk.messages)
        assert resumed.state.get() == {"tier": "gold"}
