from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongodb_session_manager.session.guardrails import (
    GUARDRAIL_STOP_REASONS,
    event_summary,
    guardrail_event,
    summarize_policies,
)

NOW = datetime(2024, 5, 6, tzinfo=UTC)
POLICIES: dict[str, Any] = {
    "contentPolicy": {"filters": [{"type": "VIOLENCE", "confidence": "HIGH", "action": "BLOCKED"}]},
    "topicPolicy": {"topics": [{"name": "medical", "type": "DENY", "action": "BLOCKED"}]},
    "wordPolicy": {
        "customWords": [{"match": "acme", "action": "BLOCKED"}],
        "managedWordLists": [{"match": "darn", "type": "PROFANITY", "action": "BLOCKED"}],
    },
    "sensitiveInformationPolicy": {
        "piiEntities": [{"type": "EMAIL", "match": "ann@example.com", "action": "ANONYMIZED"}],
        "regexes": [{"name": "ticket", "match": "T-1234", "regex": "T-[0-9]+", "action": "BLOCKED"}],
    },
    "contextualGroundingPolicy": {"filters": [{"type": "GROUNDING", "score": 0.25, "threshold": 0.7}]},
}
SUMMARY = {
    "contentPolicy": ["VIOLENCE/HIGH"],
    "topicPolicy": ["medical/BLOCKED"],
    "wordPolicy": ["acme", "PROFANITY/darn"],
    "sensitiveInformationPolicy": ["EMAIL/ANONYMIZED", "ticket/BLOCKED"],
    "contextualGroundingPolicy": ["GROUNDING/0.25/0.7"],
}
POLICY_ITEMS = [
    ("contentPolicy", "filters", "UNKNOWN/UNKNOWN"),
    ("topicPolicy", "topics", "UNKNOWN/UNKNOWN"),
    ("wordPolicy", "customWords", "UNKNOWN"),
    ("wordPolicy", "managedWordLists", "UNKNOWN/UNKNOWN"),
    ("sensitiveInformationPolicy", "piiEntities", "UNKNOWN/UNKNOWN"),
    ("sensitiveInformationPolicy", "regexes", "UNKNOWN/UNKNOWN"),
    ("contextualGroundingPolicy", "filters", "UNKNOWN/UNKNOWN/UNKNOWN"),
]


def test_stop_reasons_of_guardrails_are_fixed() -> None:
    assert frozenset({"guardrail_intervened", "content_filtered"}) == GUARDRAIL_STOP_REASONS


@pytest.mark.parametrize(
    "trace",
    [
        {"inputAssessment": {"gr-1": POLICIES}},
        {"outputAssessments": {"gr-1": [POLICIES]}},
        {"guardrail": {"inputAssessment": {"gr-1": POLICIES}}},
        {"inputAssessment": POLICIES},
    ],
    ids=["input", "output", "wrapped", "without-id"],
)
def test_every_policy_is_summarised_from_either_side(trace: dict[str, Any]) -> None:
    assert summarize_policies(trace) == SUMMARY


def test_finds_of_all_guardrails_and_both_sides_are_merged_and_named_once() -> None:
    def content(kind: str) -> dict[str, Any]:
        return {"contentPolicy": {"filters": [{"type": kind, "confidence": "LOW"}]}}

    trace: dict[str, Any] = {
        "inputAssessment": {"a": content("HATE"), "b": content("INSULTS")},
        "outputAssessments": {"a": [content("HATE"), content("SEXUAL")]},
    }

    assert summarize_policies(trace) == {"contentPolicy": ["HATE/LOW", "INSULTS/LOW", "SEXUAL/LOW"]}


@pytest.mark.parametrize(("policy", "kind", "label"), POLICY_ITEMS)
def test_parts_that_are_missing_are_unknown(policy: str, kind: str, label: str) -> None:
    trace: dict[str, Any] = {"inputAssessment": {"a": {policy: {kind: [{}]}}}}

    assert summarize_policies(trace) == {policy: [label]}


def test_what_was_looked_for_and_not_found_is_no_find() -> None:
    filters = [{"type": "HATE", "confidence": "NONE", "detected": False}, {"type": "HATE", "confidence": "LOW"}]

    assert summarize_policies({"inputAssessment": {"a": {"contentPolicy": {"filters": filters}}}}) == {
        "contentPolicy": ["HATE/LOW"]
    }


