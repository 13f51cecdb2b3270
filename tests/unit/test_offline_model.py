"""The offline model, driven by real agents."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.types.content import Messages
from strands.types.streaming import StreamEvent

from mongodb_session_manager.offline import OfflineModel
from tests.support.agents import make_agent, stream_of
from tests.support.models import check_history


class Tools:
    """Tools that keep what they were given."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.state: dict[str, Any] = {}

    def all(self) -> list[Any]:
        @tool
        def manage_metadata(action: str, metadata: dict[str, Any] | None = None, keys: list[str] | None = None) -> str:
            """Keep facts about the session."""
            if action == "get":
                return f"All metadata: {json.dumps(self.metadata)}"
            if action == "delete":
                for key in keys or []:
                    del self.metadata[key]
                return f"Successfully deleted metadata fields: {keys}"
            self.metadata.update(metadata or {})
            return f"Successfully updated metadata fields: {list(metadata or {})}"

        @tool
        def calculator(expression: str) -> str:
            """Calculate."""
            return {"6 * 7": "42", "2 + 2": "4"}[expression]

        @tool
        def set_state(key: str, value: str) -> str:
            """Set a value."""
            self.state[key] = value
            return "saved"

        @tool
        def get_state(key: str) -> str:
            """Get a value."""
            return str(self.state.get(key))

        @tool
        def roll_dice(sides: int, label: str = "") -> str:
            """Roll."""
            return f"{label}{sides + 1}"

        return [manage_metadata, calculator, set_state, get_state, roll_dice]


def offline_agent(tools: Tools | None = None, **kwargs: Any) -> Agent:
    return make_agent(None, model=OfflineModel(), tools=tools.all() if tools else [], **kwargs)


def calls_in(messages: Messages) -> list[tuple[str, Any]]:
    uses = [block["toolUse"] for message in messages for block in message["content"] if "toolUse" in block]
    return [(use["name"], use["input"]) for use in uses]


def reply(agent: Agent, prompt: str) -> str:
    return str(agent(prompt)).strip()


@pytest.mark.parametrize(
    ("told", "question", "answer"),
    [
        ("My name is Alice", "What is my name?", "Your name is Alice."),
        ("I'm Bob.", "Who am I?", "Your name is Bob."),
        ("Call me Ishmael.", "what's my name", "Your name is Ishmael."),
        ("I live in New York.", "Where do I live?", "You live in New York."),
        (
            "My favourite colour is dark blue.",
            "Do you know my favourite colour?",
            "Your favourite colour is dark blue.",
        ),
        ("My age is 36, and I live in Rome.", "Tell me my age.", "Your age is 36."),
        ("My score is 2.5.", "Do you remember what my score is?", "Your score is 2.5."),
    ],
)
def test_a_stated_fact_is_known_later(told: str, question: str, answer: str) -> None:
    agent = offline_agent()

    agent(told)

    assert reply(agent, question) == answer


def test_one_question_may_ask_for_several_facts() -> None:
    agent = offline_agent()
    agent("My name is Ada and I am planning a trip to Lisbon.")

    assert reply(agent, "What is my name, and where am I going?") == "Your name is Ada, and you are going to Lisbon."


def test_the_latest_statement_wins() -> None:
    agent = offline_agent()
    agent("My name is Ada.")
    agent("My name is Grace.")

    assert reply(agent, "What is my name?") == "Your name is Grace."


def test_an_unknown_fact_is_admitted() -> None:
    asked = "What is my name, and where am I going?"

    assert reply(offline_agent(), asked) == "I do not know your name, and I do not know where you are going."


def test_a_question_states_nothing() -> None:
    agent = offline_agent()

    agent("Is it true that my name is Bob?")

    assert reply(agent, "What is my name?") == "I do not know your name."


def test_a_forgotten_history_shows() -> None:
    agent = offline_agent()
    agent("My name is Ada.")

    agent.messages.clear()

    assert reply(agent, "What is my name?") == "I do not know your name."


