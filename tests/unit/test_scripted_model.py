"""The scripted model and the strict history check that other tests rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strands import ModelRetryStrategy, tool
from strands.types.content import Messages
from strands.types.exceptions import ModelThrottledException

from tests.support.agents import make_agent, model_of, streamed
from tests.support.models import HistoryRefusedError, Reply, ScriptedModel, blocked, calls, check_history, texts


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": [{"text": block} if isinstance(block, str) else block for block in blocks]}


def assistant(*blocks: Any) -> Any:
    return {**user(*blocks), "role": "assistant"}


def use(use_id: str) -> Any:
    return {"toolUse": {"toolUseId": use_id, "name": "double", "input": {}}}


def result(use_id: str) -> Any:
    return {"toolResult": {"toolUseId": use_id, "status": "success", "content": [{"text": "4"}]}}


async def test_replies_are_played_in_order_and_requests_recorded() -> None:
    agent = make_agent(None, "first", "second", system_prompt="Be brief.")

    assert [await streamed(agent, "one"), await streamed(agent, "two")] == ["first", "second"]

    model = model_of(agent)
    assert [texts(messages) for messages in model.requests] == [["one"], ["one", "first", "two"]]
    assert model.system_prompts == ["Be brief."] * 2
    assert model.remaining == 0


async def test_recorded_requests_are_copies() -> None:
    agent = make_agent(None, "first")
    await agent.invoke_async("one")

    agent.messages[0]["content"][0]["text"] = "changed"

    assert texts(model_of(agent).requests[0]) == ["one"]


async def test_tools_are_called_and_their_results_come_back() -> None:
    agent = make_agent(None, calls(("double", {"number": 2}), ("double", {"number": 3})), "done", tools=[double])

    await agent.invoke_async("go")

    assert model_of(agent).tool_specs == [["double"]] * 2
    results = [block["toolResult"]["content"] for block in model_of(agent).requests[1][2]["content"]]
    assert sorted(content[0]["text"] for content in results) == ["4", "6"]


async def test_usage_is_reported_or_left_out() -> None:
    reporting, silent = make_agent(None, "hi"), make_agent(None, Reply(text="hi", usage=None))

    usages = [(await agent.invoke_async("go")).metrics.accumulated_usage for agent in (reporting, silent)]

    assert [usage["totalTokens"] for usage in usages] == [15, 0]


async def test_an_exception_is_raised_before_or_in_the_middle_of_the_stream() -> None:
    for failure in (ConnectionError("early"), Reply(text="half of it", error=ConnectionError("late"))):
        agent = make_agent(None, failure, "recovered")

        with pytest.raises(ConnectionError, match=r"early|late"):
            await agent.invoke_async("go")

        assert await streamed(agent, "again") == "recovered"


async def test_a_throttled_call_is_repeated_when_the_agent_is_told_to() -> None:
    retry = ModelRetryStrategy(max_attempts=2, initial_delay=0, max_delay=0)
    agent = make_agent(None, ModelThrottledException("slow down"), "ok", retry_strategy=retry)

    assert await streamed(agent, "go") == "ok"
    assert model_of(agent).remaining == 0


async def test_a_guardrail_replaces_both_sides() -> None:
    agent = make_agent(None, blocked(user="[user redacted]", assistant="[assistant redacted]", text="secret"))

    outcome = await agent.invoke_async("my secret")

    assert outcome.stop_reason == "guardrail_intervened"
    assert texts(agent.messages) == ["[user redacted]", "[assistant redacted]"]


async def test_a_guardrail_may_replace_the_user_only() -> None:
    agent = make_agent(None, blocked(user="[user redacted]", text="I cannot help with that"))

    await agent.invoke_async("my secret")

    assert texts(agent.messages) == ["[user redacted]", "I cannot help with that"]


async def test_a_reply_can_be_held() -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go.wait()

    agent = make_agent(None, Reply(text="held", before=hold))
    turn = asyncio.create_task(streamed(agent, "go"))
    await reached.wait()
    assert not turn.done()

    go.set()

    assert await turn == "held"


async def test_a_reply_can_depend_on_the_messages() -> None:
    agent = make_agent(None, lambda messages: f"you said {texts(messages)[-1]}")

    assert await streamed(agent, "hello") == "you said hello"


async def test_a_call_after_the_script_is_an_error_unless_provided_for() -> None:
    with pytest.raises(AssertionError, match="0 replies, and this is call number 1"):
        await make_agent(None).invoke_async("go")

    assert await streamed(make_agent(None, model=ScriptedModel("a", otherwise="b")), "go") == "a"
    assert await streamed(make_agent(None, model=ScriptedModel(otherwise="b")), "go") == "b"


async def test_a_broken_history_never_reaches_a_reply() -> None:
    agent = make_agent(None, "never said", messages=[user("double 2"), assistant(use("1")), user("so?")])

    with pytest.raises(HistoryRefusedError, match="does not answer"):
        await agent.invoke_async("again")


@pytest.mark.parametrize(
    "messages",
    [
        [user("hi")],
        [user("hi"), assistant("hello"), user("hi again")],
        [user("hi"), user("hi")],
        [user("double"), assistant("I will", use("1"), use("2")), user(result("2"), result("1"))],
        [user("double"), assistant(use("1")), user(result("1"), "and now?"), assistant("4")],
        [user("double"), assistant(use("1")), user(result("1")), assistant(use("1")), user(result("1"))],
    ],
)
def test_sound_histories_are_accepted(messages: Messages) -> None:
    check_history(messages)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no messages"),
        ([assistant("hello")], "first message"),
        ([user(result("1"))], "never asked"),
        ([{"role": "system", "content": [{"text": "x"}]}], "first message"),
        ([user("hi"), {"role": "tool", "content": [{"text": "x"}]}], "has role 'tool'"),
        ([user("hi"), assistant()], "no content"),
        ([user("  ")], "blank"),
        ([user("double"), assistant(use("1"))], "nothing answers"),
        ([user("double"), assistant(use("1")), user("well?")], "does not answer"),
        ([user("double"), assistant(use("1")), assistant("4")], "does not answer"),
        ([user("double"), assistant(use("1"), use("2")), user(result("1"))], r"does not answer \['2'\]"),
        ([user("double"), assistant(use("1")), user("wait"), user(result("1"))], "does not answer"),
        ([user("double"), assistant(use("1")), user(result("1")), user(result("1"))], "never asked"),
        ([user("double"), assistant(use("1")), user(result("1"), result("1"))], "twice"),
        ([user("double"), assistant(use("1")), assistant(result("1"))], "results of an assistant"),
        ([user("double"), assistant(use("1"), use("1")), user(result("1"))], "of one id"),
        ([user("double", use("1")), user(result("1"))], "tool call of the user"),
    ],
)
def test_broken_histories_are_refused(messages: Messages, reason: str) -> None:
    with pytest.raises(HistoryRefusedError, match=reason):
        check_history(messages)


def test_alternation_is_checked_when_asked_for() -> None:
    with pytest.raises(HistoryRefusedError, match="both of the user"):
        check_history([user("hi"), user("hi")], alternating=True)
