"""What the viewer's API answers about many sessions together."""

from __future__ import annotations

from typing import Literal

from .answer import Answer, Moment


class Sums(Answer):
    """What sessions add up to: counts, and `latency_ms` in milliseconds."""

    sessions: int
    messages: int | float
    feedbacks: int | float
    ratings_up: int | float
    ratings_down: int | float
    ratings_other: int | float
    errors: int | float
    input_tokens: int | float
    output_tokens: int | float
    total_tokens: int | float
    latency_ms: int | float
    model_calls: int | float


class TotalsPoint(Sums):
    """The sessions that were created in one unit of time, from `start` on; null for those without a date."""

    start: Moment | None


class ModelTotals(Answer):
    """What agents of one model used, null for those of which none is recorded; `cost` only where its price is known."""

    model: str | None
    agents: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: float | None


class TotalsPage(Answer):
    """What the sessions of a search add up to, in all and over time.

    `models` is null when telling them apart takes too long.
    """

    unit: Literal["hour", "day", "week", "month"]
    totals: Sums
    points: list[TotalsPoint]
    models: list[ModelTotals] | None
    currency: str
