"""What sessions can be narrowed to besides their fields: rated, failed, with an agent.

Today's documents count ratings and failed turns in their summary, where indexes find them. Older documents do not, and
are looked into; whether a large collection holds any is found out once in a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Literal

from pymongo.errors import OperationFailure

from ..errors import InvalidNameError
from ..schema.names import check_agent_id, encode_name
from ..web import invalid

Document = dict[str, Any]
Rating = Literal["up", "down", "any"]

SMALL = 20_000
"""Sessions up to which looking into each costs less than it is worth to avoid."""

_FRESH_S = 600.0
_LOOK_MS = 2_000
_COUNTED: Mapping[Rating, str] = {
    "up": "summary.ratings.up",
    "down": "summary.ratings.down",
    "any": "summary.feedbacks",
}


def rated(rating: Rating, *, older: bool) -> Document:
    """Return the condition for sessions with a feedback of that rating; `older` looks into older documents too."""
    counted = {_COUNTED[rating]: {"$gt": 0}}
    if not older:
        return counted
    given: Document = {"feedbacks.0": {"$exists": True}} if rating == "any" else {"feedbacks.rating": rating}
    return {"$or": [counted, {_COUNTED[rating]: None, **given}]}


def failed(value: bool, *, older: bool) -> Document:
    """Return the condition for sessions with a failed turn, or for those without one."""
    if not value:
        return {"summary.errors": {"$not": {"$gt": 0}}, **({"errors.0": {"$exists": False}} if older else {})}
    counted = {"summary.errors": {"$gt": 0}}
    return {"$or": [counted, {"summary.errors": None, "errors.0": {"$exists": True}}]} if older else counted


def with_agent(agent_id: str) -> Document:
    """Return the condition for sessions that have an agent, under the key of today or one of older tools.

    Raises:
        ApiError: No agent can have that id.
    """
    try:
        encoded = encode_name(check_agent_id(agent_id))
    except InvalidNameError as error:
        raise invalid("agent", str(error)) from None
    keys = {encoded}
    if all(part and not part.startswith("$") for part in agent_id.split(".")) and "\x00" not in agent_id:
        keys.add(agent_id)  # as it is, nested where it has dots
    conditions = [{f"agents.{key}.agent_data": {"$exists": True}} for key in sorted(keys)]
    conditions += [{f"agents.{key}.messages": {"$exists": True}} for key in sorted(keys)]
    return {"$or": conditions}


class OlderDocuments:
    """Whether a collection holds documents that do not count ratings and failed turns."""

    def __init__(self, collection: Any) -> None:
        """Look at the driver's `collection`; no I/O."""
        self._collection = collection
        self._lock = asyncio.Lock()
        self._present = True
        self._fresh_until = 0.0

    async def may_exist(self) -> bool:
        """Tell whether there may be some; without looking for them where the collection is small."""
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                try:
                    if await self._collection.estimated_document_count(maxTimeMS=_LOOK_MS) < SMALL:
                        return True
                    # The oldest ones are met first: documents are read in about the order in which they came.
                    query = {"summary.ratings": {"$exists": False}}
                    found = await self._collection.find_one(query, {"_id": 1}, max_time_ms=_LOOK_MS)
                    self._present = found is not None
                except OperationFailure:  # it took too long, so the oldest ones are none
                    self._present = False
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._present
