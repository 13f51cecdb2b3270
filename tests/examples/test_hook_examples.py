"""The examples with hooks: what they print, what they store, and what arrives at the other end."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends

from tests.fixtures.examples import Examples
from tests.support.invariants import check_whole

pytestmark = pytest.mark.thorough

REGION = "ap-southeast-2"
"""Nobody else's: moto keeps one state for the whole process."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An AWS endpoint that the user has configured."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def chapter(said: str, title: str) -> str:
    """Return what was printed below a heading."""
    _, _, rest = said.partition(f"\n{title}\n{'-' * len(title)}\n")
    assert rest, f"no chapter {title!r} in:\n{said}"
    return rest.partition("\n\n")[0]


def test_feedback_is_checked_stored_and_told_to_the_topic_of_its_rating(examples: Examples) -> None:
    said = examples.run("example_feedback_hook")

    document = examples.document()
    check_whole(document)
    assert [(feedback["rating"], feedback["comment"]) for feedback in document["feedbacks"]] == [
        ("up", "Quick!"),
        (None, "Fine"),
        ("down", "It never told me what to see."),
    ]
    assert "refused:   {'rating': 'down'}, please say what was wrong" in said
    assert "counters:  Counters(sent=2, failed=0, dropped=0, pending=0)" in said
    fans, support = chapter(said, "What the fans received"), chapter(said, "What support received")
    assert f"subject:   Virtual Agents Feedback positive on session {document['_id']}" in fans
    assert "Quick!" in fans
    assert f"subject:   [look into it] Virtual Agents Feedback negative on session {document['_id']}" in support
    assert re.search(r"A user was not happy, at \d{4}-\d\d-\d\dT[\d:.]+\+00:00\.", support)
    assert "It never told me what to see." in support
    assert "Fine" not in fans + support
    assert document["session_viewer_password"] not in said


def test_metadata_is_audited_checked_cached_and_sent_without_addresses(examples: Examples) -> None:
    said = examples.run("example_metadata_hook")

    document = examples.document()
    check_whole(document)
    assert document["metadata"] == {
        "customer": {"name": "Ada", "tier": "silver"},
        "priority": "low",
        "language": "Italian",
    }
    audit = re.findall(r"audit: +session_id=<'(\S+)'>, action=<(\w+)>, fields=<.*?>, outcome=<(\w+)>", said)
    assert {session_id for session_id, _, _ in audit} == {document["_id"]}
    assert [entry[1:] for entry in audit] == [
        ("update", "done"),
        ("update", "ValueError"),
        *[("get", "done")] * 5,
        ("update", "done"),
        ("update", "ValueError"),
        ("delete", "done"),
        ("get", "done"),
    ]
    assert "refused:   invalid metadata field 'customer.tier': Input should be 'silver' or 'gold'" in said
    assert "commands:  {'find': 1}" in said
    assert "invalid metadata field 'priority': Input should be 'low' or 'high'" in said
    assert chapter(said, "What arrived in the queue, without addresses").splitlines() == [
        "  update:    {'customer': {'name': 'Ada', 'email': '[redacted]', 'tier': 'silver'}, 'priority': 'low'}",
        "  update:    {'language': 'Italian'}",
        "  delete:    {'customer.email': None}",
    ]
    assert "ada@example.org" not in said


def test_a_browser_receives_the_chosen_fields_as_they_change(examples: Examples) -> None:
    said = examples.run("example_metadata_websocket")

    document = examples.document()
    check_whole(document)
    assert document["metadata"] == {
        "connection_id": "example-connection",
        "note": "for our own records",
        "status": "done",
    }
    assert chapter(said, "What the browser received").splitlines() == [
        "  update:    {'status': 'thinking', 'progress': 0}",
        "  update:    {'progress': 33}",
        "  update:    {'progress': 67}",
        "  update:    {'progress': 100}",
        "  update:    {'status': 'done'}",
        "  delete:    {'progress': None}",
        "  counters:  Counters(sent=6, failed=0, dropped=0, pending=0)",
    ]


@pytest.mark.parametrize("name", ["example_feedback_hook", "example_metadata_hook"])
def test_a_configured_endpoint_is_used_and_left_as_it_was(
    examples: Examples, endpoint: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "werkzeug")

    examples.run(
        name,
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION=REGION,
    )

    assert '"POST / ' in caplog.text
    assert not sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues
    assert not sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics


@pytest.mark.slow
@pytest.mark.parametrize("name", ["example_feedback_hook", "example_metadata_hook", "example_metadata_websocket"])
def test_nothing_needs_to_be_configured(examples: Examples, name: str) -> None:
    assert "Ada" in examples.run(name, server=False)
