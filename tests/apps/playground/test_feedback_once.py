"""A feedback that is sent several times, by a key pressed quickly or a repeated request, is stored once."""

from __future__ import annotations

import asyncio

import pytest

from mongodb_session_manager.web.once import Once
from tests.apps.playground.servers import playground
from tests.fixtures.sessions import Sessions


async def test_requests_with_one_key_store_one_feedback(sessions: Sessions) -> None:
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        url, body = "/api/sessions/s-1/feedback", {"rating": "up", "comment": "fine", "message_id": 1, "key": "k-1"}
        answers = await asyncio.gather(*(app.client.post(url, json=body) for _ in range(10)))
        later = await app.client.post(url, json=body)
        other = await app.client.post(url, json={**body, "key": "k-2"})
        without = await app.client.post(url, json={"rating": "down"})
        bad = await app.client.post(url, json={**body, "key": "x" * 65})

    stored = sessions.raw.find_one({"_id": "s-1"})
    assert stored is not None
    assert {answer.status_code for answer in (*answers, later, other, without)} == {201}
    assert bad.status_code == 422
    assert [feedback["rating"] for feedback in stored["feedbacks"]] == ["up", "up", "down"]
    assert all("key" not in feedback for feedback in stored["feedbacks"])
    assert "key" not in later.json()


async def test_a_key_is_known_to_a_playground_that_starts_later(sessions: Sessions) -> None:
    url, body = "/api/sessions/s-1/feedback", {"rating": "up", "key": "k-1"}
    for again in (False, True):
        async with playground(sessions) as app:
            if not again:
                await app.chat("s-1", "Hello")
            assert (await app.client.post(url, json=body)).status_code == 201

    stored = sessions.raw.find_one({"_id": "s-1"})
    assert stored is not None
    assert len(stored["feedbacks"]) == 1


async def test_what_failed_can_be_tried_again_and_keys_are_bounded() -> None:
    once = Once(most_keys=2)
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await once.run(("s", "a"), work)
    await asyncio.sleep(0)
    for key in ("a", "a", "b", "c", "a"):
        await once.run(("s", key), work)

    # The failed one, a, b, c, and a again, which had to make room.
    assert len(runs) == 5


async def test_a_caller_that_leaves_does_not_end_what_others_wait_for() -> None:
    once, go_on, done = Once(), asyncio.Event(), []

    async def work() -> None:
        await go_on.wait()
        done.append(True)

    first = asyncio.create_task(once.run(("s",), work))
    second = asyncio.create_task(once.run(("s",), work))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await second

    assert done == [True]