def test_a_score_of_zero_is_known() -> None:
    item = {"type": "RELEVANCE", "score": 0, "threshold": 0.5}

    summary = summarize_policies({"outputAssessments": {"a": [{"contextualGroundingPolicy": {"filters": [item]}}]}})

    assert summary == {"contextualGroundingPolicy": ["RELEVANCE/0/0.5"]}


TRACE_KEYS = ["guardrail", "inputAssessment", "outputAssessments", "gr", "filters", "topics", "type", *POLICIES]

odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(TRACE_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(odd)
def test_no_trace_is_too_odd_for_a_summary(trace: Any) -> None:
    summary = summarize_policies(trace)

    assert summary.keys() <= POLICIES.keys()
    assert all(labels and all(labels) for labels in summary.values())


def test_an_event_without_details_is_short() -> None:
    assert guardrail_event(now=NOW) == {"action": "BLOCKED", "timestamp": NOW}


@pytest.mark.parametrize("trace", [{}, "text", ["text"], None])
def test_an_event_keeps_no_trace_that_is_none(trace: Any) -> None:
    assert guardrail_event(now=NOW, action="REVIEWED", stop_reason="content_filtered", trace=trace) == {
        "action": "REVIEWED",
        "timestamp": NOW,
        "stop_reason": "content_filtered",
    }


def test_an_event_holds_policies_and_a_copy_of_the_trace() -> None:
    trace: dict[str, Any] = {
        "inputAssessment": {"gr-1": {"topicPolicy": {"topics": [{"name": "medical", "action": "BLOCKED"}]}}}
    }

    event = guardrail_event(now=NOW, stop_reason="guardrail_intervened", trace=trace)

    assert event == {
        "action": "BLOCKED",
        "timestamp": NOW,
        "stop_reason": "guardrail_intervened",
        "policies_triggered": {"topicPolicy": ["medical/BLOCKED"]},
        "trace": trace,
    }
    assert event["trace"]["inputAssessment"]["gr-1"] is not trace["inputAssessment"]["gr-1"]


def test_a_trace_without_finds_is_kept_without_policies() -> None:
    event = guardrail_event(now=NOW, trace={"inputAssessment": {"gr-1": {}}})

    assert "policies_triggered" not in event
    assert event["trace"] == {"inputAssessment": {"gr-1": {}}}


@pytest.mark.parametrize(
    "redacted",
    [
        None,
        {"role": "user", "content": [{"text": "Write to ANN@example.com about T-1234"}]},
        {"role": "user", "content": [{"document": {"source": {"bytes": b"ann@example.com, t-1234"}}}]},
    ],
    ids=["unknown", "text", "document"],
)
def test_the_redacted_text_does_not_live_on_in_the_trace(redacted: Any) -> None:
    trace = {"guardrail": {"inputAssessment": {"gr-1": POLICIES}, "modelOutput": ["the original answer"]}}

    event = guardrail_event(now=NOW, trace=trace, redacted=redacted)

    stored = repr(event).casefold()
    assert "ann@example.com" not in stored
    assert "t-1234" not in stored
    assert "the original answer" not in stored
    assert event["policies_triggered"] == SUMMARY
    pii = event["trace"]["guardrail"]["inputAssessment"]["gr-1"]["sensitiveInformationPolicy"]["piiEntities"]
    assert pii == [{"type": "EMAIL", "action": "ANONYMIZED"}]
    assert trace["guardrail"]["modelOutput"] == ["the original answer"]


def test_finds_that_are_not_in_the_redacted_message_stay_in_the_trace() -> None:
    trace = {"inputAssessment": {"gr-1": POLICIES}}

    event = guardrail_event(now=NOW, trace=trace, redacted={"role": "user", "content": [{"text": "something else"}]})

    assert event["trace"] == trace


def test_the_summary_of_an_event_has_no_trace() -> None:
    event = guardrail_event(now=NOW, stop_reason="content_filtered", trace={"inputAssessment": {"gr-1": POLICIES}})

    assert event_summary(event, 4, "sales.eu") == {
        "message_id": 4,
        "agent_id": "sales.eu",
        "action": "BLOCKED",
        "timestamp": NOW,
        "stop_reason": "content_filtered",
        "policies_triggered": SUMMARY,
    }


def test_the_summary_has_only_what_the_event_has() -> None:
    assert event_summary(guardrail_event(now=NOW), 0, "a") == {
        "message_id": 0,
        "agent_id": "a",
        "action": "BLOCKED",
        "timestamp": NOW,
    }
