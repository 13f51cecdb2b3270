"""The indexes that answer what the list of a large collection can be asked besides its metadata fields."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from .orders import FIELDS

_COUNTED = ("summary.feedbacks", "summary.ratings.up", "summary.ratings.down", "summary.errors")


def list_index_specs() -> list[IndexModel]:
    """Return the indexes for `rating`, `failed` and the orders by messages and tokens, to be created by an operator.

    Applications do not create them: only the viewer uses them, building them on a large collection takes a while, and
    those of the orders cost each turn a write. Those of ratings and failed turns hold only sessions that have any.
    """
    counted = [
        IndexModel(
            [("created_at", ASCENDING), ("_id", ASCENDING), (path, ASCENDING)],
            partialFilterExpression={path: {"$gt": 0}},
        )
        for path in _COUNTED
    ]
    orders = [IndexModel([(FIELDS[sort], ASCENDING), ("_id", ASCENDING)]) for sort in ("messages", "tokens")]
    return [*counted, *orders]
