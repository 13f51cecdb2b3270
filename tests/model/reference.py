"""What sessions should hold, kept as plainly as can be: lists of messages, sets of what was taken out, counters."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Said:
    """A message that was said once.

    Attributes:
        key: The first word that only this message has, or its tracking id.
        role: `user` or `assistant`.
        shows: Its text as it should be stored; None for a message of tool results.
        is_redacted: Whether a guardrail had it replaced.
    """

    key: str
    role: str
    shows: str | None
    is_redacted: bool = False

    def __repr__(self) -> str:
        return f"<{self.key} {self.shows!r}>"


@dataclass
class AgentReference:
    """What one agent's part should be.

    Attributes:
        messages: What was said, in order.
        out: What was taken out of the window; None while it is open: in an agent that was cut by a fork.
        states: The states that it may have: one, several while it is open who wrote last, none while all is open.
    """

    messages: list[Said] = field(default_factory=list)
    out: set[Said] | None = field(default_factory=set)
    states: list[dict[str, Any]] = field(default_factory=lambda: [{}])

    @property
    def window(self) -> list[Said]:
        """What an agent resumes with."""
        assert self.out is not None
        return [said for said in self.messages if said not in self.out]


@dataclass
class SessionReference:
    """What one session should be.

    Attributes:
        agents: Its agents by id.
        known: Every message that was ever said in it, by each of the words that it was ever told by.
        metadata: The values that a field may have: one, or several while it is open who wrote last.
        ratings: How often each rating was given.
        errors: How many turns failed.
        deleted: Ids of agents that were deleted, whose events stay.
        events: How often a guardrail intervened.
        title: Its title.
        title_of: The message that it was taken from.
        keys: Idempotency keys of turns that were taken.
    """

    agents: dict[str, AgentReference] = field(default_factory=dict)
    known: dict[str, Said] = field(default_factory=dict)
    metadata: dict[str, list[Any]] = field(default_factory=dict)
    ratings: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    deleted: set[str] = field(default_factory=set)
    events: int = 0
    title: str | None = None
    title_of: Said | None = None
    keys: set[str] = field(default_factory=set)

    def everything(self) -> Iterator[Said]:
        """Yield every message that should be stored."""
        for agent in self.agents.values():
            yield from agent.messages

    def change(self, said: Said, text: str, *, is_redacted: bool) -> None:
        """Let a message show another text, and the title with it that was taken from it."""
        said.shows, said.is_redacted = text, is_redacted
        if said is self.title_of:
            self.title = text

    def begin_with(self, candidates: Iterable[Said], found: object) -> None:
        """Take the title from the first thing that a person said: where several may have been first, the one found."""
        first = {said.shows: said for said in candidates}
        if self.title is None and first:
            said = first.get(str(found)) or next(iter(first.values()))
            self.title, self.title_of = said.shows, said

    def delete_agent(self, agent_id: str) -> None:
        """Delete an agent, and the title where it said that."""
        agent = self.agents.pop(agent_id)
        self.deleted.add(agent_id)
        if self.title_of in agent.messages:
            self.title = self.title_of = None

    def fork(self, agents: dict[str, int] | None = None) -> SessionReference:
        """Return what a fork should hold.

        Args:
            agents: How many messages each agent has in it; None for all.
        """
        made = copy.deepcopy(self)
        made.ratings.clear()
        made.keys.clear()
        if agents is None:
            return made
        for agent_id, agent in list(made.agents.items()):
            if agent_id not in agents:
                del made.agents[agent_id]
            elif agents[agent_id] < len(agent.messages):
                del agent.messages[agents[agent_id] :]
                agent.states, agent.out = [], None
        return made


def is_merge(found: list[Said], parts: list[list[Said]]) -> bool:
    """Tell whether a list holds the items of some lists, all of them and each in its order, and nothing else."""
    if len(found) != sum(map(len, parts)) or len(set(found)) != len(found):
        return False
    return all([said for said in found if said in part] == part for part in parts)


def is_prefix(found: list[Said], whole: list[Said], at_least: int) -> bool:
    """Tell whether a list is the beginning of another one, and how much of it at least."""
    return at_least <= len(found) and found == whole[: len(found)]
