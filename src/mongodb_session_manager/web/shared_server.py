"""One embedded MongoDB server for all apps of a user on a machine, so that each shows what the others store.

A process of its own, the keeper, runs the server for as long as any app uses it. Three files in a folder that only the
user can enter hold the locks (`flock`), which end with their process however it ends:

- `users`: each app holds a shared lock; the keeper ends the server when it gets the exclusive one;
- `start`: held while an app looks for the server or has it started, so that only one does;
- `server`: the address; locked by the keeper while it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..embedded import EmbeddedMongoError

USERS, START, SERVER = "users", "start", "server"


class SharedServer:
    """This process's use of the shared server, from `start` to `stop`; both block."""

    def __init__(self, folder: Path | None = None) -> None:
        """Share with the apps that name the same folder; None for the one of this user."""
        self._folder = folder
        self._use = ExitStack()

    def start(self) -> str:
        """Return the connection string of the server, after starting it unless it runs already.

        Raises:
            EmbeddedMongoError: It does not start; the message says why.
            OSError: The folder is not safe, or cannot hold locks.
        """
        folder = self._folder or default_folder()
        _make_private(folder)
        with ExitStack() as use:
            # Waits while a keeper without users ends.
            use.enter_context(locked(folder / USERS, fcntl.LOCK_SH))
            with locked(folder / START, fcntl.LOCK_EX):
                uri = _running(folder) or _started(folder)
            self._use = use.pop_all()
        return uri

    def stop(self) -> None:
        """End the use; the server ends with the last one. Safe to repeat."""
        self._use.close()


def default_folder() -> Path:
    """Return the user's own folder, below the one that the system keeps for running programs where there is one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and os.access(runtime, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"mongodb-session-manager-{os.getuid()}"


@contextmanager
def locked(path: Path, operation: int) -> Iterator[int]:
    """Hold a lock on a file, which is made when it does not exist; yields its descriptor.

    Raises:
        BlockingIOError: Another process holds it, and `operation` says not to wait.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield descriptor
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    """Make the folder; in a shared place such as `/tmp` another user may have made it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{str(folder)!r} is not a folder that only this user can enter")


def _running(folder: Path) -> str | None:
    """Return the address of the server, None when no keeper lives."""
    try:
        with locked(folder / SERVER, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return None
    except BlockingIOError:
        return str(json.loads((folder / SERVER).read_text())["uri"])


def _started(folder: Path) -> str:
    command = [sys.executable, "-m", f"{__package__}.server_keeper", str(folder)]
    # In a session of its own: Ctrl+C in this app's terminal is not meant for the other apps.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
    try:
        answer: dict[str, str] = json.loads(said)
    except ValueError:
        raise EmbeddedMongoError("the process that keeps the embedded server ended before it was ready") from None
    if "uri" not in answer:
        raise EmbeddedMongoError(answer["error"])
    return answer["uri"]
