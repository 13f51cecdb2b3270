"""What is known of a session besides its timeline, as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schema import paths, values
from ..schema.agents import StoredAgent
from ..schema.messages import read_date
from ..schema.names import decode_name
from ..web.plain import Plain, count_or_none, findable_text, number_or_none, storable_text, text_or_none
from .reading import StoredHead
from .schemas import AgentSummary, Counts, SessionHead, ToolTotals, UsageTotals
from .search_schemas import Ratings, SessionCard

_TITLE_LENGTH = 120
_LOOKED_AT = 2_000
_TOTALS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "total_tokens": "totalTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheWriteInputTokens",
    "latency_ms": "latencyMs",
    "model_calls": "modelCalls",
}
_TOOL_COUNTS = {
    "call_count": "call_count",
    "success_count": "success_count",
    "error_count": "error_count",
    "total_time_s": "total_time",
}


def session_head(head: StoredHead) -> SessionHead:
    """Return what is known of a session besides its timeline."""
    document = head.document
    counted = {"message": 0, "feedback": 0, "guardrail": 0, "error": 0}
    messages: dict[str, int] = {}
    for entry in head.lists:
        counted[entry.kind] += entry.count
        if entry.agent is not None:
            messages[entry.agent.agent_id] = entry.count
    return SessionHead(
        session_id=storable_text(head.session_id),
        title=title_or_none(document.get("title")),
        application_name=text_or_none(document.get(paths.APPLICATION_NAME)),
        created_at=read_date(document.get("created_at")),
        updated_at=read_date(document.get("updated_at")),
        expires_at=read_date(document.get(paths.EXPIRES_AT)),
        metadata=metadata_shown(document),
        agents_summary=[
            _agent(agent, messages.get(agent_id, 0), head.usages.get(agent_id, {}))
            for agent_id, agent in head.agents.items()
        ],
        usage=usage_totals(list(head.usages.values())),
        counts=Counts(
            messages=counted["message"],
            feedbacks=counted["feedback"],
            guardrails=counted["guardrail"],
        ),
        errors_count=counted["error"],
    )


def session_card(document: Mapping[str, Any]) -> SessionCard:
    """Return what a list shows of a stored session, whatever tool wrote it."""
    summary = document.get(paths.SUMMARY)
    counts = summary if isinstance(summary, Mapping) else {}
    usage = counts.get("usage")
    return SessionCard(
        session_id=storable_text(str(document["_id"])),
        title=title_or_none(document.get("title")),
        ratings=_ratings(counts.get("ratings")),
        errors_count=count_or_none(counts.get("errors")),
        application_name=text_or_none(document.get(paths.APPLICATION_NAME)),
        created_at=read_date(document.get("created_at")),
        updated_at=read_date(document.get("updated_at")),
        metadata=metadata_shown(document),
        agents_count=count_or_none(counts.get("agents")),
        messages_count=count_or_none(counts.get("messages")),
        feedbacks_count=count_or_none(counts.get("feedbacks")),
        usage=Plain().fields(usage) if isinstance(usage, Mapping) else {},
    )


def title_or_none(stored: object) -> str | None:
    """Return a title as one line of at most 120 characters, None without one."""
    line = " ".join(stored[:_LOOKED_AT].split()) if isinstance(stored, str) else ""
    if not line:
        return None
    return storable_text(line if len(line) <= _TITLE_LENGTH else f"{line[: _TITLE_LENGTH - 1]}…")


def _ratings(stored: object) -> Ratings | None:
    if not isinstance(stored, Mapping):
        return None
    return Ratings(**{name: count_or_none(stored.get(name)) or 0 for name in ("up", "down", "other")})


def metadata_shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session's metadata; what is no document is shown under a name of its own."""
    metadata = document.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        return {"(not a document)": Plain().value(metadata)}
    return Plain(utf8=findable_text).fields({key: values.decode(value) for key, value in metadata.items()})


def usage_totals(usages: list[Mapping[str, Any]]) -> UsageTotals:
    """Return the sum of stored running totals; what was not reported is None, not 0."""
    totals: dict[str, Any] = {}
    for name, key in _TOTALS.items():
        found = [number for usage in usages if (number := number_or_none(usage.get(key))) is not None]
        totals[name] = sum(found) if found else None
    tools: dict[str, dict[str, Any]] = {}
    for usage in usages:
        stored = usage.get("tools")
        for key, counts in stored.items() if isinstance(stored, Mapping) else ():
            tool = tools.setdefault(storable_text(decode_name(key)), dict.fromkeys(_TOOL_COUNTS, 0))
            for name, field in _TOOL_COUNTS.items():
                tool[name] += number_or_none(counts.get(field)) or 0 if isinstance(counts, Mapping) else 0
    return UsageTotals(**totals, tools={name: ToolTotals(**counts) for name, counts in tools.items()})


def _agent(agent: StoredAgent, messages_count: int, usage: Mapping[str, Any]) -> AgentSummary:
    plain = Plain()
    data = agent.data
    return AgentSummary(
        agent_id=storable_text(agent.agent_id),
        model=plain.value(values.decode(data.get("model"))),
        system_prompt=plain.value(values.decode(data.get("system_prompt"))),
        prompt_metadata=plain.value(values.decode(data.get(paths.PROMPT_METADATA))),
        state=plain.value(values.decode(data.get("state"))),
        messages_count=messages_count,
        created_at=read_date(agent.raw.get("created_at") or data.get("created_at")),
        updated_at=read_date(agent.raw.get("updated_at") or data.get("updated_at")),
        usage=usage_totals([usage]),
    )
