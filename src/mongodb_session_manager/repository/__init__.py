"""Sessions in the database, by their ids; nothing in here knows of live agents."""

from .session_repository import AsyncMongoDBSessionRepository

__all__ = ["AsyncMongoDBSessionRepository"]
