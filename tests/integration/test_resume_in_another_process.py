"""What one process stored, another one goes on with."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import decode_bytes_values

from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import Sessions
from tests.support.agents import AGENT_ID, make_agent, streamed
from tests.support.models import calls, texts
from tests.support.resume import check_accepted, check_resumes_as, held, resume
from tests.support.resume_process import answers, delete

ROOT = Path(__file__).parents[2]


async def in_another_process(sessions: Sessions, agent_id: str, *arguments: str) -> Any:
    """Run `tests/support/resume_process.py`, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.resume_process", sessions.uri, sessions.database_name, agent_id, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return decode_bytes_values(json.loads(printed))


async def test_another_process_holds_what_this_one_held(sessions: Sessions) -> None:
    image: Any = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}
    async with sessions.manager() as manager:
        live = make_agent(manager, "A picture.", "Fine.", state={"mood": {"now": "good", "a.b": [1, None]}})
        other = make_agent(manager, "I am the other one.", agent_id="sales.eu")
        await streamed(live, [{"text": "What is this?"}, image])
        await streamed(live, "How are you?")
        await streamed(other, "Who are you?")

        for agent in (live, other):
            found = await in_another_process(sessions, agent.agent_id)
            assert found["resumed"] == held(agent)


async def test_an_interrupt_is_answered_in_another_process(sessions: Sessions) -> None:
    async with sessions.manager() as manager:
        script = calls(("delete", {"name": "a.txt"}), ("delete", {"name": "b.txt"}))
        live = make_agent(manager, script, tools=[delete])
        result = await live.invoke_async("Clean up.")
        assert result.stop_reason == "interrupt"
        before = held(live)

    found = await in_another_process(sessions, AGENT_ID, "yes")

    assert found["resumed"] == before
    assert found["stop_reason"] == "end_turn"
    assert not found["afterwards"]["interrupt_state"]["activated"]
    resumed = await resume(sessions, tools=[delete])
    assert held(resumed) == found["afterwards"]
    assert [block["toolResult"]["content"] for block in resumed.messages[2]["content"]] == [
        [{"text": "a.txt: yes"}],
        [{"text": "b.txt: yes"}],
    ]
    assert sessions.texts() == texts(resumed.messages) == ["Clean up.", "", "", "noted"]
    check_accepted(resumed.messages)


@pytest.mark.parametrize("flush_on", ["message", "invocation"])
async def test_an_interrupt_outlives_two_managers_and_a_wrong_answer(sessions: Sessions, flush_on: FlushOn) -> None:
    async with sessions.manager(flush_on=flush_on) as manager:
        live = make_agent(manager, calls(("delete", {"name": "a.txt"})), tools=[delete])
        await live.invoke_async("Clean up.")
        await check_resumes_as(sessions, live, tools=[delete])

    async with sessions.manager(flush_on=flush_on) as manager:
        second = make_agent(manager, tools=[delete])
        with pytest.raises(TypeError, match="interrupt"):
            await second.invoke_async("What?")
        assert held(second) == held(live)

    async with sessions.manager(flush_on=flush_on) as manager:
        third = make_agent(manager, "done", tools=[delete])
        await third.invoke_async(answers(third, "no"))
        resumed = await check_resumes_as(sessions, third, tools=[delete])

    assert resumed.messages[2]["content"][0]["toolResult"]["content"] == [{"text": "a.txt: no"}]
