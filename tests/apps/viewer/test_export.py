from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from pymongo import MongoClient

from mongodb_session_manager.viewer.export import file_name
from tests.apps.viewer.conftest import Viewer
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import COLLECTION, Sessions
from tests.support.agents import make_agent
from tests.support.segments import converse

Document = dict[str, Any]

URL = "/api/v1/sessions/s-1/export"


@pytest.fixture
async def exported(sessions: Sessions, viewer: Viewer) -> Viewer:
    """A viewer of a session with 120 messages and a feedback."""
    async with sessions.manager() as manager:
        await converse(manager, make_agent(manager, agent_id="a"), range(120), at_once=True, size=1500)
        await manager.add_feedback({"rating": "up", "comment": "fine"})
    return viewer


async def test_json_holds_the_session_and_its_whole_timeline(exported: Viewer) -> None:
    answer = await exported.client.get(URL)

    found = json.loads(answer.text)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="s-1.json"'
    assert found["session_id"] == "s-1"
    assert found["counts"]["messages"] == 120
    assert [item.get("message_id") for item in found["timeline"]] == [*range(120), None]
    assert found["timeline"] == await exported.timeline("/api/v1/sessions/s-1", limit=200)


async def test_jsonl_has_a_line_for_the_session_and_one_for_each_item(exported: Viewer) -> None:
    lines = (await exported.client.get(URL, params={"format": "jsonl"})).text.splitlines()

    assert json.loads(lines[0])["type"] == "session"
    assert [json.loads(line)["type"] for line in lines[1:]] == ["message"] * 120 + ["feedback"]


async def test_markdown_reads_like_a_conversation(viewer: Viewer, sessions: Sessions) -> None:
    use = {"toolUse": {"toolUseId": "t", "name": "look_up", "input": {"text": "```\nnot the end"}}}
    result = {"toolResult": {"toolUseId": "t", "status": "error", "content": [{"text": "no"}, {"json": {"n": 1}}]}}
    messages = [message("user", "Hello"), message("assistant", [use]), message("user", [result])]
    sessions.raw.insert_one(session("s-1", metadata={"priority": "high"}, agents={"<b>agent</b>": messages}))

    answer = await viewer.client.get(URL, params={"format": "markdown"})

    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    text = answer.text
    assert text.startswith("# Session s-1\n")
    assert '"priority": "high"' in text
    assert "### user (\\<b\\>agent\\</b\\>)" in text
    # The fence is longer than any inside it.
    assert "````json\n" in text
    assert "Result (error):\n\n> no\n" in text


async def test_a_file_is_written_while_the_session_is_read(
    exported: Viewer,
) -> None:
    database = exported.app.state.database
    read: list[int] = []
    page = database.timeline.page

    async def counted(*args: Any, **options: Any) -> Any:
        found = await page(*args, **options)
        read.append(len(found.items))
        return found

    database.timeline.page = counted
    sent: list[int] = []

    requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Document:
        for request in requests:
            return request
        await asyncio.Event().wait()  # The client stays.
        raise AssertionError

    async def send(event: MutableMapping[str, Any]) -> None:
        if event.get("body"):
            sent.append(sum(read))

    scope = {
        "type": "http",
        "method": "GET",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"format=jsonl",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8882),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
        "asgi": {"version": "3.0"},
    }
    await exported.app(scope, receive, send)

    assert read == [50, 71]
    # The first line left when only the first page had been read.
    assert sent[0] == read[0]
    assert sent[-1] == 121


@pytest.mark.parametrize(
    ("session_id", "name"),
    [
        ("s-1", "s-1.json"),
        ("../../etc/passwd", "etc-passwd.json"),
        ('a"; x=".exe', "a-x-exe.json"),
        ("日本", "session.json"),
        ("x\r\ny", "x-y.json"),
    ],
)
def test_file_names_are_plain(session_id: str, name: str) -> None:
    assert file_name(session_id, "json") == name


async def test_an_older_tools_document_is_not_read_whole_for_each_few_messages(
    viewer: Viewer, sessions: Sessions, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    messages = [{"message_id": number, "role": "user", "content": f"m{number}"} for number in range(1_500)]
    agents = {"a": {"agent_data": {"agent_id": "a"}, "messages": messages}}
    sessions.raw.insert_one({"_id": "s-1", "agents": agents})
    database = mongo_client[sessions.database_name]
    database.command("profile", 2)

    lines = (await viewer.client.get(URL, params={"format": "jsonl"})).text.splitlines()

    database.command("profile", 0)
    found = [json.loads(line)["message_id"] for line in lines[1:]]
    assert found == list(range(1_500))
    reads = database["system.profile"].count_documents(
        {"ns": f"{sessions.database_name}.{COLLECTION}", "command.find": COLLECTION, "command.filter._id": "s-1"}
    )
    assert 1 <= reads <= 8


async def test_an_unknown_format_is_refused(viewer: Viewer, sessions: Sessions) -> None:
    sessions.raw.insert_one(session("s-1"))

    assert "format:" in await viewer.problem(URL, format="xml")
