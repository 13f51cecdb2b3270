"""Programs for sessions: random steps from a seed, and the shortest of them that still fails."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Program = tuple["Step", ...]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        rule: What is done.
        seed: Decides everything else about it, among what there is at that moment. So a step that is left out changes
            nothing of what the others decide.
    """

    rule: str
    seed: int


def random_program(seed: int, length: int, weights: dict[str, int]) -> Program:
    """Return a program, the same for the same seed."""
    source = random.Random(seed)
    rules = source.choices(list(weights), list(weights.values()), k=length)
    return tuple(Step(rule, source.getrandbits(32)) for rule in rules)


async def shortest(
    program: Program, fails: Callable[[Program], Awaitable[bool]], *, attempts: int = 200
) -> Sequence[Step]:
    """Leave out of a program that fails whatever it fails without, in so many attempts."""
    size = max(1, len(program) // 2)
    while attempts:
        shorter = None
        for start in range(0, len(program), size):
            if not attempts:
                break
            attempts -= 1
            candidate = program[:start] + program[start + size :]
            if candidate and await fails(candidate):
                shorter = candidate
                break
        if shorter is not None:
            program = shorter
        elif size == 1:
            break
        else:
            size //= 2
    return program
