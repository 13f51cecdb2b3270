from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mongodb_session_manager import InvalidNameError
from tests.contract.drivers import Driver
from tests.support.agents import make_agent
from tests.support.models import calls


async def metadata_of(manager: Any) -> Any:
    return (await manager.get_metadata())["metadata"]


async def test_a_new_session_has_no_metadata(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.get_metadata() == {"metadata": {}}


async def test_an_update_leaves_the_other_fields(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": 1, "b": {"c": [1, {"d": None}], "e": "x"}})
        await manager.update_metadata({"a": 2, "new": True})

        assert await metadata_of(manager) == {"a": 2, "b": {"c": [1, {"d": None}], "e": "x"}, "new": True}


async def test_dots_address_nested_fields(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"customer": {"name": "Ada", "tier": "silver"}})
        await manager.update_metadata({"customer.tier": "gold", "order.items.first": "tea"})

        assert await metadata_of(manager) == {
            "customer": {"name": "Ada", "tier": "gold"},
            "order": {"items": {"first": "tea"}},
        }


async def test_fields_are_deleted_nested_ones_too(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": 1, "b": {"c": 2, "d": 3}, "e": {"f": 4}})

        await manager.delete_metadata(["a", "b.c", "e", "e.f", "never.there"])

        assert await metadata_of(manager) == {"b": {"d": 3}}


async def test_dates_come_back_in_utc_with_milliseconds(driver: Driver) -> None:
    elsewhere = timezone(timedelta(hours=2))
    async with driver.manager() as manager:
        await manager.update_metadata(
            {
                "naive": datetime(2024, 5, 1, 12, 0, 0, 123456),
                "aware": datetime(2024, 5, 1, 12, 0, 0, 123999, tzinfo=elsewhere),
                "nested": [{"at": datetime(1969, 12, 31, tzinfo=UTC)}],
            }
        )

        found = await metadata_of(manager)

    assert found == {
        "naive": datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC),
        "aware": datetime(2024, 5, 1, 10, 0, 0, 123000, tzinfo=UTC),
        "nested": [{"at": datetime(1969, 12, 31, tzinfo=UTC)}],
    }
    assert all(found[name].tzinfo is not None for name in ("naive", "aware"))
    assert isinstance((await driver.stored())["metadata"]["naive"], datetime)


async def test_values_of_any_kind_come_back_equal(driver: Driver) -> None:
    values = {"bytes": b"\x00\xff", "big": 1 << 80, "keys": {"a.b": 1, "$c": 2, "": 3}, "text": "\ud800", "t": (1, 2)}
    async with driver.manager() as manager:
        await manager.update_metadata(values)

        assert await metadata_of(manager) == values


async def test_nothing_to_change_is_no_error_and_no_write(driver: Driver) -> None:
    async with driver.manager() as manager:
        before = await driver.stored()

        await manager.update_metadata({})
        await manager.delete_metadata([])

        assert await driver.stored() == before


@pytest.mark.parametrize(
    "metadata",
    [
        {"": 1},
        {"a..b": 1},
        {".a": 1},
        {"a.": 1},
        {"$set": 1},
        {"a.$b": 1},
        {"a\x00b": 1},
        {"__bson__": 1},
        {"\ud800": 1},
        {1: 1},
        {"a": 1, "a.b": 2},
        {"ok": 1, "$no": 2},
    ],
)
async def test_a_key_that_cannot_be_a_field_is_refused_and_nothing_stored(driver: Driver, metadata: Any) -> None:
    async with driver.manager() as manager:
        with pytest.raises(InvalidNameError, match="metadata key"):
            await manager.update_metadata(metadata)

        assert await metadata_of(manager) == {}


@pytest.mark.parametrize("keys", ["key", {"key": 1}, None, 1, b"key"])
async def test_keys_to_delete_are_a_list(driver: Driver, keys: Any) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"k": 1, "e": 2, "y": 3, "key": 4})

        with pytest.raises(TypeError, match="list"):
            await manager.delete_metadata(keys)

        assert await metadata_of(manager) == {"k": 1, "e": 2, "y": 3, "key": 4}


