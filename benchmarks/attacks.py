"""Attacks on the two apps as they are started by default, and what came of each: the table of `docs/why/security.md`.

    python benchmarks/attacks.py

Each app runs in a process of its own on an embedded server, at the log level DEBUG.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from mongodb_session_manager.embedded import EmbeddedMongo
from mongodb_session_manager.playground.calculator import calculate

SECRET = "s3cr3t-zebra"
PASSWORD = f"{SECRET}-of-the-viewer"
OWN = f"{SECRET}-of-the-session"
MB = 1024 * 1024
Rows = Iterator[tuple[str, str, str]]


@contextmanager
def started(name: str, uri: str, log: Path) -> Iterator[tuple[str, psutil.Process]]:
    environment = {
        **os.environ,
        "MONGODB_CONNECTION_STRING": uri,
        "VIEWER_PASSWORD": PASSWORD,
        "VIEWER_PORT": "0",
        "PLAYGROUND_PORT": "0",
        "PLAYGROUND_OFFLINE_DELAY_S": "0",
        "LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-m", f"mongodb_session_manager.{name}"]
    with log.open("wb") as written, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=written, text=True, cwd=folder
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().rpartition(" ")[2].strip(), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()


def calculator() -> Rows:
    hostile = [f"round({sign}1, -{10**power})" for power in range(5, 12) for sign in ("", "-")]
    hostile += [f"{base} ** {10**power}" for base in (2, 9, -3) for power in range(4, 9)]
    slowest = 0.0
    for expression in hostile:
        begun = time.perf_counter()
        with contextlib.suppress(ValueError):
            calculate(expression)
        slowest = max(slowest, time.perf_counter() - begun)
    yield "arithmetic without end", f"{len(hostile)} expressions", f"the slowest took {slowest * 1000:.1f} ms"


def bodies(address: str, path: str, process: psutil.Process) -> Rows:
    host, port = address.split("//")[1].strip("/").split(":")
    before, most, statuses = process.memory_info().rss, 0, Counter[str]()
    for number in range(20):
        chunked = number % 2 == 0
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {300 * MB}"
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(30)
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
            said = b""
            with contextlib.suppress(OSError):  # cut off, after the answer
                connection.sendall(head.encode())
                part = (b"10000\r\n" + b" " * 65536 + b"\r\n") if chunked else b" " * 65536
                for _ in range(300 * MB // 65536):
                    connection.sendall(part)
            with contextlib.suppress(OSError):
                said = connection.recv(4096)
        statuses[said.split(b" ")[1].decode() if said else "reset"] += 1
        most = max(most, process.memory_info().rss - before)
    counted = ", ".join(f"{count} x {status}" for status, count in statuses.items())
    yield f"bodies of 300 MB to `{path}`", "20, half in chunks", f"{counted}; {most / MB:.0f} MB more memory"


def large_error(address: str) -> Rows:
    body = json.dumps({"session_id": "s", "message": "x", **{f"key{number}": 0 for number in range(350_000)}})
    begun = time.perf_counter()
    answer = httpx.post(f"{address}api/chat", content=body, headers={"Content-Type": "application/json"}, timeout=60)
    took = time.perf_counter() - begun
    size = f"{len(body) / MB:.1f} MB of unknown keys"
    yield size, "1", f"{answer.status_code} in {took:.2f} s, {len(answer.content)} bytes"


def logins(address: str) -> Rows:
    admin = httpx.Client(base_url=address, timeout=60)
    admin.post("/api/v1/login", json={"password": PASSWORD}).raise_for_status()
    with httpx.Client(base_url=address, timeout=60) as client:
        for _ in range(10_100):
            client.cookies.clear()
            client.post("/api/v1/login", json={"password": OWN, "session_id": "s-1"}).raise_for_status()
    kept = admin.get("/api/v1/sessions/search").status_code
    admin.close()
    yield "logins with one session's password", "10,100", f"the administrator stayed logged in ({kept})"


def guesses(address: str) -> Rows:
    with httpx.Client(base_url=address, timeout=60) as client:
        statuses = Counter(
            client.post(
                "/api/v1/login",
                json={"password": f"{SECRET}-guess-{number}"},
                headers={"X-Forwarded-For": f"203.0.{number // 250}.{number % 250}"},
            ).status_code
            for number in range(500)
        )
    counted = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    yield "wrong passwords, each with another `X-Forwarded-For`", "500", counted


def half_open(address: str) -> Rows:
    host, port = address.split("//")[1].strip("/").split(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(200)]
    begun = time.perf_counter()
    for connection in opened:
        connection.settimeout(90)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    answered = httpx.get(f"{address}health", timeout=30).status_code
    for connection in opened:
        with contextlib.suppress(ConnectionError):
            connection.recv(1)
        connection.close()
    took = time.perf_counter() - begun
    came = f"all ended after {took:.0f} s; others were served ({answered})"
    yield "half a request, and silence", "200 connections", came


def streams(address: str) -> Rows:
    host, port = address.split("//")[1].strip("/").split(":")
    ask = f"GET /api/v1/sessions/s-1/events HTTP/1.1\r\nHost: {host}\r\nX-Session-Password: {OWN}\r\n\r\n"
    opened = []
    for _ in range(1_100):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(ask.encode())
        opened.append(connection)
    slowest, statuses = 0.0, Counter[int]()
    for _ in range(50):
        begun = time.perf_counter()
        statuses[httpx.get(f"{address}health", timeout=60).status_code] += 1
        slowest = max(slowest, time.perf_counter() - begun)
    for connection in opened:
        connection.close()
    counted = ", ".join(f"{count} x {status}" for status, count in statuses.items())
    yield "event streams with one session's password, kept open", "1,100", f"others: {counted}, at most {slowest:.2f} s"


def archive(address: str) -> Rows:
    members = 90_000
    header = struct.pack("<4s4B4H3L5H2L", b"PK\x01\x02", 20, 0, 20, 0, *[0] * 7, 1, *[0] * 6) + b"a"
    start = b"PK\x03\x04" + b"\0" * 26
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65_535, 65_535, members * len(header), len(start), 0)
    data = base64.b64encode(start + header * members + end).decode()
    body = {"session_id": "s", "message": "x", "attachments": [{"name": "a.docx", "data": data}]}
    begun = time.perf_counter()
    answer = httpx.post(f"{address}api/chat", json=body, timeout=60)
    took = time.perf_counter() - begun
    yield f"an attached archive of {members:,} members", "1", f"{answer.status_code} in {took:.2f} s"


def strangers(server: EmbeddedMongo) -> Rows:
    refused = 0
    commands: list[dict[str, Any]] = [
        {"listDatabases": 1},
        {"find": "sessions"},
        {"createUser": "me", "pwd": "x", "roles": ["root"]},
        {"shutdown": 1},
    ]
    with MongoClient[dict[str, Any]]("127.0.0.1", server.ports[0], directConnection=True) as client:
        for command in commands:
            try:
                client.admin.command(command)
            except OperationFailure:
                refused += 1
    yield "another user of the machine at the embedded server", f"{len(commands)} commands", f"{refused} refused"


def logged(logs: list[Path], said: list[str]) -> Rows:
    lines = [line for log in logs for line in log.read_text().splitlines()]
    found = sum(text in line for line in lines for text in said)
    yield "passwords and messages in the logs, at DEBUG", f"{len(lines)} lines", f"{found} found"


def main() -> None:
    rows: list[tuple[str, str, str]] = [*calculator()]
    with EmbeddedMongo("replica_set") as server, tempfile.TemporaryDirectory() as folder:
        rows += strangers(server)
        with MongoClient[dict[str, Any]](server.uri) as client:
            client.examples.sessions.insert_one({"_id": "s-1", "session_viewer_password": OWN})
        logs = [Path(folder) / "viewer.log", Path(folder) / "playground.log"]
        with started("viewer", server.uri, logs[0]) as (address, process):
            rows += bodies(address, "/api/v1/login", process)
            rows += half_open(address)
            rows += logins(address)
            rows += streams(address)
            rows += guesses(address)
        with started("playground", server.uri, logs[1]) as (address, process):
            httpx.post(f"{address}api/chat", json={"session_id": "p-1", "message": f"Remember {SECRET}"}, timeout=60)
            rows += bodies(address, "/api/chat", process)
            rows += large_error(address)
            rows += archive(address)
        rows += logged(logs, [SECRET, server.uri.partition("@")[0]])
    print("| attack | how often | what came of it |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
