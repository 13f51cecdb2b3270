from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongodb_session_manager.errors import InvalidNameError
from mongodb_session_manager.schema.names import (
    MAX_PATH_SEGMENTS,
    check_agent_id,
    check_metadata_keys,
    check_metadata_update,
    check_session_id,
    decode_name,
    encode_name,
    metadata_path,
)

any_text = st.text(st.characters(codec=None, exclude_categories=()))
hostile_text = st.text(st.sampled_from(".$%\x00u\ud800\udfff0D2E5a "))
names = any_text | hostile_text


@given(names)
@example("")
@example("%")
@example("%2E")
@example("%uD800")
@example("\ud83d\ude00")
def test_any_name_comes_back_from_its_field_name(name: str) -> None:
    assert decode_name(encode_name(name)) == name


@given(names)
@example("")
@example("$set")
@example("a.b")
def test_any_name_becomes_one_valid_path_segment(name: str) -> None:
    key = encode_name(name)

    assert key
    assert not set(key) & set(".$\x00")
    key.encode()


@given(names, names)
def test_different_names_have_different_field_names(one: str, other: str) -> None:
    assert (encode_name(one) == encode_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["default", "sales agent", "billing-2", "Ünïcode 🤖", "a/b", "__bson__", "0"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert encode_name(name) == name
    assert decode_name(name) == name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sales.eu", "sales%2Eeu"),
        ("$cmd", "%24cmd"),
        ("100%", "100%25"),
        ("a\x00b", "a%00b"),
        ("\ud800", "%uD800"),
        ("", "%"),
    ],
)
def test_odd_names_are_percent_encoded(name: str, key: str) -> None:
    assert encode_name(name) == key


@given(names)
@example("100%")
@example("%%")
@example("50% off")
@example("%2e")
@example("%41")
@example("%u0041")
@example("%25%")
@example("a.b%25")
def test_a_key_that_is_no_encoding_is_left_alone(key: str) -> None:
    decoded = decode_name(key)

    assert decoded == key or encode_name(decoded) == key


@pytest.mark.parametrize("key", ["100%", "%%", "50% off", "%2e", "%41", "%u0041", "%25%", "a.b%25"])
def test_raw_keys_of_other_tools_are_their_own_names(key: str) -> None:
    assert decode_name(key) == key


@pytest.mark.parametrize("session_id", ["s", "a.b", "$where", "x\x00y", "日本", " "])
def test_text_is_a_session_id(session_id: str) -> None:
    assert check_session_id(session_id) == session_id


@pytest.mark.parametrize("session_id", ["", "\ud800", None, 7, True, b"s", {"$ne": None}, ["s"], ("s",)])
def test_anything_but_storable_text_is_no_session_id(session_id: object) -> None:
    with pytest.raises(InvalidNameError, match="session id") as caught:
        check_session_id(session_id)

    assert caught.value.name == session_id


def test_an_enum_member_is_taken_as_its_text() -> None:
    class Tenant(str, Enum):  # noqa: UP042 (str() of its members is not their text)
        MAIN = "main"

    session_id, agent_id = check_session_id(Tenant.MAIN), check_agent_id(Tenant.MAIN)

    assert (session_id, type(session_id)) == ("main", str)
    assert (agent_id, type(agent_id)) == ("main", str)


@given(names)
def test_any_text_is_an_agent_id(agent_id: str) -> None:
    assert check_agent_id(agent_id) == agent_id


@pytest.mark.parametrize("agent_id", [None, 7, b"a", {"$ne": None}])
def test_anything_but_text_is_no_agent_id(agent_id: object) -> None:
    with pytest.raises(InvalidNameError, match="agent id"):
        check_agent_id(agent_id)


