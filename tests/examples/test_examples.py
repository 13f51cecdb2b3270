from __future__ import annotations

import re
from typing import Any

import pytest

from tests.fixtures.examples import FOLDER, Document, Examples
from tests.fixtures.sessions import (
    texts_of,
)
from tests.support.invariants import check_whole

_HERE = {
    "example_agent_config",
    "example_calculator_tool",
    "example_fastapi",
    "example_fastapi_streaming",
    "example_metadata_production",
    "example_metadata_tool",
    "example_metadata_tool_direct",
    "example_metadata_update",
    "example_performance",
    "example_stream_async",
    "example_sync_legacy_agent",
}
_WITH_HOOKS = {"example_feedback_hook", "example_metadata_hook", "example_metadata_websocket"}


def _blocks(document: Document, agent_id: str, kind: str) -> list[Any]:
    messages = document["agents"][agent_id]["messages"]
    return [block[kind] for message in messages for block in message["content"] if kind in block]


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("example_*.py")} <= _HERE | _WITH_HOOKS


def test_the_calculators_calls_and_results_are_stored(examples: Examples) -> None:
    said = examples.run("example_calculator_tool")

    document = examples.document()
    check_whole(document)
    assert [call["input"]["expression"] for call in _blocks(document, "mathematician", "toolUse")] == [
        "6 * 7",
        "(12 + 8) * 5",
        "1 / 0",
        "100 - 58",
    ]
    results = _blocks(document, "mathematician", "toolResult")
    assert [result["content"][0]["text"] for result in results[:2]] == ["42", "100"]
    assert [result["status"] for result in results] == ["success", "success", "error", "success"]
    assert "restored:  12 messages" in said
    assert "Your name is Grace." in said
    assert "calculator: 4 calls, of which 1 failed" in said


def test_configurations_are_recorded_and_the_live_agents_win(examples: Examples) -> None:
    said = examples.run("example_agent_config")

    agents = examples.document()["agents"]
    assert agents["triage"]["agent_data"]["prompt_metadata"] == {"reviewed_by": "Lin"}
    assert agents["billing"]["agent_data"]["prompt_metadata"] == {"name": "billing-plain", "version": 3}
    assert agents["billing"]["agent_data"]["system_prompt"] == "You explain invoices to experts."
    assert agents["triage"]["agent_data"]["model"] == "offline"
    assert "config:    none, the agent is unknown" in said
    assert "has no agent 'unknown'" in said
    assert "billing:   Your name is Ada." in said


def test_streams_are_stored_as_they_were_streamed(examples: Examples) -> None:
    said = examples.run("example_stream_async")

    stored = {document["_id"].split("-")[1]: document for document in examples.stored.find()}
    assert set(stored) == {"ada", "grace", "katherine"}
    for document in stored.values():
        check_whole(document)
    texts = texts_of(stored["grace"]["agents"]["guide"]["messages"])
    assert texts == [
        "My name is Grace and I am planning a trip to Oslo.",
        "Thank you. Your name is Grace, and you are going to Oslo.",
        "Where am I going?",
        "You are going to Oslo.",
    ]
    assert "Summarize this conversation." in texts_of(stored["ada"]["agents"]["guide"]["messages"])
    streamed = "".join(re.findall(r"\[katherine\] (\S+)", said))
    assert streamed == "Thankyou.YournameisKatherine,andyouaregoingtoPorto.YouaregoingtoPorto."
    assert "kept:      3 messages" in said


def test_metadata_is_updated_field_by_field(examples: Examples) -> None:
    said = examples.run("example_metadata_update")

    document = examples.document()
    check_whole(document)
    opened = document["metadata"].pop("opened")
    assert opened.isoformat() == "2026-03-01T09:30:00+00:00"
    assert document["metadata"] == {
        "customer": {"name": "Ada", "tier": "gold"},
        "priority": "high",
        "assigned_to": "Lin",
    }
    assert "invalid metadata key: no part of it may start with '$', got '$where'" in said
    assert "agent:     Your name is Ada." in said


