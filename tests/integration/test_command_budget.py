from __future__ import annotations

import asyncio
import threading

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory
from mongodb_session_manager.session import FlushOn
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, Document, Sessions
from tests.support.agents import make_agent, streamed
from tests.support.models import blocked, calls


class Events(CommandListener):
    """Says when a command of one name has ended."""

    def __init__(self, command: str) -> None:
        self._command = command
        self.ended = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        """The recorder counts it."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name == self._command:
            self.ended.set()

    def failed(self, event: CommandFailedEvent) -> None:
        if event.command_name == self._command:
            self.ended.set()


async def test_opening_a_new_session_takes_two_commands(sessions: Sessions) -> None:
    async with sessions.manager():
        assert sessions.recorder.names == ["find", "insert"]


async def test_opening_a_stored_session_takes_one_command(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        for agent_id in ("a", "b", "c"):
            await streamed(make_agent(manager, "Hello!", agent_id=agent_id), "Hi.")

    with sessions.recorder.counting() as commands:
        async with sessions.manager() as manager:
            resumed = make_agent(manager, agent_id="b")

    assert commands.names == ["find"]
    assert len(resumed.messages) == 2


async def test_opening_twice_asks_once(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        with sessions.recorder.counting() as commands:
            await manager.open()

    assert commands.names == []


@pytest.mark.parametrize(("flush_on", "most"), [("message", 2), ("invocation", 1)])
async def test_plain_turns_stay_within_their_budget(sessions: Sessions, flush_on: FlushOn, most: int) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, "Hello!", "Fine.", "Bye!")
        for prompt in ("Hi.", "And you?", "Bye."):
            with sessions.recorder.counting() as commands:
                await streamed(agent, prompt)
            assert commands.names == ["update"] * most

    async with sessions.manager(flush_on=flush_on) as manager:
        agent = make_agent(manager, "Hello again!")
        with sessions.recorder.counting() as commands:
            await streamed(agent, "Hi again.")

    assert commands.names == ["update"] * most
    assert sessions.texts() == ["Hi.", "Hello!", "And you?", "Fine.", "Bye.", "Bye!", "Hi again.", "Hello again!"]


async def test_a_turn_with_tools_takes_one_command_before_each_act_and_one_at_its_end(
    sessions: Sessions,
) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(
            manager,
            calls(("manage_metadata", {"action": "get"}), ("manage_metadata", {"action": "get"})),
            "Nothing there.",
            tools=[manager.get_metadata_tool()],
        )
        with sessions.recorder.counting() as commands:
            await streamed(agent, "What do you know?")

    assert len(sessions.messages()) == 4
    assert sorted(commands.names) == ["find"] * 2 + ["update"] * 4


async def test_a_redaction_takes_at_most_three_commands_more(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, blocked(user="[redacted]"))
        with sessions.recorder.counting() as commands:
            await streamed(agent, "my secret")

    # The redaction itself, and the reason for it, which the model reports later: on the message and on its record.
    assert commands.names == ["update"] * len(commands)
    assert len(commands) <= 6
    assert sessions.texts() == ["[redacted]", "blocked"]


async def test_nothing_changed_takes_no_command(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, "Hello!")
        await streamed(agent, "Hi.")

        with sessions.recorder.counting() as commands:
            manager.sync_agent(agent)
            await manager.flush()
            await manager.update_metadata({})
            await manager.delete_metadata([])
            await manager.close()

    assert commands.names == []


async def test_resuming_and_closing_without_a_turn_writes_nothing(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!", system_prompt="Be kind."), "Hi.")
    before = sessions.document()

    async with sessions.manager() as manager:
        agent = make_agent(manager, system_prompt="Be kind.")
        manager.sync_agent(agent)

    assert sessions.recorder.names[-1] == "find"
    assert sessions.document() == before


@pytest.mark.parametrize(("flush_on", "updates"), [("message", 2), ("invocation", 1)])
async def test_a_stateless_request_takes_a_find_and_the_updates_of_a_turn(
    sessions: Sessions, flush_on: FlushOn, updates: int
) -> None:
    async with AsyncMongoDBSessionManagerFactory(
        sessions.uri,
        sessions.database_name,
        COLLECTION,
        ensure_indexes=False,
        flush_on=flush_on,
        **sessions.client_options(),
    ) as factory:
        async with factory.create_session_manager("s-1") as manager:
            await streamed(make_agent(manager, "Hello!"), "Hi.")

        with sessions.recorder.counting() as commands:
            async with factory.create_session_manager("s-1") as manager:
                await streamed(make_agent(manager, "Fine."), "And you?")

    assert commands.names == ["find"] + ["update"] * updates


async def test_metadata_and_feedback_take_one_command_each(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        with sessions.recorder.counting() as commands:
            await manager.update_metadata({"topic": "weather"})
            await manager.get_metadata()
            await manager.delete_metadata(["topic"])
            await manager.add_feedback({"rating": "up"})
            await manager.get_feedbacks()

    assert commands.names == ["update", "find", "update", "update", "find"]


async def test_no_request_waits_for_an_index(sessions: Sessions, mongo_client: MongoClient[Document]) -> None:
    indexes = Events("createIndexes")
    options = {**sessions.client_options(), "event_listeners": [sessions.recorder, indexes]}
    slow = {
        "failCommands": ["createIndexes"],
        "blockConnection": True,
        "blockTimeMS": 1000,
        "appName": sessions.appname,
    }

    with fail_point(mongo_client, "alwaysOn", slow):
        async with AsyncMongoDBSessionManagerFactory(
            sessions.uri, sessions.database_name, COLLECTION, **options
        ) as factory:
            for prompt in ("Hi.", "And you?"):
                async with factory.create_session_manager("s-1") as manager:
                    await streamed(make_agent(manager, "Fine."), prompt)
            done_before_the_indexes = not indexes.ended.is_set()
            assert await asyncio.to_thread(indexes.ended.wait, 10)

    assert done_before_the_indexes
    indexed = [command.collection for command in sessions.recorder.commands if command.name == "createIndexes"]
    assert indexed.count(COLLECTION) == 1
    assert sessions.texts() == ["Hi.", "Fine.", "And you?", "Fine."]
