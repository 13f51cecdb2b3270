"""Items that are kept for a while, as small as they are stored: as Python objects they take several times as much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import bson
from bson.binary import UuidRepresentation
from bson.errors import InvalidBSON

from ..client.drivers import CODEC_OPTIONS

_KEY = ""
_WITH_UUIDS = CODEC_OPTIONS.with_options(uuid_representation=UuidRepresentation.STANDARD)


class PackedItems(Sequence[Any]):
    """A list of stored items, each of which becomes an object when it is asked for, and another one each time."""

    def __init__(self, items: Sequence[Any]) -> None:
        """Pack items that were read from MongoDB."""
        self._packed = [bson.encode({_KEY: item}, codec_options=_WITH_UUIDS) for item in items]

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [_unpacked(data) for data in self._packed[place]]
        return _unpacked(self._packed[place])


def _unpacked(data: bytes) -> Any:
    try:
        return bson.decode(data, _WITH_UUIDS)[_KEY]
    except InvalidBSON:  # bytes that are marked as a UUID, and are not as long as one
        return bson.decode(data, CODEC_OPTIONS)[_KEY]
