"""The application of the README under many requests at once, while its MongoDB server is killed and started again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from pymongo import MongoClient

from mongodb_session_manager import offline
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.offline import OfflineModel
from tests.docs.blocks import all_blocks
from tests.fixtures.sessions import (
    texts_of,
)
from tests.fixtures.waiting import WAIT_S, eventually
from tests.support.invariants import check_whole
from tests.support.serving import serving

SESSIONS = 50
REQUESTS = 200
POOL = 20


@pytest.fixture
def server() -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo("replica_set") as server:
        yield server


def readme_app(server: EmbeddedMongo, database: str) -> tuple[FastAPI, Any]:
    """Return the application of the README, and its sessions, on a server and pool of the test."""
    [block] = [block for block in all_blocks() if block.page == "README.md" and "Sessions(" in block.code]
    code = block.code.replace("mongodb://localhost:27017/", server.uri).replace(
        '"my_app"', f'"{database}", write_deadline_s=2, maxPoolSize={POOL}'
    )
    namespace: dict[str, Any] = {"__name__": "readme_app"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), namespace)
    return namespace["app"], namespace["sessions"]


@pytest.mark.slow
async def test_an_outage_is_503_and_loses_and_doubles_nothing(
    server: EmbeddedMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "OfflineModel", lambda: OfflineModel(delay_s=0.01))
    database = f"msm_{uuid4().hex[:12]}"
    app, held = readme_app(server, database)
    seen: Counter[str] = Counter()
    answers: dict[int, str] = {}

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        """Send one request until it is answered, as a client with a key may."""
        while number not in answers:
            try:
                answer = await client.post(
                    f"/chat/s-{number % SESSIONS}",
                    json={"message": f"My name is N{number}."},
                    headers={"Idempotency-Key": f"k-{number}"},
                )
            except (httpx.RemoteProtocolError, httpx.ReadError):
                seen["cut off"] += 1  # it had begun
                continue
            seen[str(answer.status_code)] += 1
            if answer.status_code == 200:
                answers[number] = answer.text
            elif answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) > 0
                await asyncio.sleep(0.5)  # what a client does; how long is of no account

    async with serving(app) as client:
        asking = [asyncio.create_task(ask(client, number)) for number in range(REQUESTS)]
        await eventually(lambda: len(answers) > REQUESTS // 10, "the first answers")
        await asyncio.to_thread(server.kill)
        await eventually(lambda: seen["503"] >= 20, "the outage")
        await asyncio.to_thread(server.restart)
        await asyncio.wait_for(asyncio.gather(*asking), 2 * WAIT_S)
        statistics = await held.factory.get_connection_stats()

    assert set(seen) <= {"200", "503", "409", "cut off"}, seen
    assert seen["200"] == REQUESTS
    assert all(f"N{number}" in answer for number, answer in answers.items())
    for numbers in statistics["servers"].values():
        assert numbers["open"] <= POOL
        assert numbers["in_use"] == 0
    with MongoClient[dict[str, Any]](server.uri) as mongo:
        stored = list(mongo[database]["sessions"].find())
    assert len(stored) == SESSIONS
    for document in stored:
        check_whole(document)
        texts = texts_of(document["agents"]["support"]["messages"])
        session = int(document["_id"].removeprefix("s-"))
        asked = sorted(f"My name is N{number}." for number in range(session, REQUESTS, SESSIONS))
        assert sorted(texts[::2]) == asked
        assert "lease" not in document
