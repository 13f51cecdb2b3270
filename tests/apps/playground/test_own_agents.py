from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mongodb_session_manager.playground.__main__ import main
from mongodb_session_manager.playground.agents import AgentError, UserAgents
from mongodb_session_manager.playground.failures import described
from tests.apps.playground.servers import kinds, playground, said
from tests.fixtures.sessions import Sessions

GOOD = """
from strands import Agent
from mongodb_session_manager.offline import OfflineModel
from {package}.words import GREETING
import strands.types.content

class Echo(OfflineModel):
    async def stream(self, messages, *args, **kwargs):
        yield {{"messageStart": {{"role": "assistant"}}}}
        yield {{"contentBlockDelta": {{"delta": {{"text": GREETING + " " + str(len(messages))}}}}}}
        yield {{"contentBlockStop": {{}}}}
        yield {{"messageStop": {{"stopReason": "end_turn"}}}}

def build(session_manager):
    return Agent(model=Echo(), agent_id="mine", session_manager=session_manager, callback_handler=None)

async def build_async(session_manager):
    return build(session_manager)

def nothing(session_manager):
    return None

def alone(session_manager):
    return Agent(model=Echo(), callback_handler=None)

def broken(session_manager):
    raise RuntimeError("no such file: prompts.txt")

number = 7
"""

Write = Callable[[str], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's in the current folder, importable for this test alone."""
    folder = tmp_path / f"own_{tmp_path.name.replace('-', '_')}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "words.py").write_text('GREETING = "Hello"\n')
    (folder / "agent.py").write_text(GOOD.format(package=folder.name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


@pytest.mark.parametrize("function", ["build", "build_async"])
async def test_an_agent_of_ones_own_answers_and_is_stored_and_shown(
    sessions: Sessions, package: Path, function: str
) -> None:
    address = f"{package.name}.agent:{function}"
    async with playground(sessions, agent=address) as app:
        health = (await app.client.get("/health")).json()
        first = await app.chat("s-1", "Hi")
        second = await app.chat("s-1", "Again")
    async with playground(sessions, agent=address) as app:  # which has not built an agent yet
        shown = await app.read("s-1")
        listed = (await app.client.get("/api/sessions")).json()["sessions"]

    assert (health["model"], health["agent"]) == (address, address)
    assert (said(first), said(second)) == ("Hello 1", "Hello 3")
    assert shown["agent_id"] == "mine"
    assert [message["blocks"][0]["text"] for message in shown["messages"]] == ["Hi", "Hello 1", "Again", "Hello 3"]
    assert listed[0]["title"] == "Hi"
    assert len(sessions.messages("mine", "s-1")) == 4


@pytest.mark.parametrize(
    ("function", "text", "hint"),
    [
        ("nothing", "returned NoneType, not an Agent", "Return a strands.Agent"),
        ("alone", "not on the session manager", "session_manager=session_manager"),
        ("broken", "RuntimeError: no such file: prompts.txt (agent.py, line", ""),
    ],
)
async def test_what_is_wrong_with_the_function_is_said_in_the_chat(
    sessions: Sessions, package: Path, function: str, text: str, hint: str
) -> None:
    async with playground(sessions, agent=f"{package.name}.agent:{function}") as app:
        events = await app.chat("s-1", "Hi")

    assert kinds(events) == ["error", "done"]
    assert events[0].data["code"] == "agent"
    assert text in events[0].data["message"]
    assert hint in events[0].data["hint"]


async def test_changed_code_answers_the_next_message_also_in_another_module(sessions: Sessions, package: Path) -> None:
    async with playground(sessions, agent=f"{package.name}.agent:build", reload=True) as app:
        heard = [said(await app.chat("s-1", "Hi"))]
        (package / "words.py").write_text('GREETING = "Good morning"\n')
        heard.append(said(await app.chat("s-1", "Hi")))
        (package / "words.py").write_text("GREETING = \n")
        broken = await app.chat("s-1", "Hi")
        (package / "words.py").write_text('GREETING = "Mended"\n')
        heard.append(said(await app.chat("s-1", "Hi")))

    assert heard == ["Hello 1", "Good morning 3", "Mended 5"]
    assert "SyntaxError" in broken[0].data["message"]
    assert "words.py" in broken[0].data["message"]


async def test_without_reload_the_code_of_the_start_answers(sessions: Sessions, package: Path) -> None:
    async with playground(sessions, agent=f"{package.name}.agent:build") as app:
        (package / "words.py").write_text('GREETING = "Good morning"\n')
        heard = said(await app.chat("s-1", "Hi"))

    assert heard == "Hello 1"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("agent", "give package.module:function"),
        ("a.b:c()", "give package.module:function"),
        ("../a:b", "give package.module:function"),
        ("{}.nowhere:build", "cannot be imported: ModuleNotFoundError"),
        ("no_such_package_here:build", "No module named 'no_such_package_here'"),
        ("{}.agent:missing", "missing is not in"),
        ("{}.agent:number", "number is not a function"),
    ],
)
def test_an_address_that_leads_nowhere_ends_the_start_with_one_line(
    package: Path, monkeypatch: pytest.MonkeyPatch, address: str, problem: str
) -> None:
    monkeypatch.setenv("PLAYGROUND_AGENT", address.format(package.name))
    monkeypatch.setenv("MONGODB_CONNECTION_STRING", "mongodb://127.0.0.1:9/")

    with pytest.raises(SystemExit) as ended:
        main([])

    assert problem in str(ended.value)
    assert "PLAYGROUND_AGENT" in str(ended.value)
    assert "\n" not in str(ended.value)


async def test_with_reload_broken_code_may_be_put_right_while_it_runs(sessions: Sessions, package: Path) -> None:
    (package / "words.py").write_text("raise ValueError('not yet')\n")
    with pytest.raises(AgentError) as refused:
        UserAgents(f"{package.name}.agent:build")
    assert "not yet (words.py, line 1)" in described(refused.value).message
    async with playground(sessions, agent=f"{package.name}.agent:build", reload=True) as app:
        broken = await app.chat("s-1", "Hi")
        (package / "words.py").write_text('GREETING = "Now"\n')
        heard = said(await app.chat("s-1", "Hi"))

    assert "not yet" in broken[0].data["message"]
    assert heard == "Now 1"
