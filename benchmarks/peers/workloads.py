"""What each system is asked to do, in its own process."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from _measure import loop_lag
from _models import PROMPT, FixedModel
from _workloads import RESUMED_MESSAGES, SESSIONS, conversation, new_session_ids
from strands.types.exceptions import StorageError

from .systems import Peer

MODEL_S = 0.02
COUNTED = 10

Seconds = list[float]


async def warm_turns(peer: Peer, *, turns: int, limit_s: float) -> dict[str, Any]:
    """Take turns with one agent that stays, one user and one assistant message each."""
    (session_id,) = new_session_ids(1)
    async with peer.agent(session_id, FixedModel()) as agent:

        async def turn(_: int) -> None:
            await agent.invoke_async(PROMPT)

        return {"seconds": await _timed(turn, times=turns, limit_s=limit_s)}


async def stateless_requests(peer: Peer, *, requests: int, limit_s: float) -> dict[str, Any]:
    """Build an agent, resume 20 messages, take one turn and close; another session each time."""
    messages = await conversation(RESUMED_MESSAGES)
    session_ids = new_session_ids(requests + 1)
    for session_id in session_ids:
        await peer.store(session_id, messages)

    async def request(number: int) -> None:
        async with peer.agent(session_ids[number], FixedModel()) as agent:
            await agent.invoke_async(PROMPT)

    return {"seconds": await _timed(request, times=requests, limit_s=limit_s)}


async def many_sessions(peer: Peer, *, requests: int, limit_s: float) -> dict[str, Any]:
    """Serve 100 sessions in one loop, each asking again when it was answered, with a model that takes 20 ms."""
    # A server has its connections; opening a hundred of them is not what is to be measured.
    await _serve(peer, requests=1, limit_s=limit_s, late_s=Seconds())
    late_s = Seconds()
    gc.collect()
    started = time.perf_counter()
    seconds = await _serve(peer, requests=requests, limit_s=limit_s, late_s=late_s)
    elapsed = time.perf_counter() - started
    return {"seconds": seconds, "late_s": late_s, "requests_per_s": [len(seconds) / elapsed]}


async def _serve(peer: Peer, *, requests: int, limit_s: float, late_s: Seconds) -> Seconds:
    """Serve 100 new sessions, and return how long each request took."""
    model, seconds = FixedModel(MODEL_S), Seconds()
    give_up_at = time.perf_counter() + limit_s

    async def session(session_id: str) -> None:
        for _ in range(requests):
            if time.perf_counter() > give_up_at:
                return
            began = time.perf_counter()
            async with peer.agent(session_id, model) as agent:
                await agent.invoke_async(PROMPT)
            seconds.append(time.perf_counter() - began)

    async with loop_lag(late_s), asyncio.TaskGroup() as group:
        for session_id in new_session_ids(SESSIONS):
            group.create_task(session(session_id))
    return seconds


async def growth(peer: Peer, *, messages: int, requests: int, limit_s: float) -> dict[str, Any]:
    """Resume a session of so many messages of 1 KB under a window of 40, take one turn and close.

    No seconds come back of a system that cannot store as many.
    """
    session_id = "growing"
    try:
        await peer.grow(session_id, messages, await conversation(RESUMED_MESSAGES))
    except StorageError as error:
        print(f"{messages:,} messages: {error}", file=sys.stderr)
        return {"seconds": []}

    async def request(_: int) -> None:
        async with peer.agent(session_id, FixedModel()) as agent:
            await agent.invoke_async(PROMPT)

    # The first one is left out by _timed: it finds the window larger than the agent's, and cuts it.
    return {"seconds": await _timed(request, times=requests, limit_s=limit_s)}


async def commands(peer: Peer) -> dict[str, Any]:
    """Count what a warm turn and a stateless request send to the database, or which files they open."""
    peer.sent()
    warm, stateless = new_session_ids(2)
    async with peer.agent(warm, FixedModel()) as agent:
        await agent.invoke_async(PROMPT)
        before = peer.sent()
        for _ in range(COUNTED):
            await agent.invoke_async(PROMPT)
        warm_commands = (peer.sent() - before) / COUNTED
    await peer.store(stateless, await conversation(RESUMED_MESSAGES))
    before = peer.sent()
    async with peer.agent(stateless, FixedModel()) as agent:
        await agent.invoke_async(PROMPT)
    return {"warm turn": warm_commands, "stateless request": peer.sent() - before}


async def _timed(action: Callable[[int], Awaitable[None]], *, times: int, limit_s: float) -> Seconds:
    """Return how long each took but the first, which makes what is made once; fewer times when they take too long."""
    await action(times)
    seconds, started = Seconds(), time.perf_counter()
    gc.collect()
    for number in range(times):
        began = time.perf_counter()
        await action(number)
        seconds.append(time.perf_counter() - began)
        if time.perf_counter() - started > limit_s:
            break
    return seconds


WORKLOADS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "warm turn": warm_turns,
    "stateless request": stateless_requests,
    "100 sessions at once": many_sessions,
    "growth": growth,
    "commands": commands,
}
