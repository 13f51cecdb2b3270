"""A Strands model by its name, for demos, examples and the playground: `offline`, or `provider:id` for a real one."""

from __future__ import annotations

from collections.abc import Callable

from strands.models.model import Model

from .offline import OfflineModel

OFFLINE = "offline"


def model_by_name(name: str, *, delay_s: float = 0.0, thinking_s: float = 0.0) -> Model:
    """Return the model of a name such as `offline`, `bedrock:<id>`, `openai:<id>`, `anthropic:<id>`, `ollama:<id>`.

    Args:
        name: The provider and its model id, parted by the first colon; empty stands for `offline`.
        delay_s: Seconds between two chunks of the offline model; others have a speed of their own.
        thinking_s: Seconds before the first chunk of the offline model.

    Raises:
        ImportError: The provider's package is not installed; the message says how to install it.
        ValueError: No name of that form, or a provider that is not known.
    """
    name = name.strip()
    if name in ("", OFFLINE):
        return OfflineModel(delay_s=delay_s, thinking_s=thinking_s)
    provider, _, model_id = name.partition(":")
    if provider not in _PROVIDERS or not model_id:
        raise ValueError(
            f"{name!r} is no model: give {OFFLINE!r}, or provider:id with a provider out of {', '.join(_PROVIDERS)}"
        )
    try:
        return _PROVIDERS[provider](model_id)
    except ImportError as error:
        raise ImportError(f"{name!r} needs: pip install 'strands-agents[{provider}]' ({error})") from error


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

    # None stands for the host that Ollama itself uses: OLLAMA_HOST, or this machine.
    return OllamaModel(None, model_id=model_id)


_PROVIDERS: dict[str, Callable[[str], Model]] = {
    "bedrock": _bedrock,
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
}
