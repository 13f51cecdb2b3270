"""The names of database and collection that stand for "name it yourself", and the one warning about them."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

DATABASE, COLLECTION = "database_name", "collection_name"


class _Told:
    """Whether this process was warned."""

    placeholders = False


def note_placeholders(database_name: str, collection_name: str) -> None:
    """Warn, once for the process, when sessions go to places that were not chosen."""
    if _Told.placeholders or (database_name != DATABASE and collection_name != COLLECTION):
        return
    _Told.placeholders = True
    logger.warning(
        "database=<%s>, collection=<%s> | these are placeholders; give database_name= and collection_name=, since "
        "sessions do not move when the names change later",
        database_name,
        collection_name,
    )
