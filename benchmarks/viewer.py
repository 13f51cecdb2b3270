"""What the Session Viewer takes to answer, over 100,000 sessions and in one of 5,000 messages.

The viewer runs as a process of its own, as `python -m mongodb_session_manager.viewer`, and is asked over HTTP, one
request at a time. The sessions are put into the database in the form in which the library stores them.

    python benchmarks/viewer.py
    python benchmarks/viewer.py --sessions 10000 --requests 30 --json results.json

    MONGODB_CONNECTION_STRING   use this MongoDB server instead of one that is started for the run
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import pymongo
from _conversations import COLLECTION, Conversations
from _measure import percentile
from _report import Aim, aims_table

from mongodb_session_manager import index_specs
from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.schema import values
from mongodb_session_manager.schema.agents import new_agent
from mongodb_session_manager.schema.messages import encode_message
from mongodb_session_manager.schema.sessions import new_session
from mongodb_session_manager.store.indexes import order_index_specs

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
FIELDS = ("priority", "customer.tier", "score", "vip")
LONG = "the-long-one"
LONG_MESSAGES = 5_000
PAGE = 20
DEEP = 500
TEXTS = ("E27 bulb of 61 W", "shade never")
"""What is in no session; of the second one its beginning is everywhere."""

BROWSERS = 50
ANNOUNCED = f"a new session, told to {BROWSERS} browsers"

_ANNOUNCEMENTS = 20
_TOO_SLOW = 503
_BATCH = 1_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_TEXT = "The lamp takes an E27 bulb of at most 60 W, or any LED that fits its socket and its shade. " * 6


@dataclass
class Times:
    """How long the same kind of request took, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def ms(self, share: float) -> float:
        return 1000 * percentile(self.seconds, share)


def session(number: int) -> dict[str, Any]:
    """Return a stored session with an agent and four messages."""
    created = _START + timedelta(minutes=4 * number)
    document = new_session(f"{uuid.UUID(int=number * 2654435761 % 2**64)}", created, application_name="shop")
    agent = new_agent("support", created)
    for place in range(4):
        role = "user" if place % 2 == 0 else "assistant"
        message, _ = encode_message({"role": role, "content": [{"text": _TEXT}]}, agent_id="support")
        agent["messages"].append({"message_id": place, **message, "created_at": created, "updated_at": created})
    agent["next_message_id"] = 4
    document["agents"]["support"] = agent
    document["metadata"] = values.encode(
        {
            "priority": ("low", "normal", "high", "urgent")[number % 4],
            "customer": {"tier": ("basic", "silver", "gold")[number % 3]},
            "score": number % 50,
            "vip": number % 10 == 0,
        }
    )
    # About every tenth session is rated, three of four times well; in every hundredth a turn failed, and one of a
    # thousand has thumbs down.
    ratings = {"up": int(number % 10 == 1), "down": int(number % 1000 == 7), "other": 0}
    usage = {"inputTokens": 400 + number % 977, "outputTokens": 60, "latencyMs": 900, "modelCalls": 2}
    usage["totalTokens"] = usage["inputTokens"] + usage["outputTokens"]
    agent["usage"] = usage
    agent["agent_data"]["model"] = ("model-a", "model-b")[number % 2]
    document["title"] = f"Which bulb does lamp {number} take?"
    document["summary"] = {
        "agents": 1,
        "messages": 4 + number % 89,
        "feedbacks": sum(ratings.values()),
        "ratings": ratings,
        "errors": int(number % 100 == 3),
        "usage": usage,
    }
    return document


def fill(uri: str, database: str, count: int) -> None:
    """Store so many sessions, and one that is long."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        sessions = client[database][COLLECTION]
        sessions.create_indexes([*index_specs(list(FIELDS)), *order_index_specs()])
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            sessions.insert_many([session(number) for number in numbers], ordered=False)
        conversations = Conversations(uri, client[database])
        asyncio.run(conversations.take_turns())
        conversations.store(LONG, LONG_MESSAGES)


@contextmanager
def viewer(uri: str, database: str) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """Run the viewer, and yield a client of it and its process."""
    environment = {
        **os.environ,
        CONNECTION_STRING: uri,
        "DATABASE_NAME": database,
        "COLLECTION_NAME": COLLECTION,
        "VIEWER_PORT": "0",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "mongodb_session_manager.viewer"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise SystemExit("the viewer did not start")
        with httpx.Client(base_url=line.partition(": ")[2].strip(), timeout=60) as client:
            yield client, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


class Measured:
    """Asks, and keeps how long each kind of question took."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.times: dict[str, Times] = {}

    def ask(self, kind: str, path: str, **params: Any) -> Any:
        started = time.perf_counter()
        answer = self._client.get(path, params=params)
        self.times.setdefault(kind, Times()).seconds.append(time.perf_counter() - started)
        if answer.status_code == _TOO_SLOW:  # counts as the time after which it was given up
            return None
        return answer.raise_for_status().json()


