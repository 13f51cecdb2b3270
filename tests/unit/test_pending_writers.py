"""What several managers owe one document, which obeys the guards of their updates: all of it arrives, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from strands.types.content import Message

from mongodb_session_manager.schema.windows import MOST_RANGES, contains
from mongodb_session_manager.session.batch import Batch
from mongodb_session_manager.session.pending import PendingChanges
from mongodb_session_manager.session.pending_agent import PendingAgent
from mongodb_session_manager.session.record import Origin, Record, RecordState
from mongodb_session_manager.store import updates
from mongodb_session_manager.store.executor import Conflict
from mongodb_session_manager.store.loaded import StoredSession
from mongodb_session_manager.store.updates import SetFields, Update
from tests.support.documents import DocumentInMemory
from tests.support.models import text_of

KEY = "a"


def said(text: str) -> Message:
    return {"role": "user", "content": [{"text": text}]}


def record_of(text: str, origin: Origin = Origin.EVENT) -> Record:
    record, problem = Record.of(said(text), KEY)
    assert problem is None
    record.origin = origin
    return record


def redact(pending: PendingAgent, record: Record, text: str = "gone") -> None:
    fields = {"content": [{"text": text}], "redact_message": said(text)}
    pending.change(record, fields)
    record.is_redacted = True


@dataclass
class Writer:
    """The pending changes of one manager, and a queue of one batch as `SessionWriter` has it."""

    there: DocumentInMemory
    changes: PendingChanges = field(init=False)
    queue: list[Batch] = field(default_factory=list)
    held: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        session = StoredSession.from_document(self.there.document)
        self.changes = PendingChanges(session)
        stored = session.agents.get(KEY)
        pending = self.changes.agents[KEY] = PendingAgent(KEY, stored)
        if stored is not None:
            for message in stored.messages(stored.window):
                assert isinstance(message, dict)
                content: Any = {"role": message["role"], "content": message["content"]}
                self.held.append(Record.stored(message["message_id"], content, {}))
            pending.restored(list(self.held), None)

    @property
    def pending(self) -> PendingAgent:
        return self.changes.agents[KEY]

    def append(self, text: str, origin: Origin = Origin.EVENT) -> Record:
        record = record_of(text, origin)
        self.pending.append(record)
        if origin is not Origin.BY_HAND:
            self.held.append(record)
        return record

    def capture(self) -> None:
        self.pending.see_window(self.held, 0)

    def freeze(self) -> None:
        if not self.queue and (batch := self.changes.freeze()) is not None:
            self.queue.append(batch)

    def send(self, *, reply_is_lost: bool = False) -> bool:
        """Send what comes next; True when something changed on the server."""
        batch = self.queue[0]
        update = batch.updates[batch.position]
        done = self.there.apply(update)
        if reply_is_lost:
            return done
        if done:
            batch.advance()
            self.changes.acknowledge(update)
        else:
            assert self.changes.rebase(batch, self.there.conflict(update)), (
                "nothing to adjust, so it is refused forever"
            )
        if batch.is_done:
            self.queue.pop()
        return done

    def flush(self) -> None:
        for _ in range(50):
            self.freeze()
            if not self.queue:
                return
            self.send()
        raise AssertionError("a flush that does not end")


@pytest.fixture
def there() -> DocumentInMemory:
    return DocumentInMemory()


def texts(there: DocumentInMemory, key: str = KEY) -> list[str]:
    return [message["content"][0]["text"] for message in there.messages(key)]


# -- windows


def test_what_another_writer_took_out_stays_out(there: DocumentInMemory) -> None:
    first = Writer(there)
    for number in range(6):
        first.append(f"m{number}.")
    first.flush()
    second = Writer(there)
    del first.held[:2]
    first.capture()
    first.flush()
    del second.held[2:3]
    second.capture()
    second.flush()
    assert there.document["agents"][KEY]["window"] == [[3, None]]


def test_a_window_stays_small_however_often_messages_are_appended_by_hand(there: DocumentInMemory) -> None:
    writer = Writer(there)
    for number in range(300):
        writer.append(f"n{number}.", Origin.BY_HAND)
        writer.append(f"m{number}.")
        writer.append(f"a{number}.")
        del writer.held[:-4]
        writer.capture()
        writer.flush()
    window = there.document["agents"][KEY]["window"]
    assert len(window) == MOST_RANGES
    assert all(contains(record.message_id, window) for record in writer.held)
    latest = range(900 - 3 * (MOST_RANGES - 1), 900, 3)
    assert all(contains(number, window) for number in latest), "what was appended last is out, too"


def test_the_state_of_another_writer_stands_who_made_the_agent_first(there: DocumentInMemory) -> None:
    first, second = Writer(there), Writer(there)
    for writer in (first, second):
        writer.pending.capture_state("state", {})
    first.pending.capture_state("state", {"mood": "good"})
    first.flush()
    second.append("Hi.")
    second.flush()
    assert there.document["agents"][KEY]["agent_data"]["state"] == {"mood": "good"}
    second.pending.capture_state("state", {"mood": "bad"})
    second.flush()
    assert there.document["agents"][KEY]["agent_data"]["state"] == {"mood": "bad"}


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_who_yields_to_what_was_loaded_writes_behind_it_without_a_conflict(
    there: DocumentInMemory, is_frozen: bool, is_new: bool
) -> None:
    first, second = Writer(there), Writer(there)
    if not is_new:
        second.flush()
        first = Writer(there)
    first.append("mine 0")
    if is_frozen:
        first.freeze()
        first.append("mine 1")
    for number in range(3):
        second.append(f"other {number}")
    second.flush()
    first.changes.yield_to(StoredSession.from_document(there.document), first.queue)
    first.freeze()
    while first.queue:
        assert first.send(), "a conflict that could be known before"
        first.freeze()
    assert texts(there) == ["other 0", "other 1", "other 2", "mine 0", *(["mine 1"] if is_frozen else [])]
    assert [message["message_id"] for message in there.messages(KEY)] == list(range(len(texts(there))))


# -- one writer


def test_nothing_is_pending_of_a_stored_session(there: DocumentInMemory) -> None:
    Writer(there).flush()
    writer = Writer(there)
    writer.capture()
    assert not writer.changes.is_dirty
    assert writer.changes.freeze() is None


def test_an_agent_without_messages_is_stored(there: DocumentInMemory) -> None:
    Writer(there).flush()
    assert there.document["agents"][KEY]["next_message_id"] == 0


def test_records_go_forward_from_pending_to_frozen_to_stored(there: DocumentInMemory) -> None:
    writer = Writer(there)
    record = writer.append("x")
    states = [record.state]
    for step in (writer.freeze, writer.send):
        step()
        states.append(record.state)
    assert states == [RecordState.PENDING, RecordState.FROZEN, RecordState.STORED]
    assert record.document is None, "the encoded copy is kept for nothing"


def test_a_message_redacted_before_it_is_sent_never_is(there: DocumentInMemory) -> None:
    writer = Writer(there)
    redact(writer.pending, writer.append("secret"))
    writer.freeze()
    assert len(writer.queue[0].updates) == 1
    writer.send()
    assert texts(there) == ["gone"]
    assert "secret" not in str(there.document)


@pytest.mark.parametrize("was_applied", [False, True])
def test_a_message_redacted_while_it_is_sent_is_redacted_either_way(there: DocumentInMemory, was_applied: bool) -> None:
    writer = Writer(there)
    record = writer.append("secret")
    writer.freeze()
    if was_applied:
        writer.send(reply_is_lost=True)
        assert texts(there) == ["secret"]
    redact(writer.pending, record)
    writer.send()
    writer.flush()
    assert "secret" not in str(there.document)
    assert texts(there) == ["gone"]


def test_redactions_go_before_what_is_appended(there: DocumentInMemory) -> None:
    writer = Writer(there)
    records = [writer.append(text) for text in ("one", "two")]
    writer.flush()
    for record in records:
        redact(writer.pending, record)
    writer.append("three")
    writer.freeze()
    updates = writer.queue[0].updates
    assert [update.message is not None for update in updates] == [True, True, False]


def test_a_redaction_and_a_state_share_an_update_where_nothing_is_appended(there: DocumentInMemory) -> None:
    writer = Writer(there)
    record = writer.append("one")
    writer.flush()
    redact(writer.pending, record)
    writer.pending.capture_state("state", {"x": 1})
    writer.freeze()
    assert len(writer.queue[0].updates) == 1
    writer.send()
    assert there.document["agents"][KEY]["agent_data"]["state"] == {"x": 1}
    assert texts(there) == ["gone"]


def test_a_state_is_written_only_when_it_changed(there: DocumentInMemory) -> None:
    writer = Writer(there)
    writer.pending.capture_state("state", {"x": 1})
    writer.flush()
    for again in (writer, Writer(there)):
        again.pending.capture_state("state", {"x": 1})
        assert not again.changes.is_dirty
    writer.pending.capture_state("state", {"x": 2})
    assert writer.changes.is_dirty


def test_a_graph_is_written_only_when_it_changed(there: DocumentInMemory) -> None:
    writer = Writer(there)
    writer.flush()
    writer.changes.set_graph("g.1", {"x": 1})
    writer.flush()
    assert list(there.document["multi_agents"].values()) == [{"x": 1}]
    for again in (writer, Writer(there)):
        again.changes.set_graph("g.1", {"x": 1})
        assert not again.changes.is_dirty


# -- conflicts


def test_messages_are_renumbered_behind_those_of_another_writer(there: DocumentInMemory) -> None:
    Writer(there).flush()
    one, other = Writer(there), Writer(there)
    for text in ("a", "b"):
        one.append(text)
    other.append("x")
    one.freeze()
    later = one.append("c")
    other.flush()
    assert one.send() is False
    assert later.message_id == 3
    one.flush()
    assert texts(there) == ["x", "a", "b", "c"]
    assert [message["message_id"] for message in there.messages(KEY)] == [0, 1, 2, 3]


def test_an_agent_that_another_writer_created_first_is_appended_to(there: DocumentInMemory) -> None:
    one, other = Writer(there), Writer(there)
    one.append("one")
    other.append("other")
    other.flush()
    one.flush()
    assert texts(there) == ["other", "one"]
    assert there.document["summary"]["agents"] == 1


def test_an_agent_that_another_writer_deleted_begins_anew_with_what_is_left(there: DocumentInMemory) -> None:
    writer = Writer(there)
    writer.append("before")
    writer.flush()
    del there.document["agents"][KEY]
    writer.append("after")
    writer.flush()
    assert texts(there) == ["after"]
    writer.append("later")
    writer.flush()
    assert texts(there) == ["after", "later"]
    assert [message["message_id"] for message in there.messages(KEY)] == [0, 1]
    assert there.document["agents"][KEY]["next_message_id"] == 2
    assert writer.pending.wants_all, "the new agent lacks the state of the live one"


@pytest.mark.parametrize("others", [0, 1, 2, 3])
def test_an_agent_that_another_writer_made_anew_is_no_older_one(there: DocumentInMemory, others: int) -> None:
    writer = Writer(there)
    old = [writer.append(f"before {number}") for number in range(2)]
    writer.flush()
    del there.document["agents"][KEY]
    another = Writer(there)
    for number in range(others):
        another.append(f"other {number}")
    another.flush()

    redact(writer.pending, old[0])
    del writer.held[:1]
    writer.capture()
    writer.append("after")
    writer.flush()

    assert texts(there) == [*(f"other {number}" for number in range(others)), "after"]
    assert [message["message_id"] for message in there.messages(KEY)] == list(range(others + 1))
    assert there.document["agents"][KEY]["window"] == [[0, None]]
    redact(writer.pending, old[1], "nothing")
    writer.capture()
    writer.flush()
    assert "nothing" not in str(there.document)
    redact(writer.pending, writer.held[-1], "gone")
    writer.flush()
    assert texts(there)[-1] == "gone"


def test_a_message_that_was_sealed_is_changed_in_its_segment(there: DocumentInMemory) -> None:
    writer = Writer(there)
    record = writer.append("one")
    writer.append("two")
    writer.flush()
    there.seal(KEY, 1)
    redact(writer.pending, record)
    writer.pending.capture_state("state", {"x": 1})
    writer.freeze()
    assert writer.send() is False
    sealed, rest = writer.queue[0].updates
    assert sealed.message is not None
    assert sealed.message.sealed
    assert rest.message is None
    writer.flush()
    assert there.document["agents"][KEY]["agent_data"]["state"] == {"x": 1}


def test_an_amendment_of_a_record_that_is_gone_is_dropped(there: DocumentInMemory) -> None:
    writer = Writer(there)
    record = writer.append("x")
    writer.flush()
    event = {"message_id": 0, "agent_id": KEY, "timestamp": "t"}
    writer.changes.add_guardrail_event(record, event)
    writer.flush()
    there.document["guardrail_events"].clear()
    writer.changes.amend_guardrail_event(record, event, {"stop_reason": "x"})
    writer.flush()
    assert there.document["guardrail_events"] == []


def test_what_nothing_can_be_done_about_is_said(there: DocumentInMemory) -> None:
    writer = Writer(there)
    writer.flush()
    update = Update(agents=[], session=SetFields(fields={"metadata.x": 1}))
    batch = Batch([update])
    assert writer.changes.rebase(batch, Conflict(there.head(), {}, False)) is False


@pytest.mark.parametrize("waits", [True, False])
def test_a_guardrail_record_names_the_number_that_its_message_got(there: DocumentInMemory, waits: bool) -> None:
    Writer(there).flush()
    one, other = Writer(there), Writer(there)
    record = one.append("secret")
    event = {"message_id": record.message_id, "agent_id": KEY, "timestamp": "t"}
    redact(one.pending, record)
    one.changes.add_guardrail_event(record, event)
    if not waits:
        one.freeze()
    other.append("first")
    other.flush()
    one.changes.amend_guardrail_event(record, event, {"stop_reason": "guardrail_intervened"})
    one.flush()
    (stored,) = there.document["guardrail_events"]
    assert there.messages(KEY)[stored["message_id"]]["content"] == [{"text": "gone"}]
    assert stored["stop_reason"] == "guardrail_intervened"


# -- yielding


def test_what_others_stored_of_state_and_window_stands_and_messages_are_appended(there: DocumentInMemory) -> None:
    writer, other = Writer(there), Writer(there)
    writer.append("mine")
    writer.pending.capture_state("state", {"mine": 1})
    writer.changes.set_graph("g", {"mine": 1})
    writer.freeze()
    writer.append("mine, too")
    writer.pending.capture_state("state", {"mine": 2})
    writer.changes.set_graph("h", {"mine": 1})

    other.append("theirs")
    other.pending.capture_state("state", {"theirs": 1})
    other.changes.set_graph("g", {"theirs": 1})
    other.flush()

    writer.changes.yield_to(StoredSession.from_document(there.document), writer.queue)
    writer.flush()
    agent = there.document["agents"][KEY]
    assert agent["agent_data"]["state"] == {"theirs": 1}
    assert there.document["multi_agents"] == {"g": {"theirs": 1}, "h": {"mine": 1}}
    assert texts(there) == ["theirs", "mine", "mine, too"]


def test_nothing_is_given_up_to_a_session_that_holds_nothing(there: DocumentInMemory) -> None:
    writer = Writer(there)
    writer.append("mine")
    writer.pending.capture_state("state", {"mine": 1})
    writer.changes.yield_to(StoredSession.from_document(there.document), [])
    writer.flush()
    assert there.document["agents"][KEY]["agent_data"]["state"] == {"mine": 1}
    assert texts(there) == ["mine"]


# -- memory


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("width", [1, 4, 40])
def test_an_agent_with_a_window_holds_as_many_records_however_long_it_talks(
    there: DocumentInMemory, width: int, by_hand: bool
) -> None:
    writer = Writer(there)
    counts = []
    for number in range(400):
        writer.append(str(number))
        if by_hand:
            writer.append(f"by hand {number}", Origin.BY_HAND)
        del writer.held[:-width]
        writer.capture()
        writer.flush()
        there.seal(KEY, 1 + by_hand)
        if number in (width + 9, 399):
            window = writer.pending.window
            kept = (writer.pending.records, window.out, window.taken_out, window.put_back)
            counts.append([len(records) for records in kept])
    assert counts[0] == counts[1]
    assert counts[0][0] <= width + 2
    if not by_hand:
        assert there.document["agents"][KEY]["window"] == [[400 - width, None]]


def test_a_batch_ends_once() -> None:
    batch = Batch([Update(), Update()])
    batch.advance()
    assert not batch.is_done
    assert len(batch.left) == 1
    batch.advance()
    batch.withdraw(RuntimeError())
    assert (batch.is_done, batch.error) == (True, None)
    given_up = Batch([Update()])
    given_up.withdraw(RuntimeError())
    given_up.withdraw(ValueError())
    assert given_up.is_done
    assert isinstance(given_up.error, RuntimeError)


# -- several writers, in any order, against plain lists


class Writers(RuleBasedStateMachine):
    """Two to three writers of one agent, whose updates meet in any order and whose replies get lost.

    The reference: what was said, in which order each writer said it, what is redacted, and what was taken out.
    """

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(updates, "UPDATE_BYTES", 250)  # two messages
        self.there = DocumentInMemory()
        self.open: list[Writer] = []
        self.said: dict[int, list[str]] = {}
        self.records: dict[int, list[Record]] = {}
        self.taken: dict[int, list[Record]] = {}
        self.redacted: set[str] = set()
        self.by_hand: set[str] = set()
        self.number = 0

    @initialize(target=writers)
    def begin(self) -> Any:
        Writer(self.there).flush()
        return multiple(*(self._open() for _ in range(2)))

    @precondition(lambda self: len(self.open) < 4)
    @rule(target=writers)
    def open_another(self) -> Writer:
        return self._open()

    def _open(self) -> Writer:
        writer = Writer(self.there)
        self.open.append(writer)
        self.said[id(writer)], self.records[id(writer)], self.taken[id(writer)] = [], list(writer.held), []
        return writer

    @rule(writer=writers, origin=st.sampled_from([Origin.EVENT, Origin.EVENT, Origin.FOUND, Origin.BY_HAND]))
    def say(self, writer: Writer, origin: Origin) -> None:
        text = f"m{self.number}."
        self.number += 1
        self.records[id(writer)].append(writer.append(text, origin))
        self.said[id(writer)].append(text)
        if origin is Origin.BY_HAND:
            self.by_hand.add(text)

    @rule(writer=writers, data=st.data())
    def redact(self, writer: Writer, data: st.DataObject) -> None:
        fresh = [r for r in writer.pending.records if text_of(r.message).startswith("m")]
        candidates = [r for r in fresh if text_of(r.message) not in self.redacted]
        if candidates:
            record = data.draw(st.sampled_from(candidates))
            self.redacted.add(text_of(record.message))
            redact(writer.pending, record, f"R{text_of(record.message)[1:]}")

    @rule(writer=writers, data=st.data())
    def take_out(self, writer: Writer, data: st.DataObject) -> None:
        if writer.held:
            gone = writer.held.pop(data.draw(st.integers(0, len(writer.held) - 1)))
            self.taken[id(writer)].append(gone)
        writer.capture()

    @rule(writer=writers, data=st.data())
    def hold_again(self, writer: Writer, data: st.DataObject) -> None:
        # Only what the writer still knows: what is stored and was taken out is forgotten with its record.
        known = [record for record in self.taken[id(writer)] if record in writer.pending.records]
        if known:
            back = data.draw(st.sampled_from(known))
            self.taken[id(writer)].remove(back)
            writer.held.insert(data.draw(st.integers(0, len(writer.held))), back)
        writer.capture()

    @rule(writer=writers, value=st.integers())
    def change_state(self, writer: Writer, value: int) -> None:
        writer.pending.capture_state("state", {"x": value})

    @rule(writer=writers)
    def freeze(self, writer: Writer) -> None:
        writer.freeze()

    @rule(writer=writers, lost=st.booleans())
    def send(self, writer: Writer, lost: bool) -> None:
        if writer.queue:
            writer.send(reply_is_lost=lost)

    @rule(writer=writers)
    def flush(self, writer: Writer) -> None:
        writer.flush()

    @invariant()
    def numbers_have_no_gap(self) -> None:
        messages = self.there.messages(KEY)
        assert [message["message_id"] for message in messages] == list(range(len(messages)))
        if messages:
            assert self.there.document["agents"][KEY]["next_message_id"] == len(messages)
        assert self.there.document["summary"]["messages"] == len(messages)

    def teardown(self) -> None:
        try:
            self._check()
        finally:
            self._patch.undo()

    def _check(self) -> None:
        for writer in self.open:
            writer.capture()
            writer.flush()
        stored = [m["content"][0]["text"] for m in self.there.messages(KEY)]
        for texts_ in self.said.values():
            shown = [f"R{text[1:]}" if text in self.redacted else text for text in texts_]
            assert [text for text in stored if text in shown] == shown
        assert len(stored) == self.number
        assert not any(text in str(self.there.document) for text in self.redacted)
        for records in self.records.values():
            assert all(stored[r.message_id][1:] == text_of(r.message)[1:] for r in records)
        if self.open:
            self._check_window()

    def _check_window(self) -> None:
        # The last writer's window: it stands for what that one holds, leaves others' messages in, and out what they
        # took out.
        window = self.there.document["agents"][KEY].get("window") or [[0, None]]
        for writer in self.open[-1:]:
            writer.pending.capture_state("state", {"last": 1})
            writer.pending.window.is_dirty = True
            writer.flush()
            window = self.there.document["agents"][KEY]["window"]
            held = {record.message_id for record in writer.held}
            own = {r.message_id for r in self.records[id(writer)] if text_of(r.message) not in self.by_hand}
            others = {r.message_id for other, taken in self.taken.items() if other != id(writer) for r in taken}
            for number in own - others:
                assert contains(number, window) == (number in held), (number, window)
        assert window[-1][1] is None


Writers.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestWriters = Writers.TestCase
