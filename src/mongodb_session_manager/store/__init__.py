"""Sessions in the database, by their ids; what an agent in this process holds is the manager's concern."""

from .repository import AsyncMongoDBSessionRepository

__all__ = ["AsyncMongoDBSessionRepository"]
