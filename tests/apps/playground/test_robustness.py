"""Nothing that is asked makes the playground fail: requests made from its own description, right and wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.strategies import booleans
from schemathesis import Case, GenerationMode
from starlette.testclient import TestClient

from mongodb_session_manager.playground.agent import AGENT_ID
from tests.apps.served import app_of
from tests.apps.viewer.stored import message, session
from tests.fixtures.sessions import Sessions


@pytest.mark.thorough
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "breaks"])
def test_nothing_that_is_asked_makes_the_server_fail(sessions: Sessions, mode: GenerationMode) -> None:
    document = session("s-1", application_name="playground", agents={AGENT_ID: [message("user", "hi")]})
    app = app_of("playground", sessions)
    found: Any = schemathesis.openapi.from_dict(app.openapi()).get_all_operations()
    operations = [result.ok() for result in found]
    assert len(operations) >= 10
    local: Any = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 1)}

    with TestClient(app, raise_server_exceptions=False, **local) as client:
        for operation in operations:
            sessions.raw.replace_one({"_id": "s-1"}, document, upsert=True)
            # What takes nothing cannot be asked wrongly.
            if mode is GenerationMode.POSITIVE or operation.body or any(True for _ in operation.iter_parameters()):
                ask(client, operation, mode)


def ask(client: TestClient, operation: Any, mode: GenerationMode) -> None:
    """Ask in many ways, of a conversation that is there or not, and check that none is a fault of the server's."""

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
    @given(case=operation.as_strategy(generation_mode=mode), known=booleans())
    def once(case: Case[Any], known: bool) -> None:
        assume(len(repr(case.query)) < 4_000)  # longer ones the client refuses
        path = operation.path.replace("{session_id}", "s-1") if known else case.formatted_path
        body: dict[str, Any] = {"json": case.body} if isinstance(case.body, dict | list | str | int | None) else {}
        answer = client.request(case.method, path, params=case.query or {}, **body)
        assert answer.status_code < 500, f"{case.method} {answer.request.url} {answer.text}"

    once()
