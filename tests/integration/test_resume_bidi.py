"""A BidiAgent's transcripts are stored as they complete, and resume."""

from __future__ import annotations

from typing import Any

import pytest
from strands import tool
from strands.bidi import BidiAgent
from strands.bidi.hooks import BidiAgentStopEvent
from strands.hooks import HookOrder, MessageAddedEvent, MessageUpdatedEvent

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.bidi import (
    AfterSends,
    Step,
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
from tests.support.models import texts
from tests.support.resume import check_accepted


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


GREETING = [
    *spoken("user", "Hello ", "there.", content_id="u1"),
    *response(spoken("assistant", "Hi!", content_id="a1")),
]


async def check_bidi_resumes(sessions: Sessions, live: BidiAgent, **agent_kwargs: Any) -> BidiAgent:
    async with sessions.manager() as manager:
        resumed = make_bidi_agent(manager, **agent_kwargs)
    assert resumed.messages == live.messages
    assert resumed.state.get() == live.state.get()
    return resumed


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param([GREETING], ["Hello there.", "Hi!"], id="completed"),
        pytest.param([[*GREETING, *unfinished("user", "And", content_id="u2")]], None, id="unfinished"),
        pytest.param([[*GREETING, *interruption()]], ["Hello there.", "Hi!"], id="interrupted"),
        pytest.param(
            [[*GREETING, *connection_lost()], response(written("Back again.", content_id="a2"))],
            ["Hello there.", "Hi!", "Back again."],
            id="reconnected",
        ),
    ],
)
async def test_transcripts_resume(
    sessions: Sessions, script: list[list[Step]], expected: list[str] | None, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_bidi_agent(manager, *script, state={"mood": "good"})
        await converse(live)

        resumed = await check_bidi_resumes(sessions, live)

    assert len(sessions.messages()) == len(live.messages)
    if expected is not None:
        assert texts(resumed.messages) == sessions.texts() == expected


async def test_the_next_connection_starts_with_what_was_said_before(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        await converse(make_bidi_agent(manager, GREETING))
    async with sessions.manager() as manager:
        resumed = make_bidi_agent(manager, response(written("Still here.", content_id="a2")))
        await converse(resumed)

        assert texts(bidi_model_of(resumed).histories[0]) == ["Hello there.", "Hi!"]
        await check_bidi_resumes(sessions, resumed)

    assert sessions.texts() == ["Hello there.", "Hi!", "Still here."]


async def test_tool_calls_resume(sessions: Sessions) -> None:
    script: list[Step] = [
        *GREETING,
        *response(tool_calls(("t-1", "double", {"number": 4})), response_id="r-1"),
        AfterSends(1),
        *response(written("Eight.", content_id="a2"), response_id="r-2"),
    ]
    async with sessions.manager() as manager:
        live = make_bidi_agent(manager, script, tools=[double])
        await converse(live)

        resumed = await check_bidi_resumes(sessions, live, tools=[double])

    results = [block["toolResult"] for m in resumed.messages for block in m["content"] if "toolResult" in block]
    assert results[-1]["content"] == [{"text": "8"}]
    check_accepted(resumed.messages)


async def test_every_completed_transcript_is_stored_before_the_agent_stops(sessions: Sessions) -> None:
    stored: list[list[str]] = []
    async with sessions.manager(flush_on="invocation") as manager:
        live = make_bidi_agent(manager, GREETING)
        live.add_hook(lambda event: stored.append(sessions.texts()), BidiAgentStopEvent)
        await converse(live)

    assert stored == [["Hello there.", "Hi!"]]


async def test_a_transcript_that_a_hook_masks_first_in_a_copy_is_stored_masked_only(sessions: Sessions) -> None:
    def mask(event: MessageAddedEvent[Any] | MessageUpdatedEvent[Any]) -> None:
        messages = event.agent.messages
        messages[:] = [{**message, "content": [{"text": "[masked]"}]} for message in messages]

    async with sessions.manager() as manager:
        live = make_bidi_agent(manager, GREETING)
        live.hooks.add_callback([MessageAddedEvent, MessageUpdatedEvent], mask, order=HookOrder.SDK_FIRST)
        await converse(live)

    assert sessions.texts() == ["[masked]", "[masked]"]
    assert "Hello" not in str(sessions.document())


async def test_state_that_a_stop_hook_changes_resumes(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_bidi_agent(manager, GREETING, state={"calls": 0})
        live.add_hook(lambda event: live.state.set("calls", 1), BidiAgentStopEvent)
        await converse(live)

        resumed = await check_bidi_resumes(sessions, live)

    assert resumed.state.get() == {"calls": 1}