def test_tickets_go_through_their_life(examples: Examples) -> None:
    said = examples.run("example_metadata_production")

    tickets = {document["metadata"]["topic"]: document for document in examples.stored.find()}
    closed = tickets["invoice"]
    assert set(tickets) == {"invoice", "login", "delivery"}
    assert closed["metadata"]["status"] == "closed"
    assert closed["metadata"]["priority"] == "high"
    assert "customer" not in closed["metadata"]
    assert [feedback["comment"] for feedback in closed["feedbacks"]] == ["Still wrong."]
    assert closed["application_name"] == "support"
    assert tickets["login"]["metadata"]["customer"]["email"] == "grace@example.org"
    for document in tickets.values():
        check_whole(document)
    *_, closed_list, still_open = re.split(r"\n\n", said.strip())
    assert "invoice:   closed, high, messages: 2, feedbacks: 1" in closed_list
    assert "invoice" not in still_open
    assert "login" in still_open


def test_an_agent_keeps_metadata_with_its_tool(examples: Examples) -> None:
    said = examples.run("example_metadata_tool")

    document = examples.document()
    check_whole(document)
    assert document["metadata"] == {"language": "Portuguese"}
    actions = [call["input"]["action"] for call in _blocks(document, "assistant", "toolUse")]
    assert actions == ["update", "update", "update"]
    assert [call["input"]["action"] for call in _blocks(document, "colleague", "toolUse")] == ["get", "delete"]
    assert '"time_zone": "UTC-5"' in said


def test_the_metadata_tool_answers_without_a_model(examples: Examples) -> None:
    said = examples.run("example_metadata_tool_direct")

    assert examples.document()["metadata"] == {"level": 6, "reader": {"name": "Ada"}}
    for answer in (
        "No metadata stored in session",
        "Successfully updated metadata fields: ['level', 'reader.name']",
        'Metadata retrieved: {"level": 6, "reader.name": "Ada"}',
        "No metadata found for keys: ['topic']",
        "Error: Unknown action 'rename'",
        "Error managing metadata: protected fields: tenant",
    ):
        assert answer in said


def test_every_measured_request_is_stored(examples: Examples) -> None:
    said = examples.run("example_performance", EXAMPLE_REQUESTS="5")

    rows = re.findall(r"^  (a client per request|one factory) +\d+ +\d+\.\d +\d+\.\d$", said, re.M)
    assert rows == ["a client per request", "one factory"] * 2
    stored = list(examples.stored.find())
    assert len(stored) == 4 * 5 + 1
    for document in stored:
        check_whole(document)
        assert document["agents"]["assistant"]["next_message_id"] == 2


def test_synchronous_code_stores_nothing_twice(examples: Examples) -> None:
    said = examples.run("example_sync_legacy_agent")

    document = examples.document()
    check_whole(document)
    assert texts_of(document["agents"]["assistant"]["messages"]) == [
        "My name is Ada.",
        "Thank you. Your name is Ada.",
        "I am planning a trip to Lisbon.",
        "Thank you. You are going to Lisbon.",
        "What is my name, and where am I going?",
        "Your name is Ada, and you are going to Lisbon.",
    ]
    assert "messages:  4" in said


@pytest.mark.thorough
def test_an_example_brings_its_own_server(examples: Examples) -> None:
    said = examples.run("example_calculator_tool", server=False)

    assert "Your name is Grace." in said
    assert examples.stored.count_documents({}) == 0


def test_the_demo_survives_the_end_of_its_process(examples: Examples) -> None:
    said = examples.run("demo", server=False)

    assert said.endswith("The second process remembered: Ada and Lisbon.\n")
    assert "[killed with SIGKILL" in said
    assert "[session opened, agent built: 6 messages restored]" in said


def test_a_name_that_is_no_model_is_one_line(examples: Examples) -> None:
    with pytest.raises(AssertionError, match="provider:id") as caught:
        examples.run("example_calculator_tool", EXAMPLE_MODEL="nonsense")

    assert "Traceback" not in str(caught.value)
