from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from bson import encode

from mongodb_session_manager import InvalidNameError, MetadataTooLargeError, SessionNotFoundError
from mongodb_session_manager.schema.metadata import MetadataUpdate
from tests.contract.drivers import Driver

KB = 1024
MARKED: list[Any] = [UUID(int=7), Decimal("1.5"), date(2024, 5, 1), (1, 2), 2**70, "\ud800"]
"""What BSON cannot hold, and is stored in a form of its own."""


async def metadata_of(manager: Any) -> Any:
    return (await manager.get_metadata())["metadata"]


@pytest.mark.parametrize(
    ("stored", "key"),
    [
        ({"a": [1]}, "a.1400000"),
        ({"a": [1]}, "a.3"),
        ({"a": []}, "a.1"),
        ({"a": [1, 2, 3]}, "a.7"),
        ({"a": [1]}, "a." + "9" * 30),
        ({"a": [1]}, "a.1400000.b"),
        ({"a": [[1]]}, "a.0.1400000"),
        ({"a": {"b": [{"c": [1]}]}}, "a.b.0.c.4"),
        # In a query these positions also name fields of the items.
        ({"a": [{"1400000": 1, "700000": 1, "699999": 1}]}, "a.1400000"),
        ({"a": [{"3": 1}, [1, 2, 3, 4]]}, "a.6"),
    ],
)
async def test_a_position_does_not_lengthen_a_list_by_more_than_it_holds_plus_one(
    driver: Driver, stored: Any, key: str
) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata(stored)

        for change in (manager.update_metadata, lambda update: driver.repository().update_metadata("s-1", update)):
            with pytest.raises(InvalidNameError, match="lengthen a list"):
                await change({key: 1, "other": 2})

        assert await metadata_of(manager) == stored
        await manager.update_metadata({"still": "usable"})


@pytest.mark.parametrize(
    ("stored", "key", "expected"),
    [
        ({"a": [1]}, "a.0", {"a": ["x"]}),
        ({"a": [1]}, "a.1", {"a": [1, "x"]}),
        ({"a": [1]}, "a.2", {"a": [1, None, "x"]}),
        ({"a": []}, "a.0", {"a": ["x"]}),
        ({"a": [[1]]}, "a.0.1", {"a": [[1, "x"]]}),
        ({"a": [{"b": 1}]}, "a.0.b", {"a": [{"b": "x"}]}),
        ({"a": {"b": 1}}, "a.1400000", {"a": {"b": 1, "1400000": "x"}}),
        ({}, "a.1400000", {"a": {"1400000": "x"}}),
        ({}, "1400000", {"1400000": "x"}),
    ],
)
async def test_a_position_near_the_end_of_a_list_and_a_field_that_looks_like_one_are_set(
    driver: Driver, stored: Any, key: str, expected: Any
) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata(stored)
        await manager.update_metadata({key: "x"})

        assert await metadata_of(manager) == expected


