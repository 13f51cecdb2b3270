"""A MongoDB server of one's own: one `mongod`, or a replica set of them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import anyio
import anyio.to_thread

from . import _cleanup
from ._binary import executable, find_mongod
from ._credentials import USER, Credentials
from ._errors import EmbeddedMongoError, MongodStartError
from ._node import Node
from ._replica_set import REPLICA_SET, Probe
from ._watcher import Watcher

Topology = Literal["standalone", "replica_set", "three_nodes"]

_POLL_S = 0.02
_CLOSE_S = 20.0
_ABANDON_S = 5.0
_LAST_PORT = 65535


class EmbeddedMongo:
    """A real MongoDB server, for as long as a `with` or `async with` block.

    ```python
    with EmbeddedMongo() as server:
        client = MongoClient(server.uri)
    ```

    It listens on 127.0.0.1 only, and is writable when the block begins. It ends with the block, on exceptions, at
    interpreter exit, on SIGTERM, and soon after its owner was killed with SIGKILL. One object is one server at a time;
    it can be started again after it was stopped. `start`, `stop`, `kill`, `restart` and `primary_index` block, and can
    be called from any thread. A forked child does not own the server and never ends it.

    Args:
        topology: `"standalone"`; `"replica_set"`, one node, with change streams and retryable writes; or
            `"three_nodes"`, which survives the loss of one.
        data_dir: Folder to keep the data in; it is made when it does not exist and can be used again with the
            same topology. None: a temporary folder, removed when the server ends.
        test_commands: Allow test commands such as the `failCommand` fail point. Never with data that matters.
        mongod_args: More arguments for every `mongod`, such as `["--setParameter", "ttlMonitorSleepSecs=1"]`.
        election_timeout_ms: How long three nodes wait for a lost primary; the server's own default is 10000.
        startup_timeout_s: How long the server may take to become writable.
        auth: Let only those in who have the password that `uri` holds; it is random. Without it every user of this
            machine can read and change everything.
        binary: The server program. None: `MONGOD_BINARY`, then `PATH`, then the extra `embedded`.
        port: Where the first node listens; three nodes take the two ports after it as well. 0: the system chooses.

    Raises:
        ValueError: The topology or the port does not exist.
    """

    def __init__(
        self,
        topology: Topology = "replica_set",
        *,
        data_dir: str | os.PathLike[str] | None = None,
        test_commands: bool = False,
        mongod_args: Sequence[str] = (),
        election_timeout_ms: int = 1000,
        startup_timeout_s: float = 60.0,
        auth: bool = True,
        binary: str | os.PathLike[str] | None = None,
        port: int = 0,
    ) -> None:
        if topology not in get_args(Topology):
            raise ValueError(f"invalid topology: it must be one of {', '.join(get_args(Topology))}, got {topology!r}")
        last_port = _LAST_PORT - (_nodes_of(topology) - 1)
        if not 0 <= port <= last_port:
            raise ValueError(f"invalid port: it must be 0 to {last_port}, got {port}")
        self._topology = topology
        self._port = port
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._test_commands = test_commands
        self._mongod_args = tuple(mongod_args)
        self._election_timeout_ms = election_timeout_ms
        self._startup_timeout_s = startup_timeout_s
        self._binary = None if binary is None else Path(binary)
        self._credentials = Credentials() if auth else None
        self._key_file: Path | None = None
        self._lock = threading.Lock()
        self._nodes: list[Node] = []
        self._watcher: Watcher | None = None
        self._temporary: Path | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedMongo {self._topology} ports={list(self.ports)}>"

    @property
    def uri(self) -> str:
        """Connection string of the whole server; it holds the password."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._started().ports)
        options = [] if self._topology == "standalone" else [f"replicaSet={REPLICA_SET}"]
        user = ""
        if self._credentials is not None:
            user = f"{USER}:{self._credentials.password}@"
            options.append("authSource=admin")
        return f"mongodb://{user}{hosts}/" + ("?" + "&".join(options) if options else "")

    @property
    def ports(self) -> tuple[int, ...]:
        """Port of each node, on 127.0.0.1; empty when the server is not running."""
        return tuple(node.port for node in self._nodes)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the nodes that are running, in the order of their index."""
        return tuple(node.pid for node in self._nodes if node.running)

    def start(self) -> None:
        """Start the server and wait until it is writable.

        Raises:
            MongodNotFoundError: There is no `mongod` on this machine; the message says how to get one.
            MongodStartError: It ended, or was not writable within `startup_timeout_s`; the message ends with its log.
            EmbeddedMongoError: It is already running.
            OSError: The system refuses the folder, or to run the program.
        """
        self._start(threading.Event())

    def stop(self) -> None:
        """End the server and, when it was temporary, its data. Safe to repeat."""
        with self._lock:
            self._end()

    def kill(self, index: int = 0, signum: int = signal.SIGKILL) -> None:
        """Send a signal to one node and wait for its end, unless the signal is SIGSTOP or SIGCONT."""
        node = self._started()._nodes[index]
        node.send(signum)
        if signum in (signal.SIGSTOP, signal.SIGCONT):
            return
        if not node.wait(_CLOSE_S):
            raise EmbeddedMongoError(f"node {index} is still running {_CLOSE_S:.0f} s after signal {signum}")
        self._forget(node)

    def restart(self, index: int = 0) -> None:
        """Start one node again on its port and data, and wait until it is a member again.

        A node that is still running is ended first.
        """
        with self._lock:
            node = self._started()._nodes[index]
            self._close([node])
            halt = threading.Event()
            deadline = time.monotonic() + self._startup_timeout_s
            self._launch(node)
            self._wait_for([node], node.listening, "did not begin to listen", deadline, halt)
            with _probes([node], self._credentials) as probes:
                self._wait_for([node], lambda: probes[0].role() is not None, "did not come back", deadline, halt)

    def primary_index(self, timeout_s: float = 30.0) -> int:
        """Return the index of the primary, waiting for one while there is none.

        Raises:
            TimeoutError: There was none within `timeout_s`.
        """
        nodes = self._started()._nodes
        deadline = time.monotonic() + timeout_s
        with _probes(nodes, self._credentials) as probes:
            while True:
                for index, node in enumerate(nodes):
                    if node.running and probes[index].role() == "primary":
                        return index
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no primary within {timeout_s} s")
                time.sleep(_POLL_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        # Here and not only in the thread, because only the main thread can handle SIGTERM.
        _cleanup.register(self)
        halt = threading.Event()
        try:
            await anyio.to_thread.run_sync(self._start, halt, abandon_on_cancel=True)
        except BaseException:
            # The thread of a cancelled task goes on, or only begins now: it is told to give up, and waited for.
            halt.set()
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)
        _cleanup.unregister(self)

    def abandon(self) -> None:
        """End every process at once, without waiting for a start or stop in progress: this process is about to end."""
        for node in self._nodes:
            if self._temporary is None:
                node.ask_to_end()
            else:
                node.send(signal.SIGKILL)
        for node in self._nodes:
            if not node.wait(_ABANDON_S):
                node.send(signal.SIGKILL)
            self._forget(node)
        # The watcher notices the end of this process and finishes what is left.
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def disown(self) -> None:
        """Forget the processes without ending them: they belong to the parent of a fork."""
        if self._watcher is not None:
            self._watcher.disown()
        self._nodes, self._watcher, self._temporary = [], None, None

    def _started(self) -> Self:
        if not self._nodes:
            raise EmbeddedMongoError("the embedded server is not running: use it inside its `with` block")
        return self

    def _start(self, halt: threading.Event) -> None:
        with self._lock:
            if self._nodes:
                raise EmbeddedMongoError("the embedded server is already running")
            try:
                self._bring_up(halt)
            except BaseException:
                self._end()
                raise

    def _bring_up(self, halt: threading.Event) -> None:
        binary = find_mongod() if self._binary is None else executable(self._binary, origin="binary")
        _cleanup.register(self)
        if self._data_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="embedded-mongod-"))
        folder = self._temporary or self._data_dir
        assert folder is not None
        if self._credentials is not None:
            self._key_file = self._credentials.store(folder)
        self._watcher = Watcher(self._temporary)

        deadline = time.monotonic() + self._startup_timeout_s
        count = _nodes_of(self._topology)
        ports = [self._port and self._port + index for index in range(count)]
        self._nodes = [
            Node(binary, folder / f"node{index}", self._arguments(), port) for index, port in enumerate(ports)
        ]
        for node in self._nodes:
            self._launch(node)
        for node in self._nodes:
            self._wait_for([node], node.listening, "did not begin to listen", deadline, halt)
        with _probes(self._nodes, self._credentials) as probes:
            if self._topology != "standalone":
                probes[0].form(self.ports, self._election_timeout_ms if count > 1 else None)
            self._wait_for(self._nodes, lambda: _usable(probes), "did not become writable", deadline, halt)
            if self._credentials is not None:
                primary = next(probe for probe in probes if probe.role() == "primary")
                primary.add_user(self._credentials, count)

    def _arguments(self) -> list[str]:
        parameters = ["diagnosticDataCollectionEnabled=false"]
        if self._test_commands:
            parameters.append("enableTestCommands=1")
        if self._key_file is not None:
            # Otherwise the first to connect may make the first user. A random password needs few rounds.
            parameters += ["enableLocalhostAuthBypass=false", "scramSHA256IterationCount=5000"]
        # With half of it the server refuses a document of 16 MB: a fifth of the cache may wait to be written.
        arguments = ["--quiet", "--wiredTigerCacheSizeGB", "0.5"]
        for parameter in parameters:
            arguments += ["--setParameter", parameter]
        if self._key_file is not None:
            arguments += ["--keyFile", str(self._key_file)]
        if self._topology != "standalone":
            arguments += ["--replSet", REPLICA_SET, "--oplogSize", "128"]
        if self._topology == "three_nodes":
            # A member that ends lets its clients finish for 15 s otherwise.
            arguments += ["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=500"]
        return [*arguments, *self._mongod_args]

    def _launch(self, node: Node) -> None:
        node.launch()
        if self._watcher is not None:
            self._watcher.watch(node.pid)

    def _wait_for(
        self,
        nodes: Sequence[Node],
        ready: Callable[[], bool],
        problem: str,
        deadline: float,
        halt: threading.Event,
    ) -> None:
        """Wait until `ready`, as long as `nodes` run, the time is not over and no caller calls the start off."""
        while not ready():
            for node in nodes:
                if node.port_was_taken:
                    if not node.has_listened:
                        raise MongodStartError(f"port {node.port} is in use by another process")
                    # After a restart its connections of before are still being closed.
                    self._forget(node)
                    self._launch(node)
                elif not node.running:
                    raise node.failure("ended")
            if time.monotonic() > deadline:
                raise nodes[0].failure(f"{problem} within {self._startup_timeout_s:g} s")
            if halt.wait(_POLL_S):
                raise EmbeddedMongoError("the start of the embedded server was called off")

    def _close(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.ask_to_end()
        for node in nodes:
            if not node.wait(_CLOSE_S):
                node.send(signal.SIGKILL)
                node.wait(_CLOSE_S)
            self._forget(node)

    def _end(self) -> None:
        if self._temporary is not None:
            # These files are never read again, so nothing is gained by closing them well.
            for node in self._nodes:
                node.send(signal.SIGKILL)
        self._close(self._nodes)
        self._nodes = []
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        if self._watcher is not None:
            self._watcher.leave()
            self._watcher = None
        _cleanup.unregister(self)

    def _forget(self, node: Node) -> None:
        if self._watcher is not None and node.was_launched and not node.running:
            self._watcher.ended(node.pid)


def _nodes_of(topology: Topology) -> int:
    return 3 if topology == "three_nodes" else 1


@contextmanager
def _probes(nodes: Sequence[Node], credentials: Credentials | None) -> Iterator[list[Probe]]:
    probes = [Probe(node.port, credentials) for node in nodes]
    try:
        yield probes
    finally:
        for probe in probes:
            probe.close()


def _usable(probes: Sequence[Probe]) -> bool:
    """Return whether there is a primary and every other node could become one."""
    roles = [probe.role() for probe in probes]
    return "primary" in roles and None not in roles
