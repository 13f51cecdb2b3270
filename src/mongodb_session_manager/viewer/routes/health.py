"""Whether the viewer can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pymongo.errors import PyMongoError

from ..._version import __version__
from ..schemas import Health
from .dependencies import Db

router = APIRouter(tags=["health"])


@router.get("/health", responses={503: {"model": Health, "description": "MongoDB does not answer"}})
async def health(database: Db, response: Response) -> Health:
    """Say whether MongoDB answers; needs no password and says nothing else."""
    try:
        await database.ping()
    except PyMongoError:
        response.status_code = 503
        return Health(status="unavailable", mongodb="unreachable", version=__version__)
    return Health(status="ok", mongodb="connected", version=__version__)
