"""MongoDB clients of every kind behind one interface; nothing outside this package knows the differences."""

from .any_loop import AnyLoopMotorClient
from .collection import Collection
from .handle import ClientHandle
from .kinds import MongoDBClient
from .retry import is_transient
from .statistics import PoolStatistics

__all__ = ["AnyLoopMotorClient", "ClientHandle", "Collection", "MongoDBClient", "PoolStatistics", "is_transient"]
