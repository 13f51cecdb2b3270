"""The command `demo`: a conversation whose process is killed, and which another process goes on with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import typer
from strands import Agent

from ..embedded import EmbeddedMongo, EmbeddedMongoError
from ..offline import OfflineModel
from ..session import AsyncMongoDBSessionManager
from .commands import FAILED, Context, add
from .output import json_text, shown

TOLD = ("My name is Ada, and I am planning a trip to Lisbon.",)
ASKED = ("What is my name, and where am I going?",)
REMEMBERED = ("Ada", "Lisbon")
AGENT_ID = "assistant"


class DemoError(Exception):
    """The demo did not go as it should."""


async def demo(context: Context) -> None:
    """Store a conversation, kill its process, and go on with it in another one.

    Without a connection string a MongoDB server is started for the demo.
    """
    out = context.out
    session_id = f"demo-{uuid4().hex[:8]}"
    said: list[dict[str, Any]] = []
    try:
        async with _server(context) as uri:
            for title, prompts, killed in (("first process", TOLD, True), ("second process", ASKED, False)):
                out.line(title, "bold")
                for line in await _talk(context, uri, session_id, prompts, killed=killed):
                    said.append({"process": title, **line})
                    out.line(f"  {line['role']}: {shown(line['text'])}")
                if killed:
                    out.line("  [killed with SIGKILL: nothing was closed, nothing could be saved at the end]")
    except (DemoError, EmbeddedMongoError) as error:
        out.failed(str(error))
        raise typer.Exit(FAILED) from None
    remembered = all(fact in said[-1]["text"] for fact in REMEMBERED)
    out.document({"session_id": session_id, "said": said, "remembered": remembered})
    if not remembered:
        out.failed("the second process does not remember what the first one was told")
        raise typer.Exit(FAILED)
    out.line(f"The second process remembered: {' and '.join(REMEMBERED)}.")
    if context.target.connection_string is not None:
        out.note(f"The session {session_id} stays in {context.place}.")


@asynccontextmanager
async def _server(context: Context) -> AsyncIterator[str]:
    given = context.target.connection_string
    if given is not None and given.get_secret_value():
        yield given.get_secret_value()
        return
    async with EmbeddedMongo("replica_set") as server:
        yield server.uri


async def _talk(
    context: Context, uri: str, session_id: str, prompts: Sequence[str], *, killed: bool
) -> list[dict[str, Any]]:
    """Let a process of its own talk, and return what was said."""
    target = context.target
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        session_id,
        *prompts,
        env={
            **os.environ,
            "MONGODB_CONNECTION_STRING": uri,
            "DATABASE_NAME": target.database_name,
            "COLLECTION_NAME": target.collection_name,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: list[dict[str, Any]] = []
    try:
        async for line in process.stdout:
            if line.strip() == b"done":
                break
            said.append(json.loads(line))
        if killed:
            process.kill()
        process.stdin.close()
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != (-signal.SIGKILL if killed else 0):
        raise DemoError(f"a process of the demo ended with {code}")
    return said


async def _converse(session_id: str, prompts: Sequence[str]) -> None:
    """Talk in this process: lines of JSON, then `done`, then wait for the end of standard input."""
    async with AsyncMongoDBSessionManager(
        session_id, database_name=os.environ["DATABASE_NAME"], collection_name=os.environ["COLLECTION_NAME"]
    ) as manager:
        agent = Agent(model=OfflineModel(), agent_id=AGENT_ID, session_manager=manager, callback_handler=None)
        for prompt in prompts:
            answer = str(await agent.invoke_async(prompt)).strip()
            for role, text in (("user", prompt), ("assistant", answer)):
                sys.stdout.write(json_text({"role": role, "text": text}) + "\n")
        sys.stdout.write("done\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def add_demo(app: typer.Typer) -> None:
    """Add the command."""
    add(app, "demo", demo, example="demo", panel="Apps")


if __name__ == "__main__":
    asyncio.run(_converse(sys.argv[1], sys.argv[2:]))
