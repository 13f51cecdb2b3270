"""The indexes of the collections of a storage; keys themselves need none but the one that every collection has."""

from __future__ import annotations

from pymongo import ASCENDING, TEXT, IndexModel

from ..schema import paths

OWNED = paths.SESSION_ID


def head_index_specs(*, owned: bool, searchable: bool = False) -> list[IndexModel]:
    """Return the indexes of the heads.

    Args:
        owned: The values belong to sessions, whose ids stand in every filter.
        searchable: Their texts are looked for.
    """
    models = [IndexModel([(paths.EXPIRES_AT, ASCENDING)], expireAfterSeconds=0)]
    if owned:
        models.append(IndexModel([(OWNED, ASCENDING), ("_id", ASCENDING)]))
    if searchable:
        # No language: its endings and stop words would be those of English.
        models.append(IndexModel([(paths.TEXT, TEXT)], name="text", default_language="none"))
    return models


def chunk_index_specs(*, owned: bool) -> list[IndexModel]:
    """Return the indexes of the chunks: expiry, and all that a sweep looks at."""
    swept = [(paths.KEY, ASCENDING), (paths.GENERATION, ASCENDING), (paths.CREATED_AT, ASCENDING), (OWNED, ASCENDING)]
    models = [IndexModel([(paths.EXPIRES_AT, ASCENDING)], expireAfterSeconds=0), IndexModel(swept)]
    if owned:
        models.append(IndexModel([(OWNED, ASCENDING), ("_id", ASCENDING)]))
    return models
