"""Runs the shared server until its last user is gone: `python -m mongodb_session_manager.web.server_keeper FOLDER`."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from ..embedded import EmbeddedMongo, EmbeddedMongoError
from .shared_server import SERVER, USERS, locked

_LOOK_S = 0.2


def main() -> None:
    """Start the server, tell the process that asked for it on standard output, and end it after its last user."""
    if os.fork():
        os._exit(0)  # so that the app that asked has no child to wait for
    try:
        _keep(Path(sys.argv[1]))
    except (EmbeddedMongoError, OSError) as error:
        _tell({"error": str(error)})


def _keep(folder: Path) -> None:
    with locked(folder / SERVER, fcntl.LOCK_EX | fcntl.LOCK_NB) as file, EmbeddedMongo("replica_set") as server:
        found = {"uri": server.uri, "pid": str(os.getpid())}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(found).encode(), 0)
        _tell(found)
        # A server that died is not kept either: the next app that starts gets a new one.
        while server.pids:
            try:
                with locked(folder / USERS, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    # Apps that start now wait for this lock, and find that no keeper lives.
                    server.stop()
                    fcntl.flock(file, fcntl.LOCK_UN)
            except BlockingIOError:
                time.sleep(_LOOK_S)


def _tell(message: dict[str, str]) -> None:
    try:
        os.write(1, json.dumps(message).encode())
    except OSError:
        return  # who asked is gone, or was told before
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    main()