async def test_the_positions_of_one_update_are_all_judged_by_what_is_stored(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": [1]})

        with pytest.raises(InvalidNameError, match="lengthen a list"):
            await manager.update_metadata({"a.2": 1, "a.6": 1, "a.14": 1})

        await manager.update_metadata({"a.1": 2, "a.2": 3})
        assert await metadata_of(manager) == {"a": [1, 2, 3]}


@pytest.mark.parametrize(
    ("stored", "key"),
    [
        ({"customer": "secret text"}, "customer.tier"),
        ({"customer": {"tier": "secret text"}}, "customer.tier.level"),
        ({"customer": {"tier": "secret text"}}, "customer.tier.level.deeper"),
        ({"customer": 5}, "customer.tier"),
        ({"customer": None}, "customer.tier"),
        ({"customer": True}, "customer.0"),
        ({"customer": ["secret text"]}, "customer.tier"),
        ({"customer": ["secret text"]}, "customer.0.tier"),
        ({"customer": [{"tier": 1}]}, "customer.tier"),
        ({"customer": ["a", "b"]}, "customer.01"),
        ({"customer": ["a", "b"]}, "customer.-1"),
        ({"customer": ["a", "b"]}, "customer.٣"),
        *(({"customer": value}, "customer.value") for value in MARKED),
        ({"customer": MARKED[0]}, "customer.tier"),
        ({"customer": [MARKED[0]]}, "customer.0.value"),
        ({"customer": {1: "secret text"}}, "customer.value"),
    ],
)
async def test_a_key_below_a_plain_value_is_named_and_the_value_is_not(driver: Driver, stored: Any, key: str) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata(stored)

        for change in (manager.update_metadata, lambda update: driver.repository().update_metadata("s-1", update)):
            with pytest.raises(InvalidNameError) as raised:
                await change({"other": 1, key: "gold"})
            assert repr(key) in str(raised.value)
            assert "secret" not in str(raised.value)
            assert raised.value.__cause__ is None or "secret" not in str(raised.value.__cause__)

        assert await metadata_of(manager) == stored


@pytest.mark.parametrize("name", ["value", "0", "tier", "value.0"])
async def test_a_deletion_below_a_plain_value_leaves_it_and_deletes_the_others(driver: Driver, name: str) -> None:
    stored = {str(place): value for place, value in enumerate([*MARKED, "text", {1: "one"}])}
    keys = [f"{key}.{name}" for key in stored] + ["list.0.value", "a.tier.name", "a.absent"]
    for by in ("manager", "repository"):
        async with driver.manager(by) as manager:
            others = {"list": [UUID(int=7)], "a": {"b.c": 1, "tier": {"name": "gold"}, "left": 2}}
            await manager.update_metadata({**stored, **others})

            if by == "manager":
                await manager.delete_metadata(keys)
            else:
                await driver.repository().delete_metadata(by, keys)

            left = {**stored, "list": [UUID(int=7)], "a": {"b.c": 1, "tier": {}, "left": 2}}
            assert await metadata_of(manager) == left


async def test_fields_are_set_in_and_deleted_from_dicts_of_any_keys(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"dotted": {"a.b": 1}, "numbered": {1: "one"}})
        await manager.update_metadata({"dotted.value": 2, "numbered.tier": 3})
        assert await metadata_of(manager) == {"dotted": {"a.b": 1, "value": 2}, "numbered": {1: "one", "tier": 3}}

        await manager.delete_metadata(["dotted.value", "numbered.tier"])
        assert await metadata_of(manager) == {"dotted": {"a.b": 1}, "numbered": {1: "one"}}


async def test_marks_that_something_else_changed_keep_no_metadata_from_being_read(driver: Driver) -> None:
    kinds = [
        "int",
        "str",
        "tuple",
        "pairs",
        "datetime",
        "date",
        "decimal",
        "uuid",
        "deep",
        "dataclass",
        "keys",
        "other",
    ]
    values: list[Any] = [5, None, [], [[1]], {"a": 1}, "", "x"]
    marked = {f"{kind}{place}": {"__bson__": kind, "value": v} for kind in kinds for place, v in enumerate(values)}
    async with driver.manager() as manager:
        await driver.change({"$set": {"metadata": {"topic": "tea", **marked}}})

        found = await metadata_of(manager)

    assert found["topic"] == "tea"
    assert found.keys() == {"topic", *marked}


async def test_a_model_hears_of_a_key_below_a_plain_value_without_the_value(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"customer": "secret text"})
        answer = await _ask(manager, action="set", metadata={"customer.tier": 1})

    assert answer.startswith("Error managing metadata: invalid metadata key: ")
    assert "got 'customer.tier'" in answer
    assert "secret" not in answer


async def _ask(manager: Any, **request: Any) -> str:
    answer = manager.get_metadata_tool()(**request)
    return answer if isinstance(answer, str) else await answer


async def test_an_update_of_very_many_nested_fields_asks_few_things_of_the_server(driver: Driver) -> None:
    deep = {f"x{number}." + ".".join(f"y{level}" for level in range(18)): number for number in range(1_000)}
    update = MetadataUpdate.parse("s-1", deep)
    assert update is not None
    # Each of 19,000 conditions would be looked at for each attempt.
    assert len(encode(update.guard())) < 32 * KB

    async with driver.manager() as manager:
        await manager.update_metadata({"x5": {"kept": True}})
        await manager.update_metadata(deep)
        found = await metadata_of(manager)
        await manager.update_metadata({"x7": "plain"})
        with pytest.raises(InvalidNameError, match="plain value"):
            await manager.update_metadata(deep)

    assert len(found) == 1_000
    assert found["x5"].keys() == {"kept", "y0"}


