"""However a conversation came about, a resumed agent holds what the live one held, message by message."""

from __future__ import annotations

import copy
import re
import threading
from typing import Any

import pytest
from strands import tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.agent.state import AgentState
from strands.hooks import AfterModelCallEvent, BeforeModelCallEvent, MessageAddedEvent
from strands.types.content import Message, Messages
from strands.types.exceptions import EventLoopException

from mongodb_session_manager import CorruptMessageError, MessageTooLargeError
from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.agents import make_agent, model_of, streamed
from tests.support.models import Scripted, ScriptedModel, blocked, calls, texts
from tests.support.resume import check_accepted, check_resumes_as, check_same_messages, resume


@tool
def double(number: int) -> str:
    """Double a number."""
    return str(2 * number)


@tool
def fail(number: int) -> str:
    """Fail."""
    raise RuntimeError("no such number")


def user(*content: Any) -> Message:
    return {"role": "user", "content": [{"text": block} if isinstance(block, str) else block for block in content]}


def assistant(*content: Any) -> Message:
    return {**user(*content), "role": "assistant"}


def use(use_id: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": use_id, "name": "double", "input": {"number": 1}}}


def result(use_id: str) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": use_id, "status": "success", "content": [{"text": "2"}]}}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_parallel_and_failed_tool_calls_resume(sessions: Sessions, flush_on: FlushOn) -> None:
    tools = [double, fail]
    async with sessions.manager(flush_on=flush_on) as manager:
        script: list[Scripted] = [calls(("double", {"number": 1}), ("fail", {"number": 2}), text="Let me see."), "done"]
        live = make_agent(manager, *script, tools=tools)
        await streamed(live, "Work.")
        live.tool.double(number=3)
        await manager.flush()

        resumed = await check_resumes_as(sessions, live, tools=tools)

    assert len(resumed.messages) == 8
    check_accepted(resumed.messages)


async def test_bytes_and_documents_resume(sessions: Sessions) -> None:
    blocks: list[Any] = [
        {"text": "What is this?"},
        {"image": {"format": "png", "source": {"bytes": bytes(range(256))}}},
        {"document": {"format": "pdf", "name": "paper", "source": {"bytes": b"%PDF-\x00"}}},
    ]
    async with sessions.manager() as manager:
        live = make_agent(manager, "A picture and a paper.")
        await streamed(live, blocks)

        resumed = await check_resumes_as(sessions, live)

    assert resumed.messages[0]["content"][1]["image"]["source"]["bytes"] == bytes(range(256))


async def test_several_agents_resume_each_with_its_own(sessions: Sessions) -> None:
    names = ["assistant", "sales.eu", "100%", "$", "", "naïve 🦆"]
    async with sessions.manager() as manager:
        live = [make_agent(manager, f"I am {name}.", agent_id=name, state={"me": name}) for name in names]
        for agent in live:
            await streamed(agent, "Who are you?")

        for agent in live:
            await check_resumes_as(sessions, agent)


async def test_state_resumes_also_when_the_state_object_was_replaced(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, *["ok"] * 3, state={"count": 1, "deep": {"a.b": [1, None], "$x": {"": "empty"}}})
        await streamed(live, "one")
        live.state.set("count", 2)
        live.state.delete("deep")
        await streamed(live, "two")
        await check_resumes_as(sessions, live)

        live.state = AgentState({"fresh": True})
        await streamed(live, "three")

        resumed = await check_resumes_as(sessions, live)
        assert resumed.state.get() == {"fresh": True}


async def test_a_user_may_say_the_same_twice(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "Sure?", "Really?", "ok")
        for _ in range(3):
            await streamed(live, "yes")

        await check_resumes_as(sessions, live)

    assert sessions.texts() == ["yes", "Sure?", "yes", "Really?", "yes", "ok"]


@pytest.mark.parametrize("window_size", [40, 2, 0])
@pytest.mark.parametrize("copied", [False, True])
async def test_one_prompt_object_passed_again_after_a_failed_model_call_is_stored_each_time(
    sessions: Sessions, window_size: int, copied: bool
) -> None:
    prompt: Messages = [user("Do it.")]
    async with sessions.manager() as manager:
        live = make_agent(
            manager,
            RuntimeError("overloaded"),
            "done",
            "again",
            conversation_manager=SlidingWindowConversationManager(window_size=window_size),
        )
        with pytest.raises(RuntimeError, match="overloaded"):
            await streamed(live, prompt)
        await streamed(live, copy.deepcopy(prompt) if copied else prompt)
        await streamed(live, prompt)

        await check_resumes_as(
            sessions, live, conversation_manager=SlidingWindowConversationManager(window_size=window_size)
        )

    assert sessions.texts() == ["Do it.", "Do it.", "done", "Do it.", "again"]


async def test_a_redaction_of_a_prompt_passed_twice_leaves_no_original(sessions: Sessions) -> None:
    prompt: Messages = [user("my secret")]
    async with sessions.manager() as manager:
        live = make_agent(manager, RuntimeError("overloaded"), blocked(user="[redacted]", text="no"), "ok")
        with pytest.raises(RuntimeError):
            await streamed(live, prompt)
        await streamed(live, prompt)
        await streamed(live, "go on")

        await check_resumes_as(sessions, live)

    assert sessions.texts() == ["[redacted]", "[redacted]", "no", "go on", "ok"]
    assert "my secret" not in repr(sessions.document())


async def test_a_redaction_with_another_message_than_the_agents_leaves_no_original(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "an answer", "ok")
        await streamed(live, "a question")
        manager.redact_latest_message(assistant("[redacted]"), live)
        await streamed(live, "go on")
        manager.sync_agent(live)

        resumed = await resume(sessions)

    assert texts(resumed.messages) == sessions.texts() == ["a question", "[redacted]", "go on", "ok"]
    assert "an answer" not in repr(sessions.document())


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_a_redaction_is_of_the_latest_message_where_another_was_put_in_before_it(
    sessions: Sessions, flush_on: FlushOn
) -> None:
    """As context managers do before a model is called, without an event."""

    def mark(event: BeforeModelCallEvent) -> None:
        if len(event.agent.messages) == 3:
            event.agent.messages.insert(1, assistant("[1 left out]"))
            manager.sync_agent(event.agent)

    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "hello", blocked(user="[redacted]", text="no"), "ok")
        live.add_hook(mark, BeforeModelCallEvent)
        await streamed(live, "hi")
        await streamed(live, "my secret")
        await streamed(live, "go on")

        resumed = await check_resumes_as(sessions, live)

    assert texts(resumed.messages) == ["hi", "[1 left out]", "hello", "[redacted]", "no", "go on", "ok"]
    assert "my secret" not in repr(sessions.document())
    [event] = sessions.document()["guardrail_events"]
    assert sessions.texts()[event["message_id"]] == "[redacted]"


