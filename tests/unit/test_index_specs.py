from __future__ import annotations

from typing import Any

import pytest

from mongodb_session_manager.errors import InvalidNameError
from mongodb_session_manager.store.indexes import index_specs, order_index_specs


def keys(*fields: str) -> list[tuple[str, ...]]:
    return [tuple(model.document["key"]) for model in index_specs(fields)]


def test_every_collection_has_these() -> None:
    counted = ("summary.feedbacks", "summary.ratings.up", "summary.ratings.down", "summary.errors")
    assert keys() == [
        ("created_at", "_id"),
        ("updated_at", "_id"),
        ("application_name",),
        ("expires_at",),
        *(("created_at", "_id", path) for path in counted),
    ]


def test_ratings_and_failed_turns_are_indexed_only_where_there_are_any() -> None:
    partial = {model.document["name"]: model.document.get("partialFilterExpression") for model in index_specs()}

    assert [expression for expression in partial.values() if expression is not None] == [
        {path: {"$gt": 0}}
        for path in ("summary.feedbacks", "summary.ratings.up", "summary.ratings.down", "summary.errors")
    ]


def test_what_changes_with_each_turn_is_indexed_on_request_only() -> None:
    changing = [("summary.messages", "_id"), ("summary.usage.totalTokens", "_id")]

    assert [tuple(model.document["key"]) for model in order_index_specs()] == changing
    assert not set(changing) & set(keys("priority"))


def test_each_metadata_field_is_searched_in_order_of_creation() -> None:
    assert keys("priority", "customer.tier")[3:5] == [
        ("metadata.priority", "created_at", "_id"),
        ("metadata.customer.tier", "created_at", "_id"),
    ]


def test_a_field_named_twice_has_one_index() -> None:
    assert keys("priority", "priority") == keys("priority")


def test_sessions_expire_at_their_own_date() -> None:
    options: list[dict[str, Any]] = [model.document for model in index_specs() if "expires_at" in model.document["key"]]

    assert [document["expireAfterSeconds"] for document in options] == [0]


def test_no_other_index_removes_anything() -> None:
    specs = index_specs(["priority"])

    assert [list(model.document["key"]) for model in specs if "expireAfterSeconds" in model.document] == [
        ["expires_at"]
    ]


def test_plain_string_is_refused_instead_of_taken_letter_by_letter() -> None:
    with pytest.raises(TypeError, match=r"it must be a list of fields, such as \['priority'\], not a plain string"):
        index_specs("priority")


@pytest.mark.parametrize("fields", [3, b"priority", True])
def test_what_holds_no_fields_is_refused(fields: Any) -> None:
    with pytest.raises(
        TypeError, match=f"invalid metadata_fields: it must be a list of fields, not {type(fields).__name__}"
    ):
        index_specs(fields)


@pytest.mark.parametrize("field", ["", "a..b", "$where", "a.$b"])
def test_field_that_cannot_be_a_metadata_key_is_refused(field: str) -> None:
    with pytest.raises(InvalidNameError):
        index_specs([field])
