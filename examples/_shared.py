"""What the examples have in common: a MongoDB server, a model, and a count of MongoDB commands.

Without any setting everything runs on this machine: a MongoDB server that ends with the example, and a model that needs
no network. Real ones come from the environment:

    MONGODB_CONNECTION_STRING   a MongoDB server of yours
    EXAMPLE_MODEL               a model of yours, as provider:id, for instance
                                bedrock:us.anthropic.claude-sonnet-4-20250514-v1:0, openai:gpt-4o-mini,
                                anthropic:claude-sonnet-4-20250514 or ollama:llama3.1
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from strands.models.model import Model

from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.offline import OfflineModel

CONNECTION_STRING = "MONGODB_CONNECTION_STRING"
_BACKGROUND = {"createIndexes", "listIndexes", "endSessions"}


@contextmanager
def mongodb() -> Iterator[str]:
    """Give a connection string: yours, or that of a server that runs as long as the block."""
    if given := os.environ.get(CONNECTION_STRING):
        yield given
        return
    with EmbeddedMongo() as server:
        yield server.uri


def _bedrock(model_id: str) -> Model:
    from strands.models.bedrock import BedrockModel

    return BedrockModel(model_id=model_id)


def _openai(model_id: str) -> Model:
    from strands.models.openai import OpenAIModel

    return OpenAIModel(model_id=model_id)


def _anthropic(model_id: str) -> Model:
    from strands.models.anthropic import AnthropicModel

    return AnthropicModel(model_id=model_id, max_tokens=1024)


def _ollama(model_id: str) -> Model:
    from strands.models.ollama import OllamaModel

    return OllamaModel(os.environ.get("OLLAMA_HOST", "http://localhost:11434"), model_id=model_id)


_PROVIDERS: dict[str, Callable[[str], Model]] = {
    "bedrock": _bedrock,
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
}


def chosen_model(variable: str = "EXAMPLE_MODEL") -> Model:
    """Make the model that an environment variable names as `provider:id`; the offline model without one.

    Raises:
        SystemExit: With advice, if the variable cannot be understood or the provider's package is missing.
    """
    name = os.environ.get(variable, "")
    provider, _, model_id = name.partition(":")
    if not name or name == "offline":
        return OfflineModel()
    if provider not in _PROVIDERS or not model_id:
        raise SystemExit(f"{variable} must be provider:id, with a provider out of {', '.join(_PROVIDERS)}")
    try:
        return _PROVIDERS[provider](model_id)
    except ImportError as error:
        raise SystemExit(f"{variable}={name} needs: pip install 'strands-agents[{provider}]' ({error})") from error


@dataclass
class Commands:
    """MongoDB commands of one step: how often each was sent, and how long the server took for all of them."""

    counts: Counter[str] = field(default_factory=Counter)
    server_ms: float = 0.0


class CommandCounter(CommandListener):
    """Count the commands that a client sends; commands of background work (indexes, closing) are left out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = Commands()

    def take(self) -> Commands:
        """Return the commands since the last call."""
        with self._lock:
            taken, self._current = self._current, Commands()
        return taken

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            with self._lock:
                self._current.counts[event.command_name] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._add(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self._add(event)

    def _add(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        if event.command_name not in _BACKGROUND:
            with self._lock:
                self._current.server_ms += event.duration_micros / 1000
