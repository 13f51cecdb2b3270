"""What the AWS hooks take, what they refuse, and how they behave without their extra."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import aioboto3
import boto3  # type: ignore[import-untyped]
import pytest

from mongodb_session_manager import (
    create_feedback_sns_hook,
    create_metadata_sqs_hook,
    create_metadata_websocket_hook,
    is_feedback_sns_hook_available,
    is_metadata_sqs_hook_available,
    is_metadata_websocket_hook_available,
)
from mongodb_session_manager.hooks.metadata_changes import region_of
from mongodb_session_manager.hooks.payloads import accepted_text, changed_fields, one_line

TOPIC = "arn:aws:sns:eu-west-1:123456789012:feedback"


def test_they_are_available_here() -> None:
    assert is_feedback_sns_hook_available()
    assert is_metadata_sqs_hook_available()
    assert is_metadata_websocket_hook_available()


AS_IF_NOT_INSTALLED = {
    "no module": """
import sys
sys.modules["aioboto3"] = None
""",
    "an import hook refuses it": """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "aioboto3":
            raise ImportError(name)
sys.meta_path.insert(0, Refusing())
""",
}
WITHOUT_EXTRA = """
import mongodb_session_manager as m
from mongodb_session_manager.extras import install_command

for name in ("feedback_sns", "metadata_sqs", "metadata_websocket"):
    assert getattr(m, f"is_{name}_hook_available")() is False
for make, argument in (
    (m.create_feedback_sns_hook, "arn:aws:sns:eu-west-1:123456789012:feedback"),
    (m.FeedbackSNSHook, "arn:aws:sns:eu-west-1:123456789012:feedback"),
    (m.create_metadata_sqs_hook, "https://sqs.eu-west-1.amazonaws.com/1/q"),
    (m.MetadataSQSHook, "https://sqs.eu-west-1.amazonaws.com/1/q"),
    (m.create_metadata_websocket_hook, "wss://x.execute-api.eu-west-1.amazonaws.com/p"),
    (m.MetadataWebSocketHook, "wss://x.execute-api.eu-west-1.amazonaws.com/p"),
):
    try:
        make(argument)
    except ImportError as error:
        assert f"install it with: {install_command('aws')}" in str(error), error
    else:
        raise AssertionError(make)