async def test_a_redaction_by_hand_is_of_the_latest_message_where_another_was_put_in_before_it(
    sessions: Sessions,
) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "my secret", "ok")
        await streamed(live, "hi")
        live.messages.insert(1, assistant("[1 left out]"))
        manager.sync_agent(live)
        manager.redact_latest_message(assistant("[redacted]"), live)

    assert texts((await resume(sessions)).messages) == ["hi", "[1 left out]", "[redacted]"]
    assert "my secret" not in repr(sessions.document())


async def test_a_redacted_message_pinned_later_resumes(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, blocked(user="[redacted]", text="no"), "ok")
        await streamed(live, "my secret")
        live.messages[0]["metadata"] = {"custom": {"pinned": True}}
        await streamed(live, "go on")

        await check_resumes_as(sessions, live)


async def test_messages_an_agent_was_built_with_resume(sessions: Sessions) -> None:
    before: Messages = [user("Hi."), assistant(use("t-1")), user(result("t-1")), assistant("Hello!")]
    async with sessions.manager() as manager:
        live = make_agent(manager, "ok", messages=before)
        await manager.flush()
        await check_resumes_as(sessions, live)
        await streamed(live, "go on")

        await check_resumes_as(sessions, live)

    assert len(sessions.texts()) == 6


async def test_a_loaded_snapshot_resumes(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, *["ok"] * 4, state={"step": 1})
        await streamed(live, "one")
        snapshot = live.take_snapshot(preset="session")
        live.state.set("step", 2)
        await streamed(live, "two")
        await streamed(live, "three")

        live.load_snapshot(snapshot)
        await streamed(live, "instead")

        resumed = await check_resumes_as(sessions, live)
        assert texts(resumed.messages) == ["one", "ok", "instead", "ok"]
        assert resumed.state.get() == {"step": 1}
    assert len(sessions.texts()) == 8


