from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.drivers import Driver


async def test_a_new_session_has_no_feedback(driver: Driver) -> None:
    async with driver.manager() as manager:
        assert await manager.get_feedbacks() == []


async def test_feedback_is_listed_in_order_of_submission_and_dated(driver: Driver) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    async with driver.manager() as manager:
        for number in range(5):
            await manager.add_feedback({"rating": "up", "comment": f"comment {number}", "by": {"name.x": number}})

        feedbacks = await manager.get_feedbacks()

    assert [f["comment"] for f in feedbacks] == [f"comment {number}" for number in range(5)]
    assert [f["by"] for f in feedbacks] == [{"name.x": number} for number in range(5)]
    dates = [f["created_at"] for f in feedbacks]
    assert dates == sorted(dates)
    assert before <= dates[0] <= dates[-1] <= datetime.now(UTC)
    assert (await driver.stored())["summary"]["feedbacks"] == 5


async def test_a_feedback_with_a_key_is_stored_once_by_whoever_is_asked(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.add_feedback({"rating": "up"}, idempotency_key="k")
        await asyncio.gather(
            *(driver.repository().add_feedback("s-1", {"rating": "up"}, idempotency_key="k") for _ in range(5)),
            manager.add_feedback({"rating": "up"}, idempotency_key="k"),
        )
        # A process that starts later, and after many other writes.
        for number in range(120):
            await manager.update_metadata({"n": number})
    async with driver.manager() as later:
        await later.add_feedback({"rating": "up"}, idempotency_key="k")
        await later.add_feedback({"rating": "down"}, idempotency_key="other")
        await later.add_feedback({"rating": "down"})
        assert [feedback["rating"] for feedback in await later.get_feedbacks()] == ["up", "down", "down"]
    stored = await driver.stored()
    assert stored["summary"]["ratings"] == {"up": 1, "down": 2, "other": 0}


async def test_the_key_of_a_feedback_is_no_key_of_a_turn(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.add_feedback({"rating": "up"}, idempotency_key="k")
    document = await driver.stored()
    assert "k" not in document["idempotency_keys"]
    assert all("idempotency_key" not in feedback for feedback in document["feedbacks"])


@pytest.mark.parametrize("key", ["", "x" * 257, 5, {"$gt": ""}, "\ud800"])
async def test_a_key_of_a_feedback_that_is_none(driver: Driver, key: Any) -> None:
    async with driver.manager() as manager:
        with pytest.raises(ValueError, match="idempotency_key"):
            await manager.add_feedback({"rating": "up"}, idempotency_key=key)
        assert await manager.get_feedbacks() == []


async def test_the_date_is_the_librarys_not_the_callers(driver: Driver) -> None:
    async with driver.manager() as manager:
        await manager.add_feedback({"rating": "up", "created_at": datetime(1999, 1, 1, tzinfo=UTC)})

        (feedback,) = await manager.get_feedbacks()

    assert feedback["created_at"].year > 1999


async def test_the_callers_dict_stays_as_it_is(driver: Driver) -> None:
    feedback = {"rating": "up"}
    async with driver.manager() as manager:
        await manager.add_feedback(feedback)

    assert feedback == {"rating": "up"}


async def test_the_repository_adds_to_the_same_list(driver: Driver) -> None:
    repository = driver.repository()
    async with driver.manager() as manager:
        await manager.add_feedback({"rating": "up"})
        await repository.add_feedback("s-1", {"rating": "down"})

        assert [f["rating"] for f in await manager.get_feedbacks()] == ["up", "down"]
        assert await repository.get_feedbacks("s-1") == await manager.get_feedbacks()


@pytest.mark.parametrize("feedback", ["up", ["up"], None])
async def test_feedback_is_a_dict(driver: Driver, feedback: Any) -> None:
    async with driver.manager() as manager:
        with pytest.raises(TypeError, match="dict"):
            await manager.add_feedback(feedback)

        assert await manager.get_feedbacks() == []


async def test_feedback_that_cannot_be_stored_is_refused_with_its_place(driver: Driver) -> None:
    async with driver.manager() as manager:
        with pytest.raises(TypeError, match=r"feedback\.by"):
            await manager.add_feedback({"rating": "up", "by": object()})

        assert await manager.get_feedbacks() == []
        assert (await driver.stored())["summary"]["feedbacks"] == 0
