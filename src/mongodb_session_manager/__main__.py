"""The command line: `python -m mongodb_session_manager`, and `mongodb-session-manager` where pip installed it."""

from __future__ import annotations

import signal
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
    try:
        run()
    finally:
        # All that is left is Python's own end, which would show where Ctrl+C has met it.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
