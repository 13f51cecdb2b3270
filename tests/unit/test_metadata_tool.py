from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from bson import ObjectId
from pymongo.errors import ServerSelectionTimeoutError
from strands import Agent

from mongodb_session_manager.metadata_tool import create_blocking_metadata_tool, create_metadata_tool
from tests.support.hooks import AsyncStore, BlockingStore, validation_hook
from tests.support.models import ScriptedModel, calls

Ask = Callable[..., str]


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["async", "sync"])
def manager(request: pytest.FixtureRequest, portal: BlockingPortal) -> AsyncStore | BlockingStore:
    return AsyncStore() if request.param == "async" else BlockingStore(portal)


@pytest.fixture
def ask(manager: AsyncStore | BlockingStore, portal: BlockingPortal) -> Ask:
    """Call the tool of either face directly."""
    if isinstance(manager, BlockingStore):
        return create_blocking_metadata_tool(manager)
    tool = create_metadata_tool(manager)

    async def call(args: Any, kwargs: Any) -> str:
        return await tool(*args, **kwargs)

    return lambda *args, **kwargs: portal.call(call, args, kwargs)


def test_get_returns_all_metadata_as_json(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    manager.stored.metadata = {"name": "Zoë", "level": 5, "tags": ["a"], "nested": {"ok": True}}

    answer = ask(action="get")

    assert answer == 'All metadata: {"name": "Zoë", "level": 5, "tags": ["a"], "nested": {"ok": true}}'


def test_get_of_an_empty_session_says_so(ask: Ask) -> None:
    assert ask(action="get") == "No metadata stored in session"


def test_get_with_keys_returns_those_that_exist(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    manager.stored.metadata = {"name": "Ada", "theme": None}

    assert ask(action="get", keys=["theme", "missing"]) == 'Metadata retrieved: {"theme": null}'
    assert ask(action="get", keys=["missing", "other"]) == "No metadata found for keys: ['missing', 'other']"
    assert ask(action="get", keys=[]) == 'All metadata: {"name": "Ada", "theme": null}'


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("preferences.language", '"en"'),
        ("preferences", '{"language": "en"}'),
        ("carts.1.total", "7"),
        ("stored.with.dots", "1"),
    ],
)
def test_get_addresses_nested_fields_by_dots(
    manager: AsyncStore | BlockingStore, ask: Ask, key: str, found: str
) -> None:
    manager.stored.metadata = {
        "preferences": {"language": "en"},
        "carts": [{"total": 3}, {"total": 7}],
        "stored.with.dots": 1,
    }

    assert ask(action="get", keys=[key]) == f'Metadata retrieved: {{"{key}": {found}}}'


@pytest.mark.parametrize("key", ["preferences.missing", "preferences.language.deeper", "carts.2", "carts.x", ""])
def test_get_does_not_find_a_path_that_leads_nowhere(manager: AsyncStore | BlockingStore, ask: Ask, key: str) -> None:
    manager.stored.metadata = {"preferences": {"language": "en"}, "carts": [1, 2]}

    assert ask(action="get", keys=[key]) == f"No metadata found for keys: ['{key}']"


@pytest.mark.parametrize("action", ["set", "update", "SET", " Update "])
def test_set_and_update_store_and_keep_other_fields(manager: AsyncStore | BlockingStore, ask: Ask, action: str) -> None:
    manager.stored.metadata = {"kept": 1}

    answer = ask(action=action, metadata={"status": "active", "level": 5})

    assert answer == "Successfully updated metadata fields: ['status', 'level']"
    assert manager.stored.metadata == {"kept": 1, "status": "active", "level": 5}


