"""How every stored field is called and where it stands: the only place that spells them out.

A session's fields are below its document, an agent's below `agents.<key>`, with `<key>` as `names.encode_name` makes
it. What stands beside a session, in collections of its own, follows at the end. Expressions of aggregations put a `$`
before a path: `f"${paths.FEEDBACKS}"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of a session, and of all that belongs to it.
SESSION_ID = "session_id"
INCARNATION = "incarnation"
CREATED_AT = "created_at"
UPDATED_AT = "updated_at"
EXPIRES_AT = "expires_at"

SCHEMA_VERSION = "schema_version"
APPLIED = "applied"
REVISION = "revision"
SESSION_TYPE = "session_type"
APPLICATION_NAME = "application_name"
VIEWER_PASSWORD = "session_viewer_password"
TTL_S = "ttl_s"
METADATA = "metadata"
METADATA_BYTES = "metadata_bytes"
TITLE = "title"
TITLE_OF = "title_of"
SUMMARY = "summary"
AGENTS = "agents"
MULTI_AGENTS = "multi_agents"
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
LEGACY = "legacy"

LEASE = "lease"
LAST_LEASE = "last_lease"
TOKEN = "token"
RENEWALS = "renewals"
LEASE_S = "lease_s"
LEASE_TOKEN = f"{LEASE}.{TOKEN}"
LEASE_RENEWALS = f"{LEASE}.{RENEWALS}"

# Of a session's summary, and of an agent's running totals.
MESSAGES = "messages"
RATINGS = "ratings"
USAGE = "usage"
SUMMARY_AGENTS = f"{SUMMARY}.{AGENTS}"
SUMMARY_MESSAGES = f"{SUMMARY}.{MESSAGES}"
SUMMARY_FEEDBACKS = f"{SUMMARY}.{FEEDBACKS}"
SUMMARY_RATINGS = f"{SUMMARY}.{RATINGS}"
SUMMARY_ERRORS = f"{SUMMARY}.{ERRORS}"

# Below an agent.
AGENT_DATA = "agent_data"
NEXT_MESSAGE_ID = "next_message_id"
WINDOW = "window"
WINDOW_HEAD = "window_head"
REDACTIONS = "redactions"
ARCHIVED_COUNT = "archived_count"
ARCHIVE = "archive"
ID = "id"
ARCHIVE_ID = f"{ARCHIVE}.{ID}"
ARCHIVE_TOKEN = f"{ARCHIVE}.{TOKEN}"

# Of `agent_data`; the id is also what guardrail events and errors name an agent by.
AGENT_ID = "agent_id"
STATE = "state"
MANAGER_STATE = "conversation_manager_state"
INTERNAL_STATE = "_internal_state"
MODEL = "model"
SYSTEM_PROMPT = "system_prompt"
PROMPT_METADATA = "prompt_metadata"

# Of a message, beside Strands' own keys of it; the id is also what others name a message by.
MESSAGE_ID = "message_id"
REDACT_MESSAGE = "redact_message"
WINDOW_CONTENT = "window_content"
EVENT_LOOP_METRICS = "event_loop_metrics"
GUARDRAIL_EVENT = "guardrail_event"
TRACE_ID = "trace_id"
EXTRA = "extra"
PAYLOADS = "payloads"

# Of a feedback, a guardrail event, an error.
RATING = "rating"
TIMESTAMP = "timestamp"
ACTION = "action"
STOP_REASON = "stop_reason"
POLICIES_TRIGGERED = "policies_triggered"
TRACE = "trace"
ERROR = "error"

# Of a segment, beside `token`, `archive` and `redactions`. `agent` is an agent's key, in `title_of` as well.
AGENT = "agent"
LIST = "list"
START = "start"
END = "end"
ITEMS = "items"
FIRST_ID = "first_id"
LAST_ID = "last_id"
COMMITTED = "committed"
ITEM_PAYLOADS = f"{ITEMS}.{PAYLOADS}"

# Of a chunk, of a payload or of a value of a storage.
DATA = "data"
COUNT = "count"
DOOMED = "doomed"
SHA256 = "sha256"
NUMBER = "number"
USED_AT = "used_at"

# Of the head of a value of a storage; its key and generation stand in its chunks, too.
KEY = "key"
GENERATION = "generation"
SIZE = "size"
VERSION = "version"
WRITES = "writes"
TEXT = "text"


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
    return f"{SUMMARY_RATINGS}.{field}"


def object_at(document: object, path: str) -> Mapping[str, Any]:
    """Return the object at a dotted path of a document, an empty one where there is something else or nothing."""
    found = at(document, path)
    return found if isinstance(found, Mapping) else {}


def list_at(document: object, path: str) -> list[Any]:
    """Return the list at a dotted path of a document, an empty one where there is something else or nothing."""
    found = at(document, path)
    return found if isinstance(found, list) else []


def at(document: object, path: str) -> Any:
    """Return what stands at a dotted path of a document, None where there is nothing."""
    node: Any = document
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
