"""The command line: `python -m mongodb_session_manager`, and `mongodb-session-manager` where pip installed it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of the process.

    Raises:
        SystemExit: Always; see the table of exit codes in the documentation.
    """
    try:
        from .cli.app import run
    except ImportError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