def test_delete_removes_fields(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    manager.stored.metadata = {"kept": 1, "temp": 2, "old": 3}

    assert ask(action="Delete", keys=["temp", "old", "temp"]) == "Successfully deleted metadata fields: ['temp', 'old']"
    assert manager.stored.metadata == {"kept": 1}


def test_parameters_may_be_positional(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    assert ask("set", {"a": 1}) == "Successfully updated metadata fields: ['a']"
    assert ask("get", None, ["a"]) == 'Metadata retrieved: {"a": 1}'


def test_objects_and_arrays_come_as_json_text_too(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    assert ask(action="set", metadata='{"a": {"b": 1}, "c": 2}') == "Successfully updated metadata fields: ['a', 'c']"
    assert ask(action="get", keys='["a.b"]') == 'Metadata retrieved: {"a.b": 1}'
    assert ask(action="get", keys="c") == 'Metadata retrieved: {"c": 2}'
    assert ask(action="delete", keys='"c"') == "Successfully deleted metadata fields: ['c']"
    assert manager.stored.metadata == {"a": {"b": 1}}


def test_an_unknown_action_is_named_as_it_came(ask: Ask) -> None:
    assert ask(action="Drop") == "Error: Unknown action 'Drop'. Use 'get', 'set', 'update', or 'delete'"
    assert ask(action=5) == "Error: Unknown action '5'. Use 'get', 'set', 'update', or 'delete'"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"action": "set"},
        {"action": "set", "metadata": {}},
        {"action": "set", "metadata": "{not json"},
        {"action": "set", "metadata": "[1]"},
        {"action": "set", "metadata": ["a"]},
        {"action": "update", "metadata": 5},
        {"action": "set", "metadata": "[" * 100_000},
        {"action": "delete"},
        {"action": "delete", "keys": []},
        {"action": "delete", "keys": "[not json"},
        {"action": "delete", "keys": "{not json"},
        {"action": "delete", "keys": '{"a": 1}'},
        {"action": "delete", "keys": [1]},
        {"action": "delete", "keys": {"a": 1}},
        {"action": "delete", "keys": b"a"},
        {"action": "get", "keys": 5},
        {"action": ["get"]},
    ],
    ids=lambda parameters: str(parameters)[:40],
)
def test_missing_and_malformed_parameters_are_errors_in_text(
    manager: AsyncStore | BlockingStore, ask: Ask, parameters: dict[str, Any]
) -> None:
    answer = ask(**parameters)

    assert answer.startswith("Error: ")
    assert len(answer) < 200
    assert manager.stored.calls == []


