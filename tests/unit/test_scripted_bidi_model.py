"""The scripted bidirectional model makes a real BidiAgent fire the events a session manager listens to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strands import tool
from strands.bidi import BidiAgent
from strands.bidi.hooks.events import BidiAgentStopEvent, BidiBeforeConnectionRestartEvent
from strands.hooks import MessageAddedEvent, MessageUpdatedEvent

from tests.support.bidi import (
    AfterSends,
    Pause,
    ScriptedBidiModel,
    bidi_model_of,
    connection_lost,
    converse,
    interruption,
    make_bidi_agent,
    response,
    spoken,
    tool_calls,
    unfinished,
    written,
)
from tests.support.models import check_history, texts


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


def recorded(agent: BidiAgent) -> list[str]:
    """Record the names of the lifecycle events, with the role of the message."""
    seen: list[str] = []
    for kind in (MessageAddedEvent, MessageUpdatedEvent, BidiAgentStopEvent, BidiBeforeConnectionRestartEvent):

        def note(event: Any, name: str = kind.__name__.removesuffix("Event")) -> None:
            seen.append(f"{name} {event.message['role']}" if hasattr(event, "message") else name)

        agent.add_hook(note, kind)
    return seen


async def test_transcripts_are_added_as_placeholders_and_then_completed() -> None:
    agent = make_bidi_agent(
        None,
        [
            *spoken("user", "What is ", "the time?", content_id="u1"),
            *response(spoken("assistant", "It is ", "noon.", content_id="a1")),
        ],
    )
    seen = recorded(agent)

    await converse(agent)

    assert seen == [
        "MessageAdded user",
        "MessageUpdated user",
        "MessageAdded assistant",
        "MessageUpdated assistant",
        "BidiAgentStop",
    ]
    assert texts(agent.messages) == ["What is the time?", "It is noon."]


async def test_an_assistant_may_answer_before_the_user_is_transcribed() -> None:
    first, *rest = spoken("user", "Hello", content_id="u1")
    agent = make_bidi_agent(None, [first, *response(written("Hi", content_id="a1")), *rest])
    seen = recorded(agent)

    await converse(agent)

    assert seen[:4] == [
        "MessageAdded user",
        "MessageAdded assistant",
        "MessageUpdated assistant",
        "MessageUpdated user",
    ]
    assert texts(agent.messages) == ["Hello", "Hi"]


async def test_tools_run_and_their_results_are_sent_back() -> None:
    script = [*spoken("user", "Double 2", content_id="u1"), *tool_calls(("t1", "double", {"number": 2})), AfterSends(1)]
    agent = make_bidi_agent(None, [*script, *spoken("assistant", "Four", content_id="a1")], tools=[double])

    await converse(agent)

    assert len(bidi_model_of(agent).sent) == 1
    results = [
        block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block
    ]
    assert results[-1]["content"] == [{"text": "4"}]
    check_history(agent.messages)


async def test_what_the_user_writes_reaches_the_model_and_the_history() -> None:
    agent = make_bidi_agent(None, [AfterSends(1), *response(written("Hi", content_id="a1"))])

    async with asyncio.timeout(120):
        await agent.start()
        await agent.send("Hello")
        events = [event async for event in agent.receive()]
        await agent.stop()

    assert events[-1]["type"] == "bidi_connection_stop"
    assert texts(agent.messages) == ["Hello", "Hi"]


async def test_a_lost_connection_is_restarted_with_the_history_so_far() -> None:
    agent = make_bidi_agent(
        None,
        [*spoken("user", "Hello", content_id="u1"), *connection_lost()],
        response(spoken("assistant", "Welcome back", content_id="a1")),
    )
    seen = recorded(agent)

    await converse(agent)

    assert "BidiBeforeConnectionRestart" in seen
    assert [texts(history) for history in bidi_model_of(agent).histories] == [[], ["Hello"]]
    assert texts(agent.messages) == ["Hello", "Welcome back"]


async def test_an_unfinished_transcript_is_closed_when_the_agent_stops() -> None:
    steps = [*unfinished("user", "Hel", content_id="u1"), *interruption()]
    agent = make_bidi_agent(None, model=ScriptedBidiModel(steps, stays_open=True))

    await converse(agent, until=4)

    assert texts(agent.messages) == ["[Transcript unavailable.]"]


async def test_a_pause_holds_the_script_until_the_test_goes_on() -> None:
    pause = Pause()
    agent = make_bidi_agent(None, spoken("user", "Hello", content_id="u1", pause=pause))
    conversation = asyncio.create_task(converse(agent))

    await pause.reached.wait()
    before = [message["content"] for message in agent.messages]
    pause.go()
    await conversation

    assert before == [[]]
    assert texts(agent.messages) == ["Hello"]


async def test_an_error_of_the_provider_reaches_the_receiver() -> None:
    agent = make_bidi_agent(None, [ConnectionError("gone")])

    with pytest.raises(ConnectionError, match="gone"):
        await converse(agent)
