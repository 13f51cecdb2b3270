"""A process that has one turn and is killed as soon as `invoke_async` returned.

python -m tests.support.killed_process <uri> <database> <flush_on>

It prints what the agent holds then, as JSON, and kills itself: nothing that Python or the library does at the end of a
process runs any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any, cast

from strands import tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.tools import ToolContext

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.session import FlushOn
from tests.fixtures.sessions import COLLECTION, SESSION_ID
from tests.support.agents import make_agent
from tests.support.models import Scripted, calls
from tests.support.resume import held

PROMPTS = ("one", "two", "three")


@tool(context=True)
def note(word: str, tool_context: ToolContext) -> str:
    """Keep a word in the agent's state."""
    tool_context.agent.state.set("word", word)
    return word


def window() -> SlidingWindowConversationManager:
    """Return a window that the turns overrun."""
    return SlidingWindowConversationManager(window_size=4)


async def main(uri: str, database: str, flush_on: str) -> None:
    manager = AsyncMongoDBSessionManager(
        SESSION_ID, uri, database, COLLECTION, flush_on=cast("FlushOn", flush_on), ensure_indexes=False
    )
    await manager.open()
    script: list[Scripted] = ["first", calls(("note", {"word": "blue"})), "second", "third"]
    agent = make_agent(manager, *script, tools=[note], conversation_manager=window())
    for prompt in PROMPTS:
        await agent.invoke_async(prompt)
    found: dict[str, Any] = held(agent)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
