"""Where everything stands in a session document, the only place that spells its fields out.

An agent's fields are below `agents.<key>`, with `<key>` as `names.encode_name` makes it.
"""

from __future__ import annotations

SESSION_ID = "session_id"
SCHEMA_VERSION = "schema_version"
INCARNATION = "incarnation"
APPLIED = "applied"
REVISION = "revision"
SESSION_TYPE = "session_type"
APPLICATION_NAME = "application_name"
VIEWER_PASSWORD = "session_viewer_password"
CREATED_AT = "created_at"
UPDATED_AT = "updated_at"
EXPIRES_AT = "expires_at"
TTL_S = "ttl_s"
METADATA = "metadata"
TITLE = "title"
TITLE_OF = "title_of"
FEEDBACKS = "feedbacks"
FEEDBACKS_SEALED = "feedbacks_sealed"
GUARDRAIL_EVENTS = "guardrail_events"
GUARDRAIL_EVENTS_SEALED = "guardrail_events_sealed"
ERRORS = "errors"
IDEMPOTENCY_KEYS = "idempotency_keys"
LIVE_BYTES = "live_bytes"
HAS_RELATED = "has_children"
HAS_PAYLOADS = "has_payloads"
HAS_STORAGE = "has_storage"
RELATED_EXPIRE_AT = "children_expire_at"

LEASE = "lease"
LEASE_TOKEN = "lease.token"
LEASE_RENEWALS = "lease.renewals"
LAST_LEASE = "last_lease"

SUMMARY = "summary"
AGENTS = "agents"
MULTI_AGENTS = "multi_agents"
SUMMARY_AGENTS = "summary.agents"
SUMMARY_MESSAGES = "summary.messages"
SUMMARY_FEEDBACKS = "summary.feedbacks"
SUMMARY_ERRORS = "summary.errors"

# Below an agent.
AGENT_DATA = "agent_data"
NEXT_MESSAGE_ID = "next_message_id"
MESSAGES = "messages"
WINDOW = "window"
WINDOW_HEAD = "window_head"
REDACTIONS = "redactions"
ARCHIVED_COUNT = "archived_count"
ARCHIVE = "archive"
ARCHIVE_ID = "archive.id"
ARCHIVE_TOKEN = "archive.token"
USAGE = "usage"

# Of a message, or of another item of a list.
MESSAGE_ID = "message_id"
REDACT_MESSAGE = "redact_message"
WINDOW_CONTENT = "window_content"


def agent(key: str, field: str | None = None) -> str:
    """Return the path of an agent, or of a field below it."""
    return f"{AGENTS}.{key}" if field is None else f"{AGENTS}.{key}.{field}"


def agent_data(field: str) -> str:
    """Return the path of a part of `agent_data`, below the agent."""
    return f"{AGENT_DATA}.{field}"


def messages(key: str) -> str:
    """Return the path of an agent's live messages."""
    return agent(key, MESSAGES)


def matched(items: str, field: str) -> str:
    """Return the path of a field of the list item that the filter matched."""
    return f"{items}.$.{field}"


def multi_agent(key: str) -> str:
    """Return the path of a graph's or swarm's state."""
    return f"{MULTI_AGENTS}.{key}"


def metadata(field: str) -> str:
    """Return the path of a metadata field; its dots address nested fields."""
    return f"{METADATA}.{field}"


def usage(field: str) -> str:
    """Return the path of a running total, below an agent."""
    return f"{USAGE}.{field}"


def summary_usage(field: str) -> str:
    """Return the path of a running total of the session."""
    return f"{SUMMARY}.{USAGE}.{field}"


def summary_ratings(field: str) -> str:
    """Return the path of the count of feedbacks with a rating: `up`, `down` or `other`."""
    return f"{SUMMARY}.ratings.{field}"
