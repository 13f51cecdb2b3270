"""Documents of older forms, brought into today's before they are written to."""

from __future__ import annotations

import logging

from ..errors import SessionNotFoundError
from ..schema import paths
from ..schema.archives import FEEDBACKS, Archive, SealedList
from ..schema.messages import now
from ..schema.migrate import upgrade, upgrade_from_1
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


async def _counted(document: Document, segments: Segments) -> tuple[list[Document], dict[str, list[Document]]]:
    """Return all feedbacks of a document of version 1, and the first messages of its agents by key."""

    async def items(entry: SealedList, most: int | None) -> list[Document]:
        archive = Archive.read(paths.at(document, entry.archive))
        count = archive.count if most is None else most
        sealed = await segments.items(document, entry, archive, 0, count)
        return [*sealed, *(paths.at(document, entry.path) or ())][:most]

    agents = {key: await items(SealedList.of_agent(key), _LOOKED_AT) for key in document.get(paths.AGENTS) or {}}
    return await items(FEEDBACKS, None), agents
