"""A process that measures one system: requests come as lines of JSON, and so do the answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from .servers import Places

_END_S = 30.0


class Worker:
    """One system in a process of its own, idle unless it is asked."""

    def __init__(self, system: str, places: Places) -> None:
        """Start the process."""
        self._system = system
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peers.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._send({"system": system, "places": asdict(places)})
        self._receive()

    def run(self, workload: str, **arguments: Any) -> dict[str, Any]:
        """Let it run a workload, and return what was measured."""
        self._send({"workload": workload, "arguments": arguments})
        return self._receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        try:
            self._process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self._system!r} ended; what it printed says why")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    # Here, so that the process that starts the workers imports none of the systems.
    from .systems import MAKERS
    from .workloads import WORKLOADS

    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    first = json.loads(sys.stdin.readline())
    peer = MAKERS[first["system"]](Places(**first["places"]))
    with asyncio.Runner() as runner:
        runner.run(peer.start())
        answer({})
        for line in sys.stdin:
            request = json.loads(line)
            answer(runner.run(WORKLOADS[request["workload"]](peer, **request["arguments"])))
        runner.run(peer.stop())


if __name__ == "__main__":
    main()
