from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strands.session.repository_session_manager import RepositorySessionManager

from mongodb_session_manager.store.tool_pairs import EMPTIED_TEXT, BrokenPair, PairRepair

History = list[tuple[int, dict[str, Any]]]


def use(tool_use_id: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": tool_use_id, "name": "calculator", "input": {"x": 1}}}


def result(tool_use_id: str, text: str = "42") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": tool_use_id, "status": "success", "content": [{"text": text}]}}


def interrupted(tool_use_id: str) -> dict[str, Any]:
    content = [{"text": "Tool was interrupted."}]
    return {"toolResult": {"toolUseId": tool_use_id, "status": "error", "content": content}}


def text(words: str = "hi") -> dict[str, Any]:
    return {"text": words}


def history(*turns: tuple[str, list[Any]], first_id: int = 0) -> History:
    roles = {"u": "user", "a": "assistant"}
    return [(first_id + n, {"role": roles[who], "content": content}) for n, (who, content) in enumerate(turns)]


def find_broken_pairs(messages: History) -> list[BrokenPair]:
    return PairRepair(messages).broken_pairs()


def mend(messages: History) -> list[tuple[int, list[dict[str, Any]]]]:
    return PairRepair(messages).new_contents()


def mended(messages: History) -> History:
    new = dict(mend(messages))
    return [
        (message_id, {**message, "content": new.get(message_id, message["content"])})
        for message_id, message in messages
    ]


def ids_of(message: dict[str, Any], kind: str) -> list[Any]:
    return [block[kind]["toolUseId"] for block in message["content"] if isinstance(block, dict) and kind in block]


def accepted_by_models(messages: History) -> bool:
    expected: list[str] = []
    for position, (_, message) in enumerate(messages):
        uses, results = ids_of(message, "toolUse"), ids_of(message, "toolResult")
        if message["role"] == "assistant":
            if (
                expected
                or results
                or len(set(uses)) != len(uses)
                or not all(isinstance(tool_use_id, str) and tool_use_id for tool_use_id in uses)
            ):
                return False
            expected = uses if position < len(messages) - 1 else []
        else:
            if uses or sorted(results) != sorted(expected):
                return False
            expected = []
    return not expected


CASES = {
    "missing_result": (
        history(("u", [text()]), ("a", [use("t1")]), ("u", [text("and?")]), first_id=7),
        [BrokenPair(8, "missing_result", ("t1",))],
        [(9, [interrupted("t1"), text("and?")])],
    ),
    "one_of_two_missing": (
        history(("a", [use("t1"), use("t2")]), ("u", [result("t2")])),
        [BrokenPair(0, "missing_result", ("t1",))],
        [(1, [interrupted("t1"), result("t2")])],
    ),
    "stale_result": (
        history(("a", [use("t1")]), ("u", [result("old"), result("t1")]), ("a", [text()])),
        [BrokenPair(1, "stale_result", ("old",))],
        [(1, [result("t1")])],
    ),
    "duplicate_result": (
        history(("a", [use("t1")]), ("u", [result("t1", "first"), result("t1", "second")])),
        [BrokenPair(1, "duplicate_result", ("t1",))],
        [(1, [result("t1", "first")])],
    ),
    "late_result": (
        history(("a", [use("t1")]), ("u", [text("still there?")]), ("u", [result("t1")]), ("a", [text()])),
        [BrokenPair(2, "misplaced_result", ("t1",))],
        [(1, [result("t1"), text("still there?")]), (2, [text(EMPTIED_TEXT)])],
    ),
    "orphaned_result": (
        history(("u", [result("t0"), text("go on")]), ("a", [text()])),
        [BrokenPair(0, "orphaned_result", ("t0",))],
        [(0, [text("go on")])],
    ),
    "orphaned_result_alone": (
        history(("u", [text()]), ("a", [text()]), ("u", [result("t0")])),
        [BrokenPair(2, "orphaned_result", ("t0",))],
        [(2, [text(EMPTIED_TEXT)])],
    ),
    "result_of_an_assistant": (
        history(("a", [text(), result("t0")]), ("u", [text()])),
        [BrokenPair(0, "orphaned_result", ("t0",))],
        [(0, [text()])],
    ),
    "use_before_an_assistant": (
        history(("a", [use("t1")]), ("a", [text("well")]), ("u", [result("t1")])),
        [BrokenPair(0, "misplaced_use", ("t1",))],
        [(0, [text(EMPTIED_TEXT)]), (1, [text("well"), use("t1")])],
    ),
    "uses_before_two_assistants": (
        history(("a", [use("t1")]), ("a", [text("so"), use("t2")]), ("a", [text("well")]), ("u", [result("t2")])),
        [
            BrokenPair(0, "misplaced_use", ("t1",)),
            BrokenPair(1, "misplaced_use", ("t2",)),
            BrokenPair(2, "missing_result", ("t1",)),
        ],
        [
            (0, [text(EMPTIED_TEXT)]),
            (1, [text("so")]),
            (2, [text("well"), use("t1"), use("t2")]),
            (3, [interrupted("t1"), result("t2")]),
        ],
    ),
    "use_of_a_user": (
        history(("u", [text(), use("t1")]), ("a", [text()])),
        [BrokenPair(0, "misplaced_use", ("t1",))],
        [(0, [text()])],
    ),
    "shared_id": (
        history(
            ("a", [use("t"), use("t"), use("t-2")]), ("u", [result("t", "1"), result("t-2", "2"), result("t", "3")])
        ),
        [BrokenPair(0, "duplicate_use", ("t",))],
        [(0, [use("t"), use("t-3"), use("t-2")]), (1, [result("t", "1"), result("t-3", "3"), result("t-2", "2")])],
    ),
    "no_id": (
        history(("a", [{"toolUse": {"name": "n"}}]), ("u", [text()]), first_id=3),
        [BrokenPair(3, "duplicate_use", ()), BrokenPair(3, "missing_result", ())],
        [(3, [{"toolUse": {"name": "n", "toolUseId": "call-3-2"}}]), (4, [interrupted("call-3-2"), text()])],
    ),
    "malformed": (
        history(("a", [text(), {"toolUse": None}]), ("u", [{"toolResult": "x"}, text()])),
        [BrokenPair(0, "malformed", ()), BrokenPair(1, "malformed", ())],
        [(0, [text()]), (1, [text()])],
    ),
}


@pytest.mark.parametrize(("messages", "broken", "changes"), CASES.values(), ids=CASES.keys())
def test_broken_pairs_are_found_and_mended(messages: History, broken: list[BrokenPair], changes: list[Any]) -> None:
    assert find_broken_pairs(messages) == broken
    assert mend(messages) == changes
    assert accepted_by_models(mended(messages))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        history(("u", [text()]), ("a", [text()])),
        history(
            ("u", [text()]), ("a", [text(), use("t1"), use("t2")]), ("u", [result("t2"), result("t1")]), ("a", [text()])
        ),
        history(("a", [use("t1")]), ("u", [text("note"), result("t1")])),
        history(("a", [use("t1")]), ("u", [result("t1")]), ("a", [use("t1")]), ("u", [result("t1")])),
        [(0, {"role": "user", "content": "plain text"}), (1, {"role": "assistant", "content": []})],
    ],
    ids=["empty", "plain", "two-calls", "text-first", "id-used-again", "older-form"],
)
def test_a_whole_history_is_left_alone(messages: History) -> None:
    assert find_broken_pairs(messages) == []
    assert mend(messages) == []


