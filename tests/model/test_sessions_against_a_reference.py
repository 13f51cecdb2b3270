"""Random programs on a real server: what is stored, and what a resume gives, is what a plain reference says."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient, MongoClient

from mongodb_session_manager.client import retry as retry_module
from mongodb_session_manager.session import writer as writer_module
from mongodb_session_manager.store import repository as repository_module
from mongodb_session_manager.store import sealing as sealing_module
from tests.model.checks import check_all
from tests.model.programs import Program, Step, random_program, shortest
from tests.model.rules import RULES, SMALL, WEIGHTS
from tests.model.world import SESSION_IDS, Action, Document, World
from tests.support.interleave import interleaved

STEPS = 30


@pytest.fixture(autouse=True)
def small_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal after a few messages, a few at a time."""
    for module in (sealing_module, writer_module, repository_module):
        monkeypatch.setattr(module, "SEAL_AT_BYTES", 4000)
    for module in (sealing_module, writer_module):
        monkeypatch.setattr(module, "TAIL_BYTES", 1500)
    monkeypatch.setattr(sealing_module, "SIDE_BYTES", 500)
    monkeypatch.setattr(sealing_module, "SEGMENT_BYTES", 1500)
    monkeypatch.setattr(retry_module, "_FIRST_PAUSE_S", 0.001)


class Failure(Exception):
    """A program whose sessions are not what they should be, with what was done."""

    def __init__(self, script: list[str]) -> None:
        super().__init__("\n".join(["", *(f"{number:3}. {line}" for number, line in enumerate(script, 1))]))


def actions_of(world: World, step: Step, source: random.Random) -> tuple[list[Action], bool]:
    """Return what a step does, among what there is at this moment."""
    session_id = source.choice(SESSION_IDS[: 1 + source.randrange(3)])
    if step.rule in RULES:
        action = RULES[step.rule](world, source, session_id)
        return ([] if action is None else [action]), False
    count = 1 if step.rule == "killed" else source.randint(2, 3)
    actions: list[Action] = []
    for _ in range(count):
        rule, _ = SMALL[source.choice(list(SMALL))]
        action = rule(world, source, session_id)
        if action is not None and not (action.is_alone and actions):
            actions.append(action)
            if action.writer is not None:
                world.busy.add(action.writer)
            if action.is_alone:
                break
    world.busy.clear()
    return actions, step.rule == "killed"


async def run(world: World, program: Program) -> None:
    """Run a program, and compare after each of its steps."""
    try:
        for step in program:
            source = random.Random(step.seed)
            actions, kill = actions_of(world, step, source)
            if actions:
                world.tell("  beside  ".join(action.tells for action in actions))
                await world.perform(actions, source, kill=kill)
                await check_all(world, source)
    except Exception as error:
        raise Failure(world.script) from error


async def run_alone(uri: str, raw: MongoClient[Document], program: Program) -> World:
    """Run a program in a database of its own."""
    name = f"msm_model_{uuid4().hex[:10]}"
    try:
        async with AsyncMongoClient[Document](uri, maxPoolSize=10) as client:
            with interleaved([]) as interleaver:
                world = World(client, raw, name, interleaver)
                await run(world, program)
                return world
    finally:
        raw.drop_database(name)


async def check(uri: str, raw: MongoClient[Document], program: Program) -> None:
    """Run a program; where it fails, find the shortest part of it that does, and fail with that."""

    async def fails(candidate: Program) -> bool:
        try:
            await run_alone(uri, raw, candidate)
        except Failure:
            return True
        return False

    if await fails(program):
        await run_alone(uri, raw, tuple(await shortest(program, fails)))
        raise AssertionError("it failed, and does not fail again")


@pytest.mark.parametrize("seed", range(4))
async def test_sessions_are_what_the_reference_says(
    seed: int, mongo_uri: str, mongo_client: MongoClient[Document]
) -> None:
    await check(mongo_uri, mongo_client, random_program(seed, STEPS, WEIGHTS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(10))
async def test_sessions_are_what_the_reference_says_at_length(
    block: int, mongo_uri: str, mongo_client: MongoClient[Document]
) -> None:
    for seed in range(1000 + block * 20, 1020 + block * 20):
        await check(mongo_uri, mongo_client, random_program(seed, STEPS, WEIGHTS))
