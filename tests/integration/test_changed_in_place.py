"""What hooks and code change inside of messages that the agent holds comes back changed, as it does from a snapshot."""

from __future__ import annotations

from typing import Any

import pytest
from strands import ToolContext, tool
from strands.hooks import BeforeModelCallEvent, BeforeToolCallEvent, HookOrder, MessageAddedEvent

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, streamed
from tests.support.models import ScriptedModel, calls, texts
from tests.support.resume import check_resumes_as


@tool
def lookup(city: str, options: dict[str, Any] | None = None) -> str:
    """Say what is known of a city."""
    return f"{city}: {options}"


@tool(context=True)
def ask(question: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("ask", reason=question))


def an_item(event: BeforeToolCallEvent) -> None:
    event.tool_use["input"]["city"] = "Turku"


def a_nested_item(event: BeforeToolCallEvent) -> None:
    event.tool_use["input"]["options"]["key"] = "[masked]"


def the_whole_input(event: BeforeToolCallEvent) -> None:
    event.tool_use["input"] = {"city": "Turku"}


CHANGES = [an_item, a_nested_item, the_whole_input]


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("change", CHANGES)
async def test_an_input_that_a_hook_changes_before_the_tool_runs(
    sessions: Sessions, change: Any, flush_on: FlushOn
) -> None:
    def call(city: str) -> Any:
        return calls(("lookup", {"city": city, "options": {"key": "k"}}), ("lookup", {"city": "Oulu", "options": {}}))

    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, call("Vaasa"), call("Pori"), "Done.", tools=[lookup])
        live.add_hook(change, BeforeToolCallEvent)
        await streamed(live, "Look.")
        await check_resumes_as(sessions, live, tools=[lookup])

    given = [message["content"][0]["toolUse"]["input"]["city"] for message in sessions.messages()[1:4:2]]
    assert given == ["Vaasa", "Pori"], "what the model said stays beside it"


async def test_an_input_that_a_hook_changes_after_an_interrupt(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, calls(("ask", {"question": "May I?"})), "Done.", tools=[ask])
        interrupted = await live.invoke_async("Do it.")
        asked = interrupted.interrupts or ()
        answers: Any = [{"interruptResponse": {"interruptId": one.id, "response": "yes"}} for one in asked]
        live.add_hook(lambda event: event.tool_use["input"].update(question="[masked]"), BeforeToolCallEvent)
        await live.invoke_async(answers)

        resumed = await check_resumes_as(sessions, live, tools=[ask])

    assert resumed.messages[1]["content"][0]["toolUse"]["input"] == {"question": "[masked]"}


async def test_a_hook_that_changes_no_input_costs_no_command(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, calls(("lookup", {"city": "Oulu"})), "Done.", tools=[lookup])
        live.add_hook(lambda event: event.tool_use["input"].update(city="Oulu"), BeforeToolCallEvent)
        with sessions.recorder.counting() as commands:
            await streamed(live, "Look.")

    assert commands.names == ["update"] * 4


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_text_that_a_hook_masks_when_it_is_added(sessions: Sessions, flush_on: FlushOn) -> None:
    def mask(event: MessageAddedEvent) -> None:
        for block in event.message["content"]:
            block["text"] = block["text"].replace("4711", "[number]")

    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "You said 4711.", "Fine.")
        live.add_hook(mask, MessageAddedEvent)
        await streamed(live, "My number is 4711.")
        resumed = await check_resumes_as(sessions, live)
        await streamed(live, "Good.")
        await check_resumes_as(sessions, live)

    assert texts(resumed.messages) == ["My number is [number].", "You said [number]."]


def in_place(event: MessageAddedEvent) -> None:
    event.message["content"] = [{"text": "[masked]"}]


def in_a_copy(event: MessageAddedEvent) -> None:
    event.agent.messages[-1] = {**event.message, "content": [{"text": "[masked]"}]}


def in_another_message(event: MessageAddedEvent) -> None:
    event.agent.messages[-1] = {"role": event.message["role"], "content": [{"text": "[masked]"}]}


def in_another_list(event: MessageAddedEvent) -> None:
    event.agent.messages = [{**message, "content": [{"text": "[masked]"}]} for message in event.agent.messages]


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize("mask", [in_place, in_a_copy, in_another_message, in_another_list])
async def test_a_text_that_a_hook_masks_first_is_stored_masked_only(
    sessions: Sessions, mask: Any, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "You said 4711.", "4711, yes.")
        live.add_hook(mask, MessageAddedEvent, order=HookOrder.SDK_FIRST)
        await streamed(live, "My number is 4711.")
        await check_resumes_as(sessions, live)
        await streamed(live, "4711?")
        await check_resumes_as(sessions, live)

    assert sessions.texts() == ["[masked]"] * 4
    assert "4711" not in str(sessions.document())


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("order", [HookOrder.SDK_FIRST, HookOrder.DEFAULT])
async def test_a_message_that_a_hook_takes_out_when_it_is_added_stays_out(
    sessions: Sessions, order: float, role: str
) -> None:
    def take_out(event: MessageAddedEvent) -> None:
        if event.message["role"] == role:
            event.agent.messages.remove(event.message)

    async with sessions.manager() as manager:
        live = make_agent(manager, model=ScriptedModel("Hello.", "Fine.", strict=False))
        live.add_hook(take_out, MessageAddedEvent, order=order)
        await streamed(live, "Hi.")
        await check_resumes_as(sessions, live)
        await streamed(live, "How are you?")
        await check_resumes_as(sessions, live)

    assert sessions.texts() == ["Hi.", "Hello.", "How are you?", "Fine."], "all that was said is stored"


async def test_a_text_that_a_hook_changes_before_the_model_is_called(sessions: Sessions) -> None:
    def translate(event: BeforeModelCallEvent) -> None:
        event.agent.messages[0]["content"][0]["text"] = "Moi."

    async with sessions.manager() as manager:
        live = make_agent(manager, "Moi!")
        live.add_hook(translate, BeforeModelCallEvent)
        await streamed(live, "Hi.")

        assert texts((await check_resumes_as(sessions, live)).messages) == ["Moi.", "Moi!"]


@pytest.mark.parametrize("size", [10, 5 * 1024 * 1024])
async def test_an_image_that_code_takes_out_of_the_history(sessions: Sessions, size: int) -> None:
    image: Any = {"image": {"format": "png", "source": {"bytes": b"\x89PNG" * size}}}
    async with sessions.manager() as manager:
        live = make_agent(manager, "A cat.", "Yes.")
        await streamed(live, [image, {"text": "What is it?"}])
        live.messages[0]["content"][0]["image"]["source"]["bytes"] = b""
        await streamed(live, "Really?")

        resumed = await check_resumes_as(sessions, live)

    assert resumed.messages[0]["content"][0]["image"]["source"] == {"bytes": b""}


@pytest.mark.parametrize("synced", [True, False])
async def test_a_text_that_code_changes_outside_of_an_invocation(sessions: Sessions, synced: bool) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "Hello!", tools=[lookup])
        await streamed(live, "Hi.")
        live.messages[1]["content"][0]["text"] = "Good day."
        if synced:
            manager.sync_agent(live)
            await manager.flush()
            await check_resumes_as(sessions, live)

    assert texts((await check_resumes_as(sessions, live)).messages) == ["Hi.", "Good day."]