SEARCHES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "everything": lambda turn: {},
    "one field": lambda turn: {"filters": json.dumps({"priority": ("low", "high")[turn % 2]})},
    "a number": lambda turn: {"filters": json.dumps({"score": turn % 50})},
    "true or false": lambda turn: {"filters": json.dumps({"vip": turn % 2 == 0})},
    "two fields": lambda turn: {"filters": json.dumps({"priority": "high", "customer.tier": "gold"})},
    "part of an id": lambda turn: {"session_id": f"{turn % 256:02x}{turn * 7 % 16:x}"},
    "a rare id": lambda turn: {"session_id": str(uuid.UUID(int=turn * 2654435761 % 2**64))[19:]},
    "dates": lambda turn: {"created_at_start": "2026-03-01", "created_at_end": "2026-05-01"},
    "field and dates": lambda turn: {
        "filters": json.dumps({"priority": "low"}),
        "created_at_start": "2026-03-01",
        "created_at_end": "2026-05-01",
    },
}
SEARCHES = {
    **SEARCHES,
    "by updated": lambda turn: {"sort": "updated"},
    "by messages": lambda turn: {"sort": "messages"},
    "by tokens": lambda turn: {"sort": "tokens"},
    "rated": lambda turn: {"rating": "any"},
    "thumbs up": lambda turn: {"rating": "up"},
    "thumbs down": lambda turn: {"rating": "down"},
    "thumbs down, by activity": lambda turn: {"rating": "down", "sort": "updated"},
    "failed": lambda turn: {"failed": "true"},
    "failed and a field": lambda turn: {"failed": "true", "filters": json.dumps({"priority": "urgent"})},
    "narrow range": lambda turn: {"filters": json.dumps({"score": {"min": turn % 40, "max": turn % 40 + 1}})},
    "wide range": lambda turn: {"filters": json.dumps({"score": {"min": 3, "max": 45}})},
    "range, by tokens": lambda turn: {"filters": json.dumps({"score": {"min": 3, "max": 5}}), "sort": "tokens"},
}
_FEW = frozenset(
    {
        "a number",
        "a rare id",
        "part of an id",
        "rated",
        "thumbs up",
        "thumbs down",
        "thumbs down, by activity",
        "failed",
        "failed and a field",
        "narrow range",
        "range, by tokens",
    }
)
"""What finds fewer sessions than 500 pages hold."""


def measure(client: httpx.Client, process: psutil.Process, requests: int) -> tuple[dict[str, Times], list[float]]:
    """Ask everything so many times; return how long it took and the memory of the viewer in MB after each round."""
    measured = Measured(client)
    cursors: dict[str, str] = {}
    memory: list[float] = []
    pages = [name for name in SEARCHES if name not in _FEW]
    for name in pages:
        far = client.get("/api/v1/sessions/search", params={**SEARCHES[name](0), "limit": PAGE, "offset": PAGE * DEEP})
        cursors[name] = far.json()["next_cursor"] or ""
    cursors = {name: cursor for name, cursor in cursors.items() if cursor}
    for turn in range(requests):
        for name, question in SEARCHES.items():
            found = measured.ask(f"search: {name}", "/api/v1/sessions/search", limit=PAGE, **question(turn))
            assert found is None or found["sessions"] or name in _FEW, name
        for name, cursor in cursors.items():
            path = "/api/v1/sessions/search"
            measured.ask(f"page {DEEP}, cursor: {name}", path, limit=PAGE, cursor=cursor, **SEARCHES[name](0))
            measured.ask(f"page {DEEP}, offset: {name}", path, limit=PAGE, offset=PAGE * DEEP, **SEARCHES[name](0))
        detail = measured.ask("open 5,000 messages", f"/api/v1/sessions/{LONG}")
        assert detail["counts"]["messages"] == LONG_MESSAGES
        assert len(detail["timeline"]) == 50
        measured.ask("open 5,000 messages, newest first", f"/api/v1/sessions/{LONG}", order="desc")
        measured.ask("next page of it", f"/api/v1/sessions/{LONG}", cursor=detail["next_cursor"])
        measured.ask("usage of it", f"/api/v1/sessions/{LONG}/usage")
        with client.stream("GET", f"/api/v1/sessions/{LONG}/export", params={"format": "jsonl"}) as lines:
            assert sum(1 for _ in lines.iter_lines()) == LONG_MESSAGES + 1
        if turn % 10 == 0:
            totals = measured.ask("totals of all sessions", "/api/v1/sessions/totals")
            assert totals is None or totals["totals"]["sessions"] > 1
            measured.ask("totals of the rated", "/api/v1/sessions/totals", rating="any")
        memory.append(process.memory_info().rss / 2**20)
    return measured.times, memory


@dataclass
class TextScan:
    """How fast sessions are looked through for a text.

    Attributes:
        mb_per_s: Megabytes of sessions a second.
        longest_s: The longest call, in seconds.
        sessions: How many were looked through.
    """

    mb_per_s: float
    longest_s: float
    sessions: int


