from __future__ import annotations

from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from tests.contract.drivers import Driver
from tests.support.agents import make_agent, model_of
from tests.support.models import check_history


def use(*ids: str) -> Any:
    return [{"toolUse": {"toolUseId": use_id, "name": "add", "input": {}}} for use_id in ids]


def result(*ids: str) -> Any:
    return [{"toolResult": {"toolUseId": use_id, "status": "success", "content": [{"text": "3"}]}} for use_id in ids]


def text(said: str) -> Any:
    return [{"text": said}]


BROKEN: list[tuple[str, Any]] = [
    ("user", text("one")),
    ("assistant", use("t-1", "t-2")),
    ("user", result("t-1")),  # t-2 is not answered
    ("assistant", text("two")),
    ("user", [*result("t-9"), *text("three")]),  # t-9 was never asked
    ("assistant", text("four")),
]
WHOLE: list[tuple[str, Any]] = [("user", text("hi")), ("assistant", use("t-1")), ("user", result("t-1"))]


async def a_repository(driver: Driver, **agents: list[tuple[Any, Any]]) -> Any:
    repository = driver.repository()
    await repository.create_session(Session(session_id="s-1", session_type=SessionType.AGENT))
    for agent_id, messages in agents.items():
        state = {"__name__": "SlidingWindowConversationManager", "removed_message_count": 0}
        await repository.create_agent(
            "s-1", SessionAgent(agent_id=agent_id, state={}, conversation_manager_state=state)
        )
        for number, (role, content) in enumerate(messages):
            await repository.create_message("s-1", agent_id, SessionMessage({"role": role, "content": content}, number))
    return repository


async def test_a_whole_history_has_nothing_to_mend(driver: Driver) -> None:
    repository = await a_repository(driver, a=WHOLE)
    before = await driver.stored()

    report = await repository.repair_session("s-1", dry_run=False)

    assert report == {"session_id": "s-1", "dry_run": False, "broken": 0, "mended": 0, "agents": {}}
    assert await driver.stored() == before


async def test_by_default_it_only_tells_what_is_broken(driver: Driver) -> None:
    repository = await a_repository(driver, whole=WHOLE, broken=BROKEN)
    before = await driver.stored()

    report = await repository.repair_session("s-1")

    assert await driver.stored() == before
    assert report == {
        "session_id": "s-1",
        "dry_run": True,
        "broken": 2,
        "mended": 0,
        "agents": {
            "broken": [
                {"message_id": 1, "kind": "missing_result", "tool_use_ids": ["t-2"]},
                {"message_id": 4, "kind": "orphaned_result", "tool_use_ids": ["t-9"]},
            ]
        },
    }


async def test_mended_pairs_are_whole_and_need_no_second_time(driver: Driver) -> None:
    repository = await a_repository(driver, whole=WHOLE, broken=BROKEN)

    first = await repository.repair_session("s-1", dry_run=False)
    mended = await driver.stored()
    second = await repository.repair_session("s-1", dry_run=False)

    assert (first["broken"], first["mended"]) == (2, 2)
    assert (second["broken"], second["mended"], second["agents"]) == (0, 0, {})
    assert await driver.stored() == mended
    messages = [m.to_message() for m in await repository.list_messages("s-1", "broken")]
    check_history([*messages, {"role": "user", "content": text("five")}])
    assert [m["role"] for m in messages] == [role for role, _ in BROKEN]
    assert messages[4]["content"] == text("three")
    assert mended["agents"]["whole"]["messages"][1]["content"] == use("t-1")


async def test_a_manager_mends_its_session_for_the_next_one(driver: Driver) -> None:
    await a_repository(driver, a=BROKEN)
    async with driver.manager() as manager:
        assert (await manager.repair_session())["broken"] == 2
        assert (await manager.repair_session(dry_run=False))["mended"] == 2

    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), "ok", agent_id="a")
        await agent.invoke_async("five")

    assert model_of(agent).requests[0][-1]["content"] == text("five")
    assert (await driver.repository().repair_session("s-1"))["broken"] == 0


async def test_a_redacted_message_stays_redacted_when_it_is_mended(driver: Driver) -> None:
    repository = await a_repository(driver, a=BROKEN)
    message = await repository.read_message("s-1", "a", 4)
    message.redact_message = {"role": "user", "content": [*result("t-9"), *text("[redacted]")]}
    await repository.update_message("s-1", "a", message)

    await repository.repair_session("s-1", dry_run=False)

    read = await repository.read_message("s-1", "a", 4)
    assert read.redact_message["content"] == read.message["content"] == text("[redacted]")
    assert "three" not in str(await driver.stored())
