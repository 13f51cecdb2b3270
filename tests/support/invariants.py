"""What holds for every stored session at any moment: the one place that says it.

`check_whole` looks at a document alone, `check_stored` at everything that belongs to a session. Tests call one of them
after whatever they do to a session, also when its writers were cancelled, cut off or killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pymongo.database import Database

Document = dict[str, Any]
Sealed = Callable[[str, str | None, Mapping[str, Any]], list[Document]]

COLLECTION = "sessions"
SESSION_ID = "s-1"
SEGMENTS = f"{COLLECTION}_segments"
PAYLOADS = f"{COLLECTION}_payloads"


def check_whole(document: Document) -> None:
    """Assert that the document of a session without segments is whole."""
    _check(document, lambda *_: [])


def check_stored(database: Database[Document], session_id: str = SESSION_ID) -> Document:
    """Assert that a session is whole, across its segments and payloads, and return its document."""
    document = database[COLLECTION].find_one({"_id": session_id})
    assert document is not None
    messages = _check(document, lambda name, agent_id, holder: sealed(database, document, name, agent_id, holder))
    for name in {name for message in messages for name in message.get("payloads", ())}:
        _check_payload(database, document, name)
    return document


def sealed(
    database: Database[Document], document: Document, name: str, agent_id: str | None, holder: Mapping[str, Any]
) -> list[Document]:
    """Return the sealed items of a list, after checking that no segment is missing or counts twice.

    Args:
        database: Where the session is.
        document: Its document.
        name: `messages` of an agent, or `feedbacks` of the session.
        agent_id: The agent, None for lists of the session.
        holder: The part of the document that knows how much is sealed.
    """
    archive = holder.get("archive") or {}
    query = {
        "session_id": document["_id"],
        "incarnation": document["incarnation"],
        "list": name,
        "agent": agent_id,
        "archive": archive.get("id"),
        "$or": [{"committed": True}, {"token": archive.get("token")}],
    }
    found = list(database[SEGMENTS].find(query).sort([("start", 1)]))
    bounds = [(segment["start"], segment["end"]) for segment in found]
    assert [start for start, _ in bounds] == [0, *(end for _, end in bounds)][: len(bounds)], f"segments at {bounds}"
    assert (bounds[-1][1] if bounds else 0) == (holder.get("archived_count") or 0)
    for segment in found:
        assert len(segment["items"]) == segment["end"] - segment["start"]
    return [item for segment in found for item in segment["items"]]


def _check(document: Document, sealed_of: Sealed) -> list[Document]:
    """Assert what a document says of itself, and return all messages of its agents."""
    agents: Mapping[str, Document] = document["agents"]
    everything: list[Document] = []
    for agent_id, agent in agents.items():
        messages = [*sealed_of("messages", agent_id, agent), *agent["messages"]]
        ids = [message["message_id"] for message in messages]
        assert ids == list(range(len(ids))), f"messages of {agent_id!r} are numbered {ids}"
        assert agent["next_message_id"] == len(ids)
        assert agent["agent_data"]["agent_id"] == agent_id
        everything += messages
    summary = document["summary"]
    assert summary["agents"] == len(agents)
    assert summary["messages"] == len(everything)
    feedbacks = sealed_of("feedbacks", None, document.get("feedbacks_sealed") or {})
    assert summary["feedbacks"] == len(feedbacks) + len(document["feedbacks"])
    for name, total in summary["usage"].items():
        assert total == sum(agent["usage"].get(name, 0) for agent in agents.values()), name
    assert len(document["applied"]) == len(set(document["applied"]))
    return everything


def _check_payload(database: Database[Document], document: Document, name: str) -> None:
    query = {"session_id": document["_id"], "incarnation": document["incarnation"], "sha256": name}
    chunks = list(database[PAYLOADS].find(query))
    assert chunks, f"payload {name} is missing"
    assert sorted(chunk["number"] for chunk in chunks) == list(range(chunks[0]["count"]))
