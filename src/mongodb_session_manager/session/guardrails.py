"""What is recorded when a guardrail intervenes: on the message, and in short for the session.

Traces have the shape of Bedrock's Converse API. They come from callers, so no part of one is relied upon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..schema import paths, values

GUARDRAIL_STOP_REASONS = frozenset({"guardrail_intervened", "content_filtered"})
"""Stop reasons of models that say that a guardrail or content filter intervened."""

_UNKNOWN = "UNKNOWN"
_POLICIES = (
    ("contentPolicy", "filters", ("type", "confidence")),
    ("topicPolicy", "topics", ("name", "action")),
    ("wordPolicy", "customWords", ("match",)),
    ("wordPolicy", "managedWordLists", ("type", "match")),
    ("sensitiveInformationPolicy", "piiEntities", ("type", "action")),
    ("sensitiveInformationPolicy", "regexes", ("name", "action")),
    ("contextualGroundingPolicy", "filters", ("type", "score", "threshold")),
)
_POLICY_NAMES = frozenset(policy for policy, _, _ in _POLICIES)
_ASSESSMENT_LEVELS = 3  # by guardrail id, and for outputs in a list


def guardrail_event(
    *,
    now: datetime,
    action: str = "BLOCKED",
    stop_reason: str | None = None,
    trace: Mapping[str, Any] | None = None,
    redacted: Any = None,
) -> dict[str, Any]:
    """Return the record of an intervention that belongs to the message.

    Args:
        now: When it happened.
        action: What the guardrail did.
        stop_reason: Why the model stopped, left out if unknown.
        trace: The guardrail's trace, bare or as `{"guardrail": ...}`. A copy is kept, without the model's original
            output and without the personal data that it found in the redacted message.
        redacted: The message as it was, to find its text in the trace. Without it all such finds are left out.
    """
    event: dict[str, Any] = {paths.ACTION: action, paths.TIMESTAMP: now}
    if stop_reason is not None:
        event[paths.STOP_REASON] = stop_reason
    if isinstance(trace, Mapping) and trace:
        policies = summarize_policies(trace)
        if policies:
            event[paths.POLICIES_TRIGGERED] = policies
        event[paths.TRACE] = _without_original(trace, redacted)
    return event


def storable_event(event: dict[str, Any]) -> tuple[dict[str, Any], Exception | None]:
    """Return a guardrail's record as it is stored, and why a part of it cannot be, which is left out."""
    stored: dict[str, Any] = {paths.ACTION: "BLOCKED"}
    problem: Exception | None = None
    for name, value in event.items():
        try:
            stored[name] = values.encode(value, where=f"guardrail_{name}", native_dates=True)
        except (TypeError, ValueError) as error:
            problem = error
    return stored, problem


def event_summary(event: Mapping[str, Any], message_id: int, agent_id: str) -> dict[str, Any]:
    """Return the short form of a message's record for the session's list; never the trace."""
    kept = (paths.ACTION, paths.TIMESTAMP, paths.STOP_REASON, paths.POLICIES_TRIGGERED)
    return {paths.MESSAGE_ID: message_id, paths.AGENT_ID: agent_id} | {key: event[key] for key in kept if key in event}


def summarize_policies(trace: Any) -> dict[str, list[str]]:
    """Return which policies found what, such as `{"contentPolicy": ["VIOLENCE/HIGH"]}`, each find once.

    A part that a find lacks reads `UNKNOWN`; what has not the shape of a trace is passed over.
    """
    found: dict[str, dict[str, None]] = {}
    for assessment in _assessments_of(trace):
        for policy, kind, parts in _POLICIES:
            for item in _items(assessment, policy, kind):
                label = "/".join(_part(item.get(part)) for part in parts)
                found.setdefault(policy, {})[label] = None
    return {policy: list(labels) for policy, labels in found.items()}


def _assessments_of(trace: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(trace, Mapping):
        return
    inner = trace.get("guardrail")
    guardrail = inner if isinstance(inner, Mapping) else trace
    for side in ("inputAssessment", "outputAssessments"):
        yield from _assessments(guardrail.get(side), _ASSESSMENT_LEVELS)


def _assessments(value: Any, levels: int) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if not _POLICY_NAMES.isdisjoint(value):
            yield value
            return
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = list(value)
    else:
        return
    if levels:
        for child in children:
            yield from _assessments(child, levels - 1)


def _items(assessment: Mapping[str, Any], policy: str, kind: str) -> Iterator[Mapping[str, Any]]:
    findings = assessment.get(policy)
    items = findings.get(kind) if isinstance(findings, Mapping) else None
    for item in items if isinstance(items, list | tuple) else ():
        # A full trace also lists what was looked for and not found.
        if isinstance(item, Mapping) and item.get("detected") is not False:
            yield item


def _part(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) and value != "" else _UNKNOWN


def _without_original(trace: Mapping[str, Any], redacted: Any) -> dict[str, Any]:
    """Copy the trace without text of the redacted message, which must not outlive the redaction here."""
    texts = None if redacted is None else [text.casefold() for text in _texts(redacted)]

    def quotes(match: Any) -> bool:
        return texts is None or any(str(match).casefold() in text for text in texts)

    def copied(value: Any, personal: bool) -> Any:
        if isinstance(value, Mapping):
            return {
                key: copied(item, personal or key == "sensitiveInformationPolicy")
                for key, item in value.items()
                if key != "modelOutput" and not (personal and key == "match" and quotes(item))
            }
        if isinstance(value, list | tuple):
            return [copied(item, personal) for item in value]
        return value

    result: dict[str, Any] = copied(trace, personal=False)
    return result


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
