"""Windows whose messages stand in any order, and what changes them, say the same as plain lists of numbers do."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from mongodb_session_manager.schema import windows
from mongodb_session_manager.schema.windows import EVERYTHING, Ranges, arranged, changed, contains, in_order, ranges

LARGEST = 14

Numbers = list[int]


def held_of(window: Ranges, next_message_id: int) -> Numbers:
    """Return the numbers in a window one by one, in its order."""
    result: Numbers = []
    for first, last in window:
        assert first is not None
        result += range(first, next_message_id if last is None else last + 1)
    return result


def check_form(window: Ranges) -> None:
    """Assert what holds of every window: its last range, and that alone, is open, and no number is in it twice."""
    assert window[-1][1] is None
    assert all(last is not None and first is not None and first <= last for first, last in window[:-1])
    far = held_of(window, LARGEST * 3)
    assert len(set(far)) == len(far)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[int, Numbers]:
    """Draw the next message number of an agent, and the messages that it holds, in any order."""
    end = draw(st.integers(0, LARGEST))
    held = draw(st.lists(st.integers(0, end - 1), unique=True)) if end else []
    return end, sorted(held) if draw(st.booleans()) else held


def some(numbers: Sequence[int]) -> st.SearchStrategy[set[int]]:
    return st.sets(st.sampled_from(numbers)) if numbers else st.just(set())


@given(conversations())
def test_ranges_hold_the_messages_in_their_order_and_whatever_comes_next(drawn: tuple[int, Numbers]) -> None:
    end, held = drawn
    window = ranges(held, end)

    check_form(window)
    assert held_of(window, end) == held
    assert held_of(window, end + 3) == [*held, end, end + 1, end + 2]
    assert all(contains(number, window) == (number in held or number >= end) for number in range(end + 5))


@given(conversations(), st.data())
def test_a_window_changes_as_a_set_does(drawn: tuple[int, Numbers], data: st.DataObject) -> None:
    end, held = drawn
    before = ranges(held, end)
    taken_out = data.draw(some(range(end)))
    put_back = data.draw(some(range(end))) - taken_out
    after = changed(before, taken_out, put_back)

    check_form(after)
    assert set(held_of(after, end)) == (set(held) - taken_out) | put_back
    assert held_of(after, end + 2)[-2:] == [end, end + 1], "what comes next is no longer in the window"
    stays = [number for number in held if number not in taken_out]
    assert [number for number in held_of(after, end) if number in stays] == stays, "what stays changed its order"
    if held == sorted(held):
        assert held_of(after, end) == sorted(held_of(after, end)), "what was put back stands at the wrong place"


@given(conversations(), st.data())
def test_messages_of_other_writers_stay_in_a_window_that_is_changed(
    drawn: tuple[int, Numbers], data: st.DataObject
) -> None:
    end, held = drawn
    taken_out = data.draw(some(held))
    others = data.draw(st.integers(0, 4))
    after = changed(ranges(held, end), taken_out, ())
    expected = [number for number in held if number not in taken_out] + list(range(end, end + others))
    assert held_of(after, end + others) == expected


@given(conversations(), st.data())
def test_taking_out_and_putting_back_restores_a_window_in_order(
    drawn: tuple[int, Numbers], data: st.DataObject
) -> None:
    end, held = drawn
    assume(held == sorted(held))
    before = ranges(held, end)
    taken_out = data.draw(some(held))
    assert changed(changed(before, taken_out, ()), (), taken_out) == before
    assert changed(before, (), ()) == before


@given(conversations(), st.data())
def test_in_order_moves_what_the_agent_holds_behind_the_others(drawn: tuple[int, Numbers], data: st.DataObject) -> None:
    end, stored = drawn
    own = data.draw(st.permutations(stored).flatmap(lambda order: st.integers(0, len(order)).map(lambda n: order[:n])))
    after = in_order(ranges(stored, end), own, end)

    check_form(after)
    assert held_of(after, end) == [*(number for number in stored if number not in own), *own]


@given(conversations(), st.data())
def test_arranged_gives_the_stored_messages_of_a_window_in_its_order(
    drawn: tuple[int, Numbers], data: st.DataObject
) -> None:
    end, held = drawn
    there = data.draw(some(range(end + 3)))
    documents = [{"message_id": number} for number in sorted(there)]
    found = [document["message_id"] for document in arranged(documents, ranges(held, end))]
    assert found == [number for number in [*held, *range(end, end + 3)] if number in there]


def test_everything_is_every_number() -> None:
    assert all(contains(number, EVERYTHING) for number in (0, 1, 10**9))
    assert changed(EVERYTHING, range(1_000), ()) == [[1_000, None]]


def test_a_window_of_pinned_messages_and_the_latest_is_three_ranges_however_long_the_conversation() -> None:
    window = windows.changed(EVERYTHING, [*range(2, 500), *range(501, 990)], ())
    assert window == [[0, 1], [500, 500], [990, None]]
