"""What the sessions of a search add up to, and how that was over time: the server adds up their summaries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pymongo.errors import ExecutionTimeout, OperationFailure

from ..schema import paths
from ..schema.expressions import Document, agents, rating_counts
from ..schema.messages import read_date
from ..web import ApiError
from ..web.plain import count_or_none, number_or_none, storable_text
from .prices import Prices
from .totals_schemas import ModelTotals, Sums, TotalsPage, TotalsPoint

LIMIT_MS = 5_000
"""Milliseconds that the database may take to add up."""

MODELS_MS = 5_000
"""Milliseconds that it may take to tell models apart, for which agents have to be read."""

_MOST_MODELS = 100
_RATED = rating_counts(f"${paths.FEEDBACKS}")
"""What older documents do not count."""

_SUMS: Mapping[str, Any] = {
    "messages": f"${paths.SUMMARY_MESSAGES}",
    "feedbacks": f"${paths.SUMMARY_FEEDBACKS}",
    **{f"ratings_{name}": {"$ifNull": [f"${paths.summary_ratings(name)}", count]} for name, count in _RATED.items()},
    "errors": f"${paths.SUMMARY_ERRORS}",
    "input_tokens": f"${paths.summary_usage('inputTokens')}",
    "output_tokens": f"${paths.summary_usage('outputTokens')}",
    "total_tokens": f"${paths.summary_usage('totalTokens')}",
    "latency_ms": f"${paths.summary_usage('latencyMs')}",
    "model_calls": f"${paths.summary_usage('modelCalls')}",
}
_TOKENS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheWriteInputTokens",
}

Unit = Literal["hour", "day", "week", "month"]
_HOUR_UP_TO = timedelta(days=3)
_DAY_UP_TO = timedelta(days=120)
_WEEK_UP_TO = timedelta(days=800)


class Totals:
    """Adds up the sessions of one collection."""

    def __init__(self, collection: Any, prices: Prices) -> None:
        """Ask the driver's `collection`; no I/O."""
        self._collection = collection
        self._prices = prices

    async def of(self, query: Mapping[str, Any], zone: str) -> TotalsPage:
        """Return the totals of the sessions that a query finds.

        Args:
            query: The sessions.
            zone: In which time zone days begin.

        Raises:
            ApiError: It takes too long, or there is no such time zone.
        """
        try:
            first, last = await self._span(query)
            unit = _unit(first, last)
            rows, models = await asyncio.gather(self._over_time(query, unit, zone), self._per_model(query))
        except ExecutionTimeout:
            text = f"adding up these sessions takes more than {LIMIT_MS // 1000} s; narrow the search"
            raise ApiError(503, "too_slow", text) from None
        except OperationFailure as error:
            if error.code in _NO_ZONE:
                raise ApiError(422, "invalid", "invalid zone: there is no such time zone") from None
            raise
        points = [TotalsPoint(start=read_date(row["_id"]), **_sums(row)) for row in rows]
        together = {name: sum(getattr(point, name) or 0 for point in points) for name in ("sessions", *_SUMS)}
        return TotalsPage(
            unit=unit, points=points, totals=Sums(**together), models=models, currency=self._prices.currency
        )

    async def _span(self, query: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
        dated = {"$and": [query, {"created_at": {"$type": "date"}}]}

        async def end(direction: int) -> datetime | None:
            keys = [("created_at", direction), ("_id", direction)]
            found = await self._collection.find_one(dated, {"created_at": 1}, sort=keys, max_time_ms=LIMIT_MS)
            return None if found is None else read_date(found["created_at"])

        first, last = await asyncio.gather(end(1), end(-1))
        return first, last

    async def _over_time(self, query: Mapping[str, Any], unit: Unit, zone: str) -> list[Document]:
        is_date = {"$eq": [{"$type": f"${paths.CREATED_AT}"}, "date"]}
        start = {
            "$dateTrunc": {"date": f"${paths.CREATED_AT}", "unit": unit, "timezone": zone, "startOfWeek": "monday"}
        }
        sums = {name: {"$sum": path} for name, path in _SUMS.items()}
        pipeline = [
            {"$match": dict(query)},
            {"$group": {"_id": {"$cond": [is_date, start, None]}, "sessions": {"$sum": 1}, **sums}},
            {"$sort": {"_id": 1}},
        ]
        rows: list[Document] = await self._collection.aggregate(pipeline, maxTimeMS=LIMIT_MS).to_list(None)
        return rows

    async def _per_model(self, query: Mapping[str, Any]) -> list[ModelTotals] | None:
        """Return what each model used, the most used first; None when telling them apart takes too long."""
        usage = {name: f"$$agent.v.{paths.USAGE}.{key}" for name, key in _TOKENS.items()}
        named = f"$$agent.v.{paths.AGENT_DATA}.{paths.MODEL}"
        model = {"$cond": [{"$eq": [{"$type": named}, "string"]}, named, None]}
        used = {"$map": {"input": agents(), "as": "agent", "in": {"model": model, **usage}}}
        pipeline = [
            {"$match": dict(query)},
            {"$project": {"_id": 0, "used": used}},
            {"$unwind": "$used"},
            {
                "$group": {
                    "_id": "$used.model",
                    "agents": {"$sum": 1},
                    **{name: {"$sum": f"$used.{name}"} for name in _TOKENS},
                }
            },
            {"$sort": {"input_tokens": -1, "_id": 1}},
            {"$limit": _MOST_MODELS},
        ]
        try:
            rows = await self._collection.aggregate(pipeline, maxTimeMS=MODELS_MS).to_list(None)
        except ExecutionTimeout:
            return None
        return [self._model(row) for row in rows]

    def _model(self, row: Document) -> ModelTotals:
        tokens = {name: count_or_none(row[name]) or 0 for name in _TOKENS}
        model = None if row["_id"] is None else storable_text(row["_id"])
        cost = None if model is None else self._prices.cost(model, tokens)
        return ModelTotals(model=model, agents=row["agents"], cost=cost, **tokens)


_NO_ZONE = frozenset({40485, 40533})


def _sums(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number_or_none(row[name]) or 0 for name in ("sessions", *_SUMS)}


def _unit(first: datetime | None, last: datetime | None) -> Unit:
    """Return the unit of time that gives a chart some dozens of points."""
    span = last - first if first is not None and last is not None else timedelta(0)
    if span <= _HOUR_UP_TO:
        return "hour"
    if span <= _DAY_UP_TO:
        return "day"
    return "week" if span <= _WEEK_UP_TO else "month"