def test_a_sliding_window_forgets_what_slid_out() -> None:
    agent = offline_agent(conversation_manager=SlidingWindowConversationManager(window_size=2))
    agent("My name is Ada.")
    agent("Hello")
    agent("Hello")

    assert reply(agent, "What is my name?") == "I do not know your name."


def test_a_summary_carries_facts_over() -> None:
    manager = SummarizingConversationManager(summary_ratio=0.8, preserve_recent_messages=2)
    agent = offline_agent(conversation_manager=manager)
    for prompt in ("My name is Ada.", "Hello", "Hello again", "I live in Rome."):
        agent(prompt)
    before = len(agent.messages)

    manager.reduce_context(agent)

    assert len(agent.messages) < before
    assert reply(agent, "What is my name?") == "Your name is Ada."


def test_it_stores_shows_and_deletes_metadata() -> None:
    tools = Tools()
    agent = offline_agent(tools)

    stored = reply(agent, "Please remember that my preferred language is Portuguese.")
    agent("Note that I hate mondays.")
    shown = reply(agent, "What do you know about me?")
    agent("Forget my preferred language.")

    assert stored == "I have stored it: Your preferred language is Portuguese."
    assert '"preferred_language": "Portuguese"' in shown
    assert "From this conversation: Your preferred language is Portuguese." in shown
    assert tools.metadata == {"note": "I hate mondays"}
    assert [name for name, _ in calls_in(agent.messages)] == ["manage_metadata"] * 4


def test_without_a_metadata_tool_the_conversation_is_the_memory() -> None:
    agent = offline_agent()

    assert reply(agent, "Please remember that my seat is 12C.") == "Thank you. Your seat is 12C."
    assert reply(agent, "What do you know about me?") == "From this conversation: Your seat is 12C."


@pytest.mark.parametrize("prompt", ["What is 6 * 7?", "what is 6 times 7", "6 * 7"])
def test_it_calculates_with_a_calculator(prompt: str) -> None:
    agent = offline_agent(Tools())

    assert reply(agent, prompt) == "6 * 7 = 42"
    assert calls_in(agent.messages) == [("calculator", {"expression": "6 * 7"})]


@pytest.mark.parametrize("prompt", ["It was on 2024-01-01.", "I have 3 cats and 2 dogs", "version 1.62"])
def test_not_every_number_is_arithmetic(prompt: str) -> None:
    agent = offline_agent(Tools())

    agent(prompt)

    assert calls_in(agent.messages) == []


def test_it_sets_and_gets_state() -> None:
    tools = Tools()
    agent = offline_agent(tools)

    agent("Set theme to dark.")

    assert tools.state == {"theme": "dark"}
    assert reply(agent, "get theme") == "get_state answered: dark"


def test_a_tool_is_called_by_its_name_with_typed_arguments() -> None:
    agent = offline_agent(Tools())

    assert reply(agent, "use roll_dice with sides=6, label='d6: '.") == "roll_dice answered: d6: 7"
    assert calls_in(agent.messages) == [("roll_dice", {"sides": 6, "label": "d6: "})]


def test_one_prompt_may_need_several_tools_at_once() -> None:
    tools = Tools()
    agent = offline_agent(tools)
    agent("My name is Ada.")

    text = reply(agent, "What is 2 + 2? Remember that my seat is 12C. What is my name?")

    assert text == "2 + 2 = 4 I have stored it: Your seat is 12C. Your name is Ada."
    assert len(agent.messages[-3]["content"]) == 2
    check_history(agent.messages)


def test_a_failing_tool_is_reported() -> None:
    agent = offline_agent(Tools())

    assert reply(agent, "What is 1 / 3?").startswith("calculator did not work: Error:")


def test_tools_that_are_not_offered_are_not_called() -> None:
    agent = offline_agent()

    assert "3 messages" not in reply(agent, "What is 6 * 7?")
    assert calls_in(agent.messages) == []


