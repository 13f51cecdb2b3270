"""The manager's side of one live agent, without a server: what it notes of messages, rewriting, state and window."""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands import Agent
from strands.types.content import Message
from strands.types.exceptions import SessionException

from mongodb_session_manager.schema.windows import contains
from mongodb_session_manager.session.pending import PendingChanges
from mongodb_session_manager.session.pending_agent import PendingAgent
from mongodb_session_manager.session.record import Origin, RecordState
from mongodb_session_manager.session.tracker import AgentTracker
from mongodb_session_manager.store.loaded import StoredSession
from tests.support.agents import make_agent
from tests.support.documents import DocumentInMemory
from tests.support.models import ScriptedModel, text_of

KEY = "assistant"


def said(text: str, role: Any = "user") -> Message:
    return {"role": role, "content": [{"text": text}]}


def a_result(text: str) -> Message:
    result: Any = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": text}]}}
    return {"role": "user", "content": [result]}


@dataclass
class Tracked:
    """A live agent with its tracker, and a document in memory that takes what is pending."""

    there: DocumentInMemory = field(default_factory=DocumentInMemory)
    agent: Agent = field(default_factory=lambda: make_agent(model=ScriptedModel()))

    def __post_init__(self) -> None:
        self.changes = PendingChanges(StoredSession.from_document(self.there.document))
        self.pending = self.changes.agents[KEY] = PendingAgent(KEY)
        self.tracker = AgentTracker(self.agent, self.changes, self.pending, None)

    def add(self, message: Message) -> Message:
        """Add a message as Strands does."""
        self.agent.messages.append(message)
        self.tracker.append(message, self.agent)
        return message

    def flush(self) -> int:
        """Capture and store what is pending; returns how many updates that took."""
        self.tracker.append_found(self.agent)
        self.tracker.capture(self.agent, final=False)
        batch = self.changes.freeze()
        for update in () if batch is None else batch.updates:
            assert self.there.apply(update)
            self.changes.acknowledge(update)
        return 0 if batch is None else len(batch.updates)

    @property
    def stored(self) -> list[str]:
        return [text_of(message) for message in self.there.messages(KEY)]  # type: ignore[arg-type]

    @property
    def window(self) -> list[str]:
        window = self.there.document["agents"][KEY]["window"]
        return [text for number, text in enumerate(self.stored) if contains(number, window)]


@pytest.fixture
def tracked() -> Tracked:
    return Tracked()


def test_what_is_said_is_stored_once_each_with_an_id_of_its_own(tracked: Tracked) -> None:
    for _ in range(3):
        tracked.add(said("yes"))
    tracked.flush()

    assert tracked.stored == ["yes"] * 3
    assert len({message["tracking_id"] for message in tracked.there.messages(KEY)}) == 3
    assert tracked.flush() == 0, "nothing changed, and something is written"


def test_one_message_that_is_passed_again_is_two_messages(tracked: Tracked) -> None:
    prompt = said("again")
    for _ in range(2):
        tracked.add(prompt)
    tracked.flush()
    assert tracked.stored == ["again", "again"]

    del tracked.agent.messages[0]
    tracked.flush()
    assert tracked.there.document["agents"][KEY]["window"] == [[1, None]], "the older one is what was dropped"


def test_a_message_by_hand_gives_way_to_the_equal_one_that_strands_adds(tracked: Tracked) -> None:
    tracked.tracker.append(said("Hi."), tracked.agent)
    tracked.add(said("Hi."))
    tracked.flush()
    assert tracked.stored == ["Hi."]


def test_the_answer_that_is_appended_by_hand_too_is_dropped(tracked: Tracked) -> None:
    tracked.add(said("Hi."))
    tracked.add(said("Hel", "assistant"))
    tracked.add(a_result("42"))
    tracked.add(said("lo!", "assistant"))
    assert tracked.tracker.append(said("Hello!", "assistant"), tracked.agent) is None
    assert tracked.tracker.append_once(tracked.agent.messages[0], tracked.agent) is None
    assert len(tracked.pending.records) == 4


def test_a_continuation_that_takes_the_last_message_s_place_is_no_other_message(tracked: Tracked) -> None:
    first = tracked.add(said("one"))
    tracked.flush()
    tracked.agent.messages.pop()
    merged: Any = {**first, "content": [*first["content"], {"text": " and two"}]}
    tracked.add(merged)
    tracked.flush()
    assert tracked.stored == ["one and two"]


def test_messages_without_an_event_are_found_where_they_stand(tracked: Tracked) -> None:
    tracked.add(said("one"))
    tracked.agent.messages.append(said("two", "assistant"))
    tracked.add(said("three"))
    tracked.agent.messages.append(said("four", "assistant"))
    tracked.flush()
    assert tracked.stored == ["one", "two", "three", "four"]
    # An event that comes late is no other message.
    tracked.tracker.append(tracked.agent.messages[-1], tracked.agent)
    tracked.flush()
    assert tracked.stored == ["one", "two", "three", "four"]


