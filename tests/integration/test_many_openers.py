from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from mongodb_session_manager import AsyncMongoDBSessionManager, SessionClosedError
from tests.fixtures.sessions import COLLECTION, Document, Sessions, texts_of
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel

TASKS = 20
TURNS = 15
TIMEOUT_S = 240


async def open_at_once(managers: Sequence[AsyncMongoDBSessionManager]) -> list[str | None]:
    """Open them all in one go, and return which viewer password each of them sees."""
    await asyncio.gather(*(manager.open() for manager in managers))
    passwords = await asyncio.gather(*(manager.get_session_viewer_password() for manager in managers))
    await asyncio.gather(*(manager.close() for manager in managers))
    return passwords


async def test_twenty_tasks_open_one_new_session(sessions: Sessions) -> None:
    passwords = await open_at_once([sessions.manager() for _ in range(TASKS)])

    assert set(passwords) == {sessions.document()["session_viewer_password"]}
    assert sessions.raw.count_documents({}) == 1


async def test_one_manager_is_opened_by_twenty_tasks(sessions: Sessions) -> None:
    manager = sessions.manager()

    await asyncio.gather(*(manager.open() for _ in range(TASKS)))
    async with manager:
        await streamed(make_agent(manager, "Hello!"), "Hi.")

    assert sessions.raw.count_documents({}) == 1
    assert sessions.texts() == ["Hi.", "Hello!"]


@pytest.mark.parametrize("steps", [0, 1, 3, 10])
async def test_a_manager_that_is_closed_while_it_is_opened_says_so(sessions: Sessions, steps: int) -> None:
    manager = sessions.manager()
    opening = asyncio.create_task(manager.open())
    for _ in range(steps):
        await asyncio.sleep(0)

    await manager.close()

    with pytest.raises(SessionClosedError):
        await opening


async def test_every_opener_may_add_an_agent(sessions: Sessions) -> None:
    async def talk(number: int) -> None:
        async with sessions.manager() as manager:
            await streamed(make_agent(manager, "Hello!", agent_id=f"agent-{number}"), "Hi.")

    await asyncio.gather(*(talk(number) for number in range(TASKS)))

    assert sorted(sessions.document()["agents"]) == sorted(f"agent-{number}" for number in range(TASKS))


async def test_tasks_append_to_one_agent_at_once(sessions: Sessions) -> None:
    async def talk(name: str) -> list[str]:
        async with sessions.manager() as manager:
            agent = make_agent(manager, model=ScriptedModel(otherwise=f"to {name}"))
            for number in range(5):
                await streamed(agent, f"{name} {number}")
            return texts_of(agent.messages)

    names = [f"task-{number}" for number in range(4)]
    await asyncio.gather(*(talk(name) for name in names))

    stored = sessions.texts()
    assert len(stored) == 4 * 5 * 2
    for name in names:
        assert [text for text in stored if text.startswith(name)] == [f"{name} {number}" for number in range(5)]
        assert stored.count(f"to {name}") == 5


# -- two processes


def other_process(uri: str, database_name: str, name: str, barrier: Barrier, answers: Any) -> None:
    """Open a new session in many tasks, then talk to a shared agent and to an own one, at the same time as another."""

    async def work() -> list[str | None]:
        def manager(session_id: str) -> AsyncMongoDBSessionManager:
            return AsyncMongoDBSessionManager(
                session_id, uri, database_name, COLLECTION, ensure_indexes=False, maxPoolSize=TASKS
            )

        async with manager("warm-up") as warm_up:
            await warm_up.get_metadata()
        managers = [manager("s-1") for _ in range(TASKS)]
        barrier.wait(TIMEOUT_S)
        passwords = await open_at_once(managers)

        barrier.wait(TIMEOUT_S)
        async with manager("s-1") as opened:
            shared = make_agent(opened, model=ScriptedModel(otherwise=f"to {name}"), agent_id="shared")
            own = make_agent(opened, model=ScriptedModel(otherwise="Fine."), agent_id=name)
            for number in range(TURNS):
                if number % 5 == 0:
                    barrier.wait(TIMEOUT_S)
                await streamed(shared, f"{name} {number}")
                await streamed(own, f"own {number}")
                await opened.add_feedback({"from": name, "number": number})
        return passwords

    try:
        answers.put(asyncio.run(work()))
    except BaseException as error:
        barrier.abort()
        answers.put(repr(error))
        raise