@pytest.mark.parametrize("metadata", ["a", [("a", 1)], None, 1])
async def test_metadata_is_a_dict(driver: Driver, metadata: Any) -> None:
    async with driver.manager() as manager:
        with pytest.raises(TypeError, match="dict"):
            await manager.update_metadata(metadata)


async def test_a_value_that_cannot_be_stored_is_refused_with_its_place(driver: Driver) -> None:
    async with driver.manager() as manager:
        with pytest.raises(TypeError, match=r"metadata\.a\.b\[1\]"):
            await manager.update_metadata({"ok": 1, "a": {"b": [1, object()]}})

        assert await metadata_of(manager) == {}


async def test_two_managers_change_different_fields_of_one_session(driver: Driver) -> None:
    async with driver.manager() as one, driver.manager() as other:
        await one.update_metadata({"a": {"x": 1}})
        await other.update_metadata({"a.y": 2, "b": 3})
        await one.delete_metadata(["b"])

        assert await metadata_of(one) == await metadata_of(other) == {"a": {"x": 1, "y": 2}}


async def test_the_repository_does_the_same_by_session_id(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        await repository.update_metadata("s-1", {"a.b": 1, "c": 2})
        await repository.delete_metadata("s-1", ["c"])
        await repository.update_metadata("s-1", {})

        assert await metadata_of(manager) == (await repository.get_metadata("s-1"))["metadata"] == {"a": {"b": 1}}
    with pytest.raises(TypeError, match="list"):
        await repository.delete_metadata("s-1", "a")


async def test_an_agent_reads_and_changes_the_metadata_with_the_tool(driver: Driver) -> None:
    async with driver.manager() as manager:
        agent = make_agent(
            driver.for_agents(manager),
            calls(("manage_metadata", {"action": "set", "metadata": {"city": "Paris"}})),
            calls(("manage_metadata", {"action": "get", "keys": ["city"]})),
            "Paris.",
            tools=[manager.get_metadata_tool()],
        )

        await agent.invoke_async("I am in Paris")

        assert await metadata_of(manager) == {"city": "Paris"}
    results = [
        block["toolResult"]["content"][0] for m in agent.messages for block in m["content"] if "toolResult" in block
    ]
    assert results[1] == {"text": 'Metadata retrieved: {"city": "Paris"}'}


async def test_hooks_wrap_what_the_manager_does(driver: Driver) -> None:
    seen: list[tuple[str, str, dict[str, Any]]] = []

    def watch(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        kwargs.pop("session_manager", None)
        seen.append((action, session_id, kwargs))
        return original_func(*kwargs.values())

    def rename(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        result = original_func(*(value for name, value in kwargs.items() if name != "session_manager"))
        return {"metadata": {"renamed": result["metadata"]}} if action == "get" else result

    async with driver.manager(metadata_hook=[rename, watch], feedback_hook=watch) as manager:
        await manager.update_metadata({"a": 1})
        found = await manager.get_metadata()
        await manager.delete_metadata(["a"])
        await manager.add_feedback({"rating": "up"})

    assert found == {"metadata": {"renamed": {"a": 1}}}
    assert seen == [
        ("update", "s-1", {"metadata": {"a": 1}}),
        ("get", "s-1", {}),
        ("delete", "s-1", {"keys": ["a"]}),
        ("add", "s-1", {"feedback": {"rating": "up"}}),
    ]


async def test_what_a_hook_refuses_is_not_stored(driver: Driver) -> None:
    def refuse(original_func: Any, action: str, session_id: str, **kwargs: Any) -> Any:
        raise PermissionError("no")

    async with driver.manager(metadata_hook=refuse, feedback_hook=refuse) as manager:
        before = await driver.stored()
        for refused in (manager.update_metadata({"a": 1}), manager.delete_metadata(["a"]), manager.add_feedback({})):
            with pytest.raises(PermissionError):
                await refused

        assert await driver.stored() == before
