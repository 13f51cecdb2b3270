"""What an update renders to: its guards, its operators, how messages are split, and the title."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.schema.names import encode_name
from mongodb_session_manager.schema.sessions import KEY_RING
from mongodb_session_manager.store import updates
from mongodb_session_manager.store.updates import (
    AppendMessages,
    ChangeMessage,
    NewMessage,
    SetFields,
    Update,
    WindowChange,
    fits_whole,
)
from tests.support.documents import DocumentInMemory, check_no_conflict


def new(number: int, text: str = "hello", size: int = 100, role: str = "user") -> NewMessage:
    return NewMessage(number, {"role": role, "content": [{"text": text}]}, size)


def appending(*numbers: int, key: str = "a", create: bool = False, **options: Any) -> AppendMessages:
    messages = [new(number) for number in numbers]
    expected = numbers[0] if numbers else 0
    return AppendMessages(key, key, create=create, expected=expected, messages=messages, **options)


def stored(*numbers: int, key: str = "a") -> DocumentInMemory:
    there = DocumentInMemory()
    assert there.apply(Update(agents=[appending(*numbers, key=key, create=True)]))
    return there


def test_an_agent_is_created_only_where_there_is_none() -> None:
    there = stored(0, 1)
    assert [message["message_id"] for message in there.messages("a")] == [0, 1]
    assert there.document["agents"]["a"]["next_message_id"] == 2

    assert not there.apply(Update(agents=[appending(0, create=True)]))
    assert len(there.messages("a")) == 2


@given(st.integers(0, 5), st.integers(0, 5))
def test_messages_are_appended_only_at_the_number_that_comes_next(count: int, expected: int) -> None:
    there = stored(*range(count))
    done = there.apply(Update(agents=[appending(expected, expected + 1)]))
    assert done is (expected == count)
    assert [m["message_id"] for m in there.messages("a")] == list(range(count + 2 * done))


@pytest.mark.parametrize(
    "part",
    [
        {"fields": {"agent_data.state": {"x": 1}}},
        {"increments": {"usage.totalTokens": 3}},
        {"window": WindowChange(head=1)},
        {},
    ],
)
def test_what_changes_without_a_message_needs_the_agent_and_not_its_number(part: dict[str, Any]) -> None:
    there = stored(0, 1)
    assert there.apply(Update(agents=[appending(**part)]))
    assert there.document["agents"]["a"]["next_message_id"] == 2
    assert not there.apply(Update(agents=[appending(key="b", **part)])), "half an agent is left behind"
    assert list(there.document["agents"]) == ["a"]


def test_an_update_of_several_agents_is_applied_as_a_whole_or_not_at_all() -> None:
    there = stored(0)
    update = Update(agents=[appending(1), appending(5, key="b")], session=SetFields(fields={"metadata.x": 1}))
    assert not there.apply(update)
    assert len(there.messages("a")) == 1
    assert there.document["metadata"] == {}


def test_an_update_that_is_sent_again_counts_once() -> None:
    there = stored(0)
    update = Update(agents=[appending(1, increments={"usage.totalTokens": 7})])
    assert there.apply(update)
    assert there.apply(update)
    assert there.document["summary"]["messages"] == 2
    assert there.document["summary"]["usage"] == {"totalTokens": 7}


def test_only_totals_of_the_agent_itself_go_into_the_summary() -> None:
    there = stored(0)
    counts = {"usage.totalTokens": 7, "usage.tools.calculator.call_count": 1, "other.totalTokens": 5}
    assert there.apply(Update(agents=[appending(increments=counts)]))
    assert there.document["summary"]["usage"] == {"totalTokens": 7}
    usage = there.document["agents"]["a"]["usage"]
    assert usage == {"totalTokens": 7, "tools": {"calculator": {"call_count": 1}}}


def test_a_new_agent_has_what_a_stored_one_gets_by_increments_and_paths() -> None:
    part: dict[str, Any] = {"fields": {"agent_data.state": {"x": 1}}, "increments": {"usage.tools.t.call_count": 2}}
    one, other = DocumentInMemory(), stored()
    assert one.apply(Update(agents=[appending(0, create=True, **part)]))
    assert other.apply(Update(agents=[appending(0, **part)]))
    for there in (one, other):
        agent = there.document["agents"]["a"]
        assert agent["agent_data"]["state"] == {"x": 1}
        assert agent["usage"] == {"tools": {"t": {"call_count": 2}}}
        assert there.document["summary"]["agents"] == there.document["summary"]["messages"] == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_a_changed_message_is_matched_by_its_number(sealed: bool) -> None:
    there = stored(0, 1, 2)
    change = ChangeMessage("a", new(1), {"content": [{"text": "gone"}]}, {"window_content"}, sealed=sealed)
    assert there.apply(Update(message=change))
    texts = [message["content"][0]["text"] for message in there.messages("a")]
    assert texts == ["hello", "hello" if sealed else "gone", "hello"]
    assert there.document["agents"]["a"]["redactions"] == (0 if sealed else 1)


def test_a_message_that_is_not_in_the_document_is_a_refusal() -> None:
    there = stored(0, 1)
    change = ChangeMessage("a", new(0), {"content": []})
    there.seal("a", 1)
    update = Update(message=change)
    assert not there.apply(update)
    assert there.conflict(update).message_found is False


def test_fields_of_the_session_are_set_removed_pushed_and_counted() -> None:
    there = DocumentInMemory()
    fields = SetFields(
        fields={"metadata.x": 1},
        pushes={"errors": [{"n": 1}, {"n": 2}, {"n": 3}]},
        keep={"errors": 2},
        increments={"summary.errors": 3, "summary.feedbacks": 0},
    )
    assert there.apply(Update(session=fields, key="k"))
    assert there.document["errors"] == [{"n": 2}, {"n": 3}]
    assert there.document["idempotency_keys"] == ["k"]
    assert there.apply(Update(session=SetFields(removed=["metadata.x"])))
    assert there.document["metadata"] == {}


def test_idempotency_keys_are_a_bounded_ring() -> None:
    there = DocumentInMemory()
    for number in range(KEY_RING + 5):
        there.apply(Update(key=str(number)))
    assert there.document["idempotency_keys"] == [str(number) for number in range(5, KEY_RING + 5)]


names = st.text(min_size=1, max_size=4).filter(lambda name: name.isprintable()) | st.sampled_from(
    [".", "$", "%", "a.b"]
)


@given(st.lists(names, unique=True, min_size=1, max_size=4), st.data())
def test_no_update_touches_a_field_twice_whatever_agents_are_called(ids: list[str], data: st.DataObject) -> None:
    agents = []
    for agent_id in ids:
        numbers = range(data.draw(st.integers(0, 2)))
        part: dict[str, Any] = {"fields": {"agent_data.state": {}}, "window": WindowChange()}
        part["increments"] = {"usage.totalTokens": 1}
        create = data.draw(st.booleans())
        agents.append(appending(*numbers, key=encode_name(agent_id), create=create, **part))
    session = SetFields(pushes={"guardrail_events": [{}]}, increments={"summary.errors": 1})
    guard, changes = Update(agents=agents, session=session, key="k").render(title={"title": "t", "title_of": {}})
    check_no_conflict(changes)
    assert all(path.count(".") == 2 or path.count(".") == 1 for path in guard)
    assert len(guard) == sum(1 if changes.create else 2 for changes in agents)


# -- splitting


sizes = st.lists(st.integers(1, 60), max_size=12)


@given(sizes, st.integers(0, 3))
def test_parts_hold_all_messages_in_order_and_none_is_too_large(sizes: list[int], expected: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "UPDATE_BYTES", 100)
        messages = [NewMessage(expected + n, {}, size) for n, size in enumerate(sizes)]
        window = WindowChange()
        whole = AppendMessages("a", "a", create=True, expected=expected, messages=messages, window=window)
        whole.fields, whole.increments = {"agent_data.state": {}}, {"usage.totalTokens": 1}
        parts = whole.split()

    assert [message for part in parts for message in part.messages] == messages
    assert all(sum(message.size for message in part.messages) <= 100 for part in parts)
    assert [part.expected for part in parts] == [part.messages[0].message_id if sizes else expected for part in parts]
    assert [part.create for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.window for part in parts] == [None] * (len(parts) - 1) + [window]
    assert [bool(part.fields) for part in parts] == [bool(part.increments) for part in parts]
    assert sum(bool(part.increments) for part in parts) == 1, "counted more than once"
    for one, other in pairwise(parts):
        size = sum(message.size for message in one.messages)
        assert size + other.messages[0].size > 100, "two parts where one would do"


def test_a_message_larger_than_a_part_is_a_part_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "UPDATE_BYTES", 100)
    messages = [NewMessage(n, {}, size) for n, size in enumerate((10, 500, 10))]
    parts = AppendMessages("a", "a", create=False, messages=messages).split()
    assert [len(part.messages) for part in parts] == [1, 1, 1]


@given(sizes, sizes)
def test_messages_go_into_one_update_while_there_is_room(one: list[int], other: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "WHOLE_BYTES", 200)
        changes = [
            AppendMessages("a", "a", create=False, messages=[NewMessage(0, {}, size) for size in part])
            for part in (one, other)
        ]
        assert fits_whole(changes) is (sum(one) + sum(other) <= 200)


# -- titles


def titled(there: DocumentInMemory, update: Update) -> Any:
    assert there.apply(update)
    return there.document.get("title")


def test_the_first_thing_that_a_person_said_becomes_the_title() -> None:
    there = DocumentInMemory()
    changes = AppendMessages("a", "a", create=True)
    result: Any = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "42"}]}}
    changes.messages = [
        new(0, "an answer", role="assistant"),
        NewMessage(1, {"role": "user", "content": [result]}),
        new(2, " \n "),
        new(3, "what\n is   it?"),
        new(4, "later"),
    ]
    assert titled(there, Update(agents=[changes])) == "what is it?"
    assert there.document["title_of"] == {"agent": "a", "message_id": 3}
    assert titled(there, Update(agents=[appending(5)])) == "what is it?"


@pytest.mark.parametrize(("number", "title"), [(0, "redacted"), (1, "hello")])
def test_a_title_goes_with_the_message_that_it_was_taken_from(number: int, title: str) -> None:
    there = stored(0, 1)
    change = ChangeMessage("a", new(number), {"content": [{"text": "redacted"}]})
    assert titled(there, Update(message=change)) == title


def test_a_title_of_a_message_that_says_nothing_any_more_is_empty() -> None:
    there = stored(0)
    assert titled(there, Update(message=ChangeMessage("a", new(0), {"content": []}))) == ""


def test_a_change_beside_the_content_leaves_the_title() -> None:
    there = stored(0)
    assert titled(there, Update(message=ChangeMessage("a", new(0), {"window_content": [{"text": "cut"}]}))) == "hello"
