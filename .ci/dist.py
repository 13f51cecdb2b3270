"""Build the wheel and the sdist into `dist/`, and try both out as users get them: `make dist`.

Each is installed into a clean virtual environment, away from this folder; there the demo has to pass, and the web
applications have to start and serve their pages. Before that, the archives are compared with the source, file by file.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urljoin

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PACKAGE = "mongodb_session_manager"
EXTRAS = "embedded,playground,viewer"
IN_SDIST = ("benchmarks", "docs", "examples", "src", "tests")
APPS = {"viewer": "VIEWER_PORT", "playground": "PLAYGROUND_PORT"}
START_S, REQUEST_S = 120.0, 10.0


def main() -> None:
    version = declared_version()
    say(f"building {version}")
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    wheel = DIST / f"{PACKAGE}-{version}-py3-none-any.whl"
    sdist = DIST / f"{PACKAGE}-{version}.tar.gz"
    if sorted(DIST.iterdir()) != sorted([wheel, sdist]):
        fail(f"expected {wheel.name} and {sdist.name}, built {[path.name for path in DIST.iterdir()]}")

    compare(wheel, sdist)
    for archive in (wheel, sdist):
        with tempfile.TemporaryDirectory(prefix="try-dist-") as folder:
            try_out(archive, sdist, version, Path(folder))
    say(f"done: {wheel.relative_to(ROOT)} and {sdist.relative_to(ROOT)}")


def compare(wheel: Path, sdist: Path) -> None:
    """Fail unless both archives hold every file of the package, front ends and their licences included."""
    package = files("src")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive_of_source:
        in_sdist = {member.name.partition("/")[2] for member in archive_of_source if member.isfile()}
    expect("wheel", {name.removeprefix("src/") for name in package}, in_wheel)
    expect("sdist", {name for folder in IN_SDIST for name in files(folder)}, in_sdist)
    expect("sdist", {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"}, in_sdist)
    foreign = [name for name in in_wheel if name.split("/")[0] != PACKAGE and ".dist-info/" not in name]
    if foreign:
        fail(f"the wheel holds what is not the package's: {foreign}")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in in_wheel):
        fail("the wheel has no licence")
    pages = sum(Path(name).suffix in (".html", ".css", ".js", ".mjs") for name in in_wheel)
    say(f"the wheel has all {len(package)} files of the package, {pages} of them of front ends")


def try_out(archive: Path, sdist: Path, version: str, folder: Path) -> None:
    """Install an archive into an environment of its own, and use it there."""
    say(f"trying {archive.name}")
    venv, outside = folder / "venv", folder / "outside"
    outside.mkdir()
    # The project's pip fills it: Debian's Python cannot give an environment a pip of its own.
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", f"{archive}[{EXTRAS}]")
    run(*pip, "check")

    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "MONGOD_BINARY") if name in os.environ}
    said = run(python, "-c", f"import {PACKAGE} as p; print(p.__version__, p.__file__)", cwd=outside, env=environment)
    if said.split()[0] != version or not Path(said.split()[1]).is_relative_to(venv):
        fail(f"imported {said.strip()} instead of {version} in {venv}")
    with tarfile.open(sdist) as source:
        source.extractall(outside, filter="data")
    demo = next(outside.glob("*/examples/demo.py"))
    say(run(python, demo, cwd=outside, env=environment).strip().splitlines()[-1])
    for app, port in APPS.items():
        with serving(python, app, port, outside, environment) as address:
            say(f"{app}: {visit(address)} files served")


@contextmanager
def serving(python: Path, app: str, port_name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start a web application, and yield its address when it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    log = folder / f"{app}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", f"{PACKAGE}.{app}"],
            cwd=folder,
            env={**environment, port_name: port},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        try:
            while not healthy(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    fail(f"{app} did not start:\n{log.read_text()}")
                time.sleep(0.2)
            yield address
            process.send_signal(signal.SIGTERM)
            process.wait(REQUEST_S)
        finally:
            process.kill()
            process.wait()


def healthy(address: str) -> bool:
    try:
        get(f"{address}/health")
    except (urllib.error.URLError, OSError):
        return False
    return True


def visit(address: str) -> int:
    """Fetch the page, and whatever of this server it and its scripts and styles name; return how many were fetched."""
    waiting, seen = [f"{address}/"], {f"{address}/"}
    while waiting:
        url = waiting.pop()
        text = get(url)
        named = re.findall(r"""(?:src|href)="([^"]+)"|from\s+["'](\.[^"']+)["']|import\s+["'](\.[^"']+)["']""", text)
        for link in (next(filter(None, found)) for found in named):
            target = urljoin(url, link).partition("#")[0]
            if target.startswith(address) and Path(target).suffix in (".css", ".js", ".mjs") and target not in seen:
                seen.add(target)
                waiting.append(target)
    if len(seen) < 2:
        fail(f"{address}/ names no script and no style")
    return len(seen)


def get(url: str) -> str:
    # Not through a proxy of the environment.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=REQUEST_S) as response:
        return str(response.read().decode())


def files(folder: str) -> set[str]:
    """Return the files below a folder, as paths from the root of the project, without the caches of tools."""
    found = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {path.as_posix() for path in found if not any(part.startswith((".", "__py")) for part in path.parts)}


def expect(what: str, needed: Iterable[str], there: set[str]) -> None:
    if missing := sorted(set(needed) - there):
        fail(f"the {what} lacks {len(missing)} files: {', '.join(missing[:20])}")


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed; if it fails, so does this one, with all that it said."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def say(text: str) -> None:
    print(f"dist: {text}", flush=True)


def fail(reason: str) -> NoReturn:
    raise SystemExit(f"dist: FAILED: {reason}")


def declared_version() -> str:
    """Return the version from the one place that has it."""
    return str(runpy.run_path(str(ROOT / "src" / PACKAGE / "_version.py"))["__version__"])


if __name__ == "__main__":
    main()
