"""Values of code that does not know of its storage: instances of dataclasses, and any depth that Strands takes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
import pytest

from mongodb_session_manager.schema.nested import MAX_DEPTH as DEEPEST
from mongodb_session_manager.schema.values import MAX_DEPTH, decode, encode

Wrap = Callable[[Any], Any]
WRAPS: dict[str, Wrap] = {
    "dicts": lambda inner: {"a": inner},
    "lists": lambda inner: [inner],
    "tuples": lambda inner: (inner,),
    "pairs": lambda inner: {1: inner, "x": 2},
    "odd keys": lambda inner: {"a.b": 1, "$c": inner, "__bson__": 3},
    "wide": lambda inner: [1, {"b": inner, "c": [2, 3]}, "x"],
}


@dataclass
class Weather:
    city: str
    degrees: float
    more: Any = None


@dataclass(frozen=True, slots=True)
class Station:
    readings: list[Weather] = field(default_factory=list)


def nested(levels: int, wrap: Wrap, value: Any = 1) -> Any:
    for _ in range(levels):
        value = wrap(value)
    return value


def depth(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(depth, items), default=0)


def alike(one: Any, other: Any) -> bool:
    """Compare by depth: Python's own comparison recurses."""
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict):
            if list(left) != list(right):
                return False
            waiting += zip(left.values(), right.values(), strict=True)
        elif isinstance(left, list | tuple):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif left != right:
            return False
    return True


def stored(value: Any, **options: Any) -> Any:
    encoded = encode(value, foreign=True, **options)
    assert depth(encoded) <= options.get("max_depth", MAX_DEPTH)
    return bson.decode(bson.encode({"v": encoded}), bson.CodecOptions(tz_aware=True, tzinfo=UTC))["v"]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("levels", [10, 70, 145, 151, 200, 299])
def test_a_value_of_any_depth_comes_back_equal(wrap: Wrap, levels: int) -> None:
    value = nested(
        levels, wrap, {"when": datetime(2024, 5, 1, 1, 2, 3, 4), "big": 1 << 80, "d": Decimal("1.5"), "b": b"x"}
    )

    assert alike(decode(stored(value)), value)


@pytest.mark.matrix
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("levels", range(1, 40))
def test_no_level_is_used_that_there_is_not(wrap: Wrap, levels: int) -> None:
    value = nested(levels, wrap, (datetime(2024, 5, 1, 1, 2, 3, 4),))

    for max_depth in (12, 13, 14, 15):
        assert alike(decode(stored(value, max_depth=max_depth)), value)


def test_what_fits_is_stored_as_ever() -> None:
    value = nested(MAX_DEPTH, lambda inner: {"a": inner})

    assert encode(value, foreign=True) == encode(value)


def test_what_is_deeper_says_what_it_was() -> None:
    encoded = stored({"top": [1], "deep": nested(200, lambda inner: {"level": inner})})

    assert encoded["top"] == [1]
    inner = encoded["deep"]
    while "level" in inner:
        inner = inner["level"]
    assert inner["__bson__"] == "deep"
    assert inner["value"][0] == {"object": [["level", {"__bson__": "node", "value": 1}]]}


def test_an_instance_of_a_dataclass_is_stored_with_its_name_and_read_as_a_dict() -> None:
    value = {"report": Station([Weather("Oslo", -3.5), Weather("Rome", 20, more=(b"x", None))])}

    assert stored(value)["report"]["__bson__"] == "dataclass"
    assert stored(value)["report"]["name"] == "Station"
    assert decode(stored(value)) == {
        "report": {
            "readings": [
                {"city": "Oslo", "degrees": -3.5, "more": None},
                {"city": "Rome", "degrees": 20, "more": (b"x", None)},
            ]
        }
    }


def test_an_instance_of_a_dataclass_deep_inside_and_around_what_is_deep() -> None:
    deep = nested(160, lambda inner: Weather("Oslo", 1, more=[inner]), Weather("Rome", 2))
    found = decode(stored(deep))

    for _ in range(160):
        assert found["city"] == "Oslo"
        [found] = found["more"]
    assert found == {"city": "Rome", "degrees": 2, "more": None}


def test_a_dict_of_a_kind_of_its_own_stays_a_dict_in_the_deep() -> None:
    value = nested(200, lambda inner: OrderedDict(a=inner))

    assert alike(decode(stored(value)), nested(200, lambda inner: {"a": inner}))


@pytest.mark.parametrize("value", [Weather, [Weather], {"a": {1, 2}}, [object()], nested(200, lambda i: [i], {1, 2})])
def test_what_strands_does_not_store_either_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot store a"):
        encode(value, foreign=True)


def test_what_has_no_end_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    for value in (loop, {"a": loop}, nested(DEEPEST + 200, lambda inner: [inner])):
        with pytest.raises(ValueError, match="nested too deeply"):
            encode(value, foreign=True)


def test_other_values_are_no_foreign_ones() -> None:
    with pytest.raises(TypeError, match="cannot store a Weather"):
        encode(Weather("Oslo", 1))
    with pytest.raises(ValueError, match="nested too deeply"):
        encode(nested(151, lambda inner: [inner]))


@pytest.mark.parametrize(
    "value",
    [
        {"__bson__": "deep", "value": []},
        {"__bson__": "deep", "value": [{}]},
        {"__bson__": "deep", "value": 7},
        {"__bson__": "deep", "value": [{"array": [{"__bson__": "node", "value": 0}]}]},
        {"__bson__": "deep", "value": [{"array": [{"__bson__": "node", "value": "x"}]}]},
        {"__bson__": "deep", "value": [{"object": [1]}]},
        {"__bson__": "dataclass", "value": {"a": 1}, "other": 2},
    ],
)
def test_what_only_looks_like_such_a_mark_is_returned_as_it_is_stored(value: Any) -> None:
    assert decode(value) == value
