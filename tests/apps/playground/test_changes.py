from __future__ import annotations

import json
from typing import Any

import pytest
from strands.models.bedrock import BedrockModel

from mongodb_session_manager.models import takes_temperature, with_temperature
from mongodb_session_manager.offline import OfflineModel
from mongodb_session_manager.playground.agent import AGENT_ID, SYSTEM_PROMPT
from tests.apps.playground.servers import playground
from tests.fixtures.sessions import Sessions
from tests.support.models import ScriptedModel, calls


class TunableModel(ScriptedModel):
    """Notes the temperature of each call, as real models send it."""

    class TunableConfig(dict[str, Any]):
        temperature: float

    def __init__(self, *script: Any, **options: Any) -> None:
        super().__init__(*script, **options)
        self.temperatures: list[Any] = []

    def update_config(self, **changes: Any) -> None:
        self.config.update(changes)

    async def stream(self, *arguments: Any, **options: Any) -> Any:
        self.temperatures.append(self.config.get("temperature"))
        async for event in super().stream(*arguments, **options):
            yield event


async def test_a_conversation_is_renamed_and_found_by_title_and_words(sessions: Sessions) -> None:
    async with playground(sessions, ScriptedModel(otherwise="The Answer (42).")) as app:
        for number, text in enumerate(("Alpha.*", "Beta", "GAMMA")):
            await app.chat(f"s-{number}", text)
        renamed = await app.client.patch("/api/sessions/s-1", json={"title": "  Über \n Holidays "})
        shown = await app.read("s-1")

        async def found(text: str) -> list[str]:
            answer = await app.client.get("/api/sessions", params={"text": text})
            assert answer.status_code == 200
            return [session["session_id"] for session in answer.json()["sessions"]]

        hits = {
            text: await found(text) for text in ("über", "holidays", "gamma", "ALPHA.*", "a.*a", "answer (42)", "no")
        }
        [listed] = [s for s in (await app.client.get("/api/sessions")).json()["sessions"] if s["session_id"] == "s-1"]

    assert renamed.status_code == 204
    assert shown["title"] == listed["title"] == sessions.document("s-1")["title"] == "Über Holidays"
    assert hits == {
        "über": ["s-1"],
        "holidays": ["s-1"],
        "gamma": ["s-2"],
        "ALPHA.*": ["s-0"],
        "a.*a": [],
        "answer (42)": ["s-2", "s-1", "s-0"],
        "no": [],
    }


async def test_odd_documents_do_not_break_the_search_and_other_applications_stay_out(sessions: Sessions) -> None:
    odd: list[dict[str, Any]] = [
        {"_id": "odd-0", "agents": None, "title": 7},
        {"_id": "odd-1", "agents": [1]},
        {"_id": "odd-2", "agents": {"a": 1, "b": {"messages": "x"}, "c": {"messages": [7, {"content": "needle"}]}}},
        {"_id": "odd-3", "agents": {"a": {"messages": [{"content": [{"text": 5}, None, {"text": "a Needle"}]}]}}},
        {"_id": "odd-4", "application_name": "shop", "title": "needle"},
    ]
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        sessions.raw.insert_many([{"application_name": "playground", **document} for document in odd])
        answer = await app.client.get("/api/sessions", params={"text": "needle"})

    found = {session["session_id"]: session["excerpt"] for session in answer.json()["sessions"]}
    assert found == {"odd-2": "needle", "odd-3": "a Needle"}


async def test_a_system_prompt_and_a_temperature_are_the_conversations_own(sessions: Sessions) -> None:
    model = TunableModel(otherwise="Yes.")
    tuning = {"system_prompt": "You are a pirate.", "temperature": 0.2}
    async with playground(sessions, model) as app:
        health = (await app.client.get("/health")).json()
        await app.client.post("/api/chat", json={"session_id": "s-1", "message": "Hi", "tuning": tuning})
        await app.chat("s-1", "And now?")
        await app.chat("s-2", "Hi")
        first, second = await app.read("s-1"), await app.read("s-2")
        fork = (await app.client.post("/api/sessions/s-1/fork", json={"up_to_message": 1})).json()["session_id"]
        await app.chat(fork, "You, too?")
        await app.client.patch("/api/sessions/s-1", json={"tuning": {"temperature": 1}})
        await app.chat("s-1", "Still?")
        last = await app.read("s-1")

    assert health["takes_temperature"] is True
    pirate = "You are a pirate."
    assert model.system_prompts == [pirate, pirate, SYSTEM_PROMPT, pirate, SYSTEM_PROMPT]
    assert model.temperatures == [0.2, 0.2, None, 0.2, 1]
    assert (first["tuning"], first["system_prompt"]) == (tuning, pirate)
    assert (second["tuning"], second["system_prompt"]) == ({"system_prompt": None, "temperature": None}, SYSTEM_PROMPT)
    assert last["tuning"] == {"system_prompt": None, "temperature": 1}
    kept = sessions.document("s-1")["agents"][AGENT_ID]["agent_data"]["prompt_metadata"]
    assert kept == {"playground": {"temperature": 1}}


