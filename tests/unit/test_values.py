from __future__ import annotations

import math
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import bson
import pytest
from bson.binary import Binary
from bson.codec_options import CodecOptions
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from mongodb_session_manager.schema.values import (
    MAX_DEPTH,
    decode,
    decode_legacy_bytes,
    encode,
    encoded_size,
)

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)

texts = st.text(st.characters(codec=None, exclude_categories=()))
odd_keys = st.sampled_from(
    ["", ".", "a.b", "$set", "$", "%", "%2E", "\x00", "\ud800", "__bson__", "%__bson__", "value", "_id", "data"]
)
zones: Any = st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-3, seconds=7))) | st.timezones()
# Within these years neither a zone nor UTC leaves what datetime can express.
moments = st.datetimes(
    datetime(2, 1, 1),
    datetime(9998, 1, 1),
    timezones=zones,
    allow_imaginary=False,
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | texts
    | st.binary()
    | moments
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.builds(ObjectId, st.binary(min_size=12, max_size=12))
)
hashables = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(min_size=1) | texts | odd_keys, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=3)
    ),
    max_leaves=20,
)


def through_bson(value: Any) -> Any:
    return bson.decode(bson.encode({"v": value}), codec_options=OPTIONS)["v"]


def round_trip(value: Any, **options: Any) -> Any:
    return decode(through_bson(encode(value, **options)))


