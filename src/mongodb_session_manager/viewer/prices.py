"""What models cost, as the operator says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

_KINDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
}
_PER = 1_000_000
_LONGEST = 64 * 1024


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens.

    Attributes:
        models: By the model's id, prices of each kind of tokens: `input`, `output`, `cache_read`, `cache_write`.
        currency: In which they are.
    """

    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    currency: str = "USD"

    @classmethod
    def parse(cls, text: str, currency: str = "USD") -> Prices:
        """Read prices, a JSON object of models such as `{"model-id": {"input": 3, "output": 15}}`; empty for none.

        Raises:
            ValueError: It is something else.
        """
        if not text.strip():
            return cls(currency=currency)
        problem = (
            'it must be a JSON object such as {"model-id": {"input": 3.0, "output": 15.0}}, prices per million tokens'
        )
        try:
            found = json.loads(text) if len(text) <= _LONGEST else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError(problem)
        for prices in found.values():
            if not isinstance(prices, dict) or not set(prices) <= set(_KINDS):
                raise ValueError(f"{problem}; kinds of tokens are {', '.join(_KINDS)}")
            if not all(type(price) in (int, float) and 0 <= price < float("inf") for price in prices.values()):
                raise ValueError(f"{problem}; a price is a number from 0")
        return cls(found, currency)

    def cost(self, model: str, tokens: Mapping[str, int]) -> float | None:
        """Return what tokens of a model cost, None where its price is not known."""
        prices = self.models.get(model)
        if prices is None:
            return None
        return sum(tokens.get(name, 0) * prices.get(kind, 0.0) for kind, name in _KINDS.items()) / _PER
