"""From an answer, or a failed turn, to its trace."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.apps.viewer.conftest import OpenViewer, make_settings
from tests.apps.viewer.stored import START, message, session
from tests.fixtures.sessions import Sessions

URL = "/api/v1/sessions/s-1"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
AT = "https://traces.example.com:8443/x/{trace_id}?tab=1#{trace_id}"


@pytest.fixture
def stored(sessions: Sessions) -> None:
    said = [message("user", "hi"), message("assistant", "hello", minute=1, trace_id=TRACE)]
    failed = {"timestamp": START, "agent_id": "a", "error": "RuntimeError", "trace_id": TRACE}
    sessions.raw.insert_one(session("s-1", agents={"a": said}) | {"errors": [failed]})


@pytest.mark.usefixtures("stored")
async def test_answers_and_failed_turns_lead_to_their_trace(open_viewer: OpenViewer) -> None:
    async with open_viewer(trace_url=AT) as viewer:
        items = await viewer.timeline(URL)
        one = (await viewer.get(f"{URL}/message", agent_id="a", message_id=1))["message"]
        lines = (await viewer.client.get(f"{URL}/export?format=jsonl")).text

    address = AT.replace("{trace_id}", TRACE)
    found = {
        item["type"] + str(item.get("message_id", "")): (item.get("trace_id"), item.get("trace_url")) for item in items
    }
    assert found == {"message0": (None, None), "message1": (TRACE, address), "error": (TRACE, address)}
    assert (one["trace_id"], one["trace_url"]) == (TRACE, address)
    assert lines.count(f'"trace_id":"{TRACE}"') == 2


@pytest.mark.usefixtures("stored")
async def test_without_an_address_there_is_the_id_alone(open_viewer: OpenViewer) -> None:
    async with open_viewer() as viewer:
        items = await viewer.timeline(URL)

    found = [(item.get("trace_id"), item.get("trace_url")) for item in items if item.get("message_id") != 0]
    assert found == [(TRACE, None), (TRACE, None)]


@pytest.mark.parametrize(
    "odd", ["", "x", TRACE + "0", TRACE.upper(), "0" * 32, TRACE + "\n", "../" + TRACE[3:], 7, {"a": 1}, [TRACE], None]
)
async def test_what_is_no_trace_id_leads_nowhere(sessions: Sessions, open_viewer: OpenViewer, odd: Any) -> None:
    document = session("s-1", agents={"a": [message("assistant", "hello", trace_id=odd)]})
    sessions.raw.insert_one(document | {"errors": [{"timestamp": START, "error": "E", "trace_id": odd}]})
    async with open_viewer(trace_url=AT) as viewer:
        items = await viewer.timeline(URL)

    assert [(item.get("trace_id"), item.get("trace_url")) for item in items] == [(None, None)] * 2


@pytest.mark.parametrize(
    "address",
    [
        "https://host/trace",
        "ftp://host/{trace_id}",
        "javascript:alert('{trace_id}')",
        "//host/{trace_id}",
        "host/{trace_id}",
        "https:///{trace_id}",
        "https://{trace_id}/",
        "https://{trace_id}.host/{trace_id}",
        "https://scribe:pass-9c1e@host/{trace_id}",
        "https://host:99999/{trace_id}",
        "https://[host/{trace_id}",
        "https://host/{trace_id}/{span_id}",
        "https://host/{{trace_id}}",
        "https://host/{trace_id} x",
        'https://host/"{trace_id}',
        "https://host/<{trace_id}",
        "https://host/\u2028{trace_id}",
        "https://host/{trace_id}" + "x" * 2048,
    ],
)
def test_an_address_that_cannot_be_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(trace_url=address)

    assert "it must be an http or https address" in str(refused.value)
    assert "9c1e" not in str(refused.value)


@pytest.mark.parametrize("address", ["", "  ", "http://localhost:16686/trace/{trace_id}", f" {AT} "])
def test_an_address_that_can_be_is_taken(address: str) -> None:
    template = make_settings(trace_url=address).traces.template

    assert template == (address.strip() or None)
