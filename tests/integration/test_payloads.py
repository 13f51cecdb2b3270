from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.multiagent import Swarm
from strands.types.content import ContentBlock, Message
from strands.types.session import SessionAgent, SessionMessage
from strands.types.tools import ToolResult

from mongodb_session_manager import CorruptMessageError, MessageTooLargeError, SessionStoreError
from tests.contract.drivers import Driver, mock
from tests.fixtures.commands import CommandRecorder
from tests.fixtures.faults import fail_point
from tests.fixtures.sessions import COLLECTION, SESSION_ID, Document, Sessions
from tests.fixtures.waiting import Held, happened
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import calls, text_of

MB = 1024 * 1024
CHUNK = 4 * MB
AT_ONCE = timedelta(0)


@pytest.fixture(params=[pytest.param("server", marks=pytest.mark.server), "mock"])
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    if request.param == "mock":
        async with mock("payloads") as driver:
            yield driver
            await driver.aclose()
    else:
        uri: str = request.getfixturevalue("mongo_uri")
        driver = Driver(request.getfixturevalue("database_name"), connection_string=uri)
        yield driver
        await driver.aclose()


def image(data: bytes) -> ContentBlock:
    return {"image": {"format": "png", "source": {"bytes": data}}}


def picture(data: bytes, text: str = "look") -> list[ContentBlock]:
    return [{"text": text}, image(data)]


def image_in(message: Message) -> bytes:
    found = next(block["image"]["source"]["bytes"] for block in message["content"] if "image" in block)
    assert isinstance(found, bytes)
    return found


def siblings(driver: Driver, suffix: str) -> Any:
    return driver.repository().collection.database[f"{driver.collection}_{suffix}"]


async def chunks(driver: Driver) -> list[Document]:
    found: list[Document] = await siblings(driver, "payloads").find({}, {"data": 0}).to_list(None)
    return found


async def names(driver: Driver) -> set[str]:
    return {chunk["sha256"] for chunk in await chunks(driver)}


# -- messages


async def test_a_20_mb_image_comes_back_after_a_restart(sessions: Sessions) -> None:
    data = os.urandom(20 * MB)
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Nice."), picture(data))

    async with sessions.manager() as manager:
        resumed = make_agent(manager, "Still nice.")
        await streamed(resumed, "And now?")

    assert image_in(resumed.messages[0]) == data
    assert [text_of(message) for message in resumed.messages] == ["look", "Nice.", "And now?", "Still nice."]
    assert len(str(sessions.document())) < 10_000
    stored = sessions.raw.database[f"{COLLECTION}_payloads"]
    assert sorted(len(chunk["data"]) for chunk in stored.find()) == [CHUNK] * 5


async def test_images_of_any_size_come_back_from_any_client(driver: Driver) -> None:
    images = [os.urandom(size) for size in (1, 16_384, 300_000, CHUNK, CHUNK + 1)]
    async with driver.manager() as manager:
        agent = make_agent(manager, *["ok"] * len(images))
        for data in images:
            await streamed(agent, picture(data))

    async with driver.manager() as manager:
        resumed = make_agent(manager)

    assert [image_in(message) for message in resumed.messages[::2]] == images
    assert sorted(chunk["count"] for chunk in await chunks(driver)) == [1, 1, 2, 2]


async def test_equal_images_are_stored_once(driver: Driver) -> None:
    data = os.urandom(MB)
    for _ in range(2):
        async with driver.manager() as manager:
            agent = make_agent(manager, *["ok"] * 5)
            for _ in range(5):
                await streamed(agent, picture(bytes(bytearray(data))))

    async with driver.manager() as manager:
        resumed = make_agent(manager)

    assert len(await chunks(driver)) == 1
    assert [image_in(message) for message in resumed.messages[::2]] == [data] * 10


async def test_equal_bytes_are_sent_once(sessions: Sessions) -> None:
    data = os.urandom(MB)
    async with sessions.manager() as manager:
        agent = make_agent(manager, "one", "two")
        await streamed(agent, picture(data))
        with sessions.recorder.counting() as commands:
            await streamed(agent, picture(data))

    sent = [command for command in commands if command.collection == f"{COLLECTION}_payloads"]
    assert not [command for command in sent if "$setOnInsert" in str(command.document)]