async def test_a_snapshot_of_messages_that_a_window_dropped_resumes(sessions: Sessions) -> None:
    def two() -> SlidingWindowConversationManager:
        return SlidingWindowConversationManager(window_size=2)

    async with sessions.manager() as manager:
        live = make_agent(manager, *["ok"] * 4, conversation_manager=two())
        await streamed(live, "one")
        snapshot = live.take_snapshot(preset="session")
        await streamed(live, "two")
        await streamed(live, "three")

        live.load_snapshot(snapshot)
        live.conversation_manager = SlidingWindowConversationManager(window_size=10)
        await streamed(live, "instead")

        resumed = await resume(sessions, conversation_manager=SlidingWindowConversationManager(window_size=10))
        check_same_messages(live.messages, resumed.messages)
        assert texts(resumed.messages) == ["one", "ok", "instead", "ok"]


async def test_a_snapshot_of_another_session_resumes(sessions: Sessions) -> None:
    elsewhere = make_agent(None, calls(("double", {"number": 4})), "8", tools=[double])
    await streamed(elsewhere, "Double four.")
    async with sessions.manager() as manager:
        live = make_agent(manager, "ok", "8", "ok", tools=[double])
        await streamed(live, "Hi.")
        live.load_snapshot(elsewhere.take_snapshot(preset="session"))
        await streamed(live, "Thanks.")

        resumed = await check_resumes_as(sessions, live, tools=[double])

    assert texts(resumed.messages) == ["Double four.", "", "", "8", "Thanks.", "8"]


async def test_a_snapshot_from_before_a_truncation_resumes_in_full(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, calls(("double", {"number": 4})), "8", "ok", "ok", tools=[double])
        await streamed(live, "Double four.")
        snapshot = live.take_snapshot(preset="session")
        live.messages[2]["content"] = [{**live.messages[2]["content"][0]}]
        live.messages[2]["content"][0]["toolResult"] = {
            **live.messages[2]["content"][0]["toolResult"],
            "content": [{"text": "cut"}],
        }
        await streamed(live, "one")
        await check_resumes_as(sessions, live, tools=[double])

        live.load_snapshot(snapshot)
        await streamed(live, "two")

        resumed = await check_resumes_as(sessions, live, tools=[double])
        assert resumed.messages[2]["content"][0]["toolResult"]["content"] == [{"text": "8"}]


async def test_messages_that_are_put_in_without_an_event_resume_in_their_place(sessions: Sessions) -> None:
    """As interventions (feedback for the model) and context managers (notes in the middle) do."""
    async with sessions.manager() as manager:
        live = make_agent(manager, "first try", "second try", "ok")

        async def guide(event: AfterModelCallEvent) -> None:
            if len(model_of(live).requests) == 1:
                event.retry = True
                live.messages.append(user("Try again."))

        live.add_hook(guide, AfterModelCallEvent)
        await streamed(live, "Do it.")
        await check_resumes_as(sessions, live)
        live.messages.insert(1, assistant("[three messages were removed]"))
        await streamed(live, "go on")

        resumed = await check_resumes_as(sessions, live)

    said = ["Do it.", "[three messages were removed]", "Try again.", "second try", "go on", "ok"]
    assert texts(resumed.messages) == said
    assert sorted(sessions.texts()) == sorted(said)


async def test_a_message_found_before_its_event_comes_is_stored_once(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "ok")
        message = user("early")
        live.messages.append(message)
        manager.sync_agent(live)
        await live.hooks.invoke_callbacks_async(MessageAddedEvent(agent=live, message=message))
        await streamed(live, "late")

        await check_resumes_as(sessions, live)

    assert sessions.texts() == ["early", "late", "ok"]


