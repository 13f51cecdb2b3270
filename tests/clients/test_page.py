"""The complete examples of the page on clients, run as they are pasted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
import strands.agent.agent

from mongodb_session_manager.offline import OfflineModel
from tests.clients.test_a2a import send
from tests.docs.blocks import all_blocks
from tests.docs.test_code_blocks import SERVER_IN_DOCS
from tests.fixtures.sessions import Sessions

Blocks = Callable[[str], SimpleNamespace]


@pytest.fixture
def pasted(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Blocks:
    # The model that an Agent has unless it is given one needs a network and credentials.
    monkeypatch.setattr(strands.agent.agent, "BedrockModel", lambda **_: OfflineModel())

    def paste(part: str) -> SimpleNamespace:
        [block] = [b for b in all_blocks() if b.page == "docs/how-to/clients.md" and part in b.code]
        assert not block.fragment
        code = block.code.replace(SERVER_IN_DOCS, sessions.uri).replace('"my_app"', f'"{sessions.database_name}"')
        namespace: dict[str, Any] = {"__name__": "app"}
        exec(compile(code, f"{block.page}:{block.line}", "exec", dont_inherit=True), namespace)
        return SimpleNamespace(**namespace)

    return paste


async def test_the_ag_ui_application_answers_and_stores(pasted: Blocks, sessions: Sessions) -> None:
    page = pasted("create_strands_app")
    made: list[Any] = []
    create = page.sessions.create_session_manager

    def keep(session_id: str) -> Any:
        made.append(create(session_id))
        return made[-1]

    page.sessions.create_session_manager = keep
    run = {
        "threadId": "t-1",
        "runId": uuid4().hex,
        "state": {},
        "messages": [{"id": "m-0", "role": "user", "content": "Hello"}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }

    async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://server") as client:
        answer = await client.post("/", json=run, headers={"accept": "text/event-stream"})

    for manager in made:
        await manager.close()
    await page.sessions.close()
    assert "RUN_FINISHED" in answer.text
    [document] = sessions.raw.database["sessions"].find()
    [agent] = document["agents"].values()
    assert [message["role"] for message in agent["messages"]] == ["user", "assistant"]


async def test_the_a2a_server_answers_and_stores(pasted: Blocks, sessions: Sessions) -> None:
    page = pasted("A2AServer")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://server") as client:
        result = await send(client, "Hello", "c-1")

    await page.sessions.close()
    assert result["artifacts"]
    document = sessions.raw.database["sessions"].find_one({"_id": "c-1"})
    assert document is not None
    assert [message["role"] for message in document["agents"]["helper"]["messages"]] == ["user", "assistant"]
