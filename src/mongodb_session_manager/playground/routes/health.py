"""Whether the playground works, and how its pool is doing."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mongodb_session_manager import __version__

from ..schemas import Health, PoolMetrics
from .dependencies import ERRORS, Ready

router = APIRouter(responses=ERRORS)


@router.get("/health", responses={503: {"model": Health, "description": "MongoDB does not answer"}})
async def health(services: Ready) -> JSONResponse:
    """Tell whether the playground can work."""
    stats = await services.factory.get_connection_stats()
    works = stats["status"] in ("connected", "external_client")
    answer = Health(
        status="ok" if works else "unavailable",
        mongodb="connected" if works else "unreachable",
        version=__version__,
        model=services.agents.name,
        agent=None if services.agents.agent_id is not None else services.agents.name,
        takes_temperature=services.agents.takes_temperature,
    )
    return JSONResponse(answer.model_dump(), 200 if works else 503)


@router.get("/metrics")
async def metrics(services: Ready) -> PoolMetrics:
    """Return statistics of the connection pool and of the turns."""
    turns = {"running": services.turns.running, "kept": services.turns.kept}
    return PoolMetrics(pool=await services.factory.get_connection_stats(), turns=turns)
