"""One `mongod` process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ._errors import MongodStartError

# mongod's exit code when its port is taken.
_ADDRESS_IN_USE = 48
_LOG_TAIL = 15


class Node:
    """A `mongod` with its folder: data, and a log that starts anew with each run.

    Args:
        binary: The server program.
        folder: Where it keeps everything; made when it does not exist.
        arguments: What to start it with, but for its port, data and address.
        port: Where it listens; 0 for a port that the system chooses.
    """

    def __init__(self, binary: Path, folder: Path, arguments: Sequence[str], port: int = 0) -> None:
        self._binary = binary
        self._data = folder / "data"
        self._log = folder / "mongod.log"
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.has_listened = False

    @property
    def pid(self) -> int:
        """Process id of the run, also when it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def was_launched(self) -> bool:
        """Whether there was a run; without one there is no process id."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether the process is there; a stopped one (SIGSTOP) is."""
        return self._process is not None and self._process.poll() is None

    @property
    def port_was_taken(self) -> bool:
        """Whether the last run ended because another process had the port."""
        return self._process is not None and self._process.poll() == _ADDRESS_IN_USE

    def launch(self) -> None:
        """Start the process, on its port; the port that the system chose for the first run stays."""
        self._data.mkdir(parents=True, exist_ok=True)
        command = [
            str(self._binary),
            *("--dbpath", str(self._data)),
            *("--port", str(self.port)),
            *("--bind_ip", "127.0.0.1"),
            "--nounixsocket",
            *self._arguments,
        ]
        # Its output is its log, so that what the loader or the argument parser says is in it too.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def listening(self) -> bool:
        """Return whether the process accepts connections; from then on `port` is known.

        Its own log is asked and not the port, which could be another process's.
        """
        for line in self._log.read_bytes().splitlines():
            if b"Waiting for connections" in line and (entry := _parsed(line)):
                attributes = entry.get("attr")
                if isinstance(attributes, dict) and isinstance(port := attributes.get("port"), int):
                    self.port = port
                    self.has_listened = True
                    return True
        return False

    def send(self, signum: int) -> None:
        """Send a signal; an ended process gets none."""
        if self._process is not None:
            self._process.send_signal(signum)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the process; False when it is still there after `timeout_s`."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ask_to_end(self) -> None:
        """Tell the process to close its files and end, also when it is stopped."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)

    def failure(self, reason: str) -> MongodStartError:
        """Return an error that ends with what the log says about it."""
        code = None if self._process is None else self._process.poll()
        state = "" if code is None else f" (exit code {code})"
        return MongodStartError(f"{self._binary} {reason}{state}. Its log says:\n{self._complaints()}")

    def _complaints(self) -> str:
        """Return the last errors of the log, or its last lines when there is none: an orderly end writes many more."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        entries = [(line, _parsed(line)) for line in lines]
        errors = [line for line, entry in entries if entry is None or entry.get("s") in ("E", "F")]
        return "\n".join(f"  {_readable(line)}" for line in (errors or lines)[-_LOG_TAIL:]) or "  (nothing)"


def _parsed(line: bytes | str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _readable(line: str) -> str:
    entry = _parsed(line)
    if entry is None:
        return line
    return f"{entry.get('s')} {entry.get('c')}: {entry.get('msg')} {json.dumps(entry.get('attr', {}))}"