async def test_two_sessions_share_nothing(driver: Driver) -> None:
    data = os.urandom(MB)
    for session_id in ("s-1", "s-1/2"):
        async with driver.manager(session_id) as manager:
            await streamed(make_agent(manager, "ok"), picture(data))

    await driver.repository().delete_session("s-1")

    async with driver.manager("s-1/2") as manager:
        assert image_in(make_agent(manager).messages[0]) == data


@pytest.mark.slow
async def test_a_session_of_60_mb_resumes(sessions: Sessions) -> None:
    images = [os.urandom(5 * MB) for _ in range(12)]
    async with sessions.manager() as manager:
        agent = make_agent(manager, *["ok"] * len(images))
        for data in images:
            await streamed(agent, picture(data))

    async with sessions.manager() as manager:
        resumed = make_agent(manager)

    assert [image_in(message) for message in resumed.messages[::2]] == images


@pytest.mark.slow
async def test_an_agent_may_start_with_60_mb(sessions: Sessions) -> None:
    images = [os.urandom(5 * MB) for _ in range(12)]
    history: list[Message] = []
    for data in images:
        history += [{"role": "user", "content": picture(data)}, {"role": "assistant", "content": [{"text": "ok"}]}]
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Twelve.", messages=history), "How many?")

    async with sessions.manager() as manager:
        resumed = make_agent(manager)

    assert [image_in(message) for message in resumed.messages[:24:2]] == images
    assert text_of(resumed.messages[-1]) == "Twelve."


async def test_many_smaller_images_in_one_message_come_back(driver: Driver) -> None:
    blocks: list[ContentBlock] = [image(os.urandom(200_000)) for _ in range(90)]
    async with driver.manager() as manager:
        await streamed(make_agent(manager, "ok"), [{"text": "90 images"}, *blocks])

    async with driver.manager() as manager:
        resumed = make_agent(manager)

    assert resumed.messages[0]["content"][1:] == blocks
    assert len(str(await driver.stored())) < 100_000


async def test_bytes_of_tool_results_come_back(driver: Driver) -> None:
    data = os.urandom(2 * MB)

    @tool
    def screenshot() -> ToolResult:
        """Take a screenshot."""
        return {
            "toolUseId": "",
            "status": "success",
            "content": [{"image": {"format": "png", "source": {"bytes": data}}}],
        }

    async with driver.manager() as manager:
        agent = make_agent(manager, calls(("screenshot", {})), "A cat.", tools=[screenshot])
        await streamed(agent, "What is on the screen?")

    async with driver.manager() as manager:
        resumed = make_agent(manager)

    result = resumed.messages[2]["content"][0]["toolResult"]["content"][0]
    assert result["image"]["source"]["bytes"] == data
    assert len(await names(driver)) == 1


async def test_a_resumed_session_without_payloads_needs_no_further_command(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "ok"), picture(os.urandom(10_000)))

    with sessions.recorder.counting() as commands:
        async with sessions.manager() as manager:
            make_agent(manager)

    assert commands.names == ["find"]


