"""Which fields the metadata tool opens to a model, and how much it answers."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from mongodb_session_manager import InvalidNameError
from mongodb_session_manager.metadata_tool import create_metadata_tool
from tests.support.hooks import AsyncStore

STORED: dict[str, Any] = {
    "connection_id": "c-1",
    "ws_connection_id": "c-2",
    "customer": {"name": "Ada", "tier": "gold", "notes": [{"by": "bob", "text": "hi"}]},
    "topic": "tea",
}
LIMIT = 64 * 1024


class Tool:
    """The tool on a session with some metadata."""

    def __init__(self, stored: dict[str, Any] | None = None, **access: Any) -> None:
        self.store = AsyncStore()
        self.store.stored.metadata = dict(STORED if stored is None else stored)
        self._tool = create_metadata_tool(self.store, **access)

    @property
    def stored(self) -> dict[str, Any]:
        return self.store.stored.metadata

    async def __call__(self, action: str, **request: Any) -> str:
        answer: str = await self._tool(action=action, **request)
        assert len(answer.encode()) <= LIMIT
        return answer

    async def visible(self, *keys: str) -> Any:
        answer = await self("get", keys=list(keys)) if keys else await self("get")
        return json.loads(answer.split(": ", 1)[1])


# -- protected fields


@pytest.mark.parametrize("field", ["connection_id", "ws_connection_id"])
@pytest.mark.parametrize("key", ["{}", "{}.deeper", "{}.0"])
async def test_where_notifications_go_can_be_neither_seen_nor_changed(field: str, key: str) -> None:
    tool, named = Tool(), key.format(field)

    answers = [
        await tool("set", metadata={"topic": "new", named: "mine"}),
        await tool("update", metadata=json.dumps({named: "mine"})),
        await tool("delete", keys=["topic", named]),
        await tool("get", keys=[named]),
        await tool("get", keys=["topic", named]),
    ]

    for answer in answers:
        assert answer.startswith("Error: ")
        assert f"'{field}'" in answer
        assert "protected" in answer
    assert tool.stored == STORED
    assert tool.store.stored.calls == []


async def test_all_metadata_are_those_that_are_not_protected() -> None:
    assert await Tool().visible() == {"customer": STORED["customer"], "topic": "tea"}
    assert await Tool({"connection_id": "c-1"})("get") == "No metadata stored in session"


async def test_what_is_protected_is_the_applications_choice() -> None:
    assert await Tool(protected=()).visible("connection_id") == {"connection_id": "c-1"}
    assert await Tool(protected=["topic"]).visible() == {
        name: value for name, value in STORED.items() if name != "topic"
    }


@pytest.mark.parametrize("protected", ["customer.tier", "customer.notes.by", "customer.notes.0.by"])
@pytest.mark.parametrize("action", ["set", "delete"])
async def test_a_field_that_holds_a_protected_one_is_changed_by_its_other_fields_alone(
    protected: str, action: str
) -> None:
    tool = Tool(protected=[protected])

    for key in ("customer", protected):
        answer = await tool(action, metadata={key: {}}, keys=[key])
        assert answer.startswith("Error: ")
        assert repr(protected) in answer
    assert tool.stored == STORED
    assert (await tool("set", metadata={"customer.name": "Bob"})).startswith("Successfully")


async def test_a_protected_field_is_left_out_of_what_holds_it() -> None:
    tool = Tool(protected=["customer.tier", "customer.notes.by"])

    assert await tool.visible("customer") == {"customer": {"name": "Ada", "notes": [{"text": "hi"}]}}
    assert await tool.visible("customer.notes") == {"customer.notes": [{"text": "hi"}]}
    for key in ("customer.notes.0.by", "customer.notes.by", "customer.tier"):
        assert (await tool("get", keys=[key])).startswith("Error: ")


async def test_a_position_in_a_list_can_be_protected() -> None:
    tool = Tool({"a": ["secret", "open"]}, protected=["a.0"])

    assert await tool.visible() == {"a": [None, "open"]}
    assert await tool.visible("a.1") == {"a.1": "open"}
    assert (await tool("set", metadata={"a.0": 1})).startswith("Error: ")


# -- fields


async def test_a_model_sees_and_changes_the_fields_that_are_open_to_it() -> None:
    tool = Tool(fields=["topic", "customer.name"])

    assert await tool.visible() == {"topic": "tea", "customer": {"name": "Ada"}}
    assert await tool.visible("customer") == {"customer": {"name": "Ada"}}
    assert await tool("set", metadata={"topic": "x", "customer.name": "Bob", "topic2": 1}) == (
        "Error: the field 'topic2' is not open to this tool; those that are: ['topic', 'customer.name']"
    )
    for key in ("customer", "customer.tier", "other", "topi", "topicx"):
        assert repr(key) in await tool("set", metadata={key: 1})
        assert repr(key) in await tool("delete", keys=[key])
    for key in ("customer.tier", "other"):
        assert repr(key) in await tool("get", keys=[key])
    assert tool.stored == STORED
    assert await tool("set", metadata={"topic.more": 1, "customer.name": "Bob"}) == (
        "Successfully updated metadata fields: ['topic.more', 'customer.name']"
    )


async def test_a_protected_field_stays_so_although_it_is_open() -> None:
    tool = Tool(fields=["connection_id", "topic"])

    assert await tool.visible() == {"topic": "tea"}
    assert "protected" in await tool("set", metadata={"connection_id": "mine"})


async def test_no_field_is_open_at_all() -> None:
    tool = Tool(fields=[])

    assert await tool("get") == "No metadata stored in session"
    assert (await tool("set", metadata={"a": 1})).startswith("Error: ")


def test_the_model_is_told_which_fields_there_are() -> None:
    def description(**access: Any) -> str:
        text: str = create_metadata_tool(AsyncStore(), **access).tool_spec["description"]
        return text

    assert "topic, customer.name" in description(fields=["topic", "customer.name"])
    assert "connection_id" not in description()


@pytest.mark.parametrize("parameter", ["fields", "protected"])
@pytest.mark.parametrize(
    ("names", "error"),
    [("topic", TypeError), (b"topic", TypeError), (7, TypeError), ([""], InvalidNameError), (["$a"], InvalidNameError)],
)
def test_names_that_are_no_fields_are_refused_at_once(parameter: str, names: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        create_metadata_tool(AsyncStore(), **{parameter: names})


# -- answers


async def test_a_long_answer_holds_the_fields_that_fit_and_names_the_others() -> None:
    tool = Tool({"small": 1, "large": "é" * LIMIT, "other": "x" * 1000})

    for answer in (await tool("get"), await tool("get", keys=["small", "large", "other"])):
        fields, note = answer.split(": ", 1)[1].split("\n")
        assert json.loads(fields) == {"small": 1, "other": "x" * 1000}
        assert "'large'" not in fields
        assert "large (" in note
        assert str(LIMIT) in note


async def test_a_long_answer_of_many_fields_says_how_many_are_missing() -> None:
    tool = Tool({f"{'k' * 200}{number}": "x" * 1000 for number in range(1000)})

    fields, note = (await tool("get")).split(": ", 1)[1].split("\n")

    missing = 1000 - len(json.loads(fields))
    assert 40 < len(json.loads(fields)) < 60
    assert f"and {missing - note.count('bytes)')} more" in note


@pytest.mark.parametrize(
    "request_",
    [
        {"action": "x" * 10 * LIMIT},
        {"action": "get", "keys": ["k" * 10 * LIMIT]},
        {"action": "get", "keys": [f"k{number}" for number in range(LIMIT)]},
        {"action": "delete", "keys": [f"k{number}" for number in range(LIMIT)]},
        {"action": "set", "metadata": {f"k{number}": 1 for number in range(LIMIT)}},
        {"action": "set", "metadata": {"$" + "é" * 10 * LIMIT: 1}},
        {"action": "set", "metadata": {"connection_id." + "é" * 10 * LIMIT: 1}},
        {"action": "get", "keys": ["\ud800" * LIMIT]},
    ],
)
async def test_no_answer_is_longer_than_the_limit(request_: dict[str, Any]) -> None:
    answer = await Tool()(**request_)

    assert len(answer.encode()) <= LIMIT


async def test_a_position_in_a_list_has_one_name() -> None:
    tool = Tool({"a": ["x", "y"]})

    assert await tool.visible("a.1") == {"a.1": "y"}
    for key in ("a.01", "a.٠", "a.+1", "a.1_0", "a.-1", "a." + "9" * 5000):
        assert (await tool("get", keys=[key])).startswith("No metadata found")


async def test_what_is_asked_for_by_many_names_is_looked_at_a_few_times() -> None:
    value: Any = "x" * 500_000
    for _ in range(100):
        value = [value]
    tool = Tool({"a": value})
    names = ["a" + ".0" * depth for depth in range(100)]

    tracemalloc.start()
    answer = await tool("get", keys=names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "Left out" in answer
    assert "more" in answer
    assert peak < 30 * 1024 * 1024


async def test_an_integer_of_thousands_of_digits_hides_nothing() -> None:
    tool = Tool({"long": 10**5000, "nested": [{"long": -(10**5000)}], "other": 1})

    found = await tool.visible()

    assert int(found["long"], 16) == 10**5000
    assert int(found["nested"][0]["long"], 16) == -(10**5000)
    assert found["other"] == 1
