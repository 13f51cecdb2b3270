"""Takes sessions of other session managers into a collection of this one.

::

    from mongodb_session_manager import AsyncMongoDBSessionRepository
    from mongodb_session_manager.migrate import FileSource, migrate

    async with AsyncMongoDBSessionRepository(uri, "my_app", "sessions") as target:
        report = await migrate(FileSource("sessions"), target)                    # only reads, and reports
        report = await migrate(FileSource("sessions"), target, dry_run=False, progress=show)

`migrate_sessions` is the same without an event loop, with a `MongoDBSessionRepository`. Sources are

- `FileSource(storage_dir)`: Strands' `FileSessionManager`;
- `S3Source(bucket, prefix, client=..., region_name=..., endpoint_url=...)`: Strands' `S3SessionManager`;
- `SnapshotSource(storage)`: Strands' `SnapshotSessionManager`, on any of its storages;
- `OlderDocumentSource(connection_string, database_name, collection_name, client=...)`: older MongoDB session managers,
  one document per session;
- `MessageDocumentSource(connection_string, database_name, collection_name, client=...)`: one document per message, as
  the package `strands-mongodb-session-manager` stores them;

each with `close()`. `progress` gets a `Progress` (`done`, `total`, `messages`, `problems`) after each session. The
`MigrationReport` has `sessions`, `migrated`, `present`, `failed`, `messages`, `problem_count`, `problems` (each with
`session_id`, `agent_id`, `message`, `reason`) and `complete`.
"""

from .documents import MessageDocumentSource, OlderDocumentSource
from .logs import FileSource, S3Source
from .migration import MigrationReport, Progress, migrate, migrate_sessions
from .records import Problem, Source, UnreadableSourceError
from .snapshots import SnapshotSource

__all__ = [
    "FileSource",
    "MessageDocumentSource",
    "MigrationReport",
    "OlderDocumentSource",
    "Problem",
    "Progress",
    "S3Source",
    "SnapshotSource",
    "Source",
    "UnreadableSourceError",
    "migrate",
    "migrate_sessions",
]
