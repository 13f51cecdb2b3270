"""A Strands model by its name, for demos, examples and the playground: `offline`, or `provider:id` for a real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

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
            f"invalid model: it must be {OFFLINE!r}, or provider:id with a provider out of {', '.join(_PROVIDERS)}, "
            f"got {name!r}"
        )
    try:
        return _PROVIDERS[provider](model_id)
    except ImportError as error:
        raise ImportError(f"{name!r} needs: pip install 'strands-agents[{provider}]' ({error})") from error


def with_temperature(model: Model, temperature: float) -> Model:
    """Return a model like this one that answers with a temperature; the one that is given stays as it is.

    Args:
        model: A model, which others may be using.
        temperature: As its provider takes it, mostly 0 to 1 or 0 to 2.

    Raises:
        ValueError: The model takes none.
    """
    place = _place_of_temperature(type(model))
    config = model.get_config()
    if place is None or not isinstance(config, Mapping) or not hasattr(model, "config"):
        raise ValueError(f"invalid temperature: {type(model).__name__} takes none")
    other: Any = copy.copy(model)
    # `update_config` writes into the configuration, which a copy shares with its original.
    other.config = dict(config)
    if place == "params":
        other.update_config(params={**(config.get("params") or {}), "temperature": temperature})
    else:
        other.update_config(temperature=temperature)
    assert isinstance(other, Model)
    return other


def takes_temperature(model: Model) -> bool:
    """Tell whether `with_temperature` can be used with a model."""
    return _place_of_temperature(type(model)) is not None


def _place_of_temperature(kind: type) -> str | None:
    """Return the key of a configuration that takes the temperature: its own, or `params` for what is passed on."""
    for base in kind.__mro__:
        for value in vars(base).values():
            keys = getattr(value, "__annotations__", {}) if isinstance(value, type) else {}
            if found := next((key for key in ("temperature", "params") if key in keys), None):
                return found
    return None


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