async def test_a_merged_continuation_is_one_message(sessions: Sessions) -> None:
    """A background tool's result comes with a call of its own, which is merged into the assistant's last message."""
    answered = threading.Event()

    @tool
    def slow(number: int) -> str:
        """Double a number, slowly."""
        assert answered.wait(120)
        return str(2 * number)

    async with sessions.manager() as manager:
        script: list[Scripted] = [calls(("slow", {"number": 4})), "I am on it.", "It is 8."]
        live = make_agent(manager, *script, tools=[slow], background_tasks={"always": ["slow"]})

        def answer(event: AfterModelCallEvent) -> None:
            if len(model_of(live).requests) == 2:
                answered.set()

        live.add_hook(answer, AfterModelCallEvent)
        await streamed(live, "Double four.")

        resumed = await resume(sessions, tools=[slow])

    check_same_messages(live.messages, resumed.messages)
    assert [(message["role"], [next(iter(block)) for block in message["content"]]) for message in resumed.messages] == [
        ("user", ["text"]),
        ("assistant", ["toolUse"]),
        ("user", ["toolResult"]),
        ("assistant", ["text", "toolUse"]),
        ("user", ["toolResult"]),
        ("assistant", ["text"]),
    ]
    assert len(sessions.messages()) == 6


class ServerSide(ScriptedModel):
    """A model whose provider keeps the conversation."""

    @property
    def stateful(self) -> bool:
        return True


async def test_a_conversation_that_the_provider_keeps_resumes_by_its_id(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, model=ServerSide("one", "two"))

        def answered(event: BeforeModelCallEvent) -> None:
            event.agent._model_state["response_id"] = f"response-{len(sessions.recorder.commands)}"

        live.add_hook(answered, BeforeModelCallEvent)
        await streamed(live, "Hi.")
        await streamed(live, "Go on.")

        resumed = await check_resumes_as(sessions, live, model=ServerSide())

    assert resumed.messages == []
    assert sessions.texts() == ["Hi.", "one", "Go on.", "two"]


BROKEN: dict[str, list[Message]] = {
    "orphaned result": [user("hi"), assistant("yes?"), user(result("x")), assistant("ok")],
    "orphaned result beside text": [user("hi"), assistant("yes?"), user(result("x"), "so?"), assistant("ok")],
    "missing result": [user("hi"), assistant(use("a")), user("never mind"), assistant("ok")],
    "one of two missing": [user("hi"), assistant(use("a"), use("b")), user(result("b")), assistant("ok")],
    "stale result": [user("hi"), assistant(use("a")), user(result("z"), "and?"), assistant("ok")],
    "empty answer after a call": [user("hi"), assistant(use("a")), assistant(), user("so?"), assistant("ok")],
    "empty answer at the end": [user("hi"), assistant(use("a")), assistant()],
    "result at the start": [user(result("x")), user("hi"), assistant("ok")],
}


@pytest.mark.parametrize("messages", [pytest.param(m, id=name) for name, m in BROKEN.items()])
async def test_a_broken_history_is_repaired_and_resumes_as_repaired(sessions: Sessions, messages: Messages) -> None:
    async with sessions.manager() as manager:
        make_agent(manager, messages=copy.deepcopy(messages))
        await manager.flush()
    before = [message["content"] for message in sessions.messages()]

    async with sessions.manager() as manager:
        live = make_agent(manager, "one", "two")
        known = {m["tracking_id"] for m in sessions.messages()}
        made_up = {i for i, m in enumerate(live.messages) if m.get("tracking_id") not in known}
        await streamed(live, "go on")
        first = await resume(sessions)
        check_same_messages(live.messages, first.messages, synthetic=sorted(made_up))
        await streamed(live, "and on")

    again = await resume(sessions)
    check_same_messages(live.messages, again.messages, synthetic=sorted(made_up))
    assert [message["content"] for message in sessions.messages()[: len(before)]] == before
    assert len(sessions.messages()) == len(before) + 4


@pytest.mark.parametrize("messages", [pytest.param(m, id=name) for name, m in BROKEN.items()])
async def test_the_repair_of_a_broken_history_is_stored_once(sessions: Sessions, messages: Messages) -> None:
    async with sessions.manager() as manager:
        make_agent(manager, messages=copy.deepcopy(messages))
    revisions = []
    for _ in range(3):
        async with sessions.manager() as manager:
            live = make_agent(manager)
        assert live.messages
        revisions.append(sessions.document()["revision"])

    assert revisions == [revisions[0]] * 3


