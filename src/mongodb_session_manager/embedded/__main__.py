"""Runs a MongoDB server for development: `python -m mongodb_session_manager.embedded`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ._errors import EmbeddedMongoError
from ._server import EmbeddedMongo

PORT = 27017
_LOOK_S = 0.5

ABOUT = """Run a MongoDB server for development on this machine, until Ctrl+C. It has no password: every user of this
machine can read and change what it holds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a server as the command line says, until it is told to end.

    Args:
        arguments: The command line; None takes the process's.

    Raises:
        SystemExit: The command line makes no sense, the server could not be started, or it ended.
    """
    program = "python -m mongodb_session_manager.embedded"
    parser = argparse.ArgumentParser(program, description=ABOUT, epilog=f"Example: {program} --port 27018")
    parser.add_argument("--port", type=int, default=PORT, help=f"where it listens on 127.0.0.1 (default {PORT})")
    parser.add_argument("--data-dir", type=Path, help="folder to keep the data in (default: none is kept)")
    given = parser.parse_args(arguments)
    try:
        with EmbeddedMongo(port=given.port, data_dir=given.data_dir, auth=False) as server:
            kept = f"its data stays in {given.data_dir}" if given.data_dir else "its data ends with it"
            sys.stdout.write(f"MongoDB listens at mongodb://localhost:{server.ports[0]}/ until Ctrl+C; {kept}\n")
            sys.stdout.flush()
            while server.pids:
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        sys.exit(130)
    except (EmbeddedMongoError, OSError, ValueError) as error:
        sys.exit(f"MongoDB cannot start: {error}")
    sys.exit("MongoDB ended")


if __name__ == "__main__":
    main()
