"""A conversation that survives `kill -9`.

One process talks with an agent and is killed. A second process opens the same session and is asked what the first one
was told. The account says what was said, what MongoDB holds, how many commands each step sent and how long it took.
Exits with 1 if the second process does not remember.

    make demo

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the demo
    DEMO_MODEL                  use a real model: bedrock:<id>, openai:<id>, anthropic:<id> or ollama:<id>
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from _shared import CONNECTION_STRING, CommandCounter, chosen_model, heading, mongodb
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from strands import Agent
from strands.types.content import Messages

from mongodb_session_manager import AsyncMongoDBSessionManager
from mongodb_session_manager.embedded import EmbeddedMongoError

DATABASE, COLLECTION, AGENT_ID = "mongodb_session_manager_demo", "sessions", "assistant"
MODEL = "DEMO_MODEL"
SYSTEM_PROMPT = (
    "You are a travel assistant. Answer in one or two sentences. "
    "Store what the user asks you to remember with the manage_metadata tool."
)
TOLD = (
    "My name is Ada and I am planning a trip to Lisbon.",
    "Please remember that my preferred language is Portuguese.",
)
ASKED = ("What is my name, and where am I going?",)
EXPECTED_IN_ANSWER, EXPECTED_IN_METADATA = ("Ada", "Lisbon"), "Portuguese"

FIRST, SECOND = "--first-process", "--second-process"
CHILD_TIMEOUT_S = 300.0
WIDTH = 100


# The two child processes. They report to their parent in lines of JSON.


async def converse(session_id: str, prompts: Sequence[str], *, wait: bool) -> None:
    """Open the session, build an agent on it, say the prompts, and report what each step did."""
    counter, started = CommandCounter(), time.perf_counter()
    manager = AsyncMongoDBSessionManager(
        session_id,
        connection_string=os.environ[CONNECTION_STRING],
        database_name=DATABASE,
        collection_name=COLLECTION,
        event_listeners=[counter],
    )
    async with manager:
        report("open the session", counter, started)

        started = time.perf_counter()
        agent = Agent(
            model=chosen_model(MODEL),
            agent_id=AGENT_ID,
            system_prompt=SYSTEM_PROMPT,
            session_manager=manager,
            tools=[manager.get_metadata_tool()],
            callback_handler=None,
        )
        report("build the agent", counter, started, restored=len(agent.messages))

        for prompt in prompts:
            known, started = len(agent.messages), time.perf_counter()
            answer = str(await agent.invoke_async(prompt)).strip()
            tools = tool_calls(agent.messages[known:])
            step = f"a turn with {len(tools)} tool call{'s' * (len(tools) > 1)}" if tools else "a plain turn"
            report(step, counter, started, prompt=prompt, answer=answer, tools=tools)

        if wait:
            print(json.dumps({"waiting": True}), flush=True)
            # Ends when the parent is gone, too: then no other process would end this one.
            await asyncio.to_thread(sys.stdin.read)


def tool_calls(messages: Messages) -> list[str]:
    """Return the tool calls among the messages, as text."""
    uses = [block["toolUse"] for message in messages for block in message["content"] if "toolUse" in block]
    return [f"{use['name']} {as_json(use['input'])}" for use in uses]


def report(step: str, counter: CommandCounter, started: float, **details: Any) -> None:
    """Tell the parent what a step did and what it cost."""
    elapsed_ms, commands = (time.perf_counter() - started) * 1000, counter.take()
    cost = {"ms": elapsed_ms, "mongodb_ms": commands.server_ms, "commands": commands.counts}
    print(json.dumps({"step": step, **cost, **details}), flush=True)


# The parent: starts the two, kills the first, and prints the account.


class DemoError(Exception):
    """The demo did not come to its end, or the second process did not remember."""


class Child:
    """A child process of the demo; it never outlives the `with` block."""

    def __init__(self, role: str, session_id: str, uri: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, role, session_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            # Not as an argument, which everybody on the machine can read.
            env={**os.environ, CONNECTION_STRING: uri, "PYTHONIOENCODING": "utf-8"},
            # Ctrl-C goes to the parent alone, which ends its children.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._timeout = threading.Timer(CHILD_TIMEOUT_S, self._process.kill)
        self._timeout.daemon = True
        self._timeout.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._timeout.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def reports(self) -> Iterator[dict[str, Any]]:
        """Yield what the child reports, until it waits or ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{"waiting": '):
                return
            if line.startswith('{"step": '):
                yield json.loads(line)
        if status := self._process.wait():
            raise DemoError(f"a child process ended early, with status {status}; see above for what it said")

    def kill(self) -> None:
        """Send SIGKILL, and make sure that it was this signal that ended the process."""
        self._process.send_signal(signal.SIGKILL)
        if (status := self._process.wait()) != -signal.SIGKILL:
            raise DemoError(f"the first process ended with status {status} before it was killed")


class Account:
    """Prints the conversation as it happens, and at the end what each step cost."""

    def __init__(self) -> None:
        self._costs: list[tuple[str, ...]] = []

    def conversation(self, title: str, child: Child) -> str:
        """Print what a process reports and return the agent's last answer."""
        heading(f"{title} (pid {child.pid})")
        answer = ""
        for step in child.reports():
            times = f"{step['ms']:.1f} ms", f"{step['mongodb_ms']:.1f} ms"
            self._costs.append((f"{title}: {step['step']}", commands(step["commands"]), *times))
            if "restored" in step:
                say("", f"[session opened, agent built: {step['restored'] or 'no'} messages restored]")
            if "prompt" in step:
                print()
                answer = step["answer"]
                say("user", step["prompt"])
                for call in step["tools"]:
                    say("tool", call)
                say("agent", answer)
        return answer

    def costs(self) -> None:
        """Print the table of steps."""
        heading("What it cost")
        rows = [("step", "MongoDB commands", "time", "in MongoDB"), *self._costs]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for step, sent, elapsed, in_mongodb in rows:
            print(f"  {step:<{widths[0]}}   {sent:<{widths[1]}}   {elapsed:>{widths[2]}}   {in_mongodb:>{widths[3]}}")
        print("\n  Indexes are made once per process, in the background, and are not counted.")


def say(who: str, text: str) -> None:
    """Print a paragraph, indented, with the speaker in the margin."""
    lines = [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, WIDTH - 10) or [""]]
    for number, line in enumerate(lines):
        print(f"  {who if number == 0 else '':<6}  {line}".rstrip())


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str, width: int = WIDTH - 24) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 4]} ..."


