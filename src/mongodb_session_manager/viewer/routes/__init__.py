"""The viewer's endpoints, one module per concern."""

from fastapi import APIRouter

from . import events, exports, health, lists, logins, search, sessions

router = APIRouter()
for module in (health, logins, search, lists, exports, sessions, events):
    router.include_router(module.router)

__all__ = ["router"]