def test_it_says_how_much_it_was_told() -> None:
    agent = offline_agent()
    agent("My name is Ada.")

    assert reply(agent, "blah").startswith("I have 2 messages from you")
    assert reply(agent, "What did I just say?") == 'You said: "blah"'


class Traveller(BaseModel):
    name: str
    age: int = Field(ge=18)
    seat: Literal["aisle", "window"]
    bags: list[str]
    home: str | None = None


def test_structured_output_is_built_from_facts() -> None:
    agent = offline_agent(Tools())
    agent("My name is Ada and my age is 36.")

    result = agent("Who am I?", structured_output_model=Traveller)

    assert result.structured_output == Traveller(name="Ada", age=36, seat="aisle", bags=[])
    check_history(agent.messages)


async def test_direct_structured_output_fills_what_is_unknown() -> None:
    messages: Messages = [{"role": "user", "content": [{"text": "My age is unknown. I live in Rome."}]}]

    events = [event async for event in OfflineModel().structured_output(Traveller, messages)]

    assert events == [{"output": Traveller(name="unknown", age=18, seat="aisle", bags=[], home="Rome")}]


async def stream_events(model: OfflineModel, prompt: str) -> list[StreamEvent]:
    messages: Messages = [{"role": "user", "content": [{"text": prompt}]}]
    return [event async for event in model.stream(messages, system_prompt="Be brief.")]


async def test_it_streams_in_the_order_of_a_provider() -> None:
    events = await stream_events(OfflineModel(), "My name is Ada.")

    assert [next(iter(event)) for event in events] == [
        "messageStart",
        "contentBlockStart",
        *["contentBlockDelta"] * 6,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert events[-2] == {"messageStop": {"stopReason": "end_turn"}}
    usage, metrics = events[-1]["metadata"]["usage"], events[-1]["metadata"]["metrics"]
    assert usage["inputTokens"] > 0
    assert usage["outputTokens"] == len("Thank you. Your name is Ada.") / 4
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert metrics["latencyMs"] >= metrics["timeToFirstByteMs"] >= 0


async def test_a_longer_history_costs_more_input_tokens() -> None:
    agent = offline_agent()
    first = (await agent.invoke_async("Hello")).metrics.accumulated_usage["inputTokens"]

    both = (await agent.invoke_async("Hello")).metrics.accumulated_usage["inputTokens"]

    assert both - first > first


async def test_delays_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(delay: float) -> None:
        waited.append(delay)

    monkeypatch.setattr("mongodb_session_manager.offline.asyncio.sleep", sleep)

    await stream_events(OfflineModel(thinking_s=0.5, delay_s=0.1), "My name is Ada.")

    assert waited == [0.5, *[0.1] * 6]


async def test_the_same_messages_give_the_same_reply() -> None:
    first, second = [await stream_events(OfflineModel(), "use roll_dice") for _ in range(2)]

    assert first[:-1] == second[:-1]


async def test_many_agents_share_one_model() -> None:
    model = OfflineModel()

    async def conversation(number: int) -> str:
        agent = make_agent(None, model=model, agent_id=f"agent-{number}")
        await agent.invoke_async(f"My number is {number}.")
        return "".join([part async for part in stream_of(agent, "What is my number?")])

    answers = await asyncio.gather(*(conversation(number) for number in range(20)))

    assert answers == [f"Your number is {number}." for number in range(20)]


def test_configuration_is_checked_and_copied() -> None:
    model = OfflineModel("offline-2", delay_s=0.1)

    model.update_config(thinking_s=1.0)
    model.get_config()["delay_s"] = 99

    assert model.get_config() == {
        "model_id": "offline-2",
        "delay_s": 0.1,
        "thinking_s": 1.0,
        "context_window_limit": 200_000,
    }
    with pytest.raises(TypeError, match="temperature"):
        model.update_config(temperature=1)


def test_a_huge_prompt_is_read_in_no_time() -> None:
    agent = offline_agent(Tools())

    assert reply(agent, "my " * 50_000 + "a is b (" * 10_000).startswith("I have 1 message ")
