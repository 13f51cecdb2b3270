"""What goes wrong at AWS: logged once with the session, counted, never the caller's concern."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff

from mongodb_session_manager import (
    create_feedback_sns_hook,
    create_metadata_sqs_hook,
    create_metadata_websocket_hook,
    runtime,
)
from mongodb_session_manager.runtime import Counters
from tests.contract.drivers import ON_A_SERVER, Driver
from tests.fixtures.aws import REGION, Moto, StubService, aws_session
from tests.fixtures.sessions import SESSION_ID, Sessions
from tests.fixtures.waiting import Held, happened

TOPIC = f"arn:aws:sns:{REGION}:123456789012:feedback"
QUEUE = f"https://sqs.{REGION}.amazonaws.com/123456789012/changes"
WSS = f"wss://abc123.execute-api.{REGION}.amazonaws.com/prod"
SECRET = "content-4711"
CONNECTION = "connection-0815"


@pytest.fixture(params=["uri", "sync-facade"])
async def driver(request: pytest.FixtureRequest, mongo_uri: str, database_name: str) -> AsyncIterator[Driver]:
    async with ON_A_SERVER[request.param](mongo_uri, database_name) as driver:
        yield driver
        await driver.aclose()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again as often as ever, and after a hundredth of a second at most."""
    monkeypatch.setattr(ExponentialBackoff.__init__, "__defaults__", (0.01, random.random))


def hooks(url: str) -> dict[str, Any]:
    """Return one of each, all towards `url`."""
    options: dict[str, Any] = {"session": aws_session(), "endpoint_url": url}
    return {
        "feedback-sns": create_feedback_sns_hook(topic_arn=TOPIC, **options),
        "metadata-sqs": create_metadata_sqs_hook(QUEUE, **options),
        "metadata-websocket": create_metadata_websocket_hook(WSS, **options),
    }


async def use_all(driver: Driver, hooks: dict[str, Any], **close: float) -> None:
    """Let each hook tell of one thing."""
    metadata_hook = [hooks["metadata-sqs"], hooks["metadata-websocket"]]
    manager = driver.manager(metadata_hook=metadata_hook, feedback_hook=hooks["feedback-sns"])
    await manager.open()
    await manager.update_metadata({"connection_id": CONNECTION, "note": SECRET})
    await manager.add_feedback({"rating": "up", "comment": SECRET})
    await manager.close(**close)
    stored = await driver.stored()
    assert stored["metadata"]["note"] == stored["feedbacks"][0]["comment"] == SECRET


