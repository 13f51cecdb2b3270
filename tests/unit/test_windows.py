"""The live window as ranges, against a reference that keeps a plain list of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.schema.windows import EVERYTHING, arranged, bounded, changed, contains, in_order, ranges

LENGTH = 12
numbers = st.sets(st.integers(0, LENGTH - 1))
orders = st.permutations(range(LENGTH))


def held_by(window: object, length: int = LENGTH) -> list[int]:
    """Return the numbers in a window of a conversation of some length, in its order."""
    documents = [{"message_id": number} for number in range(length)]
    return [document["message_id"] for document in arranged(documents, window)]  # type: ignore[arg-type]


@given(numbers)
def test_what_is_held_comes_back(held: set[int]) -> None:
    assert held_by(ranges(sorted(held), LENGTH)) == sorted(held)


@given(numbers, st.integers(1, 5))
def test_a_window_takes_in_what_is_appended_before_the_next_one_is_stored(held: set[int], more: int) -> None:
    window = ranges(sorted(held), LENGTH)

    assert held_by(window, LENGTH + more) == [*sorted(held), *range(LENGTH, LENGTH + more)]


@given(numbers, numbers)
def test_what_was_taken_out_in_steps_is_out(first: set[int], second: set[int]) -> None:
    window = changed(changed(EVERYTHING, first, ()), second, ())

    assert held_by(window) == sorted(set(range(LENGTH)) - first - second)
    assert window[-1][1] is None


@given(numbers, numbers)
def test_what_is_put_back_stands_by_its_number(out: set[int], back: set[int]) -> None:
    window = changed(EVERYTHING, out, ())

    assert held_by(changed(window, (), back)) == sorted((set(range(LENGTH)) - out) | back)


@given(orders, numbers)
def test_messages_stand_in_the_order_in_which_they_are_held_and_others_before_them(
    order: list[int], held: set[int]
) -> None:
    live = [number for number in order if number in held]

    found = held_by(in_order(EVERYTHING, live, LENGTH))

    assert found == [*(number for number in range(LENGTH) if number not in held), *live]


@given(numbers)
def test_ranges_are_as_few_as_can_be(out: set[int]) -> None:
    window = changed(EVERYTHING, out, ())

    gaps = sum(number - 1 not in out for number in out)
    assert len(window) == gaps + (0 not in out)
    assert all(contains(number, window) is (number not in out) for number in range(LENGTH))


@given(numbers, numbers, st.integers(1, 5))
def test_a_bounded_window_loses_only_the_oldest_that_are_not_held(out: set[int], held: set[int], most: int) -> None:
    window = changed(EVERYTHING, out, ())
    found = bounded(window, held, most)

    assert found == window or len(found) < len(window)
    kept, before = held_by(found), held_by(window)
    assert set(kept) <= set(before)
    assert held & set(before) <= set(kept), "what the agent holds is gone"
    ranges_held = [part for part in window if any(contains(number, [part]) for number in held)]
    assert len(found) <= max(most, len(ranges_held) + 1)
    lost = set(before) - set(kept)
    spare = [part for part in window[:-1] if part not in ranges_held]
    assert [part for part in spare if part not in found] == spare[: len(window) - len(found)], "not the oldest ones"
    assert not lost or len(window) > most
