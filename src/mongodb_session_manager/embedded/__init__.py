"""A real MongoDB server of one's own, for demos, examples and tests.

```python
from mongodb_session_manager.embedded import EmbeddedMongo

with EmbeddedMongo() as server:
    print(server.uri)
```

Linux and macOS. The server program comes from `MONGOD_BINARY`, from `PATH`, or from the extra `embedded`.
"""

from ._binary import find_mongod
from ._errors import EmbeddedMongoError, MongodNotFoundError, MongodStartError
from ._server import EmbeddedMongo, Topology

__all__ = [
    "EmbeddedMongo",
    "EmbeddedMongoError",
    "MongodNotFoundError",
    "MongodStartError",
    "Topology",
    "find_mongod",
]