def assert_told_once(caplog: pytest.LogCaptureFixture, hooks: dict[str, Any], told: str) -> None:
    for name in hooks:
        [line] = [record.getMessage() for record in caplog.records if f"hook=<{name}>" in record.getMessage()]
        assert line.startswith("session_id=<'s-1'>, ")
        assert told in line
    for secret in (SECRET, CONNECTION, TOPIC, QUEUE):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("status", "code"), [(403, "InvalidClientTokenId"), (404, "NotFoundException"), (400, "ThrottlingException")]
)
async def test_what_the_service_refuses_is_logged_with_its_code(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    stub_service.answer(status, code)
    towards = hooks(stub_service.url)

    await use_all(driver, towards, drain_s=30)

    assert [hook.counters for hook in towards.values()] == [Counters(failed=1)] * 3
    assert_told_once(caplog, towards, f": {code}>")


async def test_a_service_that_fails_is_asked_again_and_then_given_up(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    stub_service.answer(500)
    towards = hooks(stub_service.url)

    await use_all(driver, towards, drain_s=30)

    assert [hook.counters for hook in towards.values()] == [Counters(failed=1)] * 3
    assert len(stub_service.requests) == 9
    assert_told_once(caplog, towards, "error=<")


async def test_a_service_that_never_answers_holds_nobody_up(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    stub_service.answer(None)
    towards = hooks(stub_service.url)

    await use_all(driver, towards, drain_s=0.3)

    assert [hook.counters for hook in towards.values()] == [Counters(dropped=1)] * 3
    assert_told_once(caplog, towards, "reason=<not delivered in time>")


async def test_a_service_that_is_not_there_is_a_failure(
    driver: Driver, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    towards = hooks(f"http://127.0.0.1:{unused_tcp_port}")

    await use_all(driver, towards, drain_s=30)

    assert [hook.counters for hook in towards.values()] == [Counters(failed=1)] * 3
    assert_told_once(caplog, towards, "EndpointConnectionError")


async def test_a_topic_and_a_queue_that_do_not_exist(
    driver: Driver, moto: Moto, caplog: pytest.LogCaptureFixture
) -> None:
    towards = hooks(moto.url)

    await use_all(driver, towards)

    assert towards["feedback-sns"].counters == towards["metadata-sqs"].counters == Counters(failed=1)
    assert "hook=<feedback-sns>, count=<1>, error=<NotFoundException: NotFound>" in caplog.text
    assert "hook=<metadata-sqs>, count=<1>, error=<QueueDoesNotExist: " in caplog.text


async def test_what_is_too_large_is_not_sent(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    towards = hooks(stub_service.url)
    manager = driver.manager(
        metadata_hook=[towards["metadata-sqs"], towards["metadata-websocket"]], feedback_hook=towards["feedback-sns"]
    )

    async with manager:
        await manager.update_metadata(
            {"connection_id": CONNECTION, "note": SECRET + "\x01" * 250_000}
        )  # six bytes each as JSON
        await manager.add_feedback({"rating": "up", "comment": SECRET + "ü" * 2**17})

    assert stub_service.requests == []
    assert [hook.counters for hook in towards.values()] == [Counters(failed=1)] * 3
    assert_told_once(caplog, towards, "bytes are over the limit of ")


@pytest.mark.parametrize("code", ["GoneException", ""])
async def test_a_connection_that_is_gone_is_forgotten(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    stub_service.answer(410, code)
    hook = hooks(stub_service.url)["metadata-websocket"]

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"connection_id": CONNECTION, "status": "open"})
        await runtime.drain("s-1")
        assert (await manager.get_metadata())["metadata"] == {"status": "open"}
        await manager.update_metadata({"status": "busy"})

    assert [path for path, _ in stub_service.requests] == [f"/@connections/{CONNECTION}"]
    assert hook.counters == Counters()
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_a_browser_that_comes_back_is_not_forgotten_for_the_connection_that_it_had(
    sessions: Sessions, stub_service: StubService
) -> None:
    held = Held()
    stub_service.answer(None)
    hook = hooks(stub_service.url)["metadata-websocket"]

    async with sessions.manager(metadata_hook=hook, event_listeners=[held]) as manager:
        await manager.repository.update_metadata(SESSION_ID, {"connection_id": CONNECTION})
        await manager.update_metadata({"status": "open"})
        with held.holding():  # What is read before, is read before the browser comes back, and written afterwards.
            stub_service.answer(410)
            stub_service.let_go()
            await happened(held.reached)
            sessions.raw.update_one({"_id": SESSION_ID}, {"$set": {"metadata.connection_id": "another"}})
            held.let_go()
            await runtime.drain(SESSION_ID)

        assert (await manager.get_metadata())["metadata"] == {"status": "open", "connection_id": "another"}


async def test_what_was_done_before_a_session_was_deleted_is_told(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    towards = hooks(stub_service.url)
    manager = driver.manager(
        metadata_hook=[towards["metadata-sqs"], towards["metadata-websocket"]], feedback_hook=towards["feedback-sns"]
    )
    stub_service.answer(None)
    await manager.open()
    for _ in range(2):  # The first of each session is on its way, and the second one waits for it.
        await manager.update_metadata({"status": "open"})
        await manager.add_feedback({"rating": "up", "comment": SECRET})
    await manager.delete_session()
    stub_service.answer(200)
    stub_service.let_go()
    await manager.close()

    assert towards["metadata-sqs"].counters == Counters(sent=2)
    assert towards["metadata-websocket"].counters == Counters(), "there was no connection"
    assert towards["feedback-sns"].counters == Counters(sent=2)
    last = [body for _, body in stub_service.requests if body.startswith(b"Action=Publish")][-1]
    assert b"Password%3A+N%2FA" in last
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_what_is_too_long_together_is_sent_one_by_one(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    stub_service.answer(None)
    stub_service.batch_limit = 2**18
    hook = hooks(stub_service.url)["metadata-sqs"]

    async with driver.manager(metadata_hook=hook) as manager:
        for number in range(5):
            await manager.update_metadata({f"note {number}": f"{SECRET} {number} " + "x" * 100_000})
            await happened(stub_service.asked)  # The first is on its way alone, and the others wait together.
        stub_service.answer(200)
        stub_service.let_go()

    assert hook.counters == Counters(sent=5)
    arrived = [json.loads(body) for _, body in stub_service.requests]
    assert [len(request["Entries"]) for request in arrived if "Entries" in request] == [4], "it was tried"
    bodies = [request["MessageBody"] for request in arrived if "MessageBody" in request]
    assert [name for body in bodies[-4:] for name in json.loads(body)["metadata"]] == [f"note {n}" for n in range(1, 5)]
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_what_is_sent_of_several_counts_as_sent_whatever_becomes_of_the_others(
    driver: Driver, stub_service: StubService, caplog: pytest.LogCaptureFixture
) -> None:
    stub_service.answer(None)
    stub_service.refused = 2
    hook = hooks(stub_service.url)["metadata-sqs"]

    async with driver.manager(metadata_hook=hook) as manager:
        for number in range(6):
            await manager.update_metadata({f"note {number}": SECRET})
            await happened(stub_service.asked)  # The first is on its way alone, and the others wait together.
        stub_service.answer(200)
        stub_service.let_go()

    assert hook.counters == Counters(sent=4, failed=2)
    [line] = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert "count=<2>" in line
    assert SECRET not in caplog.text


async def test_without_a_manager_hooks_still_tell(stub_service: StubService) -> None:
    sqs = create_metadata_sqs_hook(QUEUE, session=aws_session(), endpoint_url=stub_service.url)

    async def stored(metadata: dict[str, Any]) -> str:
        return f"stored {metadata}"

    assert await sqs(stored, "update", "s-1", metadata={"a": 1}) == "stored {'a': 1}"
    await runtime.drain("s-1")

    assert sqs.counters == Counters(sent=1)
