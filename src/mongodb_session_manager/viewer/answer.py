"""What all answers of the viewer's API have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

from ..web.plain import utc_text

Moment = Annotated[datetime, PlainSerializer(utc_text, return_type=str, when_used="json")]


class Answer(BaseModel):
    """An answer, or a part of one: exactly the fields that are documented."""

    model_config = ConfigDict(extra="forbid")