async def test_one_update_has_at_most_256_kilobytes(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": "x" * (256 * KB - 100)})

        for too_large in (
            {"a": "x" * 256 * KB},
            {"a": "é" * 130 * KB},
            {f"k{number}": "x" * KB for number in range(256)},
            {"k" * 256 * KB: 1},
            {"a": [1] * 30_000},
        ):
            with pytest.raises(MetadataTooLargeError, match="update") as raised:
                await manager.update_metadata(too_large)
            assert raised.value.limit_bytes == 256 * KB < raised.value.size_bytes
            with pytest.raises(MetadataTooLargeError, match="s-1"):
                await driver.repository().update_metadata("s-1", too_large)

        assert len(await metadata_of(manager)) == 1


async def test_all_metadata_of_a_session_has_at_most_a_megabyte(driver: Driver) -> None:
    async with driver.manager() as manager:
        for number in range(4):
            await manager.update_metadata({f"k{number}": "x" * 250 * KB})

        for change in (manager.update_metadata, lambda update: driver.repository().update_metadata("s-1", update)):
            with pytest.raises(MetadataTooLargeError, match="all metadata") as raised:
                await change({"more": "x" * 30 * KB})
            assert raised.value.limit_bytes == 1024 * KB < raised.value.size_bytes
        # What replaces something counts in its place, and what is deleted not at all.
        for text in "abc":
            await manager.update_metadata({"k0": text * 255 * KB})
        await manager.delete_metadata(["k1"])
        await manager.update_metadata({"more": "x" * 200 * KB})

        assert sorted(await metadata_of(manager)) == ["k0", "k2", "k3", "more"]


async def test_positions_count_the_gaps_that_they_leave(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.update_metadata({"a": [None] * 25_000})
        await manager.update_metadata({"a.50000": 1})
        await manager.update_metadata({"a.100000": 1})
        with pytest.raises(MetadataTooLargeError, match="all metadata"):
            await manager.update_metadata({"a.200000": 1})

        stored = (await driver.stored())["metadata"]
        assert len(encode(stored)) <= 1024 * KB
        await manager.delete_metadata(["a"])
        assert await metadata_of(manager) == {}


async def test_many_writers_stay_below_the_limit_together(driver: Driver) -> None:
    async with driver.manager() as one, driver.manager() as other:
        writers = [one, other, *(driver.repository() for _ in range(2))]

        async def write(number: int) -> bool:
            writer, update = writers[number % 4], {f"k{number}": "x" * 100 * KB}
            try:
                await (writer.update_metadata(update) if number % 4 < 2 else writer.update_metadata("s-1", update))
            except MetadataTooLargeError:
                return False
            return True

        stored = await asyncio.gather(*(write(number) for number in range(16)))

        assert stored.count(True) == 10
        assert len(await metadata_of(one)) == 10


async def test_many_writers_lengthen_one_list_without_losing_an_item(driver: Driver) -> None:
    async with driver.manager() as one, driver.manager() as other:
        await one.update_metadata({"a": []})

        async def write(number: int) -> int:
            refusals = 0
            while True:
                try:
                    await (one, other)[number % 2].update_metadata({f"a.{number}": number})
                except InvalidNameError:
                    refusals += 1
                    await asyncio.sleep(0)
                else:
                    return refusals

        await asyncio.gather(*(write(number) for number in range(12)))

        assert await metadata_of(one) == {"a": list(range(12))}


async def test_metadata_that_was_stored_before_sizes_were_counted_is_measured(driver: Driver) -> None:
    async with driver.manager() as manager:
        await driver.change({"$set": {"metadata": {"old": "x" * 900 * KB}}, "$unset": {"metadata_bytes": ""}})

        with pytest.raises(MetadataTooLargeError):
            await manager.update_metadata({"new": "x" * 200 * KB})
        await manager.update_metadata({"new": "x" * 20 * KB})

        assert set(await metadata_of(manager)) == {"old", "new"}


async def test_metadata_of_another_tool_that_is_too_large_can_be_made_smaller(driver: Driver) -> None:
    await driver.store({"_id": "s-1", "metadata": {"old": ["x" * 100 * KB] * 20, "small": 1}})
    async with driver.manager() as manager:
        with pytest.raises(MetadataTooLargeError):
            await manager.update_metadata({"small": "larger"})
        await manager.update_metadata({"old.0": "x"})
        await manager.update_metadata({"old": []})
        await manager.update_metadata({"small": "larger"})

        assert await metadata_of(manager) == {"old": [], "small": "larger"}


@pytest.mark.parametrize("metadata", [None, "text", [1]])
async def test_metadata_that_is_no_object(driver: Driver, metadata: Any) -> None:
    async with driver.manager() as manager:
        await driver.change({"$set": {"metadata": metadata}})

        assert await metadata_of(manager) == {}
        if metadata is None:
            await manager.update_metadata({"a.b": 1})
            assert await metadata_of(manager) == {"a": {"b": 1}}
        else:
            with pytest.raises(InvalidNameError, match="no object"):
                await manager.update_metadata({"a": 1})


async def test_an_update_of_a_session_that_is_gone(driver: Driver) -> None:
    async with driver.manager() as manager:
        await driver.repository().delete_session("s-1")

        for update in ({"a": 1}, {"a.0": 1}, {"a.b": 1}):
            with pytest.raises(SessionNotFoundError):
                await manager.update_metadata(update)
