"""One open session in this process: live agents on one side, what is stored of them on the other."""

from .manager import AsyncMongoDBSessionManager, FlushOn, Hooks

__all__ = ["AsyncMongoDBSessionManager", "FlushOn", "Hooks"]
