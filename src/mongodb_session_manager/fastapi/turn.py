"""One request's turn of a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self, cast

from strands.types.content import Message

from ..schema.messages import has_tool_result, text_of
from ..session import AsyncMongoDBSessionManager
from ..store.lease import Turn

if TYPE_CHECKING:
    from strands import Agent


class SessionTurn:
    """One request's turn of a session: `async with turn:`; what was said is stored when the block ends.

    A WebSocket takes as many turns as it has messages, one after the other. With an idempotency key each of them counts
    by itself, also when all of them are sent again in the same order.

    Attributes:
        manager: The open manager of the session.
        idempotency_key: What the client calls the request, None when it calls it nothing.
    """

    def __init__(
        self,
        manager: AsyncMongoDBSessionManager,
        idempotency_key: str | None = None,
        *,
        wait_s: float | None = 30,
        lease_s: float = 30,
    ) -> None:
        """Note how to take the turn; the manager is borrowed."""
        self.manager = manager
        self.idempotency_key = idempotency_key
        self._wait_s, self._lease_s = wait_s, lease_s
        self._held: AbstractAsyncContextManager[Turn] | None = None
        self._turn: Turn | None = None
        self._ended = 0

    @property
    def replayed(self) -> bool:
        """Whether this request was stored before: leave the agent alone then, its last message is the answer.

        Raises:
            RuntimeError: The turn was not taken yet.
        """
        if self._turn is None:
            raise RuntimeError("the turn is not taken yet; read `replayed` inside of `async with turn:`")
        return self._turn.replayed

    async def __aenter__(self) -> Self:
        """Take the turn, when no other request has it any more.

        Raises:
            LeaseUnavailableError: Another one kept it for too long.
            SessionStoreError: It is taken already, by this request.
        """
        held = self.manager.turn(self._wait_s, self._lease_s, self._key())
        self._turn = await held.__aenter__()
        self._held = held
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        """Store what is pending and give the turn back."""
        assert self._held is not None
        handled = await self._held.__aexit__(*error)
        self._ended += error[:1] == (None,)
        return handled

    def _key(self) -> str | None:
        """Return the idempotency key of the next block: the request's own, and one made of it for each further one."""
        if self.idempotency_key is None or not self._ended:
            return self.idempotency_key
        return sha256(f"{self._ended}:{self.idempotency_key}".encode()).hexdigest()

    async def stream(self, agent: Agent, prompt: Any, **options: Any) -> AsyncGenerator[str]:
        """Take the turn, and yield the text of the agent's answer, piece by piece; it ends when all is stored.

        A request that was stored before gets its answer again, in one piece.

        Args:
            agent: Built on `manager`.
            prompt: What `agent.stream_async` takes.
            **options: More of what it takes.
        """
        async with self:
            if self.replayed:
                yield _answer_to(prompt, agent)
                return
            # Ended inside of the turn also where the reader leaves: what was said until then belongs to it.
            async with aclosing(cast("AsyncGenerator[Any]", agent.stream_async(prompt, **options))) as events:
                async for event in events:
                    if "data" in event:
                        yield event["data"]


def _answer_to(prompt: Any, agent: Agent) -> str:
    """Return the text that answered a prompt; where it does not stand in the window any more, the last answer.

    Another request of the session may have come after it.
    """
    said = [{"text": prompt}] if isinstance(prompt, str) else prompt
    answer: Message | None = None
    for message in reversed(agent.messages):
        if message["role"] == "assistant":
            answer = answer or message
        elif message["content"] == said:
            break
        elif not has_tool_result(message):
            answer = None  # That was the answer to something else.
    else:
        answer = next((message for message in reversed(agent.messages) if message["role"] == "assistant"), None)
    return "" if answer is None else text_of(answer)
