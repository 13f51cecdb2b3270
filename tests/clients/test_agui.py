"""AG-UI's adapter in its default configuration, each run in a server process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.fixtures.sessions import COLLECTION, SESSION_ID, Sessions
from tests.support.agents import make_agent

ASK = {
    "name": "ask_color",
    "description": "Ask the user for a color.",
    "parameters": {"type": "object", "properties": {}},
}


async def run(sessions: Sessions, messages: list[Any], *script: Any, how: str = "open") -> dict[str, Any]:
    given = {
        "threadId": SESSION_ID,
        "runId": f"run-{len(messages)}",
        "state": {},
        "messages": messages,
        "tools": [ASK],
        "context": [],
        "forwardedProps": {},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.clients.agui_process",
        sessions.uri,
        sessions.database_name,
        COLLECTION,
        json.dumps(script),
        how,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, problems = await process.communicate(json.dumps(given).encode())
    assert process.returncode == 0, problems.decode()
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert found["status"] == 200
    errors = [event for event in found["events"] if event["type"] == "RUN_ERROR"]
    assert not errors, (errors, problems.decode())
    return found


def results(sessions: Sessions) -> list[Any]:
    blocks = [block for message in sessions.messages() for block in message["content"]]
    return [block["toolResult"]["content"] for block in blocks if "toolResult" in block]


async def test_a_frontend_tool_is_answered_to_another_process(sessions: Sessions) -> None:
    asked: Any = {"id": "m-0", "role": "user", "content": "Pick a color for me."}
    first = await run(sessions, [asked], {"tool": "ask_color", "input": {}}, "never said")
    call = next(event for event in first["events"] if event["type"] == "TOOL_CALL_START")
    assert call["toolCallName"] == "ask_color"

    called = {"id": call["toolCallId"], "type": "function", "function": {"name": "ask_color", "arguments": "{}"}}
    answered = [
        asked,
        {"id": "m-1", "role": "assistant", "toolCalls": [called]},
        {"id": "m-2", "role": "tool", "toolCallId": call["toolCallId"], "content": "teal"},
    ]
    second = await run(sessions, answered, "Teal it is.")
    assert "Forwarded to client" not in str(second["requests"])
    assert "teal" in str(second["requests"])
    said = "".join(event.get("delta", "") for event in second["events"] if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert said == "Teal it is."

    assert results(sessions) == [[{"text": "teal"}]]
    assert [message["role"] for message in sessions.messages()] == ["user", "assistant", "user", "assistant"]
    async with sessions.manager() as manager:
        assert make_agent(manager).messages[2]["content"][0]["toolResult"]["content"] == [{"text": "teal"}]

    more = [*answered, {"id": "m-3", "role": "assistant", "content": "Teal it is."}]
    third = await run(sessions, [*more, {"id": "m-4", "role": "user", "content": "Thanks!"}], "Welcome.")
    assert len(third["requests"][0]) == 5
    assert sessions.texts()[-2:] == ["Thanks!", "Welcome."]


async def test_a_provider_that_cannot_await_has_its_conversations_continued(sessions: Sessions) -> None:
    asked: Any = {"id": "m-0", "role": "user", "content": "I am Ada."}
    await run(sessions, [asked], "Hello Ada.", how="lazy")
    answered = [asked, {"id": "m-1", "role": "assistant", "content": "Hello Ada."}]
    second = await run(sessions, [*answered, {"id": "m-2", "role": "user", "content": "Who am I?"}], "Ada.", how="lazy")

    assert len(second["requests"][0]) == 3
    assert sessions.texts() == ["I am Ada.", "Hello Ada.", "Who am I?", "Ada."]