def test_calls_of_the_last_message_wait_for_their_results() -> None:
    messages = history(("u", [text()]), ("a", [text(), use("t1")]))

    assert find_broken_pairs(messages) == []
    assert mend(messages) == []


def test_a_plain_text_message_after_a_call_becomes_a_block_behind_the_result() -> None:
    messages: History = [
        (0, {"role": "assistant", "content": [use("t1")]}),
        (1, {"role": "user", "content": "never mind"}),
    ]

    assert mend(messages) == [(1, [interrupted("t1"), text("never mind")])]


def test_message_ids_may_have_gaps() -> None:
    messages = [(3, {"role": "assistant", "content": [use("t1")]}), (90, {"role": "user", "content": [text()]})]

    assert [message_id for message_id, _ in mend(messages)] == [90]


tool_ids = st.sampled_from(["a", "b", "c", "a-2"])
sane_blocks = st.builds(use, tool_ids) | st.builds(result, tool_ids, st.sampled_from(["1", "2"])) | st.builds(text)
odd_blocks: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"toolUse": None},
        {"toolResult": []},
        {"toolUse": {"name": "n"}},
        {"toolUse": {"toolUseId": 7, "name": "n"}},
        {"toolResult": {"content": []}},
        {"cachePoint": {"type": "default"}},
        "text",
        None,
    ]
)


