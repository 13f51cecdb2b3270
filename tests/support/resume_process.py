"""A second process: resumes a session, answers what it was interrupted for, and prints what its agent holds.

python -m tests.support.resume_process <uri> <database> <agent id> [<answer>]
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from strands import ToolContext, tool
from strands.types.interrupt import InterruptResponseContent
from strands.types.session import encode_bytes_values

from mongodb_session_manager import AsyncMongoDBSessionManager
from tests.fixtures.sessions import COLLECTION, SESSION_ID
from tests.support.agents import make_agent
from tests.support.models import ScriptedModel
from tests.support.resume import held


@tool(context=True)
def delete(name: str, tool_context: ToolContext) -> str:
    """Delete a file, if a person agrees."""
    answer = tool_context.interrupt("approval", reason={"file": name})
    return f"{name}: {answer}"


def answers(agent: Any, answer: str) -> list[InterruptResponseContent]:
    """Return the answer to each interrupt that waits for one."""
    waiting = held(agent)["interrupt_state"]["interrupts"]
    return [{"interruptResponse": {"interruptId": interrupt_id, "response": answer}} for interrupt_id in waiting]


async def main(uri: str, database: str, agent_id: str, answer: str | None = None) -> None:
    manager = AsyncMongoDBSessionManager(
        SESSION_ID, uri, database, COLLECTION, ensure_indexes=False, serverSelectionTimeoutMS=5000
    )
    async with manager:
        agent = make_agent(manager, model=ScriptedModel(otherwise="noted"), agent_id=agent_id, tools=[delete])
        found: dict[str, Any] = {"resumed": held(agent)}
        if answer is not None:
            result = await agent.invoke_async(answers(agent, answer))
            found["stop_reason"] = result.stop_reason
            found["afterwards"] = held(agent)
    sys.stdout.write(json.dumps(encode_bytes_values(found)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
