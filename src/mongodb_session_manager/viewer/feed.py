"""The list of sessions, live: what is new or changed is read once for all browsers that look at the same list."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import json_util
from pymongo.errors import PyMongoError

from ..web import ServerSentEvent
from .live import ChangeHub, ListWatch
from .search_schemas import ChangedCard, FeedReady, FeedSessions, SessionCard

logger = logging.getLogger(__name__)

GATHER_S = 0.3
"""Seconds for which changes are gathered, so that a busy session is read once for all of them."""

MOST = 100
"""Sessions that one event names; more than that is a list to be read again."""

Cards = Callable[[Mapping[str, Any]], Awaitable[list[SessionCard]]]


@dataclass(eq=False)
class Subscription:
    """What one browser was not told yet.

    Attributes:
        query: The list that it looks at.
        sessions: Sessions that are new or changed.
        deleted: Ids of sessions that are gone.
        missed: Whether there was more than could be kept.
    """

    query: Mapping[str, Any]
    sessions: dict[str, ChangedCard] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    missed: bool = False
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, cards: Sequence[ChangedCard], deleted: Sequence[str], *, missed: bool) -> None:
        """Add what happened."""
        for card in cards:
            known = self.sessions.get(card.session_id)
            is_new = card.is_new or (known is not None and known.is_new)
            self.sessions[card.session_id] = card.model_copy(update={"is_new": is_new})
        self.deleted |= set(deleted)
        self.missed = self.missed or missed or len(self.sessions) > MOST
        if self.missed:
            self.sessions.clear()
            self.deleted.clear()
        if self.missed or self.sessions or self.deleted:
            self._told.set()

    async def next(self) -> FeedSessions:
        """Wait for what happens next."""
        await self._told.wait()
        self._told.clear()
        happened = FeedSessions(sessions=list(self.sessions.values()), deleted=sorted(self.deleted), missed=self.missed)
        self.sessions, self.deleted, self.missed = {}, set(), False
        return happened


class SessionFeed:
    """Tells browsers what happens to the sessions of a collection; for one event loop."""

    def __init__(self, hub: ChangeHub, cards: Cards) -> None:
        """Listen to `hub`, later, and read with `cards`."""
        self._hub = hub
        self._cards = cards
        self._subscriptions: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Event | None = None

    async def events(self, query: Mapping[str, Any]) -> AsyncIterator[ServerSentEvent]:
        """Yield what happens to the sessions that a query finds, for as long as a page listens."""
        subscription = Subscription(query)
        async with self._subscribed(subscription):
            yield ServerSentEvent(event="ready", data=FeedReady(mode=self._hub.mode))
            while True:
                yield ServerSentEvent(event="sessions", data=await subscription.next())

    @contextlib.asynccontextmanager
    async def _subscribed(self, subscription: Subscription) -> AsyncIterator[None]:
        self._subscriptions.add(subscription)
        if self._task is None or self._listening is None:
            self._listening = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._listening), name="viewer-feed")
        try:
            await self._listening.wait()
            yield
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                await self.close()

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, listening: asyncio.Event) -> None:
        try:
            async with self._hub.watch_list() as watch:
                listening.set()
                while True:
                    await watch.changed()
                    await asyncio.sleep(GATHER_S)
                    await self._pass_on(watch)
        finally:
            listening.set()

    async def _pass_on(self, watch: ListWatch) -> None:
        changes, missed = watch.take()
        missed = missed or len(changes) > MOST
        kinds = {} if missed else changes
        present = [session_id for session_id, kind in kinds.items() if kind != "deleted"]
        deleted = [session_id for session_id, kind in kinds.items() if kind == "deleted"]
        lists: dict[str, list[Subscription]] = {}
        for subscription in self._subscriptions:
            lists.setdefault(_name(subscription.query), []).append(subscription)
        for subscriptions in lists.values():
            cards: list[ChangedCard] = []
            if present:
                try:
                    cards = await self._read(subscriptions[0].query, present, kinds)
                except PyMongoError as error:
                    logger.warning("error=<%s> | changed sessions could not be read", type(error).__name__)
                    missed = True
            for subscription in subscriptions:
                subscription.tell(cards, deleted, missed=missed)

    async def _read(
        self, query: Mapping[str, Any], session_ids: Sequence[str], kinds: Mapping[str, str]
    ) -> list[ChangedCard]:
        named = {"_id": {"$in": list(session_ids)}}
        found = await self._cards({"$and": [named, query]} if query else named)
        return [ChangedCard(**dict(card), is_new=kinds.get(card.session_id) == "new") for card in found]


def _name(query: Mapping[str, Any]) -> str:
    return json.dumps(query, default=json_util.default, sort_keys=True)
