from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from bson.binary import Binary
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.errors import CorruptMessageError, MessageTooLargeError
from mongodb_session_manager.schema import values
from mongodb_session_manager.schema.messages import encode_message, session_message
from mongodb_session_manager.schema.payloads import (
    INLINE_BYTES,
    PAYLOAD_BYTES,
    SMALL_PAYLOAD_BYTES,
    STATE_OFFLOAD_BYTES,
    MissingPayloadError,
    names_by_field,
    names_in,
    offload_state,
    restore,
    restored_message,
    take,
)

LARGE = b"a" * PAYLOAD_BYTES
OTHER = b"b" * PAYLOAD_BYTES
SMALL = b"c" * SMALL_PAYLOAD_BYTES


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def taken(value: Any) -> dict[str, bytes]:
    return take(value).named()


BYTES: dict[str, bytes] = {"empty": b"", "small": SMALL, "large": LARGE, "other": OTHER, "subtype": Binary(LARGE, 128)}
# By name, since hypothesis prints what it draws.
DATA = st.sampled_from(sorted(BYTES)).map(lambda name: BYTES[name])
MARKISH = st.fixed_dictionaries(
    {},
    optional={
        "__bson__": st.sampled_from(["payload", "packed", "keys", 3]),
        "value": st.one_of(st.sampled_from([sha(LARGE), "0" * 64, "short"]), DATA),
        "size": st.integers(),
        "payloads": st.lists(st.sampled_from([sha(OTHER), "x"]), max_size=2),
    },
)
LEAVES = st.one_of(st.none(), st.integers(), st.text(max_size=5), DATA, MARKISH)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=4), st.just("__bson__")), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_taken_out_comes_back(value: Any) -> None:
    holder = {"v": values.encode(value)}
    payloads = taken(holder)

    assert {sha(data) for data in payloads.values()} == payloads.keys() == names_in(holder)
    assert values.decode(restore(holder, payloads)["v"]) == value


@given(VALUES, st.booleans())
def test_any_state_comes_back(value: Any, is_long: bool) -> None:
    state = {"v": value, "text": "x" * (STATE_OFFLOAD_BYTES if is_long else 1)}
    stored, payloads = offload_state(values.encode(state))

    assert names_in(stored) == payloads.keys()
    assert values.decode(restore(stored, payloads)) == state


def test_bytes_from_the_threshold_on_are_taken_out() -> None:
    holder = {"large": LARGE, "less": LARGE[:-1]}

    assert taken(holder) == {sha(LARGE): LARGE}
    assert holder == {
        "large": {"__bson__": "payload", "value": sha(LARGE), "size": len(LARGE)},
        "less": LARGE[:-1],
    }


def test_smaller_bytes_are_taken_out_where_they_are_many() -> None:
    few = {"blocks": [SMALL] * (INLINE_BYTES // len(SMALL))}
    many = {"blocks": [SMALL] * (INLINE_BYTES // len(SMALL) + 1)}

    assert taken(few) == {}
    assert taken(many) == {sha(SMALL): SMALL}


def test_bytes_keep_their_subtype() -> None:
    holder = {"v": Binary(LARGE, 128)}
    payloads = taken(holder)
    restored = restore(holder, payloads)["v"]

    assert isinstance(restored, Binary)
    assert (restored.subtype, bytes(restored)) == (128, LARGE)


def test_a_packed_state_names_the_bytes_within() -> None:
    stored, payloads = offload_state({"text": "x" * STATE_OFFLOAD_BYTES, "data": LARGE})

    assert stored.keys() == {"__bson__", "value", "size", "payloads"}
    assert stored["payloads"] == [sha(LARGE)]
    assert names_in(stored) == payloads.keys() == {stored["value"], sha(LARGE)}


def test_what_is_missing_is_an_error() -> None:
    holder = {"v": LARGE}
    payloads = taken(holder)
    payloads.clear()

    with pytest.raises(MissingPayloadError):
        restore(holder, payloads)


def message(*blocks: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks), **fields}


def test_a_message_lists_what_it_refers_to() -> None:
    document, payloads = encode_message(message({"v": LARGE}, {"v": LARGE}, metadata={"v": OTHER}), agent_id="a")

    assert document["payloads"] == sorted(payloads) == sorted([sha(LARGE), sha(OTHER)])
    assert names_by_field(document) == {"content": {sha(LARGE)}, "metadata": {sha(OTHER)}}


def test_a_message_comes_back() -> None:
    original = message({"v": LARGE}, metadata={"v": OTHER}, extra_key={"v": LARGE})
    document, payloads = encode_message(original, agent_id="a")
    restored = restored_message({**document, "message_id": 3}, payloads, "a")

    assert session_message(restored).to_message() == original


def test_a_message_without_large_bytes_lists_nothing() -> None:
    document, payloads = encode_message(message({"text": "hi"}, {"v": SMALL}), agent_id="a")

    assert payloads == {}
    assert "payloads" not in document
    assert restored_message(document, {}, "a") is document


def test_a_message_whose_bytes_are_missing_is_named() -> None:
    document, _ = encode_message(message({"v": LARGE}), agent_id="a")

    with pytest.raises(CorruptMessageError, match="message 3 of agent 'a'"):
        restored_message({**document, "message_id": 3}, {}, "a")


def test_only_what_remains_counts_toward_the_limit() -> None:
    text = {"text": "x" * (15 * 1024 * 1024 - 200_000)}
    images = [{"v": bytes([number]) * 100_000} for number in range(9)]

    document, payloads = encode_message(message(text, *images), agent_id="a")

    assert len(payloads) == 9
    assert document["content"][0] == text
    with pytest.raises(MessageTooLargeError):
        encode_message(message(text, text, {"v": LARGE}), agent_id="a")