def run_two_processes(sessions: Sessions) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=other_process, args=(sessions.uri, sessions.database_name, name, barrier, answers))
        for name in ("ann", "bob")
    ]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=TIMEOUT_S) for _ in processes]
    finally:
        for process in processes:
            process.join(TIMEOUT_S)
            process.kill()
            process.join()
            process.close()
        answers.close()
        answers.join_thread()


def test_two_processes_open_one_new_session_and_append_to_one_agent(sessions: Sessions) -> None:
    answers = run_two_processes(sessions)

    document = sessions.document()
    shared = sessions.texts("shared")
    assert [len(answer) for answer in answers] == [TASKS, TASKS]
    assert {password for answer in answers for password in answer} == {document["session_viewer_password"]}
    assert sessions.raw.count_documents({"_id": "s-1"}) == 1
    assert len(shared) == 2 * 2 * TURNS
    for name in ("ann", "bob"):
        assert [text for text in shared if text.startswith(name)] == [f"{name} {number}" for number in range(TURNS)]
        assert shared.count(f"to {name}") == TURNS
        assert sessions.texts(name) == [text for n in range(TURNS) for text in (f"own {n}", "Fine.")]
        given = [item["number"] for item in document["feedbacks"] if item["from"] == name]
        assert given == list(range(TURNS))
    assert took_turns(shared)


def took_turns(texts: Sequence[str]) -> bool:
    """Tell whether the two wrote by turns, as their meetings make them, and not one after the other."""
    owners = ["ann" if "ann" in text else "bob" for text in texts]
    return sum(before != after for before, after in pairwise(owners)) > 1


# -- stale managers


async def test_a_stale_manager_does_not_wipe_an_agent_that_another_created(sessions: Sessions) -> None:
    async with sessions.manager() as stale, sessions.manager() as other:
        await streamed(make_agent(other, "Hello from the other!"), "Hi, other.")

        await streamed(make_agent(stale, "Hello!"), "Hi.")

    assert sessions.texts() == ["Hi, other.", "Hello from the other!", "Hi.", "Hello!"]


async def test_a_stale_manager_does_not_wipe_what_another_appended(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), "Hi.")
    async with sessions.manager() as stale, sessions.manager() as other:
        agent = make_agent(stale, "Fine.", "Bye!")
        await streamed(make_agent(other, "Hello from the other!"), "Hi, other.")

        await streamed(agent, "And you?")
        await streamed(agent, "Bye.")

    expected = ["Hi.", "Hello!", "Hi, other.", "Hello from the other!", "And you?", "Fine.", "Bye.", "Bye!"]
    assert sessions.texts() == expected


async def test_a_stale_manager_leaves_other_agents_alone(sessions: Sessions) -> None:
    async with sessions.manager() as stale, sessions.manager() as other:
        agent = make_agent(other, "Hello from the other!", agent_id="other")
        agent.state.set("count", 1)
        await streamed(agent, "Hi, other.")
        before = sessions.document()["agents"]["other"]

        await streamed(make_agent(stale, "Hello!"), "Hi.")
        await stale.update_metadata({"topic": "weather"})

    assert sessions.document()["agents"]["other"] == before


async def test_a_stale_manager_does_not_undo_anothers_metadata_feedback_and_configuration(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await streamed(make_agent(manager, "Hello!"), "Hi.")
    async with sessions.manager() as stale, sessions.manager() as other:
        agent = make_agent(stale, "Fine.")
        await other.update_metadata({"topic": "weather"})
        await other.add_feedback({"rating": "up"})
        await other.update_agent_config("assistant", system_prompt="Be kind.")

        await streamed(agent, "And you?")

    document: Document = sessions.document()
    assert document["metadata"] == {"topic": "weather"}
    assert [item["rating"] for item in document["feedbacks"]] == ["up"]
    assert document["agents"]["assistant"]["agent_data"]["system_prompt"] == "Be kind."