def same(one: Any, other: Any) -> bool:
    """Equality that knows NaN, tells 1 from True and 1.0, and minds the order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


def stored_keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in stored_keys(item))]
    if isinstance(value, list):
        return [key for item in value for key in stored_keys(item)]
    return []


def containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(inner for item in value.values() for inner in containers(item))]
    if isinstance(value, list | tuple):
        return [value, *(inner for item in value for inner in containers(item))]
    return []


def depth(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(depth, items), default=0)


@given(values)
@example({"__bson__": "int", "value": "0x1"})
@example({"__bson__": "keys", "a%2Eb": 1})
@example({"__bson__": "pairs", "value": []})
@example({"%__bson__": 1, "__bson__": 2, "%": 3, "": 4})
@example({"\ud83d\ude00": "\ud83d\ude00"})
@example({(1, (2.5, b"x")): {None: [True]}})
@example({"$ref": "c", "$id": 1})
@example([2**63, -(2**63) - 1, 2**63 - 1, -(2**63), 2**31, 10**5000])
def test_any_value_comes_back_equal_with_its_type_and_order(value: Any) -> None:
    assert same(round_trip(value), value)


@given(values)
@example({"a": {"$b.c": {1: {"": 2}}}})
def test_stored_keys_are_field_names_for_every_server(value: Any) -> None:
    for key in stored_keys(encode(value)):
        assert key
        assert not key.startswith("$")
        assert not set(key) & set(".\x00")


@given(values)
def test_copies_share_nothing_mutable_with_their_source(value: Any) -> None:
    encoded = encode(value)
    decoded = decode(encoded)

    sources = {id(container) for container in containers(value) if not isinstance(container, tuple)}
    encodings = {id(container) for container in containers(encoded)}
    assert not sources & encodings
    assert not encodings & {id(container) for container in containers(decoded)}


@given(values)
def test_encoding_twice_and_decoding_twice_comes_back_equal(value: Any) -> None:
    assert same(decode(decode(through_bson(encode(encode(value))))), value)


@given(values)
def test_the_depth_limit_counts_what_is_stored(value: Any) -> None:
    levels = depth(encode(value))

    assert depth(encode(value, max_depth=levels)) == levels
    if levels:
        with pytest.raises(ValueError, match="nested too deeply"):
            encode(value, max_depth=levels - 1)


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": [{"text": "héllo\x00", "n": [1, 2.5, True, None, b"\x00\xff", math.inf]}]},
        datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC),
        [ObjectId(), Decimal128("1.5"), Timestamp(1, 2), Regex("a.*", "i"), MinKey(), MaxKey(), Binary(b"x", 7)],
        {"a$b": 1, "c%": 2, "_id": 3},
    ],
)
def test_what_bson_holds_is_stored_as_it_is(value: Any) -> None:
    assert encode(value) == value
    assert round_trip(value) == value


def test_ordinary_keys_beside_odd_ones_stay_queryable_in_place() -> None:
    value = {"name": "x", "a.b": 1, "$ref": {"plain": 2}}

    assert encode(value) == {"__bson__": "keys", "name": "x", "a%2Eb": 1, "%24ref": {"plain": 2}}


@pytest.mark.parametrize("value", [{"a.b": 1}, {7: {"x": 1}}])
def test_a_field_set_inside_an_object_with_odd_keys_is_read_with_it(value: dict[Any, Any]) -> None:
    stored = encode(value)
    stored["later"] = encode(2**70)

    assert decode(stored) == {**value, "later": 2**70}


class Colour(Enum):
    RED = "red"
    ONE = 1


class Text(str, Enum):  # noqa: UP042 (str() of its members is not their text)
    KEY = "key"


class Level(IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")


class Real(float):
    pass


class Moment(datetime):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Text.KEY, "key"),
        (Level.HIGH, 3),
        (Real(1.5), 1.5),
        ({Text.KEY: Level.HIGH}, {"key": 3}),
        ({Text.KEY: 1, "a.b": 2}, {"key": 1, "a.b": 2}),
        (Point(1, 2), (1, 2)),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (Binary(b"ab", 0), b"ab"),
        (Int64(5), 5),
        (Moment(2024, 1, 2, 3, 4, 5, 678901), datetime(2024, 1, 2, 3, 4, 5, 678901)),
    ],
)
def test_subclasses_come_back_as_the_plain_value(value: Any, plain: Any) -> None:
    assert same(round_trip(value), plain)


def test_keys_of_enum_members_need_no_mark() -> None:
    assert encode({Text.KEY: 1}) == {"key": 1}


def test_a_long_integer_keeps_its_stored_type() -> None:
    assert type(encode(Int64(5))) is Int64


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 5, 6, 7, 8, 9),
        datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2))),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Madrid")),
        datetime.min,
        datetime.max,
        datetime.max.replace(tzinfo=UTC),
        date(2024, 2, 29),
        Decimal("1.50"),
        Decimal("-Infinity"),
        UUID(int=7),
    ],
)
def test_dates_and_numbers_that_bson_would_change_come_back_as_they_were(value: Any) -> None:
    restored = round_trip(value)

    assert restored == value
    assert type(restored) is type(value)
    assert str(restored) == str(value)


def test_a_zone_that_this_machine_does_not_know_gives_the_same_moment() -> None:
    stored = encode(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Madrid")))
    stored["zone"] = "Atlantis/Capital"

    assert decode(stored) == datetime(2024, 7, 1, 10, tzinfo=UTC)


@given(moments)
@example(datetime(2024, 5, 6, 7, 8, 9, 123999))
def test_native_dates_are_utc_in_milliseconds(moment: datetime) -> None:
    stored = encode({"at": [moment]}, native_dates=True)["at"][0]

    expected = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    assert stored.tzinfo is UTC
    assert timedelta() <= expected - stored < timedelta(milliseconds=1)
    assert through_bson(stored) == decode(stored) == stored


def test_a_native_date_outside_what_utc_expresses_is_named() -> None:
    early = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))

    with pytest.raises(ValueError, match=r"^invalid metadata\.since: .*years 1 to 9999"):
        encode({"since": early}, where="metadata", native_dates=True)


def test_dates_of_a_naive_reader_are_utc_too() -> None:
    assert decode(datetime(2024, 1, 1)) == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "invalid content: cannot store a set"),
        ([{"toolUse": {"input": {"x": {"s"}}}}], "invalid content[0].toolUse.input.x: cannot store a set"),
        ([{"a-b": object()}], "invalid content[0]['a-b']: cannot store a object"),
        ({"x" * 41: object()}, "invalid content[<str key>]: cannot store a object"),
        ({7: {"k": print}}, "invalid content[7].k: cannot store a builtin_function_or_method"),
        ({frozenset({"s"}): 1}, "invalid content[<frozenset key>]: cannot store a frozenset"),
        ((1, (2, 1j)), "invalid content[1][1]: cannot store a complex"),
        ({Colour.ONE: 1, 1: 2}, "invalid content: cannot store a dict of which two keys would be stored alike"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_place(value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode(value, where="content")

    assert str(caught.value).partition("; store ")[0] == message


def test_errors_hold_no_content() -> None:
    with pytest.raises(TypeError) as caught:
        encode({"note": {"my secret"}})

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def test_a_value_at_the_depth_limit_comes_back() -> None:
    value = nested(MAX_DEPTH, lambda inner: {"a": inner})

    assert round_trip(value) == value


@pytest.mark.parametrize(
    "value",
    [
        nested(MAX_DEPTH + 1, lambda inner: {"a": inner}),
        nested(MAX_DEPTH + 1, lambda inner: [inner]),
        nested(MAX_DEPTH // 2 + 1, lambda inner: (inner,)),
        nested(MAX_DEPTH // 3 + 1, lambda inner: {1: inner}),
        nested(100_000, lambda inner: [inner]),
    ],
    ids=["dicts", "lists", "tuples", "pairs", "very-deep"],
)
def test_a_value_below_the_depth_limit_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^invalid state[.\[].*: nested too deeply"):
        encode(value, where="state")


def test_a_value_inside_itself_is_refused() -> None:
    loop: dict[str, Any] = {"items": []}
    loop["items"].append(loop)

    with pytest.raises(ValueError, match="inside itself"):
        encode(loop)


def test_a_caller_near_the_end_of_the_stack_gets_the_same_error() -> None:
    def descend() -> Any:
        try:
            return descend()
        except RecursionError:
            return encode(nested(MAX_DEPTH, lambda inner: [inner]))

    with pytest.raises(ValueError, match="nested too deeply"):
        descend()


@pytest.mark.parametrize(
    "stored",
    [
        {"__bson__": "int", "value": "twelve"},
        {"__bson__": "int", "value": 12},
        {"__bson__": "int"},
        {"__bson__": "decimal", "value": "x"},
        {"__bson__": "datetime", "value": "today"},
        {"__bson__": "pairs", "value": [[[], 1]]},
        {"__bson__": "pairs", "value": [1]},
        {"__bson__": "uuid", "value": "x", "more": 1},
        {"__bson__": "from a newer version", "value": 1},
        {"__bson__": ["odd"], "value": 1},
        {"__bson__": None},
    ],
)
def test_a_mark_that_cannot_be_read_is_returned_as_stored(stored: dict[str, Any]) -> None:
    assert decode(stored) == stored


def test_bytes_in_the_file_form_of_strands_are_read_from_documents_of_other_tools() -> None:
    stored = {"image": [{"bytes": {"__bytes_encoded__": True, "data": "AP8="}}], "n": 1}

    restored = decode_legacy_bytes(stored)

    assert restored == {"image": [{"bytes": b"\x00\xff"}], "n": 1}
    assert stored["image"] is not restored["image"]


@pytest.mark.parametrize(
    "value",
    [
        {"__bytes_encoded__": True, "data": "not base64!"},
        {"__bytes_encoded__": True, "data": "é"},
        {"__bytes_encoded__": True, "data": 5},
        {"__bytes_encoded__": False, "data": "AP8="},
        {"__bytes_encoded__": True, "data": "AP8=", "mine": 1},
        {"__bytes_encoded__": True},
    ],
)
def test_what_only_resembles_legacy_bytes_is_left_alone(value: dict[str, Any]) -> None:
    assert decode_legacy_bytes(value) == value


def test_the_users_own_object_in_that_form_stays_an_object() -> None:
    value = {"__bytes_encoded__": True, "data": "AP8="}

    assert round_trip(value) == value


def test_the_size_is_that_of_the_bson_document() -> None:
    assert encoded_size("") == len(bson.encode({"v": ""}))
    assert encoded_size(b"x" * 1000) - encoded_size(b"") == 1000
