"""What sessions can be narrowed to besides their fields: rated, failed, with an agent.

Today's documents count ratings and failed turns in their summary, where indexes find them. Older documents do not, and
are looked into; whether a large collection holds any is found out once in a while, beside the searches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Literal

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from ..errors import InvalidNameError
from ..schema import paths
from ..schema.names import check_agent_id, encode_name
from ..web import invalid

logger = logging.getLogger(__name__)

Document = dict[str, Any]
Rating = Literal["up", "down", "any"]

SMALL = 20_000
"""Sessions up to which looking into each costs less than it is worth to avoid."""

_FRESH_S = 600.0
_SMALL_FRESH_S = 10.0
_WAIT_S = 2.0
_LOOK_MS = 30_000
_COUNTED: Mapping[Rating, str] = {
    "up": paths.summary_ratings("up"),
    "down": paths.summary_ratings("down"),
    "any": paths.SUMMARY_FEEDBACKS,
}


def rated(rating: Rating, *, older: bool) -> Document:
    """Return the condition for sessions with a feedback of that rating; `older` looks into older documents too."""
    counted = {_COUNTED[rating]: {"$gt": 0}}
    if not older:
        return counted
    any_at_all: Document = {f"{paths.FEEDBACKS}.0": {"$exists": True}}
    given = any_at_all if rating == "any" else {f"{paths.FEEDBACKS}.{paths.RATING}": rating}
    return {"$or": [counted, {_COUNTED[rating]: None, **given}]}


def failed(value: bool, *, older: bool) -> Document:
    """Return the condition for sessions with a failed turn, or for those without one."""
    first = f"{paths.ERRORS}.0"
    if not value:
        return {paths.SUMMARY_ERRORS: {"$not": {"$gt": 0}}, **({first: {"$exists": False}} if older else {})}
    counted = {paths.SUMMARY_ERRORS: {"$gt": 0}}
    return {"$or": [counted, {paths.SUMMARY_ERRORS: None, first: {"$exists": True}}]} if older else counted


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
    conditions = [{paths.agent(key, paths.AGENT_DATA): {"$exists": True}} for key in sorted(keys)]
    conditions += [{paths.messages(key): {"$exists": True}} for key in sorted(keys)]
    return {"$or": conditions}


class OlderDocuments:
    """Whether a collection holds documents that do not count ratings and failed turns; for one event loop.

    Finding that there are none reads every document, so it is found out beside the searches, when the viewer starts and
    then every ten minutes while searches ask; no search waits for more than the first look.
    """

    def __init__(self, collection: Any) -> None:
        """Look at the driver's `collection`, later."""
        self._collection = collection
        self._look: asyncio.Task[None] | None = None
        self._present: bool | None = None
        self._fresh_until = 0.0

    def start(self) -> None:
        """Begin to look, so that the first search need not wait."""
        if self._look is None and time.monotonic() >= self._fresh_until:
            self._look = asyncio.create_task(self._find_out(), name="viewer-older-documents")

    async def may_exist(self) -> bool:
        """Tell whether there may be some; without looking for them where the collection is small."""
        self.start()
        if self._present is None and self._look is not None:
            await asyncio.wait({self._look}, timeout=_WAIT_S)
        if self._present is not None:
            return self._present
        # A look that takes longer has found none among the first documents, which are the oldest.
        return self._look is None

    async def close(self) -> None:
        """Stop looking."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await look

    async def _find_out(self) -> None:
        fresh_s = _FRESH_S
        try:
            # A search's own time limit is not for this.
            with pymongo.timeout(None):
                if await self._collection.estimated_document_count(maxTimeMS=_LOOK_MS) < SMALL:
                    self._present, fresh_s = True, _SMALL_FRESH_S
                else:
                    # The oldest ones are met first: documents are read in about the order in which they came.
                    query = {paths.SUMMARY_RATINGS: {"$exists": False}}
                    found = await self._collection.find_one(query, {"_id": 1}, max_time_ms=_LOOK_MS)
                    self._present = found is not None
        except OperationFailure:  # it took too long, so the oldest ones are none
            self._present = False
        except PyMongoError as error:
            logger.warning("error=<%s> | it stays unknown whether there are older documents", type(error).__name__)
            fresh_s = 0.0
        self._fresh_until, self._look = time.monotonic() + fresh_s, None
