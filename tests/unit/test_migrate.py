"""Documents of other tools and of earlier versions become today's: everything is kept, and what is written fits."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.schema.agents import StoredAgent
from mongodb_session_manager.schema.fields import FIELDS
from mongodb_session_manager.schema.metadata import COUNTER
from mongodb_session_manager.schema.migrate import (
    count_ratings,
    first_title,
    upgrade,
    upgrade_from_1,
)
from mongodb_session_manager.schema.sessions import SCHEMA_VERSION, new_session
from mongodb_session_manager.schema.totals import metric_counts, usage_of_messages
from mongodb_session_manager.store.head import SessionHead
from mongodb_session_manager.store.loaded import StoredSession
from tests.support.invariants import check_whole

Document = dict[str, Any]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True)

KINDS = {"metadata": dict, "feedbacks": list, "guardrail_events": list, "multi_agents": dict}
OWN = (
    {field.name for field in FIELDS if field.is_new}
    | KINDS.keys()
    | {"agents", "created_at", "schema_version", "ttl_s"}
)


def upgraded(document: Document) -> Document:
    """Return a document after its upgrade, as the server stores it."""
    guard, update = upgrade(document, NOW)
    assert all(document.get(name, {"$exists": False}) == value for name, value in guard.items())
    assert not update["$set"].keys() & update.get("$unset", {}).keys()
    after = {**copy.deepcopy(document), **update["$set"]}
    for name in update.get("$unset", {}):
        del after[name]
    return bson.decode(bson.encode(after), AWARE)


def said(number: int, text: str, role: str = "user", **fields: Any) -> Document:
    content = [{"text": text}]
    return {"message": {"role": role, "content": content}, "message_id": number, "created_at": NOW, **fields}


def agent(*messages: Document, agent_id: str = "a") -> Document:
    return {"agent_data": {"agent_id": agent_id, "state": {}}, "messages": list(messages)}


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(OWN)), odd))
def test_a_document_whose_names_mean_something_else_gets_todays_form_and_loses_nothing(fields: Document) -> None:
    document = {"_id": "s-1", **fields}
    after = upgraded(document)

    head = SessionHead.read(after)
    assert head.is_current
    assert StoredSession.from_document(after).head == head
    check_whole(after)
    assert isinstance(after.get("ttl_s", 0), int | float)
    assert not after.keys() & {"lease", "last_lease", "revision", "feedbacks_sealed", "guardrail_events_sealed"}
    assert all(isinstance(after[name], list) for name in ("applied", "feedbacks", "guardrail_events", "errors"))
    kept = after.get("legacy", {})
    given_ = bson.decode(bson.encode(fields), AWARE)
    for name in given_.keys() - KINDS.keys() - {"agents", "schema_version", "created_at"}:
        if given_[name] is not None and not (name == "ttl_s" and after.get("ttl_s") is not None):
            assert kept[name] == given_[name]
    for name in given_.keys() & KINDS.keys():
        if given_[name] is not None and not isinstance(given_[name], KINDS[name]):
            assert kept[name] == given_[name]


@given(st.dictionaries(st.sampled_from(sorted(OWN)), odd))
def test_what_is_up_to_date_is_not_brought_up_to_date_again(fields: Document) -> None:
    after = upgraded({"_id": "s-1", **fields})
    assert SessionHead.read(after).is_current


@given(st.dictionaries(st.text("xyz.$%", min_size=1, max_size=4).filter(lambda n: n not in OWN), odd, max_size=4))
def test_unknown_fields_stay_where_they_are(fields: Document) -> None:
    after = upgraded({"_id": "s-1", **fields})
    assert {name: after[name] for name in fields} == bson.decode(bson.encode(fields), AWARE)


@given(st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=3), max_size=4))
def test_totals_of_runs_add_up(runs: list[list[int]]) -> None:
    # Within a run the count only rises, and each run begins below the one before, or it would be the same one.
    messages, number, expected, before = [], 0, 0, 0
    for run in runs:
        count = 0
        for step in run:
            count += step
            metrics = {"accumulated_usage": {"totalTokens": count}}
            messages.append(said(number, "x", "assistant", event_loop_metrics=metrics))
            number += 1
            expected += count - before if count >= before else count
            before = count
    stored = StoredAgent("a", "a", agent(*messages), legacy=True)
    assert usage_of_messages(stored).get("totalTokens", 0) == expected


@pytest.mark.parametrize("metrics", [None, 7, "x", [], {}, {"accumulated_usage": 3}, {"tool_usage": {"t": 1}}])
def test_metrics_of_another_shape_count_nothing(metrics: Any) -> None:
    assert list(metric_counts(metrics)) == []


@given(st.lists(st.sampled_from(["up", "down", None, "great", 5]) | st.just("none at all")))
def test_ratings_are_counted(ratings: list[Any]) -> None:
    feedbacks = [rating if rating == "none at all" else {"rating": rating} for rating in ratings]
    counts = count_ratings(feedbacks)
    assert counts["up"] == ratings.count("up")
    assert counts["down"] == ratings.count("down")
    assert sum(counts.values()) == len(ratings)


def test_the_first_title_is_of_what_was_said_first_by_whatever_agent() -> None:
    late, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    later = [{"message_id": 0, "role": "user", "content": [{"text": "later"}], "created_at": late}]
    first = [
        {"message_id": 0, "role": "assistant", "content": [{"text": "hello"}], "created_at": early},
        {"message_id": 1, "role": "user", "content": [{"text": "first"}], "created_at": early},
    ]
    found = first_title({"a": later, "b": first})
    assert found == {"title": "first", "title_of": {"agent": "b", "message_id": 1}}
    assert first_title({"a": [None, 7, {"role": "user"}]}) == {}


def test_an_older_tools_document_keeps_all_of_its_conversation() -> None:
    feedbacks = [{"rating": "up", "comment": "good"}, {"rating": "down"}]
    document = {
        "_id": "s-1",
        "created_at": "2026-01-01T00:00:00+00:00",
        "agents": {"a": agent(said(0, "hello"), said(1, "hi", "assistant")), "b": agent(agent_id="b")},
        "metadata": {"topic": "x"},
        "feedbacks": feedbacks,
    }
    after = upgraded(document)
    check_whole(after)
    assert [message["content"] for message in after["agents"]["a"]["messages"]] == [
        [{"text": "hello"}],
        [{"text": "hi"}],
    ]
    assert after["title"] == "hello"
    assert after["metadata"] == {"topic": "x"}
    assert after[COUNTER]
    assert after["summary"]["ratings"] == {"up": 1, "down": 1, "other": 0}
    assert after["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.sampled_from(["up", "down", "other"]), max_size=5), st.booleans())
def test_a_document_of_version_1_gets_what_it_lacks_and_nothing_else(ratings: list[str], has_text: bool) -> None:
    document = new_session("s-1", NOW)
    document |= {"schema_version": 1, "revision": 4}
    del document["errors"], document["summary"]["ratings"], document["summary"]["errors"]
    messages = (
        [{"message_id": 0, "role": "user", "content": [{"text": "hello"}], "created_at": NOW}] if has_text else []
    )
    guard, update = upgrade_from_1(document, [{"rating": rating} for rating in ratings], {"a": messages})

    assert guard == {"_id": "s-1", "incarnation": document["incarnation"], "schema_version": 1, "revision": 4}
    sets = update.pop("$set")
    assert not update
    assert sets.pop("schema_version") == SCHEMA_VERSION
    assert sets.pop("summary.ratings") == {name: ratings.count(name) for name in ("up", "down", "other")}
    expected = {"title": "hello", "title_of": {"agent": "a", "message_id": 0}} if has_text else {}
    assert sets == {"errors": [], "summary.errors": 0, **expected}
