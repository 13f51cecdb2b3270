"""What MongoDB itself is asked to work out of stored conversations: expressions, so that no message leaves the server.

Messages stand in agents, whose keys are not known beforehand, and their content in blocks or, of older tools, in a
string; of a redacted one only the replacement counts. Anything may be odd, and an odd value counts as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schema import paths, values
from ..schema.expressions import SAID, Document, array, is_a
from ..schema.names import decode_name
from .plain import storable_text
from .unicode_forms import any_form


def literally(text: str) -> str:
    """Return the regular expression that finds a text as it is, in each of its Unicode forms."""
    return any_form(text)


def string(value: Any) -> Document:
    """Return a value if it is a string, else an empty one."""
    return {"$cond": [is_a(value, "string"), value, ""]}


def matches(value: Any, pattern: str) -> Document:
    """Return whether a value is a string in which a pattern is found, whatever the case."""
    return {"$regexMatch": {"input": string(value), "regex": pattern, "options": "i"}}


def agent_id() -> Document:
    """Return what tells the id of `$$agent`, for `read_agent_id`."""
    return {"said": f"$$agent.v.{paths.AGENT_DATA}.{paths.AGENT_ID}", "key": "$$agent.k"}


def read_agent_id(found: Mapping[str, Any]) -> str:
    """Return the id of an agent: the one that it says, else that of its key."""
    said = values.decode(found.get("said"))
    return storable_text(said if isinstance(said, str) and said else decode_name(found["key"]))


def any_of(items: Any, name: str, condition: Any) -> Document:
    """Return whether a condition holds for any item of an array."""
    return {"$anyElementTrue": [{"$map": {"input": items, "as": name, "in": condition}}]}


def says(pattern: str) -> Document:
    """Return whether `$$message` says what a pattern finds."""
    in_blocks = any_of("$$said", "block", matches("$$block.text", pattern))
    return {
        "$let": {
            "vars": {"said": SAID},
            "in": {"$cond": [{"$isArray": "$$said"}, in_blocks, matches("$$said", pattern)]},
        }
    }


def texts() -> Document:
    """Return the texts of `$$message`, an array of strings."""
    of_blocks = {"$map": {"input": "$$said", "as": "block", "in": string("$$block.text")}}
    return {
        "$let": {"vars": {"said": SAID}, "in": {"$cond": [{"$isArray": "$$said"}, of_blocks, [string("$$said")]]}},
    }


def excerpt(pattern: str, before: int, after: int) -> Document:
    """Return what `$$message` says around the first place that a pattern finds, of so many characters."""
    first = {"$first": {"$filter": {"input": texts(), "as": "text", "cond": matches("$$text", pattern), "limit": 1}}}
    start = {"$max": [{"$subtract": ["$$found.idx", before]}, 0]}
    return {
        "$let": {
            "vars": {"text": {"$ifNull": [first, ""]}},
            "in": {
                "$let": {
                    "vars": {"found": {"$regexFind": {"input": "$$text", "regex": pattern, "options": "i"}}},
                    "in": {
                        "$concat": [
                            {"$cond": [{"$gt": ["$$found.idx", before]}, "…", ""]},
                            {"$substrCP": ["$$text", start, before + after]},
                        ]
                    },
                }
            },
        }
    }


def found_messages(items: Any, pattern: str, most: int, before: int = 50, after: int = 150) -> Document:
    """Return the first messages of an array that say it: their numbers, dates, and what is written around it."""
    found = {"$filter": {"input": array(items), "as": "message", "cond": says(pattern), "limit": most}}
    shown = {
        "message_id": f"$$message.{paths.MESSAGE_ID}",
        "created_at": {"$ifNull": [f"$$message.{paths.CREATED_AT}", f"$$message.message.{paths.CREATED_AT}"]},
        "excerpt": excerpt(pattern, before, after),
    }
    return {"$map": {"input": found, "as": "message", "in": shown}}
