"""Whose the values of a storage are: where their keys begin, and when they expire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ..schema import paths
from ..schema.messages import now


@dataclass(frozen=True)
class Scope:
    """What tells an owner's values from those of others in the same collections.

    Attributes:
        prefix: Stands before each key.
        fields: Stand in each document and in each filter; on a sharded cluster they say which shard.
        marks: Stand in each document besides.
    """

    prefix: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Expiry:
    """When a value that is written now expires. Its chunks never go before its head."""

    head: datetime | None = None
    chunks: datetime | None = None

    def fields(self, moment: datetime | None) -> dict[str, datetime]:
        """Return what stands in a document that expires then."""
        return {} if moment is None else {paths.EXPIRES_AT: moment}


class Owner(Protocol):
    """What values belong to."""

    async def scope(self) -> Scope:
        """Return where the values are.

        Raises:
            SessionStoreError: The owner has no values yet, or any more.
        """
        ...

    async def admit(self) -> Expiry:
        """Get ready for a write, and return when what it writes expires.

        Raises:
            PyMongoError: The server did not answer.
            SessionStoreError: The owner is gone.
        """
        ...

    async def confirm(self, scope: Scope) -> None:
        """Return when the owner is still there, after a write to this scope.

        Raises:
            PyMongoError: The server did not answer.
            SessionNotFoundError: The owner is gone, perhaps before what was written was there.
        """
        ...


class Unowned:
    """Values that belong to no session, in collections of their own."""

    def __init__(self, ttl_s: float | None) -> None:
        """Let each value expire `ttl_s` seconds after it was written; None keeps them."""
        self._ttl_s = ttl_s

    async def scope(self) -> Scope:
        """Return the whole of the collections."""
        return Scope()

    async def admit(self) -> Expiry:
        """Return when a value whose writing begins now expires."""
        if self._ttl_s is None:
            return Expiry()
        # From the beginning of a write: one that takes long must not let chunks expire before the head.
        began = now()
        return Expiry(began + timedelta(seconds=self._ttl_s), began + timedelta(seconds=2 * self._ttl_s))

    async def confirm(self, scope: Scope) -> None:
        """Return: there is nothing that could be gone."""