def commands(counts: Mapping[str, int]) -> str:
    names = ", ".join(f"{count} {name}" for name, count in counts.items())
    return names or "none"


def show_document(document: Mapping[str, Any]) -> None:
    """Print the session's document, abridged."""
    heading(f"What MongoDB holds ({DATABASE}.{COLLECTION})")
    agent = document["agents"][AGENT_ID]
    print(f'  {{ _id: "{document["_id"]}", schema_version: {document["schema_version"]},')
    print(f"    created_at: {document['created_at']:%Y-%m-%d %H:%M:%S} UTC,")
    print(f"    metadata: {as_json(document['metadata'])},")
    print(f"    agents: {{ {AGENT_ID}: {{")
    print(f"      agent_data: {{ model: {as_json(agent['agent_data'].get('model'))}, ... }},")
    print(f"      usage: {shortened(as_json(agent['usage']))},")
    print("      messages: [")
    for message in agent["messages"]:
        for block in message["content"]:
            kind, value = next(iter(block.items()))
            about = value.get("input", value.get("content")) if isinstance(value, dict) else value
            content = value if kind == "text" else f"{kind}: {as_json(about)}"
            print(f"        {message['message_id']} {message['role']:<9}  {shortened(content)}")
    print("      ], ... } }, ... }")


def check(answer: str, document: Mapping[str, Any]) -> None:
    """Raise unless the second process remembered, and the metadata was stored."""
    missing = [fact for fact in EXPECTED_IN_ANSWER if fact.lower() not in answer.lower()]
    if missing:
        raise DemoError(f"the second process does not remember: {' and '.join(missing)} not in its answer")
    if EXPECTED_IN_METADATA.lower() not in as_json(document["metadata"]).lower():
        raise DemoError(f"{EXPECTED_IN_METADATA} is not in the stored metadata: the agent did not use its tool")


def play() -> None:
    """Play the demo and print the account."""
    model_id, session_id = chosen_model(MODEL).get_config()["model_id"], f"demo-{uuid.uuid4().hex[:8]}"
    print("A conversation that survives kill -9\n" + "=" * 36)
    account, started = Account(), time.perf_counter()
    with mongodb() as uri, MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        version, ready_ms = client.server_info()["version"], (time.perf_counter() - started) * 1000
        yours = os.environ.get(CONNECTION_STRING)
        origin = f"the server in {CONNECTION_STRING}" if yours else f"started for this demo in {ready_ms:.0f} ms"
        print()
        say("", f"MongoDB {version}, {origin}")
        say("", f"model: {model_id}" + ("" if os.environ.get(MODEL) else f" (name a real one in {MODEL})"))
        say("", f"session: {session_id}")

        with Child(FIRST, session_id, uri) as child:
            account.conversation("First process", child)
            child.kill()
        print()
        say("", "[killed with SIGKILL: nothing was closed, nothing could be saved at the end]")
        document = client[DATABASE][COLLECTION].find_one({"_id": session_id})
        if document is None:
            raise DemoError("the first process left nothing in MongoDB")
        show_document(document)

        with Child(SECOND, session_id, uri) as child:
            answer = account.conversation("Second process", child)
        account.costs()
        check(answer, document)
        print(f"\nThe second process remembered: {' and '.join(EXPECTED_IN_ANSWER)}.")
        if yours:
            print(f"The session {session_id} stays in {DATABASE}.{COLLECTION} on your server.")


def main(arguments: Sequence[str]) -> int:
    """Run one of the three processes."""
    match arguments:
        case [str(role), str(session_id)] if role in (FIRST, SECOND):
            prompts = TOLD if role == FIRST else ASKED
            asyncio.run(converse(session_id, prompts, wait=role == FIRST))
        case []:
            # As an exception it leaves the `with` blocks, which end the children and the server.
            signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
            try:
                play()
            except (DemoError, EmbeddedMongoError) as error:
                print(f"\nFAILED: {error}", file=sys.stderr)
                return 1
            except PyMongoError as error:
                print(f"\nFAILED: {type(error).__name__}: {shortened(str(error), 200)}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("\nInterrupted; everything that was started has been ended.", file=sys.stderr)
                return 130
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
