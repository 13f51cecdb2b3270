"""Several sessions as one ZIP archive, written while they are read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from ..errors import SessionNotFoundError
from .database import Database
from .export import Format, export, file_name, first_page

MOST_SESSIONS = 100
_SEND_AT_BYTES = 64 * 1024


class _Outbox(io.RawIOBase):
    """Takes what a ZIP file writes, until it is sent; nothing can be changed afterwards."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        self.size += len(part)
        return len(part)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts, self.size = b"".join(self._parts), [], 0
        return taken


async def archive(database: Database, session_ids: Sequence[str], format_: Format) -> AsyncIterator[bytes]:
    """Yield sessions as one archive, a file for each; one that is gone meanwhile is named in `missing.txt`.

    Args:
        database: Where they are.
        session_ids: The sessions.
        format_: What kind of files.
    """
    outbox = _Outbox()
    missing: list[str] = []
    names: set[str] = set()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_DEFLATED) as files:
        for session_id in dict.fromkeys(session_ids):
            try:
                first = await first_page(database, session_id)
            except SessionNotFoundError:
                missing.append(session_id)
                continue
            with files.open(_entry(_unique(file_name(session_id, format_), names)), "w", force_zip64=True) as file:
                async for part in export(database, session_id, format_, first):
                    file.write(part)
                    if outbox.size >= _SEND_AT_BYTES:
                        yield outbox.take()
        if missing:
            files.writestr(_entry("missing.txt"), "".join(f"{session_id}\n" for session_id in missing))
    yield outbox.take()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _unique(name: str, names: set[str]) -> str:
    """Return a name that no other file has: different ids may look alike in a file's name."""
    stem, dot, ending = name.rpartition(".")
    number = 1
    while name.lower() in names:
        number += 1
        name = f"{stem}-{number}{dot}{ending}"
    names.add(name.lower())
    return name