def histories(blocks: st.SearchStrategy[Any]) -> st.SearchStrategy[History]:
    turns = st.tuples(st.sampled_from("ua"), st.lists(blocks, min_size=1, max_size=4))
    return st.lists(turns, max_size=8).map(lambda chosen: history(*chosen))


@given(histories(sane_blocks | odd_blocks))
@example(history(("a", [use("a"), use("a")]), ("a", [use("a"), use("a-2")]), ("u", [result("a"), result("a-2")])))
@example(history(("a", [use("a")]), ("a", [text()])))
def test_any_mess_becomes_a_history_that_models_accept(messages: History) -> None:
    assert accepted_by_models(mended(messages))


@given(histories(sane_blocks | odd_blocks))
def test_nothing_is_left_to_mend_after_mending(messages: History) -> None:
    after = mended(messages)

    assert find_broken_pairs(after) == []
    assert mend(after) == []


@given(histories(sane_blocks | odd_blocks))
def test_broken_pairs_are_reported_exactly_when_something_changes(messages: History) -> None:
    assert bool(find_broken_pairs(messages)) == bool(mend(messages))
    assert bool(mend(messages)) != accepted_by_models_as_stored(messages)


def accepted_by_models_as_stored(messages: History) -> bool:
    try:
        return accepted_by_models(messages) and not any(
            isinstance(block, dict) and not isinstance(block.get(kind, {}), dict)
            for _, message in messages
            for block in message["content"]
            for kind in ("toolUse", "toolResult")
        )
    except (KeyError, TypeError):
        return False


@given(histories(sane_blocks | odd_blocks))
def test_no_message_is_emptied_and_no_other_content_lost(messages: History) -> None:
    for (_, before), (_, after) in zip(messages, mended(messages), strict=True):
        kept = [b for b in before["content"] if not (isinstance(b, dict) and {"toolUse", "toolResult"} & b.keys())]
        left = [b for b in after["content"] if not (isinstance(b, dict) and {"toolUse", "toolResult"} & b.keys())]

        assert after["content"]
        assert [block for block in left if block != text(EMPTIED_TEXT)] == kept


@given(histories(sane_blocks))
def test_every_call_of_the_assistant_stays_in_the_history(messages: History) -> None:
    def calls(stored: History) -> int:
        return sum(len(ids_of(message, "toolUse")) for _, message in stored if message["role"] == "assistant")

    assert calls(mended(messages)) == calls(messages)


@given(histories(sane_blocks))
def test_mending_leaves_its_input_as_it_was(messages: History) -> None:
    before = copy.deepcopy(messages)

    find_broken_pairs(messages)
    mend(messages)

    assert messages == before


@given(histories(sane_blocks))
def test_strands_finds_nothing_to_repair_in_a_mended_history(messages: History) -> None:
    after = [copy.deepcopy(message) for _, message in mended(messages)]

    manager = object.__new__(RepositorySessionManager)
    repaired = manager._fix_broken_tool_use(copy.deepcopy(after))  # type: ignore[arg-type]

    assert repaired == after