async def test_what_a_model_cannot_do_is_said_and_a_bad_change_refused(sessions: Sessions) -> None:
    bodies: list[Any] = [
        {"title": ""}, {"title": "x" * 121}, {"title": 7}, {"name": "x"},
        {"tuning": {"temperature": 3}}, {"tuning": {"temperature": "hot"}}, {"tuning": {"top_p": 1}},
        {"tuning": {"system_prompt": "x" * 20_001}},
    ]  # fmt: skip
    async with playground(sessions) as app:
        await app.chat("s-1", "Hello")
        before = sessions.document("s-1")
        bad = [await app.client.patch("/api/sessions/s-1", json=body) for body in bodies]
        nobody = await app.client.patch("/api/sessions/nobody", json={"title": "x"})
        assert sessions.document("s-1") == before
        async with sessions.manager("s-1") as manager, manager.turn():
            busy = await app.client.patch("/api/sessions/s-1", json={"title": "x"})
        health = (await app.client.get("/health")).json()
        await app.client.patch("/api/sessions/s-1", json={"tuning": {"temperature": 0.5}})
        events = await app.chat("s-1", "And now?")

    assert [answer.status_code for answer in bad] == [422] * len(bodies)
    assert nobody.status_code == 404
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "busy")
    assert health["takes_temperature"] is False
    assert events[0].data["message"] == "invalid temperature: OfflineModel takes none"
    assert events[0].data["hint"]


def test_the_temperature_is_put_where_a_model_takes_it_and_its_original_stays() -> None:
    class Passing(ScriptedModel):
        class PassingConfig(dict[str, Any]):
            params: dict[str, Any]

        def update_config(self, **changes: Any) -> None:
            self.config.update(changes)

    bedrock = BedrockModel(model_id="m", region_name="eu-west-1", temperature=0.7)
    passing = Passing()
    passing.config["params"] = {"max_tokens": 9}

    assert with_temperature(bedrock, 0.1).get_config()["temperature"] == 0.1
    assert bedrock.get_config()["temperature"] == 0.7
    assert with_temperature(passing, 0.1).get_config()["params"] == {"max_tokens": 9, "temperature": 0.1}
    assert passing.get_config()["params"] == {"max_tokens": 9}
    assert not takes_temperature(OfflineModel())
    with pytest.raises(ValueError, match="invalid temperature"):
        with_temperature(OfflineModel(), 0.1)


async def test_a_conversation_is_exported_whole(sessions: Sessions) -> None:
    fence = "Use ```` for that"
    model = ScriptedModel(calls(("calculator", {"expression": "6 * 7"})), "It is 42.\n" + fence, otherwise="Yes.")
    async with playground(sessions, model) as app:
        await app.chat("s-1", "What is 6 * 7?\n\n```python\nprint(6 * 7)\n```")
        for number in range(30):
            await app.chat("s-1", f"Number {number}")
        markdown = await app.client.get("/api/sessions/s-1/export")
        whole = await app.client.get("/api/sessions/s-1/export?format=json")
        bad = await app.client.get("/api/sessions/s-1/export?format=exe")
        missing = await app.client.get("/api/sessions/nobody/export")

    assert markdown.headers["content-disposition"] == 'attachment; filename="s-1.md"'
    assert markdown.text.startswith("# What is 6 * 7?")
    for text in ("print(6 * 7)", "Tool `calculator`", "Result: 42", fence, "Number 0", "Number 29"):
        assert text in markdown.text
    found = json.loads(whole.text)
    assert [message["message_id"] for message in found["messages"]] == list(range(64))
    assert found["session_id"] == "s-1"
    assert "turn" not in found
    assert (bad.status_code, missing.status_code) == (422, 404)


async def test_what_was_said_long_ago_is_found_too_and_a_look_goes_on_where_it_ended(sessions: Sessions) -> None:
    async with playground(sessions, ScriptedModel(otherwise="x" * 3_000)) as app:
        for name in ("s-0", "s-1", "s-2"):
            await app.chat(name, "A needle")
        for number in range(60):
            await app.chat("s-1", f"{number} {'y' * 3_000}")
        sealed = sessions.raw.find_one({"_id": "s-1"}, {f"agents.{AGENT_ID}.archived_count": 1}) or {}
        assert sealed["agents"][AGENT_ID]["archived_count"] > 0
        found: list[str] = []
        cursor: str | None = None
        while not found or cursor:
            query: dict[str, Any] = {"text": "NEEDLE", "limit": 1} | ({} if cursor is None else {"cursor": cursor})
            page = (await app.client.get("/api/sessions", params=query)).json()
            found += [session["session_id"] for session in page["sessions"]]
            cursor = page["next_cursor"]

    assert found == ["s-2", "s-1", "s-0"]
