"""`session_repository` of an async manager: the open session in memory, as Strands' synchronous contract has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent
from strands.multiagent import GraphBuilder
from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from mongodb_session_manager import (
    AgentExistsError,
    AgentNotFoundError,
    AsyncMongoDBSessionManager,
    MessageNotFoundError,
    SessionClosedError,
    SessionExistsError,
    SessionNotOpenError,
    SessionStoreError,
)
from tests.contract.drivers import Driver
from tests.fixtures.waiting import eventually
from tests.support.agents import AGENT_ID, make_agent

SESSION_ID = "s-1"


def said(text: str, number: int, **kwargs: Any) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, number, **kwargs)


def view_of(manager: AsyncMongoDBSessionManager) -> Any:
    return manager.session_repository


def texts(messages: Any) -> list[Any]:
    return [message.to_message()["content"] for message in messages]


async def talked(manager: AsyncMongoDBSessionManager, *answers: str) -> Agent:
    agent = make_agent(manager, *answers)
    for number in range(len(answers)):
        await agent.invoke_async(f"q-{number}")
    return agent


async def test_it_reads_what_is_loaded_and_live_as_copies(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        view = view_of(manager)
        assert isinstance(manager.session_repository, SessionRepository)
        agent = await talked(manager, "a-0")
        agent.state.set("visits", 1)

        for _ in range(2):
            found = view.list_messages(SESSION_ID, AGENT_ID)
            assert [message.to_message() for message in found] == agent.messages
            assert [message.message_id for message in found] == [0, 1]
            found[0].message["content"].clear()
            state = view.read_agent(SESSION_ID, AGENT_ID)
            assert state is not None
            assert state.state == {"visits": 1}
            state.state.clear()
        assert view.read_message(SESSION_ID, AGENT_ID, 1).message["content"] == [{"text": "a-0"}]
        assert view.read_message(SESSION_ID, AGENT_ID, 2) is None
        assert view.read_message(SESSION_ID, AGENT_ID, -1) is None
        assert view.read_agent(SESSION_ID, "other") is None
        assert view.read_session(SESSION_ID).session_id == SESSION_ID

    async with async_driver.manager() as manager:  # not built yet
        view = view_of(manager)
        stored = await manager.repository.list_messages(SESSION_ID, AGENT_ID)
        assert view.list_messages(SESSION_ID, AGENT_ID) == stored
        assert view.list_messages(SESSION_ID, AGENT_ID, limit=1, offset=1) == stored[1:]
        assert view.read_agent(SESSION_ID, AGENT_ID).state == {"visits": 1}
        with pytest.raises(SessionStoreError, match=r"manager\.repository\.update_message"):
            view.update_message(SESSION_ID, AGENT_ID, said("new", 0))


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_corrected_message_is_written_and_read_back(async_driver: Driver, resumed: bool) -> None:
    async with async_driver.manager() as manager:
        agent = await talked(manager, "a-0")
        if not resumed:
            await correct(manager, agent)
    if resumed:
        async with async_driver.manager() as manager:
            await correct(manager, make_agent(manager))

    stored = (await async_driver.stored())["agents"][AGENT_ID]["messages"]
    assert [message["content"] for message in stored] == [[{"text": "corrected"}], [{"text": "a-0"}]]
    assert "window_content" not in stored[0]
    async with async_driver.manager() as manager:
        assert make_agent(manager).messages[0]["content"] == [{"text": "corrected"}]


async def correct(manager: AsyncMongoDBSessionManager, agent: Agent) -> None:
    view = view_of(manager)
    message = view.list_messages(SESSION_ID, AGENT_ID)[0]
    message.message["content"][0]["text"] = "corrected"
    view.update_message(SESSION_ID, AGENT_ID, message)
    message.message["content"][0]["text"] = "changed by its owner afterwards"

    assert texts(view.list_messages(SESSION_ID, AGENT_ID))[0] == [{"text": "corrected"}]
    # Adapters correct the live agent likewise.
    agent.messages[0]["content"] = [{"text": "corrected"}]
    manager.sync_agent(agent)
    assert texts(view.list_messages(SESSION_ID, AGENT_ID))[0] == [{"text": "corrected"}]


async def test_what_is_changed_is_written_in_the_background(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        await talked(manager, "a-0")
        view = view_of(manager)
        view.update_message(SESSION_ID, AGENT_ID, said("corrected", 0))

        async def is_stored() -> bool:
            stored = texts(await manager.repository.list_messages(SESSION_ID, AGENT_ID))
            return bool(stored[0] == [{"text": "corrected"}])

        await eventually(is_stored)


async def test_an_appended_message_has_the_next_number(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        agent = await talked(manager, "a-0")
        view = view_of(manager)
        with pytest.raises(SessionStoreError, match="next message is number 2"):
            view.create_message(SESSION_ID, AGENT_ID, said("x", 7))
        view.create_message(SESSION_ID, AGENT_ID, said("by hand", 2))
        assert texts(view.list_messages(SESSION_ID, AGENT_ID))[2] == [{"text": "by hand"}]
        await manager.flush()
        assert texts(view.list_messages(SESSION_ID, AGENT_ID))[2] == [{"text": "by hand"}]
        assert len(agent.messages) == 2
        stored = await manager.repository.list_messages(SESSION_ID, AGENT_ID)
        assert [message.message_id for message in stored] == [0, 1, 2]

    async with async_driver.manager() as manager:
        assert make_agent(manager).messages[2]["content"] == [{"text": "by hand"}]


async def test_a_redaction_leaves_no_original(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        await talked(manager, "a-0")
        view = view_of(manager)
        message = view.read_message(SESSION_ID, AGENT_ID, 0)
        message.redact_message = {"role": "user", "content": [{"text": "[gone]"}]}
        view.update_message(SESSION_ID, AGENT_ID, message)

        shown = view.read_message(SESSION_ID, AGENT_ID, 0)
        assert shown.to_message()["content"] == shown.message["content"] == [{"text": "[gone]"}]
        with pytest.raises(SessionStoreError, match="cannot be undone"):
            view.update_message(SESSION_ID, AGENT_ID, said("q-0", 0))
        await manager.flush()
        assert "q-0" not in str((await async_driver.stored())["agents"])


async def test_large_bytes_come_back(async_driver: Driver) -> None:
    picture = b"\x00\xff" * (1 << 20)
    block: Any = {"image": {"format": "png", "source": {"bytes": picture}}}
    async with async_driver.manager() as manager:
        await talked(manager, "a-0")
        view = view_of(manager)
        view.update_message(SESSION_ID, AGENT_ID, SessionMessage({"role": "user", "content": [block]}, 0))
        view.create_message(SESSION_ID, AGENT_ID, SessionMessage({"role": "user", "content": [block]}, 2))
        assert texts(view.list_messages(SESSION_ID, AGENT_ID)) == [[block], [{"text": "a-0"}], [block]]
        await manager.flush()
        stored = await manager.repository.list_messages(SESSION_ID, AGENT_ID)
        assert texts(stored) == [[block], [{"text": "a-0"}], [block]]

    async with async_driver.manager() as manager:
        assert texts(manager.session_repository.list_messages(SESSION_ID, AGENT_ID)) == texts(stored)


async def test_states_of_agents(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        agent = await talked(manager, "a-0")
        view = view_of(manager)
        state = view.read_agent(SESSION_ID, AGENT_ID)
        state.state = {"visits": 2}
        view.update_agent(SESSION_ID, state)
        assert view.read_agent(SESSION_ID, AGENT_ID).state == {"visits": 2}
        await manager.flush()
        assert (await manager.repository.read_agent(SESSION_ID, AGENT_ID)).state == {"visits": 2}

        agent.state.set("visits", 3)
        assert view.read_agent(SESSION_ID, AGENT_ID).state == {"visits": 3}

        view.create_agent(SESSION_ID, SessionAgent("new", {"a": 1}, {}))
        view.create_message(SESSION_ID, "new", said("first", 0))
        assert view.read_agent(SESSION_ID, "new").state == {"a": 1}
        with pytest.raises(AgentExistsError):
            view.create_agent(SESSION_ID, SessionAgent("new", {}, {}))
        with pytest.raises(AgentExistsError):
            view.create_agent(SESSION_ID, SessionAgent(AGENT_ID, {}, {}))
        with pytest.raises(AgentNotFoundError):
            view.update_agent(SESSION_ID, SessionAgent("unknown", {}, {}))
        no_state: Any = "text"
        for write, agent_id in ((view.create_agent, "another"), (view.update_agent, "new")):
            with pytest.raises(TypeError, match=r"^invalid state: it must be a dict, not str$"):
                write(SESSION_ID, SessionAgent(agent_id, no_state, {}))

    async with async_driver.manager() as manager:
        new = make_agent(manager, agent_id="new")
        assert new.state.get() == {"a": 1}
        assert [message["content"] for message in new.messages] == [[{"text": "first"}]]


async def test_states_of_graphs(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "done", agent_id="node"), "only")
        builder.set_graph_id("g")
        builder.set_max_node_executions(3)
        builder.set_session_manager(manager)
        graph = builder.build()
        await graph.invoke_async("go")
        view = view_of(manager)
        expected = graph.serialize_state()
        assert view.read_multi_agent(SESSION_ID, "g") == expected
        view.update_multi_agent(SESSION_ID, graph)
        assert view.read_multi_agent(SESSION_ID, "other") is None

    async with async_driver.manager() as manager:
        assert manager.session_repository.read_multi_agent(SESSION_ID, "g") == expected


async def test_what_is_not_loaded_names_the_repository(async_driver: Driver) -> None:
    async with async_driver.manager() as manager:
        agent = await talked(manager, "a-0", "a-1")
        view = view_of(manager)
        del agent.messages[:2]
        manager.sync_agent(agent)
        await manager.flush()

        assert [message.message_id for message in view.list_messages(SESSION_ID, AGENT_ID)] == [2, 3]
        assert [message.message_id for message in view.list_messages(SESSION_ID, AGENT_ID, limit=2, offset=2)] == [2, 3]
        uses: list[Callable[[], Any]] = [
            lambda: view.list_messages(SESSION_ID, AGENT_ID, limit=3, offset=1),
            lambda: view.read_message(SESSION_ID, AGENT_ID, 0),
            lambda: view.update_message(SESSION_ID, AGENT_ID, said("x", 0)),
            lambda: view.read_session("other"),
            lambda: view.create_session(Session("other", SessionType.AGENT)),
            lambda: view.read_agent("other", AGENT_ID),
            lambda: view.create_agent("other", SessionAgent(AGENT_ID, {}, {})),
            lambda: view.update_agent("other", SessionAgent(AGENT_ID, {}, {})),
            lambda: view.list_messages("other", AGENT_ID),
            lambda: view.read_message("other", AGENT_ID, 0),
            lambda: view.create_message("other", AGENT_ID, said("x", 0)),
            lambda: view.update_message("other", AGENT_ID, said("x", 0)),
            lambda: view.read_multi_agent("other", "g"),
        ]
        for use in uses:
            with pytest.raises(SessionStoreError, match=r"manager\.repository\."):
                use()
        with pytest.raises(AttributeError, match=r"await manager\.repository\.list_sessions"):
            view.list_sessions()
        with pytest.raises(SessionExistsError):
            view.create_session(Session(SESSION_ID, SessionType.AGENT))
        with pytest.raises(MessageNotFoundError):
            view.update_message(SESSION_ID, AGENT_ID, said("x", 4))
        with pytest.raises(AgentNotFoundError):
            view.list_messages(SESSION_ID, "other")
        with pytest.raises(ValueError, match="negative"):
            view.list_messages(SESSION_ID, AGENT_ID, offset=-1)
        with pytest.raises(TypeError, match="message_id"):
            view.read_message(SESSION_ID, AGENT_ID, "0")
    with pytest.raises(SessionClosedError):
        view.read_session(SESSION_ID)
    with pytest.raises(SessionNotOpenError):
        async_driver.manager().session_repository.read_session(SESSION_ID)

    narrowed = async_driver.manager()
    await narrowed.open(agents=["other"])
    with pytest.raises(SessionStoreError, match=r"manager\.repository\.read_agent"):
        narrowed.session_repository.read_agent(SESSION_ID, AGENT_ID)
    await narrowed.close()


async def test_messages_have_the_dates_that_are_stored(async_driver: Driver) -> None:
    async def check(manager: AsyncMongoDBSessionManager) -> None:
        await manager.flush()
        shown = view_of(manager).list_messages(SESSION_ID, AGENT_ID)
        stored = await manager.repository.list_messages(SESSION_ID, AGENT_ID)
        assert [message.created_at for message in shown] == [message.created_at for message in stored]
        assert all(message.created_at and message.updated_at for message in shown)

    async with async_driver.manager() as manager:
        await talked(manager, "a-0")
        view_of(manager).create_message(
            SESSION_ID, AGENT_ID, said("by hand", 2, created_at="2024-05-01T10:00:00+00:00")
        )
        await check(manager)

    async with async_driver.manager() as manager:
        await check(manager)  # of an agent that was not built
        agent = await talked(manager, "a-1")
        await check(manager)
        before = view_of(manager).read_message(SESSION_ID, AGENT_ID, 0)
        view_of(manager).update_message(SESSION_ID, AGENT_ID, said("changed", 0))
        after = view_of(manager).read_message(SESSION_ID, AGENT_ID, 0)
        assert after.created_at == before.created_at
        assert after.updated_at >= before.updated_at
        await check(manager)
        assert len(agent.messages) == 5
