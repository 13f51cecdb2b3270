"""What a strict provider asks of a conversation: roles, and tool calls in pairs with their results."""

from __future__ import annotations

from collections.abc import Sequence

from strands.types.content import Message


class HistoryRefusedError(AssertionError):
    """A strict provider would not have accepted these messages."""


def check_history(messages: Sequence[Message], *, alternating: bool = False) -> None:
    """Raise `HistoryRefusedError` unless a strict provider would accept the messages.

    The rules of Bedrock and Anthropic: begins with the user; known roles; no empty content and no blank text; each tool
    call of an assistant is answered in the very next message, by one result per call; no result without its call; tool
    call ids are unique within a message.

    Args:
        messages: The conversation, oldest first, as it would be sent.
        alternating: Whether roles must alternate, as Bedrock asks and others do not.

    Raises:
        HistoryRefusedError: A rule is broken; the message says which, and where.
    """
    _refuse_unless(bool(messages), "no messages")
    _refuse_unless(messages[0]["role"] == "user", "the first message is not the user's")
    asked: set[str] = set()
    for index, message in enumerate(messages):
        role, content = message["role"], message["content"]
        _refuse_unless(role in ("user", "assistant"), f"message {index} has role {role!r}")
        _refuse_unless(isinstance(content, list) and bool(content), f"message {index} ({role}) has no content")
        blank = [block for block in content if "text" in block and not (block["text"] or "").strip()]
        _refuse_unless(not blank, f"message {index} ({role}) has a text block that is blank")
        repeated = index > 0 and role == messages[index - 1]["role"]
        _refuse_unless(not (alternating and repeated), f"messages {index - 1} and {index} are both of the {role}")
        answered = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
        _refuse_unless(not answered or role == "user", f"message {index} has tool results of an assistant")
        _refuse_unless(len(answered) == len(set(answered)), f"message {index} answers a tool call twice")
        _refuse_unless(set(answered) >= asked, f"message {index} does not answer {sorted(asked - set(answered))}")
        _refuse_unless(set(answered) <= asked, f"message {index} answers {sorted(set(answered) - asked)}, never asked")
        uses = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
        _refuse_unless(not uses or role == "assistant", f"message {index} has a tool call of the user")
        _refuse_unless(len(uses) == len(set(uses)), f"message {index} has two tool calls of one id")
        asked = set(uses)
    _refuse_unless(not asked, f"the last message asks for {sorted(asked)} and nothing answers")


def _refuse_unless(accepted: bool, reason: str) -> None:
    if not accepted:
        raise HistoryRefusedError(reason)