def scan(client: httpx.Client, text: str) -> TextScan:
    """Look through all sessions for a text that is in none."""
    size, sessions, longest_s, seconds = 0, 0, 0.0, 0.0
    params: dict[str, Any] = {"text": text, "limit": PAGE}
    while True:
        started = time.perf_counter()
        page = client.get("/api/v1/sessions/search", params=params).raise_for_status().json()
        taken = time.perf_counter() - started
        size, sessions = size + page["searched_bytes"], sessions + page["searched"]
        longest_s, seconds = max(longest_s, taken), seconds + taken
        if page["next_cursor"] is None:
            return TextScan(size / 1e6 / seconds, longest_s, sessions)
        params["cursor"] = page["next_cursor"]


async def announced(url: str, uri: str, database: str) -> Times:
    """Return how long the last of all browsers that look at the list waits for a new session."""
    times = Times()

    async def told(lines: AsyncIterator[str], session_id: str) -> None:
        async for line in lines:
            if line.startswith("data:") and session_id in line:
                return

    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60, limits=limits))
        streams = []
        for _ in range(BROWSERS):
            answer = await stack.enter_async_context(client.stream("GET", "/api/v1/sessions/events"))
            streams.append(answer.raise_for_status().aiter_lines())
        await asyncio.gather(*(told(lines, '"mode"') for lines in streams))
        with pymongo.MongoClient[dict[str, Any]](uri) as mongo:
            for number in range(_ANNOUNCEMENTS):
                document = session(number) | {"_id": f"announced-{number}", "created_at": datetime.now(UTC)}
                started = time.perf_counter()
                await asyncio.to_thread(mongo[database][COLLECTION].insert_one, document)
                await asyncio.gather(*(told(lines, document["_id"]) for lines in streams))
                times.seconds.append(time.perf_counter() - started)
    return times


def aims(times: Mapping[str, Times], memory: list[float], scans: Mapping[str, TextScan]) -> list[Aim]:
    """Return what should hold."""
    found = [
        Aim(f"{name}, p95", taken.ms(0.95), 200, unit=" ms")
        for name, taken in times.items()
        if name.startswith(("search", "page"))
    ]
    found += [Aim(f"{name}, p95", taken.ms(0.95), 1000, unit=" ms") for name, taken in times.items() if "open" in name]
    found += [
        Aim(f"{name}, p95", taken.ms(0.95), 2000, unit=" ms") for name, taken in times.items() if "totals" in name
    ]
    found.append(Aim(f"{ANNOUNCED}, p95", times[ANNOUNCED].ms(0.95), 2000, unit=" ms"))
    for text, scanned in scans.items():
        fast = Aim(f"looking through sessions for {text!r}", scanned.mb_per_s, 40, unit=" MB/s", at_least=True)
        found += [fast, Aim(f"longest call for {text!r}", scanned.longest_s, 3.2, unit=" s")]
    # The first rounds fill pools and caches.
    settled = memory[len(memory) // 4]
    found.append(Aim("memory of the viewer, last round above an early one", memory[-1] - settled, 20, unit=" MB"))
    return found


def main() -> None:
    """Run, print, and end with 1 when an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=60, help="rounds of all requests")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    given = os.environ.get(CONNECTION_STRING)
    if given:
        results = run(given, options.sessions, options.requests)
    else:
        with EmbeddedMongo("replica_set") as server:
            results = run(server.uri, options.sessions, options.requests)
    times, memory, scans = results
    print(f"{'ms':42}  median     p95")
    for name, taken in times.items():
        print(f"{name:42}  {taken.ms(0.5):6.1f}  {taken.ms(0.95):6.1f}")
    print(f"\nmemory of the viewer: {memory[0]:.0f} MB after the first round, {memory[-1]:.0f} MB after the last\n")
    for text, scanned in scans.items():
        print(
            f"text {text!r}: {scanned.sessions} sessions, {scanned.mb_per_s:.0f} MB/s, {scanned.longest_s:.1f} s a call"
        )
    found = aims(times, memory, scans)
    print(aims_table(found))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            ms = {name: {"median_ms": taken.ms(0.5), "p95_ms": taken.ms(0.95)} for name, taken in times.items()}
            texts = {text: scanned.__dict__ for text, scanned in scans.items()}
            json.dump(
                {"times": ms, "memory_mb": memory, "texts": texts, "aims": [aim.as_dict() for aim in found]},
                file,
                indent=1,
            )
    if not all(aim.met for aim in found):
        sys.exit(1)


def run(uri: str, sessions: int, requests: int) -> tuple[dict[str, Times], list[float], dict[str, TextScan]]:
    """Fill a database of its own, measure, and drop it."""
    database = f"bench_viewer_{uuid.uuid4().hex[:8]}"
    try:
        started = time.perf_counter()
        fill(uri, database, sessions)
        print(f"{sessions} sessions stored in {time.perf_counter() - started:.0f} s\n")
        with viewer(uri, database) as (client, process):
            times, memory = measure(client, process, requests)
            times[ANNOUNCED] = asyncio.run(announced(str(client.base_url), uri, database))
            return times, memory, {text: scan(client, text) for text in TEXTS}
    finally:
        with pymongo.MongoClient[dict[str, Any]](uri) as client_:
            client_.drop_database(database)


if __name__ == "__main__":
    main()
