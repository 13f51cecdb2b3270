"""The API: one message in, its reply as events; conversations from MongoDB."""

from . import chat, health, sessions
from .dependencies import Services

routers = (chat.router, sessions.router, health.router)

__all__ = ["Services", "routers"]
