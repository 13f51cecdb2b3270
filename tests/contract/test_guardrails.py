from __future__ import annotations

from datetime import datetime
from typing import Any
from unittest.mock import ANY

import bson
import pytest
from bson import json_util
from strands.types.exceptions import SessionException

from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import blocked, text_of

SECRET = "4711-0815"
TRACE = {
    "guardrail": {
        "modelOutput": [f"your number is {SECRET}"],
        "inputAssessment": {
            "g-1": {
                "contentPolicy": {"filters": [{"type": "VIOLENCE", "confidence": "HIGH", "action": "BLOCKED"}]},
                "sensitiveInformationPolicy": {
                    "piiEntities": [{"type": "PHONE", "action": "ANONYMIZED", "match": SECRET}],
                },
            }
        },
    }
}

both = pytest.mark.parametrize("flush_on", ["message", "invocation"])


async def assert_nowhere(driver: Driver, text: str = SECRET) -> None:
    stored = await driver.stored()
    assert text.encode() not in bson.encode(stored)
    assert text not in json_util.dumps(stored)


async def messages_of(driver: Driver) -> Any:
    return (await driver.stored())["agents"]["assistant"]["messages"]


@both
async def test_a_redacted_prompt_is_nowhere_in_the_document(driver: Driver, flush_on: str) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), "hello", blocked(user="[redacted]", text="I cannot help."))
        await agent.invoke_async("hi")
        await agent.invoke_async(f"my number is {SECRET}")

        await assert_nowhere(driver)
        assert [text_of(message) for message in agent.messages] == ["hi", "hello", "[redacted]", "I cannot help."]

    messages = await messages_of(driver)
    assert [message["content"] for message in messages] == [message["content"] for message in agent.messages]
    assert messages[2]["redact_message"]["content"] == [{"text": "[redacted]"}]


@both
async def test_a_redacted_answer_is_nowhere_in_the_document(driver: Driver, flush_on: str) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), blocked(assistant="[redacted]", text=f"your number is {SECRET}"))
        await agent.invoke_async("what is my number?")

    await assert_nowhere(driver)
    assert text_of((await messages_of(driver))[1]) == "[redacted]"


@both
async def test_a_redaction_is_recorded_with_the_models_stop_reason(driver: Driver, flush_on: str) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), blocked(user="[redacted]"))
        await agent.invoke_async(f"my number is {SECRET}")

    stored = await driver.stored()
    record = stored["agents"]["assistant"]["messages"][0]["guardrail_event"]
    (event,) = stored["guardrail_events"]
    assert isinstance(record["timestamp"], datetime)
    assert record == {
        "action": "BLOCKED",
        "timestamp": record["timestamp"],
        "stop_reason": "guardrail_intervened",
    }
    assert event == {**record, "message_id": 0, "agent_id": "assistant"}


@both
async def test_a_callers_trace_is_recorded_on_the_message_and_in_short_for_the_session(
    driver: Driver, flush_on: str
) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), "hello")
        manager.append_message({"role": "user", "content": [{"text": f"my number is {SECRET}"}]}, agent)
        await manager.flush()

        manager.redact_latest_message(
            {"role": "user", "content": [{"text": "[redacted]"}]},
            agent,
            action="ANONYMIZED",
            stop_reason="content_filtered",
            guardrail_trace=TRACE,
        )
        await manager.flush()

    stored = await driver.stored()
    record = stored["agents"]["assistant"]["messages"][0]["guardrail_event"]
    (event,) = stored["guardrail_events"]
    policies = {"contentPolicy": ["VIOLENCE/HIGH"], "sensitiveInformationPolicy": ["PHONE/ANONYMIZED"]}
    assert (record["action"], record["stop_reason"]) == ("ANONYMIZED", "content_filtered")
    assert record["policies_triggered"] == event["policies_triggered"] == policies
    assert record["trace"]["guardrail"]["inputAssessment"]["g-1"]["contentPolicy"]
    assert "trace" not in event
    await assert_nowhere(driver)


@both
async def test_a_redacted_conversation_resumes_redacted(driver: Driver, flush_on: str) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), blocked(user="[redacted]", text="I cannot help."), "Sure.")
        await agent.invoke_async(f"my number is {SECRET}")
        await agent.invoke_async("anything else?")

    async with driver.manager(flush_on=flush_on) as manager:
        again = make_agent(driver.for_agents(manager), "Fine.")
        await again.invoke_async("so?")

    assert [text_of(message) for message in again.messages] == [
        "[redacted]",
        "I cannot help.",
        "anything else?",
        "Sure.",
        "so?",
        "Fine.",
    ]
    assert again.messages[:4] == agent.messages


@both
async def test_a_redaction_after_a_restart_is_as_thorough(driver: Driver, flush_on: str) -> None:
    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager), RuntimeError("down"))
        with pytest.raises(RuntimeError, match="down"):
            await agent.invoke_async(f"my number is {SECRET}")

    async with driver.manager(flush_on=flush_on) as manager:
        agent = make_agent(driver.for_agents(manager))
        manager.redact_latest_message({"role": "user", "content": [{"text": "[redacted]"}]}, agent)
        await manager.flush()

    await assert_nowhere(driver)
    assert text_of((await messages_of(driver))[0]) == "[redacted]"


async def test_without_a_message_there_is_nothing_to_redact(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager))

        with pytest.raises(SessionException):
            manager.redact_latest_message({"role": "user", "content": [{"text": "[redacted]"}]}, agent)

    assert (await driver.stored())["guardrail_events"] == []


@pytest.mark.parametrize(
    ("shown", "guardrail", "named", "stands", "recorded"),
    [
        (
            [{"text": "[redacted]"}],
            {"action": "MASKED", "stop_reason": "guardrail_intervened", "guardrail_trace": {"made_by": object()}},
            r"^invalid guardrail_trace\.made_by: cannot store a object",
            "[redacted]",
            {"action": "MASKED", "stop_reason": "guardrail_intervened"},
        ),
        (
            [{"text": "[redacted]"}],
            {"action": object(), "guardrail_trace": TRACE},
            r"^invalid guardrail_action: cannot store a object",
            "[redacted]",
            {"action": "BLOCKED", "policies_triggered": ANY},
        ),
        (
            [{"text": object()}],
            {},
            r"^invalid content\[0\]\.text: cannot",
            "[not stored: TypeError]",
            {"action": "BLOCKED"},
        ),
    ],
    ids=["trace", "action", "replacement"],
)
async def test_a_redaction_stands_where_a_part_of_it_cannot_be_stored(
    driver: Driver, shown: Any, guardrail: dict[str, Any], named: str, stands: str, recorded: dict[str, Any]
) -> None:
    async with driver.manager() as manager:
        agent = make_agent(driver.for_agents(manager), f"your number is {SECRET}", "bye")
        await agent.invoke_async("what is my number?")
        with pytest.raises(TypeError, match=named):
            manager.redact_latest_message({"role": "assistant", "content": shown}, agent, **guardrail)
        await manager.flush()

        await assert_nowhere(driver)
        stored = await driver.stored()

    assert [text_of(message) for message in await messages_of(driver)] == ["what is my number?", stands]
    assert stored["guardrail_events"] == [{"message_id": 1, "agent_id": "assistant", "timestamp": ANY, **recorded}]
