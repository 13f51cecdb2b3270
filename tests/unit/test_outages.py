"""An outage is told once when it begins and once when it ends, however many commands wait for its end."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from mongodb_session_manager.client import retry as retry_module
from mongodb_session_manager.client.outages import outages
from mongodb_session_manager.client.retry import Retry

LOGGER = retry_module.__name__


class Client:
    """Stands for a driver's client, whose server is there or not."""

    def __init__(self) -> None:
        self.is_up = asyncio.Event()
        self.failed = asyncio.Event()

    async def answer(self, timeout_s: float | None) -> str:
        self._check()
        return "ok"

    async def refuse(self, timeout_s: float | None) -> str:
        self._check()
        raise OperationFailure("no", code=13)

    async def answer_always(self, timeout_s: float | None) -> str:
        return "ok"

    def _check(self) -> None:
        if not self.is_up.is_set():
            self.failed.set()
            raise AutoReconnect("no primary")

    def retry(self, deadline_s: float = 60) -> Retry:
        return Retry(deadline_s, lambda: True, lambda: self)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry_module, "_LONGEST_PAUSE_S", 0.001)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was told of outages, shortened to their beginning and end."""
    lines = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    return ["end" if "answers again" in line else "begin" for line in lines]


async def test_many_sessions_tell_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.WARNING, LOGGER):
        # Each session has a retry of its own, over the client they share.
        waiting = [asyncio.create_task(client.retry().run(client.answer, f"s-{n}")) for n in range(20)]
        await client.failed.wait()
        client.is_up.set()
        assert await asyncio.gather(*waiting) == ["ok"] * 20

    assert told(caplog) == ["begin", "end"]
    assert not outages


async def test_commands_that_give_up_meanwhile_tell_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.WARNING, LOGGER):
        for number in range(5):
            with pytest.raises(AutoReconnect):
                await client.retry(0.01).run(client.answer, f"s-{number}")
        client.is_up.set()
        # The first one that succeeds at once ends it: none waits any more.
        for _ in range(2):
            await client.retry().run(client.answer, "s-9")

    assert told(caplog) == ["begin", "end"]


async def test_what_succeeds_beside_commands_that_fail_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.WARNING, LOGGER):
        waiting = asyncio.create_task(client.retry().run(client.answer, "s-1"))
        await client.failed.wait()
        for _ in range(3):
            await client.retry().run(client.answer_always, "s-2")
        client.is_up.set()
        await waiting

    assert told(caplog) == ["begin", "end"]


async def test_each_outage_and_each_client_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clients = Client(), Client()
    with caplog.at_level(logging.WARNING, LOGGER):
        for _ in range(2):
            for client in clients:
                client.is_up.clear()
                with pytest.raises(AutoReconnect):
                    await client.retry(0.01).run(client.answer, "s-1")
                client.is_up.set()
                await client.retry().run(client.answer, "s-1")

    assert told(caplog) == ["begin", "end"] * 4


async def test_a_cancelled_command_and_a_client_that_is_gone_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    waiting = asyncio.create_task(client.retry().run(client.answer, "s-1"))
    await client.failed.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    client.is_up.set()
    await client.retry().run(client.answer, "s-1")
    assert told(caplog) == ["begin", "end"]

    client.is_up.clear()
    with pytest.raises(AutoReconnect):
        await client.retry(0.01).run(client.answer, "s-1")
    assert outages
    del client, waiting
    gc.collect()
    assert not outages


async def test_a_refusal_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.WARNING, LOGGER):
        waiting = asyncio.create_task(client.retry().run(client.refuse, "s-1"))
        await client.failed.wait()
        client.is_up.set()
        with pytest.raises(OperationFailure):
            await waiting

    assert told(caplog) == ["begin", "end"]
    assert not outages
