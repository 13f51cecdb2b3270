"""Bodies of requests: what they may hold, refused in time and space that do not grow with what they do hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from .errors import MOST_FAULTS


class Input(BaseModel):
    """A request's body: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_most_others(cls, value: Any) -> Any:
        # pydantic makes an error for each field that is not known, and there may be a million of them.
        if not isinstance(value, Mapping) or len(value) <= len(cls.model_fields):
            return value
        known = {name: value[name] for name in cls.model_fields if name in value}
        others = islice((name for name in value if name not in cls.model_fields), MOST_FAULTS + 1)
        return known | {name: value[name] for name in others}