async def test_a_repaired_session_resumes_as_it_was_mended(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        make_agent(manager, messages=copy.deepcopy(BROKEN["one of two missing"]))
        report = await manager.repair_session(dry_run=False)

    assert report["mended"] == 1
    resumed = await resume(sessions)
    assert [block["toolResult"]["toolUseId"] for block in resumed.messages[2]["content"]] == ["a", "b"]
    check_accepted(resumed.messages)


def unstorable(kind: str) -> Any:
    if kind == "set":
        return {"text": "hi", "extra": {1, 2}}
    if kind == "no block":
        return ["hi"]
    if kind == "too deep":
        deep: Any = "core"
        for _ in range(200):
            deep = [deep]
        return {"text": "hi", "extra": deep}
    return {"text": "x" * (16 * 1024 * 1024)}


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
@pytest.mark.parametrize(
    ("kind", "error"),
    [("set", TypeError), ("no block", TypeError), ("too deep", ValueError), ("too large", MessageTooLargeError)],
)
async def test_a_message_that_cannot_be_stored_raises_once_and_leaves_a_placeholder(
    sessions: Sessions, kind: str, error: type[Exception], flush_on: FlushOn
) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, "one", "two", "three")
        await streamed(live, "before")
        with pytest.raises(error):
            await streamed(live, [user(unstorable(kind))])
        await streamed(live, "after")
        await streamed(live, "later")

    resumed = await resume(sessions)
    assert texts(resumed.messages)[:2] == ["before", "one"]
    assert re.fullmatch(r"\[not stored: .*\]", texts(resumed.messages)[2])
    assert texts(resumed.messages)[3:] == ["after", "two", "later", "three"]
    assert resumed.messages[2].get("tracking_id") == live.messages[2].get("tracking_id")
    check_accepted(resumed.messages)


@tool
def unstorable_result() -> dict[str, Any]:
    """Return what cannot be stored."""
    return {"status": "success", "content": [{"json": {"numbers": {1, 2}}}]}


async def test_a_tool_result_that_cannot_be_stored_keeps_its_pair_whole(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, calls(("unstorable_result", {})), "ok", tools=[unstorable_result])
        with pytest.raises(EventLoopException, match="cannot store a set"):
            await streamed(live, "Try.")

    resumed = await resume(sessions, "ok", tools=[unstorable_result])
    assert len(resumed.messages) == 3
    check_accepted(resumed.messages)


async def test_what_cannot_be_read_is_named_and_may_be_left_out(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        live = make_agent(manager, "one", "two", "three")
        await streamed(live, "first")
        await streamed(live, "second")
    sessions.raw.update_one({}, {"$unset": {"agents.assistant.messages.2.role": ""}})

    with pytest.raises(CorruptMessageError, match="message 2 of agent 'assistant'") as caught:
        await resume(sessions)
    assert (caught.value.agent_id, caught.value.message_id) == ("assistant", 2)
    async with sessions.manager(skip_corrupt_messages=True) as manager:
        live = make_agent(manager, "four")
        assert texts(live.messages) == ["first", "one", "two"]
        await streamed(live, "third")
        await check_resumes_as(sessions, live, manager_options={"skip_corrupt_messages": True})

    raw = sessions.raw.find_one({})
    assert raw is not None
    assert raw["agents"]["assistant"]["messages"][2]["content"] == [{"text": "second"}]


async def test_no_repair_puts_a_result_into_an_assistant_message(sessions: Sessions) -> None:
    """A call without a result, with an empty assistant message behind it, as an aborted turn leaves."""
    for name, messages in BROKEN.items():
        session_id = name.replace(" ", "-")
        async with sessions.manager(session_id) as manager:
            make_agent(manager, messages=copy.deepcopy(messages))
            await manager.flush()
        resumed = await resume(sessions, session_id=session_id)
        async with sessions.manager(session_id) as manager:
            await manager.repair_session(dry_run=False)
            assert not (await manager.repair_session())["broken"]
        for held_ in (resumed.messages, sessions.messages(session_id=session_id)):
            for message in held_:
                if message["role"] == "assistant":
                    assert not [block for block in message["content"] if "toolResult" in block], name