"""


@pytest.mark.parametrize("beginning", AS_IF_NOT_INSTALLED.values(), ids=AS_IF_NOT_INSTALLED)
def test_without_the_extra_the_package_works_and_says_what_to_install(beginning: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", beginning + WITHOUT_EXTRA], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ({"subject_prefix_good": "{user}"}, r"invalid subject_prefix_good: it has the unknown variable \{user\}"),
        ({"body_prefix_bad": "{}"}, r"invalid body_prefix_bad: it has the unknown variable \{\}"),
        ({"subject_prefix_neutral": "{rating"}, "invalid subject_prefix_neutral: it is a broken template"),
        ({"body_prefix_neutral": "{rating.__class__}"}, "unknown variable"),
        ({"body_prefix_good": "{rating:d}"}, "invalid body_prefix_good: it is a broken template"),
        ({"subject_prefix_good": "{session_id:>99999999999}"}, "a width has at most three digits"),
        ({"body_prefix_good": "{timestamp:0<5000}"}, "a width has at most three digits"),
    ],
)
def test_a_broken_template_is_refused_when_the_hook_is_made(prefix: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        create_feedback_sns_hook(topic_arn=TOPIC, **prefix)


@pytest.mark.parametrize(
    "topics",
    [
        {},
        {"topic_arn": "feedback"},
        {"topic_arn": "feedback", "region_name": "eu-west-1"},
        {"topic_arn_bad": "arn:aws:sqs:eu-west-1:1:q"},
    ],
)
def test_what_is_no_topic_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="topic"):
        create_feedback_sns_hook(**topics)  # type: ignore[arg-type]


def test_what_is_no_queue_or_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match=r"invalid queue_url: it must be the URL of a queue.*got 'changes'"):
        create_metadata_sqs_hook("changes")
    with pytest.raises(ValueError, match=r"invalid api_gateway_endpoint: it must be a URL.*got 'ftp://x'"):
        create_metadata_websocket_hook("ftp://x")


def test_a_plain_string_is_no_list_of_fields() -> None:
    with pytest.raises(TypeError, match=r"such as \['status'\], not a plain string"):
        create_metadata_sqs_hook("https://sqs.eu-west-1.amazonaws.com/1/q", "status")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
        ("https://eu-central-1.queue.amazonaws.com/123456789012/q", "eu-central-1"),
        ("https://vpce-0a1-b2.sqs.us-gov-west-1.vpce.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://abc123.execute-api.ap-southeast-2.amazonaws.com/prod", "ap-southeast-2"),
        ("https://queue.amazonaws.com/1/q", None),
        ("http://127.0.0.1:5000/1/q", None),
    ],
)
def test_the_region_is_read_from_an_address(url: str, region: str | None) -> None:
    assert region_of(url) == region


@pytest.mark.parametrize(
    ("changed", "wanted", "found"),
    [
        ({"a": 1, "b.c": 2}, None, {"a": 1, "b.c": 2}),
        ({"a": 1, "b": 2}, ["a"], {"a": 1}),
        ({"b.c": 2, "bc": 3}, ["b"], {"b.c": 2}),
        ({"b": {"c": {"d": 4}}}, ["b.c.d", "b.x"], {"b.c.d": 4, "b.x": None}),
        ({"b": 5}, ["b.c"], {"b.c": None}),
        ({"x": 1}, ["a"], {}),
    ],
)
def test_changed_fields(changed: dict[str, Any], wanted: list[str] | None, found: dict[str, Any]) -> None:
    assert changed_fields(changed, wanted) == found


def test_texts_are_made_fit_for_aws() -> None:
    assert accepted_text("a\tb\n\x00\ud800\uffff😀") == "a\tb\n\ufffd\ufffd\ufffd😀"
    assert one_line(" a\r\n\u2028b\x00c \x85", 99) == "a b c"
    assert len(one_line("x" * 200, 99)) == 99


NO_TEXT: list[tuple[Any, dict[str, Any]]] = [
    (create_feedback_sns_hook, {"topic_arn": 5}),
    (create_feedback_sns_hook, {"topic_arn": TOPIC, "topic_arn_good": ["none"]}),
    (create_feedback_sns_hook, {"topic_arn": TOPIC, "subject_prefix_bad": 5}),
    (create_feedback_sns_hook, {"topic_arn": TOPIC, "body_prefix_neutral": b"x"}),
    (create_feedback_sns_hook, {"topic_arn": TOPIC, "region_name": 5}),
    (create_metadata_sqs_hook, {"queue_url": 5}),
    (create_metadata_sqs_hook, {"queue_url": b"https://sqs.eu-west-1.amazonaws.com/1/q"}),
    (create_metadata_sqs_hook, {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q", "endpoint_url": 5}),
    (create_metadata_websocket_hook, {"api_gateway_endpoint": 5}),
    (create_metadata_websocket_hook, {"api_gateway_endpoint": "wss://x.example/p", "region": 5}),
]


@pytest.mark.parametrize(("make", "arguments"), NO_TEXT, ids=[list(arguments)[-1] for _, arguments in NO_TEXT])
def test_what_is_no_text_is_named(make: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^invalid {list(arguments)[-1]}: it must be text, not "):
        make(**arguments)


@pytest.mark.parametrize(
    "session", [boto3.Session(), 5, "default", boto3.Session], ids=["boto3", "int", "str", "class"]
)
@pytest.mark.parametrize(
    ("make", "address"),
    [
        (create_feedback_sns_hook, TOPIC),
        (create_metadata_sqs_hook, "https://sqs.eu-west-1.amazonaws.com/1/q"),
        (create_metadata_websocket_hook, "wss://x.execute-api.eu-west-1.amazonaws.com/p"),
    ],
)
def test_what_makes_no_clients_for_an_event_loop_is_no_session(make: Any, address: str, session: object) -> None:
    with pytest.raises(TypeError, match=r"^invalid session: it must be an aioboto3\.Session, not "):
        make(address, session=session)

    assert make(address, session=aioboto3.Session())