@pytest.mark.parametrize("key", ["a", "a.b", "a.0.b", "price $", "a$b", "100%", "Ünï", " ", "value"])
def test_metadata_keys_are_paths_below_metadata(key: str) -> None:
    assert metadata_path(key) == f"metadata.{key}"


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("", "must not be empty"),
        (".", "each needs a name"),
        ("a..b", "each needs a name"),
        (".a", "each needs a name"),
        ("a.", "each needs a name"),
        ("$set", "start with"),
        ("a.$b", "start with"),
        ("a.$[].b", "start with"),
        ("a\x00", "NUL"),
        ("a.\udfff", "UTF-8"),
        ("__bson__", "reserved"),
        ("a.__bson__.b", "reserved"),
        (".".join("a" * (MAX_PATH_SEGMENTS + 1)), "levels deep"),
        (7, "must be a string"),
        (None, "must be a string"),
        (b"a", "must be a string"),
        ({"$gt": ""}, "must be a string"),
    ],
)
def test_a_metadata_key_that_breaks_a_rule_is_named_with_the_rule(key: object, rule: str) -> None:
    with pytest.raises(InvalidNameError, match=rule) as caught:
        metadata_path(key)

    assert caught.value.kind == "metadata key"
    assert caught.value.name == key


def test_the_deepest_allowed_metadata_key_passes() -> None:
    key = ".".join("a" * MAX_PATH_SEGMENTS)

    assert metadata_path(key) == f"metadata.{key}"


def test_an_update_is_returned_as_paths_in_order() -> None:
    update = {"b": 1, "a.x": {"y": 2}, "a.z": None, "ab": 3}

    paths = check_metadata_update(update)

    assert list(paths.items()) == [
        ("metadata.b", 1),
        ("metadata.a.x", {"y": 2}),
        ("metadata.a.z", None),
        ("metadata.ab", 3),
    ]


def test_an_empty_update_is_empty() -> None:
    assert check_metadata_update({}) == {}
    assert check_metadata_keys([]) == []


@pytest.mark.parametrize("update", [{"a": 1, "a.b": 2}, {"a.b.c": 1, "a": 2}, {"x.y": 1, "z": 2, "x.y.z.w": 3}])
def test_a_key_inside_another_of_the_same_update_is_refused_naming_both(update: dict[str, Any]) -> None:
    outer, inner = sorted((key for key in update if key[0] in "ax"), key=len)

    with pytest.raises(InvalidNameError) as caught:
        check_metadata_update(update)

    assert repr(outer) in str(caught.value)
    assert repr(inner) in str(caught.value)


@pytest.mark.parametrize("metadata", [None, "a", [("a", 1)], 7])
def test_an_update_that_is_no_dict_is_a_type_error(metadata: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(metadata).__name__}"):
        check_metadata_update(metadata)


def test_an_update_with_a_bad_key_is_refused() -> None:
    with pytest.raises(InvalidNameError, match="'\\$set'"):
        check_metadata_update({"fine": 1, "$set": {"agents": {}}})


@pytest.mark.parametrize("keys", [["a", "b.c"], ("a", "b.c"), {"a": 1, "b.c": 2}.keys()])
def test_keys_to_delete_are_returned_as_paths(keys: object) -> None:
    assert check_metadata_keys(keys) == ["metadata.a", "metadata.b.c"]


def test_keys_to_delete_may_be_a_set() -> None:
    assert sorted(check_metadata_keys({"a", "b"})) == ["metadata.a", "metadata.b"]


def test_keys_inside_another_key_to_delete_go_with_it() -> None:
    assert check_metadata_keys(["a.b.c", "a", "ab", "a", "a.b"]) == ["metadata.a", "metadata.ab"]


@pytest.mark.parametrize("keys", ["key", b"key", None, 7, {"a": 1}])
def test_keys_that_are_no_list_are_a_type_error(keys: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(keys).__name__}"):
        check_metadata_keys(keys)


@pytest.mark.parametrize("keys", [["a", 7], ["$a"], [""], [None]])
def test_a_list_with_a_bad_key_to_delete_is_refused(keys: list[object]) -> None:
    with pytest.raises(InvalidNameError, match="metadata key"):
        check_metadata_keys(keys)
