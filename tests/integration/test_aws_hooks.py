"""The AWS hooks on both faces, against moto's server: what arrives at the other end."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import ObjectId
from strands import Agent

from mongodb_session_manager import (
    create_feedback_sns_hook,
    create_metadata_sqs_hook,
    create_metadata_websocket_hook,
    runtime,
)
from mongodb_session_manager.hooks import redact_fields
from mongodb_session_manager.runtime import Counters
from tests.contract.drivers import ON_A_SERVER, Driver
from tests.fixtures.aws import ACCESS_KEY, REGION, SECRET_KEY, Moto, aws_session
from tests.support.models import ScriptedModel, calls

WSS = f"wss://abc123.execute-api.{REGION}.amazonaws.com/prod"


@pytest.fixture(params=["uri", "async-mongo-client", "sync-facade"])
async def driver(request: pytest.FixtureRequest, mongo_uri: str, database_name: str) -> AsyncIterator[Driver]:
    async with ON_A_SERVER[request.param](mongo_uri, database_name) as driver:
        yield driver
        await driver.aclose()


def options(moto: Moto) -> dict[str, Any]:
    # No region: it has to come from the topic or the queue.
    return {"session": aws_session(region=None), "endpoint_url": moto.url}


def sqs_hook(moto: Moto, queue: str, fields: list[str] | None = None) -> Any:
    return create_metadata_sqs_hook(queue, fields, session=aws_session(), endpoint_url=moto.url)


def websocket_hook(moto: Moto, fields: list[str] | None = None) -> Any:
    return create_metadata_websocket_hook(WSS, fields, **options(moto))


# -- SNS


async def test_feedback_is_published_to_the_topic_of_its_rating(driver: Driver, moto: Moto) -> None:
    (good, good_queue), (bad, bad_queue), (other, other_queue) = moto.topic(), moto.topic(), moto.topic()
    hook = create_feedback_sns_hook(good, bad, topic_arn=other, subject_prefix_bad="[{rating}] ", **options(moto))

    async with driver.manager(feedback_hook=hook) as manager:
        await manager.add_feedback({"rating": "up", "comment": "Very helpful"})
        await manager.add_feedback({"rating": "down", "comment": "Wrong\nand late"})
        await manager.add_feedback({"rating": None})
        await manager.add_feedback({"rating": ["up"], "comment": None})
        password = await manager.get_session_viewer_password()

    [told] = moto.published(good_queue)
    assert told["Subject"] == "Virtual Agents Feedback positive on session s-1"
    assert told["Message"] == f"Password: {password}\n\nSession: s-1\n\nVery helpful"
    assert told["MessageAttributes"] == {
        "session_id": {"Type": "String", "Value": "s-1"},
        "rating": {"Type": "String", "Value": "positive"},
    }
    [told] = moto.published(bad_queue)
    assert told["Subject"] == "[negative] Virtual Agents Feedback negative on session s-1"
    assert told["Message"].endswith("\n\nSession: s-1\n\nWrong\nand late")
    told, again = moto.published(other_queue)
    assert told["Subject"] == again["Subject"] == "Virtual Agents Feedback neutral on session s-1"
    assert told["Message"] == again["Message"] == f"Password: {password}\n\nSession: s-1\n\n"
    assert hook.counters == Counters(sent=4)


async def test_the_viewer_password_and_ratings_can_be_left_out(driver: Driver, moto: Moto) -> None:
    topic, queue = moto.topic()
    hook = create_feedback_sns_hook(
        topic_arn=topic,
        topic_arn_good="none",
        body_prefix_bad="{session_id} at {timestamp}: ",
        include_viewer_password=False,
        **options(moto),
    )

    async with driver.manager(feedback_hook=hook) as manager:
        await manager.add_feedback({"rating": "up"})
        await manager.add_feedback({"rating": "down", "comment": "no"})
        assert len(await manager.get_feedbacks()) == 2

    [told] = moto.published(queue)
    prefix, rest = told["Message"].split(": Password: ")
    session_id, moment = prefix.split(" at ")
    assert (session_id, rest) == ("s-1", "N/A\n\nSession: s-1\n\nno")
    assert dt.datetime.fromisoformat(moment).utcoffset() == dt.timedelta(0)


async def test_a_subject_is_one_short_line_whatever_the_session_is_called(driver: Driver, moto: Moto) -> None:
    topic, queue = moto.topic()
    session_id = "línea\r\nBcc: x\x00\x1b " + "é" * 200
    hook = create_feedback_sns_hook(topic_arn=topic, subject_prefix_good="\n", **options(moto))

    async with driver.manager(session_id, feedback_hook=hook) as manager:
        await manager.add_feedback({"rating": "up", "comment": "bell \x07"})

    [told] = moto.published(queue)
    assert told["Subject"].startswith("Virtual Agents Feedback positive on session línea Bcc: x é")
    assert len(told["Subject"]) == 99
    assert told["Subject"].isprintable()
    assert told["Message"].endswith("bell \ufffd")


# -- SQS


async def test_feedback_reaches_a_fifo_topic_in_order(driver: Driver, moto: Moto) -> None:
    topic, queue = moto.topic(fifo=True)
    hook = create_feedback_sns_hook(topic_arn=topic, **options(moto))

    async with driver.manager(feedback_hook=hook) as manager:
        for comment in ("same", "same", "other"):
            await manager.add_feedback({"rating": "up", "comment": comment})

    assert hook.counters == Counters(sent=3)
    bodies = [message["Message"] for message in moto.published(queue)]
    assert [body.rpartition("\n")[2] for body in bodies] == ["same", "same", "other"]


async def test_metadata_changes_reach_the_queue(driver: Driver, moto: Moto) -> None:
    queue = moto.queue(fifo=True)
    hook = sqs_hook(moto, queue)

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"status": "open", "customer.tier": "gold"})
        await manager.get_metadata()
        await manager.update_metadata({})
        await manager.delete_metadata(["status", "customer"])
        await manager.delete_metadata([])

    first, second = moto.received(queue)
    assert first["MessageAttributes"]["session_id"]["StringValue"] == "s-1"
    assert first["MessageAttributes"]["event"]["StringValue"] == "metadata_update"
    assert first["Attributes"]["MessageGroupId"] == second["Attributes"]["MessageGroupId"] == "s-1"
    assert first["Attributes"]["MessageDeduplicationId"] != second["Attributes"]["MessageDeduplicationId"]
    update, deletion = (json.loads(message["Body"]) for message in (first, second))
    moment = dt.datetime.fromisoformat(update.pop("timestamp"))
    assert moment.utcoffset() == dt.timedelta(0)
    assert update == {
        "session_id": "s-1",
        "event": "metadata_update",
        "operation": "update",
        "metadata": {"status": "open", "customer.tier": "gold"},
    }
    assert deletion["operation"] == "delete"
    assert deletion["metadata"] == {"status": None, "customer": None}
    assert hook.counters == Counters(sent=2)


async def test_only_changes_of_interest_are_sent(driver: Driver, moto: Moto) -> None:
    queue = moto.queue()
    hook = sqs_hook(moto, queue, ["status", "customer.tier"])

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"internal": 1})
        await manager.update_metadata({"status": "open", "internal": 2})
        await manager.update_metadata({"customer": {"tier": "gold", "name": "Alice"}})
        await manager.delete_metadata(["internal"])
        await manager.delete_metadata(["customer"])

    assert [(change["operation"], change["metadata"]) for change in moto.changes(queue)] == [
        ("update", {"status": "open"}),
        ("update", {"customer.tier": "gold"}),
        ("delete", {"customer.tier": None}),
    ]


async def test_values_that_json_does_not_know_become_text(driver: Driver, moto: Moto) -> None:
    queue = moto.queue()
    when, some_id = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), ObjectId()

    async with driver.manager(metadata_hook=sqs_hook(moto, queue)) as manager:
        await manager.update_metadata(
            {"when": when, "id": some_id, "raw": b"\x00\xff", "nan": float("nan"), "lone": "\ud800", "big": 2**70}
        )

    [change] = moto.changes(queue)
    assert change["metadata"] == {
        "when": "2026-01-02T03:04:05+00:00",
        "id": str(some_id),
        "raw": "AP8=",
        "nan": "nan",
        "lone": "\ud800",
        "big": 2**70,
    }


async def test_the_operations_error_is_the_callers_and_tells_nobody(driver: Driver, moto: Moto) -> None:
    queue = moto.queue()
    hook = sqs_hook(moto, queue)

    async with driver.manager(metadata_hook=hook) as manager:
        with pytest.raises(ValueError, match="may start with"):
            await manager.update_metadata({"$set": 1})

    assert moto.changes(queue) == []
    assert hook.counters == Counters()


async def test_what_is_redacted_is_stored_and_not_sent(driver: Driver, moto: Moto) -> None:
    queue = moto.queue()
    hook = redact_fields(sqs_hook(moto, queue), ["email"])

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"email": "alice@example.com", "status": "open"})
        assert (await manager.get_metadata())["metadata"]["email"] == "alice@example.com"

    [change] = moto.changes(queue)
    assert change["metadata"] == {"email": "[redacted]", "status": "open"}


# -- WebSocket


async def test_changes_are_pushed_to_the_connection_of_the_update_or_the_stored_one(
    driver: Driver, moto: Moto, database_name: str
) -> None:
    first, second = f"{database_name}-{driver.collection}-1", f"{database_name}-{driver.collection}-2"
    hook = websocket_hook(moto)

    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"status": "nobody listens"})
        await manager.close()
    async with driver.manager(metadata_hook=hook) as manager:
        await manager.update_metadata({"connection_id": first, "status": "open"})
        await manager.update_metadata({"status": "busy"})
        await runtime.drain("s-1")  # what waits goes to whatever connection is stored when it is sent
        await manager.update_metadata({"ws_connection_id": second, "connection_id": None, "status": "moved"})
        await manager.delete_metadata(["status"])

    assert [(push["operation"], push["metadata"]) for push in moto.pushed(first)] == [
        ("update", {"status": "open"}),
        ("update", {"status": "busy"}),
    ]
    assert [(push["operation"], push["metadata"]) for push in moto.pushed(second)] == [
        ("update", {"status": "moved"}),
        ("delete", {"status": None}),
    ]
    assert hook.counters == Counters(sent=4)


# -- where it is used


async def test_a_tool_call_inside_a_turn_notifies(driver: Driver, moto: Moto) -> None:
    queue = moto.queue()

    async with driver.manager(metadata_hook=sqs_hook(moto, queue)) as manager:
        model = ScriptedModel(calls(("manage_metadata", {"action": "set", "metadata": {"city": "Lima"}})), "done")
        agent = Agent(
            agent_id="a",
            model=model,
            session_manager=driver.for_agents(manager),
            tools=[manager.get_metadata_tool()],
            callback_handler=None,
        )
        await agent.invoke_async("Remember Lima")

    [change] = moto.changes(queue)
    assert change["metadata"] == {"city": "Lima"}


async def test_changes_that_go_to_a_queue_together_keep_their_order(driver: Driver, moto: Moto) -> None:
    queue = moto.queue(fifo=True)
    hook = sqs_hook(moto, queue)

    async with driver.manager(metadata_hook=hook) as manager:
        for number in range(60):
            await manager.update_metadata({"n": number})

    assert hook.counters == Counters(sent=60)
    assert [change["metadata"]["n"] for change in moto.changes(queue)] == list(range(60))


async def test_nothing_secret_is_logged(driver: Driver, moto: Moto, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="mongodb_session_manager")
    topic, queue = moto.topic()
    hooks = [sqs_hook(moto, moto.queue()), websocket_hook(moto)]
    feedback_hook = create_feedback_sns_hook(topic_arn=topic, **options(moto))

    async with driver.manager(metadata_hook=hooks, feedback_hook=feedback_hook) as manager:
        await manager.update_metadata({"connection_id": "connection-4711", "note": "metadata-0815"})
        await manager.add_feedback({"rating": "down", "comment": "comment-2342"})
        password = await manager.get_session_viewer_password()

    assert len(moto.published(queue)) == 1
    for secret in ("connection-4711", "metadata-0815", "comment-2342", password, ACCESS_KEY, SECRET_KEY):
        assert secret not in caplog.text
        assert secret not in repr([*hooks, feedback_hook])
