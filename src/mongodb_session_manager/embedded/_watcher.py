"""What ends the servers of a process that can no longer do it itself.

A process that is killed cannot clean up. So each server has a small shell beside it that reads a pipe: the pipe
closes when its owner ends, however it ends, and the shell then ends what is still running. Compared with
`PR_SET_PDEATHSIG`, this does not tie a server to the thread that started it, needs no code between fork and exec, and
works on macOS.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

# Servers with data to keep get ten seconds to close their files; a folder that is thrown away needs no such care.
_SCRIPT = """
pids=
while read -r verb pid; do
    case $verb in
    watch) pids="$pids $pid" ;;
    ended)
        left=
        for p in $pids; do [ "$p" = "$pid" ] || left="$left $p"; done
        pids=$left ;;
    leave) exit 0 ;;
    esac
done
if [ -z "$1" ]; then
    for p in $pids; do kill -CONT "$p"; kill -TERM "$p"; done
    for round in 1 2 3 4 5 6 7 8 9 10; do
        alive=
        for p in $pids; do kill -0 "$p" && alive=yes; done
        [ -n "$alive" ] || exit 0
        sleep 1
    done
fi
for p in $pids; do kill -KILL "$p"; done
if [ -n "$1" ]; then
    rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
fi
"""


class Watcher:
    """A shell that kills the processes it was told about when the process that started it is gone.

    Args:
        temporary: A folder to remove then, or None when the data is to be kept.
    """

    def __init__(self, temporary: Path | None) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "mongod-watcher", str(temporary or "")],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # In a session of its own: Ctrl-C in a terminal goes to the whole group of its owner.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the shell."""
        return self._shell.pid

    def watch(self, pid: int) -> None:
        """End this process when its owner is gone."""
        self._tell(f"watch {pid}")

    def ended(self, pid: int) -> None:
        """Forget a process that has ended: its id may soon be another's."""
        self._tell(f"ended {pid}")

    def leave(self) -> None:
        """Dismiss the shell without ending anything."""
        self._tell("leave 0")
        self.disown()
        self._shell.wait()

    def disown(self) -> None:
        """Close this process's end of the pipe, which forked processes hold too."""
        if self._shell.stdin is not None:
            with suppress(BrokenPipeError):
                self._shell.stdin.close()

    def _tell(self, line: str) -> None:
        if self._shell.stdin is None or self._shell.stdin.closed:
            return
        # A shell that somebody killed is no reason to fail: the owner still ends its servers itself.
        with suppress(BrokenPipeError):
            self._shell.stdin.write(f"{line}\n".encode())
