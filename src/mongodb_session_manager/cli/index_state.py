"""Which indexes the collections of sessions have, beside those that they should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from ..client import ClientHandle
from ..store.indexes import index_specs, order_index_specs
from ..store.related import related_index_specs

_NAMESPACE_NOT_FOUND = 26
_OPTIONS = ("expireAfterSeconds", "partialFilterExpression")


@dataclass(frozen=True)
class IndexState:
    """One index.

    Attributes:
        collection: Its collection.
        name: Its name.
        keys: Its fields, each with 1 or -1.
        state: `ok`, `missing`, `different` (same fields, other options), or `extra`: not one of the library's.
    """

    collection: str
    name: str
    keys: str
    state: Literal["ok", "missing", "different", "extra"]

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return asdict(self)


def wanted(
    collection: str, metadata_fields: Sequence[str] = (), *, orders: bool = False
) -> dict[str, list[IndexModel]]:
    """Return the indexes that there should be, by collection.

    Args:
        collection: The sessions.
        metadata_fields: Fields that sessions are searched by.
        orders: Whether sessions are listed by messages and tokens.
    """
    children = {f"{collection}{suffix}": models for suffix, models in related_index_specs().items()}
    return {collection: [*index_specs(metadata_fields), *(order_index_specs() if orders else ())], **children}


async def index_states(
    handle: ClientHandle, database: str, collection: str, metadata_fields: Sequence[str] = (), *, orders: bool = False
) -> list[IndexState]:
    """Compare the indexes that are there with those that should be, as `wanted` says."""
    found: list[IndexState] = []
    for name, models in wanted(collection, metadata_fields, orders=orders).items():
        there = await _indexes(handle, database, name)
        expected = {model.document["name"]: model.document for model in models}
        for index_name, document in expected.items():
            keys = list(document["key"].items())
            twin = next((other for other in there.values() if list(other["key"]) == keys), None)
            same = twin is not None and all(twin.get(option) == document.get(option) for option in _OPTIONS)
            state: Literal["ok", "missing", "different"] = "missing" if twin is None else "ok" if same else "different"
            found.append(IndexState(name, index_name, _text(keys), state))
        known = [list(document["key"].items()) for document in expected.values()]
        for index_name, other in there.items():
            if index_name != "_id_" and list(other["key"]) not in known:
                found.append(IndexState(name, index_name, _text(other["key"]), "extra"))
    return found


async def _indexes(handle: ClientHandle, database: str, collection: str) -> Mapping[str, Any]:
    try:
        return await handle.collection(database, collection).index_information()
    except OperationFailure as error:
        if error.code == _NAMESPACE_NOT_FOUND:
            return {}
        raise


def _text(keys: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{field} {direction}" for field, direction in keys)
