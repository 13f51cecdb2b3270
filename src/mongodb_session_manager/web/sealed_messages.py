"""Where agents' old messages are, and which segments count: what a search for text has to know of sealed messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..schema import paths
from ..schema.expressions import Document, agents

SEGMENT_FIELDS: Document = dict.fromkeys(
    (paths.SESSION_ID, paths.INCARNATION, paths.AGENT, paths.ARCHIVE, paths.TOKEN, paths.COMMITTED), 1
)
"""What `archive_of` has to know of a segment, as a projection."""


def archives(**more: Any) -> Document:
    """Return the expression for where each agent's sealed messages are: `agent` (its key), `id` and `token`.

    Args:
        more: What else to return of each agent, which is `$$agent.v`.
    """
    found = {
        paths.AGENT: "$$agent.k",
        paths.ID: f"$$agent.v.{paths.ARCHIVE_ID}",
        paths.TOKEN: f"$$agent.v.{paths.ARCHIVE_TOKEN}",
    }
    return {"$map": {"input": agents(), "as": "agent", "in": {**found, **more}}}


def segments_of(session_ids: Sequence[str]) -> Document:
    """Return the query for all segments of messages of some sessions, those that count for nothing included."""
    return {paths.SESSION_ID: {"$in": list(session_ids)}, paths.LIST: paths.MESSAGES}


def archive_of(segment: Mapping[str, Any], session: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the archive that a segment belongs to, None when it counts for nothing.

    Args:
        segment: Its `SEGMENT_FIELDS`.
        session: Its incarnation, and as `moved` what `archives` gives.
    """
    if segment.get(paths.INCARNATION) != session.get(paths.INCARNATION):
        return None
    for archive in session["moved"]:
        if (archive[paths.AGENT], archive.get(paths.ID)) == (segment.get(paths.AGENT), segment.get(paths.ARCHIVE)):
            is_named = paths.TOKEN in segment and segment[paths.TOKEN] == archive.get(paths.TOKEN)
            committed = segment.get(paths.COMMITTED) or is_named
            return archive if committed else None
    return None