def test_values_that_json_does_not_know_are_rendered_as_text(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    identity = ObjectId()
    manager.stored.metadata = {
        "at": datetime(2024, 1, 26, 10, 0, 0, 123000, tzinfo=UTC),
        "day": date(2024, 1, 26),
        "id": identity,
        "raw": b"\x00\xff",
        "several": {1},
    }

    answer = ask(action="get")

    assert json.loads(answer.removeprefix("All metadata: ")) == {
        "at": "2024-01-26T10:00:00.123000+00:00",
        "day": "2024-01-26",
        "id": str(identity),
        "raw": "AP8=",
        "several": [1],
    }


def test_an_answer_can_always_be_encoded(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    manager.stored.metadata = {"half": "\ud83d", "whole": "😀"}

    answer = ask(action="get")

    assert answer.encode() == 'All metadata: {"half": "\\ud83d", "whole": "😀"}'.encode()
    assert json.loads(answer.removeprefix("All metadata: ")) == manager.stored.metadata
    assert ask(action="\ud83d").encode()


def test_what_a_hook_refuses_is_told_and_not_stored(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    manager.hooks = validation_hook

    assert ask(action="set", metadata={"_id": 1}) == "Error managing metadata: Cannot update protected field: _id"
    assert manager.stored.calls == []


@pytest.mark.parametrize("result", [None, {}, {"metadata": None}, "text", {"metadata": {}}])
def test_whatever_a_hook_returns_for_a_read_is_answered(
    manager: AsyncStore | BlockingStore, ask: Ask, result: Any
) -> None:
    manager.hooks = lambda original_func, action, session_id, **kwargs: result

    assert ask(action="get") == "No metadata stored in session"


def test_an_error_without_text_is_named(manager: AsyncStore | BlockingStore, ask: Ask) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError

    manager.hooks = fails

    assert ask(action="get") == "Error managing metadata: PermissionError"


def test_a_driver_error_shows_no_host_in_answer_or_log(
    manager: AsyncStore | BlockingStore, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise ServerSelectionTimeoutError("db-7.internal:27017: connection refused")

    manager.hooks = fails

    with caplog.at_level(logging.DEBUG, logger="mongodb_session_manager"):
        answer = ask(action="get")

    assert answer == "Error managing metadata: the database reported ServerSelectionTimeoutError"
    assert (
        "session_id=<'combined-hooks-session'>, error=<ServerSelectionTimeoutError> | metadata tool failed"
        in caplog.text
    )
    assert "internal" not in caplog.text


async def test_cancellation_is_not_turned_into_an_answer() -> None:
    reached = asyncio.Event()

    async def waits(*args: Any, **kwargs: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    asked = asyncio.create_task(create_metadata_tool(AsyncStore(waits))(action="get"))
    await reached.wait()
    asked.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asked


def test_the_schema_has_an_object_and_an_array_of_strings(portal: BlockingPortal) -> None:
    for tool in (create_metadata_tool(AsyncStore()), create_blocking_metadata_tool(BlockingStore(portal))):
        assert tool.tool_name == tool.tool_spec["name"] == "manage_metadata"
        schema = tool.tool_spec["inputSchema"]["json"]
        assert schema["required"] == ["action"]
        assert schema["properties"]["action"]["enum"] == ["get", "set", "update", "delete"]
        assert schema["properties"]["metadata"]["type"] == "object"
        assert schema["properties"]["keys"]["type"] == "array"
        assert schema["properties"]["keys"]["items"] == {"type": "string"}


def test_the_async_tool_wraps_a_coroutine_function(portal: BlockingPortal) -> None:
    assert inspect.iscoroutinefunction(inspect.unwrap(create_metadata_tool(AsyncStore())))
    assert not inspect.iscoroutinefunction(inspect.unwrap(create_blocking_metadata_tool(BlockingStore(portal))))


def tool_results(agent: Agent) -> list[tuple[str, str]]:
    return [
        (result["status"], result["content"][0]["text"])
        for message in agent.messages
        for block in message["content"]
        if (result := block.get("toolResult"))
    ]


SCRIPT = (
    calls(("manage_metadata", {"action": "set", "metadata": {"theme": "dark", "user": {"name": "Ada"}}})),
    calls(("manage_metadata", {"action": "set", "metadata": '{"priority": "high"}'})),
    calls(("manage_metadata", {"action": "get", "keys": '["theme", "user.name"]'})),
    calls(("manage_metadata", {"action": "delete", "keys": ["theme"]})),
    calls(("manage_metadata", {"metadata": {"a": 1}})),
    calls(("manage_metadata", {"action": "get"})),
    "done",
)
RESULTS = [
    ("success", "Successfully updated metadata fields: ['theme', 'user']"),
    ("success", "Successfully updated metadata fields: ['priority']"),
    ("success", 'Metadata retrieved: {"theme": "dark", "user.name": "Ada"}'),
    ("success", "Successfully deleted metadata fields: ['theme']"),
    ("success", "Error: action is required. Use 'get', 'set', 'update', or 'delete'"),
    ("success", 'All metadata: {"user": {"name": "Ada"}, "priority": "high"}'),
]


async def test_an_agent_uses_the_async_tool() -> None:
    manager = AsyncStore()
    agent = Agent(model=ScriptedModel(*SCRIPT), tools=[create_metadata_tool(manager)], callback_handler=None)

    await agent.invoke_async("remember this")

    assert tool_results(agent) == RESULTS
    assert manager.stored.metadata == {"user": {"name": "Ada"}, "priority": "high"}


def test_an_agent_uses_the_blocking_tool(portal: BlockingPortal) -> None:
    manager = BlockingStore(portal)
    agent = Agent(model=ScriptedModel(*SCRIPT), tools=[create_blocking_metadata_tool(manager)], callback_handler=None)

    agent("remember this")

    assert tool_results(agent) == RESULTS
    assert manager.stored.metadata == {"user": {"name": "Ada"}, "priority": "high"}
