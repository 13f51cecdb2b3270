"""Begins counters of a session again that the server cannot raise: no write to the session would succeed otherwise.

The library keeps its own counters small. Another tool may have stored a number close to 2**63, or no number at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from bson.decimal128 import Decimal128

from ..schema import paths
from ..schema.numbers import INT64_MAX
from .store import SessionStore

logger = logging.getLogger(__name__)


async def restart_counters(store: SessionStore, identity: Mapping[str, Any], increments: Mapping[str, float]) -> bool:
    """Begin those counters again that refused an update.

    Args:
        store: Where the session is.
        identity: The query for the session.
        increments: What the update raises, by path.

    Returns:
        Whether a counter was begun again, so that the update has to be sent again.
    """
    document = await store.find_one(identity, dict.fromkeys({_root(path) for path in increments}, 1))
    broken = {} if document is None else dict(_broken(document, increments))
    for path, (stored, begun) in broken.items():
        # A place that someone else changed meanwhile is left to the next attempt.
        await store.update(identity["_id"], {**identity, path: {"$eq": stored}}, {"$set": {path: begun}})
        logger.warning(
            "session_id=<%r>, field=<%s> | begun again: what another tool stored there cannot be raised",
            identity["_id"],
            path,
        )
    return bool(broken)


def _broken(document: Mapping[str, Any], increments: Mapping[str, float]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the path of each place that refuses, with what is stored there and what has to be stored instead."""
    for path, amount in increments.items():
        node: Any = document
        names = path.split(".")
        for depth, name in enumerate(names):
            if name not in node:
                break
            node = node[name]
            is_counter = depth == len(names) - 1
            if is_counter and not _can_be_raised(node, amount):
                yield path, (node, 0)
            elif not is_counter and not isinstance(node, Mapping):
                yield ".".join(names[: depth + 1]), (node, {})
                break


def _can_be_raised(stored: object, amount: float) -> bool:
    if isinstance(stored, bool) or not isinstance(stored, int | float | Decimal128):
        return False
    return not (isinstance(stored, int) and isinstance(amount, int)) or abs(stored + amount) <= INT64_MAX


def _root(path: str) -> str:
    """Return the path of the smallest part of a document that tells why a counter refuses."""
    names = path.split(".")
    return ".".join(names[:3] if names[0] == paths.AGENTS else names[:1])
