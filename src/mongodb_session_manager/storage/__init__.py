"""Strands' `Storage` on MongoDB: values of any size under string keys, and what is kept in it."""

from .mongodb_storage import MongoDBStorage
from .snapshots import SnapshotRecord, Snapshots
from .values import StorageStat

__all__ = ["MongoDBStorage", "SnapshotRecord", "Snapshots", "StorageStat"]
