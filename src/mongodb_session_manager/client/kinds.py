"""Which clients may be given as `client=`, for type checkers."""

from __future__ import annotations

from typing import Any, TypeAlias

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

MongoDBClient: TypeAlias = AsyncIOMotorClient[Any] | MongoClient[Any] | AsyncMongoClient[Any]
"""A client to borrow. To type checkers, `AsyncMongoMockClient` is Motor's: so says mongomock-motor."""
