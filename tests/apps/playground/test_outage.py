from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager.embedded import EmbeddedMongo
from tests.apps.playground.servers import PausingModel, playground, said
from tests.fixtures.sessions import Sessions


@pytest.mark.slow
async def test_a_database_that_is_killed_in_mid_reply_and_comes_back_loses_nothing() -> None:
    with EmbeddedMongo() as server, MongoClient[dict[str, Any]](server.uri) as client:
        sessions = Sessions(server.uri, client, "examples")
        model = PausingModel("Said while nobody could write it down.", "And on.")
        async with playground(sessions, model) as app:
            async with app.stream("s-1", "Talk") as events:
                heard = [await anext(events)]
                await asyncio.to_thread(server.kill)
                model.resume.set()
                await asyncio.to_thread(server.restart)
                heard += [event async for event in events]
            again = await app.chat("s-1", "And?")

        assert heard[-1].data["stop_reason"] == "end_turn"
        assert said(again) == "And on."
        assert app.stored("s-1") == [
            ("user", "Talk"),
            ("assistant", "Said while nobody could write it down."),
            ("user", "And?"),
            ("assistant", "And on."),
        ]
