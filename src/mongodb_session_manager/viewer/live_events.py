"""What is sent to a browser that looks on while a session goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pymongo.errors import PyMongoError

from ..errors import SessionNotFoundError
from ..web import ServerSentEvent
from .database import Database
from .heads import session_head
from .limits import time_limit
from .reading import SessionIdentity, StoredHead
from .schemas import LiveItems, LiveReady, SessionHead
from .timeline import Page, Position, end_of

_ITEMS = 100


async def live_events(database: Database, session_id: str, position: Position | None) -> AsyncIterator[ServerSentEvent]:
    """Yield what happens to a session, until it is deleted; one that was made anew under its id is another one.

    While MongoDB does not answer the stream goes on, and afterwards gives what was missed.

    Args:
        database: Where the session is.
        session_id: The session.
        position: Where to begin; None for now.
    """
    async with database.changes.watch(session_id) as watch:
        known: SessionHead | None = None
        seen: SessionIdentity | None = None
        head: StoredHead | None = None
        lost = False
        ready = False
        while True:
            try:
                # All onlookers of a session are told at once, and there may be a thousand of them.
                async with database.onlookers:
                    if position is None:
                        with time_limit():
                            head = await database.reader.head(session_id)
                        seen, position = head.identity, end_of(head)
                    page = await _page(database, session_id, position, head)
                head = None
                if seen is not None and not page.head.identity.continues(seen):
                    raise SessionNotFoundError(session_id)
                seen = page.head.identity
            except SessionNotFoundError:
                yield ServerSentEvent(event="deleted", data={})
                return
            except PyMongoError:
                if not lost:
                    yield ServerSentEvent(event="unavailable", data={})
                lost = True
                await watch.changed()
                continue
            if not ready:
                cursor = position.encoded()
                yield _event("ready", LiveReady(mode=database.changes.mode, cursor=cursor), cursor)
                ready = True
            if lost:
                yield ServerSentEvent(event="available", data={})
                lost = False
            if page.items:
                position = page.after
                cursor = position.encoded()
                yield _event("items", LiveItems(items=page.items, cursor=cursor), cursor)
            if page.more:
                continue
            shown = session_head(page.head)
            # What was read is not kept while nothing happens: there may be many onlookers.
            del page
            if shown != known:
                known = shown
                yield _event("session", shown)
            await watch.changed()


async def _page(database: Database, session_id: str, position: Position, head: StoredHead | None) -> Page:
    with time_limit():
        return await database.timeline.page(session_id, position, _ITEMS, head=head)


def _event(name: str, data: Any, cursor: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data, id=cursor)
