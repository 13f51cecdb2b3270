"""What a conversation manager left of the conversation is what a resumed agent holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, streamed
from tests.support.models import Scripted, ScriptedModel, calls, texts
from tests.support.resume import check_resumes_as, held

OVERFLOW = ContextWindowOverflowException("the input is too long")
LONG = "begin " + "x" * 2000 + " end"

Managers = Callable[[], ConversationManager]


@tool
def lookup(word: str) -> str:
    """Look something up."""
    return LONG


@tool
def picture(name: str) -> dict[str, Any]:
    """Show a picture."""
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}
    return {"status": "success", "content": [{"text": "here"}, image]}


def summarizing(pin_first: int | None = None) -> SummarizingConversationManager:
    return SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2, pin_first=pin_first)


def lenient(*script: Scripted) -> ScriptedModel:
    """Return a model that takes what Strands gives it to summarize, which begins after the pinned messages."""
    return ScriptedModel(*script, otherwise="answer", strict=False)


async def talk(agent: Agent, turns: int, first: int = 0) -> None:
    for number in range(first, first + turns):
        await streamed(agent, f"question {number}")


@pytest.mark.matrix
@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize(
    "make_manager",
    [
        pytest.param(NullConversationManager, id="null"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=4), id="sliding"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=4, per_turn=True), id="per_turn"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=4, per_turn=2), id="per_second_turn"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=0), id="empty"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=4, pin_first=1), id="pinned"),
        pytest.param(lambda: SlidingWindowConversationManager(window_size=0, pin_first=2), id="only_pinned"),
    ],
)
async def test_a_window_resumes_as_it_was_and_goes_on(
    sessions: Sessions, make_manager: Managers, flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, conversation_manager=make_manager(), model=ScriptedModel(otherwise="answer"))
        for turn in range(5):
            await talk(live, 1, turn)
            await check_resumes_as(sessions, live, conversation_manager=make_manager())

    async with sessions.manager(flush_on=flush_on) as manager:
        resumed = make_agent(manager, conversation_manager=make_manager(), model=ScriptedModel(otherwise="answer"))
        assert held(resumed) == held(live)
        await talk(resumed, 3, 5)
        await check_resumes_as(sessions, resumed, conversation_manager=make_manager())

    assert len(sessions.texts()) == 16


@pytest.mark.parametrize("pin_first", [None, 1, 2])
async def test_pinned_messages_summary_and_rest_resume_in_their_order(
    sessions: Sessions, pin_first: int | None
) -> None:
    async with sessions.manager() as manager:
        model = lenient(*["answer"] * 4, OVERFLOW, "the summary")
        live = make_agent(manager, model=model, conversation_manager=summarizing(pin_first))
        await talk(live, 5)
        pinned = pin_first or 0
        assert texts(live.messages)[pinned] == "the summary"
        assert texts(live.messages)[:pinned] == ["question 0", "answer"][:pinned]
        await check_resumes_as(sessions, live, conversation_manager=summarizing(pin_first))

    async with sessions.manager() as manager:
        model = lenient("answer", OVERFLOW, "a later summary")
        resumed = make_agent(manager, model=model, conversation_manager=summarizing(pin_first))
        await talk(resumed, 2, 5)
        assert "a later summary" in texts(resumed.messages)
        assert "the summary" not in texts(resumed.messages)
        await check_resumes_as(sessions, resumed, conversation_manager=summarizing(pin_first))

    assert sessions.texts() == [text for n in range(7) for text in (f"question {n}", "answer")]


async def test_a_summary_of_tool_calls_resumes_with_what_follows(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        model = lenient(calls(("lookup", {"word": "a"})), "answer", "answer", "answer", OVERFLOW, "the summary")
        live = make_agent(manager, model=model, tools=[lookup], conversation_manager=summarizing(1))
        await talk(live, 4)

        assert texts(live.messages)[:2] == ["question 0", "the summary"]
        await check_resumes_as(sessions, live, tools=[lookup], conversation_manager=summarizing(1))


async def test_results_truncated_after_an_overflow_resume_truncated_and_are_stored_in_full(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        script: list[Scripted] = [calls(("lookup", {"word": "a"}), ("picture", {"name": "b"})), OVERFLOW, "answer"]
        live = make_agent(manager, *script, tools=[lookup, picture])

        await talk(live, 1)

        result = live.messages[2]["content"]
        assert "truncated" in result[0]["toolResult"]["content"][0]["text"]
        assert result[1]["toolResult"]["content"][1] == {"text": "[image: png, 6 bytes]"}
        await check_resumes_as(sessions, live, tools=[lookup, picture])

    stored = sessions.messages()[2]["content"]
    assert stored[0]["toolResult"]["content"] == [{"text": LONG}]
    assert stored[1]["toolResult"]["content"][1]["image"]["source"]["bytes"] == b"\x89PNG\x00\xff"


async def test_a_message_pinned_and_unpinned_later_resumes_so(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, model=ScriptedModel(otherwise="answer"))
        await talk(live, 1)
        live.messages[0]["metadata"] = {"custom": {"pinned": True, "by": "Ada"}}
        await talk(live, 1, 1)
        await check_resumes_as(sessions, live)

        del live.messages[0]["metadata"]
        await talk(live, 1, 2)

        resumed = await check_resumes_as(sessions, live)
        assert "metadata" not in resumed.messages[0]


async def test_a_replaced_message_list_resumes(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, model=ScriptedModel(otherwise="answer"))
        await talk(live, 3)

        live.messages = [*live.messages[:2], *live.messages[4:]]
        await talk(live, 1, 3)

        await check_resumes_as(sessions, live)
    assert len(sessions.texts()) == 8


class Reminding(NullConversationManager):
    """Keeps a note of its own in front, and makes it anew when it is restored."""

    def __init__(self) -> None:
        super().__init__()
        self.note = "Remember the milk."

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "note": self.note}

    def restore_from_session(self, state: dict[str, Any]) -> list[Message]:
        super().restore_from_session(state)
        return [self._message()]

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        if self.note not in texts(agent.messages):
            agent.messages.insert(0, self._message())

    def _message(self) -> Message:
        return {"role": "user", "content": [{"text": self.note}]}


async def test_what_a_custom_manager_puts_in_front_resumes_once(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, model=ScriptedModel(otherwise="answer"), conversation_manager=Reminding())
        await talk(live, 2)

        resumed = await check_resumes_as(sessions, live, conversation_manager=Reminding())
        assert texts(resumed.messages).count("Remember the milk.") == 1
