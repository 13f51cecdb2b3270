"""What is measured, each system in turn and never two at once, so that a busy machine slows all of them alike."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field

from _measure import Cpu, Samples, loop_lag, percentile, rotated, sampled
from _models import PROMPT, FixedModel
from _systems import AsyncSystem, SyncSystem, System, build_agent
from strands.types.content import Messages

SESSIONS = 100
RESUMED_MESSAGES = 20
SATURATING_MODEL_S = 0.02
EASY_MODEL_S = 2.0

Systems = Mapping[str, System]
Progress = Callable[[str], None]


@dataclass
class Throughput:
    """What one system did under many sessions at once."""

    requests_per_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    requests: int = 0
    commands: int = 0
    cpu: Cpu = field(default_factory=Cpu)

    @property
    def lag_p99_ms(self) -> float:
        return 1000 * percentile(self.late_s, 0.99)

    @property
    def commands_each(self) -> float:
        return self.commands / self.requests


def new_session_ids(count: int) -> list[str]:
    return [f"bench-{uuid.uuid4().hex}" for _ in range(count)]


async def conversation(count: int) -> Messages:
    """Return this many messages as Strands makes them, user and assistant by turns."""
    agent = build_agent(FixedModel())
    while len(agent.messages) < count:
        await agent.invoke_async(PROMPT)
    return agent.messages


def warm_turns(systems: Systems, runner: asyncio.Runner, *, turns: int, warmup: int) -> dict[str, Samples]:
    """Take turns with agents that stay, one user and one assistant message each."""
    found = {name: Samples() for name in systems}
    with ExitStack() as sync_agents:
        async_agents = AsyncExitStack()
        agents = {}
        for name, system in systems.items():
            (session_id,) = new_session_ids(1)
            if isinstance(system, AsyncSystem):
                entering = async_agents.enter_async_context(system.agent(session_id, FixedModel()))
                agents[name] = runner.run(entering)
            elif isinstance(system, SyncSystem):
                agents[name] = sync_agents.enter_context(system.agent(session_id, FixedModel()))

        async def invoke(name: str, samples: Samples) -> None:
            with sampled(samples, systems[name].commands):
                await agents[name].invoke_async(PROMPT)

        try:
            for number in range(warmup + turns):
                for name in rotated(list(systems), number):
                    samples = found[name] if number >= warmup else Samples()
                    if isinstance(systems[name], AsyncSystem):
                        runner.run(invoke(name, samples))
                    else:
                        with sampled(samples, systems[name].commands):
                            agents[name](PROMPT)
        finally:
            runner.run(async_agents.aclose())
    return found


def stateless_requests(systems: Systems, runner: asyncio.Runner, *, requests: int, warmup: int) -> dict[str, Samples]:
    """Resume a session of 20 messages, take one turn, and let go of it; a fresh session each time."""
    found = {name: Samples() for name in systems}
    model = FixedModel()
    sessions = {name: new_session_ids(warmup + requests) for name in systems}
    messages = runner.run(conversation(RESUMED_MESSAGES))
    for name, system in systems.items():
        runner.run(system.seed(sessions[name], messages))

    async def request(system: AsyncSystem, session_id: str, samples: Samples) -> None:
        with sampled(samples, system.commands):
            async with system.agent(session_id, model) as agent:
                await agent.invoke_async(PROMPT)

    for number in range(warmup + requests):
        for name in rotated(list(systems), number):
            system, session_id = systems[name], sessions[name][number]
            samples = found[name] if number >= warmup else Samples()
            if isinstance(system, AsyncSystem):
                runner.run(request(system, session_id, samples))
            elif isinstance(system, SyncSystem):
                with sampled(samples, system.commands), system.agent(session_id, model) as agent:
                    agent(PROMPT)
    return found


def stateless_cpu(systems: Systems, runner: asyncio.Runner, *, blocks: int, requests: int) -> dict[str, Cpu]:
    """Take stateless requests one after the other, and count what they compute.

    Args:
        systems: The async ones are measured.
        runner: Whose loop it is.
        blocks: How often each system takes its turn.
        requests: Requests of each block: what one leaves to do in the background is counted with those that follow.
    """
    model = FixedModel()
    messages = runner.run(conversation(RESUMED_MESSAGES))
    measured = {name: system for name, system in systems.items() if isinstance(system, AsyncSystem)}
    sessions = {name: new_session_ids((blocks + 1) * requests) for name in measured}
    for name, system in measured.items():
        runner.run(system.seed(sessions[name], messages))

    async def serve(system: AsyncSystem, session_ids: Sequence[str], cpu: Cpu) -> None:
        gc.collect()
        with cpu.block(requests):
            for session_id in session_ids:
                async with system.agent(session_id, model) as agent:
                    await agent.invoke_async(PROMPT)

    found = {name: Cpu() for name in measured}
    for number in range(blocks + 1):
        for name in rotated(list(measured), number):
            session_ids = sessions[name][number * requests : (number + 1) * requests]
            runner.run(serve(measured[name], session_ids, found[name] if number else Cpu()))
    return found


def many_sessions(
    systems: Systems, runner: asyncio.Runner, *, model_s: float, requests: int, rounds: int, ramp_s: float
) -> dict[str, Throughput]:
    """Serve 100 sessions in one loop, each asking again when it was answered; every request stands for itself.

    Args:
        systems: The async ones are measured; a sync one has no place in a loop.
        runner: Whose loop it is.
        model_s: How long the model takes to answer.
        requests: Requests of each session and round.
        rounds: How often each system takes its turn.
        ramp_s: Time over which the sessions begin, evenly.
    """
    found = {name: Throughput() for name, system in systems.items() if isinstance(system, AsyncSystem)}
    for number in range(rounds):
        for name in rotated(list(found), number):
            system = systems[name]
            if isinstance(system, AsyncSystem):
                gc.collect()
                runner.run(_serve(system, found[name], model_s=model_s, requests=requests, ramp_s=ramp_s))
    return found


async def _serve(system: AsyncSystem, found: Throughput, *, model_s: float, requests: int, ramp_s: float) -> None:
    model = FixedModel(model_s)

    async def session(session_id: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for _ in range(requests):
            async with system.agent(session_id, model) as agent:
                await agent.invoke_async(PROMPT)

    session_ids = new_session_ids(SESSIONS)
    before, started = system.commands.total, time.perf_counter()
    with found.cpu.block(SESSIONS * requests):
        async with loop_lag(found.late_s), asyncio.TaskGroup() as group:
            for number, session_id in enumerate(session_ids):
                group.create_task(session(session_id, ramp_s * number / SESSIONS))
    found.requests_per_s.append(SESSIONS * requests / (time.perf_counter() - started))
    found.requests += SESSIONS * requests
    found.commands += system.commands.total - before
