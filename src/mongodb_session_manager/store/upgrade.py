"""Documents of older forms, brought into today's before they are written to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from ..errors import SessionNotFoundError
from ..schema import paths
from ..schema.agents import is_of_an_older_tool
from ..schema.archives import FEEDBACKS, SealedList, SealedPart
from ..schema.messages import now
from ..schema.migrate import move_agent, upgrade, upgrade_agent, upgrade_from_1
from ..schema.names import decode_name
from ..schema.sessions import identity
from .head import SessionHead
from .refusals import Refusals
from .segments import Segments
from .store import SessionStore
from .updates import Document

logger = logging.getLogger(__name__)

_LOOKED_AT = 20
"""How many of the first messages of an agent are looked at for a title."""


async def bring_up_to_date(store: SessionStore, segments: Segments, session_id: str) -> SessionHead:
    """Bring a session document of an older form into today's, whatever others do meanwhile.

    Raises:
        SessionNotFoundError: No such session.
        SessionStoreError: A newer version of this library wrote it; or it refuses that again and again, and nothing in
            it says why.
    """
    refusals = Refusals(session_id)
    while True:
        document = await store.find_one({"_id": session_id})
        if document is None:
            raise SessionNotFoundError(session_id)
        head = SessionHead.read(document)
        if head.is_current:
            return head
        if head.version:
            guard, update = upgrade_from_1(document, *await _counted(document, segments))
        else:
            guard, update = upgrade(document, now())
        if await store.update(session_id, guard, update):
            logger.info(
                "session_id=<%r>, version=<%d> | brought an older document up to date", session_id, head.version
            )
        else:
            refusals.note(guard)


async def bring_agents_up_to_date(store: SessionStore, head: SessionHead, keys: Iterable[str]) -> bool:
    """Bring agents into today's form that an older tool added to a document of that form.

    Args:
        store: Where the session is.
        head: The session.
        keys: Keys of the agents to look at.

    Returns:
        Whether there was one.
    """
    tops = {key: _first_part(key) for key in keys}
    names = {paths.agent(name) for pair in tops.items() for name in pair if name}
    session = identity(head.session_id, head.incarnation)
    document = await store.find_one(session, dict.fromkeys(names, 1)) if names else None
    agents = (document or {}).get(paths.AGENTS)
    if not isinstance(agents, Mapping):
        return False
    was_older = False
    for key, top in tops.items():
        raw, found = agents.get(key), None
        if isinstance(raw, Mapping) and is_of_an_older_tool(raw):
            found = upgrade_agent(head.session_id, key, raw, now())
        elif raw is None and isinstance(agents.get(top), Mapping):
            found = move_agent(head.session_id, key, (top, agents[top]), now())
        if found is None:
            continue
        was_older = True
        guard, update = found
        if await store.update(head.session_id, {**session, **guard}, update):
            agent_id = decode_name(key)
            logger.info("session_id=<%r>, agent_id=<%r> | brought an older agent up to date", head.session_id, agent_id)
    return was_older


def _first_part(key: str) -> str:
    """Return the field that an older tool stores an agent in whose id has dots, "" where there can be none."""
    parts = decode_name(key).split(".")
    return parts[0] if len(parts) > 1 and all(part and not part.startswith("$") for part in parts) else ""


async def _counted(document: Document, segments: Segments) -> tuple[list[Document], dict[str, list[Document]]]:
    """Return all feedbacks of a document of version 1, and the first messages of its agents by key."""

    async def items(entry: SealedList, most: int | None) -> list[Document]:
        sealed = SealedPart.read(document, entry)
        items = await segments.items(sealed, 0, sealed.archive.count if most is None else most)
        return [*items, *paths.list_at(document, entry.path)][:most]

    agents = {key: await items(SealedList.of_agent(key), _LOOKED_AT) for key in paths.object_at(document, paths.AGENTS)}
    return await items(FEEDBACKS, None), agents
