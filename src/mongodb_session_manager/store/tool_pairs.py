"""Stored tool calls and their results, checked and repaired.

Models refuse a history in which the calls of an assistant message (`toolUse` blocks) are not answered by the user
message right after it, with one `toolResult` for each and no other. Strands repairs what a model gets and leaves
what is stored as it is. Here the stored history is repaired, by new content for its messages; none is inserted, removed
or renumbered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

BrokenPairKind = Literal[
    "missing_result",  # a call that nothing answers
    "stale_result",  # right after other calls
    "duplicate_result",  # of a call that is answered already
    "misplaced_result",  # some user messages late
    "orphaned_result",  # after no call, or of an assistant
    "misplaced_use",  # a call that no user message follows, or of a user
    "duplicate_use",  # a call under the id of another one in its message, or without an id
    "malformed",  # no object where a call or a result should be
]

EMPTIED_TEXT = "[incomplete tool call removed]"
"""Text of a message that held nothing else, since models refuse an empty one."""

Block = dict[str, Any]


@dataclass(frozen=True)
class BrokenPair:
    """Calls or results of one message that do not fit the rest of the history."""

    message_id: int
    kind: BrokenPairKind
    tool_use_ids: tuple[str, ...]


class PairRepair:
    """One pass over a history; messages of users between two of the assistant answer the first of them.

    Results stand first in the message after their calls, an error where there is none. Calls that no user message
    follows move to the next message of the assistant. With the new content stored nothing is left to repair.
    """

    def __init__(self, messages: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Look through a history.

        Args:
            messages: Message id and message of one agent, oldest first. A last message that calls tools is whole: its
                results are yet to come.
        """
        self._ids = [message_id for message_id, _ in messages]
        self._by_assistant = [message.get("role") == "assistant" for _, message in messages]
        self._contents = [_blocks(message.get("content")) for _, message in messages]
        self._findings: dict[tuple[int, BrokenPairKind], list[str]] = {}
        self._mended: dict[int, list[Any]] = {}
        self._carried: list[Block] = []
        self._calls: list[_Call] = []
        self._run()

    def broken_pairs(self) -> list[BrokenPair]:
        """Return what does not fit, in the order of the messages."""
        found = sorted(self._findings.items(), key=lambda finding: finding[0][0])
        return [BrokenPair(self._ids[index], kind, tuple(ids)) for (index, kind), ids in found]

    def new_contents(self) -> list[tuple[int, list[Block]]]:
        """Return message id and new content of the messages that must change, and of no others.

        New content shares its unchanged blocks with the messages.
        """
        return [(self._ids[index], content) for index, content in sorted(self._mended.items())]

    def _run(self) -> None:
        index = 0
        while index < len(self._ids):
            if self._by_assistant[index]:
                self._mend_calls(index)
                index += 1
            else:
                end = next((i for i in range(index, len(self._ids)) if self._by_assistant[i]), len(self._ids))
                self._mend_results(index, end)
                self._calls = []
                index = end

    def _mend_calls(self, index: int) -> None:
        """Leave the calls in this message that a user message can answer, or hand them on to the next one."""
        uses, kept = self._carried, []
        self._carried, self._calls = [], []
        moves_on = index + 1 < len(self._ids) and self._by_assistant[index + 1]
        for block in self._contents[index]:
            if "toolResult" in _keys(block):
                self._note(index, "orphaned_result", block["toolResult"])
            elif "toolUse" not in _keys(block):
                kept.append(block)
            elif not isinstance(block["toolUse"], Mapping):
                self._note(index, "malformed")
            elif moves_on:
                self._note(index, "misplaced_use", block["toolUse"])
                self._carried.append(block)
            else:
                kept.append(self._identified(index, block))
        if moves_on:
            self._carried = uses + self._carried
        else:
            kept += [self._identified(index, block) for block in uses]
        self._store(index, kept)

    def _identified(self, index: int, block: Block) -> Block:
        """Register a call, under an id of its own."""
        old_id = _tool_use_id(block["toolUse"])
        taken = {call.new_id for call in self._calls} | set(self._own_ids(index))
        new_id = old_id
        if not old_id or any(call.new_id == old_id for call in self._calls):
            self._note(index, "duplicate_use", block["toolUse"])
            stem, number = old_id or f"call-{self._ids[index]}", 2
            while (new_id := f"{stem}-{number}") in taken:
                number += 1
            block = _with_id(block, "toolUse", new_id)
        self._calls.append(_Call(old_id, new_id))
        return block

    def _own_ids(self, index: int) -> Iterator[str]:
        for block in self._contents[index]:
            if "toolUse" in _keys(block):
                yield _tool_use_id(block["toolUse"])

    def _mend_results(self, start: int, end: int) -> None:
        """Answer the calls of the message before `start` there, with results from any message up to `end`."""
        calls = list(self._calls)
        answers: dict[str, Block] = {}
        rest = {index: self._take_answers(index, start, answers) for index in range(start, end)}
        missing = [call for call in calls if call.new_id not in answers]
        for call in missing:
            self._note(start - 1, "missing_result", {"toolUseId": call.old_id})
            answers[call.new_id] = _interrupted(call.new_id)
        for index, blocks in rest.items():
            first = [answers[call.new_id] for call in calls] if index == start else []
            if index != start or not _same_blocks(first, blocks, self._contents[index]):
                self._store(index, first + blocks)

    def _take_answers(self, index: int, start: int, answers: dict[str, Block]) -> list[Any]:
        """Collect the results in a user message that answer a call, and return its other blocks."""
        rest = []
        for block in self._contents[index]:
            if "toolUse" in _keys(block):
                self._note(index, "misplaced_use", block["toolUse"])
            elif "toolResult" not in _keys(block):
                rest.append(block)
            elif not isinstance(block["toolResult"], Mapping):
                self._note(index, "malformed")
            else:
                self._answer(index, start, block, answers)
        return rest

    def _answer(self, index: int, start: int, block: Block, answers: dict[str, Block]) -> None:
        result = block["toolResult"]
        result_id = _tool_use_id(result)
        asked = [call for call in self._calls if call.old_id == result_id]
        open_call = next((call for call in asked if call.new_id not in answers), None)
        if open_call is not None:
            answers[open_call.new_id] = (
                block
                if result.get("toolUseId") == open_call.new_id
                else _with_id(block, "toolResult", open_call.new_id)
            )
            if index > start:
                self._note(index, "misplaced_result", result)
        elif asked:
            self._note(index, "duplicate_result", result)
        elif self._calls and index == start:
            self._note(index, "stale_result", result)
        else:
            self._note(index, "orphaned_result", result)

    def _note(self, index: int, kind: BrokenPairKind, tool: Any = None) -> None:
        ids = self._findings.setdefault((index, kind), [])
        tool_use_id = _tool_use_id(tool)
        if tool_use_id:
            ids.append(tool_use_id)

    def _store(self, index: int, content: list[Any]) -> None:
        old = self._contents[index]
        if len(content) != len(old) or any(new is not block for new, block in zip(content, old, strict=True)):
            self._mended[index] = content or [{"text": EMPTIED_TEXT}]


@dataclass(frozen=True)
class _Call:
    old_id: str
    new_id: str


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return list(content) if isinstance(content, list | tuple) else []


def _keys(block: Any) -> Mapping[str, Any]:
    return block if isinstance(block, Mapping) else {}


def _tool_use_id(tool: Any) -> str:
    tool_use_id = tool.get("toolUseId") if isinstance(tool, Mapping) else None
    return tool_use_id if isinstance(tool_use_id, str) else ""


def _interrupted(tool_use_id: str) -> Block:
    # In the words of Strands, which completes a call that was cut off in the same way when it resumes.
    text = "Tool was interrupted."
    return {"toolResult": {"toolUseId": tool_use_id, "status": "error", "content": [{"text": text}]}}


def _with_id(block: Block, kind: str, tool_use_id: str) -> Block:
    return {**block, kind: {**block[kind], "toolUseId": tool_use_id}}


def _same_blocks(first: list[Any], rest: list[Any], content: list[Any]) -> bool:
    """Whether these are the blocks of the content, in any order: the order alone is no reason to rewrite it."""
    return len(first) + len(rest) == len(content) and {id(block) for block in first + rest} == {
        id(block) for block in content
    }
