from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.fixtures.examples import Examples
from tests.fixtures.sessions import (
    texts_of,
)
from tests.support.invariants import check_whole

AT_ONCE = 200
# Generous: two busy cores serve two hundred requests, and what is asserted is what they answer.
_PATIENCE = httpx.Timeout(200)
# Each request on a connection of its own: a server may close one that was idle for seconds just as it is used again.
_LIMITS = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)


def _client(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=_PATIENCE, limits=_LIMITS, trust_env=False)


def _events(body: str) -> list[tuple[str, Any]]:
    events = []
    for part in body.strip().split("\n\n"):
        name, data = part.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def _answer(body: str) -> str:
    return "".join(data["text"] for name, data in _events(body) if name == "token")


@pytest.mark.slow
async def test_two_hundred_sessions_chat_at_once(examples: Examples) -> None:
    with examples.serving("example_fastapi") as address:
        async with _client(address) as client:

            async def ask(number: int, message: str) -> dict[str, Any]:
                response = await client.post(f"/sessions/s-{number}/messages", json={"message": message})
                assert response.status_code == 200, response.text
                answer: dict[str, Any] = response.json()
                return answer

            numbers = range(AT_ONCE)
            await asyncio.gather(*(ask(number, f"My name is Ada{number}.") for number in numbers))
            answers = await asyncio.gather(*(ask(number, "What is my name?") for number in numbers))
            pool = (await client.get("/metrics")).json()

    assert answers == [{"answer": f"Your name is Ada{number}.", "messages": 4} for number in numbers]
    stored = list(examples.stored.find())
    assert len(stored) == AT_ONCE
    for document in stored:
        check_whole(document)
        assert document["application_name"] == "example-api"
        assert len(document["agents"]["support"]["messages"]) == 4
    assert pool["status"] == "connected"
    assert sum(server["in_use"] for server in pool["servers"].values()) == 0


@pytest.mark.thorough
async def test_requests_for_one_session_take_turns(examples: Examples) -> None:
    with examples.serving("example_fastapi") as address:
        async with _client(address) as client:
            prompts = [f"My number {number} is {number}." for number in range(8)]
            responses = await asyncio.gather(
                *(client.post("/sessions/shared/messages", json={"message": prompt}) for prompt in prompts)
            )

    assert sorted(response.json()["messages"] for response in responses) == list(range(2, 18, 2))
    document = examples.document()
    check_whole(document)
    messages = document["agents"]["support"]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 8
    assert sorted(texts_of(messages)[::2]) == prompts


async def test_a_session_is_rated_shown_and_deleted(examples: Examples) -> None:
    with examples.serving("example_fastapi") as address:
        async with _client(address) as client:
            await client.post("/sessions/ada/messages", json={"message": "My name is Ada."})
            rated = await client.post("/sessions/ada/feedback", json={"rating": "up", "comment": "Nice."})
            shown = (await client.get("/sessions/ada")).json()
            stored = examples.document()
            malformed = await client.post("/sessions/ada/messages", json={"message": ""})
            deleted = await client.delete("/sessions/ada")
            gone = await client.get("/sessions/ada")

    assert (rated.status_code, rated.json()) == (201, {"feedbacks": 1})
    assert stored["feedbacks"][0]["comment"] == "Nice."
    assert shown["messages"] == 2
    assert shown["feedbacks"][0]["rating"] == "up"
    assert shown["tokens"]["total"] > 0
    assert malformed.status_code == 422
    assert deleted.status_code == 204
    assert gone.status_code == 404
    assert "ada" in gone.json()["detail"]
    assert examples.stored.count_documents({}) == 0


@pytest.mark.slow
async def test_two_hundred_streams_at_once(examples: Examples) -> None:
    with examples.serving("example_fastapi_streaming") as address:
        async with _client(address) as client:

            async def ask(number: int, message: str) -> str:
                headers = {"X-Session-Id": f"s-{number}"}
                async with client.stream("POST", "/chat", json={"message": message}, headers=headers) as response:
                    assert response.status_code == 200
                    assert response.headers["content-type"].startswith("text/event-stream")
                    return "".join([part async for part in response.aiter_text()])

            numbers = range(AT_ONCE)
            streams = await asyncio.gather(*(ask(number, f"My name is Ada{number}.") for number in numbers))
            again = await ask(7, "What is my name?")

    assert [_answer(stream) for stream in streams] == [f"Thank you. Your name is Ada{n}." for n in numbers]
    assert all(_events(stream)[-1][0] == "done" for stream in streams)
    assert all(len(_events(stream)) > 3 for stream in streams)
    assert _answer(again) == "Your name is Ada7."
    stored = list(examples.stored.find())
    assert len(stored) == AT_ONCE
    for document in stored:
        check_whole(document)


async def test_agent_state_is_kept_between_streams(examples: Examples) -> None:
    with examples.serving("example_fastapi_streaming") as address:
        async with _client(address) as client:
            headers = {"X-Session-Id": "ada"}
            first = await client.post("/chat", json={"message": "Set theme to dark."}, headers=headers)
            second = await client.post("/chat", json={"message": "Get theme."}, headers=headers)
            without_session = await client.post("/chat", json={"message": "Hello."})
            health = await client.get("/health")

    assert _events(first.text)[0] == ("tool", {"name": "set_state", "input": {"key": "theme", "value": "dark"}})
    assert "theme is dark" in _answer(second.text)
    assert _events(second.text)[-1][1]["messages"] == 8
    assert without_session.status_code == 422
    assert (health.status_code, health.json()) == (200, {"mongodb": "connected"})
    assert examples.document()["agents"]["assistant"]["agent_data"]["state"] == {"theme": "dark"}


@pytest.mark.thorough
async def test_an_application_brings_its_own_server(examples: Examples) -> None:
    with examples.serving("example_fastapi", server=False) as address:
        async with _client(address) as client:
            status = (await client.get("/metrics")).json()["status"]

    assert status == "connected"
    assert examples.stored.database.list_collection_names() == []
