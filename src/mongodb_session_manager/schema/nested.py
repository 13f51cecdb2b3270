"""Values nested deeper than a document may be, as a flat list of nodes, and back; without recursion.

A node holds one dict, list or tuple, the outermost first: `{"object": [[key, item], ...]}`, `{"array": [item, ...]}` or
`{"tuple": [item, ...]}`. The instance of a dataclass is `{"object": [...], "dataclass": name}`. An item that is a
container itself is `{"__bson__": "node", "value": number}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from .names import RESERVED_KEY

MAX_DEPTH = 600
"""Most levels of nesting of a value. Strands' own session managers, which recurse, take fewer."""

LEVELS = 4
"""Levels of nesting of a list of nodes, without those of an item: list, node, items, pair."""

_NODE = "node"


class TooDeepError(Exception):
    """A value has more levels than `MAX_DEPTH`, or lies inside itself."""


def is_container(value: object) -> bool:
    """Tell whether a value becomes a node of its own."""
    return isinstance(value, dict | list | tuple) or _is_instance(value)


def dataclass_fields(value: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a dataclass, and the fields of one of its instances."""
    return type(value).__qualname__, {field.name: getattr(value, field.name, None) for field in fields(value)}


def flatten(value: Any, encode: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return the nodes of a container.

    Args:
        value: A dict, list, tuple or instance of a dataclass.
        encode: Encodes what is no container, and the keys of dicts.

    Raises:
        TooDeepError: More than `MAX_DEPTH` levels, or a value inside itself.
    """
    nodes: list[dict[str, Any]] = [{}]
    waiting: list[tuple[Any, int, int]] = [(value, 0, 1)]
    while waiting:
        container, number, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise TooDeepError

        def item_of(item: Any, depth: int = depth) -> Any:
            if not is_container(item):
                return encode(item)
            nodes.append({})
            waiting.append((item, len(nodes) - 1, depth + 1))
            return {RESERVED_KEY: _NODE, "value": len(nodes) - 1}

        node = nodes[number]
        if _is_instance(container):
            node["dataclass"], container = dataclass_fields(container)
        if isinstance(container, dict):
            node["object"] = [[encode(key), item_of(item)] for key, item in container.items()]
        else:
            node["tuple" if isinstance(container, tuple) else "array"] = [item_of(item) for item in container]
    return nodes


def rebuild(nodes: Any, decode: Callable[[Any], Any]) -> Any:
    """Return the value that `flatten` made the nodes of; the instance of a dataclass as a dict.

    Raises:
        ValueError: They are not such nodes.
    """
    built: dict[int, Any] = {}

    def item_of(item: Any) -> Any:
        if isinstance(item, Mapping) and item.get(RESERVED_KEY) == _NODE:
            return built[item["value"]]
        return decode(item)

    try:
        # A node only names later ones.
        for number in range(len(nodes) - 1, -1, -1):
            node = nodes[number]
            if "object" in node:
                built[number] = {decode(key): item_of(item) for key, item in node["object"]}
            elif "tuple" in node:
                built[number] = tuple(item_of(item) for item in node["tuple"])
            else:
                built[number] = [item_of(item) for item in node["array"]]
        return built[0]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("not the nodes of a nested value") from error


def _is_instance(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)
