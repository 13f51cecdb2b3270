"""What differs between the supported versions of Strands; nothing else in the package asks for a version.

Supported is what `pyproject.toml` allows. Each line that exists for the sake of a version names it, so that it can go
when that version is no longer supported.
"""

from __future__ import annotations

import inspect

from strands import Agent
from strands.hooks import HookOrder, MessageAddedEvent
from strands.storage.search import keyword

_CANCEL_TAKES_A_MESSAGE = "message" in inspect.signature(Agent.cancel).parameters  # 1.62 and later

STOP_WORDS: frozenset[str] = getattr(keyword, "STOP_WORDS", frozenset())
"""Words that Strands leaves out of a search; the first that are supported leave none out."""

_CANCELLED = [{"text": "Cancelled by user"}]  # what 1.58 to 1.61 say instead


def cancel(agent: Agent, message: str) -> None:
    """Cancel an agent's invocation, and let a text stand where its answer would.

    Strands drops what was streamed of an answer that is cancelled. Before 1.62 an invocation that is cancelled while
    its tools run ends with their results, and says nothing.

    Args:
        agent: An agent in the middle of an invocation; it is not used for another one.
        message: Text of the message that the invocation ends with.
    """
    if _CANCEL_TAKES_A_MESSAGE:
        agent.cancel(message=message)
        return

    def say(event: MessageAddedEvent) -> None:  # 1.58 to 1.61
        if event.message["content"] == _CANCELLED:
            event.message["content"] = [{"text": message}]

    # First, so that a session manager stores this text.
    agent.hooks.add_callback(MessageAddedEvent, say, order=HookOrder.SDK_FIRST)
    agent.cancel()
