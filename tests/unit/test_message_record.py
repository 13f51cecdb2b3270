"""A message on its way: what is noticed of its rewriting, and what becomes of what it refers to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands.types.content import Message

from mongodb_session_manager.errors import MessageTooLargeError
from mongodb_session_manager.schema.messages import decode_message
from mongodb_session_manager.session.record import Record, RecordState, objects_of
from mongodb_session_manager.store.updates import ChangeMessage, NewMessage

AGENT = "a"
LARGE = b"x" * 400_000


def record_of(message: Any) -> Record:
    record, problem = Record.of(message, AGENT)
    assert problem is None
    return record


texts = st.text(max_size=8)
uses = st.fixed_dictionaries({"toolUseId": texts, "name": texts, "input": st.just({})})
pins = st.fixed_dictionaries({}, optional={"custom": st.fixed_dictionaries({"pin": st.booleans()})})
blocks = st.one_of(
    st.fixed_dictionaries({"text": texts}),
    st.fixed_dictionaries(
        {"toolUse": st.fixed_dictionaries({"toolUseId": texts, "name": texts, "input": st.just({})})}
    ),
    st.fixed_dictionaries(
        {
            "toolResult": st.fixed_dictionaries(
                {
                    "toolUseId": texts,
                    "status": st.just("success"),
                    "content": st.lists(st.fixed_dictionaries({"text": texts}), max_size=3),
                }
            )
        }
    ),
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(blocks, max_size=4)},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"custom": st.fixed_dictionaries({"pin": st.booleans()})})
    },
)


@given(messages)
def test_a_message_that_nothing_touched_looks_as_it_was_seen(message: Any) -> None:
    record = record_of(message)
    assert record.looks_as_seen(message)
    assert record.content_looks_as_seen(message)
    assert not record.looks_as_seen(copy.deepcopy(message)), "a copy is another object"
    assert record.custom_looks_as_seen(copy.deepcopy(message))


@given(messages, st.data())
def test_every_way_to_rewrite_a_message_is_noticed(message: Any, data: st.DataObject) -> None:
    record = record_of(message)
    ways = ["content", "more"]
    if message["content"]:
        ways += ["fewer", "block"]
    results = [block["toolResult"] for block in message["content"] if "toolResult" in block]
    ways += ["result", "items"] if results else []
    ways += ["item"] if any(result["content"] for result in results) else []
    way = data.draw(st.sampled_from(ways))
    if way == "content":
        message["content"] = list(message["content"])
    elif way == "more":
        message["content"].append({"text": "more"})
    elif way == "fewer":
        message["content"].pop()
    elif way == "block":
        position = data.draw(st.integers(0, len(message["content"]) - 1))
        message["content"][position] = dict(message["content"][position])
    elif way == "result":
        block = next(block for block in message["content"] if "toolResult" in block)
        block["toolResult"] = dict(block["toolResult"])
    elif way == "items":
        results[0]["content"] = list(results[0]["content"])
    else:
        content = next(result["content"] for result in results if result["content"])
        content[0] = {"text": content[0]["text"] + "."}

    assert not record.content_looks_as_seen(message)
    assert not record.looks_as_seen(message)
    record.see()
    assert record.looks_as_seen(message)


def test_a_pin_that_is_set_or_taken_away_is_noticed() -> None:
    message: Any = {"role": "user", "content": [{"text": "x"}]}
    record = record_of(message)
    message["metadata"] = {"custom": {"pin": True}}
    assert not record.looks_as_seen(message)
    record.see()
    del message["metadata"]
    assert record.content_looks_as_seen(message)
    assert not record.custom_looks_as_seen(message)


def test_content_is_written_when_it_is_another_one() -> None:
    record = record_of({"role": "user", "content": [{"text": "x"}]})
    written = [record.written_content([{"text": text}]) for text in ("x", "x", "y", "y", "x")]
    assert written == [True, False, True, False, True]


@pytest.mark.parametrize("value", [object(), "x" * 17_000_000])
def test_a_call_that_cannot_be_stored_keeps_its_pair_and_is_an_error(value: Any) -> None:
    message: Any = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "n", "input": value}}]}
    record, problem = Record.of(message, AGENT)
    assert isinstance(problem, TypeError | MessageTooLargeError)
    assert record.document is not None
    assert "'t'" in str(record.document["content"]), "its pair would be broken"
    assert "xxxx" not in str(record.document)


def result(tool_use_id: str, *items: Any) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": tool_use_id, "status": "success", "content": list(items)}}


def deep(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


NOTE = {"text": "[not stored: TypeError]"}
PICTURE = {"image": {"format": "png", "source": {"bytes": b"png"}}}


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize(
    ("blocks", "stored"),
    [
        ([{"text": "a"}, {"text": "b", "x": object()}, PICTURE], [{"text": "a"}, NOTE, PICTURE]),
        ([{"text": "a"}, "no block"], [{"text": "a"}, NOTE]),
        (
            [result("1", {"text": "a"}), result("2", {"json": object()}), result("3", {"json": {"b": [1, None]}})],
            [result("1", {"text": "a"}), result("2", NOTE), result("3", {"json": {"b": [1, None]}})],
        ),
        ([result("1", {"text": "a"}, {"json": {1, 2}}, PICTURE)], [result("1", {"text": "a"}, NOTE, PICTURE)]),
        ([{"toolResult": {"toolUseId": "1", "status": "error", "content": object()}}], [
            {"toolResult": {"toolUseId": "1", "status": "error", "content": [NOTE]}}
        ]),
        ([object()], [NOTE]),
    ],
)  # fmt: skip
def test_what_can_be_stored_of_a_message_is(kind: Any, blocks: Any, stored: Any) -> None:
    message: Any = {"role": "user", "content": kind(blocks), "tracking_id": "id", "metadata": {"custom": {"pin": True}}}
    record, problem = Record.of(message, AGENT)
    assert isinstance(problem, TypeError)
    assert record.document is not None
    assert decode_message({**record.document}) == {**message, "content": stored}


def test_fields_of_a_message_that_cannot_be_stored_leave_the_others() -> None:
    message: Any = {
        "role": "user",
        "content": [{"text": "a"}],
        "metadata": {"custom": object()},
        "own": 1,
        "x": object(),
    }
    record, problem = Record.of(message, AGENT)
    assert isinstance(problem, TypeError)
    assert record.document is not None
    assert decode_message({**record.document}) == {"role": "user", "content": [{"text": "a"}], "own": 1}


@pytest.mark.parametrize("position", range(3))
def test_of_a_message_that_is_too_large_the_largest_block_goes(position: int) -> None:
    sizes = [4_000_000, 4_000_000, 4_000_000]
    sizes[position] = 8_000_000
    blocks = [result(str(number), {"text": "x" * size}, PICTURE) for number, size in enumerate(sizes)]
    record, problem = Record.of({"role": "user", "content": blocks}, AGENT)  # type: ignore[typeddict-item]
    assert isinstance(problem, MessageTooLargeError)
    assert record.document is not None
    stored: Any = decode_message({**record.document})["content"]
    note = {"text": "[not stored: MessageTooLargeError]"}
    assert stored == [result(str(n), note) if n == position else block for n, block in enumerate(blocks)]


def test_a_note_stands_for_a_message_whose_call_has_an_id_that_is_too_large() -> None:
    use: Any = {"toolUseId": "x" * (16 * 1024 * 1024), "name": "call", "input": {}}
    record, problem = Record.of({"role": "assistant", "content": [{"toolUse": use}]}, AGENT)

    assert isinstance(problem, MessageTooLargeError)
    assert record.document is not None
    assert record.document["role"] == "assistant"
    assert "not stored" in record.document["content"][0]["text"]


def test_what_is_nested_too_deeply_leaves_the_rest() -> None:
    blocks: Any = [{"text": "a", "x": deep(250)}, {"text": "b"}]
    record, problem = Record.of({"role": "user", "content": blocks}, AGENT)
    assert isinstance(problem, ValueError)
    assert record.document is not None
    assert decode_message({**record.document})["content"] == [{"text": "[not stored: ValueError]"}, {"text": "b"}]


@pytest.mark.parametrize(
    "metadata", [{"custom": "a"}, {"custom": [1, 2]}, {"custom": 0}, {"custom": {}}, "a", [1], None]
)
def test_metadata_of_any_kind_comes_back(metadata: Any) -> None:
    message: Any = {"role": "user", "content": [{"text": "a"}], "metadata": metadata}
    record = record_of(message)
    assert record.looks_as_seen(message)
    assert objects_of([message]) is None or not isinstance(metadata, dict) or not metadata["custom"]
    assert record.document is not None
    assert decode_message({**record.document}) == message


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.integers(1, 3))
def test_a_number_that_changes_changes_wherever_it_is_named(numbers: list[int], names: int) -> None:
    record = record_of({"role": "user", "content": [{"text": "x"}]})
    record.named_in = [{"message_id": 0, "agent_id": AGENT} for _ in range(names)]
    for number in numbers:
        record.renumber(number)
    assert record.message_id == numbers[-1]
    assert {named["message_id"] for named in record.named_in} == {numbers[-1]}


def image(data: bytes) -> Message:
    content: Any = [{"image": {"format": "png", "source": {"bytes": data}}}]
    return {"role": "user", "content": content}


def test_a_redaction_releases_what_the_original_referred_to() -> None:
    record = record_of(image(LARGE))
    names = record.referred
    assert len(names) == 1
    record.state = RecordState.STORED
    change = ChangeMessage(AGENT, record)
    record.change(change, {"content": [{"text": "[redacted]"}], "redact_message": {}}, set(), {})

    assert record.referred == set()
    assert change.referred_before == names
    assert change.payloads == {}
    assert "payloads" in change.removed


def test_a_message_that_is_not_sent_yet_never_sends_what_was_redacted_of_it() -> None:
    record = record_of(image(LARGE))
    record.change(None, {"content": [{"text": "[redacted]"}], "redact_message": {}}, set(), {})
    assert record.payloads == {}
    assert record.document is not None
    assert record.document["content"] == [{"text": "[redacted]"}]
    assert "payloads" not in record.document


fields = st.sampled_from(["content", "metadata", "window_content", "extra"])
changes = st.lists(st.tuples(fields, st.one_of(st.none(), st.integers(0, 9))), max_size=8)


@given(changes)
def test_changes_in_a_row_are_one_change_and_the_last_of_each_field_counts(done: list[tuple[str, int | None]]) -> None:
    record = Record(0, document={}, message={"role": "user", "content": []})
    change = ChangeMessage(AGENT, NewMessage(0))
    expected: dict[str, int | None] = {}
    for name, value in done:
        record.change(change, {} if value is None else {name: value}, {name} if value is None else set(), {})
        expected[name] = value
    assert change.fields == {name: value for name, value in expected.items() if value is not None}
    assert change.removed == {name for name, value in expected.items() if value is None}
    assert record.document == change.fields