@pytest.mark.parametrize("is_stored", [False, True])
def test_what_is_redacted_is_nowhere_and_recorded(tracked: Tracked, is_stored: bool) -> None:
    prompt = said("my secret")
    tracked.add(prompt)
    tracked.add(prompt)
    if is_stored:
        tracked.flush()
    prompt["content"] = [{"text": "[redacted]"}]
    tracked.tracker.redact(prompt, tracked.agent, {"action": "BLOCKED"})
    tracked.tracker.learn_stop_reason("guardrail_intervened")
    tracked.flush()

    assert "my secret" not in str(tracked.there.document)
    assert tracked.stored == ["[redacted]"] * 2
    [event] = tracked.there.document["guardrail_events"]
    assert (event["message_id"], event["stop_reason"]) == (1, "guardrail_intervened")
    latest = tracked.there.messages(KEY)[1]
    assert latest["guardrail_event"]["stop_reason"] == "guardrail_intervened"
    assert latest["redact_message"]["content"] == [{"text": "[redacted]"}]


def test_a_copy_of_what_was_redacted_does_not_bring_it_back(tracked: Tracked) -> None:
    message = tracked.add(said("my secret"))
    before = copy.deepcopy(message)
    message["content"] = [{"text": "[redacted]"}]
    tracked.tracker.redact(message, tracked.agent, {})
    tracked.flush()
    tracked.agent.messages[:] = [before]
    tracked.flush()
    assert "my secret" not in str(tracked.there.document)


def test_nothing_is_no_message_to_redact(tracked: Tracked) -> None:
    with pytest.raises(SessionException, match="No message"):
        tracked.tracker.redact(said("x"), tracked.agent, {})


def test_a_state_is_written_when_it_changes_whichever_object_holds_it(tracked: Tracked) -> None:
    tracked.flush()
    tracked.agent.state.set("mood", "good")
    tracked.flush()
    assert tracked.there.document["agents"][KEY]["agent_data"]["state"] == {"mood": "good"}
    assert tracked.flush() == 0

    tracked.agent.state = type(tracked.agent.state)({"mood": "new"})
    tracked.flush()
    assert tracked.there.document["agents"][KEY]["agent_data"]["state"] == {"mood": "new"}


def test_the_agent_is_held_weakly(tracked: Tracked) -> None:
    tracker = tracked.tracker
    assert tracker.is_same(tracked.agent)
    tracked.agent = make_agent(model=ScriptedModel())
    gc.collect()
    assert tracker.agent is None


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "add", "add", "hand", "find", "trim", "drop", "clear", "restore", "copy", "rewrite", "flush"]
        ),
        st.integers(0, 9),
    ),
    max_size=25,
)


@given(steps)
def test_messages_and_window_are_what_the_agent_did(done: list[Step]) -> None:
    tracked = Tracked()
    everything: list[str] = []
    held: list[str] = []
    out: set[str] = set()
    by_hand: set[str] = set()
    kept: list[tuple[list[str], list[Message]]] = []
    live = tracked.agent.messages

    def look() -> None:
        nonlocal held
        now = [text_of(message) for message in live]
        out.update(text for text in held if text not in now)
        out.difference_update(now)
        held = now

    for number, (what, where) in enumerate(done):
        text = f"m{number}."
        if what in ("add", "find"):
            everything.append(text)
            tracked.add(said(text)) if what == "add" else live.append(said(text))
        elif what == "hand":
            tracked.tracker.append_found(tracked.agent)
            everything.append(text)
            by_hand.add(text)
            tracked.tracker.append(said(text), tracked.agent)
        elif what == "trim":
            del live[: where % (len(live) + 1)]
        elif what == "drop" and live:
            del live[where % len(live)]
        elif what == "clear":
            kept.append((list(held), list(live)))
            live.clear()
        elif what == "copy":
            live[:] = copy.deepcopy(live)
        elif what == "rewrite" and live:
            message = live[where % len(live)]
            message["content"][0] = {"text": text_of(message)}
        if what == "find":
            tracked.tracker.append_found(tracked.agent)
        tracked.tracker.capture(tracked.agent, final=False)
        look()
        if what == "flush":
            tracked.flush()

    tracked.flush()
    assert tracked.stored == everything
    assert [message["message_id"] for message in tracked.there.messages(KEY)] == list(range(len(everything)))
    assert tracked.window == [text for text in everything if text not in out]
    assert tracked.flush() == 0
    tracked.tracker.capture(tracked.agent, final=False)
    assert len(tracked.pending.records) <= len(live) + 1, "records of what the agent does not hold are kept"
    assert all(record.state is RecordState.STORED for record in tracked.pending.records)
    assert {r.origin for r in tracked.pending.records if text_of(r.message) in by_hand} <= {Origin.BY_HAND}
