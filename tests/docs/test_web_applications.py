"""The web applications of the documentation answer a person who has pasted them and has no credentials for a model."""

from __future__ import annotations

from typing import Any

import pytest
import strands.agent.agent

from mongodb_session_manager import AsyncMongoDBSessionManagerFactory
from tests.docs.blocks import Block, all_blocks
from tests.docs.test_code_blocks import SERVER_IN_DOCS
from tests.support.serving import serving

ROUTE = '"/chat/{session_id}"'
APPLICATIONS = [
    block for block in all_blocks() if ROUTE in block.code and "\napp = " in block.code and not block.fragment
]


def test_the_applications_are_found() -> None:
    assert {block.page.rpartition("/")[2] for block in APPLICATIONS} >= {
        *("README.md", "fastapi.md", "pre-fork.md", "streaming.md", "turns.md", "uvicorn.md"),
    }


@pytest.mark.parametrize("block", APPLICATIONS, ids=lambda block: block.name)
async def test_an_application_answers_without_credentials(
    block: Block, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_credentials(**options: Any) -> Any:
        raise AssertionError("it asks for the model that needs credentials")

    monkeypatch.setattr(strands.agent.agent, "BedrockModel", no_credentials)
    code = block.code.replace(SERVER_IN_DOCS, mongo_uri).replace('"my_app"', f'"{database_name}"')
    namespace: dict[str, Any] = {"__name__": "app"}
    exec(compile(code, f"{block.page}:{block.line}", "exec", dont_inherit=True), namespace)

    try:
        async with serving(namespace["app"]) as client:
            answers = []
            for message in ("My name is Ada.", "What is my name?"):
                said = {"message": message}  # some take it from the body, others from the query
                answers.append(await client.post("/chat/customer-12345", json=said, params=said))
    finally:
        if isinstance(made := namespace.get("sessions"), AsyncMongoDBSessionManagerFactory):
            await made.close()

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "Ada" in answers[1].text