async def test_resuming_reads_what_the_window_refers_to_and_nothing_else(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        agent = make_agent(manager, *["ok"] * 4, conversation_manager=SlidingWindowConversationManager(window_size=2))
        for number in range(4):
            await streamed(agent, picture(os.urandom(MB), f"image {number}"))

    with sessions.recorder.counting() as commands:
        async with sessions.manager() as manager:
            resumed = make_agent(manager)

    assert [text_of(message) for message in resumed.messages] == ["image 3", "ok"]
    assert commands.names == ["find", "find"]
    assert len(commands[1].document["filter"]["sha256"]["$in"]) == 1


async def test_pages_read_the_bytes_of_their_messages_only(sessions: Sessions) -> None:
    images = [os.urandom(MB) for _ in range(3)]
    async with sessions.manager() as manager:
        agent = make_agent(manager, *["ok"] * 3)
        for data in images:
            await streamed(agent, picture(data))
        repository = manager.repository

        with sessions.recorder.counting() as commands:
            page = await repository.list_messages(SESSION_ID, AGENT_ID, limit=2, offset=2)
        one = await repository.read_message(SESSION_ID, AGENT_ID, 4)
        every = await repository.list_messages(SESSION_ID, AGENT_ID)

    assert [message.message_id for message in page] == [2, 3]
    assert image_in(page[0].message) == images[1]
    read = [command for command in commands if command.collection == f"{COLLECTION}_payloads"]
    assert [len(command.document["filter"]["sha256"]["$in"]) for command in read] == [1]
    assert one is not None
    assert image_in(one.message) == images[2]
    assert [image_in(message.message) for message in every[::2]] == images


async def test_dicts_that_look_like_marks_stay_what_they_are(driver: Driver) -> None:
    data = os.urandom(MB)
    lookalikes: list[Any] = [
        {"__bson__": "payload", "value": "0" * 64, "size": 3},
        {"__bson__": "packed", "value": "0" * 64, "size": 3, "payloads": ["1" * 64]},
        {"%__bson__": "payload", "value": 1},
    ]
    message: Any = {"role": "user", "content": [*picture(data), {"json": lookalikes}]}
    state = {"lookalikes": lookalikes}
    repository = driver.repository()
    async with driver.manager():
        pass
    await repository.create_agent("s-1", SessionAgent("a", {"state": state}, {}, {"raw": data}))
    await repository.create_message("s-1", "a", SessionMessage(message, 0))

    read = await repository.read_message("s-1", "a", 0)
    agent = await repository.read_agent("s-1", "a")

    assert read.message == message
    assert agent.state == {"state": state}
    assert agent._internal_state == {"raw": data}
    assert len(await names(driver)) == 1


async def test_the_repository_round_trips_large_bytes(driver: Driver) -> None:
    first, second = os.urandom(5 * MB), os.urandom(MB)
    repository = driver.repository()
    async with driver.manager() as manager:
        make_agent(manager, agent_id="a")
    await repository.create_message("s-1", "a", SessionMessage({"role": "user", "content": picture(first)}, 0))

    read = await repository.read_message("s-1", "a", 0)
    read.message["content"] = picture(second)
    await repository.update_message("s-1", "a", read)
    changed = await repository.list_messages("s-1", "a")

    assert image_in(changed[0].message) == second
    assert [chunk["count"] for chunk in await chunks(driver)] == [1], "what the message no longer holds is gone"


# -- what cannot be stored


async def test_text_over_the_limit_is_refused_and_the_session_stays_usable(driver: Driver) -> None:
    picture = image(os.urandom(MB))
    async with driver.manager() as manager:
        agent = make_agent(manager, "Too long, but fine.", "Better.")
        with pytest.raises(MessageTooLargeError, match=AGENT_ID):
            await streamed(agent, [{"text": "x" * (16 * MB)}, picture])

    async with driver.manager() as manager:
        resumed = make_agent(manager, "Better.")
        await streamed(resumed, "Short.")

    assert resumed.messages[0]["content"] == [{"text": "[not stored: MessageTooLargeError]"}, picture]
    assert [text_of(message) for message in resumed.messages][-2:] == ["Short.", "Better."]


# -- state


@pytest.mark.matrix
async def test_a_large_state_comes_back_and_replaces_its_predecessor(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager, "one", "two")
        agent.state.set("notes", "ä" * 10 * MB)
        await streamed(agent, "Hi.")
        first = await names(driver)
        agent.state.set("notes", "b" * 20 * MB)
        await streamed(agent, "Hi.")
        second = await names(driver)

    async with driver.manager() as manager:
        resumed = make_agent(manager, "three")
        read = await driver.repository().read_agent("s-1", AGENT_ID)
        resumed.state.set("notes", "short")
        await streamed(resumed, "Hi.")

    assert (len(first), len(second), first & second) == (1, 1, set())
    assert read.state == {"notes": "b" * 20 * MB}
    assert await names(driver) == set()
    async with driver.manager() as manager:
        assert make_agent(manager).state.get("notes") == "short"


async def test_a_large_state_that_did_not_change_is_not_written_again(sessions: Sessions) -> None:
    notes = {"text": "x" * 2 * MB, "numbers": [1, 2.5, None, True], "nested": {"a.b": "$c"}}
    async with sessions.manager() as manager:
        agent = make_agent(manager, "one")
        agent.state.set("notes", notes)
        await streamed(agent, "Hi.")

    async with sessions.manager() as manager:
        resumed = make_agent(manager, "two")
        with sessions.recorder.counting() as commands:
            await streamed(resumed, "Hi again.")

    assert resumed.state.get("notes") == notes
    assert {command.collection for command in commands} == {COLLECTION}
    assert "agent_data.state" not in str([command.document for command in commands])


async def test_the_repository_replaces_a_large_state(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        make_agent(manager, agent_id="a")
    for text in ("a" * 2 * MB, "b" * 2 * MB):
        await repository.update_agent("s-1", SessionAgent("a", {"text": text}, {}))
        assert (await repository.read_agent("s-1", "a")).state == {"text": text}
        assert len(await names(driver)) == 1

    await repository.update_agent("s-1", SessionAgent("a", {}, {}))
    assert await names(driver) == set()


async def test_the_large_state_of_a_swarm_comes_back(driver: Driver) -> None:
    task = "x" * 3 * MB
    async with driver.manager() as manager:
        swarm = Swarm(
            [Agent(name="one", model=make_agent(None, "done").model, callback_handler=None)],
            session_manager=driver.for_agents(manager),
            id="swarm",
        )
        await swarm.invoke_async(task)
        live = swarm.serialize_state()

    stored = await driver.repository().read_multi_agent("s-1", "swarm")
    assert stored == live
    assert len(str(stored)) > 3 * MB
    assert len(str(await driver.stored())) < 100_000
    async with driver.manager() as manager:
        Swarm(
            [Agent(name="one", model=make_agent(None, "done").model, callback_handler=None)],
            session_manager=driver.for_agents(manager),
            id="swarm",
        )
    assert len(await names(driver)) == 1


# -- removing


REDACTED: Message = {"role": "user", "content": [{"text": "[redacted]"}]}


async def test_a_redaction_removes_the_bytes(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager, "ok")
        await streamed(agent, "Hi.")
        agent.messages.append({"role": "user", "content": picture(os.urandom(5 * MB))})
        manager.append_message(agent.messages[-1], agent)
        await manager.flush()
        assert len(await chunks(driver)) == 2
        manager.redact_latest_message(REDACTED, agent)
        await manager.flush()

        assert await chunks(driver) == []
    assert "payloads" not in (await driver.stored())["agents"][AGENT_ID]["messages"][-1]


async def test_a_resumed_agents_redaction_removes_the_bytes(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager)
        agent.messages.append({"role": "user", "content": picture(os.urandom(MB))})
        manager.append_message(agent.messages[-1], agent)
        manager.sync_agent(agent)

    async with driver.manager() as manager:
        manager.redact_latest_message(REDACTED, make_agent(manager))

    assert await chunks(driver) == []


async def test_an_original_that_was_never_sent_is_never_stored(sessions: Sessions) -> None:
    async with sessions.manager(flush_on="invocation") as manager:
        agent = make_agent(manager)
        agent.messages.append({"role": "user", "content": picture(os.urandom(MB))})
        manager.append_message(agent.messages[-1], agent)
        manager.redact_latest_message(REDACTED, agent)
        await manager.flush()

    assert f"{COLLECTION}_payloads" not in {command.collection for command in sessions.recorder.commands}


async def test_a_redaction_keeps_bytes_that_another_message_refers_to(driver: Driver) -> None:
    data = os.urandom(MB)
    async with driver.manager() as manager:
        agent = make_agent(manager, "ok")
        await streamed(agent, picture(data))
        agent.messages.append({"role": "user", "content": picture(data)})
        manager.append_message(agent.messages[-1], agent)
        await manager.flush()
        manager.redact_latest_message(REDACTED, agent)

    async with driver.manager() as manager:
        assert image_in(make_agent(manager).messages[0]) == data
    repository = driver.repository()
    first = await repository.read_message("s-1", AGENT_ID, 0)
    first.redact_message = REDACTED
    await repository.update_message("s-1", AGENT_ID, first)
    assert await chunks(driver) == []


async def test_the_redaction_of_a_sealed_message_removes_the_bytes(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager, *["x" * 20_000] * 12)
        for number in range(12):
            await streamed(agent, picture(os.urandom(MB)) if number < 2 else "Go on.")
    segments = await siblings(driver, "segments").find({}).to_list(None)
    assert [item["message_id"] for item in segments[0]["items"]][:3] == [0, 1, 2]
    repository = driver.repository()

    for number, left in ((0, 1), (2, 0)):
        message = await repository.read_message("s-1", AGENT_ID, number)
        assert len(image_in(message.message)) == MB
        message.redact_message = REDACTED
        await repository.update_message("s-1", AGENT_ID, message)
        assert len(await names(driver)) == left

    async with driver.manager() as manager:
        assert text_of(make_agent(manager).messages[0]) == "[redacted]"


async def test_deleting_a_session_removes_its_bytes(driver: Driver) -> None:
    for session_id in ("s-1", "s-2"):
        async with driver.manager(session_id) as manager:
            await streamed(make_agent(manager, "ok"), picture(os.urandom(5 * MB)))

    await driver.repository().delete_session("s-1")

    assert {chunk["session_id"] for chunk in await chunks(driver)} == {"s-2"}


async def test_deleting_an_agent_removes_what_only_that_agent_referred_to(driver: Driver) -> None:
    shared, own = os.urandom(MB), os.urandom(MB)
    async with driver.manager() as manager:
        for agent_id in ("a", "b"):
            agent = make_agent(manager, *["x" * 20_000] * 12, agent_id=agent_id)
            agent.state.set("notes", agent_id * 2 * MB)
            for number in range(12):
                await streamed(agent, picture(shared) if number == 0 else "Go on.")
            if agent_id == "a":
                await streamed(make_agent(manager, "ok", agent_id="c"), picture(own))
    assert len(await names(driver)) == 4
    repository = driver.repository()

    await repository.delete_agent("s-1", "a")
    await repository.delete_agent("s-1", "c")

    assert len(await names(driver)) == 2
    assert {segment["agent"] for segment in await siblings(driver, "segments").find({}).to_list(None)} == {"b"}
    async with driver.manager() as manager:
        resumed = make_agent(manager, agent_id="b")
    assert image_in(resumed.messages[0]) == shared
    assert resumed.state.get("notes") == "b" * 2 * MB


async def test_a_session_created_anew_has_bytes_of_its_own(driver: Driver) -> None:
    data = os.urandom(MB)
    for _ in range(2):
        async with driver.manager() as manager:
            await streamed(make_agent(manager, "ok"), picture(data))
        await driver.repository().collection.delete_one({"_id": "s-1"})
    async with driver.manager() as manager:
        await streamed(make_agent(manager, "ok"), picture(data))

    assert len(await chunks(driver)) == 3
    assert await driver.repository().sweep_orphans(older_than=AT_ONCE, dry_run=False) == {"segments": 0, "payloads": 2}
    async with driver.manager() as manager:
        assert image_in(make_agent(manager).messages[0]) == data


# -- what is missing


async def lose_the_bytes(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager, "one", "two")
        await streamed(agent, "Hi.")
        await streamed(agent, picture(os.urandom(5 * MB)))
    await siblings(driver, "payloads").delete_one({"number": 1})


async def test_a_message_whose_bytes_are_missing_is_named(driver: Driver) -> None:
    await lose_the_bytes(driver)

    async with driver.manager() as manager:
        with pytest.raises(CorruptMessageError, match=f"message 2 of agent '{AGENT_ID}'"):
            make_agent(manager)
    with pytest.raises(CorruptMessageError, match=f"message 2 of agent '{AGENT_ID}'"):
        await driver.repository().list_messages("s-1", AGENT_ID)
    assert len(await driver.repository().list_messages("s-1", AGENT_ID, limit=2)) == 2


async def test_a_message_whose_bytes_are_missing_can_be_skipped(driver: Driver) -> None:
    await lose_the_bytes(driver)

    async with driver.manager(skip_corrupt_messages=True) as manager:
        resumed = make_agent(manager)

    assert [text_of(message) for message in resumed.messages] == ["Hi.", "one", "two"]


async def test_bytes_that_were_damaged_are_not_handed_out(driver: Driver) -> None:
    async with driver.manager() as manager:
        await streamed(make_agent(manager, "ok"), picture(os.urandom(MB)))
    await siblings(driver, "payloads").update_one({}, {"$set": {"data": b"something else"}})

    with pytest.raises(CorruptMessageError, match="missing or damaged"):
        await driver.repository().read_message("s-1", AGENT_ID, 0)


async def test_a_state_that_is_missing_is_named(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(manager, "one")
        agent.state.set("notes", "x" * 2 * MB)
        await streamed(agent, "Hi.")
    await siblings(driver, "payloads").delete_many({})

    async with driver.manager() as manager:
        make_agent(manager, agent_id="another one is no worse off")
        with pytest.raises(SessionStoreError, match=f"agent '{AGENT_ID}' cannot be restored: bytes of its state"):
            make_agent(manager)


# -- orphans


KILLED_BEFORE_THE_APPEND = """
import asyncio, os, signal, sys
from pymongo.monitoring import CommandListener
from mongodb_session_manager import AsyncMongoDBSessionManager
from tests.support.agents import make_agent

class Killer(CommandListener):
    def started(self, event):
        if event.command_name == "update" and "messages" in str(event.command["updates"][0]["u"].get("$push")):
            os.kill(os.getpid(), signal.SIGKILL)
    def succeeded(self, event): pass
    def failed(self, event): pass

async def main(uri, database, collection, session_id):
    manager = AsyncMongoDBSessionManager(session_id, uri, database, collection, event_listeners=[Killer()])
    async with manager:
        content = [{"text": "x"}, {"image": {"format": "png", "source": {"bytes": os.urandom(5 * 1024 * 1024)}}}]
        await make_agent(manager, "ok").invoke_async(content)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_killed_between_upload_and_append_leaves_an_orphan_that_is_swept(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "ok"), picture(os.urandom(MB)))
    arguments = [sys.executable, "-c", KILLED_BEFORE_THE_APPEND, sessions.uri, sessions.database_name, COLLECTION]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    killed = await asyncio.to_thread(subprocess.run, [*arguments, SESSION_ID], env=environment, check=False)

    assert killed.returncode == -9
    stored = sessions.raw.database[f"{COLLECTION}_payloads"]
    assert stored.count_documents({}) == 3
    async with sessions.manager() as manager:
        repository = manager.repository
        assert await repository.sweep_orphans(dry_run=False) == {"segments": 0, "payloads": 0}, "it may be in use soon"
        assert await repository.sweep_orphans(older_than=AT_ONCE) == {"segments": 0, "payloads": 1}
        assert stored.count_documents({}) == 3, "a dry run removes nothing"
        assert await repository.sweep_orphans(older_than=AT_ONCE, dry_run=False) == {"segments": 0, "payloads": 1}
        assert await repository.sweep_orphans(older_than=AT_ONCE) == {"segments": 0, "payloads": 0}
        assert len(image_in(make_agent(manager).messages[0])) == MB


async def test_a_sweep_leaves_alone_what_is_in_use(driver: Driver) -> None:
    data = os.urandom(MB)
    async with driver.manager() as manager:
        agent = make_agent(manager, *["x" * 20_000] * 12)
        agent.state.set("notes", "n" * 2 * MB)
        for number in range(12):
            await streamed(agent, picture(data) if number == 0 else "Go on.")
        for number in range(200):
            await manager.add_feedback({"comment": f"{number} " + "x" * 500})
        live = list(agent.messages)
    before = await siblings(driver, "segments").count_documents({})

    for moment in (AT_ONCE, datetime.now(UTC) + timedelta(days=1)):
        swept = await driver.repository().sweep_orphans(older_than=moment, dry_run=False)
        assert swept == {"segments": 0, "payloads": 0}

    assert await siblings(driver, "segments").count_documents({}) == before > 0
    async with driver.manager() as manager:
        resumed = make_agent(manager)
        assert len(await manager.get_feedbacks()) == 200
    assert resumed.messages == live
    assert resumed.state.get("notes") == "n" * 2 * MB


async def test_a_sweep_removes_segments_that_no_session_counts(driver: Driver) -> None:
    for session_id in ("s-1", "s-2"):
        async with driver.manager(session_id) as manager:
            agent = make_agent(manager, *["x" * 20_000] * 12)
            for _ in range(12):
                await streamed(agent, "Go on.")
    segments = siblings(driver, "segments")
    real = await segments.find_one({"session_id": "s-1"})
    archived = (await driver.stored())["agents"][AGENT_ID]["archived_count"]
    left_over = {**real, "_id": "refused", "token": "t-1", "committed": False}
    await segments.insert_one(left_over)
    await segments.insert_one({**left_over, "_id": "never committed", "token": "t-2", "start": archived})
    await driver.repository().collection.delete_one({"_id": "s-2"})
    of_the_dead = await segments.count_documents({"session_id": "s-2"})
    redactions = (await driver.stored())["agents"][AGENT_ID]["redactions"]

    swept = await driver.repository().sweep_orphans(older_than=AT_ONCE, dry_run=False)

    assert swept == {"segments": 2 + of_the_dead, "payloads": 0}
    assert await segments.find_one({"_id": real["_id"]}) is not None
    assert await segments.count_documents({"committed": False, "session_id": "s-1"}) == 0
    assert (await driver.stored())["agents"][AGENT_ID]["redactions"] > redactions, "no late commit can match any more"
    assert len(await driver.repository().list_messages("s-1", AGENT_ID)) == 24


# -- writers of equal bytes


def removes_payloads(name: str, command: Any) -> bool:
    return name == "delete" and str(command["delete"]).endswith("_payloads")


def appends(name: str, command: Any) -> bool:
    return name == "update" and command["update"] == COLLECTION and "image" in str(command["updates"])[:20_000]


async def test_bytes_that_another_writer_stores_while_they_are_removed_stay(sessions: Sessions) -> None:
    data = os.urandom(5 * MB)
    held = Held()
    async with sessions.manager(event_listeners=[held]) as one, sessions.manager() as other:
        agent = make_agent(one, agent_id="one")
        agent.messages.append({"role": "user", "content": picture(data)})
        one.append_message(agent.messages[-1], agent)
        await one.flush()
        one.redact_latest_message(REDACTED, agent)
        with held.holding(removes_payloads):
            removing = asyncio.create_task(one.flush())
            await happened(held.reached)
            await streamed(make_agent(other, "ok", agent_id="other"), picture(data))
        await removing

    async with sessions.manager() as manager:
        assert image_in(make_agent(manager, agent_id="other").messages[0]) == data


async def test_bytes_that_are_removed_between_upload_and_append_are_stored_again(sessions: Sessions) -> None:
    data = os.urandom(5 * MB)
    held = Held()
    async with sessions.manager() as one, sessions.manager(event_listeners=[held]) as other:
        agent = make_agent(one, agent_id="one")
        agent.messages.append({"role": "user", "content": picture(data)})
        one.append_message(agent.messages[-1], agent)
        await one.flush()
        with held.holding(appends):
            appending = asyncio.create_task(streamed(make_agent(other, "ok", agent_id="other"), picture(data)))
            await happened(held.reached)
            one.redact_latest_message(REDACTED, agent)
            await one.flush()
            assert sessions.raw.database[f"{COLLECTION}_payloads"].count_documents({}) == 0
        await appending

    async with sessions.manager() as manager:
        assert image_in(make_agent(manager, agent_id="other").messages[0]) == data


# -- faults and expiry


@pytest.mark.parametrize("fault", [{"closeConnection": True}, {"errorCode": 189}], ids=["cut", "stepped down"])
async def test_an_upload_that_fails_is_sent_again(sessions: Sessions, fault: Document) -> None:
    data = os.urandom(9 * MB)
    recorder = CommandRecorder()
    options = {**sessions.client_options(), "event_listeners": [recorder], "retryWrites": False}
    async with sessions.manager(**options) as manager:
        agent = make_agent(manager, "ok")
        await manager.flush()
        client = sessions.raw.database.client
        with fail_point(client, {"times": 3}, {"failCommands": ["update"], "appName": sessions.appname, **fault}):
            await streamed(agent, picture(data))

    async with sessions.manager() as manager:
        assert image_in(make_agent(manager).messages[0]) == data
    assert sessions.texts() == ["look", "ok"]


async def test_payloads_outlive_the_session_that_they_belong_to(driver: Driver) -> None:
    async with driver.manager(ttl=1000) as manager:
        await streamed(make_agent(manager, "ok"), picture(os.urandom(5 * MB)))

    document = await driver.stored()
    for chunk in await chunks(driver):
        assert timedelta(seconds=1999) < chunk["expires_at"] - chunk["used_at"] <= timedelta(seconds=2000)
        assert document["expires_at"] < document["children_expire_at"] <= chunk["expires_at"]
