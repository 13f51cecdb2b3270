"""No connection string, password or message content in logs, errors, representations or statistics."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from strands.types.session import SessionAgent, SessionMessage

from mongodb_session_manager import (
    AsyncMongoDBSessionManager,
    AsyncMongoDBSessionManagerFactory,
    AsyncMongoDBSessionRepository,
    CorruptMessageError,
    SessionNotFoundError,
)
from tests.fixtures.faults import fail_point
from tests.support.agents import make_agent
from tests.support.models import blocked, calls

Document = dict[str, Any]

USER = "scribe-7f3a"
PASSWORD = "p@ss/w0rd:9c1e"
HEX = "9c1e77aa"
PROMPT = "prompt-4711"
ANSWER = "answer-0815"
TOOL_INPUT = "tool-input-2342"
REDACTED = "redacted-1337"
BY_HAND = "by-hand-6502"
STATE = "state-8086"
METADATA = "metadata-68000"
FEEDBACK = "feedback-1984"
SECRETS = [PASSWORD, quote_plus(PASSWORD), PROMPT, ANSWER, TOOL_INPUT, REDACTED, BY_HAND, STATE, METADATA, FEEDBACK]
APPNAME = "test-secrets"


class Heard:
    """Everything that a user could see of what went on."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.handler = logging.StreamHandler(self._written)
        self.handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(args)s"))
        self.records: list[logging.LogRecord] = []
        self.handler.addFilter(self._keep)

    def _keep(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    def note(self, *things: object) -> None:
        """Take in how things show themselves; of errors all that a traceback prints."""
        for thing in things:
            self._written.write(f"{thing!r} {thing}\n")
            if isinstance(thing, BaseException):
                self._written.write("".join(traceback.format_exception(thing)))

    async def failing(self, error: type[BaseException], operation: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises(error) as caught:
            await operation()
        self.note(caught.value)

    def said(self, text: str) -> bool:
        return any(text in record.getMessage() for record in self.records)

    def assert_discreet(self, uri: str) -> None:
        written = self._written.getvalue()
        for secret in [*SECRETS, uri, USER, "mongodb://"]:
            assert secret not in written


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    logger = logging.getLogger("mongodb_session_manager")
    level = logger.level
    logger.addHandler(heard.handler)
    logger.setLevel(logging.DEBUG)
    yield heard
    logger.setLevel(level)
    logger.removeHandler(heard.handler)


@pytest.fixture
def secret_uri(mongo_uri: str, mongo_client: MongoClient[Document], database_name: str) -> Iterator[str]:
    """A connection string with a user and a password that are right."""
    database = mongo_client[database_name]
    database.command("createUser", USER, pwd=PASSWORD, roles=["readWrite"])
    options = f"authSource={database_name}&appName={APPNAME}"
    separator = "&" if "?" in mongo_uri else "/?" if mongo_uri.count("/") == 2 else "?"
    yield mongo_uri.replace("://", f"://{USER}:{quote_plus(PASSWORD)}@", 1) + separator + options
    database.command("dropUser", USER)


def message(text: str, role: str = "user") -> Any:
    return {"role": role, "content": [{"text": text}]}


async def test_a_whole_life_of_a_session_tells_no_secret(
    heard: Heard, secret_uri: str, database_name: str, mongo_client: MongoClient[Document]
) -> None:
    raw = mongo_client[database_name]["sessions"]
    factory = AsyncMongoDBSessionManagerFactory(secret_uri, database_name, "sessions")
    repository = AsyncMongoDBSessionRepository(secret_uri, database_name, "sessions")

    async with factory.create_session_manager("s-1", metadata_fields=["city"]) as manager:
        agent = make_agent(
            manager,
            calls(("manage_metadata", {"action": "set", "metadata": {"city": TOOL_INPUT}}), text=ANSWER),
            ANSWER,
            blocked(user="[redacted]", text=ANSWER),
            RuntimeError("down"),
            "after the other writer",
            tools=[manager.get_metadata_tool()],
            state={"secret": STATE},
            system_prompt=STATE,
        )
        await agent.invoke_async(PROMPT)
        await agent.invoke_async(REDACTED)
        with pytest.raises(RuntimeError, match="down"):
            await agent.invoke_async(PROMPT)
        await manager.update_metadata({"customer": METADATA})
        await manager.add_feedback({"rating": "up", "comment": FEEDBACK})
        manager.append_message(message(ANSWER, "assistant"), agent)
        manager.append_message(message(BY_HAND), agent)
        await manager.flush()
        heard.note(manager, factory, repository)

        # Another writer appends; this one renumbers, and says so.
        number = await repository.get_message_count("s-1", "assistant")
        await repository.create_message("s-1", "assistant", SessionMessage(message(BY_HAND), number))
        await agent.invoke_async(PROMPT)
        assert heard.said("renumbering")

        # What cannot be stored.
        unstorable: Any = {"role": "user", "content": [{"text": PROMPT}, {"json": {BY_HAND * 4: object()}}]}
        agent.messages.append(unstorable)
        with pytest.raises(TypeError) as caught:
            manager.append_message(unstorable, agent)
        heard.note(caught.value)
        agent.messages.pop()
        await heard.failing(TypeError, lambda: manager.update_metadata({"customer": {METADATA * 9: object()}}))
        await heard.failing(TypeError, lambda: manager.add_feedback({"comment": FEEDBACK, "by": object()}))
        heard.note(await manager.get_metrics_summary(), await factory.get_connection_stats())

        # Writes that the server refuses for a while (the driver itself tries twice), and then for good.
        with fail_point(mongo_client, {"times": 2}, {"failCommands": ["update"], "errorCode": 6, "appName": APPNAME}):
            await manager.update_metadata({"customer": METADATA})
        assert heard.said("sending it again")
        with fail_point(mongo_client, "alwaysOn", {"failCommands": ["update"], "errorCode": 8000, "appName": APPNAME}):
            await heard.failing(OperationFailure, lambda: manager.update_metadata({"customer": METADATA}))
            manager.append_message(message(BY_HAND), agent)
            await heard.failing(OperationFailure, manager.flush)
            manager.redact_latest_message(message("[redacted]"), agent)
            await heard.failing(OperationFailure, manager.flush)

    # A message that somebody damaged.
    raw.update_one({"_id": "s-1"}, {"$set": {"agents.assistant.messages.0": {"message_id": 0, "content": PROMPT}}})
    damaged = factory.create_session_manager("s-1")
    await damaged.open()
    with pytest.raises(CorruptMessageError) as corrupt:
        make_agent(damaged)
    heard.note(corrupt.value, damaged)
    await damaged.close()
    async with factory.create_session_manager("s-1", skip_corrupt_messages=True) as manager:
        agent = make_agent(manager)
        assert heard.said("cannot be read")

        # A session that somebody deleted.
        raw.delete_one({"_id": "s-1"})
        manager.append_message(message(BY_HAND), agent)
        await heard.failing(SessionNotFoundError, manager.flush)
        await manager.delete_session()
    agent_record = SessionAgent(agent_id="assistant", state={"secret": STATE}, conversation_manager_state={})
    await heard.failing(SessionNotFoundError, lambda: repository.create_agent("s-1", agent_record))
    heard.note(await factory.get_connection_stats())
    await factory.close()
    await repository.close()

    heard.assert_discreet(secret_uri)


async def test_a_failed_login_tells_no_secret(
    heard: Heard, secret_uri: str, database_name: str, mongo_client: MongoClient[Document]
) -> None:
    mongo_client[database_name].command("updateUser", USER, pwd="changed")
    manager = AsyncMongoDBSessionManager("s-1", secret_uri, database_name, serverSelectionTimeoutMS=200)

    await heard.failing(OperationFailure, manager.open)
    factory = AsyncMongoDBSessionManagerFactory(secret_uri, database_name, serverSelectionTimeoutMS=200)
    statistics = await factory.get_connection_stats()
    heard.note(manager, factory, statistics)
    await manager.close()
    await factory.close()

    assert statistics["status"] == "error"
    heard.assert_discreet(secret_uri)


async def test_a_server_that_cannot_be_reached_tells_no_secret(heard: Heard) -> None:
    uri = f"mongodb://{USER}:{quote_plus(PASSWORD)}@127.0.0.1:1/?serverSelectionTimeoutMS=1"
    manager = AsyncMongoDBSessionManager("s-1", uri, write_deadline_s=0.1)

    await heard.failing(PyMongoError, manager.open)
    heard.note(manager)
    await manager.close()

    heard.assert_discreet(uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://{USER}:%{HEX}:{HEX}@127.0.0.1",  # not escaped
        f"mongodb://{USER}:{HEX}@127.0.0.1:port",
        f"mongodb://{USER}:{HEX}@",
        f"{USER}:{HEX}@127.0.0.1",
    ],
)
async def test_a_connection_string_that_is_not_valid_is_not_quoted(uri: str) -> None:
    for make in (AsyncMongoDBSessionManagerFactory, AsyncMongoDBSessionRepository):
        with pytest.raises((PyMongoError, ValueError)) as caught:
            make(uri)

        error: BaseException | None = caught.value
        while error is not None:
            assert HEX not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__


async def test_a_client_option_that_is_a_password_is_not_quoted(heard: Heard, mongo_uri: str) -> None:
    with pytest.raises(PyMongoError) as caught:
        AsyncMongoDBSessionManagerFactory(mongo_uri, password=PASSWORD, username=USER, unknownOption=1)

    heard.note(caught.value)
    heard.assert_discreet(mongo_uri)
