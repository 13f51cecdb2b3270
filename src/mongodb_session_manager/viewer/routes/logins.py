"""Logging in and out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ..schemas import Access, LoginRequest
from .dependencies import TheGate, errors

router = APIRouter(prefix="/api/v1", tags=["access"])


@router.get("/access", responses=errors(503))
async def access(request: Request, gate: TheGate) -> Access:
    """Say what the asking browser may see."""
    return await gate.access(request)


@router.post("/login", responses=errors(401, 403, 422, 429, 503))
async def login(body: LoginRequest, request: Request, response: Response, gate: TheGate) -> Access:
    """Exchange a password for a cookie."""
    return await gate.log_in(request, response, body.password, body.session_id)


@router.post("/logout", responses=errors(403))
async def logout(request: Request, response: Response, gate: TheGate) -> Access:
    """End the login of the asking browser."""
    return gate.log_out(request, response)
